"""Notebooks as files: their hash, their results, their normal form."""

import base64
import hashlib
import io
import re

import nbformat
from PIL import Image

RESULTS = "application/vnd.course.results+json"
INJECTED = "injected-parameters"
LARGE_PICTURE = 150_000  # characters of base64
KEPT_METADATA = ("kernelspec", "language_info", "course")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"(<[\w.]+(?: object)?) at 0x[0-9a-f]+")


def code_cells(notebook) -> list:
    """Return the code cells, without the parameters that papermill injects."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]


def source_sha256(notebook) -> str:
    """Return the sha256 of what the code cells say (their outputs and the prose left out).

    Args:
        notebook: a notebook as ``nbformat.read(path, as_version=4)`` gives it.
    """
    text = "\0".join(cell.source.strip() for cell in code_cells(notebook))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def collect_results(notebook) -> dict[str, dict]:
    """Return the results that the notebook's outputs carry: {name: {value, target, op, unit}}."""
    results = {}
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            results.update(output.get("data", {}).get(RESULTS, {}))
    return results


def parameters(notebook) -> dict:
    """Return the names and default values of the cell tagged ``parameters``.

    Raises:
        ValueError: the notebook does not have exactly one such cell, or one of its lines is
            not ``name = literal``.
    """
    import ast

    tagged = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"The notebook has {len(tagged)} cells tagged 'parameters': give it exactly one."
        )
    values = {}
    for node in ast.parse(tagged[0].source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            raise ValueError("The parameters cell may only hold lines such as: seed = 0")
        values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def smaller(picture: str) -> str:
    """Return a PNG (base64) with a palette of 256 colours if it is large, as photographs are."""
    if len(picture) < LARGE_PICTURE:
        return picture
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return picture
    buffer = io.BytesIO()
    image.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _normal_output(output):
    data = output.get("data")
    if data is not None:
        if WIDGET_VIEW in data:  # a saved widget has no kernel behind it
            return None
        for kind in ("text/plain", "text/html"):
            if isinstance(data.get(kind), str):
                data[kind] = ADDRESS.sub(r"\1", data[kind])
        if "image/png" in data:
            data["image/png"] = smaller(data["image/png"])
    output.pop("execution_count", None) if output.output_type != "execute_result" else None
    output["metadata"] = nbformat.NotebookNode() if "metadata" in output else output.get("metadata")
    if output["metadata"] is None:
        del output["metadata"]
    return output


def normalise(notebook):
    """Bring a notebook into the form in which it is committed, and return it.

    Only kernelspec, language and the course's own metadata stay; cells keep their ids and
    tags; the injected parameters, timings, widget states and memory addresses go; execution
    counts run 1, 2, 3, ... over the executed cells.
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
