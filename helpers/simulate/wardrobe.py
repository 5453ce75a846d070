"""Wardrobe: what somebody likes about a garment, and the clicks that show it.

A simulated user's taste is known, so that a design can be judged by it; a reader's is not. The
choices between two garments follow Bradley & Terry 1952.
"""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

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


@dataclasses.dataclass(frozen=True, eq=False)
class User:
    """A simulated user with a hidden taste; get one from ``simulate``.

    Attributes:
        wish: the class of garment that is wanted.
        taste: weight of each attribute, length 1, shape (5,).
        mean, sd: of the attributes of that class's garments, shape (5,).
        care: how much a difference of 1 in the utility counts in a choice.
    """

    wish: int
    taste: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    care: float = 2.0

    def utility(self, images) -> np.ndarray:
        """Return how much garments (n, 28, 28, 1) in [0, 1] are liked; 0: an average one."""
        return np.clip((attributes(images) - self.mean) / self.sd, -3, 3) @ self.taste

    def choose(self, first, second, rng) -> np.ndarray:
        """Return for each pair of images (n, ...) whether the first is clicked, bool (n,).

        With probability sigmoid(care * (utility(first) - utility(second))).
        """
        difference = self.care * (self.utility(first) - self.utility(second))
        return rng.random(len(difference)) < 1 / (1 + np.exp(-difference))

    def click(self, images, looks, pairs, rng):
        """Choose between pairs, positions (2, n) of images and of their descriptions (m, d).

        Returns:
            The descriptions of the first and of the second ones, (n, d) each, and the choices.
        """
        first, second = pairs
        return looks[first], looks[second], self.choose(images[first], images[second], rng)


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
        self._search = NearestNeighbors(n_neighbors=3).fit(self.seen_features)
        self._radii = self._search.kneighbors()[0][:, -1]

    def strangeness(self, features) -> np.ndarray:
        """Return how far features (m, 64) are from the nearest training garment; <= 1: realistic.

        In units of that garment's distance to its own third neighbour (as in the manifold of
        Kynkäänniemi et al. 2019), or of the median of these distances where it is smaller: near a
        garment without relatives anything would pass.
        """
        distance, nearest = self._search.kneighbors(features, n_neighbors=1)
        return distance[:, 0] / np.minimum(self._radii, np.median(self._radii))[nearest[:, 0]]

    def best(self, features, liked, n: int = 4) -> np.ndarray:
        """Return which n realistic images are liked most (after them, the least strange ones)."""
        strange = self.strangeness(features)
        return np.lexsort((np.where(strange <= 1, -np.asarray(liked), strange), strange > 1))[:n]

    def shelf(self, kind: int, liked) -> np.ndarray:
        """Return how much each garment for sale is liked, -1e9 where it is of another class."""
        return np.where(self.kinds == kind, liked, -1e9)

    def pairs(self, kind: int, n: int, rng) -> np.ndarray:
        """Return positions of n random pairs of training garments of one class, shape (2, n)."""
        return rng.choice(np.flatnonzero(self.seen_kinds == kind), (2, n))

    def closest(self, features) -> np.ndarray:
        """Return the two training garments nearest to features (m, 64): (m, 2, 28, 28, 1)."""
        return self.seen[self._search.kneighbors(features, n_neighbors=2)[1]]


def simulate(shop: Shop, n: int, seed: int) -> list[User]:
    """Return n users: the k-th wants class k (modulo 10), with a random taste."""
    rng, users = np.random.default_rng(seed), []
    for number in range(n):
        wish = number % 10
        measured = attributes(shop.seen[shop.seen_kinds == wish])
        taste = rng.standard_normal(len(ATTRIBUTES))
        taste /= np.linalg.norm(taste)
        users.append(User(wish, taste, measured.mean(axis=0), measured.std(axis=0) + 1e-9))
    return users


def agreement(users, predicted, shop: Shop) -> float:
    """Return the mean correlation of predicted and true utility over the wanted test garments."""
    found = []
    for user, values in zip(users, predicted[: len(users)], strict=True):
        mine = shop.kinds == user.wish
        found.append(np.corrcoef(values[mine], user.utility(shop.catalogue[mine]))[0, 1])
    return float(np.mean(found))


def compare(users, predicted, designs, shop: Shop):
    """Set designs against the garments that a shop has.

    Args:
        users: simulated users, k.
        predicted: for each user (and, after them, for readers without a known utility) the
            predicted utility of every garment of the catalogue, shape (n,), very low where a
            garment is of another class; the highest is the one that the shop recommends.
        designs: one for each of those, shape (k or more, 28, 28, 1).
        shop: has ``catalogue`` and ``kinds``.

    Returns:
        rivals: for each design the recommended garment and the truly best one (for readers the
            recommended one again), shape (k or more, 2, 28, 28, 1).
        truth: the users' true utilities, {"item", "best", "design"}: lists of k numbers.
    """
    rivals, truth = [], {"item": [], "best": [], "design": []}
    for number, values in enumerate(predicted):
        item = best = shop.catalogue[np.argmax(values)]
        if number < len(users):
            user = users[number]
            mine = shop.catalogue[shop.kinds == user.wish]
            best = mine[np.argmax(user.utility(mine))]
            for name, image in (("item", item), ("best", best), ("design", designs[number])):
                truth[name].append(float(user.utility(image[None])[0]))
        rivals.append([item, best])
    return np.array(rivals), truth


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
        plots.image_grid(shown, columns=min(static, len(self.first)))
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
