"""Pictures: any picture or folder that a reader brings, as arrays.

One way to read for all chapters. A photograph of a telephone is turned upright, transparency
becomes white, CMYK, palettes and grey become RGB, and the largest square in the middle is scaled
to the size that is asked for.

Brightness: pictures of 8 bits are never stretched. Deeper ones (10, 12 or 16 bits, floats) do not
say what their white is; all that are read together share one range, so that a dark one among them
stays dark: whole numbers 0 to 2**b - 1, with b the smallest of 1, 8, 10, 12, 14 and 16 bits that
holds the largest value; floats 0 to 1 where they lie there; all others from the least value to the
largest. Scaling comes before rounding to 8 bits.
"""

import dataclasses
import io
import logging
import os
import pathlib
import warnings
import zipfile

import numpy as np
from PIL import Image, ImageOps

from helpers import files

SIZE = 224  # pixels: what networks for photographs take
SMALLEST = 8  # pixels of the shorter side; in a folder, a smaller picture is left out
DARK = 16  # of 255; a folder whose brightest value is less is called nearly black
DEPTHS = (1, 8, 10, 12, 14, 16)  # bits
LUMA = np.float32([0.299, 0.587, 0.114])  # red, green, blue in a grey value (ITU-R BT.601)
NOT_A_NUMBER = 1e30  # some microscopes and maps mark missing pixels by a value beyond this
ORIENTATION, BITS_PER_SAMPLE = 274, 258  # tags of EXIF and of TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What systems leave in folders; names that begin with a dot are left out as well.
LEFT_BEHIND = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}
for _name in ("PIL", "tifffile"):  # what is wrong with a file is said here, in a sentence
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class _Unusable(Exception):
    """A picture cannot be used; the message ends a sentence that begins with its name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """What ``read_pictures`` could use of a list of files.

    Attributes:
        images: uint8, shape (n, size, size, 3), or (n, size, size, 1) for grey ones.
        paths: the n files, in the order of the images.
        left_out: {path: why it could not be used, in a few words}.
    """

    images: np.ndarray
    paths: tuple[pathlib.Path, ...]
    left_out: dict[pathlib.Path, str]


# Folders


def find_folder(folder) -> pathlib.Path:
    """Return a folder that a reader named, after checking that something can be read in it.

    Args:
        folder: a path; ``~`` is the home folder, a relative path starts where the notebook lies.
            The path of a zip file is unpacked into the cache (``helpers.files.CACHE``), once, and
            only if none of its members leads out of it.

    Returns:
        The path; of a zip that holds a single folder, that folder.

    Raises:
        helpers.files.DataError: it is missing, empty, a file that is no zip, or may not be read.
    """
    if not isinstance(folder, str | os.PathLike) or not str(folder).strip():
        raise files.DataError(f"folder is {folder!r}: give the path of a folder with pictures.")
    try:
        path = _existing(folder)
        if path.is_file():
            path = _unpacked(path)
        if not path.is_dir():
            where = "" if path.is_absolute() else f" in {pathlib.Path.cwd()}"
            raise files.DataError(f"There is no folder {path}{where}: correct the path.")
        empty = not _visible(path)
    except OSError as error:
        raise files.DataError(
            f"The folder {folder} cannot be read ({error.strerror or error}): give another one."
        ) from None
    if empty:
        raise files.DataError(f"The folder {path} is empty: put pictures there.")
    return path


def _existing(folder) -> pathlib.Path:
    """Return the path as it was written, or without the quotes and blanks that were copied."""
    path = pathlib.Path(os.path.expanduser(folder))
    bare = pathlib.Path(os.path.expanduser(str(folder).strip().strip("\"'")))
    return bare if bare.exists() and not path.exists() else path


def _unpacked(path: pathlib.Path) -> pathlib.Path:
    """Unpack a zip into the cache, or return the folder where it has been unpacked before."""
    if not zipfile.is_zipfile(path):
        raise files.DataError(
            f"{path} is a file and no zip that can be opened: give a folder with pictures."
        )
    folder = files.CACHE / f"zip-{files.sha256(path)[:12]}"
    try:
        files.extract(path, folder)
    except files.ArchiveError as error:
        raise files.DataError(f"{error} Or unpack it yourself, and give the folder.") from None
    inside = _visible(folder)
    while len(inside) == 1 and inside[0].is_dir():
        folder = inside[0]
        inside = _visible(folder)
    return folder


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return what lies in a folder by name, without what systems leave behind."""
    found = [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in LEFT_BEHIND
    ]
    return sorted(found, key=lambda path: path.name)


def list_pictures(folder) -> list[pathlib.Path]:
    """Return the files of a folder by name: those that may be pictures, not those below it.

    ``.DS_Store``, ``._*``, ``Thumbs.db``, ``desktop.ini`` and the like are not among them; whether
    the others are pictures shows when they are read.

    Args:
        folder: an existing path, as ``find_folder`` returns it.
    """
    return [path for path in _visible(pathlib.Path(folder)) if path.is_file()]


def list_folders(folder) -> list[pathlib.Path]:
    """Return the folders inside a folder by name (one for each class), for ``list_pictures``.

    ``.ipynb_checkpoints``, ``__MACOSX`` and other folders whose name begins with a dot or with two
    underscores are not among them; folders without a file are.
    """
    below = [path for path in _visible(pathlib.Path(folder)) if path.is_dir()]
    return [path for path in below if not path.name.startswith("__")]


# Reading


def read_picture(source, size: int = SIZE, channels: int = 3) -> np.ndarray:
    """Read one picture of any size and kind.

    Args:
        source: a path (PNG, JPEG and whatever else Pillow opens), the bytes of such a file (what an
            upload gives), a ``PIL.Image``, or an array of shape (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4): uint8, or floats in [0, 1] (rounded to 256 levels).
        size: height and width of the result, 1 or more (bicubic; a smaller one is enlarged).
        channels: 3, or 1 for grey.

    Returns:
        float32, shape (size, size, channels), values in [0, 1].

    Raises:
        ValueError: the file is missing, is no picture or is damaged; or the array is none of these.
    """
    if size < 1:
        raise ValueError(f"size is {size}: give 1 or more.")
    name = "The picture"
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        name, source = "The upload", io.BytesIO(source)
    elif not isinstance(source, Image.Image):
        source = _existing(source)
        name = printable(source)
    try:
        picture = _decode(source, size)
        limits = _range([picture.extent()]) if isinstance(picture, _Deep) else None
        return _finish(picture, size, limits, channels)
    except _Unusable as error:
        raise ValueError(f"{name} {error}: give the path of a PNG or JPEG file.") from None


def read_pictures(paths, size: int, channels: int = 3) -> Pictures:
    """Read many pictures that belong together: deeper ones share one range of brightness.

    What cannot be used is named, with the reason, and left out: damaged and empty files, what is no
    picture, less than 8 or more than about 178 million pixels. Of the pictures only the scaled
    ones stay in memory.

    Args:
        paths: the files, of one folder or (classes) of several.
        size: height and width of the images.
        channels: 3, or 1 for grey.

    Returns:
        ``Pictures``; perhaps with no image at all.
    """
    paths = [pathlib.Path(path) for path in paths]
    images = np.empty((len(paths), size, size, channels), np.uint8)
    used, deep, left_out = [], {}, {}
    for path in paths:
        try:
            picture = _decode(path, size, SMALLEST)
            if isinstance(picture, _Deep):
                deep[len(used)] = picture.extent()  # read again when all are known
            else:
                images[len(used)] = _to_bytes(_finish(picture, size, None, channels))
            used.append(path)
        except _Unusable as error:
            left_out[path] = str(error)
    for whole in (True, False):  # whole numbers and floats have nothing in common
        kind = {i: extent for i, extent in deep.items() if extent[2] == whole}
        limits = _range(kind.values()) if kind else None
        for i in kind:
            images[i] = _to_bytes(_finish(_decode(used[i], size), size, limits, channels))
    read = Pictures(images[: len(used)], tuple(used), left_out)
    _report(read)
    return read


def read_folder(folder, size: int, channels: int = 3, least: int = 2) -> np.ndarray:
    """Read all pictures of a folder, in the order of their names; see ``read_pictures``.

    Args:
        folder: the path, as for ``find_folder``.
        size: width and height of the result, in pixels.
        channels: 3, or 1 for grey.
        least: how many pictures are needed.

    Returns:
        uint8, shape (n, size, size, channels), n >= least.

    Raises:
        helpers.files.DataError: the folder cannot be used, or has too few usable pictures.
    """
    folder = find_folder(folder)
    images = read_pictures(list_pictures(folder), size, channels).images
    if len(images) < least:
        below = [printable(path.name) for path in list_folders(folder)]
        instead = f", or give one of the folders in it ({', '.join(below[:5])})" if below else ""
        raise files.DataError(
            f"{printable(folder)} has {len(images)} usable pictures: put {least} or more "
            f"there{instead}."
        )
    return images


def printable(name) -> str:
    """Return a path as text without what cannot be printed (names may be bytes of any kind)."""
    text = str(name).encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _report(read: Pictures, most: int = 10) -> None:
    """Say what was left out, and whether all that was read is nearly black."""
    paths = [*read.paths, *read.left_out]
    if read.left_out:
        root = pathlib.Path(os.path.commonpath([path.absolute().parent for path in paths]))
        reasons = [
            f"{printable(path.absolute().relative_to(root))} {reason}"
            for path, reason in read.left_out.items()
        ]
        more = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
        print(f"Left out of {printable(root.name)}: {'; '.join(reasons[:most])}{more}.")
    if len(read.images) and read.images.max() < DARK:
        print(
            f"The pictures beside {printable(read.paths[0].name)} are nearly black: their "
            f"brightest value is {read.images.max()} of 255."
        )


# One picture, from the file to an array


@dataclasses.dataclass(frozen=True, eq=False)
class _Deep:
    """A picture of more than 8 bits.

    Attributes:
        values: float32, shape (h, w, 1 or 3), as the file has them, NaN where it has none.
        whole: whether the file has whole numbers.
    """

    values: np.ndarray
    whole: bool

    def extent(self) -> tuple[float, float, bool]:
        """Return the least and the largest value, and whether they are whole."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values)), self.whole

    def bands(self) -> list[Image.Image]:
        """Return the channels as images of floats."""
        return [Image.fromarray(band) for band in np.moveaxis(self.values, -1, 0).copy()]


def _decode(source, size: int, smallest: int = 1) -> Image.Image | _Deep:
    """Return a picture upright: an image in RGB if it has 8 bits, or a deep one.

    Args:
        source: a path, a stream of bytes, or a ``PIL.Image``.
        size: the size to which it will be scaled; a large JPEG is decoded at four times that.
        smallest: pixels that the shorter side must have.

    Raises:
        _Unusable: for whatever reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on broken EXIF and large pictures
            picture = _read_any(source, size)
    except _Unusable:
        raise
    except FileNotFoundError:
        raise _Unusable("does not exist") from None
    except (IsADirectoryError, PermissionError) as error:  # Windows denies to open a folder
        folder = isinstance(source, pathlib.Path) and source.is_dir()
        reason = "it is a folder" if folder else error.strerror
        raise _Unusable(f"cannot be read ({reason})") from None
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise _Unusable(f"has more than {most} million pixels") from None
    except Image.UnidentifiedImageError:
        raise _Unusable(_what_it_is(source)) from None
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Unusable(f"is damaged ({reason})") from None
    shape = picture.values.shape if isinstance(picture, _Deep) else picture.size[::-1]
    if min(shape[:2]) < smallest:
        raise _Unusable(f"has only {shape[1]} x {shape[0]} pixels")
    return picture


def _what_it_is(source) -> str:
    """Return why Pillow does not know a file."""
    if not _content(source, 1):
        return "is empty"
    if isinstance(source, pathlib.Path) and source.suffix.lower() in (".heic", ".heif"):
        return "is HEIC, which cannot be read (save it as JPEG)"
    return "is no picture that can be read"


def _content(source, most: int = -1) -> bytes:
    """Return the bytes of a path or of a stream, all or the first ones."""
    if isinstance(source, io.BytesIO):
        return source.getvalue() if most < 0 else source.getvalue()[:most]
    with source.open("rb") as stream:
        return stream.read(most)


def _read_any(source, size: int) -> Image.Image | _Deep:
    if isinstance(source, Image.Image):
        return _turned(_rgb_or_deep(source), _turn(source))
    try:
        with Image.open(source) as image:
            if len(image.getbands()) == 1 or not _has_16_bits(image):
                image.draft(None, (4 * size, 4 * size))  # JPEG only; smaller ones stay as they are
                image.load()
                return _turned(_rgb_or_deep(image), _turn(image))
    except Image.UnidentifiedImageError:
        if _content(source, 4) not in (b"II*\0", b"MM\0*"):  # of a TIFF
            raise
    # Pillow keeps 8 of a colour's 16 bits, and does not know TIFF with colours in floats.
    png = _content(source, 4) == b"\x89PNG"
    return _png_of_16_bits(source) if png else _tiff(source)


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether a file that was opened has 16 bits in a channel."""
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))  # TIFF
    return max(bits) > 8 or ";16" in str([tile[-1] for tile in image.tile])


def _turn(image: Image.Image):
    """Return how the image's EXIF says that it must be turned; broken EXIF says nothing."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
        return TURNS.get(int(value[0] if isinstance(value, tuple | list | bytes) else value))
    except Exception:  # whatever a broken directory makes Pillow raise
        return None


def _turned(picture: Image.Image | _Deep, turn) -> Image.Image | _Deep:
    if turn is None:
        return picture
    if isinstance(picture, Image.Image):
        return picture.transpose(turn)
    bands = [np.asarray(band.transpose(turn)) for band in picture.bands()]
    return _Deep(np.stack(bands, axis=-1), picture.whole)


def _rgb_or_deep(image: Image.Image) -> Image.Image | _Deep:
    """Return an image of 8 bits in RGB, with Pillow's own arithmetic, or a deep one."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(np.asarray(image)[..., None])
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _deep(pixels: np.ndarray) -> _Deep:
    """Return pixels (h, w, 1 to 4) of any type as a deep picture; what is transparent is white."""
    whole = pixels.dtype.kind in "iu"
    values = pixels.astype(np.float32)
    if not whole:
        values[~(np.abs(values) < NOT_A_NUMBER)] = np.nan
    if values.shape[-1] in (2, 4):
        alpha = values[..., -1:] / (np.iinfo(pixels.dtype).max if whole else 1)
        values = values[..., :-1]
        values = values * alpha + np.nanmax(values) * (1 - alpha)
    if not np.isfinite(values).any():
        raise _Unusable("holds no number")
    return _Deep(values, whole)


def _png_of_16_bits(source) -> _Deep:
    import tensorflow as tf  # it reads all 16 bits

    picture = _deep(tf.io.decode_png(_content(source), dtype=tf.uint16).numpy())
    with Image.open(source) as image:
        return _turned(picture, _turn(image))


def _tiff(source) -> _Deep:
    import tifffile  # it belongs to scikit-image

    with tifffile.TiffFile(io.BytesIO(_content(source))) as file:
        page = file.pages[0]
        if page.imagewidth * page.imagelength > 2 * Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        pixels = page.asarray()
        turn = TURNS.get(getattr(page.tags.get(ORIENTATION), "value", 1))
    if pixels.ndim == 3 and pixels.shape[-1] > 4:  # one plane after the other
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[-1] > 4:
        raise _Unusable(f"has the shape {pixels.shape}, which is none of a picture")
    return _turned(_deep(pixels), turn)


def _range(extents) -> tuple[float, float]:
    """Return the values that become black and white, for deep pictures of one kind together."""
    extents = list(extents)
    low = min(extent[0] for extent in extents)
    high = max(extent[1] for extent in extents)
    whole = extents[0][2]
    if whole and low >= 0 and high < 2 ** DEPTHS[-1]:
        bits = next(bits for bits in DEPTHS if high < 2**bits)
        return 0.0, 2.0**bits - 1
    if not whole and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high


def _finish(picture: Image.Image | _Deep, size: int, limits, channels: int) -> np.ndarray:
    """Cut the square in the middle, scale it, and bring it to [0, 1]; float32."""
    if isinstance(picture, Image.Image):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
        values = np.asarray(picture, np.float32) / 255
    else:
        low, high = limits
        known = _Deep(np.nan_to_num(picture.values, nan=low), picture.whole)
        bands = [
            np.asarray(ImageOps.fit(band, (size, size), Image.Resampling.BICUBIC))
            for band in known.bands()
        ]
        values = (np.stack(bands, axis=-1) - np.float32(low)) / np.float32(max(high - low, 1e-30))
        values = np.repeat(np.clip(values, 0, 1), 3 // len(bands), axis=-1)
    return values if channels == 3 else (values @ LUMA)[..., None]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.uint8(np.round(values * 255))


def _from_array(array: np.ndarray) -> Image.Image:
    """Return an array (see ``read_picture``) as an image; raises ValueError."""
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not shaped or not array.size:
        raise ValueError(f"The array has shape {array.shape}: give (h, w), or (h, w, 1, 3 or 4).")
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(
            f"The array is {array.dtype} from {array.min()} to {array.max()}: give uint8, or "
            "floats in [0, 1]."
        )
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
