"""Chapters are code: use the definitions of one notebook in another, or in a test."""

import ast
import functools
import pathlib
import types

import nbformat

FOLDERS = ("notebooks", ".", "..", "../..")


def find(name: str) -> pathlib.Path:
    """Return the path of a chapter's notebook, given its name without the ending.

    Raises:
        FileNotFoundError: there is no such notebook beside or below the repository's root.
    """
    root = pathlib.Path(__file__).resolve().parent.parent
    for folder in [root / "notebooks", *(pathlib.Path(f) for f in FOLDERS)]:
        if (folder / f"{name}.ipynb").is_file():
            return folder / f"{name}.ipynb"
    raise FileNotFoundError(
        f"There is no notebook {name}.ipynb: look its name up in the folder notebooks/."
    )


def _is_chapter(value: ast.expr) -> bool:
    """Return whether this is a call of ``import_chapter``: one chapter builds on another."""
    called = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
    return called.split(".")[-1] == "import_chapter"


def _is_name(target: ast.expr) -> bool:
    """Return whether an assignment makes new names: ``a`` or ``a, b``, not ``a.x`` or ``a[0]``."""
    return all(isinstance(part, ast.Name) for part in getattr(target, "elts", [target]))


def is_definition(node: ast.stmt) -> bool:
    """Return whether ``import_chapter`` executes a statement: it defines, and computes nothing."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
        return True
    if isinstance(node, ast.Assign) and all(map(_is_name, node.targets)):
        if _is_chapter(node.value):
            return True
        try:
            ast.literal_eval(node.value)
        except ValueError:
            return False
        return True
    return False


def python(source: str) -> str:
    """Return a cell's source with IPython's own lines (``%magic``, ``!command``) as comments."""
    lines = source.splitlines()
    return "\n".join("# " + x if x.lstrip().startswith(("%", "!")) else x for x in lines)


def import_chapter(name: str | pathlib.Path) -> types.ModuleType:
    """Import a notebook's definitions without running its training.

    Only imports, functions, classes, assignments of literal constants and of another chapter's
    definitions at the top level are executed; calls, loops and plots are not.

    Args:
        name: the notebook's name, for example ``"03_vanilla_gan"``, or a path.

    Returns:
        A module with everything that was defined; the same one each time, while the file does not
        change.

    Raises:
        FileNotFoundError: there is no such notebook.
    """
    path = (name if isinstance(name, pathlib.Path) else find(name)).resolve()
    return _imported(path, path.stat().st_mtime_ns)


@functools.cache
def _imported(path: pathlib.Path, changed: int) -> types.ModuleType:
    notebook = nbformat.read(path, as_version=4)
    module = types.ModuleType(path.stem.lstrip("0123456789_") or "chapter")
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        place = f"{path.name}, code cell {number}"  # as tracebacks name it
        tree = ast.parse(python(cell.source), filename=place)
        tree.body = [node for node in tree.body if is_definition(node)]
        exec(compile(tree, place, "exec"), vars(module))
    return module
