"""Data: MNIST and Fashion-MNIST as arrays and as endless, reproducible batches.

The files lie in ``data/`` as IDX (LeCun's format) packed with xz. ``data/manifest.json`` says the
sha256 and the size of the original of each; nothing is used before both were checked.
"""

import hashlib
import json
import lzma
import os
import pathlib
import struct

import numpy as np
import tensorflow as tf

from helpers import download

ROOT = pathlib.Path(os.environ.get("COURSE_DATA") or pathlib.Path(__file__).parents[1] / "data")
NAMES = ("mnist", "fashion-mnist")
PREFIXES = {"train": "train", "test": "t10k"}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": ("T-shirt", "trousers", "pullover", "dress", "coat",
                      "sandal", "shirt", "sneaker", "bag", "ankle boot"),
}  # fmt: skip
OFFICIAL = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
REMEDY = "restore it (git checkout -- data), or delete it and call data.fetch({name!r})"
DECODER_MEMORY = 100 * 2**20  # bytes; our files ask for a 64 MiB dictionary


class DataError(RuntimeError):
    """A data file is missing, damaged or not what it should be; the message says what to do."""


def manifest(root: pathlib.Path | None = None) -> dict[str, dict]:
    """Return {path inside data/: {"sha256", "bytes", ...}} of everything that belongs there.

    For a path that ends in ``.xz`` both are those of the unpacked original.
    """
    path = (root or ROOT) / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): restore it (git checkout -- data)."
        ) from None


def _problem(path: pathlib.Path, what: str, name: str) -> DataError:
    return DataError(f"{path} {what}: {REMEDY.format(name=name)}.")


class _Bounded(lzma.LZMAFile):
    """An xz file whose dictionary may not take more memory than ours do."""

    def __init__(self, path):
        super().__init__(path)
        self._buffer.raw._decomp_args["memlimit"] = DECODER_MEMORY


def content(relative: str) -> bytes:
    """Return a file's bytes (of a packed one, the original's) after its sha256 was checked.

    Args:
        relative: the path inside ``data/``, as the manifest has it.

    Raises:
        DataError: the file is missing, truncated, altered, or unpacks to more than the manifest
            says (it is left as soon as it does, so that it cannot fill the memory).
    """
    entries = manifest()
    if relative not in entries:
        raise DataError(f"{relative} is not in {ROOT / 'manifest.json'}: correct the name.")
    wanted, name = entries[relative], relative.split("/")[0]
    path = ROOT / relative
    if not path.is_file() and path.with_suffix("").is_file():
        path = path.with_suffix("")  # as data.fetch stores it
    if not path.is_file():
        raise _problem(path, "is missing", name)
    try:
        with _Bounded(path) if path.suffix == ".xz" else path.open("rb") as stream:
            data = download.read_bounded(stream, wanted["bytes"])
    except (lzma.LZMAError, EOFError, OSError) as error:
        raise _problem(path, f"is damaged ({error})", name) from None
    if len(data) > wanted["bytes"]:
        raise _problem(path, f"holds more than the {wanted['bytes']} bytes it should", name)
    if len(data) < wanted["bytes"]:
        raise _problem(path, f"ends after {len(data)} of {wanted['bytes']} bytes", name)
    if hashlib.sha256(data).hexdigest() != wanted["sha256"]:
        raise _problem(path, "has been altered (its sha256 is another)", name)
    return data


def checked_path(relative: str) -> pathlib.Path:
    """Return the path of a file of ``data/`` that is stored as it is, after checking it."""
    content(relative)
    return ROOT / relative


def read_idx(data: bytes, name: str = "the file") -> np.ndarray:
    """Return the array that an IDX file of unsigned bytes holds.

    Args:
        data: the whole file: two zero bytes, type 8, the number of dimensions, each dimension
            as a big-endian 32-bit number, then the values.
        name: what to call the file in a message.

    Returns:
        uint8, of the shape that the header says.

    Raises:
        DataError: the magic number is wrong, or the values are fewer or more than the header says.
    """
    dimensions = data[3] if len(data) >= 4 else 0
    start = 4 + 4 * dimensions
    if data[:3] != b"\0\0\x08" or not 1 <= dimensions <= 4 or len(data) < start:
        raise DataError(f"{name} does not begin as an IDX file of bytes: it is another file.")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    size = int(np.prod(shape, dtype=object))
    if size != len(data) - start:
        raise DataError(
            f"{name} should hold {size} values of shape {shape} and holds {len(data) - start}: "
            "it is truncated or altered; replace it."
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
        DataError: the name is unknown, or a file is missing, damaged or of the wrong shape.
    """
    if name not in NAMES or split not in PREFIXES:
        raise DataError(
            f"There is no data set {name!r} with a split {split!r}: use one of "
            f"{', '.join(NAMES)}, and train or test."
        )
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        relative = f"{name}/{PREFIXES[split]}-{kind}-ubyte.xz"
        arrays.append(read_idx(content(relative), str(ROOT / relative)))
    images, labels = arrays
    check(images, labels, str(ROOT / name))
    return images[..., None], labels.astype(np.int32)


def check(images: np.ndarray, labels: np.ndarray, name: str) -> None:
    """Raise a DataError unless these are images of 28 x 28 with as many labels from 0 to 9."""
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{name} holds images {images.shape} and labels {labels.shape} instead of (n, 28, 28) "
            "and (n,): replace its files."
        )
    if labels.size and labels.max() > 9:
        raise DataError(f"{name} has a label {labels.max()}, but 0 to 9 exist: replace its files.")


def to_unit(images):
    """Turn uint8 images (0 to 255) into float32 in [0, 1]; arrays and tensors."""
    images = tf.cast(images, tf.float32) if tf.is_tensor(images) else np.float32(images)
    return images / 255


def to_symmetric(images):
    """Turn uint8 images (0 to 255) into float32 in [-1, 1], the range of tanh."""
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
        start: the first step.

    Returns:
        A dataset of images (batch_size, ...), or of (images, labels).

    Raises:
        ValueError: batch_size is out of range, or there are not as many labels as images.
    """
    n = len(images)
    if not 1 <= batch_size <= n:
        raise ValueError(
            f"batch_size is {batch_size}: with {n} images give a number from 1 to {n}."
        )
    if labels is not None and len(labels) != n:
        raise ValueError(f"There are {n} images and {len(labels)} labels: give one for each.")
    with tf.device("CPU"):
        images = tf.constant(images)
        labels = None if labels is None else tf.constant(labels)
    steps = n // batch_size  # of an epoch

    def batch(step):
        epoch, position = (
            step // steps,
            (step % steps) * batch_size + tf.range(batch_size, dtype="int64"),
        )
        key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch]), tf.uint32)
        index = tf.random.experimental.index_shuffle(position, key, n - 1)
        chosen = tf.gather(images, index)
        return chosen if labels is None else (chosen, tf.gather(labels, index))

    numbers = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    return numbers.map(batch).prefetch(2)


def fetch(name: str, base_url: str | None = None) -> None:
    """Download those files of a data set that ``data/`` lacks (a notebook that stands alone).

    Args:
        name: ``"mnist"`` or ``"fashion-mnist"``.
        base_url: where ``<file>.gz`` lies; by default the environment variable COURSE_DATA_URL
            followed by the set's name, or else the official address.

    Raises:
        helpers.download.DownloadError: a file cannot be had, or is not the official one.
    """
    if name not in NAMES:
        raise DataError(f"There is no data set {name!r}: use one of {', '.join(NAMES)}.")
    other = os.environ.get("COURSE_DATA_URL")
    base = base_url or (f"{other.rstrip('/')}/{name}" if other else OFFICIAL[name])
    for relative, wanted in manifest().items():
        path = (ROOT / relative).with_suffix("")
        packed = relative.startswith(name) and relative.endswith(".xz")
        if packed and not path.is_file() and not (ROOT / relative).is_file():
            url = f"{base.rstrip('/')}/{path.name}.gz"
            download.download_gzip(url, path, wanted["sha256"], wanted["bytes"])
