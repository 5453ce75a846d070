"""The batch runner: what it writes, failures, sweeps, writing back."""

import json
import statistics
import sys

import nbformat
import pytest
from tiny_course import WAIT_FOR_GO, chapter, code, edit, finish, log, results, start

import helpers.experiment
from tools import batch, execute, jobs, notebook, report


def page(root) -> str:
    """Return report.html with every run of white space as one blank."""
    return " ".join((root / "runs/smoke/report.html").read_text(encoding="utf-8").split())


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
            assert report.met(result) is helpers.experiment.met(result)


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


def test_workers_execute_chapters_at_the_same_time(root):
    wait = WAIT_FOR_GO.replace("go", "{}")
    chapter(root, "01_one", "(root / 'a').touch()", wait.format("b"))
    chapter(root, "02_two", "(root / 'b').touch()", wait.format("a"))
    process = start(root, "--workers", "2", "--timeout", "120")
    output = finish(process)
    assert process.returncode == 0, output
    assert [e["status"] for e in results(root).values()] == ["ok", "ok"]
