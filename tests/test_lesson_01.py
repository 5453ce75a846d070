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


def test_the_losses_are_those_of_their_formulas():
    fake = np.random.default_rng(1).normal(0, 2, (30, 1))
    np.testing.assert_allclose(
        chapter.minimax_loss(fake), np.log(1 - expit(fake)).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        chapter.non_saturating_loss(fake), -np.log(expit(fake)).mean(), rtol=1e-6
    )


def test_a_trained_discriminator_measures_the_divergence():
    """Against numerical integration; untrained it finds less (an estimate from below)."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    real, fake, other_real, other_fake = (
        d.rvs((20000, 1), random_state=rng).astype("float32") for d in (p, q, p, q)
    )
    judge = chapter.build_discriminator(1)
    assert chapter.js_by_discriminator(judge, other_real, other_fake) < 0.3
    chapter.train_expert(judge, real, fake, epochs=4)
    found = chapter.js_by_discriminator(judge, other_real, other_fake)
    exact = chapter.js_divergence(p.pdf, q.pdf)
    assert exact - 0.02 < found < exact + 0.01


def new_players():
    experiment.start("smoke", 2)
    return chapter.build_generator(1), chapter.build_discriminator(1)


def test_the_arrows_are_the_gradient_of_log_d():
    _, discriminator = new_players()
    points = np.array([[-1.0], [0.3], [2.0]], np.float32)

    def log_d(x):
        return np.log(expit(discriminator(x).numpy().astype(np.float64)))

    step = 1e-2
    expected = (log_d(points + step) - log_d(points - step)) / (2 * step)
    found = chapter.slope_of_log_d(discriminator, points)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-3)


def played(generator, discriminator, loss=chapter.non_saturating_loss, rate=1e-3, steps=6):
    return chapter.play(
        generator, discriminator, chapter.draw_numbers, loss, rate, steps=steps, every=3, seed=2
    )


def test_the_same_seed_gives_the_same_numbers():
    runs = [played(*new_players()) for _ in range(2)]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    np.testing.assert_array_equal(runs[0][0][-1]["points"], runs[1][0][-1]["points"])


def test_play_keeps_a_snapshot_of_the_start_and_one_for_every_report():
    snapshots, losses = played(*new_players())
    assert [seen["step"] for seen in snapshots] == [0, 3, 6]
    assert losses.shape == (2, 2)
    assert snapshots[0]["points"].shape == (2000, 1)
    assert snapshots[0]["opinion"].shape == (200, 1)


def test_the_losses_of_a_report_are_means_over_its_steps():
    """With a rate of 0 nothing moves: the mean over many steps is the loss on many points."""
    generator, discriminator = new_players()
    _, losses = played(generator, discriminator, rate=0.0, steps=60)
    rng = np.random.default_rng(5)
    real = discriminator(chapter.draw_numbers(rng, 50000)).numpy().astype(np.float64)
    latent = rng.normal(size=(50000, 1)).astype("float32")
    fake = discriminator(generator(latent)).numpy().astype(np.float64)
    value = np.log(expit(real)).mean() + np.log(1 - expit(fake)).mean()
    assert losses[:, 0].mean() == pytest.approx(-value, abs=0.01)
    assert losses[:, 1].mean() == pytest.approx(-np.log(expit(fake)).mean(), abs=0.01)


def test_the_first_step_moves_each_player_down_its_own_loss():
    """Adam's first step is the learning rate against the sign of the derivative."""
    rate = 1e-3
    generator, discriminator = new_players()
    real = chapter.draw_numbers(np.random.default_rng(2), 512)
    random = keras.random.SeedGenerator(2)  # the same noise as in the step
    fake = generator(keras.random.normal((512, 1), seed=random)).numpy()
    latent = keras.random.normal((512, 1), seed=random)

    real_logits = discriminator(real).numpy().astype(np.float64)
    fake_logits = discriminator(fake).numpy().astype(np.float64)
    slope = (expit(real_logits) - 1).mean() + expit(fake_logits).mean()  # by the last bias
    expected = discriminator.layers[-1].bias.numpy() - rate * np.sign(slope)
    bias = generator.layers[-1].bias.numpy()
    step = chapter.make_step(generator, discriminator, chapter.non_saturating_loss, rate, 2)
    step(tf.constant(real))
    np.testing.assert_allclose(discriminator.layers[-1].bias.numpy(), expected, atol=1e-7)

    moved = generator.layers[-1].bias.numpy()
    generator.layers[-1].bias.assign(bias)
    points = generator(latent).numpy()

    def loss(shift):
        logits = discriminator(points + shift).numpy().astype(np.float64)
        return -np.log(expit(logits)).mean()

    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2  # the other weights hardly moved in one step
    np.testing.assert_allclose(moved, bias - rate * np.sign(slope), atol=1e-7)


def test_the_generated_numbers_move_towards_the_real_ones():
    generator, discriminator = new_players()
    snapshots, _ = played(generator, discriminator, steps=150)
    first, last = (snapshots[i]["points"].mean() for i in (0, -1))
    assert abs(last - 1) < abs(first - 1)


def test_points_of_the_ring_lie_around_its_centres():
    chapter.centres = centres = 2 * np.array(
        [[np.cos(a), np.sin(a)] for a in np.arange(8) * np.pi / 4]
    )
    points = chapter.draw_ring_points(np.random.default_rng(0), 20000)
    assert points.shape == (20000, 2)
    distances = np.linalg.norm(points[:, None] - centres, axis=-1)
    near = distances.min(axis=1) < 0.45
    assert near.mean() == pytest.approx(1 - np.exp(-4.5), abs=0.004)  # within 3 sd in the plane
    shares = np.bincount(distances.argmin(axis=1)) / len(points)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.01)
