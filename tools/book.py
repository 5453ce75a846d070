"""Build the book: a site made from the committed notebooks, which needs no network to be read.

    python -m tools.book                 writes book/, to be opened at book/index.html
    python -m tools.book --out folder    the same into another folder

No notebook is executed. The texts of ``docs/book`` and the notebooks go into a temporary folder in
the form that Sphinx reads (``tools/pages.py``), and Sphinx turns each warning into an error.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jinja2
import nbformat

from tools import evidence, pages
from tools.address import COLAB, GITHUB
from tools.report import duration, label

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "docs" / "book"
TEXTS = ("docs/*.md", "benchmarks/README.md", "data/README.md")
LIVE = ("game", "latent_plane", "latent_walk")  # the live pages, in the order of the book
MARK = ".buildinfo"  # Sphinx leaves it in a folder that it wrote


class BookProblem(RuntimeError):
    """The book cannot be built; the message says what to do."""


# Files that are not written by hand: their sha256 stand in docs/book/files.json


def listed() -> dict[str, dict]:
    """Return the entries of docs/book/files.json: {path: {"sha256", "bytes", ...}}."""
    return json.loads((SOURCES / "files.json").read_text(encoding="utf-8"))


def register(relative: str, content: bytes, **facts) -> None:
    """Enter a file of ``docs/book`` in the list, in place of an older entry."""
    digest = hashlib.sha256(content).hexdigest()
    entries = listed() | {relative: {"sha256": digest, "bytes": len(content), **facts}}
    text = json.dumps(dict(sorted(entries.items())), indent=1) + "\n"
    (SOURCES / "files.json").write_text(text, encoding="utf-8", newline="\n")


def altered() -> list[str]:
    """Return the listed files that are missing or not what the list says."""
    wanted = {name: entry["sha256"] for name, entry in listed().items()}
    found = {
        name: hashlib.sha256((SOURCES / name).read_bytes()).hexdigest()
        for name in wanted
        if (SOURCES / name).is_file()
    }
    return sorted(name for name in wanted if found.get(name) != wanted[name])


# What the front page says


def first_sentence(text: str) -> str:
    """Return the first sentence below the title of a Markdown text."""
    below = re.sub(r"^# .*\n+", "", text)
    return re.match(r"(.*?[.?!])?(?=\s|$)", below.replace("\n", " "))[0].strip()


def card(page: pages.Page) -> dict:
    """Return what the front page says about a chapter.

    Its sentence, the cell with its picture and its results stand in the notebook's metadata under
    ``book``. Without them the first sentence, the cell tagged ``readme-picture`` or the first
    picture, and the first result have to do.
    """
    metadata = page.notebook.metadata
    course, book = metadata.get("course", {}), metadata.get("book", {})
    found = course.get("results", {})
    names = [name for name in [*book.get("results", []), *found] if name in found]
    cells = page.notebook.cells
    first = cells[0].source
    tagged = [c.id for c in cells if "readme-picture" in c.metadata.get("tags", [])]
    wished = [page.shown[id] for id in [book.get("picture"), *tagged] if id in page.shown]
    file, text = [*wished, *page.shown.values(), (None, "")][0]
    return {
        "number": page.name.split("/")[1][:2],
        "title": re.search(r"^# \d+ (.+)$", first, re.MULTILINE)[1],
        "page": page.name,
        "sentence": book.get("sentence") or first_sentence(first),
        "picture": file,
        "text": text,
        "label": label(names[0], found[names[0]]) if names else "",
        "measured": f"{found[names[0]]['value']:.3g} {found[names[0]]['unit']}" if names else "",
        "time": duration(course.get("seconds")),
    }


# The sources of Sphinx


def linker(place: pathlib.PurePosixPath, staged: set[str]):
    """Return a function that keeps a link to a page and sends others to the repository."""

    def linked(target: str) -> str:
        path, hash_, part = target.partition("#")
        absolute = (ROOT / place.parent / path).resolve()
        inside = absolute.is_relative_to(ROOT)
        relative = absolute.relative_to(ROOT).as_posix() if inside else ""
        if relative in staged or not absolute.exists() or absolute.suffix == ".png":
            return target
        return f"{GITHUB}/{relative}{hash_}{part}"

    return linked


def files_of(name: str) -> str:
    """Return the line under a chapter's title: its notebook and its version for Colab."""
    file = name.split("/")[1] + ".ipynb"
    return (
        f'<p class="files">As a file: <a href="{file}" download>the notebook</a>, '
        f'<a href="../colab/{file}" download>the version for Colab</a> '
        f'(<a href="{COLAB}/{file}">open it in Colab</a>)</p>'
    )


def stage(folder: pathlib.Path) -> None:
    """Write everything that Sphinx reads into a folder."""
    extra = folder / "extra"
    (extra / "pictures").mkdir(parents=True)
    texts = [path for pattern in TEXTS for path in sorted(ROOT.glob(pattern))]
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    solutions = sorted((ROOT / "notebooks" / "solutions").glob("[0-9][0-9]_*.ipynb"))
    places = [path.relative_to(ROOT).as_posix() for path in [*texts, *notebooks, *solutions]]
    cards = []
    for place in places:
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        linked = linker(pathlib.PurePosixPath(place), set(places))
        if place.endswith(".md"):
            text = (ROOT / place).read_text(encoding="utf-8")
            target.write_text(pages.text_of_page(text, linked), encoding="utf-8")
            continue
        page = pages.Page(ROOT / place, place.removesuffix(".ipynb"), extra / "pictures")
        made = page.prepared(linked)
        if "/solutions/" not in place:
            cards.append(card(page))
            title, _, rest = made.cells[0].source.partition("\n")
            made.cells[0].source = f"{title}\n\n{files_of(page.name)}\n{rest}"
        nbformat.write(made, target)
    (folder / "docs" / "results.png").write_bytes((ROOT / "docs" / "results.png").read_bytes())
    for name in ("notebooks", "colab"):
        (extra / name).mkdir()
        for path in (ROOT / name).glob("[0-9][0-9]_*.ipynb"):
            shutil.copy(path, extra / name)
    shutil.copytree(SOURCES / "live", extra / "live", ignore=shutil.ignore_patterns("*.jinja"))
    loader = jinja2.FileSystemLoader(SOURCES)
    templates = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    told = {"cards": cards, "evidence": evidence.read(ROOT), "files": listed()}
    told["solutions"] = [path.stem for path in solutions]
    told["live"] = [page for page in LIVE if f"live/{page}.weights.js" in told["files"]]
    for path in sorted(SOURCES.rglob("*.jinja")):
        name = path.relative_to(SOURCES).as_posix()
        if name.startswith("live/") and path.name.split(".")[0] not in told["live"]:
            continue  # its weights are not made yet: tools/train_live.py
        target = folder / name.removesuffix(".jinja")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = templates.get_template(name).render(told)
        target.write_text(text + "\n", encoding="utf-8")


def build(out: pathlib.Path) -> None:
    """Write the book into a folder; an older book there is replaced.

    Raises:
        BookProblem: the folder holds something else, a file of the book was altered, or Sphinx has
            a complaint.
    """
    if out.exists() and not (out / MARK).is_file() and any(out.iterdir()):
        raise BookProblem(f"{out} holds something that is not the book: name another folder.")
    if wrong := altered():
        raise BookProblem(
            f"{wrong[0]} in docs/book is missing or was altered: git checkout -- docs/book "
            "restores it."
        )
    with tempfile.TemporaryDirectory() as temporary:
        sources, made = pathlib.Path(temporary, "sources"), pathlib.Path(temporary, "book")
        stage(sources)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
        command += ["-c", str(SOURCES), "-d", str(pathlib.Path(temporary, "doctrees"))]
        command += ["-D", f"html_extra_path={sources / 'extra'}"]
        code = subprocess.run([*command, str(sources), str(made)], cwd=sources).returncode
        if code:
            raise BookProblem("The book was not written: Sphinx has the complaints above.")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.book", description="Build the book.")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "book", help="the folder")
    out = parser.parse_args(arguments).out
    try:
        build(out)
    except BookProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"The book is ready: open {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
