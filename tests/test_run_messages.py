"""What the batch runner refuses (exit code 2 and one sentence), and how it shows progress."""

import io
import re

import pytest
from tiny_course import chapter, edit, log

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


def test_broken_notebooks_are_named(root, capsys):
    path = chapter(root, "01_one")
    for old, new, sentence in (
        ('"parameters"', '"other"', "01_one.ipynb: The notebook has 0 cells tagged 'parameters'"),
        ('"cells": [', '"cells": [[', "01_one.ipynb is not a notebook"),
    ):
        edit(path, old, new)
        assert run.main(["--root", str(root)]) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1


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
