"""How much one step of a notebook's code asks of its reader.

    python -m tools.pacing                    all chapters
    python -m tools.pacing 04_dcgan ...       some of them

Two figures, which line breaks do not change:

- nodes: nodes of Python's syntax tree (expressions and statements) for each statement. Notebooks
  that people praise have 6.3 to 8.9; here a revised chapter has at most 8.0.
- tricks for each 100 statements: a walrus, a lambda, tuple = tuple, a = b = c, a comprehension in a
  comprehension; half for ``x if y else z`` and for ``*unpacking``. At most 3.0.

Definitions that a notebook takes from another chapter are read by its readers too, and count. The
figures are a smoke alarm; the judge is a reader who knows a little Keras.
"""

import ast
import pathlib
import sys

import nbformat
import pandas as pd

from tools.source import chapter, statements

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_NODES, MOST_TRICKS = 8.0, 3.0
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def tricks(node: ast.AST) -> float:
    """Return how many tricks a node is."""
    if isinstance(node, (ast.NamedExpr, ast.Lambda)):
        return 1
    if isinstance(node, (ast.IfExp, ast.Starred)):
        return 0.5
    if isinstance(node, ast.Assign):
        pair = isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
        return pair + (len(node.targets) > 1)
    if isinstance(node, COMPREHENSIONS):
        made = node.value if isinstance(node, ast.DictComp) else node.elt
        nested = any(isinstance(inner, COMPREHENSIONS) for inner in ast.walk(made))
        return (len(node.generators) > 1) + nested
    return 0


def pace(trees) -> tuple[float, float]:
    """Return nodes a statement and tricks per 100 statements of some syntax trees."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    parts = sum(isinstance(node, (ast.expr, ast.stmt)) for node in nodes)
    return parts / max(statements, 1), 100 * sum(map(tricks, nodes)) / max(statements, 1)


def borrowed(path: pathlib.Path, trees) -> list[ast.AST]:
    """Return the definitions of other chapters that a chapter's code names."""
    whole = ast.Module([statement for tree in trees for statement in tree.body], [])
    aliases = {
        node.targets[0].id: chapter(node.value)[0]
        for node in whole.body
        if isinstance(node, ast.Assign) and chapter(node.value)
    }
    used = {
        (aliases[node.value.id], node.attr)
        for node in ast.walk(whole)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in aliases
    }
    found = []
    for other in sorted({name for name, _ in used}):
        for tree in code(path.with_name(other)):
            found += [node for node in tree.body if (other, getattr(node, "name", "")) in used]
    return found


def code(path: pathlib.Path) -> list[ast.Module]:
    """Return the syntax tree of each code cell of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [ast.Module(statements(c.source), []) for c in cells if c.cell_type == "code"]


def measure(path: pathlib.Path) -> tuple[float, float]:
    """Return the two figures of a chapter, with what it takes from other chapters."""
    own = code(path)
    return pace([*own, *borrowed(path, own)])


def main(names: list[str]) -> int:
    """Command line."""
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    rows = []
    for path in paths:
        if not names or path.stem in names or path.stem[:2] in names:
            nodes, found = measure(path)
            smooth = nodes <= MOST_NODES and found <= MOST_TRICKS
            rows.append(
                (path.stem, round(nodes, 1), round(found, 1), "" if smooth else "too dense")
            )
    columns = ["chapter", "nodes a statement", "tricks per 100", ""]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
