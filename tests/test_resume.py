"""A run that was stopped goes on: nothing is lost, and nothing is done twice."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from tiny_course import (
    REPOSITORY,
    WAIT_FOR_GO,
    chapter,
    edit,
    finish,
    kill_tree,
    log,
    posix,
    results,
    start,
    until,
)

from tools import jobs, report


def test_only_what_has_changed_is_executed_again(root, course):
    one, two = chapter(root, "01_one"), chapter(root, "02_two", "factor = 3")
    user = "from helpers import chapters\nchapters.import_chapter('02_two').factor"
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
    edit(one, "print('body')", "print('body')  # a comment")
    assert executed()[0] == []
    edit(one, "print('body')", "print('other')")
    assert executed("--changed", "computes")[0] == []  # the same numbers
    names, output = executed()
    assert names == ["01"] and "expected time 0:" in output
    assert "01_one  is executed again: its code, parameters, helpers or packages have" in output
    edit(two, "factor = 3", "factor = 4")
    assert executed()[0] == ["02", "03"]  # 03 uses the definitions of 02
    assert executed("--chapters", "1", "--seed", "5")[0] == ["01"]
    assert executed("--chapters", "1", "--seed", "5")[0] == []
    assert executed("--chapters", "2", "--fresh")[0] == ["02"]
    edit(root / "helpers" / "experiment.py", '"unit": unit', '"unit": str(unit)')
    assert executed("--chapters", "2")[0] == ["02"]
    edit(root / "requirements.txt", "numpy==1.0", "numpy==2.0")  # is not imported
    assert executed("--chapters", "2")[0] == []
    edit(root / "requirements.txt", "keras==3.0", "keras==3.1")
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


# Death: these start the runner as a process of its own


def begun(root, name):
    return lambda: f"{name} begins" in log(root)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@posix
def test_an_interrupt_ends_the_kernels_of_another_cluster(root, scheduler, course):
    chapter(root, "01_one")
    pid = "(root / 'pid').write_text(str(__import__('os').getpid()))"
    chapter(root, "02_two", pid, WAIT_FOR_GO)
    process = start(root, "--scheduler", scheduler)
    until((root / "pid").exists)
    time.sleep(0.2)
    kernel = psutil.Process(int((root / "pid").read_text(encoding="utf-8")))
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert process.returncode == 130, output
    psutil.wait_procs([kernel], timeout=60)
    assert not kernel.is_running()
    (root / "go").touch()
    status, output = course()
    assert status == 0 and "01_one  kept" in output
    assert [line for line in log(root) if line.endswith("ends")] == ["01_one ends", "02_two ends"]


def test_a_replacement_that_is_denied_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    real, calls = os.replace, []

    def denied(source, target):  # as on Windows, while a virus scanner looks at the file
        calls.append(target)
        if len(calls) <= refusals:
            raise PermissionError(13, "Access is denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", denied)
    path, refusals = tmp_path / "results.json", 3
    report.write_atomically(path, "{}")
    assert path.read_text(encoding="utf-8") == "{}" and len(calls) == 4
    monkeypatch.setattr(report, "REPLACE_SECONDS", 0.2)
    refusals = 1000
    with pytest.raises(PermissionError):
        report.write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "{}" and list(tmp_path.iterdir()) == [path]
