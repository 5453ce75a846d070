"""Reference classifiers: the eyes of the metrics.

FID and its relatives compare images by the features of a network that knows the data. For
photographs that is Inception; for 28 x 28 pixels a small classifier of the same data sees more
(the reason is in chapter 5). ``tools/train_reference.py`` makes the weights.
"""

import functools

import h5py
import keras
import numpy as np
from keras import layers

from helpers import data

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
def load(name: str) -> ReferenceClassifier:
    """Return the trained reference classifier of a data set.

    Args:
        name: ``"mnist"`` (test accuracy >= 99.4 %) or ``"fashion-mnist"`` (>= 93 %).

    Raises:
        helpers.data.DataError: the name is unknown, or the file is missing or damaged.
    """
    if name not in WIDTHS:
        raise data.DataError(
            f"There is no classifier for {name!r}: use one of {', '.join(WIDTHS)}."
        )
    model = build_classifier(name)
    # Datasets 00, 01, ... in half precision, in the order of model.weights: half the size of
    # Keras' own layout, the same accuracy. Keras' load_weights does not read it.
    with h5py.File(data.checked_path(weights_file(name)), "r") as file:
        model.set_weights([file[f"{i:02d}"][()] for i in range(len(model.weights))])
    return ReferenceClassifier(model)
