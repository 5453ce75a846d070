"""The batch runner: what it writes, resumes, refuses, and how it dies.

Most tests share one cluster of dask.distributed, started as a user would start it; those that
kill the runner let it start its own.
"""

import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from tiny_course import REPOSITORY, chapter, code, log, make_root

import helpers.results
from tools import batch, execute, jobs, notebook, report, run
from tools.progress import Progress

WAIT_FOR_GO = """
import time
while not (root / "go").exists():
    time.sleep(0.05)
"""
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


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


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "course")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a scheduler with one worker, each a process of its own."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": file.parent}
    dask = [sys.executable, "-m", "distributed.cli.dask_{}", "--scheduler-file", str(file)]
    started = [
        psutil.Popen([*dask[:2], dask[2].format(kind), *dask[3:], *arguments], **common)
        for kind, arguments in (
            ("scheduler", ["--port", "0", "--no-dashboard"]),
            ("worker", ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]),
        )
    ]
    until(lambda: file.exists() and file.read_text(encoding="utf-8").rstrip().endswith("}"))
    yield json.loads(file.read_text(encoding="utf-8"))["address"]
    for process in reversed(started):
        kill_tree(process)


@pytest.fixture
def course(root, scheduler, capsys):
    """Run the course on the shared cluster; gives the exit code and the lines of the output."""

    def go(*arguments):
        code = run.main(
            ["--root", str(root), "--profile", "smoke", "--scheduler", scheduler, *arguments]
        )
        return code, capsys.readouterr().out

    return go


def start(root, *arguments, **options):
    """Start the runner in a process of its own, with its own local cluster."""
    command = [sys.executable, "-m", "tools.run", "--root", str(root), "--profile", "smoke"]
    return psutil.Popen(
        [*command, *arguments], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def finish(process) -> str:
    output, _ = process.communicate(timeout=240)
    return output


def results(root, out="runs/smoke") -> dict:
    return json.loads((root / out / "results.json").read_text(encoding="utf-8"))


def page(root) -> str:
    """Return report.html with every run of white space as one blank."""
    return " ".join((root / "runs/smoke/report.html").read_text(encoding="utf-8").split())


def edit(path, old: str, new: str):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# What a run writes


def test_run_writes_notebooks_report_and_results(root, course):
    chapter(
        root, "01_one", "import numpy as np\nblock = np.ones(60 * 2**20, 'uint8')\nsum(block[:9])"
    )
    path = chapter(root, "02_two", "print(profile, seed)")
    source = path.read_bytes()
    status, output = course("--seed", "1")
    assert status == 0
    assert log(root) == ["01_one begins", "01_one ends", "02_two begins", "02_two ends"]

    found = results(root)
    assert list(found) == ["01_one", "02_two"]
    one, two = found.values()
    assert one["results"] == {"value": {"value": 1.5, "target": 1.0, "op": "<=", "unit": "nats"}}
    assert (one["status"], one["profile"], one["seed"], one["error"]) == ("ok", "smoke", 1, None)
    assert 0 < one["seconds"] < 60 and 0 < one["cpu_seconds"] < 60
    assert one["peak_memory_mib"] > two["peak_memory_mib"] + 55  # the block of 60 MiB
    assert one["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert one["versions"]["pytest"] == pytest.__version__  # what runs, not what is pinned

    executed = nbformat.read(root / "runs/smoke/02_two.ipynb", as_version=4)
    nbformat.validate(executed)
    assert [c.execution_count for c in executed.cells if c.cell_type == "code"] == [1, 2, 3, 4, 5]
    assert "smoke 1\n" in [o.get("text") for c in executed.cells for o in c.get("outputs", [])]
    html = page(root)
    for text in ("2 chapters, 2 without an error", "0 of 2 results", "01_one.ipynb", "1.5 nats",
                 "&lt;= 1 nats", "missed", "numpy"):  # fmt: skip
        assert text in html
    assert not list((root / "runs/smoke").glob("*.partial"))
    assert output.count("starts, time unknown") == 2
    assert "2 to execute, profile smoke, seed 1, expected time ?" in output
    assert path.read_bytes() == source


def test_chapters_can_be_chosen_by_number_and_by_name(root, course):
    for name in ("01_one", "02_two", "03_three"):
        chapter(root, name)
    status, _ = course("--chapters", "3", "01_one.ipynb")
    assert status == 0
    assert log(root)[1::2] == ["01_one ends", "03_three ends"]
    assert list(results(root)) == ["01_one", "03_three"]


@pytest.mark.parametrize("op", ["<=", ">=", "=="])
def test_report_and_notebook_agree_on_what_reaches_a_target(op):
    for value in (1, 2.0, 3):
        for target in (2, None):
            result = {"value": value, "target": target, "op": op}
            assert report.met(result) is helpers.results.met(result)


# Resuming


def test_only_what_has_changed_is_executed_again(root, course):
    one, two = chapter(root, "01_one"), chapter(root, "02_two", "factor = 3")
    user = "from helpers import lesson\nlesson.definitions('02_two').factor"
    chapter(root, "03_user", user)

    def executed(*arguments):
        (root / "log.txt").unlink(missing_ok=True)
        status, output = course(*arguments)
        assert status == 0
        return [line.split("_")[0] for line in log(root) if line.endswith("ends")], output

    assert executed()[0] == ["01", "02", "03"]
    names, output = executed()
    assert names == [] and output.count("kept: nothing has changed") == 3
    edit(one, "# 01_one", "# Better prose")
    assert executed()[0] == []
    edit(one, "print('body')", "print('other')")
    names, output = executed()
    assert names == ["01"] and "expected time 0:" in output
    assert "01_one  is executed again: its source, parameters or helpers have changed" in output
    edit(two, "factor = 3", "factor = 4")
    assert executed()[0] == ["02", "03"]  # 03 uses the definitions of 02
    assert executed("--chapters", "1", "--seed", "5")[0] == ["01"]
    assert executed("--chapters", "1", "--seed", "5")[0] == []
    assert executed("--chapters", "2", "--fresh")[0] == ["02"]
    (root / "helpers" / "results.py").open("a", encoding="utf-8").write("# changed\n")
    assert executed("--chapters", "2")[0] == ["02"]
    (root / "requirements.txt").write_text("numpy==2.0\n", encoding="utf-8")
    assert executed("--chapters", "2")[0] == ["02"]
    assert executed("--chapters", "2")[0] == []
    assert list(results(root)) == ["01_one", "02_two", "03_user"]


def test_damaged_files_are_made_again(root, course):
    chapter(root, "01_one")
    chapter(root, "02_two")
    course()
    out = root / "runs/smoke"
    first = results(root)
    (out / "results.json").write_text('{"01_one": {', encoding="utf-8")
    (out / "report.html").unlink()
    status, output = course()
    assert status == 0 and "results.json is damaged" in output
    assert len(log(root)) == 4  # nothing was executed
    assert results(root) == first and (out / "report.html").exists()

    (out / "results.json").write_text('{"01_one": {"status": "ok"}}', encoding="utf-8")
    whole = (out / "02_two.ipynb").read_bytes()
    (out / "02_two.ipynb").write_bytes(whole[: len(whole) // 2])
    status, output = course()
    assert status == 0 and "02_two  is executed again: 02_two.ipynb is damaged" in output
    assert log(root)[4:] == ["02_two begins", "02_two ends"]
    assert results(root)["01_one"] == first["01_one"]
    nbformat.read(out / "02_two.ipynb", as_version=4)


@pytest.mark.parametrize("text", ["[]", "{}", '{"metadata": {"course": {"key": 1}}}', "\xff"])
def test_a_file_that_is_no_executed_notebook_is_damaged(root, text):
    path = chapter(root, "01_one")
    (job,) = jobs.make_jobs([path], root, "smoke", 0, {})
    assert jobs.earlier(job, root) == (None, "")
    (root / "01_one.ipynb").write_text(text, encoding="latin-1")
    assert jobs.earlier(job, root) == (None, "01_one.ipynb is damaged")


WRITER = """
import pathlib, sys
from tools import report
path = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in "ab":
        report.write_atomically(path, letter * 3_000_000)
"""


@posix
def test_a_file_is_whole_whenever_the_writer_is_killed(tmp_path):
    path = tmp_path / "results.json"
    for pause in (0.02, 0.05, 0.11):
        command = [sys.executable, "-c", WRITER, str(path)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        until(path.exists)
        time.sleep(pause)
        process.kill()
        process.communicate()
        text = path.read_text(encoding="utf-8")
        assert len(text) == 3_000_000 and len(set(text)) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    report.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        report.write_atomically(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


# Failures


def test_the_run_goes_on_after_failures_and_says_which_cell(root, course):
    chapter(root, "01_raises", "results.record('early', 1)\nresults.table()",
            "# the cell that fails\nvalue = 1 / 0")  # fmt: skip
    chapter(root, "02_dies", "import os\nos._exit(1)")
    chapter(root, "03_hangs", WAIT_FOR_GO)
    chapter(root, "04_lesson_on_errors")
    path = root / "notebooks/04_lesson_on_errors.ipynb"
    lesson = nbformat.read(path, as_version=4)
    lesson.cells.insert(3, code("[][1]", "raises-exception"))
    nbformat.write(lesson, path)
    chapter(root, "05_fine")
    status, output = course("--timeout", "8")
    assert status == 1
    assert [line for line in log(root) if line.endswith("ends")] == [
        "04_lesson_on_errors ends",
        "05_fine ends",
    ]
    table = output[output.index("3 failed:") :].splitlines()
    assert table[1].split() == ["chapter", "code", "cell", "its", "first", "line", "exception"]
    assert table[2].split()[:2] == ["01_raises", "4"]
    assert table[2].endswith("# the cell that fails  ZeroDivisionError: division by zero")
    assert table[3].split()[:2] == ["02_dies", "3"] and "DeadKernelError: the kernel" in table[3]
    assert table[4].split()[:2] == ["03_hangs", "3"]
    assert table[4].endswith("TimeoutError: the cell did not end within 8 seconds")

    found = results(root)
    assert [e["status"] for e in found.values()] == ["failed"] * 3 + ["ok"] * 2
    assert found["01_raises"]["error"] == {
        "cell": 4,
        "line": "# the cell that fails",
        "exception": "ZeroDivisionError: division by zero",
    }
    assert found["01_raises"]["results"]["early"]["value"] == 1
    html = page(root)
    assert "code cell 4: # the cell that fails" in html and "2 without an error" in html
    partial = nbformat.read(root / "runs/smoke/01_raises.ipynb", as_version=4)
    assert "ZeroDivisionError" in [
        o.get("ename") for c in partial.cells for o in c.get("outputs", [])
    ]
    assert "papermill" not in json.dumps(partial)

    (root / "go").touch()
    edit(root / "notebooks/01_raises.ipynb", "1 / 0", "1 / 1")
    edit(root / "notebooks/02_dies.ipynb", "os._exit(1)", "os.getpid()")
    (root / "log.txt").unlink()
    status, output = course()
    assert status == 0 and "03_hangs  is executed again: it failed the last time" in output
    assert log(root)[1::2] == ["01_raises ends", "02_dies ends", "03_hangs ends"]


def test_a_worker_with_other_files_is_told_so(root, tmp_path, monkeypatch):
    source = chapter(root, "01_one").read_text(encoding="utf-8")
    job = {"name": "01_one", "notebook": source, "parameters": {}, "root": str(root),
           "folder": "notebooks", "helpers_sha256": "other", "timeout": None, "topic": "",
           "packages": []}  # fmt: skip
    with pytest.raises(RuntimeError, match=r"has other files in .*helpers"):
        execute.execute(job)
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path / "elsewhere"))
    with pytest.raises(RuntimeError, match=r"no folder .*elsewhere.*COURSE_ROOT"):
        execute.execute(job)
    assert log(root) == []


# Sweeps


def test_a_sweep_reports_mean_and_standard_deviation(root, course):
    chapter(root, "01_one")
    chapter(root, "02_fails_once", "assert seed != 1")
    status, _ = course("--sweep", "seed=0,1,2", "--chapters", "01")
    assert status == 0
    values = [0.5, 1.5, 4.5]  # seed**2 + 0.5
    one = results(root)["01_one"]
    value = one["results"]["value"]
    assert value["value"] == statistics.fmean(values)
    assert value["sd"] == statistics.stdev(values)
    assert (value["n"], value["target"], one["seed"]) == (3, 1.0, [0, 1, 2])
    assert [r["results"]["value"]["value"] for r in one["runs"]] == values
    assert one["seconds"] == round(sum(r["seconds"] for r in one["runs"]), 2)
    assert one["peak_memory_mib"] == max(r["peak_memory_mib"] for r in one["runs"])
    for seed in range(3):
        assert (root / f"runs/smoke/01_one-seed={seed}.ipynb").is_file()
    html = page(root)
    assert "mean ± standard deviation" in html
    assert f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.4g} nats" in html

    status, output = course("--sweep", "seed=0,1,2,3", "--chapters", "01")
    assert status == 0 and output.count("kept") == 3  # only the new seed is executed
    assert log(root).count("01_one ends") == 4
    status, output = course("--sweep", "seed=0,1", "--chapters", "02")
    found = results(root)["02_fails_once"]
    assert status == 1 and "02_fails_once-seed=1  3" in output
    assert (found["status"], found["results"]["value"]["n"]) == ("failed", 1)
    assert found["results"]["value"]["sd"] is None


def test_sweeps_are_read_as_python_values():
    assert jobs.parse_sweeps(["seed=0,1", "rate=1e-3, relu"]) == {
        "seed": [0, 1],
        "rate": [1e-3, "relu"],
    }


def test_two_values_never_share_a_file(root):
    path = chapter(root, "01_one")
    edit(path, "seed = 0", "seed = 0\\nname = ''")
    made = jobs.make_jobs([path], root, "smoke", 0, {"seed": [0, 1], "name": ["a/b", "a:b", "ab"]})
    names = [job.name for job in made]
    assert len(set(names)) == len({job.key for job in made}) == 6
    assert not any(set('/\\:*?"<>|') & set(name) for name in names)


# What the run refuses: exit code 2 and one sentence


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


# Writing back


def test_write_back_puts_outputs_into_the_repository(root, course):
    path = chapter(root, "01_one", "print(object())", "def late():\n    pass")
    solution = chapter(root, "01_one", folder="notebooks/solutions")
    before = nbformat.read(path, as_version=4)
    status, _ = course("--profile", "laptop", "--write-back")
    assert status == 0
    written = nbformat.read(path, as_version=4)
    nbformat.validate(written)
    assert [c.source for c in written.cells] == [c.source for c in before.cells]
    assert [c.id for c in written.cells] == [c.id for c in before.cells]
    cells = notebook.code_cells(written)
    assert [c.execution_count for c in cells] == [1, 2, 3, 4, 5]
    assert cells[2].outputs[0].text.startswith("<object object")
    course_metadata = written.metadata["course"]
    assert set(course_metadata) == {"profile", "seed", "seconds", "source_sha256", "results"}
    assert course_metadata["source_sha256"] == notebook.source_sha256(before)
    assert course_metadata["results"]["value"] == {
        "value": 0.5, "target": 1.0, "op": "<=", "unit": "nats"}  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert nbformat.writes(notebook.normalise(written)) + "\n" == text  # the normal form
    for stray in ("papermill", "injected", str(root), "iopub"):
        assert stray not in text

    status, _ = course("--profile", "laptop", "--write-back")  # kept, and the same file again
    assert status == 0 and log(root).count("01_one ends") == 1
    assert path.read_text(encoding="utf-8") == text
    status, _ = course("--profile", "laptop", "--write-back", "--folder", str(solution.parent))
    assert status == 0 and (root / "runs/laptop-solutions/01_one.ipynb").is_file()
    assert "course" in nbformat.read(solution, as_version=4).metadata


def test_write_back_refuses_code_that_was_edited_meanwhile(root, tmp_path):
    path = chapter(root, "01_one")
    executed = tmp_path / "01_one.ipynb"
    executed.write_bytes(path.read_bytes())
    edit(path, "print('body')", "print('edited')")
    text = path.read_bytes()
    with pytest.raises(jobs.Mistake, match=r"01_one.ipynb was edited during the run"):
        batch.write_back(None, path, executed)
    assert path.read_bytes() == text


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


# Death: these start the runner as a process of its own


def begun(root, name):
    return lambda: f"{name} begins" in log(root)


@posix
@pytest.mark.parametrize("victim", ["the whole tree", "only the runner"])
def test_a_killed_run_goes_on_and_does_nothing_twice(root, course, victim):
    chapter(root, "01_one")
    chapter(root, "02_two", WAIT_FOR_GO)
    chapter(root, "03_three")
    process = start(root)
    until(begun(root, "02_two"))
    everything = process.children(recursive=True)
    assert len(everything) >= 2  # at least the worker and the kernel
    if victim == "the whole tree":
        kill_tree(process)
    else:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert not alive  # nothing goes on behind the user's back
    assert log(root) == ["01_one begins", "01_one ends", "02_two begins"]
    assert results(root)["01_one"]["status"] == "ok"
    before = (root / "runs/smoke/01_one.ipynb").read_bytes()
    assert not (root / "runs/smoke/02_two.ipynb").exists()

    (root / "go").touch()
    status, output = course()
    assert status == 0
    ends = [line for line in log(root) if line.endswith("ends")]
    assert ends == ["01_one ends", "02_two ends", "03_three ends"]
    assert log(root).count("01_one begins") == log(root).count("03_three begins") == 1
    assert (root / "runs/smoke/01_one.ipynb").read_bytes() == before
    assert "01_one  kept" in output
    assert [e["status"] for e in results(root).values()] == ["ok"] * 3


@posix
def test_an_interrupt_ends_the_kernels_and_the_run_goes_on_later(root):
    chapter(root, "01_one")
    chapter(root, "02_two", WAIT_FOR_GO)
    process = start(root)
    until(begun(root, "02_two"))
    everything = process.children(recursive=True)
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert process.returncode == 130, output
    assert "Interrupted. The same command goes on from here." in output
    assert "Traceback" not in output
    assert not psutil.wait_procs(everything, timeout=60)[1]
    assert list(results(root)) == ["01_one"]


@posix
def test_a_killed_runner_frees_a_worker_of_another_cluster(root, scheduler, course):
    chapter(root, "01_one")
    pid = "(root / 'pid').write_text(str(__import__('os').getpid()))"
    chapter(root, "02_two", pid, WAIT_FOR_GO)
    process = start(root, "--scheduler", scheduler)
    until((root / "pid").exists)
    time.sleep(0.2)
    kernel = psutil.Process(int((root / "pid").read_text(encoding="utf-8")))
    kill_tree(process)
    finish(process)
    psutil.wait_procs([kernel], timeout=60)
    assert not kernel.is_running()
    (root / "go").touch()
    status, output = course()
    assert status == 0 and "01_one  kept" in output
    assert [line for line in log(root) if line.endswith("ends")] == ["01_one ends", "02_two ends"]


def test_workers_execute_chapters_at_the_same_time(root):
    wait = WAIT_FOR_GO.replace("go", "{}")
    chapter(root, "01_one", "(root / 'a').touch()", wait.format("b"))
    chapter(root, "02_two", "(root / 'b').touch()", wait.format("a"))
    process = start(root, "--workers", "2", "--timeout", "120")
    output = finish(process)
    assert process.returncode == 0, output
    assert [e["status"] for e in results(root).values()] == ["ok", "ok"]
