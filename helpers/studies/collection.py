"""A reader's collection of pictures: what is in it, and how it looks to a network (chapter 13)."""

import collections
import dataclasses
import functools
import pathlib

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from helpers import data, files, pictures
from helpers.sources import imagenet

SIZES = (32, 64, 128)
SAME = 8  # of 255: channels that differ no more everywhere, but for a few pixels, are grey


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
    """What lies in a folder.

    Attributes:
        images: uint8, shape (n, size, size, 3), or (n, size, size, 1) where all are grey.
        paths: the n files.
        left_out: {path: why it could not be used}.
        sizes: the files' own (width, height).
    """

    images: np.ndarray
    paths: tuple[pathlib.Path, ...]
    left_out: dict[pathlib.Path, str]
    sizes: list[tuple[int, int]]

    def describe(self) -> str:
        """Return in a few lines how many pictures there are, and of which sizes."""
        common = collections.Counter(self.sizes).most_common(3)
        shown = [f"{width} x {height} ({count})" for (width, height), count in common]
        more = len(set(self.sizes)) - len(common)
        shown += [f"and {more} further sizes"] if more else []
        cropped = sum(width != height for width, height in self.sizes)
        kind = "grey" if self.images.shape[-1] == 1 else "colour"
        side = f"{self.images.shape[1]} x {self.images.shape[2]}"
        without = "1 file was" if len(self.left_out) == 1 else f"{len(self.left_out)} files were"
        middle = f"; of {cropped} only the square in the middle is used" if cropped else ""
        return (
            f"{len(self.images)} pictures in {kind}; {without} left out.\n"
            f"Their sizes in pixels: {', '.join(shown)}.\n"
            f"All are scaled to {side}{middle}."
        )


def check_options(size, steps, limit) -> None:
    """Raise a ValueError, one sentence, where a number of the parameters cell cannot be used."""
    if size not in SIZES:
        raise ValueError(f"size is {size!r}: set it to 32, 64 or 128 in the parameters cell.")
    for name, value, least in (("steps", steps, 1), ("limit", limit, 2)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and (not whole or value < least):
            raise ValueError(f"{name} is {value!r}: set it to None or to {least} or more.")


def read(folder, size: int) -> Collection:
    """Read all pictures of a folder and of the folders in it.

    Args:
        folder: a path, of a folder or of a zip; see ``pictures.find_folder``.
        size: height and width of the images.

    Raises:
        helpers.files.DataError: the folder cannot be used, or has fewer than two usable pictures.
    """
    folder = pictures.find_folder(folder)
    paths = pictures.list_pictures(folder)
    for below in pictures.list_folders(folder):
        paths += pictures.list_pictures(below)
    found = pictures.read_pictures(paths, size)
    if len(found.images) < 2:
        raise files.DataError(
            f"{pictures.printable(folder)} has {len(found.images)} usable pictures: put 2 or more "
            "there, or in folders inside it."
        )
    images = found.images[..., :1] if _all_grey(found.images) else found.images
    return Collection(images, found.paths, found.left_out, [_size(path) for path in found.paths])


def _all_grey(images: np.ndarray) -> bool:
    spread = images.max(axis=-1) - images.min(axis=-1)
    return bool(np.mean(spread > SAME) < 0.001)


def _size(path: pathlib.Path) -> tuple[int, int]:
    """Return width and height as they lie in the file, or zeros where Pillow cannot tell."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:
        return 0, 0


@functools.cache
def _network() -> keras.Model:
    whole = imagenet.load().model
    return keras.Model(whole.input, whole.layers[-2].output)


def features(images) -> np.ndarray:
    """Return what EfficientNet-Lite0 sees in pictures of any size, before it names anything.

    Args:
        images: shape (n, h, w, 1 or 3), uint8 or floats in [0, 1]; they are enlarged to 224 x 224
            (bicubic).

    Returns:
        float32, shape (n, 1280).
    """
    images = np.asarray(images)
    images = data.to_unit(images) if images.dtype == np.uint8 else images
    network, parts = _network(), []
    for start in range(0, len(images), 32):
        part = tf.image.resize(images[start : start + 32], (pictures.SIZE,) * 2, "bicubic")
        part = tf.repeat(part, 3 // part.shape[-1], axis=-1)
        parts.append(network(tf.clip_by_value(part, 0, 1), training=False).numpy())
    return np.concatenate(parts)
