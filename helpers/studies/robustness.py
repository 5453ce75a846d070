"""What studies of attacks share (chapter 10): counting survivors, 8-bit files, a library's PGD.

The attacks themselves are in the chapter. Here images have shape (n, h, w, 1 or 3) and values in
[0, 1], labels have shape (n,), and ``logits`` is a function from images to logits (n, classes).
"""

import logging
import pathlib
import tempfile
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from PIL import Image

from helpers import chapters, data, files, pictures, plots
from helpers.sources import imagenet, photographs

SHOWN = ("coffee", "camera", "helmet", "cat", "rocket", "palace", "flower")
LOOK = 20  # how much stronger a perturbation is shown


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


def survivors(
    logits, images, labels, attack=None, restarts: int = 1, batch_size: int = 500
) -> np.ndarray:
    """Return which images keep their class, in the worst case over an attack's restarts.

    An image that was fooled once is fooled: it is not attacked again (Madry et al. 2018, their
    challenge counts the same way).

    Args:
        logits: images -> logits.
        images: float32, shape (n, h, w, c), values in [0, 1].
        labels: shape (n,), the true classes.
        attack: ``attack(images, labels)`` -> images; None looks at the clean images alone.
        restarts: how often to attack what is left.
        batch_size: images that are attacked together.

    Returns:
        bool, shape (restarts + 1, n): row 0 without attack, row r after r restarts. The mean of a
        row is an accuracy.

    Raises:
        ValueError: there are not as many labels as images, or none.
    """
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"There are {len(images)} images and {len(labels)} labels: give n of each."
        )
    rows = [predicted(logits, images, batch_size) == labels]
    for _ in range(restarts if attack else 0):
        left = rows[-1].copy()
        indices = np.flatnonzero(left)
        for i in range(0, len(indices), batch_size):
            part = indices[i : i + batch_size]
            attacked = attack(tf.constant(images[part]), tf.constant(labels[part]))
            left[part] = predicted(logits, attacked, batch_size) == labels[part]
        rows.append(left)
    return np.stack(rows)


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


def train_dcgan(images, steps: int, seed: int, latent_dim: int = 64):
    """Train chapter 4's DCGAN with its settings, perhaps for fewer steps.

    Args:
        images: uint8, shape (n, 28, 28, 1).
        steps: training steps of 64 images.
        seed: for the first weights, the noise and the batches.
        latent_dim: size of the latent code.

    Returns:
        A function from latent codes (m, latent_dim) to images (m, 28, 28, 1) in [0, 1], the
        average of the generator's weights.
    """
    chapter = chapters.import_chapter("04_dcgan")
    keras.utils.set_random_seed(seed)
    players = chapter.build_generator(latent_dim), chapter.build_discriminator(images.shape[1:])
    gan = chapter.AveragedGAN(*players, seed)
    losses = chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss
    adam = [keras.optimizers.Adam(2e-3, beta_1=0.5, beta_2=0.99) for _ in range(2)]
    gan.compile(*adam, losses=losses, jit_compile=False, steps_per_execution=10)
    batches = data.batches(images, 64, seed)
    gan.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0)
    return lambda latent: (gan.average(latent, training=False) + 1) / 2


def with_own(own=None) -> np.ndarray:
    """Return seven photographs that may be shown, before them the reader's own if there is one.

    Args:
        own: what ``pictures.read_picture`` takes, or None.

    Returns:
        float32, shape (7 or 8, 224, 224, 3), values k / 255.
    """
    known = photographs.examples()
    first = [] if own is None else [pictures.read_picture(own)]
    return np.stack(first + [known[name] for name in SHOWN])


def imagenet_classifier(name: str):
    """Return the embedded classifier, or one of ``imagenet.OFFICIAL`` where there is a network.

    Args:
        name: ``"embedded"``, or the name of a network in ``keras.applications``. If its weights
            cannot be had, one sentence is printed and the embedded one is returned.

    Raises:
        ValueError: the name is unknown.
    """
    try:
        return imagenet.load(imagenet.NETWORK if name == "embedded" else name)
    except files.DownloadError as error:
        print(error)
        return imagenet.load(imagenet.NETWORK)


def show_attacks(classifier, before, after) -> None:
    """Show photographs, what was done to them (20 times as strong), and the results, with names.

    Args:
        classifier: an ``imagenet.ImageNetClassifier``.
        before, after: float32, shape (n, h, w, 3), values in [0, 1].
    """
    changes = 0.5 + LOOK * (np.asarray(after) - before)
    _, axes = plt.subplots(3, len(before), figsize=(1.8 * len(before), 6), squeeze=False)
    for column, shown in enumerate(zip(before, changes, after, strict=True)):
        for row, picture in enumerate(shown):
            title = f"change x {LOOK}"
            if row != 1:
                name, probability = classifier.top(picture, 1)[0]
                title = f"{name[:19]}\n{100 * probability:.0f} %"
            plots.show_image(axes[row, column], picture[::2, ::2])
            axes[row, column].set_title(title, fontsize=9)
    plt.show()


def show_curves(x, curves: dict[str, list[float]], xlabel: str, ylabel: str) -> None:
    """Draw named shares in [0, 1] over common x values."""
    _, ax = plt.subplots(figsize=(6, 2.8))
    for name, values in curves.items():
        ax.plot(x, values, marker=".", label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1))
    ax.legend(frameon=False)
    plt.show()


def matrix(rows: dict[str, dict[str, float]]) -> None:
    """Print a table of shares in per cent: {row: {column: share}}."""
    columns = list(next(iter(rows.values())))
    wide, width = max(map(len, rows)), max(map(len, [*columns, "100.0"]))
    print(" " * wide, *(column.rjust(width) for column in columns), sep="  ")
    for name, row in rows.items():
        cells = (f"{100 * row[column]:.1f}".rjust(width) for column in columns)
        print(name.ljust(wide), *cells, sep="  ")
