"""Portraits to train on: 702 pictures of people who do not exist (chapter 13).

Heads and shoulders of Microsoft's Fluent Emoji in 3D: 117 designs, each once in each of six tones.
``tools/pack_portraits.py`` made the zip; ``data/README.md`` says from what.
"""

import pathlib

import numpy as np

from helpers import files

ARCHIVE = "portraits/portraits.zip"  # inside data/
TONES = ("yellow", "light", "medium-light", "medium", "medium-dark", "dark")


def archive() -> pathlib.Path:
    """Return the path of the zip, as a reader would give one.

    Raises:
        helpers.files.DataError: it is missing or damaged.
    """
    return files.checked_path(ARCHIVE)


def designs_and_tones(paths) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of the zip's pictures which design it has, and which tone.

    Args:
        paths: the files, called DESIGN.TONE.webp.

    Returns:
        designs: int, shape (n,), numbered in the order of their names.
        tones: int, shape (n,), positions in ``TONES``.
    """
    names = [pathlib.Path(path).stem.split(".") for path in paths]
    _, designs = np.unique([design for design, _ in names], return_inverse=True)
    return designs, np.array([int(tone) for _, tone in names])
