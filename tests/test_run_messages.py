"""What the batch runner refuses (exit code 2 and one sentence), and how it shows progress."""

import io
import os
import re

import pytest
from tiny_course import chapter, edit, finish, log, make_root, start

from tools import batch, jobs, run
from tools.progress import Progress


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--chapters", "07"], "There is no chapter 07 in .*: choose from 01_one."),
        (["--profile", "fast"], "There is no profile fast: use smoke, laptop or gpu."),
        (["--seed", "-1"], "The seed is -1: give an integer from 0 to 4294967295."),
        (["--seed", "1.5"], "The seed is 1.5: give an integer"),
        (["--seed", "many"], "seed = 0, and 'many' is of another type"),
        (["--sweep", "seed=0,-3"], "The seed is -3: give an integer"),
        (["--sweep", "rate=1,2"], "01_one.ipynb has no parameter rate: .* has profile, seed."),
        (["--sweep", "seed"], "--sweep seed cannot be read: .* --sweep seed=0,1,2"),
        (["--sweep", "seed=1,1"], "--sweep seed=1,1 names a value twice"),
        (["--folder", "nowhere"], "no notebooks in .*nowhere: name another folder"),
        (["--root", "nowhere"], "nowhere is not the course's repository: correct --root"),
        (["--sweep", "seed=[1,2"], "'\\[1,2' is of another type"),
        (["--write-back"], "--write-back goes with profile laptop and seed 0"),
        (["--workers", "0"], "--workers and --timeout take a positive number"),
        (["--out", "requirements.txt/runs"], "requirements.txt.runs cannot be written"),
        (["--scheduler", "tcp://127.0.0.1:9"], "No scheduler answers at tcp://127.0.0.1:9 "),
        (["--scheduler", "nonsense://"], "No scheduler answers at nonsense://"),
    ],
)
def test_a_mistake_is_one_sentence(root, arguments, sentence, capsys, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(batch, "CONNECT_SECONDS", 1)
    chapter(root, "01_one")
    assert run.main(["--root", str(root), "--profile", "smoke", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith(".\n")
    assert re.search(sentence, error), error
    assert log(root) == []


def test_only_chapters_run_and_others_are_named(root, course):
    path = chapter(root, "01_one")
    copy = path.with_name("01_one-Copy1.ipynb")
    copy.write_bytes(path.read_bytes())
    empty = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    for name in ("Untitled.ipynb", "02_notes.ipynb"):
        path.with_name(name).write_text(empty, encoding="utf-8")
    for name in ("notebooks/._01_one.ipynb", "helpers/._experiment.py"):  # of macOS
        (root / name).write_bytes(b"\0\5\x16\7\0\xb0")
    code, output = course("--chapters", "01")
    assert code == 0 and log(root) == ["01_one begins", "01_one ends"]
    assert output.startswith(
        "Left out, no chapters: 01_one-Copy1.ipynb, 02_notes.ipynb, Untitled.ipynb\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"cells": [', '"cells": [[', "01_one.ipynb is not a notebook"),
        ("seed = 0", "seed = int(0)", "01_one.ipynb: malformed node"),
    ],
)
def test_broken_notebooks_are_named(root, old, new, sentence, capsys):
    edit(chapter(root, "01_one"), old, new)
    assert run.main(["--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_output_never_dies_of_an_encoding(tmp_path):
    root = make_root(tmp_path / "Łukasz 皮肤")
    chapter(root, "01_one")
    process = start(root, "--chapters", "皮", env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    output = finish(process)
    assert process.returncode == 2 and "There is no chapter ? in" in output


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_names_chapter_cell_elapsed_and_expected_time(root, stream, monkeypatch):
    path = chapter(root, "01_one")
    (job,) = jobs.make_jobs([path], root, "smoke", 0, {})
    job.expected = 75.0
    now = [1000.0]
    monkeypatch.setattr("tools.progress.time.monotonic", lambda: now[0])
    progress = Progress([job], stream)
    progress.event({"job": "01_one", "event": "start", "pid": 1})
    now[0] += 62.0
    progress.event({"job": "01_one", "event": "cell", "cell": 3, "cells": 5})
    assert "01_one  starts, about 1:15\n" in stream.getvalue()
    line = "01_one  cell 3/5  1:02 (about 1:15)  1 to go"
    assert line in stream.getvalue()
    now[0] += 1.0
    progress.draw()  # once more on a terminal, not yet into a log
    assert ("cell 3/5  1:03 (about 1:15)" in stream.getvalue()) is stream.isatty()
    progress.event({"job": "01_one", "event": "stopped"})
    progress.say("01_one  ok")
    assert stream.getvalue().endswith("01_one  ok\n")
