"""The latent code of an image: with a gradient, and without one."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import chapters, experiment
from helpers.sources import hub
from helpers.studies import inversion

rng = np.random.default_rng(0)


def tensor(*shape):
    return rng.normal(size=shape).astype(np.float32)


def linear(matrix):
    return lambda codes: tf.reshape(tf.convert_to_tensor(codes) @ matrix, (-1, 4, 4, 3))


def test_descent_finds_the_least_squares_solution():
    matrix, image = tensor(3, 48), tensor(4, 4, 3)
    expected, *_ = np.linalg.lstsq(matrix.T, image.ravel(), rcond=None)
    code, log = inversion.descend(linear(matrix), image, tensor(5, 3), steps=400)
    np.testing.assert_allclose(code, expected, atol=1e-3)
    assert log.shape == (401,) and log[-1] <= log[0]
    residual = np.mean((expected @ matrix - image.ravel()) ** 2)
    assert log[-1] == pytest.approx(residual, rel=1e-4)


def test_descent_goes_through_the_signature_of_an_exported_module(tmp_path):
    experiment.start("smoke", 3)
    chapter = chapters.import_chapter("06_progressive_gan")
    network = chapter.build_generator(4, 8, widths=(8, 6, 4, 2))
    module = hub.load(str(hub.export(network, 4, tmp_path / "module")))
    image = module(tensor(1, 4))[0].numpy()
    code, log = inversion.descend(module, image, tensor(8, 4), steps=80)
    assert code.shape == (4,) and log[-1] < 0.05 * log[0]


def test_without_a_gradient_there_is_a_search():
    matrix = tensor(3, 48)

    def draw(codes):  # a function whose gradient TensorFlow does not see
        return tf.stop_gradient(tf.sigmoid(linear(matrix)(codes)))

    target = np.array([[0.5, -1.0, 0.8]], np.float32)
    image = draw(target)[0].numpy()
    with pytest.raises(ValueError, match=r"use inversion\.search instead"):
        inversion.descend(draw, image, tensor(2, 3), steps=1)
    code, log = inversion.search(draw, image, 3, rounds=40)
    assert (np.diff(log) <= 0).all() and log[-1] < 1e-3
    np.testing.assert_allclose(code, target[0], atol=0.1)
