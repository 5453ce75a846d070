"""Bring README.md's table of chapters up to date with the results in the notebooks.

Which results it shows stands in each notebook's metadata under ``book``, as for the book.

python -m tools.readme            rewrite the table
python -m tools.readme --check    only say whether it is up to date
"""

import base64
import pathlib
import re
import sys

import nbformat

from tools import colab
from tools.report import duration, label

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARKS = ("<!-- chapters: made by tools/readme.py -->", "<!-- end of chapters -->")


def row(path: pathlib.Path) -> str:
    """Return one chapter's row: link, measured results, time, badge."""
    source = nbformat.read(path, as_version=4)
    title = re.search(r"^# \d+ (.+)$", source.cells[0].source, re.MULTILINE).group(1)
    course = source.metadata.get("course", {"results": {}, "seconds": None})
    found = course["results"]
    measured = "; ".join(
        f"{label(name, found[name])}: {found[name]['value']:.3g} {found[name]['unit']}".strip()
        for name in source.metadata.get("book", {}).get("results", list(found)[:3])
        if name in found
    )
    link = f"[{path.stem[:2]} {title}](notebooks/{path.name})"
    return f"| {link} | {measured} | {duration(course['seconds'])} | {colab.badge(path.stem)} |"


def table() -> str:
    """Return the table between the marks."""
    rows = [row(path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
    return "\n".join(["| chapter | measured | time, min:s | |", "|---|---|---|---|", *rows])


def picture() -> bytes:
    """Return the PNG that the cell tagged ``readme-picture`` shows; empty before it has run."""
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if "readme-picture" in cell.metadata.get("tags", []):
                found = [
                    o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})
                ]
                return base64.b64decode(found[0]) if found else b""
    return b""


def main(arguments: list[str]) -> int:
    """Command line."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    wanted = f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{after}"
    image = ROOT / "docs" / "results.png"
    if "--check" in arguments:
        same = wanted == text and image.is_file() and image.read_bytes() == picture()
        print("README.md is up to date." if same else "Stale: run make colab")
        return int(not same)
    path.write_text(wanted, encoding="utf-8", newline="\n")
    image.parent.mkdir(exist_ok=True)
    image.write_bytes(picture())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
