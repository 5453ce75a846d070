"""Chapter 1 as code: the optimal discriminator, the divergence, the game on points."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scipy.spatial.distance import jensenshannon
from scipy.special import expit

from helpers import chapters, experiment

chapter = chapters.import_chapter("01_introduction")
p, q = scipy.stats.norm(1.0, 0.7), scipy.stats.norm(-1.0, 1.0)


def test_js_divergence_agrees_with_scipy_on_a_fine_grid():
    grid = np.linspace(-15, 15, 200001)
    expected = jensenshannon(p.pdf(grid), q.pdf(grid)) ** 2  # SciPy returns the square root
    assert chapter.js_divergence(p.pdf, q.pdf) == pytest.approx(expected, abs=1e-5)


def test_js_divergence_at_its_ends():
    assert chapter.js_divergence(p.pdf, p.pdf) == pytest.approx(0, abs=1e-9)
    apart = chapter.js_divergence(scipy.stats.norm(-8, 0.5).pdf, scipy.stats.norm(8, 0.5).pdf)
    assert apart == pytest.approx(np.log(2), abs=1e-6)


def test_no_discriminator_beats_the_optimal_one():
    grid = np.linspace(-8, 8, 4001)
    best = chapter.optimal_discriminator(grid, p.pdf, q.pdf)

    def value(d):
        return np.trapezoid(p.pdf(grid) * np.log(d) + q.pdf(grid) * np.log(1 - d), grid)

    rng = np.random.default_rng(0)
    for size in (0.01, 0.1):
        wave = expit(np.log(best / (1 - best)) + size * np.sin(grid * rng.normal() + rng.normal()))
        assert value(wave) < value(best)
    expected = 2 * chapter.js_divergence(p.pdf, q.pdf) - np.log(4)
    assert value(best) == pytest.approx(expected, abs=1e-4)


def test_the_value_of_the_game_is_that_of_its_formula():
    real, fake = np.random.default_rng(0).normal(0, 2, (2, 30, 1))
    expected = np.log(expit(real)).mean() + np.log(1 - expit(fake)).mean()
    np.testing.assert_allclose(chapter.value_of_game(real, fake), expected, rtol=1e-6)


@pytest.mark.parametrize("data_dim", [1, 2])
def test_builders_give_the_shapes_that_they_promise(data_dim):
    points = chapter.build_generator(3, data_dim)(np.zeros((5, 3)))
    assert points.shape == (5, data_dim)
    assert chapter.build_discriminator(data_dim)(points).shape == (5, 1)


def new_gan():
    experiment.start("smoke", 2)
    gan = chapter.GAN(chapter.build_generator(1), chapter.build_discriminator(1), 2)
    gan.compile(*(keras.optimizers.Adam(1e-3) for _ in range(2)), jit_compile=False)
    return gan


def test_the_arrows_are_the_gradient_of_log_d():
    gan = new_gan()
    points = np.array([[-1.0], [0.3], [2.0]], np.float32)

    def log_d(x):
        return np.log(expit(gan.discriminator(x).numpy().astype(np.float64)))

    step = 1e-2
    expected = (log_d(points + step) - log_d(points - step)) / (2 * step)
    np.testing.assert_allclose(chapter.wish(gan, points), expected, rtol=0.05, atol=1e-3)


def test_the_same_seed_gives_the_same_numbers():
    batches = tf.data.Dataset.from_tensors(np.ones((16, 1), np.float32)).repeat()
    runs = []
    for _ in range(2):
        gan = new_gan()
        history = gan.fit(batches, epochs=3, steps_per_epoch=2, verbose=0).history
        runs.append((history["generator_loss"], gan.generate(5).numpy()))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
