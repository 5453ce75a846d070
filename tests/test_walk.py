"""What counts as changed: the walk over a copy of the repository in which something is edited."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest
from tiny_course import REPOSITORY, code, edit

from tools import source
from tools.walk import Walk


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what a walk reads."""
    root = tmp_path_factory.mktemp("course")
    for name in ("helpers", "notebooks"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    shutil.copy(REPOSITORY / "requirements.txt", root)
    return root


def hashes(root, chapter: str) -> tuple[str, str]:
    walk = Walk(root / "notebooks" / f"{chapter}.ipynb", root)
    return walk.code, walk.computes()


@pytest.fixture
def changed(copy):
    """Edit a file and say for a chapter whether (code, computes) changed; then undo the edit."""

    def changed(file: str, old: str, new: str, chapter: str) -> tuple[bool, bool]:
        path = copy / file
        text, before = path.read_text(encoding="utf-8"), hashes(copy, chapter)
        if path.suffix == ".ipynb":
            old, new = (json.dumps(part)[1:-1] for part in (old, new))
        assert text.count(old) >= 1, old
        path.write_text(text.replace(old, new), encoding="utf-8")
        after = hashes(copy, chapter)
        path.write_text(text, encoding="utf-8")
        assert hashes(copy, chapter) == before
        return tuple(x != y for x, y in zip(before, after, strict=True))

    return changed


DISCRIMINATOR = ("notebooks/04_dcgan.ipynb", "def build_discriminator(image_shape",
                 "def build_discriminator(image_shape, *unused")  # fmt: skip
GENERATOR = ("notebooks/04_dcgan.ipynb", "def build_generator(latent_dim",
             "def build_generator(latent_dim, *unused")  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "chapter", "expected"),
    [
        (DISCRIMINATOR, "04_dcgan", (True, True)),
        (DISCRIMINATOR, "10_adversarial_examples", (True, True)),
        (GENERATOR, "11_applications", (True, True)),
        (DISCRIMINATOR, "09_cyclegan", (False, False)),
        (("helpers/plots.py", "def image_grid(", "plt.ioff()\n\n\ndef image_grid("),
         "04_dcgan", (True, False)),
        (("helpers/metrics.py", "def fid(", "def fid(*unused, "), "04_dcgan", (True, True)),
        (("helpers/metrics.py", "def fid(", "def fid(*unused, "), "01_introduction",
         (False, False)),
        (("helpers/simulate/fruit.py", 'KINDS = ("apple", "orange")',
          'KINDS = ("orange", "apple")'), "09_cyclegan", (True, True)),
        (("helpers/data.py", "def batches(", "def unreached():\n    pass\n\n\ndef batches("),
         "04_dcgan", (False, False)),
        (("helpers/data.py", "def batches(", "# a comment\ndef batches("), "04_dcgan",
         (False, False)),
        (("helpers/__init__.py", "import os", "import os\nos.environ['SPEED'] = '1'"),
         "01_introduction", (True, True)),
        (("notebooks/04_dcgan.ipynb", "smoke=", "smoke=3 + "), "04_dcgan", (True, False)),
        (("notebooks/04_dcgan.ipynb", "laptop=", "laptop=3 + "), "04_dcgan", (True, True)),
    ],
)  # fmt: skip
def test_what_an_edit_of_the_course_changes(changed, edit, chapter, expected):
    assert changed(*edit, chapter) == expected


def test_what_a_chapter_needs(copy):
    walk = Walk(copy / "notebooks" / "10_adversarial_examples.ipynb", copy)
    assert {"03_vanilla_gan", "04_dcgan"} <= set(walk.chapters)
    needed = {"helpers", "helpers.files", "helpers.studies", "helpers.sources.imagenet"}
    assert needed <= set(walk.modules) and "helpers.sources.hub" not in walk.modules
    assert {"tensorflow", "keras", "adversarial-robustness-toolbox", "pillow"} <= set(walk.packages)
    assert not {"optuna", "pytest", "papermill"} & set(walk.packages)


def test_a_walk_does_not_load_tensorflow():
    script = "import sys, tools.walk; print('tensorflow' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout == "False False\n", done.stderr


# One notebook, line by line

HELPER = '''"""A helper."""
import math
from helpers import plots

WIDTH = 3


def area(r):
    return math.pi * r * WIDTH


def unused():
    return WIDTH
'''
NOTEBOOK = """\
import numpy as np
from helpers import callbacks, compute, experiment, plots, shapes
import matplotlib.pyplot as plt
run = experiment.start("laptop", 0)
n = run.pick(smoke=1, laptop=2, gpu=3)
def sample(count):
    return shapes.area(count)
_, ax = plt.subplots()
ax.plot(sample(1), label="one")
plots.show("One line.")
gan.fit(n, callbacks=[callbacks.Progress()], **compute.compile_options(10))
for k, ax in enumerate(axes):
    ax.set_title(f"{k}")
print(f"{n} steps")
experiment.record("area", sample(n), 3, ">=", label="the area")
experiment.table()"""


@pytest.fixture
def small(root):
    """The path of a small notebook in a repository of its own."""
    for name in ("callbacks", "chapters", "compute", "experiment", "plots"):
        (root / "helpers" / f"{name}.py").write_text("X = 1\n", encoding="utf-8")
    (root / "helpers" / "plots.py").write_text("def show(alt):\n    pass\n", encoding="utf-8")
    (root / "helpers" / "shapes.py").write_text(HELPER, encoding="utf-8")
    return write(root, NOTEBOOK)


def write(root, text, name="01_one"):
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    cells = [code(part) for part in text.split("\n#%%\n")]
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "computes"),
    [
        ("smoke=1", "smoke=5", False),
        ("laptop=2", "laptop=4", True),
        ('label="one"', 'label="two"', False),
        ("One line.", "A line.", False),
        ("sample(1)", "sample(2)", True),  # a call inside of a plot draws random numbers, perhaps
        ("plt.subplots()", "plt.subplots(1, 2)", False),
        ("callbacks=[callbacks.Progress()], ", "", False),
        ("callbacks=[callbacks.Progress()]", "callbacks=[callbacks.Progress(), x()]", True),
        (", **compute.compile_options(10)", "", False),
        ('print(f"{n} steps")', 'print(len(axes), "steps")', False),
        ('print(f"{n} steps")', 'print(sample(n), "steps")', True),
        ('print(f"{n} steps")', "n += 1", True),
        ("ax.set_title", "ax.set_xlabel", False),
        ('3, ">=", label="the area"', '4, "<=", label="an area"', False),
        ('"area", sample(n)', '"other", sample(n)', True),
        ('"area", sample(n)', '"area", sample(n + 1)', True),
        ("experiment.table()", "", False),
        ("def sample(count):", "def sample(count, plots=None):", True),
    ],
)
def test_what_an_edit_of_a_notebook_changes(root, small, old, new, computes):
    before = hashes(root, "01_one")
    assert NOTEBOOK.count(old) == 1
    write(root, NOTEBOOK.replace(old, new))
    code_before, computes_before = before
    code_after, computes_after = hashes(root, "01_one")
    assert code_after != code_before
    assert (computes_after != computes_before) is computes


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("WIDTH = 3", "WIDTH = 4", True),
        ("def unused():\n    return WIDTH", "def unused():\n    return 1", False),
        ('"""A helper."""', '"""Another text."""', False),
        ("return math.pi * r * WIDTH", "return (math.pi * r) * WIDTH  # the same", False),
        ("import math", "import cmath as math", True),
        ("WIDTH = 3\n", "WIDTH = 3\nprint = exit()\n", False),
        ("WIDTH = 3\n", "WIDTH = 3\nmath.pi = 3\n", True),  # runs when the helper is imported
    ],
)
def test_what_an_edit_of_a_helper_changes(root, small, old, new, changes):
    before = hashes(root, "01_one")
    edit(root / "helpers" / "shapes.py", old, new)
    assert [a != b for a, b in zip(hashes(root, "01_one"), before, strict=True)] == [changes] * 2


def test_comments_layout_and_the_borders_of_cells_do_not_count(root, small):
    before = hashes(root, "01_one")
    cell_before = source.cells_sha256(small.read_text(encoding="utf-8"))
    text = NOTEBOOK.replace("def sample(count):", 'def sample(count):  # a comment\n    """Say."""')
    text = text.replace("sample(1), ", "sample(1),\n    ")
    write(root, text)
    assert hashes(root, "01_one") == before
    assert source.cells_sha256(small.read_text(encoding="utf-8")) == cell_before
    write(root, text.replace("\nprint", "\n#%%\n%matplotlib inline\nprint"))
    assert hashes(root, "01_one") == before
    assert source.cells_sha256(small.read_text(encoding="utf-8")) != cell_before


@pytest.mark.parametrize(
    "use",
    [
        "from helpers import chapters\nchapters.import_chapter('02_two').build()",
        "from helpers.chapters import import_chapter\ntwo = import_chapter('02_two')\ntwo.build()",
        "import helpers.chapters\ndef f():\n    two = helpers.chapters.import_chapter('02_two')\n"
        "    return two.build()\nf()",
        "from helpers import through\nthrough.build()",
        "from helpers import chapters\nthree = chapters.import_chapter('03_three')\n"
        "three.two.build()",
        "from helpers import chapters\nvars(chapters.import_chapter('02_two'))",
    ],
)
def test_every_way_to_another_chapter_is_followed(root, small, use):
    two = "from helpers import shapes\nSIZE = 1\ndef build():\n    return SIZE\nshapes.area(1)"
    write(root, two, "02_two")
    write(root, "from helpers import chapters\ntwo = chapters.import_chapter('02_two')", "03_three")
    through = "from helpers import chapters\ntwo = chapters.import_chapter('02_two')\n"
    through += "def build():\n    return two.build()\n"
    (root / "helpers" / "through.py").write_text(through, encoding="utf-8")
    path = write(root, use)
    assert "02_two" in Walk(path, root).chapters
    assert "helpers.shapes" in Walk(path, root).modules
    before = hashes(root, "01_one")
    write(root, two.replace("shapes.area(1)", "shapes.area(2)"), "02_two")  # is not imported
    assert hashes(root, "01_one") == before
    write(root, two.replace("SIZE = 1", "SIZE = 2"), "02_two")
    assert all(a != b for a, b in zip(hashes(root, "01_one"), before, strict=True))


def test_a_local_name_is_not_a_module_and_an_attribute_is(root, small):
    text = "from helpers import shapes\ndef f(shapes):\n    return shapes.area(1)\nf(2)"
    write(root, text)
    before = hashes(root, "01_one")
    edit(root / "helpers" / "shapes.py", "WIDTH = 3", "WIDTH = 4")
    assert hashes(root, "01_one") == before
    text = "from helpers import shapes\nclass A:\n    shapes = 1\n    def f(self):\n"
    write(root, text + "        return shapes.area(1)\nA().f()")
    before = hashes(root, "01_one")
    edit(root / "helpers" / "shapes.py", "WIDTH = 4", "WIDTH = 5")
    assert hashes(root, "01_one")[1] != before[1]


def test_a_table_beside_a_helper_belongs_to_it(root, small):
    edit(root / "helpers" / "shapes.py", "WIDTH = 3\n", "WIDTH = open('shapes.csv')\n")
    table = root / "helpers" / "shapes.csv"
    table.write_text("a,1\n", encoding="utf-8")
    assert Walk(small, root).data == {"helpers/shapes.csv": table}
    before = hashes(root, "01_one")
    table.write_text("a,2\n", encoding="utf-8")
    assert all(a != b for a, b in zip(hashes(root, "01_one"), before, strict=True))


def test_cells_that_are_not_python_and_files_that_systems_leave(root, small):
    text = NOTEBOOK + "\n#%%\n%%bash\nls -l"
    write(root, text)
    before = hashes(root, "01_one")
    (root / "helpers" / "._shapes.py").write_bytes(b"\0\5\x16\7\xb0")
    (root / "notebooks" / "._01_one.ipynb").write_bytes(b"\0\5\x16\7\xb0")
    assert hashes(root, "01_one") == before
    write(root, text.replace("ls -l", "rm -r x"))
    assert hashes(root, "01_one")[1] != before[1]
