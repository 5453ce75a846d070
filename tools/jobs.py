"""What is to be run: chapters, parameters, and which results of an earlier run still hold."""

import ast
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re

import nbformat

from tools import notebook, report, source
from tools.computes import PROFILES
from tools.walk import Walk

CHAPTER = re.compile(r"\d\d_\w+\.ipynb")
# Options of chapters that hold paths: from the command line they start in the shell's folder.
PATHS = ("checkpoints", "folder", "folders", "keep", "photograph", "picture", "source")


class UsageError(ValueError):
    """The run cannot start as it was asked for; the message says what to write instead."""


@dataclasses.dataclass
class Job:
    """One execution of one chapter.

    Attributes:
        path: the notebook in the repository.
        source: what it holds, without outputs.
        parameters: what is injected: profile, seed and whatever is swept.
        swept: the part of the parameters that comes from a sweep, as it was written.
        walk: what belongs to the notebook.
        keys: sha256 of everything on which the outputs depend ("code"), and of the part on which
            the numbers depend ("computes").
        expected: how many seconds the job took the last time, or None.
    """

    path: pathlib.Path
    source: nbformat.NotebookNode
    parameters: dict
    swept: dict
    walk: Walk
    keys: dict[str, str]
    expected: float | None = None

    @property
    def chapter(self) -> str:
        """The notebook's name without the ending."""
        return self.path.stem

    @property
    def source_sha256(self) -> str:
        """The sha256 of the notebook's own cells."""
        return source.cells_sha256(nbformat.writes(self.source))

    @property
    def name(self) -> str:
        """The chapter and its swept parameters, fit for a file name on every system."""
        text = "".join(f"-{name}={value}" for name, value in self.swept.items())
        safe = re.sub(r"[^\w.=+-]", "_", text)[:80]
        if safe != text:  # two values must not end up in one file
            safe += "-" + hashlib.sha256(text.encode("utf-8")).hexdigest()[:6]
        return self.chapter + safe


def parse_sweeps(texts: list[str]) -> dict[str, list]:
    """Turn ``["seed=0,1,2", 'folders=["a", "b"]']`` into ``{"seed": [0, 1, 2], ...}``.

    A value is a Python literal (a number, True, None, a quoted text, a list) or else a text. Commas
    inside quotes or brackets do not part two values. One text may hold several sweeps, as make
    gives them: ``"seed=0,1 rate=2"``.
    """
    sweeps = {}
    for text in itertools.chain(*(re.split(r"\s+(?=[A-Za-z_]\w*=)", text) for text in texts)):
        name, equals, values = text.partition("=")
        values = _split(values)
        if not name.isidentifier() or not equals or not all(values) or name in sweeps:
            raise UsageError(
                f"--sweep {text} cannot be read: write a parameter's name once, then its values, "
                "as in: --sweep seed=0,1,2."
            )
        sweeps[name] = [literal(value) for value in values]
        if len(set(map(repr, sweeps[name]))) < len(values):
            raise UsageError(f"--sweep {text} names a value twice: leave the repetition out.")
    return sweeps


def _split(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def literal(text: str):
    """Return what a text says as a Python literal, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.startswith("[") and text.endswith("]"):  # a shell has eaten the quotes
            return [literal(part) for part in _split(text[1:-1])]
        return text


def _from_here(value):
    """Make paths that exist in the shell's folder absolute: a kernel runs in the notebook's.

    A path that does not exist there stays as it is; in a notebook it means the kernel's folder.
    """
    if isinstance(value, list):
        return [_from_here(part) for part in value]
    return os.path.abspath(value) if isinstance(value, str) and os.path.exists(value) else value


def find_chapters(folder: pathlib.Path, wanted: list[str]) -> tuple[list, list[str]]:
    """Return the chapters of a folder, or those wanted by name or number, and what is left out.

    A chapter is a file ``NN_name.ipynb`` with a cell of parameters; JupyterLab leaves others beside
    it (Untitled, copies), and systems hidden ones.
    """
    found = sorted(p for p in folder.glob("*.ipynb") if not p.name.startswith("."))
    paths = [p for p in found if CHAPTER.fullmatch(p.name) and notebook.tagged(read(p))]
    if not paths:
        raise UsageError(f"There are no notebooks in {folder}: name another folder with --folder.")
    chosen = []
    for word in wanted:
        word = word.removesuffix(".ipynb")
        match = [p for p in paths if p.stem == word or p.stem.split("_")[0] == word.zfill(2)]
        if not match:
            raise UsageError(
                f"There is no chapter {word} in {folder}: choose from "
                f"{', '.join(p.stem for p in paths)}."
            )
        chosen += match
    left_out = [path.name for path in found if path not in paths]
    return [path for path in paths if path in chosen or not wanted], left_out


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    """Read a notebook of the repository."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises a dozen types for a broken file
        text = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UsageError(f"{path} is not a notebook ({text}): restore the file.") from None


def make_jobs(paths, root: pathlib.Path, profile: str, seed: int, sweeps: dict) -> list[Job]:
    """Return the jobs for these notebooks: one each, or one for each combination of a sweep.

    Raises:
        UsageError: a notebook lacks a parameter that is to be set, or holds a value of another
            type there.
    """
    manifest = root / "data" / "manifest.json"
    data = source.sha256(manifest.read_text(encoding="utf-8")) if manifest.is_file() else ""
    jobs = []
    for path in paths:
        bare, walk = read(path), Walk(path, root)
        committed = bare.metadata.get("course", {})
        try:
            defaults = notebook.parameters(bare)
        except (ValueError, SyntaxError) as error:
            raise UsageError(f"{path.name}: {error}") from None
        for cell in notebook.code_cells(bare):
            cell.outputs, cell.execution_count = [], None
        for values in itertools.product(*sweeps.values()):
            swept = dict(zip(sweeps, values, strict=True))
            options = {k: _from_here(v) if k in PATHS else v for k, v in swept.items()}
            parameters = {"profile": profile, "seed": seed, **options}
            _check(path, parameters, defaults)
            rest = json.dumps([walk.packages, data, parameters], sort_keys=True)
            hashes = {"code": walk.code, "computes": walk.computes(parameters["profile"])}
            keys = {kind: source.sha256(text + rest) for kind, text in hashes.items()}
            job = Job(path, bare, parameters, swept, walk, keys)
            if committed.get("profile") == parameters["profile"]:
                job.expected = committed.get("seconds")
            jobs.append(job)
    return jobs


def _check(path: pathlib.Path, parameters: dict, defaults: dict) -> None:
    if parameters["profile"] not in PROFILES:
        raise UsageError(
            f"There is no profile {parameters['profile']}: use {', '.join(PROFILES[:-1])} "
            f"or {PROFILES[-1]}."
        )
    for name, value in parameters.items():
        if name not in defaults:
            raise UsageError(
                f"{path.name} has no parameter {name}: its parameters cell has "
                f"{', '.join(defaults)}."
            )
        number = isinstance(value, (int, float)) and isinstance(defaults[name], (int, float))
        if defaults[name] is not None and type(value) is not type(defaults[name]) and not number:
            raise UsageError(
                f"{path.name} has {name} = {defaults[name]!r}, and {value!r} is of another type: "
                f"give a value of type {type(defaults[name]).__name__}."
            )
    seed = parameters["seed"]
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UsageError(f"The seed is {seed!r}: give an integer from 0 to 4294967295.")


def earlier(job: Job, out: pathlib.Path, kind: str = "code") -> tuple[dict | None, str]:
    """Return the record of this job in an earlier run where it still holds, and why it does not.

    The executed notebook itself is the proof: it is written at once and whole, after its last
    cell, and carries the keys of what it was made from.

    Args:
        job: the job.
        out: the folder of the earlier run.
        kind: what must be the same: "code" or "computes".
    """
    path = out / f"{job.name}.ipynb"
    if not path.exists():
        return None, ""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))["metadata"]["course"]
    except (ValueError, KeyError, TypeError, OSError):
        record = None
    if not report.whole(record):
        return None, f"{path.name} is damaged"
    if record["status"] != "ok":
        return None, "it failed the last time"
    if record["keys"].get(kind) != job.keys[kind]:
        return None, "its code, parameters, helpers or packages have changed"
    return record, ""
