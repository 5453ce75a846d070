"""Every notebook: its form, its outputs, and a run of all its cells under the profile smoke."""

import copy
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from tiny_course import PARAMETERS, REPOSITORY, code

from helpers import chapters
from tools import notebook
from tools.batch import KEPT_COURSE
from tools.report import met

CHAPTERS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((REPOSITORY / "notebooks" / "solutions").glob("*.ipynb"))
RESULTS = {
    "01_introduction": {"js_divergence_error"},
    "02_autoencoder": {"ae32_vs_pca32_error_reduction", "vae2_elbo"},
    "03_vanilla_gan": {"fid", "recall", "smallest_class_share", "largest_class_share"},
    "04_dcgan": {"fid", "recall", "smallest_class_share", "largest_class_share",
                 "fid_ratio_to_dense_gan"},
    "05_training_and_evaluation": {"grid25_modes", "grid25_high_quality", "fid_infinity"},
    "06_progressive_gan": {"fid_progressive", "fid_direct", "cpu_time_ratio_to_direct", "swd_mean",
                           "hub_module_fid"},
    "07_semi_supervised_gan": {
        "accuracy_100_labels", "accuracy_100_labels_sd", "accuracy_100_labels_supervised",
        "accuracy_100_labels_consistency_only", "ood_auroc", "ece"},
    "08_conditional_gan": {"class_accuracy", "intra_class_recall", "class_accuracy_fashion",
                           "tstr_accuracy"},
    "09_cyclegan": {
        "target_domain_share", "psnr_gain_over_identity_db", "psnr_gain_over_colour_transfer_db",
        "ssim_gain_over_identity", "cycle_l1", "target_domain_share_boots"},
    "10_adversarial_examples": {
        "targeted_success_8bit", "clean_accuracy_robust_model", "robust_accuracy_pgd40x3",
        "attack_gap_to_library"},
    "11_applications": {
        "gan_minus_classic_gain", "gan_minus_classic_ci_low", "oracle_minus_classic_gain",
        "wisconsin_gan_gain", "membership_auc", "true_preference_gain", "fashion_precision"},
    "12_what_comes_next": {
        "detector_accuracy", "detector_accuracy_unseen_gan", "ragan_fid", "style_fid",
        "diffusion_fid", "dcgan_fid"},
}  # fmt: skip
MISSED = {  # see the chapters
    "06_progressive_gan": {"cpu_time_ratio_to_direct"},
    "11_applications": {"gan_minus_classic_ci_low"},
    "12_what_comes_next": {"detector_accuracy"},
}
SECONDS = {
    "06_progressive_gan": 480,
    "07_semi_supervised_gan": 600,
    "09_cyclegan": 480,
    "10_adversarial_examples": 480,
    "11_applications": 480,
    "12_what_comes_next": 480,
}  # of the committed run; 360 for the others
EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(?:[\w.+-]+/)+[\w.+-]*|\b[A-Za-z]:\\|file://")
LARGEST = 2**20  # bytes


def name_of(path) -> str:
    return path.relative_to(REPOSITORY / "notebooks").with_suffix("").as_posix()


each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=name_of)
each_notebook = pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=name_of)


def read(path):
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def texts(output) -> list[str]:
    """Return everything that a reader can read in an output (no pictures)."""
    found = [output.get("text", ""), output.get("evalue", "")]
    found += [str(v) for k, v in output.get("data", {}).items() if not k.startswith("image/")]
    return [EMBEDDED.sub("", text) for text in found]


# Form


def test_there_are_chapters_and_every_one_has_solutions():
    assert CHAPTERS
    assert [path.stem for path in SOLUTIONS] == [path.stem for path in CHAPTERS]


@each_notebook
def test_normal_form(path):
    text = path.read_bytes().decode("utf-8")
    assert len(text) <= LARGEST, f"{path.name} has more than 1 MiB: make its pictures smaller."
    found = read(path)
    nbformat.validate(found)
    ids = [cell.id for cell in found.cells]
    assert len(set(ids)) == len(ids)
    normal = nbformat.writes(notebook.normalise(copy.deepcopy(found))) + "\n"
    assert text == normal, f"{path.name} is not in the normal form: run make outputs."


@each_notebook
def test_parameters(path):
    values = notebook.parameters(read(path))
    assert (values["profile"], values["seed"]) == ("laptop", 0)
    assert notebook.code_cells(read(path))[0].source.startswith(PARAMETERS)


@each_chapter
def test_size(path):
    cells = [cell.source.splitlines() for cell in notebook.code_cells(read(path))]
    assert max(map(len, cells)) <= 25
    assert sum(bool(line.strip()) for lines in cells for line in lines) <= 250


@each_notebook
def test_no_path_of_a_machine_in_the_source(path):
    for cell in read(path).cells:
        assert not ABSOLUTE_PATH.search(EMBEDDED.sub("", cell.source)), cell.id


def test_style():
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "."]
        done = subprocess.run(ruff, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# Committed outputs


@each_notebook
def test_outputs_come_from_this_code(path):
    found = read(path)
    course = found.metadata.get("course", {})
    assert course.get("source_sha256") == notebook.source_sha256(found), (
        f"The outputs of {path.name} do not come from its code: run make outputs."
    )
    assert set(course) == set(KEPT_COURSE)
    assert (course["profile"], course["seed"]) == ("laptop", 0)
    assert 0 < course["seconds"] < SECONDS.get(path.stem, 360)
    cells = notebook.code_cells(found)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert course["results"] == notebook.collect_results(found)


@each_notebook
def test_outputs_are_fit_to_read(path):
    for cell in notebook.code_cells(read(path)):
        for output in cell.outputs:
            tags = cell.metadata.get("tags", [])
            assert output.output_type != "error" or "raises-exception" in tags
            assert output.get("name") != "stderr", (cell.id, output.text)
            for text in texts(output):
                assert "warning" not in text.lower(), (cell.id, text)
                assert not ABSOLUTE_PATH.search(text), (cell.id, ABSOLUTE_PATH.search(text)[0])


@each_chapter
def test_results(path):
    course = read(path).metadata.get("course", {})
    results = course.get("results", {})
    assert results.keys() >= RESULTS.get(path.stem, set()) and results
    missed = {name for name, result in results.items() if met(result) is False}
    assert missed == MISSED.get(path.stem, set())


def test_what_counts_as_an_absolute_path():
    for text in ("saved to /home/ada/model.h5", "('/tmp/x/y',", r"C:\Users\ada", "file:///x"):
        assert ABSOLUTE_PATH.search(text), text
    embedded = EMBEDDED.sub("", "<img src='data:image/gif;base64,R0/lGOD/lhAQ=='/>")
    for text in ("</td></tr>", "https://arxiv.org/abs/1406.2661", "10/20/30", "and/or", embedded):
        assert not ABSOLUTE_PATH.search(text), text


# Running with nbval: all cells must go through, those tagged nbval-check-output print the same


def nbval(path) -> subprocess.CompletedProcess:
    """Run a notebook's cells where it lies, and compare the outputs of the tagged ones."""
    options = ["-p", "no:cacheprovider", "-q", "--nbval-lax", "--nbval-current-env"]
    options += ["--nbval-kernel-startup-timeout", "180", "--rootdir", str(path.parent)]
    command = [sys.executable, "-m", "pytest", *options, path.name]
    environment = os.environ | {"COURSE_DATA": str(REPOSITORY / "data")}
    environment.pop("MPLBACKEND", None)  # a kernel draws into the notebook
    return subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def smoke_root(tmp_path_factory):
    """A copy of helpers/ and notebooks/ in which every notebook has the profile smoke."""
    root = tmp_path_factory.mktemp("course")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "helpers", root / "helpers", ignore=ignored)
    for path in CHAPTERS + SOLUTIONS:
        source = load_notebook_node(str(path))
        smoke = parameterize_notebook(source, {"profile": "smoke"}, language="python")
        for number, cell in enumerate(smoke.cells):
            if notebook.INJECTED in cell.metadata.get("tags", []):
                cell["id"] = f"injected-{number}"
                cell.metadata.pop("papermill", None)
        copied = root / path.relative_to(REPOSITORY)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(nbformat.writes(smoke), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def smoke_runs(smoke_root, two_at_a_time):
    """{path: a future of its run under smoke}."""
    return two_at_a_time(
        test_every_cell_runs_under_smoke,
        "path",
        lambda path: nbval(smoke_root / path.relative_to(REPOSITORY)),
    )


@each_notebook
def test_every_cell_runs_under_smoke(path, smoke_runs):
    done = smoke_runs[path].result()
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


@pytest.mark.parametrize(
    ("cells", "passes"),
    [
        ([code("print(6 * 7)", "nbval-check-output")], True),
        ([code("1 / 0")], False),
        ([code("print(43)", "nbval-check-output")], False),
        ([code("print(43)")], True),  # not tagged: not compared
    ],
    ids=["the same output", "an exception", "another output", "untagged"],
)
def test_the_run_itself_notices(tmp_path, cells, passes):
    for cell in cells:
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="42\n")]
        cell.execution_count = 1
    path = tmp_path / "tiny.ipynb"
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)), encoding="utf-8")
    done = nbval(path)
    assert done.returncode == (0 if passes else 1), done.stdout + done.stderr


# helpers.chapters


def test_definitions_run_nothing_else(tmp_path):
    text = """import math
WIDTH, names = 3, ["a"]
seen = print("not run")
seen[0] = 1
WIDTH.x = 2
def area(r):
    return math.pi * r**2 * WIDTH
area(1 / 0)"""
    path = tmp_path / "01_tiny.ipynb"
    cells = [code(line) for line in ("first = 1", text)]
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)), encoding="utf-8")
    found = chapters.import_chapter(path)
    assert set(vars(found)) == {"first", "math", "WIDTH", "names", "area"}
    assert found.area(1) == pytest.approx(9.42477796)


# tools.notebook


def executed_notebook():
    """A notebook as an editor or papermill leaves it."""
    cells = [
        code(PARAMETERS, "parameters"),
        code("seed = 3", notebook.INJECTED),
        nbformat.v4.new_markdown_cell("Text."),
        code("show()", "keep", "papermill-error-cell-tag"),
        code("late()"),
        code("never()"),
    ]
    for cell, count in zip(cells, (4, 5, None, 9, 17, None), strict=True):
        cell.metadata |= {"scrolled": True, "papermill": {"duration": 1.5}, "collapsed": False}
        if count:
            cell.execution_count = count
    cells[3].outputs = [
        nbformat.v4.new_output(
            "display_data", {notebook.WIDGET_VIEW: {"model_id": "x"}, "text/plain": "w"}
        ),
        nbformat.v4.new_output(
            "display_data",
            {"text/plain": "<helpers.Run object at 0x7f81ab12ff>",
             notebook.RESULTS: {"fid": {"value": 1.0}}},
            metadata={"needs_background": "light"},
        ),
        nbformat.v4.new_output("execute_result", {"text/plain": "7"}, execution_count=9),
    ]  # fmt: skip
    found = nbformat.v4.new_notebook(cells=cells)
    found.metadata = nbformat.from_dict(
        {"kernelspec": {"name": "my-kernel", "display_name": "mine"}, "widgets": {"state": {}},
         "language_info": {"name": "python", "version": "3.12.1"}, "course": {"seed": 0},
         "papermill": {}}
    )  # fmt: skip
    return found


def test_normalise_leaves_only_what_is_meant():
    found = executed_notebook()
    ids = [cell.id for cell in found.cells]
    normal = notebook.normalise(found)
    nbformat.validate(normal)
    assert [cell.id for cell in normal.cells] == [ids[0], *ids[2:]]
    assert dict(normal.metadata) == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "course": {"seed": 0},
    }
    metadata = [dict(cell.metadata) for cell in normal.cells]
    assert metadata == [{"tags": ["parameters"]}, {}, {"tags": ["keep"]}, {}, {}]
    counts = [cell.execution_count for cell in notebook.code_cells(normal)]
    assert counts == [1, 2, 3, None]
    picture, value = normal.cells[2].outputs
    assert picture.data == {
        "text/plain": "<helpers.Run object>",
        notebook.RESULTS: {"fid": {"value": 1.0}},
    }
    assert picture.metadata == {} and value.execution_count == 2
    assert notebook.normalise(copy.deepcopy(normal)) == normal
    assert notebook.collect_results(normal) == {"fid": {"value": 1.0}}


def test_source_sha256_depends_on_the_code_alone():
    first = executed_notebook()
    sha = notebook.source_sha256(first)
    assert re.fullmatch("[0-9a-f]{64}", sha)
    other = notebook.normalise(executed_notebook())
    other.cells[1].source = "Better text."
    other.cells[2].outputs = []
    assert notebook.source_sha256(other) == sha
    other.cells[2].source += "  # a comment"
    assert notebook.source_sha256(other) != sha
    moved = executed_notebook()
    moved.cells[4].source, moved.cells[5].source = "", "late()\nnever()"
    assert notebook.source_sha256(moved) != sha


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([code("seed = 0")], "has 0 cells tagged"),
        ([code("a = 1", "parameters"), code("b = 1", "parameters")], "has 2 cells tagged"),
        ([code("print(1)", "parameters")], "may only hold lines such as: seed = 0"),
        ([code("seed = int('3')", "parameters")], "malformed node"),
    ],
)
def test_a_bad_parameters_cell_is_refused(cells, sentence):
    with pytest.raises(ValueError, match=sentence):
        notebook.parameters(nbformat.v4.new_notebook(cells=cells))
