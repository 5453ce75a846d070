"""Make colab/NN_*.ipynb from notebooks/: each of them runs alone, without the repository.

python -m tools.colab            write colab/
python -m tools.colab --check    only say whether colab/ is up to date
"""

import argparse
import ast
import base64
import bz2
import io
import json
import lzma
import pathlib
import sys
import zipfile

import nbformat

from helpers import chapters
from tools import evidence, notebook
from tools.address import BRANCH, COLAB, GITHUB, REPOSITORY
from tools.source import IMPORTS, bindings, cells, statements
from tools.walk import Walk

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Packages that Colab may lack, and the module by which each is known.
OPTIONAL = {
    "adversarial-robustness-toolbox": "art",
    "optuna": "optuna",
    "ipywidgets": "ipywidgets",
    "scikit-image": "skimage",
    "dask": "dask",
}
MEASURE = {"load_classifier", "evaluate", "real_features"}  # functions of helpers.metrics
SHOWN = ("tensorflow", "keras", "numpy")  # whose versions are printed
SETUP = """\
# @title Setup: run this cell first
# Made by tools/colab.py from notebooks/{source}; edit that file instead.
# Unpacks the course's helpers (the readable source is in the folder helpers/ of
# https://github.com/{repository}), and installs what is missing. Data come from their official
# addresses when a cell asks for them, and are checked.
import base64, importlib.metadata, importlib.util, io, json, os, pathlib, subprocess, sys, zipfile

BUNDLE = "{bundle}"
zipfile.ZipFile(io.BytesIO(base64.b85decode(BUNDLE))).extractall("course")
for name, text in json.loads(pathlib.Path("course/texts.json").read_text("utf-8")).items():
    pathlib.Path("course", name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path("course", name).write_text(text, "utf-8")
sys.path.insert(0, "course")
os.environ.setdefault("COURSE_FETCH", "https://raw.githubusercontent.com/{repository}/{branch}/data")

wanted = {packages!r}
missing = [p for module, p in wanted.items() if importlib.util.find_spec(module) is None]
if missing:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *missing])
for package, tested in {tested!r}.items():
    print(f"{{package}} {{importlib.metadata.version(package)}} (tested with {{tested}})")

import helpers
import tensorflow

gpu = bool(tensorflow.config.list_physical_devices("GPU"))
print("A GPU is there: profile gpu." if gpu else "No GPU: profile laptop.")"""


def badge(name: str) -> str:
    """Return the Markdown of the badge that opens a chapter in Colab."""
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({COLAB}/{name}.ipynb)"


def _weights(walk: Walk) -> list[str]:
    """Return the classifiers that a chapter measures with, and its own module, inside data/."""
    manifest = json.loads((ROOT / "data" / "manifest.json").read_text(encoding="utf-8"))["files"]
    named = _measured(walk)
    kept = [path for path in manifest if path.startswith("reference/")]
    kept = [path for path in kept if pathlib.Path(path).name.split(".")[0] in named]
    if "helpers.sources.hub" in walk.modules:
        kept += [path for path in manifest if path.startswith("hub/")]
    return kept


def _measured(walk: Walk) -> set[str]:
    """Return the texts that a chapter, or a helper of it, hands to what loads a classifier.

    Where a variable is handed over, all texts of that file count.
    """
    sources = ["\n".join(cells(walk.path.read_text(encoding="utf-8")))]
    others = [path for name, path in walk.modules.items() if name != "helpers.metrics"]
    sources += [path.read_text(encoding="utf-8") for path in others]
    named = set()
    for source in sources:
        tree = ast.Module(statements(source), [])
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        calls = [node for node in calls if ast.unparse(node.func).split(".")[-1] in MEASURE]
        for call in calls:
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            texts = [node for node in given if isinstance(node, ast.Constant)]
            texts = texts if any(isinstance(node.value, str) for node in texts) else ast.walk(tree)
            named |= {node.value for node in texts if isinstance(node, ast.Constant)}
    return named


def _evidence(name: str) -> str:
    """Return what is known of a chapter's other seeds, as the table looks it up."""
    known = evidence.read(ROOT)
    return json.dumps({name: known[name]} if name in known else {})


def bundle(walk: Walk) -> str:
    """Pack what a chapter imports, undated, so that every machine makes the same bytes.

    All texts are one member of the archive: together they pack better.
    """
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in [*walk.modules.values(), *walk.data.values(), ROOT / "data" / "manifest.json"]
    }
    texts["docs/evidence.json"] = _evidence(walk.path.stem)
    for name, path in walk.chapters.items():
        texts[f"notebooks/{name}.ipynb"] = _compact(_definitions(path, walk.definitions[name]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, "texts.json", json.dumps(texts, ensure_ascii=False, sort_keys=True).encode())
        for name in _weights(walk):
            _add(archive, f"data/{name}", (ROOT / "data" / name).read_bytes())
    return base64.b85encode(buffer.getvalue()).decode("ascii")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # otherwise Windows writes another number
    small = len(bz2.compress(content)) < len(lzma.compress(content))
    member.compress_type = zipfile.ZIP_BZIP2 if small else zipfile.ZIP_LZMA
    archive.writestr(member, content)


def _definitions(path: pathlib.Path, names: set[str]):
    """Return a chapter with the code cells alone that define one of these names, or import."""
    whole = _bare(nbformat.read(path, as_version=4))
    whole.cells = [
        cell
        for cell in notebook.code_cells(whole)
        if any(
            chapters.is_definition(s)
            and (isinstance(s, IMPORTS) or names & set(bindings(ast.Module([s], []))))
            for s in statements(cell.source)
        )
    ]
    return whole


def _compact(made) -> str:
    """Write a notebook without nbformat's blanks at the beginning of lines."""
    return json.dumps(json.loads(nbformat.writes(made)), ensure_ascii=False, indent=0)


def _linked(text: str) -> str:
    """Let links to files of the repository lead there: in Colab they have no folder around them."""
    return text.replace("](../", f"]({GITHUB}/")


def _bare(source):
    """Return a copy of a notebook without outputs and without the course's metadata."""
    copy = notebook.normalise(nbformat.from_dict(source))
    for name in ("course", "book"):
        copy.metadata.pop(name, None)
    for cell in notebook.code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    return copy


def _packages(walk: Walk) -> dict[str, str]:
    """Return {module: what pip installs} of the packages that Colab may lack."""
    versions = walk.packages
    return {OPTIONAL[p]: f"{p}=={v}" for p, v in versions.items() if p in OPTIONAL}


def make(path: pathlib.Path):
    """Return the Colab version of a chapter."""
    source, walk = nbformat.read(path, as_version=4), Walk(path, ROOT)
    setup = SETUP.format(
        source=path.name,
        repository=REPOSITORY,
        branch=BRANCH,
        bundle=bundle(walk),
        packages=_packages(walk),
        tested={name: walk.packages[name] for name in SHOWN if name in walk.packages},
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
    made.cells[:0] = [top, cell]  # as a form, Colab shows the title and not the bundle
    made.metadata["colab"] = {"provenance": []}
    return made


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.colab")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    check = parser.parse_args(arguments).check
    folder = ROOT / "colab"
    wanted = {
        path.name: _compact(make(path)) + "\n"
        for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
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
