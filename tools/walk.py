"""What belongs to a notebook, and whether it changed: one walk through helpers and chapters.

The batch runner, Colab, the committed outputs and the evidence all ask here. The walk reads source
text only; nothing is imported or run:

    walk = Walk("notebooks/10_adversarial_examples.ipynb")
    walk.modules      files of this repository that it imports, directly or not
    walk.data         files beside these modules that they name, such as a table
    walk.chapters     notebooks whose definitions it uses, directly or not
    walk.packages     the versions that requirements.txt pins of the packages it needs
    walk.code         sha256 of all code that is reached, name by name
    walk.computes()   sha256 of the part that makes the numbers under one profile

Comments, docstrings, layout and the borders of cells count for neither hash, nor does a function
that nobody reaches; what else ``computes`` leaves out stands in ``tools/computes.py``.
"""

import ast
import functools
import hashlib
import pathlib
import re
from collections import defaultdict

from tools.computes import Strip
from tools.source import (
    DEFINITIONS,
    IMPORTS,
    Path,
    Scoped,
    bindings,
    cells,
    chapter,
    dump,
    imported,
    says_nothing,
    sha256,
    statements,
)

FILE = re.compile(r"[\w-]+\.\w+")
ROOT = pathlib.Path(__file__).resolve().parent.parent
# Import names whose package is called otherwise in requirements.txt.
PACKAGES = {
    "IPython": "jupyterlab",
    "PIL": "pillow",
    "art": "adversarial-robustness-toolbox",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


class Uses(Scoped):
    """Collects what a statement uses: paths, and what imported names it uses mean."""

    def __init__(self, module: "Module", statement: ast.stmt):
        super().__init__(module)
        self.paths_used: set[Path] = set()
        self.meanings: set[str] = set()
        self.texts: set[str] = set()
        self.visit(statement)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and FILE.fullmatch(node.value):
            self.texts.add(node.value)

    def visit_Name(self, node):
        self._use(node)

    def visit_Attribute(self, node):
        base = node.value
        while isinstance(base, ast.Attribute):
            base = base.value
        if isinstance(base, ast.Name):
            self._use(node)
        elif chapter(base):
            self._use(node)
            self.visit(base.func)
        else:
            self.visit(base)

    def visit_Assign(self, node):
        if chapter(node.value):  # not yet a use of all of the chapter
            self.visit(node.value.func)
        else:
            self.generic_visit(node)

    def visit_Call(self, node):
        if chapter(node):
            self.paths_used.add(chapter(node))
        self.generic_visit(node)

    def _use(self, node):
        self.paths_used |= self.paths(node)
        while isinstance(node, ast.Attribute):
            node = node.value
        if isinstance(node, ast.Name):
            sources, top = self.sources(node.id)
            means = [".".join(source) for source in sources if top and isinstance(source, tuple)]
            self.meanings |= {f"{node.id} means {meaning}" for meaning in means}


def _runs(statement: ast.stmt, notebook: bool) -> bool:
    """Return whether a statement does something beside giving names.

    In a notebook an assignment may train; in a module it only names a constant.
    """
    if isinstance(statement, ast.Assign) and not chapter(statement.value):
        names = all(isinstance(target, (ast.Name, ast.Tuple)) for target in statement.targets)
        calls = any(isinstance(node, ast.Call) for node in ast.walk(statement.value))
        return not names or (notebook and calls)
    return not isinstance(statement, (*DEFINITIONS, *IMPORTS, ast.Assign, ast.AnnAssign))


def _registers(statement: ast.stmt) -> bool:
    """Return whether a definition is put into a register, where it is found without its name."""
    decorators = getattr(statement, "decorator_list", [])
    return any("register" in ast.unparse(decorator) for decorator in decorators)


class Module:
    """The statements of one file, and what each of them binds.

    Args:
        key: its path, such as ``("helpers", "plots")``; ``("",)`` for the one where a walk begins.
        text: what the file holds.
        suffix: ``".ipynb"`` or ``".py"``.
        package: the path of the package that relative imports start from.
        profile: the profile whose numbers are meant; None leaves everything in.
    """

    def __init__(self, key: Path, text: str, suffix: str, package: Path, profile: str | None):
        self.key, self.package = key, package
        sources = cells(text) if suffix == ".ipynb" else [text]
        tree = ast.Module([s for source in sources for s in statements(source)], [])
        self.imports = self._find_imports(tree)
        self.scope = bindings(tree, package)
        if profile is not None:
            tree = Strip(self, profile).visit(tree)
            self.scope = bindings(tree, package)
        begins, other = key == ("",), key[0].endswith(".ipynb")
        if other:  # import_chapter runs definitions only
            tree.body = [s for s in tree.body if not _runs(s, notebook=True)]
        self.statements = tree.body
        self.binds = {}  # {name: numbers of the statements that bind it}
        for number, statement in enumerate(self.statements):
            for name in bindings(ast.Module([statement], []), package):
                self.binds.setdefault(name, []).append(number)
        everything = begins and profile is None
        self.effects = [
            number for number, s in enumerate(self.statements)
            if everything or _registers(s) or _runs(s, notebook=begins)
        ]  # fmt: skip
        self.uses = functools.cache(lambda number: Uses(self, self.statements[number]))

    def _find_imports(self, tree) -> set[Path]:
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {tuple(alias.name.split(".")) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= set(imported(node, self.package).values())
            elif path := chapter(node):
                found.add(path)
        return found

    def lines(self, numbers: set[int]) -> list[str]:
        """Write these statements down; definitions first, by name: their order says nothing."""
        moved, fixed, meanings = [], [], set()
        for number in sorted(numbers):
            statement = self.statements[number]
            if isinstance(statement, IMPORTS) or says_nothing(statement):
                continue
            meanings |= self.uses(number).meanings
            once = isinstance(statement, DEFINITIONS) and len(self.binds[statement.name]) == 1
            (moved if once else fixed).append(dump(statement))
        return [f"in {'.'.join(self.key)}", *sorted(meanings), *sorted(moved), *fixed]


_module = functools.lru_cache(maxsize=None)(Module)


class Walk:
    """Everything that a notebook (or a Python file) needs, found in its text.

    Args:
        path: the notebook or the Python file where the walk begins.
        root: the repository.
        text: what the file holds, where that is not what is on the disk.

    Attributes:
        modules: {"helpers.plots": its file} for all modules that are imported, directly or not.
        data: {"helpers/sources/grocery.csv": its file} for files beside the modules that their
            texts name.
        chapters: {"04_dcgan": its file} for all chapters whose definitions are imported.
        packages: {name: version pinned in requirements.txt} of all packages that are imported.
    """

    def __init__(self, path, root=ROOT, text: str | None = None):
        self.path, self.root, self._text = pathlib.Path(path), pathlib.Path(root), text
        self._files: dict[Path, pathlib.Path] = {}
        imported, todo = set(), [("",)]
        while todo:
            key = todo.pop()
            if key not in self._files and (file := self._find(key)):
                self._files[key] = file
                found = self._read(key, None).imports
                imported |= {path[0] for path in found}
                todo += [path[:n] for path in found for n in range(1, len(path) + 1)]
        others = sorted((key, file) for key, file in self._files.items() if key != ("",))
        self.modules = {".".join(key): file for key, file in others if file.suffix == ".py"}
        self.data = {
            file.relative_to(self.root).as_posix(): file
            for key in self._files
            for number in range(len(self._read(key, None).statements))
            for file in self._beside(key, self._read(key, None).uses(number).texts)
        }
        self.chapters = {file.stem: file for _, file in others if file.suffix == ".ipynb"}
        names = {PACKAGES.get(name, name.replace("_", "-").lower()) for name in imported}
        text = (self.root / "requirements.txt").read_text(encoding="utf-8")
        pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))
        used = names | {"tensorflow", "keras"}
        self.packages = {name: version for name, version in pinned.items() if name in used}

    def _find(self, key: Path) -> pathlib.Path | None:
        """Return the file of this repository, or beside the notebook, that a path means."""
        if key == ("",):
            return self.path
        beside = self.path.parent
        if key[0].endswith(".ipynb"):
            places = [folder / key[0] for folder in (self.root / "notebooks", beside)]
        else:
            inner = [folder.joinpath(*key) for folder in (beside, self.root)]
            places = [p for i in inner for p in (i.with_name(i.name + ".py"), i / "__init__.py")]
        return next((place for place in places if place.is_file()), None)

    def _beside(self, key: Path, texts: set[str]) -> list[pathlib.Path]:
        """Return the files that stand beside a module and that these texts name."""
        file = self._files[key]
        found = [file.with_name(text) for text in sorted(texts)] if file.suffix == ".py" else []
        return [f for f in found if f.suffix != ".py" and f.is_file()]

    def _read(self, key: Path, profile: str | None) -> Module:
        file = self._files[key]
        package = key if file.name == "__init__.py" else key[:-1]
        given = self._text if key == ("",) else None
        text = file.read_text(encoding="utf-8") if given is None else given
        return _module(key, text, file.suffix, package, profile)

    def _take(self, profile: str | None) -> tuple[dict[Path, Module], dict[Path, set[int]]]:
        """Return all files, and the numbers of the statements of each that are reached."""
        modules = {key: self._read(key, profile) for key in self._files}
        taken, seen = defaultdict(set), set()
        todo = [(module, number) for module in modules.values() for number in module.effects]

        def reach(path: Path):
            """Take the statements that a path leads to."""
            if path in seen:
                return
            seen.add(path)
            length = next((n for n in range(len(path), 0, -1) if path[:n] in modules), None)
            if length is None:
                return  # not ours
            module, rest = modules[path[:length]], path[length:]
            whole = not rest or rest[0] not in module.scope
            for name in module.scope if whole else rest[:1]:
                todo.extend((module, number) for number in module.binds.get(name, []))
                for source in [] if whole else module.scope[name]:
                    meaning = source if isinstance(source, tuple) else chapter(source)
                    if meaning:
                        reach((*meaning, *rest[1:]))

        while todo:
            module, number = todo.pop()
            if number not in taken[module.key]:
                taken[module.key].add(number)
                if not isinstance(module.statements[number], IMPORTS):
                    for path in module.uses(number).paths_used:
                        reach(path)
        return modules, taken

    def _hash(self, profile: str | None) -> str:
        modules, taken = self._take(profile)
        lines = []
        for key, numbers in sorted(taken.items()):
            lines += modules[key].lines(numbers)
            texts = {text for number in numbers for text in modules[key].uses(number).texts}
            for file in self._beside(key, texts):
                content = file.read_bytes().replace(b"\r\n", b"\n")
                lines.append(f"{file.name} is {hashlib.sha256(content).hexdigest()}")
        return sha256("\n".join(lines))

    @functools.cached_property
    def definitions(self) -> dict[str, set[str]]:
        """{"04_dcgan": the names that are reached} for all chapters whose definitions are used."""
        modules, taken = self._take(None)
        reached = {}
        for name, file in self.chapters.items():
            key = (file.name,)
            numbers = taken.get(key, set())
            reached[name] = {n for n, where in modules[key].binds.items() if numbers & set(where)}
        return reached

    @functools.cached_property
    def code(self) -> str:
        """The sha256 of all code that is reached: what the runner executes a chapter again for."""
        return self._hash(None)

    @functools.cache  # noqa: B019 (a walk lives as long as a run)
    def computes(self, profile: str = "laptop") -> str:
        """Return the sha256 of the code that makes the numbers under a profile."""
        return self._hash(profile)
