"""Data: MNIST and Fashion-MNIST as arrays and as endless, reproducible batches.

The files lie in ``data/`` as IDX (LeCun's format) packed with xz. Nothing is used before the sha256
and the size of its original, which ``data/manifest.json`` says, were checked.
"""

import math
import struct

import numpy as np
import tensorflow as tf

from helpers import files

NAMES = ("mnist", "fashion-mnist")
PREFIXES = {"train": "train", "test": "t10k"}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": ("T-shirt", "trousers", "pullover", "dress", "coat",
                      "sandal", "shirt", "sneaker", "bag", "ankle boot"),
}  # fmt: skip


def read_idx(data: bytes | bytearray, name: str = "the file") -> np.ndarray:
    """Return the array that an IDX file of unsigned bytes holds.

    Args:
        data: the whole file: two zero bytes, type 8, the number of dimensions, each dimension
            as a big-endian 32-bit number, then the values.
        name: what to call the file in a message.

    Returns:
        uint8, of the shape that the header says; a view of ``data``, not a copy.

    Raises:
        files.DataError: the magic number is wrong, or the values are fewer or more than the
            header says.
    """
    dimensions = data[3] if len(data) >= 4 else 0
    start = 4 + 4 * dimensions
    if data[:3] != b"\0\0\x08" or not 1 <= dimensions <= 4 or len(data) < start:
        raise files.DataError(
            f"{name} does not begin as an IDX file of bytes (it begins with "
            f"{bytes(data[:4]).hex(' ') or 'nothing'}): replace it."
        )
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    size, found = math.prod(shape), len(data) - start
    if size != found:
        raise files.DataError(
            f"{name} should hold {size} values of shape {shape} and holds {found}: replace it."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def load(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Load one half of a data set.

    Args:
        name: ``"mnist"`` (LeCun et al. 1998) or ``"fashion-mnist"`` (Xiao et al. 2017).
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).

    Returns:
        images: uint8, shape (n, 28, 28, 1), values 0 (background) to 255.
        labels: int32, shape (n,), values 0 to 9; ``CLASSES[name]`` has their names.

    Raises:
        files.DataError: the name is unknown, or a file is missing, damaged or of the wrong shape.
    """
    if name not in NAMES or split not in PREFIXES:
        known = f"{' or '.join(NAMES)}, and train or test"
        raise files.DataError(f"There is no data set {name!r} with a split {split!r}: use {known}.")
    paths = [f"{name}/{PREFIXES[split]}-{kind}-ubyte.xz" for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(files.content(path), str(files.DATA / path)) for path in paths)
    problem = None
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        problem = f"hold arrays {images.shape} and {labels.shape}, not (n, 28, 28) and (n,)"
    elif labels.max(initial=0) > 9:
        problem = f"hold a label {labels.max()}, but 0 to 9 exist"
    if problem:
        both = " and ".join(str(files.DATA / path) for path in paths)
        raise files.DataError(f"{both} {problem}: replace them.")
    return images[..., None], labels.astype(np.int32)


def to_unit(images):
    """Turn uint8 images (0 to 255) into float32 in [0, 1]; arrays and tensors.

    Raises:
        ValueError: the images are not uint8 (they may have been turned already).
    """
    if images.dtype != "uint8":
        raise ValueError(f"The images are {images.dtype.name}: give uint8 (0 to 255), only once.")
    images = tf.cast(images, tf.float32) if tf.is_tensor(images) else np.float32(images)
    return images / 255


def to_symmetric(images):
    """Turn uint8 images (0 to 255) into float32 in [-1, 1], the range of tanh; see to_unit."""
    return to_unit(images) * 2 - 1


def from_symmetric(images):
    """Turn floats in [-1, 1] into [0, 1], clipped; arrays and tensors."""
    images = (images + 1) / 2
    return tf.clip_by_value(images, 0, 1) if tf.is_tensor(images) else np.clip(images, 0, 1)


def batches(images, batch_size: int, seed: int, labels=None, start: int = 0) -> tf.data.Dataset:
    """Return endless shuffled batches; which images are in a step follows from (seed, step).

    A training that was stopped after ``start`` steps therefore goes on with the very batches it
    would have had. Every epoch is shuffled anew and has len(images) // batch_size batches; its
    remainder, a different one each time, is left out.

    Args:
        images: array of shape (n, ...), any dtype; batches keep the dtype.
        batch_size: images in a batch, from 1 to n.
        seed: an integer from 0 to 2**32 - 1.
        labels: array of shape (n,), or None.
        start: the first step, 0 or more.

    Returns:
        A dataset of images (batch_size, ...), or of (images, labels).

    Raises:
        ValueError: a number is out of range, or there are not as many labels as images.
    """
    n = len(images)
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size is {batch_size}: give a number from 1 to {n}, the images.")
    if labels is not None and len(labels) != n:
        raise ValueError(f"There are {n} images and {len(labels)} labels: give one for each.")
    if not 0 <= seed < 2**32 or start < 0:
        raise ValueError(f"seed is {seed}, start {start}: give 0 or more (a seed below 2**32).")
    with tf.device("CPU"):
        images = tf.constant(images)
        labels = None if labels is None else tf.constant(labels)
    steps = n // batch_size  # of an epoch

    # tf.random.experimental.index_shuffle would need no list, but its orders are not independent of
    # each other (60,000 images), and not uniform (10 images).
    def epoch(number):
        key = tf.stack([tf.constant(seed, tf.int64), number])
        draws = tf.random.stateless_uniform((n,), key, None, None, tf.int64, alg="philox")
        order = tf.argsort(draws, stable=True)[: steps * batch_size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, (steps, batch_size)))

    def batch(chosen):
        part = tf.gather(images, chosen)
        return part if labels is None else (part, tf.gather(labels, chosen))

    epochs = tf.data.Dataset.counter(start // steps).flat_map(epoch)
    return epochs.skip(start % steps).map(batch).prefetch(2)


def fetch(name: str, base_url: str | None = None, **options) -> None:
    """Download those files of a data set that ``data/`` lacks (a notebook that stands alone).

    Args:
        name: ``"mnist"`` or ``"fashion-mnist"``.
        base_url: where ``<file>.xz`` or ``<file>.gz`` lies; see ``helpers.files.fetch``.
        options: timeout and attempts, as in ``helpers.files.download``.

    Raises:
        helpers.files.DownloadError: a file cannot be had, or is not the official one.
        helpers.files.StorageError: the disk is full, or the folder may not be written.
    """
    if name not in NAMES:
        raise files.DataError(f"There is no data set {name!r}: use one of {', '.join(NAMES)}.")
    for relative in files.manifest():
        if relative.startswith(f"{name}/") and files.find(relative) is None:
            files.fetch(relative, base_url, **options)
