"""A course of tiny notebooks in a folder of its own, for tests of the tools."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import psutil
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PARAMETERS = 'profile = "laptop"  # "smoke", "laptop" or "gpu"\nseed = 0'
BEGIN = """
import pathlib
import signal
import sys

sys.path[:0] = ["../..", ".."]
from helpers import experiment

root = pathlib.Path(experiment.__file__).parent.parent
with (root / "log.txt").open("a") as log:
    log.write("{name} begins\\n")
"""
END = """
experiment.record("value", seed**2 + 0.5, 1, unit="nats", label="the value, in nats")
experiment.table()
with (root / "log.txt").open("a") as log:
    log.write("{name} ends\\n")
"""
EXPERIMENT = '''"""Stands for the course's module of this name, without TensorFlow."""

import json
import os
import pathlib

from IPython.display import display

_recorded = {}


def record(name, value, target=None, op="<=", unit="", label="", difference=False):
    result = {"value": value, "target": target, "op": op, "unit": unit}
    _recorded[name] = result | {"label": label, "difference": difference}
    if path := os.environ.get("COURSE_RESULTS"):
        pathlib.Path(path).write_text(json.dumps(_recorded), encoding="utf-8")


def table():
    display({"application/vnd.course.results+json": _recorded}, raw=True)
'''
WAIT_FOR_GO = """
import time
while not (root / "go").exists():
    time.sleep(0.05)
"""
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def code(source: str, *tags: str):
    """Return a code cell."""
    cell = nbformat.v4.new_code_cell(textwrap.dedent(source).strip())
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def make_root(folder: pathlib.Path) -> pathlib.Path:
    """Make a repository without notebooks: requirements.txt, and helpers without TensorFlow."""
    (folder / "helpers").mkdir(parents=True)
    (folder / "requirements.txt").write_text("keras==3.0\nnumpy==1.0\n", encoding="utf-8")
    (folder / "helpers" / "__init__.py").touch()
    (folder / "helpers" / "experiment.py").write_text(EXPERIMENT, encoding="utf-8")
    shutil.copy(REPOSITORY / "helpers" / "chapters.py", folder / "helpers")
    return folder


def chapter(root: pathlib.Path, name: str, *bodies: str, folder: str = "notebooks") -> pathlib.Path:
    """Write a notebook of five cells or more that logs when it begins and when it ends.

    Code cell 1 has the parameters, cell 2 begins, the bodies follow, the last one ends.
    """
    cells = [
        nbformat.v4.new_markdown_cell(f"# {name}"),
        code(PARAMETERS, "parameters"),
        code(BEGIN.format(name=name)),
        *map(code, bodies or ["print('body')"]),
        code(END.format(name=name)),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = nbformat.v4.new_notebook(cells=cells)
    path = root / folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def log(root: pathlib.Path) -> list[str]:
    """Return the lines that the notebooks have logged."""
    path = root / "log.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def until(condition, seconds: float = 120.0):
    """Wait until a condition holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def kill_tree(process: psutil.Process):
    """Kill a process and everything it has started, with SIGKILL."""
    everything = [process, *process.children(recursive=True)]
    for one in everything:
        one.kill()
    psutil.wait_procs(everything, timeout=60)


def start(root, *arguments, **options):
    """Start the runner in a process of its own, with its own local cluster."""
    # Tests that a script runs in the background inherit a deaf ear for Ctrl-C, and so would this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "tools.run", "--root", str(root), "--profile", "smoke"]
    return psutil.Popen(
        [*command, *arguments], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def finish(process) -> str:
    """Wait for the end of a process and return its output."""
    output, _ = process.communicate(timeout=240)
    return output


def results(root, out="runs/smoke") -> dict:
    """Return what results.json holds."""
    return json.loads((root / out / "results.json").read_text(encoding="utf-8"))


def edit(path, old: str, new: str):
    """Replace a text that has to be in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
