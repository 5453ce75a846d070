"""Wardrobe: garments for sale, what can be measured about them, and a reader's clicks."""

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from helpers import data, metrics, plots

ATTRIBUTES = ("brightness", "width", "texture", "symmetry", "upper half")


def attributes(images) -> np.ndarray:
    """Measure five properties of garments.

    Args:
        images: shape (n, 28, 28, 1), floats in [0, 1].

    Returns:
        float64, shape (n, 5), as in ``ATTRIBUTES``: mean brightness of the garment's pixels (those
        above 0.1), share of the columns that it fills in an average row, mean difference of
        neighbouring pixels, minus the mean difference to the mirror image, and the share of its
        ink in the upper half.
    """
    x = np.asarray(images, np.float64)[..., 0]
    on = x > 0.1
    ink = np.maximum(x.sum(axis=(1, 2)), 1e-9)
    steps = np.abs(np.diff(x, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(x)).mean(axis=(1, 2))
    filled = np.maximum(on.any(axis=2).sum(axis=1), 1)
    return np.stack(
        [
            (x * on).sum(axis=(1, 2)) / np.maximum(on.sum(axis=(1, 2)), 1),
            on.sum(axis=(1, 2)) / filled / x.shape[2],
            steps / np.maximum(x.mean(axis=(1, 2)), 1e-9),
            -np.abs(x - x[:, :, ::-1]).mean(axis=(1, 2)) / np.maximum(x.mean(axis=(1, 2)), 1e-9),
            x[:, : x.shape[1] // 2].sum(axis=(1, 2)) / ink,
        ],
        axis=1,
    )


def describe(images, features):
    """Return what a preference model sees, (n, 211) float32; gradients pass.

    The features and, in 7 x 7 fields, brightness, edges and the difference to the mirror image.

    Args:
        images, features: shapes (n, 28, 28, 1), floats in [0, 1], and (n, 64), the classifier's.
    """
    edges = sum(tf.abs(images - tf.roll(images, 1, axis)) for axis in (1, 2))
    planes = tf.concat([images, edges, tf.abs(images - images[:, :, ::-1])], axis=-1)
    fields = tf.nn.avg_pool2d(planes, 4, 4, "VALID")
    return tf.concat([features / 4, 2 * tf.reshape(fields, (-1, 3 * 49))], axis=1)


class Shop:
    """Fashion-MNIST as a shop: test garments to sell, training garments to click on.

    Args:
        n, seed: how many of the training garments are used, and which.
        sale: how many test garments are for sale, the first ones.

    Attributes:
        catalogue, kinds: the garments for sale, float32 (sale, 28, 28, 1) in [0, 1], and classes.
        features: the reference classifier's features of all 10,000 test garments, (10000, 64);
            those for sale come first.
        seen, seen_kinds, seen_features: the training garments, their classes and features.
    """

    def __init__(self, n: int, seed: int, sale: int = 2000):
        images, labels = data.load("fashion-mnist", "test")
        self.catalogue, self.kinds = data.to_unit(images[:sale]), labels[:sale]
        self.features = metrics.real_features("fashion-mnist")
        images, labels = data.load("fashion-mnist", "train")
        chosen = np.random.default_rng(seed).choice(len(images), n, replace=False)
        self.seen, self.seen_kinds = data.to_unit(images[chosen]), labels[chosen]
        self.seen_features = metrics.load_classifier("fashion-mnist").features(self.seen)

    def pairs(self, kind: int, n: int, rng) -> np.ndarray:
        """Return positions of n random pairs of training garments of one class, shape (2, n)."""
        return rng.choice(np.flatnonzero(self.seen_kinds == kind), (2, n))


class Clicks:
    """Asks a reader for choices between two garments, by buttons in a live notebook.

    Args:
        first, second: images (n, 28, 28, 1) in [0, 1].

    Attributes:
        answers: a list, one bool for each pair that was answered: was the first one liked more?
    """

    def __init__(self, first, second):
        self.first, self.second, self.answers = np.asarray(first), np.asarray(second), []

    def answer(self, first_is_liked: bool) -> None:
        """Keep the answer for the next pair; ignored after the last one."""
        if len(self.answers) < len(self.first):
            self.answers.append(bool(first_is_liked))

    def _draw(self) -> None:
        pair = min(len(self.answers), len(self.first) - 1)
        _, axes = plt.subplots(1, 2, figsize=(3, 1.6))
        for ax, image in zip(axes, (self.first[pair], self.second[pair]), strict=True):
            plots.show_image(ax, image)
        plt.show()

    def show(self, static: int = 8):
        """Show the first pairs one above the other, and, where a kernel can answer, the buttons."""
        shown = np.concatenate([self.first[:static], self.second[:static]])
        alt = "Pairs of garments, one above the other: which one would you rather have?"
        plots.image_grid(shown, columns=min(static, len(self.first)), scale=1.5, alt=alt)
        from IPython import get_ipython

        if get_ipython() is None:
            return
        import ipywidgets
        from IPython.display import display

        output, label = ipywidgets.Output(), ipywidgets.Label()
        buttons = [ipywidgets.Button(description=f"I prefer the {side}") for side in
                   ("left one", "right one")]  # fmt: skip

        def redraw():
            label.value = f"{len(self.answers)} of {len(self.first)} answered"
            output.clear_output(wait=True)
            with output:
                self._draw()

        for button, liked in zip(buttons, (True, False), strict=True):
            button.on_click(lambda _, liked=liked: (self.answer(liked), redraw()))
        label.value = f"0 of {len(self.first)} answered: click, and run the next cells again"
        display(ipywidgets.VBox([label, output, ipywidgets.HBox(buttons)]))
