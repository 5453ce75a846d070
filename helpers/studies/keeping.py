"""Keeping a generator: a folder that works without this course (chapter 13)."""

import importlib.metadata
import io
import pathlib
import secrets
import time

import keras
import numpy as np
from PIL import Image

from helpers import files, plots

HEADING = "# Card of a generator"
RUNS = pathlib.Path(__file__).parents[2] / "runs" / "generators"  # ignored by git
LICENCE = """## Licence

**To be filled in by you**: who made the training pictures, under which licence, and whether people
in them agreed. A generator can repeat what it was trained on: its pictures may be used only where
the training pictures may.
"""


def folder(keep) -> pathlib.Path:
    """Return the folder where the generator goes, after checking that nothing is lost there.

    Args:
        keep: a path that is new, empty, or holds what an earlier run kept; None for a folder of
            this run alone.

    Raises:
        ValueError: other files lie there.
        helpers.files.StorageError: it cannot be made.
    """
    if keep is None or keep == "":
        return RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    path = files.user_path(keep)
    if path.exists():
        card = path / "card.md"
        ours = card.is_file() and card.read_text("utf-8", "replace").startswith(HEADING)
        if not path.is_dir() or (any(path.iterdir()) and not ours):
            raise ValueError(
                f"keep is {str(keep)!r}, where other files lie: name a folder that is new or empty."
            )
    return path


def png(image) -> bytes:
    """Return a picture (h, w, 1 or 3) in [0, 1] as the bytes of a PNG file."""
    pixels = np.squeeze(np.asarray(np.clip(image, 0, 1) * 255 + 0.5, np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def store(path: pathlib.Path, generator: keras.Model, samples, walk, facts: dict) -> list[str]:
    """Write the folder.

    Args:
        path: from ``folder``.
        generator: codes (n, latent_dim) -> pictures in [0, 1]; layers of Keras alone.
        samples: pictures (n, h, w, 1 or 3) in [0, 1].
        walk: the frames of a walk between codes, for a GIF.
        facts: {what: value} for the card.

    Returns:
        The names of what was written.
    """
    files.make_folder(path)
    generator.save(path / "generator.keras")
    generator.export(path / "saved_model", verbose=False)
    for number, image in enumerate(samples, 1):
        files.write_whole(path / "pictures" / f"{number:02d}.png", png(image))
    files.write_whole(path / "sheet.png", png(plots.tile(samples)))
    files.write_whole(path / "walk.gif", plots.gif(walk))
    files.write_whole(path / "card.md", card(facts).encode("utf-8"))
    return ["generator.keras", "saved_model", "pictures", "sheet.png", "walk.gif", "card.md"]


def card(facts: dict) -> str:
    """Return the card: a table of facts, how to open the file, what to say about the licence."""
    versions = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")}
    rows = [f"| {name} | {value} |" for name, value in {**facts, **versions}.items()]
    return "\n".join(
        [
            HEADING,
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
            '`keras.models.load_model("generator.keras")` opens it. It takes standard normal',
            f"numbers of shape (n, {facts['numbers in a code']}) and gives pictures with values",
            "from 0 to 1.",
            "",
            LICENCE,
        ]
    )
