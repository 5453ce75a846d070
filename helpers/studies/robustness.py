"""What studies of attacks need: calls in parts, 8-bit files, a library's PGD, pictures of attacks.

The attacks themselves, and how they are counted, are in chapter 10. Here images have shape
(n, h, w, 1 or 3) and values in [0, 1], labels have shape (n,), and ``logits`` is a function from
images to logits (n, classes).
"""

import logging
import pathlib
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from PIL import Image

from helpers import plots


def compiled(model, **options):
    """Return ``model`` as a compiled function of images; a smaller last batch compiles nothing new.

    Args:
        model: a function from a tensor to a tensor, or a ``keras.Model``, called as at inference.
        options: what the model is called with besides, for example ``training=False``.
    """
    return tf.function(lambda images: model(images, **options), reduce_retracing=True)


def in_parts(function, size: int, *arrays) -> np.ndarray:
    """Call ``function`` with ``size`` rows of all arrays at a time, and join what it returns."""
    parts = range(0, len(arrays[0]), size)
    found = [function(*(tf.constant(array[i : i + size]) for array in arrays)) for i in parts]
    return np.concatenate(found)


def predicted(logits, images, batch_size: int = 500) -> np.ndarray:
    """Return the class that each image is given, int64, shape (n,)."""
    return in_parts(logits, batch_size, images).argmax(axis=1)


def through_png(images) -> np.ndarray:
    """Write images as PNG files of 8 bits a channel, read them again with Pillow.

    Args:
        images: shape (n, h, w, 1 or 3), values in [0, 1]; rounded to the nearest of 256 levels.

    Returns:
        float32, same shape, values k / 255.

    Raises:
        ValueError: a value is not in [0, 1].
    """
    images = np.asarray(images)
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"images go from {images.min()} to {images.max()}: keep them in [0, 1], a file holds "
            "nothing else."
        )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images):
            path = pathlib.Path(folder, f"{number}.png")
            Image.fromarray(np.uint8(np.round(image * 255)).squeeze()).save(path)
            with Image.open(path) as file:
                found.append(np.asarray(file, np.float32).reshape(image.shape) / 255)
    return np.stack(found)


def library_pgd(logits, images, labels, eps: float, steps: int, step_size: float, restarts: int):
    """Return images attacked by the Adversarial Robustness Toolbox's PGD in the maximum norm.

    Its restarts are inside: of several attempts at an image it returns one that fooled the model.

    Args:
        logits: images in [0, 1] -> logits of 10 classes, compiled.
        images, labels: float32 (n, h, w, c) in [0, 1] and (n,).
        eps, step_size: in units of [0, 1].
        steps, restarts: as in the chapter.

    Returns:
        float32, shape of the images.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about frameworks that are not installed
        try:
            from art.attacks.evasion import ProjectedGradientDescent
            from art.estimators.classification import TensorFlowV2Classifier
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "The attack library is not installed: pip install adversarial-robustness-toolbox."
            ) from None
        logging.getLogger("art").setLevel(logging.ERROR)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classifier = TensorFlowV2Classifier(
            model=lambda images, training: logits(images), nb_classes=10, loss_object=loss,
            input_shape=images.shape[1:], clip_values=(0, 1),
        )  # fmt: skip
        attack = ProjectedGradientDescent(
            classifier, norm=np.inf, eps=eps, eps_step=step_size, max_iter=steps,
            num_random_init=restarts, batch_size=500, verbose=False,
        )  # fmt: skip
        return attack.generate(images, y=np.asarray(labels))


def show_attacks(classifier, before, after, alt: str, strength: int = 20) -> None:
    """Show photographs, what was done to them, and the results, with the classifier's answers.

    Args:
        classifier: an ``imagenet.ImageNetClassifier``.
        before, after: float32, shape (n, h, w, 3), values in [0, 1].
        alt: a text for readers who cannot see it.
        strength: how much stronger the changes are shown, around grey.
    """
    changes = 0.5 + strength * (np.asarray(after) - before)
    _, axes = plt.subplots(3, len(before), figsize=(1.8 * len(before), 6), squeeze=False)
    for column in range(len(before)):
        for row, picture in enumerate((before[column], changes[column], after[column])):
            title = f"change x {strength}"
            if row != 1:
                name, probability = classifier.top(picture, 1)[0]
                title = f"{name[:19]}\n{100 * probability:.0f} %"
            height, width, channels = picture.shape
            quads = np.reshape(picture, (height // 2, 2, width // 2, 2, channels))
            plots.show_image(axes[row, column], quads.mean(axis=(1, 3)))  # half the size
            axes[row, column].set_title(title, fontsize=9)
    plots.show(alt)
