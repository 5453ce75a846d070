"""What chapter 12 measures with: provenance, contest, denoiser and chart."""

import math

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from scipy import fft

from helpers import data
from helpers.studies import chart, contest, denoiser, provenance

rng = np.random.default_rng(0)
PICTURES = data.to_unit(data.load("mnist", "test")[0][:20])


def test_eight_bit_gives_what_a_file_holds():
    x = rng.random((3, 4, 5, 1), dtype="float32")
    rounded = provenance.eight_bit(x)
    assert np.abs(rounded - x).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(rounded * 255, np.round(rounded * 255), atol=1e-4)
    np.testing.assert_array_equal(provenance.eight_bit(rounded), rounded)


@pytest.mark.parametrize("quality", [50, 90])
def test_jpeg_is_tensorflows(quality):
    mine = provenance.jpeg(PICTURES, quality)
    exact = {"dct_method": "INTEGER_ACCURATE"}
    theirs = [tf.image.adjust_jpeg_quality(x, quality, **exact) for x in PICTURES]
    assert np.abs(mine - np.stack(theirs)).max() <= 2.01 / 255
    assert np.abs(mine - PICTURES).mean() > 0.001  # it does lose something


def test_jpeg_keeps_colours():
    x = np.tile(np.float32([1, 0.5, 0]), (1, 16, 16, 1))
    assert np.abs(provenance.jpeg(x, 95) - x).max() < 0.05


def test_log_power_against_scipy():
    x = rng.random((4, 6, 8, 1))
    power = np.abs(fft.fft2(x[..., 0], norm="ortho")) ** 2
    expected = fft.fftshift(10 * np.log10(power).mean(axis=0))
    np.testing.assert_allclose(provenance.log_power(x), expected, atol=1e-8)
    flat = provenance.log_power(np.full((2, 6, 8, 1), 0.5))
    assert flat[3, 4] == pytest.approx(10 * np.log10(0.25 * 48))
    assert np.sort(flat.ravel())[-2] == -100


def test_fingerprints_measure_the_distance(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    x = rng.random((40, 8, 8, 1))
    off = provenance.fingerprints({"same": x, "half": x / 2}, x)
    assert off["same"] == 0 and off["half"] == pytest.approx(20 * np.log10(2), abs=0.2)
    plt.close("all")


def test_patterns_are_orthonormal_secret_and_of_their_band():
    patterns = provenance.key_patterns(16, 28, 3)
    assert patterns.shape == (784, 16) and patterns.dtype == np.float32
    np.testing.assert_allclose(patterns.T @ patterns, np.eye(16), atol=1e-5)
    spectrum = np.abs(np.fft.fft2(patterns.T.reshape(-1, 28, 28)))
    frequency = np.fft.fftfreq(28)
    radius = np.hypot(frequency[:, None], frequency[None])
    assert spectrum[:, (radius < 0.0799) | (radius > 0.2501)].max() < 1e-4
    np.testing.assert_array_equal(patterns, provenance.key_patterns(16, 28, 3))
    assert np.abs(patterns.T @ provenance.key_patterns(16, 28, 4)).max() < 0.5


def test_chance_by_counting():
    for matches, bits in ((0, 8), (5, 8), (26, 32), (32, 32)):
        exact = sum(math.comb(bits, k) for k in range(matches, bits + 1)) / 2**bits
        assert provenance.chance_of_matches(matches, bits) == pytest.approx(exact)
    enough = provenance.enough_matches(32, 1e-3)
    chances = [provenance.chance_of_matches(enough - k, 32) for k in (0, 1)]
    assert chances[0] <= 1e-3 < chances[1]


def test_survival_calls_for_every_change():
    found = provenance.survival({"a": PICTURES}, lambda x: x[0].sum())
    assert list(found["a"]) == ["8 bits", "JPEG 75", "JPEG 50", "moved 1 pixel"]
    assert found["a"]["8 bits"] == pytest.approx(found["a"]["moved 1 pixel"])
    assert found["a"]["JPEG 50"] == pytest.approx(provenance.jpeg(PICTURES[:1], 50).sum(), rel=1e-4)


def test_membership_of_one_who_knows_and_of_one_who_does_not():
    image = keras.Input((2, 2, 1))
    mean = keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones")(
        keras.layers.Flatten()(image)))  # fmt: skip
    seen = np.full((10, 2, 2, 1), 255, np.uint8)
    assert provenance.membership_auroc(mean, seen, np.zeros((10, 2, 2, 1), np.float32)) == 1
    assert provenance.membership_auroc(mean, seen, seen) == 0.5


def test_group_share_of_all_and_of_the_surest():
    sure = np.repeat([0.9, 0.6], [3, 5])
    kinds = [0, 1, 0, 1, 1, 1, 1, 0]
    rows = [(1 - p, p) if k else (p, 1 - p) for k, p in zip(kinds, sure, strict=True)]
    probabilities = np.array(rows)
    shares = provenance.group_share(probabilities, [1], surest=3)
    assert shares == {"all": 5 / 8, "the surest": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: provenance.eight_bit(np.zeros((2, 8, 8))), "have shape"),
        (lambda: provenance.jpeg(np.full((1, 8, 8, 1), 2.0), 50), "not floats in"),
        (lambda: provenance.jpeg(PICTURES, 96), "quality is 96: give a number from 1 to 95"),
        (lambda: provenance.key_patterns(500, 28, 0), "room for 1 to"),
        (lambda: provenance.chance_of_matches(9, 8), "give a number from 0 to 8"),
        (lambda: provenance.enough_matches(4, 1e-3), "use more bits"),
        (lambda: chart.decisions({"a?": {}}), "is no decision"),
        (lambda: chart.decisions({"a?": {"x": "1"}, "b?": {"y": "2"}}), "is no decision"),
    ],
)
def test_errors_say_what_to_do(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_the_denoiser_starts_at_zero_and_knows_the_angle():
    network = denoiser.build_denoiser(8)
    z, angles = tf.random.normal((2, 28, 28, 1)), tf.constant([0.2, 1.5], shape=(2, 1, 1, 1))
    assert np.abs(network([z, angles])).max() == 0
    network.layers[-1].kernel.assign(tf.ones_like(network.layers[-1].kernel))
    for weight in network.trainable_variables:
        if weight.path.startswith("dense"):
            weight.assign(weight + 0.3)
    made = network([z, angles])
    assert made.shape == (2, 28, 28, 1)
    assert np.abs(made - network([z, angles[::-1]])).max() > 1e-3


class Tiny(keras.Model):
    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    generator_optimizer = property(lambda self: self.optimizer)

    def train_step(self, batch):
        weights = self.generator.trainable_variables
        self.optimizer.apply([tf.ones_like(w) for w in weights], weights)
        return {"steps": 1.0}

    def generate(self, inputs):
        return self.generator.predict(inputs, verbose=0)


def test_train_leaves_the_average_of_the_weights():
    model, images = Tiny(), np.zeros((64, 2, 2, 1), np.uint8)
    model.compile(keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5))
    start = model.generator.get_weights()[1][0]
    assert contest.train(model, images, 3, 0) > 0
    average = start - 1  # it begins with the first step's weights
    for step in (2, 3):
        average = 0.5 * average + 0.5 * (start - step)
    assert model.generator.get_weights()[1][0] == pytest.approx(average, abs=1e-5)
    made, cost = contest.generate(model, np.ones((5, 1), np.float32))
    assert made.shape == (5, 1) and cost >= 0
    assert contest.adam(0.1).use_ema


def test_chart_counts_its_leaves_and_draws_every_text(monkeypatch):
    assert chart.leaves(chart.COURSE) == 10 and chart.depth(chart.COURSE) == 3
    monkeypatch.setattr(plt, "show", lambda: None)
    chart.decisions({"a?": {"yes": "one", "no": {"b?": {"yes": "two", "no": "three"}}}})
    texts = {text.get_text() for text in plt.gcf().axes[0].texts}
    assert texts == {"a?", "b?", "yes", "no", "one", "two", "three"}
    plt.close("all")
