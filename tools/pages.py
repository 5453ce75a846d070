"""Notebooks as pages of the book.

Each picture stands in a figure with its text for those who cannot see it, each animation has a
still strip, tables have headers and scroll in a box of their own, and the solutions are folded.
"""

import ast
import base64
import html
import io
import pathlib
import re

import bs4
import nbformat
from PIL import Image

from tools import notebook

GIF = re.compile(r'<img[^>]*?src="data:image/gif;base64,([^"]+)"[^>]*>')
WIDTH = re.compile(r"width:\s*(\d+)px")
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
TITLE = re.compile(r"^(?=## )", re.MULTILINE)  # before the title of an exercise
SOLUTION = re.compile(r"`(solutions/[\w.]+\.ipynb)`")
SCROLLS = '<div class="scrolls" role="region" aria-label="{}" tabindex="0">{}</div>'
MOMENTS = 6  # of an animation, in its still strip
NO_TEXT = "A picture without a description: the text beside it says what it shows."


def texts_in_code(source: str) -> list[str]:
    """Return the texts for pictures that a cell's code gives: ``show("...")``, ``alt="..."``."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:  # a line of IPython's own
        return []
    found = []
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        given = [keyword.value for keyword in call.keywords if keyword.arg == "alt"]
        given += call.args[:1] if ast.unparse(call.func) == "plots.show" else []
        found += [node.value for node in given if isinstance(node, ast.Constant)]
    return [text for text in found if isinstance(text, str)]


class Page:
    """One notebook on its way into the book.

    Args:
        path: the committed notebook.
        name: its place in the book without the ending, ``notebooks/04_dcgan``.
        pictures: the folder that takes its pictures; it lies at the top of the book.
    """

    def __init__(self, path: pathlib.Path, name: str, pictures: pathlib.Path):
        self.notebook = nbformat.read(path, as_version=4)
        self.name = name
        self.folder = pictures
        self.up = "../" * name.count("/")
        self.shown = {}  # id of a cell: (file, text) of its first picture

    def keep(self, content: bytes, ending: str) -> str:
        """Write a picture; return its file's name."""
        stem = self.name.removeprefix("notebooks/").replace("/", "-")
        number = sum(1 for _ in self.folder.glob(f"{stem}-*")) + 1
        file = f"{stem}-{number}.{ending}"
        (self.folder / file).write_bytes(content)
        return file

    def image(self, content: bytes, ending: str, text: str, width: int | None = None) -> str:
        """Keep a picture and return its ``img``; its size is said so that nothing jumps."""
        across, down = Image.open(io.BytesIO(content)).size
        width = width or across
        source = f"{self.up}{self.folder.name}/{self.keep(content, ending)}"
        return (
            f'<img src="{source}" alt="{html.escape(text)}" width="{width}" '
            f'height="{round(width * down / across)}" loading="lazy" decoding="async">'
        )

    def animation(self, content: bytes, text: str, width: int | None) -> str:
        """Return the figure of an animation: moving, or its strip for those who want no motion."""
        strip = self.keep(still_strip(content), "png")
        source = f"{self.up}{self.folder.name}/{strip}"
        return (
            f'<figure class="picture animation"><picture>'
            f'<source srcset="{source}" media="(prefers-reduced-motion: reduce)">'
            f"{self.image(content, 'gif', text, width)}</picture></figure>"
        )

    def output(self, cell, output, fallback: str) -> None:
        """Bring one output into the form in which the book shows it."""
        data = output.get("data", {})
        data.pop(notebook.RESULTS, None)
        kinds = [kind for kind in data if kind in ("image/png", "image/jpeg")]
        metadata = output.get("metadata", {})
        text = next((metadata[k]["alt"] for k in kinds if metadata.get(k, {}).get("alt")), fallback)
        moving = GIF.search(data.get("text/html", ""))
        if moving:
            width = WIDTH.search(moving[0])
            content = base64.b64decode(moving[1])
            shown = self.animation(content, text, int(width[1]) if width else None)
        elif kinds:
            ending = kinds[0].split("/")[1]
            image = self.image(base64.b64decode(data[kinds[0]]), ending, text)
            shown = f'<figure class="picture">{image}</figure>'
        elif "text/html" in data:
            shown = tables(data["text/html"])
        else:
            return
        if moving or kinds:
            file = re.search(r'src="[./]*([^"]+)"', shown)[1]
            self.shown.setdefault(cell.id, (file, text))
        output["data"] = {"text/html": shown}
        output["metadata"] = {}

    def code(self, cell) -> None:
        """Bring the outputs of a code cell into the book's form."""
        texts = texts_in_code(cell.source)
        number = 0
        for output in cell.outputs:
            pictures = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            last = min(number, len(texts) - 1)
            self.output(cell, output, texts[last] if texts else NO_TEXT)
            number += bool(pictures)

    def prepared(self, linked):
        """Return the notebook for Sphinx; ``linked`` changes the target of a link in a text."""
        for cell in self.notebook.cells:
            if cell.cell_type == "code":
                self.code(cell)
            else:
                cell.source = text_of_page(cell.source, linked)
        if "/solutions/" in self.name:
            fold_answers(self.notebook)
        return self.notebook


def still_strip(content: bytes) -> bytes:
    """Return some frames of a GIF side by side, as a PNG."""
    film = Image.open(io.BytesIO(content))
    count = min(MOMENTS, film.n_frames)
    chosen = [round(i * (film.n_frames - 1) / max(count - 1, 1)) for i in range(count)]
    columns = count if film.width <= film.height else -(-count // 2)
    rows = -(-count // columns)
    gap = 6
    size = (columns * (film.width + gap) - gap, rows * (film.height + gap) - gap)
    strip = Image.new("RGB", size, "white")
    for place, frame in enumerate(chosen):
        film.seek(frame)
        row, column = divmod(place, columns)
        corner = (column * (film.width + gap), row * (film.height + gap))
        strip.paste(film.convert("RGB"), corner)
    buffer = io.BytesIO()
    strip.quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def tables(text: str) -> str:
    """Give each table of an HTML output headers that say what they head, and a box to scroll in."""
    soup = bs4.BeautifulSoup(text, "html.parser")
    for style in soup.find_all("style"):
        style.decompose()
    for table in soup.find_all("table"):
        for tag in [table, *table.find_all(True)]:
            tag.attrs = {k: v for k, v in tag.attrs.items() if k in ("colspan", "rowspan")}
        rows = table.find_all("tr")
        for row in rows:
            for cell in row.find_all("th"):
                if not cell.get_text(strip=True):
                    cell.name = "td"
                else:
                    first = row is rows[0] or row.find_parent("thead") is not None
                    cell["scope"] = "col" if first else "row"
        table["class"] = "table"
    return SCROLLS.format("Table", soup) if soup.find("table") else str(soup)


def text_of_page(text: str, linked) -> str:
    """Return a Markdown text with its links, drawings and named solutions as the book has them."""
    text = SOLUTION.sub(lambda found: f"[`{found[1]}`]({found[1]})", text)
    text = LINK.sub(lambda found: linked(found[1]), text)
    return MERMAID.sub(
        lambda found: f'<pre class="mermaid">\n{html.escape(found[1], quote=False)}</pre>', text
    )


def fold_answers(solutions) -> None:
    """Fold what stands below each exercise's title, so that a reader can try first."""
    parts = []
    for cell in solutions.cells:
        texts = TITLE.split(cell.source) if cell.cell_type == "markdown" else []
        if len(texts) < 2:
            parts.append(cell)
        else:  # a title may also follow what closes the exercise before
            parts += [nbformat.v4.new_markdown_cell(text) for text in texts if text.strip()]
    cells, opened = [], False
    for cell in parts:
        starts = cell.cell_type == "markdown" and cell.source.startswith("## ")
        if starts and opened:
            cells.append(nbformat.v4.new_markdown_cell("</details>"))
        if starts:
            title, _, rest = cell.source.partition("\n")
            opening = '<details class="answer"><summary>Show the answer</summary>'
            cell.source = f"{title}\n\n{opening}\n\n{rest.strip()}"
            opened = True
        cells.append(cell)
    if opened:
        cells.append(nbformat.v4.new_markdown_cell("</details>"))
    solutions.cells = cells
