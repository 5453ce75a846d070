"""Pictures: any picture or folder that a reader brings, as arrays."""

import io
import os
import pathlib

import numpy as np
from PIL import Image, ImageOps

from helpers import files

SIZE = 224  # pixels: what networks for photographs take


def read_picture(source, size: int = SIZE) -> np.ndarray:
    """Read an image of any size and mode as a network for photographs wants it.

    A photograph of a telephone is turned upright, transparency becomes white, the largest square in
    the middle is kept and brought to ``size`` (bicubic; a smaller image is enlarged).

    Args:
        source: a path (PNG, JPEG and whatever else Pillow opens), the bytes of such a file (what an
            upload gives), a ``PIL.Image``, or an array of shape (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4): uint8, or floats in [0, 1] (rounded to 256 levels).
        size: height and width of the result, 1 or more.

    Returns:
        float32, shape (size, size, 3), values in [0, 1].

    Raises:
        ValueError: the file is missing, is no image or is damaged; or the array is none of these.
    """
    if size < 1:
        raise ValueError(f"size is {size}: give 1 or more.")
    name = "The image"
    try:
        if isinstance(source, Image.Image):
            image = source
        elif isinstance(source, np.ndarray):
            image = _from_array(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            name = "The upload"
            image = Image.open(io.BytesIO(source))
        else:
            name = os.fspath(source)
            image = Image.open(pathlib.Path(source))
        image = _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ValueError(f"{name} does not exist: correct the path.") from None
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"{name} is no image that can be read: save it as PNG or JPEG and give that."
        ) from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # SyntaxError is what Pillow raises for a broken PNG
        raise ValueError(f"{name} cannot be read ({error}): give another image.") from None
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255


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


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB: from grey of 8 or 16 bits, a palette, CMYK, with transparency."""
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would cut at 255
        grey = np.asarray(image, np.float64) / 65535
        return Image.fromarray(np.uint8(np.round(255 * grey.clip(0, 1)))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def read_folder(folder, size: int) -> np.ndarray:
    """Read all pictures of a folder: cut to a square around the middle and scaled.

    Files that are no pictures, or are damaged, are named and left out.

    Args:
        folder: the path; pictures of every size and mode that Pillow reads.
        size: width and height of the result, in pixels.

    Returns:
        uint8, shape (n, size, size, 3), in the order of the files' names; n >= 2.

    Raises:
        helpers.files.DataError: there is no such folder, or it has fewer than 2 usable pictures.
    """
    folder, pictures, skipped = pathlib.Path(folder).expanduser(), [], []
    if not folder.is_dir():
        raise files.DataError(f"There is no folder {folder}: give the path of one with pictures.")
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            picture = read_picture(path, size)
        except ValueError:
            skipped.append(path.name)
        else:
            pictures.append(np.uint8(np.round(picture * 255)))
    if skipped:
        print(f"Left out of {folder.name}, no usable pictures: {', '.join(skipped)}.")
    if len(pictures) < 2:
        raise files.DataError(
            f"{folder} has {len(pictures)} usable pictures: put 2 or more JPEG or PNG files there."
        )
    return np.stack(pictures)
