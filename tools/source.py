"""Source text as syntax trees: a normal form that can be compared, and what names mean in it."""

import ast
import hashlib
import json
from collections import defaultdict

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
COMPREHENSIONS = (ast.DictComp, ast.GeneratorExp, ast.ListComp, ast.SetComp)
Path = tuple[str, ...]  # ("helpers", "plots", "show"), or ("04_dcgan.ipynb", "build_generator")


def python(cell: str) -> str:
    """Return a cell's source without IPython's own lines (``%magic``, ``!command``)."""
    return "\n".join(x for x in cell.splitlines() if not x.lstrip().startswith(("%", "!")))


def cells(text: str) -> list[str]:
    """Return the sources of a notebook's code cells, without injected parameters."""
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    own = [c for c in cells if "injected-parameters" not in c.get("metadata", {}).get("tags", [])]
    return ["".join(cell["source"]) for cell in own]


def statements(source: str) -> list[ast.stmt]:
    """Parse; what is not Python (a cell of ``%%bash``, an error) is one statement of its text."""
    try:
        return ast.parse(python(source)).body
    except SyntaxError:
        text = ast.Call(ast.Name("not_python", ast.Load()), [ast.Constant(source)], [])
        return [ast.Expr(text)]


def dump(node) -> str:
    """Write a syntax tree down: the same text under every version of Python and every layout."""
    if isinstance(node, list):
        return f"[{', '.join(dump(part) for part in node if not says_nothing(part))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        f"{name}={dump(value)}"
        for name, value in ast.iter_fields(node)
        if value not in (None, []) and name not in ("ctx", "kind", "type_comment")
    ]
    return f"{type(node).__name__}({', '.join(fields)})"


def says_nothing(node) -> bool:
    """Return whether a statement is ``pass`` or a constant, as a docstring is."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.Pass)


def sha256(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def cells_sha256(text: str) -> str:
    """Return the sha256 of a notebook's own cells, one by one: whose outputs they show."""
    return sha256("\n".join(dump(statements(cell)) for cell in cells(text)))


def chapter(node) -> Path | None:
    """Return the path of the chapter that a call of ``import_chapter`` imports."""
    if not isinstance(node, ast.Call):
        return None
    name = getattr(node.func, "attr", getattr(node.func, "id", None))
    literal = node.args and isinstance(node.args[0], ast.Constant)
    return (f"{node.args[0].value}.ipynb",) if name == "import_chapter" and literal else None


def imported(node, package: Path) -> dict[str, Path]:
    """Return {name: what it means} of an import statement."""
    if isinstance(node, ast.Import):
        return {
            a.asname or a.name.split(".")[0]: tuple(a.name.split(".")[: None if a.asname else 1])
            for a in node.names
        }
    above = package[: len(package) - node.level + 1] if node.level else ()
    module = (*above, *(node.module or "").split(".")) if node.module else above
    return {a.asname or a.name: (*module, a.name) for a in node.names}


def bindings(owner: ast.AST, package: Path = ()) -> dict[str, list]:
    """Return what the names of a module, function or comprehension are bound to.

    {name: [path of an import, definition, assigned expression, or None for anything else]}
    """
    found, outer = defaultdict(list), set()
    todo = list(ast.iter_child_nodes(owner))
    while todo:
        node = todo.pop(0)
        if isinstance(node, IMPORTS):
            for name, path in imported(node, package).items():
                found[name].append(path)
        elif isinstance(node, DEFINITIONS):
            found[node.name].append(node)
        elif isinstance(node, ast.arg):
            found[node.arg].append(None)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            outer |= set(node.names)
        elif isinstance(node, ast.Assign):
            for part in (part for target in node.targets for part in ast.walk(target)):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    found[part.id].append(node.value)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id].append(None)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found[node.name].append(None)
            todo += ast.iter_child_nodes(node)
        elif not isinstance(node, (*COMPREHENSIONS, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return {name: sources for name, sources in found.items() if name not in outer}


class Scoped(ast.NodeVisitor):
    """A visitor that knows what a name means where it stands.

    The names of a class are not looked at: its methods do not see them.
    """

    def __init__(self, module):
        self.module, self.scopes = module, [module.scope]

    def _function(self, node):
        outside = [node.generators[0].iter] if hasattr(node, "generators") else [
            *node.args.defaults, *filter(None, node.args.kw_defaults)]  # fmt: skip
        for part in outside:  # evaluated where the function is defined
            self.visit(part)
        self.scopes.append(bindings(node, self.module.package))
        done = self.generic_visit(node)
        self.scopes.pop()
        return done

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _function

    def sources(self, name: str) -> tuple[list, bool]:
        """Return what a name is bound to, and whether that is at the top level."""
        for depth, scope in reversed([*enumerate(self.scopes)]):
            if name in scope:
                return scope[name], depth == 0
        return [("builtins", name)], False

    def paths(self, node) -> set[Path]:
        """Return the paths that an expression may stand for; none for a local value."""
        if isinstance(node, ast.Attribute):
            return {(*path, node.attr) for path in self.paths(node.value)}
        if not isinstance(node, ast.Name):
            return {path} if (path := chapter(node)) else set()
        found, (sources, top) = set(), self.sources(node.id)
        for source in sources:
            if isinstance(source, tuple):
                found.add(source)
            elif top:
                found.add((*self.module.key, node.id))
            elif chapter(source):
                found.add(chapter(source))
        return found
