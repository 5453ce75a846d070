"""Every notebook: its form, its outputs, and a run of all its cells under the profile smoke."""

import ast
import base64
import copy
import io
import os
import re
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image
from tiny_course import PARAMETERS, REPOSITORY, code

from helpers import chapters
from tools import notebook, source
from tools.batch import KEPT_COURSE
from tools.report import met
from tools.walk import Walk

CHAPTERS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((REPOSITORY / "notebooks" / "solutions").glob("*.ipynb"))
RESULTS = {
    "01_introduction": {"js_divergence_error"},
    "02_autoencoder": {"ae32_vs_pca32_error_reduction", "vae2_elbo"},
    "03_vanilla_gan": {"fid", "recall", "smallest_class_share", "largest_class_share"},
    "04_dcgan": {"fid", "recall", "smallest_class_share", "largest_class_share",
                 "fid_ratio_to_dense_gan", "fid_plain_equal_cost", "cost_in_plain_steps",
                 "fid_ratio_to_dense_gan_averaged"},
    "05_training_and_evaluation": {
        "alarm_miss_rate", "alarm_false_rate", "fid_shift_resize", "fid_shift_jpeg",
        "grid25_modes", "grid25_high_quality", "fid_infinity"},
    "06_progressive_gan": {"fid_progressive", "fid_direct", "cost_ratio_to_direct",
                           "cost_ratio_to_best_direct", "swd_mean", "hub_module_fid"},
    "07_semi_supervised_gan": {
        "accuracy_100_labels", "accuracy_100_labels_sd", "accuracy_100_labels_supervised",
        "accuracy_100_labels_consistency_only", "ood_auroc", "ece"},
    "08_conditional_gan": {"class_accuracy", "intra_class_recall", "recall_of_real",
                           "class_accuracy_fashion", "intra_class_recall_fashion",
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
    "13_your_pictures": {
        "kid_left_out", "kid_left_out_se", "kid_shrunk_half", "kid_shrunk_quarter",
        "kid_two_halves", "copied_share", "distinct_neighbours"},
}  # fmt: skip
MAY_MISS = {  # see the chapters
    "05_training_and_evaluation": {"grid25_high_quality", "losses_that_reach_both"},
    "09_cyclegan": {"target_domain_share_boots"},
    "11_applications": {"gan_minus_classic_ci_low"},
    "12_what_comes_next": {"detector_accuracy"},
}
# Their outputs were made before the course was rearranged. Only take names out: make outputs.
NOT_EXECUTED_SINCE = {
    "10_adversarial_examples",
}
EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(?:[\w.+-]+/)+[\w.+-]*|\b[A-Za-z]:\\|file://")
WARNING = re.compile(r"\w+Warning: ")
LARGEST = 3 * 2**19  # bytes
CELL_SECONDS, NOTEBOOK_SECONDS = 300, 900  # after which a run under smoke has hung


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
    assert len(text) <= LARGEST, f"{path.name} has more than 1.5 MiB: make its pictures smaller."
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
def test_a_chapter_starts_with_its_name_and_its_own_options(path):
    """The table looks its evidence up by them."""
    code = "\n".join(source.cells(path.read_text(encoding="utf-8")))
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    (start,) = [call for call in calls if ast.unparse(call.func) == "experiment.start"]
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in start.keywords}
    options = notebook.parameters(read(path)).keys() - {"profile", "seed"}
    assert given == {"chapter": repr(path.stem)} | {name: name for name in options}


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
    shown = source.cells_sha256(path.read_text(encoding="utf-8"))
    computes = Walk(path).computes()
    fresh = (course.get("source_sha256"), course.get("computes_sha256")) == (shown, computes)
    if name_of(path) in NOT_EXECUTED_SINCE:
        assert not fresh, f"{path.name} was executed: take it out of NOT_EXECUTED_SINCE."
        return
    assert fresh, f"The outputs of {path.name} do not come from today's code: run make outputs."
    assert set(course) == set(KEPT_COURSE)
    assert (course["profile"], course["seed"]) == ("laptop", 0)
    assert course["seconds"] > 0 and 0 < course["cpu_seconds"] < 3600
    cells = notebook.code_cells(found)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert course["results"] == notebook.collect_results(found)


def test_only_notebooks_that_exist_wait_for_their_execution():
    assert {name_of(path) for path in CHAPTERS + SOLUTIONS} >= NOT_EXECUTED_SINCE


@each_notebook
def test_outputs_are_fit_to_read(path):
    for cell in notebook.code_cells(read(path)):
        for output in cell.outputs:
            tags = cell.metadata.get("tags", [])
            assert output.output_type != "error" or "raises-exception" in tags
            assert output.get("name") != "stderr", (cell.id, output.text)
            for text in texts(output):
                assert not WARNING.search(text), (cell.id, text)
                assert not ABSOLUTE_PATH.search(text), (cell.id, ABSOLUTE_PATH.search(text)[0])


@each_chapter
def test_results(path):
    waits = name_of(path) in NOT_EXECUTED_SINCE
    course = read(path).metadata.get("course")
    if course is None:  # new
        assert waits
        return
    results = course["results"]
    assert results
    if waits:  # under the names of before
        return
    assert results.keys() >= RESULTS.get(path.stem, set())
    missed = {name for name, result in results.items() if met(result) is False}
    assert missed <= MAY_MISS.get(path.stem, set())


def test_what_counts_as_an_absolute_path():
    for text in ("saved to /home/ada/model.h5", "('/tmp/x/y',", r"C:\Users\ada", "file:///x"):
        assert ABSOLUTE_PATH.search(text), text
    embedded = EMBEDDED.sub("", "<img src='data:image/gif;base64,R0/lGOD/lhAQ=='/>")
    for text in ("</td></tr>", "https://arxiv.org/abs/1406.2661", "10/20/30", "and/or", embedded):
        assert not ABSOLUTE_PATH.search(text), text


# Running with nbval: all cells must go through, those tagged nbval-check-output print the same


def nbval(path, cell_seconds=CELL_SECONDS) -> subprocess.CompletedProcess:
    """Run a notebook's cells where it lies, and compare the outputs of the tagged ones."""
    options = ["-p", "no:cacheprovider", "-q", "--nbval-lax", "--nbval-current-env"]
    options += ["--nbval-cell-timeout", str(cell_seconds)]
    options += ["--nbval-kernel-startup-timeout", "180", "--rootdir", str(path.parent)]
    command = [sys.executable, "-m", "pytest", *options, path.name]
    environment = os.environ | {"COURSE_DATA": str(REPOSITORY / "data")}
    environment.pop("MPLBACKEND", None)  # a kernel draws into the notebook
    return subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, encoding="utf-8",
        timeout=NOTEBOOK_SECONDS,
    )  # fmt: skip


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


@pytest.mark.slow
@each_notebook
def test_every_cell_runs_under_smoke(path, smoke_root):
    done = nbval(smoke_root / path.relative_to(REPOSITORY))
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


def test_a_notebook_that_hangs_ends_in_a_clear_failure(tmp_path):
    path = tmp_path / "hangs.ipynb"
    cells = [code("import time\nwhile True:\n    time.sleep(1)")]
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)), encoding="utf-8")
    done = nbval(path, cell_seconds=3)
    assert done.returncode == 1 and "timeout" in done.stdout.lower(), done.stdout + done.stderr


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
    names = {name for name in vars(found) if not name.startswith("__")}
    assert names == {"first", "math", "WIDTH", "names", "area"}
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
            {"text/plain": "<helpers.Run object at 0x7f81ab12ff>", "image/png": "AAAA",
             notebook.RESULTS: {"fid": {"value": 1.0}}},
            metadata={"needs_background": "light", "image/png": {"alt": "Two digits.", "width": 9}},
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
        "image/png": "AAAA",
        notebook.RESULTS: {"fid": {"value": 1.0}},
    }
    assert picture.metadata == {"image/png": {"alt": "Two digits."}}  # and nothing else
    assert value.metadata == {} and value.execution_count == 2
    assert notebook.normalise(copy.deepcopy(normal)) == normal
    assert notebook.collect_results(normal) == {"fid": {"value": 1.0}}


def png(pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def pixels_of(picture: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    return np.asarray(image.convert("RGB"), np.float64)


def test_large_pictures_become_smaller_and_keep_their_colours():
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 230, 400)
    smooth = np.stack([slope[:, None] + 0 * slope, slope + 0 * slope[:, None],
                       np.full((400, 400), 90)], axis=-1)  # fmt: skip
    photo = (smooth + rng.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)
    kind, small = notebook.smaller(png(photo))
    assert kind == "image/jpeg" and len(small) < len(png(photo)) / 3
    blurred = [p.reshape(50, 8, 50, 8, 3).mean((1, 3)) for p in (pixels_of(small), photo * 1.0)]
    assert np.abs(blurred[0] - blurred[1]).max() < 4  # no bands, no shifted hue

    grey = np.repeat(rng.integers(0, 256, (500, 500, 1), np.uint8), 3, axis=-1)
    kind, small = notebook.smaller(png(grey))
    assert kind == "image/png" and np.array_equal(pixels_of(small), grey)
    few = rng.integers(0, 2, (900, 900, 1), np.uint8) * np.uint8([255, 128, 7])
    kind, small = notebook.smaller(png(few))
    assert kind == "image/png" and np.array_equal(pixels_of(small), few)
    tiny = png(photo[:20, :20])
    assert notebook.smaller(tiny) == ("image/png", tiny)


def test_the_text_of_a_picture_stays_when_it_becomes_a_jpeg(monkeypatch):
    monkeypatch.setattr(notebook, "LARGE_PICTURE", 10)
    photo = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    found = executed_notebook()
    found.cells[3].outputs[1].data["image/png"] = png(photo)
    picture = notebook.normalise(found).cells[2].outputs[0]
    assert "image/png" not in picture.data and "image/jpeg" in picture.data
    assert picture.metadata == {"image/jpeg": {"alt": "Two digits."}}
    before = copy.deepcopy(found)
    assert notebook.normalise(found) == before


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


def test_the_hook_before_a_commit_makes_the_normal_form(tmp_path, capsys):
    """The command that .pre-commit-config.yaml names, and the versions that it installs."""
    path = tmp_path / "own.ipynb"
    found = read(CHAPTERS[0])
    found.cells[0].metadata["collapsed"] = True
    path.write_text(nbformat.writes(found), encoding="utf-8")
    assert notebook.main([str(path)]) == 1
    assert "own.ipynb is now in its normal form." in capsys.readouterr().out
    assert path.read_text("utf-8") == CHAPTERS[0].read_text("utf-8")
    assert notebook.main([str(path)]) == 0 and not capsys.readouterr().out
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text("utf-8")
    assert "entry: python -m tools.notebook\n" in hooks
    pinned = (REPOSITORY / "requirements.txt").read_text("utf-8")
    for requirement in re.findall(r'"([\w-]+==[\d.]+)"', hooks):
        assert f"\n{requirement}" in pinned, requirement
