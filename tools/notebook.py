"""Notebooks as files: their parameters, their results, their normal form.

python -m tools.notebook NOTEBOOK...     bring them into the form in which they are committed
"""

import ast
import base64
import io
import pathlib
import re
import sys

import nbformat
import numpy as np
from PIL import Image

RESULTS = "application/vnd.course.results+json"
INJECTED = "injected-parameters"
LARGE_PICTURE = 100_000  # characters of base64
KEPT_METADATA = ("kernelspec", "language_info", "course", "book")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"(<[\w.]+(?: object)?) at 0x[0-9a-f]+")


def code_cells(notebook) -> list:
    """Return the code cells, without the parameters that papermill injects."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]


def collect_results(notebook) -> dict[str, dict]:
    """Return the results that the notebook's outputs carry: {name: {value, target, ...}}."""
    results = {}
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            results.update(output.get("data", {}).get(RESULTS, {}))
    return results


def tagged(notebook) -> list:
    """Return the cells tagged ``parameters``."""
    return [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]


def parameters(notebook) -> dict:
    """Return the names and default values of the cell tagged ``parameters``.

    Raises:
        ValueError: the notebook does not have exactly one such cell, or one of its lines is
            not ``name = literal``.
    """
    cells = tagged(notebook)
    if len(cells) != 1:
        raise ValueError(
            f"The notebook has {len(cells)} cells tagged 'parameters': give it exactly one."
        )
    values = {}
    for node in ast.parse(cells[0].source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            raise ValueError("The parameters cell may only hold lines such as: seed = 0")
        values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def smaller(picture: str) -> tuple[str, str]:
    """Return the MIME type and the base64 text of a PNG, made smaller where that does not show.

    A small picture stays as it is. Of a large one the palette of 256 is enough where it has no more
    colours or only greys; other colours would show bands, so they become a JPEG if that is smaller.
    """
    if len(picture) < LARGE_PICTURE:
        return "image/png", picture
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return "image/png", picture
    image = image.convert("RGB")
    pixels = np.asarray(image, np.int16)
    few = image.getcolors(256) is not None or np.ptp(pixels, axis=-1).max() == 0
    buffer = io.BytesIO()
    if few:
        image.quantize(256).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    small = base64.b64encode(buffer.getvalue()).decode("ascii")
    if len(small) >= len(picture):
        return "image/png", picture
    return ("image/png" if few else "image/jpeg"), small


def _normal_output(output):
    data = output.get("data")
    if data is not None:
        if WIDGET_VIEW in data:  # a saved widget has no kernel behind it
            return None
        for kind in ("text/plain", "text/html"):
            if isinstance(data.get(kind), str):
                data[kind] = ADDRESS.sub(r"\1", data[kind])
        alt = next((m["alt"] for m in _pictures(output) if "alt" in m), None)
        if "image/png" in data:
            kind, picture = smaller(data.pop("image/png"))
            data[kind] = picture
        pictures = [kind for kind in data if kind.startswith("image/")]
        output["metadata"] = {kind: {"alt": alt} for kind in pictures if alt}
    if output.output_type != "execute_result":
        output.pop("execution_count", None)
    return output


def _pictures(output) -> list[dict]:
    """Return the metadata of an output's pictures."""
    metadata = output.get("metadata", {})
    return [value for kind, value in metadata.items() if kind.startswith("image/")]


def normalise(notebook):
    """Bring a notebook into the form in which it is committed, and return it.

    Only kernelspec, language, the course's metadata, what the front pages say about a chapter
    (``book``) and the texts that stand for pictures (``alt``) stay; cells keep their ids and tags;
    the injected parameters, timings, widget states and memory addresses go; execution counts run
    1, 2, 3, ... over the executed cells.
    """
    notebook.cells = [c for c in notebook.cells if INJECTED not in c.metadata.get("tags", [])]
    notebook.metadata = nbformat.NotebookNode(
        {k: v for k, v in notebook.metadata.items() if k in KEPT_METADATA}
    )
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for number, cell in enumerate(notebook.cells, 1):
        tags = [t for t in cell.metadata.get("tags", []) if not t.startswith("papermill")]
        cell.metadata = nbformat.NotebookNode({"tags": tags} if tags else {})
        if not cell.get("id"):
            cell["id"] = f"cell-{number:03d}"
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in map(_normal_output, cell.outputs) if o is not None]
        executed = cell.execution_count is not None
        count += executed
        cell.execution_count = count if executed else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output["execution_count"] = cell.execution_count
    return notebook


def main(names: list[str]) -> int:
    """Bring notebooks into their normal form; return 1 if that changed one, as hooks expect."""
    changed = 0
    for path in map(pathlib.Path, names):
        text = path.read_text(encoding="utf-8")
        normal = nbformat.writes(normalise(nbformat.reads(text, as_version=4))) + "\n"
        if normal != text:
            path.write_text(normal, encoding="utf-8", newline="\n")
            print(f"{path} is now in its normal form.")
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
