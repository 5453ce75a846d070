"""Chapter 4 as code: convolutions, smoothing, the average of the weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import convolve2d
from scipy.special import log_expit

from helpers import chapters, experiment

chapter = chapters.import_chapter("04_dcgan")
rng = np.random.default_rng(0)


def test_a_transposed_convolution_stamps_its_kernel():
    """The picture of the chapter's first section, with SciPy's convolution of a dilated input."""
    layer = keras.layers.Conv2DTranspose(1, 4, strides=2, padding="valid")
    x = rng.normal(size=(1, 7, 7, 1)).astype(np.float32)
    y = layer(x)[0, ..., 0]
    dilated = np.zeros((13, 13))
    dilated[::2, ::2] = x[0, ..., 0]
    expected = convolve2d(dilated, layer.kernel.numpy()[..., 0, 0], mode="full")
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3])
def test_label_smoothing_is_the_cross_entropy_with_soft_labels(alpha):
    real, fake = rng.normal(0, 3, (2, 40, 1))
    expected = -((1 - alpha) * log_expit(real) + alpha * log_expit(-real)).mean()
    expected -= log_expit(-fake).mean()
    value = chapter.smoothed_discriminator_loss(real, fake, alpha)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_builders_give_the_shapes_that_they_promise(normalise):
    generator = chapter.build_generator(6, width=8, normalise=normalise)
    images = generator(rng.normal(size=(3, 6)))
    assert images.shape == (3, 28, 28, 1)
    assert -1 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 1
    discriminator = chapter.build_discriminator((28, 28, 1), width=8, normalise=normalise)
    assert discriminator(images).shape == (3, 1)
    norms = [
        sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
        for model in (generator, discriminator)
    ]
    assert norms == ([2, 1] if normalise else [0, 0])


def new_gan():
    experiment.start("smoke", 5)
    networks = chapter.build_generator(4, width=8), chapter.build_discriminator((28, 28, 1), 8)
    gan = chapter.AveragedGAN(*networks, 5, decay=0.9)
    losses = (chapter.chapter3.generator_loss, chapter.smoothed_discriminator_loss)
    adam = [keras.optimizers.Adam(1e-2) for _ in range(2)]
    gan.compile(*adam, losses=losses, jit_compile=False)
    return gan


def test_the_average_follows_its_formula():
    gan = new_gan()
    slow = [w.numpy().copy() for w in gan.average.weights]
    batches = tf.data.Dataset.from_tensors(np.zeros((4, 28, 28, 1), np.uint8)).repeat()
    for step in range(1, 4):
        gan.fit(batches, epochs=1, steps_per_epoch=1, verbose=0)
        decay = min(0.9, (1 + step) / (10 + step))
        fast = [w.numpy() for w in gan.generator.weights]
        slow = [decay * a + (1 - decay) * b for a, b in zip(slow, fast, strict=True)]
    for mine, average in zip(slow, gan.average.weights, strict=True):
        np.testing.assert_allclose(average, mine, rtol=1e-4, atol=1e-6)


def test_images_come_from_the_average():
    gan, latent = new_gan(), np.ones((2, 4), np.float32)
    for weight in gan.generator.weights:
        weight.assign(tf.zeros_like(weight))
    expected = (gan.average(latent, training=False) + 1) / 2
    np.testing.assert_allclose(gan.generate(latent), expected, atol=1e-5)


def test_slerp_walks_on_the_sphere_at_a_steady_pace():
    a, b = rng.normal(size=(2, 16))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    walk = chapter.slerp(a, b, np.linspace(0, 1, 9))
    np.testing.assert_allclose(walk[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 1)
    angles = np.arccos(np.sum(walk[:-1] * walk[1:], axis=1))
    np.testing.assert_allclose(angles, angles[0])
