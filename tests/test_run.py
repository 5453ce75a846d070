"""The batch runner: what it writes, failures, sweeps, writing back."""

import contextlib
import json
import os
import re
import shutil
import statistics
import sys

import nbformat
import numpy as np
import pytest
from tiny_course import (
    WAIT_FOR_GO,
    chapter,
    code,
    edit,
    finish,
    log,
    posix,
    results,
    start,
    until,
)

import helpers.experiment
from tools import batch, execute, jobs, notebook, report, run, source
from tools.walk import Walk

RESULT = {"value": 0.5, "target": 1, "op": "<=", "unit": "nats", "label": "the value, in nats",
          "difference": False}  # fmt: skip


def page(root, profile="smoke") -> str:
    """Return report.html with every run of white space as one blank."""
    return " ".join((root / f"runs/{profile}/report.html").read_text(encoding="utf-8").split())


def test_run_writes_notebooks_report_and_results(root, course):
    chapter(
        root, "01_one", "import numpy as np\nblock = np.ones(60 * 2**20, 'uint8')\nsum(block[:9])"
    )
    path = chapter(root, "02_two", "print(profile, seed)")
    before = path.read_bytes()
    status, output = course("--seed", "1")
    assert status == 0
    assert log(root) == ["01_one begins", "01_one ends", "02_two begins", "02_two ends"]

    found = results(root)
    assert list(found) == ["01_one", "02_two"]
    one, two = found.values()
    assert one["results"] == {"value": RESULT | {"value": 1.5}}
    assert (one["status"], one["profile"], one["seed"], one["error"]) == ("ok", "smoke", 1, None)
    assert one["seconds"] > 0 and one["cpu_seconds"] > 0
    assert one["peak_memory_mib"] > two["peak_memory_mib"] + 55  # the block of 60 MiB
    assert one["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    # What runs, not what is pinned, and only what is imported.
    assert "numpy" in one["versions"] and "numpy" not in two["versions"]
    assert one["versions"]["numpy"] == np.__version__

    executed = nbformat.read(root / "runs/smoke/02_two.ipynb", as_version=4)
    nbformat.validate(executed)
    assert [c.execution_count for c in executed.cells if c.cell_type == "code"] == [1, 2, 3, 4, 5]
    assert "smoke 1\n" in [o.get("text") for c in executed.cells for o in c.get("outputs", [])]
    html = page(root)
    for text in ("2 chapters, 2 without an error", "01_one.ipynb", "1.5 nats", "&lt;= 1 nats",
                 "the value, in nats", "numpy"):  # fmt: skip
        assert text in html
    # Smoke checks that every cell works: no target is judged.
    assert not any(word in html + output for word in ("missed", "reached"))
    assert not list((root / "runs/smoke").glob("*.partial"))
    if os.name != "nt":
        mode = (root / "runs/smoke/report.html").stat().st_mode
        assert mode & 0o777 == 0o666 & ~umask()
    assert output.count("starts, time unknown") == 2
    assert "2 to execute, profile smoke, seed 1, expected time ?" in output
    assert path.read_bytes() == before


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_chapters_can_be_chosen_by_number_and_by_name(root, course):
    for name in ("01_one", "02_two", "03_three"):
        chapter(root, name)
    status, _ = course("--chapters", "3", "01_one.ipynb")
    assert status == 0
    assert log(root)[1::2] == ["01_one ends", "03_three ends"]
    assert list(results(root)) == ["01_one", "03_three"]


def test_the_report_links_to_the_book(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "BOOK", tmp_path / "book" / "index.html")
    out = tmp_path / "runs" / "laptop"
    out.mkdir(parents=True)
    report.write(out, {})
    assert "<code>make book</code>" in (out / "report.html").read_text(encoding="utf-8")
    report.BOOK.parent.mkdir()
    report.BOOK.write_text("the book", encoding="utf-8")
    report.write(out, {})
    html = (out / "report.html").read_text(encoding="utf-8")
    (link,) = re.findall(r'href="([^"]+)">the book<', html)
    assert (out / link).read_text(encoding="utf-8") == "the book"


@pytest.mark.parametrize("op", ["<=", ">=", "=="])
def test_report_and_notebook_agree_on_what_reaches_a_target(op):
    for value in (1, 2.0, 3):
        for target in (2, None):
            result = {"value": value, "target": target, "op": op}
            assert report.met(result) is helpers.experiment.met(result)


# Failures


def test_the_run_goes_on_after_failures_and_says_which_cell(root, course):
    early = "experiment.record('early', 1)"  # and no table is reached
    chapter(root, "01_raises", early, "# the cell that fails\nvalue = 1 / 0")
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
    table = [" ".join(line.split()) for line in output.partition("3 failed:")[2].splitlines()]
    assert table[1] == "code cell its first line exception"
    assert table[2].split()[:2] == ["01_raises", "4"]
    assert table[2].endswith("# the cell that fails ZeroDivisionError: division by zero")
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
    assert "<td>early</td>" in html  # a result without a label
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


def test_a_worker_with_other_files_is_told_so(root):
    path = chapter(root, "01_one")
    job = {"notebook": path.read_text(encoding="utf-8"), "root": str(root),
           "path": "notebooks/01_one.ipynb", "code": Walk(path, root).code}  # fmt: skip
    edit(root / "helpers/experiment.py", '"unit": unit', '"unit": unit.strip()')
    with pytest.raises(RuntimeError, match=r"has other helpers or chapters in .*course"):
        execute.execute(job)
    with pytest.raises(RuntimeError, match=r"no folder .*elsewhere"):
        execute.execute(job | {"path": "elsewhere/01_one.ipynb"})
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
    assert (value["n"], value["target"], one["seed"]) == (3, 1, [0, 1, 2])
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
    assert status == 1 and "02_fails_once-seed=1" in output.partition("1 failed:")[2]
    assert (found["status"], found["results"]["value"]["n"]) == ("failed", 1)
    assert found["results"]["value"]["sd"] is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x=0,1", [0, 1]),
        ("x=1e-3, relu,None", [1e-3, "relu", None]),
        ('x=["/a, b", "/c"]', [["/a, b", "/c"]]),
        ("x=[/a b,/c],[d]", [["/a b", "/c"], ["d"]]),  # as a shell leaves it
        ("x='a,b',c", ["a,b", "c"]),
        ("x=(1, 2),(3, 4)", [(1, 2), (3, 4)]),
    ],
)
def test_sweeps_are_read_as_python_values(text, values):
    assert jobs.parse_sweeps([text]) == {"x": values}


def test_a_path_from_the_command_line_starts_in_the_folder_of_the_shell(
    root, tmp_path, monkeypatch
):
    path = chapter(root, "01_one")
    edit(path, "seed = 0", "seed = 0\\nfolder = None\\nname = None")
    (tmp_path / "my pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    sweeps = {"folder": ["my pictures", ["my pictures", "elsewhere"]], "name": ["my pictures"]}
    made = [j.parameters for j in jobs.make_jobs([path], root, "smoke", 0, sweeps)]
    here = str(tmp_path / "my pictures")
    assert [p["folder"] for p in made] == [here, [here, "elsewhere"]]
    assert made[0]["name"] == "my pictures"  # no path


def test_two_values_never_share_a_file(root):
    path = chapter(root, "01_one")
    edit(path, "seed = 0", "seed = 0\\nname = ''")
    made = jobs.make_jobs([path], root, "smoke", 0, {"seed": [0, 1], "name": ["a/b", "a:b", "ab"]})
    names = [job.name for job in made]
    assert len(set(names)) == len({job.keys["code"] for job in made}) == 6
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
    assert set(course_metadata) == set(batch.KEPT_COURSE)
    assert course_metadata["source_sha256"] == source.cells_sha256(nbformat.writes(before))
    assert course_metadata["computes_sha256"] == Walk(path, root).computes()
    assert course_metadata["results"] == {"value": RESULT}
    assert "missed" not in page(root, "laptop") and "1 of 1 results" in page(root, "laptop")
    text = path.read_text(encoding="utf-8")
    assert nbformat.writes(notebook.normalise(written)) + "\n" == text  # the normal form
    for stray in ("papermill", "injected", str(root), "iopub"):
        assert stray not in text

    status, _ = course("--profile", "laptop", "--write-back")  # kept, and the same file again
    assert status == 0 and log(root).count("01_one ends") == 1
    assert path.read_text(encoding="utf-8") == text
    edit(path, "print(object())", "#\\nprint(object())")  # a comment is written back without a run
    status, _ = course("--profile", "laptop", "--write-back")
    assert status == 0 and log(root).count("01_one ends") == 1
    status, _ = course("--profile", "laptop", "--write-back", "--folder", str(solution.parent))
    assert status == 0 and (root / "runs/laptop-solutions/01_one.ipynb").is_file()
    assert "course" in nbformat.read(solution, as_version=4).metadata


def test_write_back_refuses_code_that_was_edited_meanwhile(root, tmp_path):
    path = chapter(root, "01_one")
    (job,) = jobs.make_jobs([path], root, "laptop", 0, {})
    job.source.metadata["course"] = {"source_sha256": job.source_sha256}
    executed = tmp_path / "01_one.ipynb"
    nbformat.write(job.source, executed)
    edit(path, "print('body')", "print('edited')")
    text = path.read_bytes()
    with pytest.raises(jobs.UsageError, match=r"01_one.ipynb was edited during the run"):
        batch.write_back(job, executed)
    assert path.read_bytes() == text


# The cluster


@pytest.mark.slow
def test_workers_execute_chapters_at_the_same_time_and_listen_to_this_machine_only(root):
    wait = WAIT_FOR_GO.replace("go", "{}")
    chapter(root, "01_one", "(root / 'a').touch()", wait.format("b"))
    chapter(root, "02_two", "(root / 'b').touch()", wait.format("a"), WAIT_FOR_GO)
    process = start(root, "--workers", "2", "--timeout", "120", env=without_card())
    until((root / "b").exists)
    everything = [process, *process.children(recursive=True)]
    listening = {
        c.laddr.ip for p in everything for c in p.net_connections() if c.status == "LISTEN"
    }
    (root / "go").touch()
    output = finish(process)
    assert process.returncode == 0, output
    assert [e["status"] for e in results(root).values()] == ["ok", "ok"]
    assert listening == {"127.0.0.1"}


def without_card() -> dict:
    """The environment without nvidia-smi."""
    folders = os.environ["PATH"].split(os.pathsep)
    kept = [f for f in folders if not shutil.which("nvidia-smi", path=f)]
    return os.environ | {"PATH": os.pathsep.join(kept)}


@posix
def test_one_chapter_at_a_time_where_there_is_a_card(root, tmp_path, monkeypatch, capsys):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A100 (UUID: GPU-1)'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    seen = []

    @contextlib.contextmanager
    def cluster(address, workers):
        seen.append(workers)
        raise jobs.UsageError("enough.")
        yield

    monkeypatch.setattr(batch, "cluster", cluster)
    chapter(root, "01_one")
    command = ["--root", str(root), "--profile", "smoke", "--workers", "2"]
    assert run.main(command) == 2 and seen == [1]
    assert "graphics card: one chapter" in capsys.readouterr().out
    program.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n", encoding="utf-8")
    assert run.main(command) == 2 and seen == [1, 2]
