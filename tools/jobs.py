"""What is to be run: chapters, parameters, and which results of an earlier run still hold."""

import ast
import dataclasses
import hashlib
import itertools
import json
import pathlib
import re

import nbformat

from tools import notebook, report

PROFILES = ("smoke", "laptop", "gpu")
LESSON = re.compile(r"definitions\(\s*[\"'](\w+)[\"']")


class Mistake(ValueError):
    """The run cannot start as it was asked for; the message says what to write instead."""


@dataclasses.dataclass
class Job:
    """One execution of one chapter.

    Attributes:
        chapter: the notebook's name without the ending.
        source: the notebook as it is in the repository, without outputs.
        parameters: what is injected: profile, seed and whatever is swept.
        swept: the part of the parameters that comes from a sweep.
        key: sha256 of everything on which the result depends.
        expected: how many seconds the job took the last time, or None.
    """

    chapter: str
    source: nbformat.NotebookNode
    parameters: dict
    swept: dict
    key: str
    expected: float | None = None

    @property
    def name(self) -> str:
        """The chapter and its swept parameters, fit for a file name on every system."""
        text = "".join(f"-{name}={value}" for name, value in self.swept.items())
        safe = re.sub(r"[^\w.=+-]", "_", text)
        if safe != text:  # two values must not end up in one file
            safe += "-" + hashlib.sha256(text.encode("utf-8")).hexdigest()[:6]
        return self.chapter + safe


def helpers_sha256(root: str) -> str:
    """Return the sha256 of all Python files in ``root/helpers`` (names and contents)."""
    digest = hashlib.sha256()
    folder = pathlib.Path(root) / "helpers"
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")  # so that CRLF and LF are the same source
        digest.update(f"{path.relative_to(folder).as_posix()}\0{text}\0".encode())
    return digest.hexdigest()


def parse_sweeps(texts: list[str]) -> dict[str, list]:
    """Turn ``["seed=0,1,2", "rate=1e-3,1e-4"]`` into ``{"seed": [0, 1, 2], ...}``.

    A value is a Python literal (a number, True, None, a quoted text) or else a text.
    """
    sweeps = {}
    for text in texts:
        name, equals, values = text.partition("=")
        values = [value.strip() for value in values.split(",")]
        if not name.isidentifier() or not equals or not all(values) or name in sweeps:
            raise Mistake(
                f"--sweep {text} cannot be read: write a parameter's name once, then its values, "
                "as in: --sweep seed=0,1,2."
            )
        sweeps[name] = [literal(value) for value in values]
        if len(set(map(repr, sweeps[name]))) < len(values):
            raise Mistake(f"--sweep {text} names a value twice: leave the repetition out.")
    return sweeps


def literal(text: str):
    """Return what a text says as a Python literal, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def find_chapters(folder: pathlib.Path, wanted: list[str]) -> list[pathlib.Path]:
    """Return the notebooks of a folder, or those that are wanted by name or by number."""
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise Mistake(f"There are no notebooks in {folder}: name another folder with --folder.")
    chosen = []
    for word in wanted:
        word = word.removesuffix(".ipynb")
        match = [p for p in paths if p.stem == word or p.stem.split("_")[0] == word.zfill(2)]
        if not match:
            raise Mistake(
                f"There is no chapter {word} in {folder}: choose from "
                f"{', '.join(p.stem for p in paths)}."
            )
        chosen += match
    return [path for path in paths if path in chosen] if wanted else paths


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    """Read a notebook of the repository."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises a dozen types for a broken file
        text = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise Mistake(f"{path} is not a notebook ({text}): restore the file.") from None


def _lessons(source, folder: pathlib.Path, root: pathlib.Path, seen: dict) -> dict[str, str]:
    """Return {name: sha256} of the chapters whose definitions this one uses, also indirectly."""
    for cell in notebook.code_cells(source):
        for name in LESSON.findall(cell.source):
            for path in (root / "notebooks" / f"{name}.ipynb", folder / f"{name}.ipynb"):
                if name not in seen and path.is_file():
                    lesson = read(path)
                    seen[name] = notebook.source_sha256(lesson)
                    _lessons(lesson, folder, root, seen)
    return seen


def make_jobs(paths, root: pathlib.Path, profile: str, seed: int, sweeps: dict) -> list[Job]:
    """Return the jobs for these notebooks: one each, or one for each combination of a sweep.

    Raises:
        Mistake: a notebook has no parameters cell, or lacks a parameter that is to be set, or
            holds a value of another type there.
    """
    common = {"helpers": helpers_sha256(str(root))}
    for file in (root / "requirements.txt", root / "data" / "manifest.json"):
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        common[file.name] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    jobs = []
    for path in paths:
        source = read(path)
        try:
            defaults = notebook.parameters(source)
        except (ValueError, SyntaxError) as error:
            raise Mistake(f"{path.name}: {error}") from None
        committed = source.metadata.get("course", {})
        content = {**common, "source": notebook.source_sha256(source)}
        content["lessons"] = _lessons(source, path.parent, root, {})
        for values in itertools.product(*sweeps.values()):
            swept = dict(zip(sweeps, values, strict=True))
            parameters = {"profile": profile, "seed": seed, **swept}
            _check(path, parameters, defaults)
            text = json.dumps({**content, "parameters": parameters}, sort_keys=True)
            job = Job(
                path.stem, source, parameters, swept, hashlib.sha256(text.encode()).hexdigest()
            )
            if committed.get("profile") == parameters["profile"]:
                job.expected = committed.get("seconds")
            jobs.append(job)
    for job in jobs:
        for cell in notebook.code_cells(job.source):
            cell.outputs, cell.execution_count = [], None
    return jobs


def _check(path: pathlib.Path, parameters: dict, defaults: dict) -> None:
    for name, value in parameters.items():
        if name not in defaults:
            raise Mistake(
                f"{path.name} has no parameter {name}: its parameters cell has "
                f"{', '.join(defaults)}."
            )
        number = isinstance(value, (int, float)) and isinstance(defaults[name], (int, float))
        if defaults[name] is not None and type(value) is not type(defaults[name]) and not number:
            raise Mistake(
                f"{path.name} has {name} = {defaults[name]!r}, and {value!r} is of another type: "
                f"give a value of type {type(defaults[name]).__name__}."
            )
    seed = parameters["seed"]
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise Mistake(f"The seed is {seed!r}: give an integer from 0 to 4294967295.")
    if parameters["profile"] not in PROFILES:
        raise Mistake(
            f"There is no profile {parameters['profile']}: use {', '.join(PROFILES[:-1])} "
            f"or {PROFILES[-1]}."
        )


def earlier(job: Job, out: pathlib.Path) -> tuple[dict | None, str]:
    """Return the record of this job in an earlier run where it still holds, and why it does not.

    The executed notebook itself is the proof: it is written at once and whole, after its last
    cell, and carries the key of what it was made from.
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
    if record.get("key") != job.key:
        return None, "its source, parameters or helpers have changed"
    return record, ""
