"""Metrics: how good, how varied and how complete the images of a generator are.

All distances are between features of the reference classifier (``helpers.metrics``), arrays of
shape (n, d). ``evaluate`` takes images and gives every number at once. Wrong shapes, too few
samples, numbers out of range or not finite raise a ValueError that says what to give.
"""

import functools

import h5py
import keras
import numpy as np
import scipy.linalg
from keras import layers
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from helpers import data, files

SUBSET = 500  # samples of a KID subset, at most
MODE_SHARE = 0.01  # of the samples, for a class to count as a mode that was found


def _features(*arrays, least: int = 2) -> list[np.ndarray]:
    """Check feature arrays and return them in double precision."""
    arrays = [np.asarray(a, dtype=np.float64) for a in arrays]
    for a in arrays:
        if a.ndim != 2 or a.shape[1] != arrays[0].shape[1] or len(a) < least:
            raise ValueError(
                f"Features have the shapes {[a.shape for a in arrays]}: give (n, d) with one d "
                f"and n >= {least}."
            )
        if not np.isfinite(a).all():
            raise ValueError("Features are not finite: the images hold NaN or infinity.")
    return arrays


def frechet_distance(mean1, covariance1, mean2, covariance2) -> float:
    """Return the squared Fréchet distance of two normal distributions (Heusel et al. 2017, eq. 6).

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), means of shape (d,), covariances (d, d). With
    the root R of C1, the trace of (C1 C2)^(1/2) is that of (R C2 R)^(1/2), which is symmetric:
    its eigenvalues are real and singular covariances need no special care.
    """
    values, vectors = scipy.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = scipy.linalg.eigvalsh(root @ covariance2 @ root)
    traces = np.trace(covariance1 + covariance2) - 2 * np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return float(max(np.sum((mean1 - mean2) ** 2) + traces, 0.0))


def fid(real, fake) -> float:
    """Return the Fréchet distance of two sets of features, >= 0 (Heusel et al. 2017, eq. 6).

    With features of an Inception network it is the published FID. The course uses those of a small
    classifier of the same data (``load_classifier``): no value here can be compared with a paper's.
    It is biased: fewer samples give a larger value. Compare only values of equally many samples,
    and with the value of real images against real images.

    Args:
        real, fake: shapes (n, d) and (m, d); n, m >= 2.
    """
    real, fake = _features(real, fake)
    moments = [
        (a.mean(axis=0), np.cov(a, rowvar=False).reshape(a.shape[1], -1)) for a in (real, fake)
    ]
    return frechet_distance(*moments[0], *moments[1])


def squared_mmd(real, fake) -> float:
    """Return the squared maximum mean discrepancy, unbiased (Bińkowski et al. 2018, § 4).

    Under the kernel (x.y / d + 1)^3, of (n, d) and (m, d) features; n, m >= 2. Expected 0 for
    equal distributions, where it can be negative.
    """
    real, fake = _features(real, fake)

    def kernel(a, b):
        base = a @ b.T / a.shape[1] + 1
        return base * base * base

    def within(a):
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return float(within(real) + within(fake) - 2 * kernel(real, fake).mean())


def kid(real, fake, subsets: int = 20, seed: int = 0) -> tuple[float, float]:
    """Return the kernel Inception distance and its standard error (Bińkowski et al. 2018, § 4).

    The mean of ``squared_mmd`` over random subsets of equal size, 500 samples at most. No sample
    is in two subsets: the values are then independent, and their spread gives an honest error
    (with overlapping subsets it comes out too small, up to seven times).

    Args:
        real, fake: shapes (n, d) and (m, d); n, m >= 2 * subsets.
        subsets: how many subsets, >= 2.
        seed: chooses the subsets.
    """
    if subsets < 2:
        raise ValueError(f"subsets is {subsets}: the standard error needs at least 2.")
    real, fake = _features(real, fake, least=2 * subsets)
    rng, size = np.random.default_rng(seed), min(SUBSET, min(len(real), len(fake)) // subsets)
    chosen = [rng.permutation(len(a))[: subsets * size].reshape(subsets, -1) for a in (real, fake)]
    values = [squared_mmd(real[i], fake[j]) for i, j in zip(*chosen, strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets))


def _probabilities(probabilities) -> np.ndarray:
    """Check class probabilities and return them in double precision."""
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not len(p) or (p < 0).any() or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
        raise ValueError(f"probabilities of shape {p.shape}: give rows >= 0 that sum to 1.")
    return p


def inception_score(probabilities) -> float:
    """Return exp E KL(p(y|x) || p(y)), from 1 to the number of classes (Salimans et al. 2016, § 4).

    It rewards confident and evenly spread classes; it does not look at the real images at all.

    Args:
        probabilities: shape (n, classes), rows that sum to 1.
    """
    p = _probabilities(probabilities)
    marginal = np.broadcast_to(p.mean(axis=0), p.shape)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, marginal, 1)), 0)
    return float(np.exp(terms.sum(axis=1).mean()))


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Return each point's distance to its k-th nearest neighbour (itself not counted)."""
    if k < 1:
        raise ValueError(f"k is {k}: give the number of a neighbour, 1 or more.")
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors()[0][:, -1]


def _balls(points: np.ndarray, centres: np.ndarray, radii: np.ndarray):
    """Return in how many balls around ``centres`` each point lies, and which balls hold a point.

    In blocks: all distances at once would take 800 MB for 10,000 samples.
    """
    # The distance of equal points is rounded to about 1e-8 of their length, not always to 0.
    radii = radii + 1e-7 * np.sqrt((centres**2).sum(axis=1).max())
    inside, full = np.zeros(len(points), int), np.zeros(len(centres), bool)
    for start in range(0, len(points), 1000):
        block = slice(start, start + 1000)
        hit = euclidean_distances(points[block], centres) <= radii
        inside[block] = hit.sum(axis=1)
        full |= hit.any(axis=0)
    return inside, full


def precision_recall(real, fake, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall, both in [0, 1] (Kynkäänniemi et al. 2019, eq. 1-3).

    Precision: the share of fakes inside the real manifold (balls around the real samples that
    reach to their k-th neighbour). Recall: the share of real samples inside the fakes' manifold.

    Args:
        real, fake: shapes (n, d) and (m, d); n, m > k >= 1, the neighbour.
    """
    real, fake = _features(real, fake, least=k + 1)
    precision = (_balls(fake, real, _radii(real, k))[0] > 0).mean()
    recall = (_balls(real, fake, _radii(fake, k))[0] > 0).mean()
    return float(precision), float(recall)


def density_coverage(real, fake, k: int = 5) -> tuple[float, float]:
    """Return density (>= 0, about 1 for equal sets) and coverage (in [0, 1]) (Naeem et al. 2020).

    Density counts in how many real balls a fake lies, divided by k: outliers among the real
    samples, which inflate precision, weigh little. Coverage is the share of real balls that hold
    a fake.

    Args:
        real, fake: shapes (n, d) and (m, d); n, m > k >= 1, the neighbour.
    """
    real, fake = _features(real, fake, least=k + 1)
    inside, full = _balls(fake, real, _radii(real, k))
    return float(inside.mean() / k), float(full.mean())


def class_histogram(probabilities) -> np.ndarray:
    """Return the share of samples whose most probable class is each one, shape (classes,)."""
    p = _probabilities(probabilities)
    return np.bincount(p.argmax(axis=1), minlength=p.shape[1]) / len(p)


def modes(probabilities, share: float = MODE_SHARE) -> int:
    """Return how many classes have at least this share of the samples (1 % by default)."""
    return int((class_histogram(probabilities) >= share).sum())


@functools.cache
def _real(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the 10,000 test images and of 10,000 training images."""
    classifier, images = load_classifier(name), data.load(name, "train")[0]
    chosen = np.random.default_rng(0).choice(len(images), 10000, replace=False)
    both = data.load(name, "test")[0], images[chosen]
    features = tuple(classifier.features(data.to_unit(part)) for part in both)
    for part in features:
        part.flags.writeable = False  # everybody gets the same arrays
    return features


def real_features(name: str, n: int = 10000) -> np.ndarray:
    """Return the features of the first n test images, float32, shape (n, 64); n <= 10,000."""
    return _real(name)[0][:n]


def evaluate(images, name: str, k: int = 3) -> dict[str, float]:
    """Measure generated images against the real test images.

    For n < 10,000 images the first n test images are taken, so that both sides are equally large;
    ``fid_floor`` is the FID of n real training images against the same test images: no generator
    can be expected to be better. Both grow as n falls (MNIST's floor is 0.04 with 10,000 images,
    0.9 with 500): compare a FID with its floor and with FIDs of the same n.

    Args:
        images: shape (n, 28, 28, 1), floats in [0, 1], n >= 50; more than 10,000 are cut.
        name: ``"mnist"`` or ``"fashion-mnist"``.
        k: neighbour for precision and recall.

    Returns:
        fid, fid_floor, kid, kid_se, inception_score, precision, recall, density, coverage, modes,
        smallest_class_share, largest_class_share.

    Raises:
        helpers.files.DataError: the name is unknown, or a file is missing or damaged.
    """
    images = np.asarray(images)
    if images.ndim == 4 and len(images) < 50:
        raise ValueError(f"There are {len(images)} images: generate at least 50, better 10,000.")
    fake, probabilities = load_classifier(name)(np.atleast_1d(images)[:10000])
    real, other = (features[: len(fake)] for features in _real(name))
    distance, error = kid(real, fake)
    precision, recall = precision_recall(real, fake, k)
    density, coverage = density_coverage(real, fake)
    shares = class_histogram(probabilities)
    return {
        "fid": fid(real, fake),
        "fid_floor": fid(real, other),
        "kid": distance,
        "kid_se": error,
        "inception_score": inception_score(probabilities),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "modes": modes(probabilities),
        "smallest_class_share": float(shares.min()),
        "largest_class_share": float(shares.max()),
    }


FEATURES = 64
WIDTHS = {
    "mnist": ((24, 1), (32, 2), (48, 1), (64, 2), (64, 1)),
    "fashion-mnist": ((32, 1), (64, 2), (64, 1), (96, 2), (128, 1)),
}


def build_classifier(name: str) -> keras.Model:
    """Build the network for one data set: (n, 28, 28, 1) in [0, 1] -> features, logits.

    Convolutions with batch normalisation (width, stride as in ``WIDTHS``), the mean over the
    positions, a layer of 64 features that are >= 0, and ten logits. Always in float32, also
    where a notebook has set a policy of mixed precision for its own models.
    """
    single = {"dtype": "float32"}
    x = images = keras.Input((28, 28, 1), **single)
    for width, stride in WIDTHS[name]:
        x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False, **single)(x)
        x = layers.BatchNormalization(momentum=0.9, **single)(x)
        x = layers.ReLU(**single)(x)
    x = layers.GlobalAveragePooling2D(**single)(x)
    features = layers.Dense(FEATURES, activation="relu", **single)(x)
    dropped = layers.Dropout(0.3, **single)(features)
    logits = layers.Dense(10, **single)(dropped)
    return keras.Model(images, [features, logits])


class ReferenceClassifier:
    """A trained classifier of MNIST or Fashion-MNIST; get one from ``load``."""

    def __init__(self, model: keras.Model):
        self._model = model

    @property
    def network(self) -> keras.Model:
        """The Keras model, images in [0, 1] -> features, logits: for gradients by the pixels."""
        return self._model

    def __call__(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Return features and class probabilities.

        Args:
            images: shape (n, 28, 28, 1), floats in [0, 1]; n >= 1.

        Returns:
            features: float32, shape (n, 64), >= 0.
            probabilities: float32, shape (n, 10); each row sums to 1.

        Raises:
            ValueError: another shape, or values that are not finite or not in [0, 1].
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != (28, 28, 1) or not len(images):
            raise ValueError(f"images have shape {images.shape}: give (n, 28, 28, 1), n >= 1.")
        if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(
                f"images are {images.dtype} from {images.min()} to {images.max()}: give floats in "
                "[0, 1] (data.to_unit or data.from_symmetric)."
            )
        features, logits = self._model.predict(images, batch_size=500, verbose=0)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return features, exponentials / exponentials.sum(axis=1, keepdims=True)

    def features(self, images) -> np.ndarray:
        """Return the features alone, float32, shape (n, 64)."""
        return self(images)[0]

    def probabilities(self, images) -> np.ndarray:
        """Return the class probabilities alone, float32, shape (n, 10)."""
        return self(images)[1]


def weights_file(name: str) -> str:
    """Return the path of a set's weights inside ``data/``."""
    return f"reference/{name}.weights.h5"


@functools.cache
def load_classifier(name: str) -> ReferenceClassifier:
    """Return the trained reference classifier of a data set.

    Args:
        name: ``"mnist"`` (test accuracy >= 99.4 %) or ``"fashion-mnist"`` (>= 93 %).

    Raises:
        helpers.files.DataError: the name is unknown, or the file is missing or damaged.
    """
    if name not in WIDTHS:
        raise files.DataError(
            f"There is no classifier for {name!r}: use one of {', '.join(WIDTHS)}."
        )
    model = build_classifier(name)
    # Datasets 00, 01, ... in half precision, in the order of model.weights: half the size of
    # Keras' own layout, the same accuracy. Keras' load_weights does not read it.
    with h5py.File(files.checked_path(weights_file(name)), "r") as file:
        model.set_weights([file[f"{i:02d}"][()] for i in range(len(model.weights))])
    return ReferenceClassifier(model)
