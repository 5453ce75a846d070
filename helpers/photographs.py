"""Photographs as arrays: the reader's own, and eight that installed packages carry.

Nothing is downloaded: ``skimage.data`` and ``sklearn.datasets`` have a few photographs inside their
wheels, and the docstrings of their functions (for sklearn, images/README.txt) say whose they are.
"""

import io
import os
import pathlib

import numpy as np
from PIL import Image, ImageOps

SIZE = 224
# name: where it is from, and the square that shows its subject (None: the centre)
SOURCES = {
    "cat": ("skimage", "chelsea", None),
    "coffee": ("skimage", "coffee", None),
    "camera": ("skimage", "camera", None),
    "motorcycle": ("skimage", "stereo_motorcycle", None),
    "rocket": ("skimage", "rocket", (200, 60, 500, 360)),
    "helmet": ("skimage", "astronaut", (212, 212, 512, 512)),
    "palace": ("sklearn", "china.jpg", None),
    "flower": ("sklearn", "flower.jpg", None),
}


def read_photograph(source, size: int = SIZE) -> np.ndarray:
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
    """Return an array (see ``read_photograph``) as an image; raises ValueError."""
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


def photographs(size: int = SIZE) -> dict[str, np.ndarray]:
    """Return the eight photographs of ``SOURCES``: {name: float32 (size, size, 3) in [0, 1]}.

    Raises:
        ValueError: size is less than 1.
        ModuleNotFoundError: a package of requirements.txt is not installed.
    """
    import skimage.data  # here: only this function needs the two, and skimage takes a second
    import sklearn.datasets

    def read(package, name, box):
        if package == "sklearn":
            array = sklearn.datasets.load_sample_image(name)
        else:
            array = getattr(skimage.data, name)()
        array = array[0] if isinstance(array, tuple) else array  # the left eye's view
        image = Image.fromarray(np.asarray(array))
        return read_photograph(image.crop(box) if box else image, size)

    return {name: read(*source) for name, source in SOURCES.items()}
