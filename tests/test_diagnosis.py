"""Diagnosis: mixtures, a training seen from outside, and copies, computed independently."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist
from scipy.special import expit

from helpers.simulate import mixtures
from helpers.studies import diagnosis


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("mixture", "modes"), [(mixtures.ring(), 8), (mixtures.grid(), 25)])
def test_real_points_find_every_mode_with_the_share_of_three_sigma(mixture, modes):
    points = mixture.sample(20000, 3)
    assert points.shape == (20000, 2) and points.dtype == np.float32
    found, share = mixture.quality(points)
    assert found == modes
    assert share == pytest.approx(1 - np.exp(-4.5), abs=0.002)  # a normal in the plane, 3 sd
    np.testing.assert_array_equal(points, mixture.sample(20000, 3))


def test_ring_and_grid_lie_where_they_should():
    centres = mixtures.ring(6, 3.0).centres
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 3)
    np.testing.assert_allclose(np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1), 3)
    assert {tuple(c) for c in mixtures.grid(2, 3.0).centres} == {
        (a, b) for a in (-1.5, 1.5) for b in (-1.5, 1.5)
    }


def test_quality_against_loops(rng):
    mixture = mixtures.grid(3, 1.0, sd=0.12)
    points = rng.uniform(-1.6, 1.6, (500, 2))
    distances = cdist(points, mixture.centres)
    good = distances.min(axis=1) < 0.36
    counts = [np.sum(good & (distances.argmin(axis=1) == m)) for m in range(9)]
    found, share = mixture.quality(points)
    assert share == pytest.approx(good.mean())
    assert found == sum(c >= 500 / 90 for c in counts)
    np.testing.assert_array_equal(mixture.modes(points), distances.argmin(axis=1))


def test_collapsed_scattered_and_rare_modes(rng):
    mixture = mixtures.ring()
    assert mixture.quality(np.tile(mixture.centres[2], (100, 1))) == (1, 1.0)
    assert mixture.quality(rng.uniform(10, 11, (100, 2))) == (0, 0.0)
    points = mixture.sample(8000, 1)
    rare = points[(mixture.modes(points) != 0) | (np.arange(8000) < 400)]  # 1/20 of mode 0
    assert mixture.quality(rare)[0] == 7


@pytest.mark.parametrize("points", [np.ones((3, 3)), np.ones(2), [[np.nan, 0.0]]])
def test_points_that_are_none_are_refused(points):
    with pytest.raises(ValueError, match="give finite numbers, shape"):
        mixtures.ring().quality(points)


class Toy(keras.Model):
    """A generator that shifts its noise, a discriminator that is its first coordinate."""

    def __init__(self):
        super().__init__()
        self.latent_dim = 2
        self.shift = self.add_weight(shape=(2,), initializer="zeros")
        self.generator = lambda latent, training: latent * 0.01 + self.shift
        self.discriminator = lambda x, training: x[:, :1]

    def train_step(self, batch):
        self.shift.assign_add([1.0, 0.0])
        return {"gradient_norm": tf.norm(self.shift) * 3}


def watch(diagnostics, real, steps, reports):
    toy = Toy()
    toy.compile(jit_compile=False)
    batches = tf.data.Dataset.from_tensors(real).repeat()
    toy.fit(batches, epochs=reports, steps_per_epoch=steps, verbose=0, callbacks=[diagnostics])
    return diagnostics


def test_diagnostics_of_a_generator_that_jumps_from_mode_to_mode():
    mixture = mixtures.Mixture(np.array([[1.0, 0], [2, 0], [3, 0], [9, 9]]), 0.1)
    real, unseen = np.float32([[5, 0], [7, 0]]), np.float32([[1, 0], [2, 0]])
    found = watch(diagnosis.GanDiagnostics(mixture.modes, 4, real, unseen), real, 1, 3)
    assert [row["modes"] for row in found.rows] == [0.25] * 3
    np.testing.assert_allclose([row["gradient_norm"] for row in found.rows], [3, 6, 9])
    gap = expit([5, 7]).mean() - expit([1, 2]).mean()
    np.testing.assert_allclose([row["confidence_gap"] for row in found.rows], gap, rtol=1e-5)
    assert [s.shape for s in found.samples] == [(256, 2)] * 3
    np.testing.assert_allclose(found.samples[1].mean(axis=0), [2, 0], atol=0.01)
    assert found.steps == [1, 2, 3]


def test_a_mode_with_less_than_a_tenth_of_its_fair_share_is_not_found():
    modes = np.repeat([0, 1, 2, 3], [60, 37, 2, 1])  # of 100 samples; a tenth of fair is 2.5
    real = np.ones((1, 2), np.float32)
    found = diagnosis.GanDiagnostics(lambda samples: modes, 4, real, real, count=100)
    watch(found, real, 1, 1)
    assert [row["modes"] for row in found.rows] == [0.5]
    assert found.samples[0].shape == (100, 2)


def trained(steps, reports):
    points = mixtures.ring().sample(8, 0)
    diagnostics = diagnosis.GanDiagnostics(mixtures.ring().modes, 8, points, points)
    return watch(diagnostics, points, steps, reports)


@pytest.mark.parametrize("sign", sorted(diagnosis.SIGNS))
def test_a_sheet_of_failures_shows_the_sign_and_early_and_late_samples(sign):
    provoked, cured = trained(5, 4), trained(5, 4)
    case = {"sign": sign, "threshold": 0.25, "provoked": provoked, "cured": cured}
    drawn = []
    diagnosis.plot_failures({"it fails": case}, lambda ax, samples: drawn.append(samples), early=2)
    curve, *panels = plt.gcf().axes
    assert curve.get_title() == "it fails" and curve.get_xlabel() == "training step"
    assert curve.get_ylabel() == diagnosis.SIGNS[sign]
    for line, found in zip(curve.lines, (provoked, cured), strict=False):
        np.testing.assert_array_equal(line.get_xdata(), [5, 10, 15, 20])
        np.testing.assert_allclose(line.get_ydata(), [row[sign] for row in found.rows])
    np.testing.assert_array_equal(curve.lines[2].get_ydata(), [0.25, 0.25])
    assert [ax.get_title() for ax in panels] == [
        "provoked, step 10", "cured, step 10", "provoked, step 20", "cured, step 20"
    ]  # fmt: skip
    wanted = [provoked.samples[1], cured.samples[1], provoked.samples[3], cured.samples[3]]
    for samples, right in zip(drawn, wanted, strict=True):
        assert samples is right
    plt.close("all")


def test_a_table_of_alarms_is_drawn_with_its_shares(monkeypatch):
    told = []
    monkeypatch.setattr(diagnosis.plots, "show", told.append)
    table = pd.DataFrame({"few": [1.0, 0.0], "loud": [0.5, 0.0]}, index=["made", "cured"])
    diagnosis.plot_alarms({"ring": table, "MNIST": table * 0})
    left, right = plt.gcf().axes
    assert [ax.get_title() for ax in (left, right)] == ["ring", "MNIST"]
    assert [text.get_text() for text in left.texts] == ["100%", "50%", "0%", "0%"]
    assert [text.get_text() for text in left.get_yticklabels()] == ["made", "cured"]
    assert [text.get_text() for text in right.get_xticklabels()] == ["few", "loud"]
    assert "ring, made: few 100%, loud 50%; ring, cured: no alarm" in told[0]
    plt.close("all")


def test_nearer_to_training_against_all_distances(rng):
    training, test, samples = (rng.normal(size=(60, 4, 4, 1)) for _ in range(3))
    flat = [x.reshape(60, -1) for x in (samples, training, test)]
    nearer = cdist(flat[0], flat[1]).min(axis=1) < cdist(flat[0], flat[2]).min(axis=1)
    assert diagnosis.nearer_to_training(samples, training, test) == nearer.mean()
    assert diagnosis.nearer_to_training(training[:20], training, test) == 1
    assert diagnosis.nearer_to_training(test[:20], training, test) == 0
    with pytest.raises(ValueError, match="give as many"):
        diagnosis.nearer_to_training(samples, training, test[:30])
