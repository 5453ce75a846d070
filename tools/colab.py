"""Make colab/NN_*.ipynb from notebooks/: each of them runs alone, without the repository.

python -m tools.colab            write colab/
python -m tools.colab --check    only say whether colab/ is up to date
"""

import argparse
import base64
import io
import pathlib
import re
import sys
import zipfile

import nbformat

from helpers import data
from tools import notebook
from tools.jobs import LESSON

REPOSITORY = "gan-course/hands-on-gans"  # owner/name on GitHub: the one place of the address
BRANCH = "main"
ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA_SETS = re.compile(
    r"""load\(\s*["'](mnist|fashion-mnist)["']|["'](mnist|fashion-mnist)["']\s*\)"""
)
HELPERS = re.compile(r"^from helpers import (.+)$", re.M)
ASKED = {"fashion-mnist": "unpaired.load", "hub": "hub.load", "imagenet": "imagenet_classifier"}
FETCHED = ("imagenet",)  # too large for a notebook: the setup cell takes it from the repository
# module that is imported: package that has it
PACKAGES = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "matplotlib": "matplotlib",
    "ipywidgets": "ipywidgets",
    "optuna": "optuna",
    "dask": "distributed",
    "art": "adversarial-robustness-toolbox",
}
SETUP = """\
# @title Setup: run this cell first
# Made by tools/colab.py from {source}; edit that file instead.
# Unpacks what the notebook needs beside it (the readable source is in the folder helpers/ of
# https://github.com/{repository}), installs what is missing and fetches the data.
import base64, gzip, importlib.util, io, os, subprocess, sys, zipfile

BUNDLE = "{bundle}"
zipfile.ZipFile(io.BytesIO(base64.b64decode(BUNDLE))).extractall("course")
sys.path.insert(0, "course")
missing = [p for module, p in {packages!r}.items() if importlib.util.find_spec(module) is None]
if missing:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *missing])

from helpers import data, files

for name in {data_sets!r}:
    try:
        data.fetch(name)
    except files.DownloadError as error:
        print(error)
        if importlib.util.find_spec("google.colab") is None:
            raise
        from google.colab import files

        print(f"Please upload the four .gz files of {{name}}.")
        for file, content in files.upload().items():
            content = gzip.decompress(content) if file.endswith(".gz") else content
            (files.DATA / name / file.removesuffix(".gz")).write_bytes(content)

base = os.environ.get("COURSE_DATA_URL") or "{raw}"
for path, wanted in files.manifest().items():
    if path.split("/")[0] in {fetched!r}:
        files.download(f"{{base}}/{{path}}", wanted["sha256"], files.DATA / path)

import tensorflow

gpu = bool(tensorflow.config.list_physical_devices("GPU"))
print("A GPU is there: profile gpu." if gpu else "No GPU: profile laptop.")"""


def badge(name: str) -> str:
    """Return the Markdown of the badge that opens a chapter in Colab."""
    address = (
        f"https://colab.research.google.com/github/{REPOSITORY}/blob/{BRANCH}/colab/{name}.ipynb"
    )
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({address})"


def _needs(source, seen: dict) -> dict:
    """Return {chapter: notebook} of the lessons that a notebook uses, also through its helpers."""
    text = "\n".join(cell.source for cell in notebook.code_cells(source))
    for module in re.findall(r"\w+", " ".join(HELPERS.findall(text))):
        text += (ROOT / "helpers" / f"{module}.py").read_text(encoding="utf-8")
    for name in LESSON.findall(text):
        if name not in seen:
            path = ROOT / "notebooks" / f"{name}.ipynb"
            seen[name] = nbformat.read(path, as_version=4)
            _needs(seen[name], seen)
    return seen


def _bundle(lessons: dict, data_sets: list[str]) -> str:
    """Pack files, undated and with bzip2, so that every machine makes the same bytes."""
    files = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8").encode()
             for p in (ROOT / "helpers").glob("*.py")}  # fmt: skip
    manifest = ROOT / "data" / "manifest.json"
    files["data/manifest.json"] = manifest.read_text(encoding="utf-8").encode()
    kept = [f"reference/{name}.weights.h5" for name in data_sets if name in data.NAMES]
    if "hub" in data_sets:
        kept += [name for name in files.manifest() if name.startswith("hub/")]
    for name in kept:
        files[f"data/{name}"] = (ROOT / "data" / name).read_bytes()
    for name in data_sets:
        files[f"data/{name}/"] = b""
    for name, lesson in lessons.items():
        files[f"notebooks/{name}.ipynb"] = nbformat.writes(_bare(lesson)).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        for path, content in sorted(files.items()):
            member = zipfile.ZipInfo(path)
            member.create_system = 3  # otherwise Windows writes another number
            member.compress_type = archive.compression
            archive.writestr(member, content)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _linked(text: str) -> str:
    """Let links to files of the repository lead there: in Colab they have no folder around them."""
    return text.replace("](../", f"](https://github.com/{REPOSITORY}/blob/{BRANCH}/")


def _bare(source):
    """Return a copy of a notebook without outputs and without the course's metadata."""
    copy = notebook.normalise(nbformat.from_dict(source))
    copy.metadata.pop("course", None)
    for cell in notebook.code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    return copy


def make(path: pathlib.Path):
    """Return the Colab version of a chapter."""
    source = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.code_cells(source))
    data_sets = sorted(
        {a or b for a, b in DATA_SETS.findall(text)}
        | {name for name, call in ASKED.items() if call in text}
    )
    versions = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text("utf-8"), re.M)
    )
    setup = SETUP.format(
        source=f"notebooks/{path.name}",
        repository=REPOSITORY,
        bundle=_bundle(_needs(source, {}), data_sets),
        packages={module: f"{p}=={versions[p]}" for module, p in PACKAGES.items()},
        data_sets=[name for name in data_sets if name in data.NAMES],
        raw=f"https://raw.githubusercontent.com/{REPOSITORY}/{BRANCH}/data",
        fetched=[name for name in data_sets if name in FETCHED],
    )
    made = _bare(source)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source)
    for cell in notebook.code_cells(made):
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace(
                'profile = "laptop"', 'profile = "gpu" if gpu else "laptop"'
            )
    top = nbformat.v4.new_markdown_cell(badge(path.stem), id="colab-badge")
    cell = nbformat.v4.new_code_cell(setup, id="colab-setup", metadata={"cellView": "form"})
    made.cells[:0] = [top, cell]  # as a form, Colab shows the title and not half a megabyte
    made.metadata["colab"] = {"provenance": []}
    return made


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.colab")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    check = parser.parse_args(arguments).check
    folder = ROOT / "colab"
    wanted = {
        path.name: nbformat.writes(make(path)) + "\n"
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    }
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.ipynb")}
    if check:
        stale = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        print(f"Stale: {', '.join(stale)}. Run: make colab" if stale else "colab/ is up to date.")
        return int(bool(stale))
    folder.mkdir(exist_ok=True)
    for name in found.keys() - wanted.keys():
        (folder / name).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(wanted)} notebooks are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
