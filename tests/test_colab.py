"""Colab versions: fresh, small, and each of them runs alone in an empty folder."""

import base64
import gzip
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import zipfile

import nbformat
import pytest

from helpers import files
from tools import colab, readme

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LARGEST = len(CHAPTERS) * 4_000_000 // 12  # bytes, all chapters together
# These two use other chapters' definitions, the data sets and the ImageNet network. The others only
# start here (chapter 6 opens its Hub module too), and run whole once a week
# (.github/workflows/weekly.yml).
RUN_WHOLE = {"02_autoencoder", "10_adversarial_examples"}
LAST_CELL = {"06_progressive_gan": "code-26"}  # by default code-02
if os.environ.get("COURSE_WEEKLY"):
    RUN_WHOLE = set(CHAPTERS)
ALONE_SECONDS = 600  # a run under smoke takes less than a minute; this ends one that hangs


def bundled(name: str) -> dict[str, bytes]:
    """Return the files that a committed Colab version carries."""
    setup = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4).cells[1].source
    packed = base64.b85decode(re.search(r'^BUNDLE = "(.*)"$', setup, re.M)[1])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    texts = json.loads(members.pop("texts.json"))
    return members | {path: text.encode() for path, text in texts.items()}


def test_colab_is_up_to_date():
    made = {path.stem for path in (ROOT / "colab").glob("*.ipynb")}
    assert made == set(CHAPTERS), "run: make colab"
    assert colab.main(["--check"]) == 0, "run: make colab"


def test_together_they_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "colab").glob("*.ipynb")) <= LARGEST


def test_a_bundle_has_what_the_chapter_imports_and_no_more():
    first, hub = bundled("01_introduction"), bundled("06_progressive_gan")
    assert "helpers/plots.py" in first and "helpers/sources/hub.py" not in first
    assert not any(path.startswith(("data/reference", "notebooks/")) for path in first)
    assert {"helpers/sources/hub.py", "notebooks/04_dcgan.ipynb"} <= hub.keys()
    assert "data/reference/fashion-mnist.weights.h5" in hub
    assert "data/reference/mnist.weights.h5" not in hub
    assert any(path.startswith("data/hub/") for path in hub)


def test_a_stale_file_is_noticed(tmp_path, monkeypatch, capsys):
    for folder in ("notebooks", "helpers", "data/reference", "data/hub", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("requirements.txt", "data/manifest.json"):
        shutil.copy(ROOT / file, tmp_path / file)
    for name in CHAPTERS[6:]:  # six are enough
        (tmp_path / "notebooks" / f"{name}.ipynb").unlink()
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    assert colab.main([]) == 0 and colab.main(["--check"]) == 0
    path = tmp_path / "colab" / f"{CHAPTERS[0]}.ipynb"
    path.write_text(path.read_text("utf-8") + " ", encoding="utf-8")
    assert colab.main(["--check"]) == 1
    assert f"{CHAPTERS[0]}.ipynb. Run: make colab" in capsys.readouterr().out
    assert colab.main([]) == 0 and colab.main(["--check"]) == 0
    with (tmp_path / "helpers" / "sources" / "hub.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    capsys.readouterr()
    assert colab.main(["--check"]) == 1
    assert capsys.readouterr().out == "Stale: 06_progressive_gan.ipynb. Run: make colab\n"
    (tmp_path / "notebooks" / f"{CHAPTERS[0]}.ipynb").unlink()
    colab.main([])
    assert not path.exists()


def test_every_machine_makes_the_same_bytes(monkeypatch):
    path = ROOT / "notebooks" / f"{CHAPTERS[-1]}.ipynb"
    made = set()
    for platform in ("linux", "win32"):
        monkeypatch.setattr("sys.platform", platform)
        made.add(nbformat.writes(colab.make(path)))
    assert len(made) == 1


def test_what_colab_lacks_is_installed_and_versions_are_said():
    path = ROOT / "colab" / "10_adversarial_examples.ipynb"
    setup = nbformat.read(path, as_version=4).cells[1].source
    assert "'art': 'adversarial-robustness-toolbox==" in setup
    assert "'keras': '3." in setup and "tested with" in setup


def test_nothing_needs_pkg_resources():
    """tensorflow_hub does, and Colab's setuptools may lack it."""
    for name in CHAPTERS:
        for path, content in bundled(name).items():
            assert b"import tensorflow_hub" not in content, (name, path)


@pytest.mark.parametrize("name", CHAPTERS)
def test_form(name):
    made = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)
    nbformat.validate(made)
    assert (
        f"github/{colab.REPOSITORY}/blob/{colab.BRANCH}/colab/{name}.ipynb" in made.cells[0].source
    )
    tagged = [c for c in made.cells if "parameters" in c.metadata.get("tags", [])]
    assert 'profile = "gpu" if gpu else "laptop"' in tagged[0].source
    assert not any(c.get("outputs") for c in made.cells)
    prose = "".join(c.source for c in made.cells if c.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", prose)
    assert all(link.startswith("https://") for link in links), links
    there = f"https://github.com/{colab.REPOSITORY}/blob/{colab.BRANCH}/"
    for link in links:
        if link.startswith(there):
            assert (ROOT / link.removeprefix(there)).is_file(), link


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A local server that offers the data sets as their official addresses do, as .gz files."""
    folder = tmp_path_factory.mktemp("official")
    for relative in files.manifest():
        if relative.endswith(".xz"):
            path = folder / relative.replace(".xz", ".gz")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(files.content(relative), 1))
        elif relative.startswith("imagenet/"):  # too large for a notebook: from the repository
            (folder / relative).parent.mkdir(exist_ok=True)
            shutil.copy(files.DATA / relative, folder / relative)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run_alone(name, folder, official, last_cell=None):
    """Run a Colab version under smoke in an empty folder, where asked up to one of its cells."""
    source = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)
    ids = [cell.id for cell in source.cells]
    if last_cell:
        source.cells = source.cells[: ids.index(last_cell) + 1]
    nbformat.write(source, folder / f"{name}.ipynb")
    course = ("PYTHONPATH", "COURSE_DATA", "COURSE_FETCH")
    inherited = {k: v for k, v in os.environ.items() if k not in course}
    answer = subprocess.run(
        [sys.executable, "-m", "papermill", str(folder / f"{name}.ipynb"),
         str(folder / "done.ipynb"), "-p", "profile", "smoke", "--cwd", str(folder),
         "-k", "python3", "--no-progress-bar"],
        env=inherited | {"COURSE_DATA_URL": official, "MPLBACKEND": ""}, cwd=folder,
        capture_output=True, text=True, timeout=ALONE_SECONDS,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    executed = nbformat.read(folder / "done.ipynb", as_version=4)
    text = "".join(o.get("text", "") for c in executed.cells for o in c.get("outputs", []))
    assert "No GPU: profile laptop." in text or "A GPU is there" in text
    assert str(ROOT) not in text
    return executed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CHAPTERS) - RUN_WHOLE))
def test_starts_alone(name, official, tmp_path):
    """Set-up, imports and the chapter's own start, without its training."""
    run_alone(name, tmp_path, official, last_cell=LAST_CELL.get(name, "code-02"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RUN_WHOLE))
def test_runs_alone(name, official, tmp_path):
    executed = run_alone(name, tmp_path, official)
    code = "\n".join(c.source for c in executed.cells if c.cell_type == "code")
    for dataset, part in re.findall(r'data\.load\("([\w-]+)", "(train|test)"', code):
        file = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}[part]
        assert (tmp_path / "course/data" / dataset / file).is_file(), (dataset, part)


def test_an_upload_takes_the_place_of_a_source_that_is_gone(official, tmp_path):
    setup = nbformat.read(ROOT / "colab" / "03_vanilla_gan.ipynb", as_version=4).cells[1].source
    code = "\nfrom helpers import data\nprint(data.load('mnist', 'train')[0].shape, gpu in (0, 1))"
    (tmp_path / "setup.py").write_text(setup + code, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "COURSE_DATA"}

    def run():
        return subprocess.run(
            [sys.executable, "setup.py"], cwd=tmp_path, capture_output=True, text=True,
            env=environment | {"COURSE_DATA_URL": f"{official}/nowhere"}, timeout=ALONE_SECONDS,
        )  # fmt: skip

    answer = run()
    assert answer.returncode == 1
    sentence = answer.stderr.strip().splitlines()[-1]
    assert "train-images-idx3-ubyte.gz" in sentence and "upload" in sentence, sentence
    folder = tmp_path / "course" / "data" / "mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for relative in files.manifest():
        if relative.startswith("mnist/"):
            packed = pathlib.Path(relative).name.replace(".xz", ".gz")
            (folder / packed).write_bytes(gzip.compress(files.content(relative), 1))
    answer = run()
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert answer.stdout.endswith("(60000, 28, 28, 1) True\n")


def test_the_readmes_table_is_up_to_date():
    assert readme.main(["--check"]) == 0, "run: make colab"
