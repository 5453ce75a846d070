"""What computes a notebook's numbers: its code without what only shows.

Cut are plots, print, progress lines and device options, but not calls inside them that compute;
``run.pick`` becomes its value under one profile; of a recorded result the name and the value stay,
not its label or target. In doubt something stays: a false "changed" costs minutes, a false
"unchanged" would be a lie.
"""

import ast

from tools.source import COMPREHENSIONS, DEFINITIONS, Scoped

PROFILES = ("smoke", "laptop", "gpu")
# What only shows, or only says how the device works: its value computes nothing.
SILENT = (
    ("builtins", "print"),
    ("builtins", "display"),
    ("IPython",),
    ("logging",),
    ("matplotlib",),
    ("warnings",),
    ("helpers", "callbacks", "Progress"),
    ("helpers", "compute", "check_cost_ratio"),
    ("helpers", "compute", "compile_options"),
    ("helpers", "compute", "fall_back_without_xla"),
    ("helpers", "compute", "prepare_devices"),
    ("helpers", "experiment", "compare"),
    ("helpers", "experiment", "table"),
)
PLOTS = (("helpers", "plots"),)  # shows as well, but where its value is used it counts
SHOW_METHODS = {"show", "summary"}
AXES = {"ax", "axes", "axis", "fig", "figure"}  # parameters and loop variables of these names
# Functions and methods that change nothing: inside of a plot or a print they may come and go.
PURE = {"abs", "bool", "dict", "enumerate", "float", "format", "int", "isinstance", "len", "list",
        "max", "min", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple",
        "type", "zip"}  # fmt: skip
PURE_METHODS = {"astype", "count_params", "format", "items", "join", "keys", "max", "mean", "min",
                "numpy", "reshape", "round", "std", "sum", "tolist", "values"}  # fmt: skip
# Kept as a whole where something inside is kept.
WHOLE = (*COMPREHENSIONS, ast.BoolOp, ast.IfExp, ast.Lambda, ast.NamedExpr)


class Strip(Scoped, ast.NodeTransformer):
    """Leaves of a module what computes numbers under one profile."""

    def __init__(self, module, profile: str):
        super().__init__(module)
        self.profile = profile
        self._asked: set[str] = set()

    def aside(self, node, kinds=SILENT) -> bool:
        """Return whether an expression is a function, or an object, that only shows."""
        while isinstance(node, (ast.Call, ast.Subscript)):
            node = node.func if isinstance(node, ast.Call) else node.value
        paths = self.paths(node)
        if paths and all(any(p[: len(kind)] == kind for kind in kinds) for p in paths):
            return True
        if isinstance(node, ast.Attribute):  # a histogram's counts may well be used
            return not node.attr.startswith("hist") and self.aside(node.value, kinds)
        if not isinstance(node, ast.Name) or node.id in self._asked:
            return False
        self._asked.add(node.id)  # as in: ax = ax.twinx()
        sources, _ = self.sources(node.id)
        found = all(
            node.id in AXES if source is None else
            isinstance(source, ast.expr) and self.aside(source, kinds)
            for source in sources
        )  # fmt: skip
        self._asked.remove(node.id)
        return found

    def kept(self, node) -> list[ast.expr]:
        """Return the parts of something that is cut which may compute."""
        inside = [part for child in ast.iter_child_nodes(node) for part in self.kept(child)]
        if isinstance(node, WHOLE):
            return [node] if inside else []
        if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
            return [node]
        if isinstance(node, ast.Call) and not self._cut(node) and not self._pure(node.func):
            return [node]
        if isinstance(node, (ast.Name, ast.Attribute)) and self._function_of_ours(node):
            return [node]
        return inside

    def _pure(self, function) -> bool:
        if isinstance(function, ast.Attribute) and function.attr in PURE_METHODS:
            return True
        paths = self.paths(function)
        return bool(paths) and all(
            path[-1] in PURE if path[0] == "builtins" else
            path[0] == "numpy" and "random" not in path
            for path in paths
        )  # fmt: skip

    def _function_of_ours(self, node) -> bool:
        """Return whether a name is a function of ours, which what shows would call."""
        paths = self.paths(node)
        if isinstance(node, ast.Name):
            return any(isinstance(source, DEFINITIONS) for source in self.sources(node.id)[0])
        return any(path[0] == "helpers" or path[0].endswith(".ipynb") for path in paths) and (
            not self.aside(node, SILENT + PLOTS)
        )

    def _cut(self, call: ast.Call) -> bool:
        method = isinstance(call.func, ast.Attribute) and call.func.attr in SHOW_METHODS
        return method or self.aside(call.func, SILENT + PLOTS)

    def _instead(self, *nodes) -> list[ast.stmt]:
        return [ast.Expr(part) for node in nodes for part in self.kept(node)]

    def visit_Expr(self, node):
        self.generic_visit(node)
        cut = isinstance(node.value, ast.Call) and self._cut(node.value)
        return self._instead(node.value) if cut or not self.kept(node.value) else node

    def visit_Assign(self, node):
        self.generic_visit(node)
        aside = self.aside(node.value) and isinstance(node.value, ast.Call)
        inside = [t for t in node.targets if isinstance(t, (ast.Attribute, ast.Subscript))]
        aside = aside or (inside == node.targets and all(self.aside(t.value) for t in inside))
        return self._instead(node.value) if aside else node

    def visit_Raise(self, node):
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call) and not any(map(self.kept, node.exc.args)):
            node.exc = node.exc.func  # what it says does not compute
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        sizes = {k.arg: k.value for k in node.keywords}
        if getattr(node.func, "attr", "") == "pick" and set(sizes) == set(PROFILES):
            return sizes[self.profile]
        if ("helpers", "experiment", "record") in self.paths(node.func):
            node.args = node.args[:2] + [a for a in node.args[2:] if self.kept(a)]
            node.keywords = [
                k for k in node.keywords if k.arg in ("name", "value") or self.kept(k.value)
            ]
        node.keywords = [
            k for k in node.keywords
            if not (k.arg is None and self.aside(k.value))
            and not (k.arg == "callbacks" and isinstance(k.value, ast.List) and not k.value.elts)
        ]  # fmt: skip
        return node

    def visit_List(self, node):
        self.generic_visit(node)
        node.elts = [part for part in node.elts if not self.aside(part)]
        return node

    def _block(self, node):
        """Cut a loop, a condition or a ``with`` in which nothing is left."""
        self.generic_visit(node)
        if node.body or getattr(node, "orelse", None):
            node.body = node.body or [ast.Pass()]
            return node
        heads = [getattr(node, name, None) for name in ("test", "iter")]
        heads += [item.context_expr for item in getattr(node, "items", [])]
        return self._instead(*filter(None, heads))

    visit_If = visit_For = visit_With = _block
