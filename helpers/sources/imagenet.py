"""A real ImageNet classifier, embedded, and photographs to show it (chapter 10).

EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; the Lite variant: Liu 2020, TensorFlow blog)
names 1000 kinds of things. ``tools/convert_imagenet.py`` made its weights from the published ones;
``data/README.md`` says from which.
"""

import functools
import http.client
import socket

import h5py
import keras
import numpy as np
import tensorflow as tf
from keras import layers

from helpers import files
from helpers.pictures import SIZE

NETWORK = "EfficientNet-Lite0"
CLASSES = 1000
WEIGHTS = "imagenet/efficientnet-lite0.weights.h5"  # inside data/
NAMES = "imagenet/classes.txt"
# repeats, kernel, stride, expansion, width: as in the authors' efficientnet_lite_builder.py
BLOCKS = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
EPSILON = 1e-3  # of the batch normalisations
# Networks of keras.applications and what turns [0, 1] into their range: factor, then addend.
OFFICIAL = {
    "EfficientNetV2B0": (255, 0),  # has its own scaling inside
    "EfficientNetB0": (255, 0),
    "MobileNetV2": (2, -1),
    "MobileNetV3Large": (255, 0),
    "ResNet50V2": (2, -1),
}
TIMEOUT = 30  # seconds without an answer before a download is given up


def build_classifier() -> keras.Model:
    """Build EfficientNet-Lite0 without weights: (n, 224, 224, 3) in [0, 1] -> logits (n, 1000).

    The first layer turns [0, 1] into the network's own range, (255 x - 127) / 128, so that a
    gradient by the image is one by the pixels as they are shown. ReLU6, no squeeze-and-excitation,
    "same" padding as TensorFlow pads (with stride 2: one more at the right and the bottom).
    Always in float32, and always as at inference: the batch statistics never move.
    """
    single = {"dtype": "float32"}

    def normalised(x, active=True):
        x = layers.BatchNormalization(epsilon=EPSILON, **single)(x)
        return layers.ReLU(max_value=6, **single)(x) if active else x

    def convolved(x, width, kernel=1, stride=1, active=True):
        options = {"strides": stride, "padding": "same", "use_bias": False}
        return normalised(layers.Conv2D(width, kernel, **options, **single)(x), active)

    images = keras.Input((SIZE, SIZE, 3), **single)
    x = layers.Rescaling(255 / 128, -127 / 128, **single)(images)
    x = convolved(x, 32, kernel=3, stride=2)
    for repeats, kernel, stride, expansion, width in BLOCKS:
        for repeat in range(repeats):
            before, first = x, repeat == 0
            if expansion > 1:
                x = convolved(x, expansion * x.shape[-1])
            options = {"strides": stride if first else 1, "padding": "same", "use_bias": False}
            x = normalised(layers.DepthwiseConv2D(kernel, **options, **single)(x))
            x = convolved(x, width, active=False)
            if x.shape == before.shape:
                x = layers.Add(**single)([x, before])
    x = convolved(x, 1280)
    x = layers.GlobalAveragePooling2D(**single)(x)
    model = keras.Model(images, layers.Dense(CLASSES, **single)(x), name="efficientnet_lite0")
    model.trainable = False
    return model


class ImageNetClassifier:
    """A trained classifier of photographs; get one from ``load``.

    Attributes:
        model: the ``keras.Model``, images in [0, 1] -> logits.
        names: tuple of 1000 class names, in the order of the logits.
    """

    def __init__(self, model: keras.Model, names: tuple[str, ...]):
        self.model, self.names = model, names

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Return the logits of a tensor, differentiable by it; nothing is checked.

        Args:
            images: float32, shape (n, 224, 224, 3), meant for [0, 1].

        Returns:
            float32, shape (n, 1000).
        """
        return self.model(images, training=False)

    def logits(self, images) -> np.ndarray:
        """Return the logits of photographs.

        Args:
            images: shape (n, 224, 224, 3), floats in [0, 1]; n >= 1.

        Returns:
            float32, shape (n, 1000).

        Raises:
            ValueError: another shape, or values that are not finite or not in [0, 1].
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3) or not len(images):
            raise ValueError(
                f"images have shape {images.shape}: give (n, {SIZE}, {SIZE}, 3), n >= 1 "
                "(image[None] makes one image a batch)."
            )
        if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(
                f"images are {images.dtype} from {images.min()} to {images.max()}: give floats in "
                "[0, 1] (pictures.read_picture or data.to_unit)."
            )
        images = images.astype(np.float32, copy=False)
        parts = [images[start : start + 32] for start in range(0, len(images), 32)]
        return np.concatenate([self(tf.constant(part)).numpy() for part in parts])

    def probabilities(self, images) -> np.ndarray:
        """Return the class probabilities, float32, shape (n, 1000); as ``logits`` otherwise."""
        return tf.nn.softmax(self.logits(images)).numpy()

    def top(self, image, k: int = 3) -> list[tuple[str, float]]:
        """Return the k likeliest (name, probability) of one image (224, 224, 3) in [0, 1]."""
        probabilities = self.probabilities(np.asarray(image)[None])[0]
        return [(self.names[i], float(probabilities[i])) for i in np.argsort(-probabilities)[:k]]


def class_names() -> tuple[str, ...]:
    """Return the 1000 names in the order of the logits; raises helpers.files.DataError."""
    return tuple(files.content(NAMES).decode("utf-8").splitlines())


def read_weights() -> list[np.ndarray]:
    """Return the stored weights, float32, in the order of ``build_classifier().weights``.

    The file's datasets 000, 001, ... have that order, as those of ``helpers/metrics.py``; the
    large ones are in half precision. Keras' load_weights does not read it.

    Raises:
        helpers.files.DataError: the file is missing or damaged.
    """
    with h5py.File(files.checked_path(WEIGHTS), "r") as file:
        return [file[name][()].astype(np.float32) for name in sorted(file)]


def _official(network: str, weights: str | None = "imagenet") -> keras.Model:
    """Return a network of keras.applications that takes [0, 1]; see ``load``."""
    factor, addend = OFFICIAL[network]
    build = getattr(keras.applications, network)
    before = socket.getdefaulttimeout()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    socket.setdefaulttimeout(TIMEOUT)  # keras waits for ever
    try:
        inner = build(weights=weights, input_shape=(SIZE, SIZE, 3), classifier_activation=None)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise files.DataError(
            f"There is too little memory for {network}: close other programs or notebooks, or stay "
            f"with {NETWORK}, which the course carries."
        ) from None
    except Exception as error:
        unreachable = (ConnectionError, TimeoutError, socket.gaierror, http.client.HTTPException)
        if type(error) is Exception or isinstance(error, unreachable):  # keras raises the first
            cure = "check the network"
        elif isinstance(error, (OSError, ValueError)):
            if isinstance(error, OSError):
                files.check_storage(error, "~/.keras")
            cure = "delete their file in ~/.keras/models and try again"
        else:
            raise
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise files.DownloadError(
            f"The weights of {network} cannot be had ({reason}): {cure}, or stay with {NETWORK}, "
            "which the course carries."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
        keras.config.set_dtype_policy(policy)
    images = keras.Input((SIZE, SIZE, 3), dtype="float32")
    scaled = layers.Rescaling(factor, addend, dtype="float32")(images)
    model = keras.Model(images, inner(scaled, training=False))
    model.trainable = False
    return model


@functools.cache
def load(network: str = NETWORK) -> ImageNetClassifier:
    """Return a trained classifier, the same object each time.

    Args:
        network: ``"EfficientNet-Lite0"``, which lies in ``data/``, or a name of ``OFFICIAL``, a
            network of keras.applications whose official weights are downloaded once (to ~/.keras).

    Raises:
        ValueError: the name is unknown.
        helpers.files.DataError: a file of ``data/imagenet`` is missing or damaged.
        helpers.files.DownloadError: the official weights cannot be had.
    """
    if network in OFFICIAL:
        return ImageNetClassifier(_official(network), class_names())
    if network != NETWORK:
        raise ValueError(
            f"There is no network {network!r}: use one of {', '.join([NETWORK, *OFFICIAL])}."
        )
    names, weights = class_names(), read_weights()
    model = build_classifier()
    model.set_weights(weights)
    return ImageNetClassifier(model, names)


def load_or_embedded(name: str) -> ImageNetClassifier:
    """Return a classifier; where it cannot be had, say why in a sentence and take the embedded one.

    Args:
        name: ``"embedded"``, or a name of ``OFFICIAL``.

    Raises:
        ValueError: the name is unknown.
        helpers.files.DataError: a file of the embedded one is missing or damaged.
    """
    if name != "embedded" and name not in OFFICIAL:
        raise ValueError(
            f"classifier is {name!r}: set it to embedded, {', '.join(OFFICIAL)} in the parameters "
            "cell."
        )
    if name in OFFICIAL:
        try:
            return load(name)
        except files.DataError as error:
            print(error)
    return load()
