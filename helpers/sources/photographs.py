"""Eight photographs that installed packages carry (chapter 10).

Nothing is downloaded: ``skimage.data`` and ``sklearn.datasets`` have a few photographs inside their
wheels, and the docstrings of their functions (for sklearn, images/README.txt) say whose they are.
"""

import numpy as np
from PIL import Image

from helpers import pictures

SHOWN = ("coffee", "camera", "helmet", "cat", "rocket", "palace", "flower")  # may be shown
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


def examples(size: int = pictures.SIZE) -> dict[str, np.ndarray]:
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
        return pictures.read_picture(image.crop(box) if box else image, size)

    return {name: read(*source) for name, source in SOURCES.items()}


def shown(own=None) -> np.ndarray:
    """Return seven photographs that may be shown, before them the reader's own if there is one.

    Args:
        own: what ``pictures.read_picture`` takes, for example a path; None or "" for none.

    Returns:
        float32, shape (7 or 8, 224, 224, 3), values k / 255.

    Raises:
        ValueError: the reader's picture is missing, is none or is damaged.
    """
    none = own is None or (isinstance(own, str) and not own)
    first = [] if none else [pictures.read_picture(own)]
    known = examples()
    return np.stack(first + [known[name] for name in SHOWN])
