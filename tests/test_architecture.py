"""The house: what lies where, which way imports run, and that docs/architecture.md shows it."""

import ast
import pathlib
import re

import pytest

from helpers import chapters

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELPERS = ROOT / "helpers"
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
# What may import what: each level only what stands after it (and its own modules).
LEVELS = ("studies", "sources", "simulate", "top")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def modules() -> dict[str, pathlib.Path]:
    """Return {"data" or "sources.hub": path} of all modules of helpers/."""
    paths = [p for p in HELPERS.rglob("*.py") if p.name[0] not in "._"]
    names = {".".join(p.relative_to(HELPERS).with_suffix("").parts): p for p in paths}
    return {name: path for name, path in names.items() if not name.endswith("__init__")}


def imported(tree) -> set[str]:
    """Return the modules of helpers/ that a piece of code imports."""
    found, known = set(), modules()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
        else:
            continue
        found |= {name.removeprefix("helpers.") for name in names if name.startswith("helpers.")}
    return found & known.keys()


IMPORTS = {
    name: imported(ast.parse(path.read_text(encoding="utf-8"))) for name, path in modules().items()
}
TOP = {name for name in IMPORTS if "." not in name}


def level(name: str) -> int:
    return LEVELS.index(name.split(".")[0] if "." in name else "top")


def in_chapter(path) -> set[str]:
    """Return the modules that a chapter uses, directly or through others."""
    import nbformat

    found, cells = set(), nbformat.read(path, as_version=4).cells
    for cell in cells:
        if cell.cell_type == "code":
            found |= imported(ast.parse(chapters.python(cell.source)))
    todo = list(found)
    while todo:
        new = IMPORTS[todo.pop()] - found
        found |= new
        todo += new
    return found


USED = {path.stem: in_chapter(path) for path in CHAPTERS}


def test_the_top_holds_what_three_chapters_use():
    assert len(TOP) <= 9
    for name in TOP:
        users = [chapter for chapter, used in USED.items() if name in used]
        assert len(users) >= 3, f"{name} serves {users}: move it one level down."


def test_every_module_serves_a_chapter_and_has_no_number():
    used = set().union(*USED.values())
    assert IMPORTS.keys() - used == set()
    assert not [name for name in IMPORTS if re.search(r"\d", name)]
    folders = {p.name for p in HELPERS.iterdir() if p.is_dir() and p.name[0] not in "._"}
    assert folders == {*LEVELS[:3]}


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_imports_run_downwards(name):
    for other in IMPORTS[name]:
        assert level(other) >= level(name), f"{name} imports {other}, which lies above it."


def test_no_circles():
    done = set()
    while left := {name for name in IMPORTS if name not in done}:
        free = {name for name in left if IMPORTS[name] <= done}
        assert free, f"These import each other: {sorted(left)}"
        done |= free


def test_no_helper_imports_a_notebook():
    for name, path in modules().items():
        text = path.read_text(encoding="utf-8")
        assert name == "chapters" or "import_chapter" not in text, name


# The page


def test_the_picture_shows_the_imports():
    drawn = set(re.findall(r"^ {4}([\w.]+) --> ([\w.]+)$", PAGE, flags=re.M))
    real = {(name, other) for name in TOP for other in IMPORTS[name]}
    for package in LEVELS[:3]:
        for name in IMPORTS:
            if name.startswith(f"{package}."):
                others = {other.split(".")[0] for other in IMPORTS[name]}
                real |= {(package, other) for other in others - {package}}
    inside = {(a, b) for a, b in drawn if a != "notebooks"}
    assert inside == real, f"draw {real - inside}, take out {inside - real}"


def test_the_page_names_every_module_once_with_its_job():
    rows = re.findall(r"^\| `([\w/.]+)` \| .{20,}\|$", PAGE, flags=re.M)
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in ("helpers", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and path.name[0] != "."
    }
    assert len(rows) == len(set(rows)) and set(rows) == wanted, set(rows) ^ wanted
