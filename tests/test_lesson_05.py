"""Chapter 5 as code: seven losses, slope penalties, the step, the networks."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_expit

from helpers import chapters, data, experiment, metrics
from helpers.studies import diagnosis

chapter = chapters.import_chapter("05_training_and_evaluation")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


KINDS = (
    "minimax", "non-saturating", "maximum likelihood", "least squares", "hinge", "Wasserstein"
)  # fmt: skip


def by_hand(kind, real, fake):
    """Both players' losses, with NumPy and SciPy, as the papers write them."""
    d, g = {
        "minimax": (-log_expit(real).mean() - np.log(1 - expit(fake)).mean(),
                    np.log(1 - expit(fake)).mean()),
        "non-saturating": (-log_expit(real).mean() - np.log(1 - expit(fake)).mean(),
                           -log_expit(fake).mean()),
        "maximum likelihood": (-log_expit(real).mean() - np.log(1 - expit(fake)).mean(),
                               -np.mean(expit(fake) / (1 - expit(fake)))),
        "least squares": (np.mean((real - 1) ** 2) + np.mean(fake**2), np.mean((fake - 1) ** 2)),
        "hinge": (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(), -fake.mean()),
        "Wasserstein": (fake.mean() - real.mean(), -fake.mean()),
    }[kind]  # fmt: skip
    return d, g


@pytest.mark.parametrize("kind", KINDS)
def test_losses_against_their_formulas(kind, rng):
    real, fake = rng.normal(0, 3, (2, 40, 1))
    mine = [
        chapter.discriminator_loss(kind, tf.constant(real), tf.constant(fake)),
        chapter.generator_loss(kind, tf.constant(fake)),
    ]
    np.testing.assert_allclose(mine, by_hand(kind, real, fake), rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"maximum likelihood"}))
def test_no_loss_overflows_but_that_of_maximum_likelihood(kind):
    extreme = tf.constant([[-500.0], [500.0]])
    values = (
        chapter.discriminator_loss(kind, extreme, extreme),
        chapter.generator_loss(kind, extreme),
    )
    assert np.isfinite(values).all()


def bent(x):
    return tf.reduce_sum(tf.sin(x) * tf.constant([1.0, 2.0]), axis=1, keepdims=True)


def test_squared_slope_against_finite_differences(rng):
    x, step = rng.normal(size=(20, 2)), 1e-5
    slopes = np.stack(
        [(np.sin(x + e) - np.sin(x - e)) @ [1, 2] / (2 * step) for e in step * np.eye(2)], axis=1
    )
    mine = chapter.squared_slope(bent, tf.constant(x, tf.float32))
    np.testing.assert_allclose(mine, np.sum(slopes**2, axis=1), rtol=1e-3)


def test_penalties_against_their_formulas(rng):
    real, fake = (tf.constant(rng.normal(size=(400, 2)), tf.float32) for _ in range(2))
    random = keras.random.SeedGenerator(3)
    r1 = chapter.slope_penalty("R1", bent, real, fake, random)
    analytic = np.cos(real) ** 2 @ [1, 4]
    np.testing.assert_allclose(r1, analytic.mean(), rtol=1e-4)
    penalty = chapter.slope_penalty("gradient penalty", bent, real, fake, random)
    t = keras.random.uniform((400, 1), seed=keras.random.SeedGenerator(3))
    mixed = real + t * (fake - real)
    analytic = np.sqrt(np.cos(mixed) ** 2 @ [1, 4])
    np.testing.assert_allclose(penalty, np.mean((analytic - 1) ** 2), rtol=1e-3)


def test_the_penalty_is_zero_where_the_critic_is_right_and_of_images_too(rng):
    images = [tf.constant(rng.normal(size=(3, 4, 4, 1)), tf.float32) for _ in range(2)]
    unit = tf.constant(1 / 4.0)  # 16 pixels: slope 1
    right = chapter.slope_penalty(
        "gradient penalty", lambda x: tf.reduce_sum(unit * x, axis=(1, 2, 3))[:, None], *images,
        keras.random.SeedGenerator(0))  # fmt: skip
    assert float(right) == pytest.approx(0, abs=1e-6)
    flat = chapter.slope_penalty("R1", lambda x: 0 * x[:, :1, 0, 0], *images, None)
    assert float(flat) == 0


def new_gan(kind="non-saturating", rates=(0.1, 0.1), network=None, **options):
    experiment.start("smoke", 5)
    networks = chapter.build_generator(2, 5), chapter.build_discriminator((2,), 5, **network or {})
    gan = chapter.GAN(*networks, 5, **options)
    losses = [
        functools.partial(f, kind) for f in (chapter.generator_loss, chapter.discriminator_loss)
    ]
    gan.compile(*[keras.optimizers.SGD(rate) for rate in rates], losses=losses, jit_compile=False)
    return gan


REAL = np.float32(np.random.default_rng(1).normal(size=(32, 2)) + 2)


def fit(gan, steps=1):
    batches = tf.data.Dataset.from_tensors(REAL).repeat()
    return gan.fit(batches, steps_per_epoch=steps, verbose=0).history


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_of_a_step(kind):
    gan = new_gan(kind, rates=(0.0, 0.0), penalty="R1", weight=0.1)
    seeds = keras.random.SeedGenerator(5)
    first, second = (gan.generator(keras.random.normal((32, 2), seed=seeds)) for _ in range(2))
    logits = [np.asarray(gan.discriminator(x), float) for x in (REAL, first, second)]
    history = fit(gan)
    expected = by_hand(kind, *logits[:2])[0], by_hand(kind, logits[0], logits[2])[1]
    np.testing.assert_allclose(history["discriminator_loss"], expected[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(history["generator_loss"], expected[1], rtol=1e-3, atol=1e-6)
    penalty = np.mean(chapter.squared_slope(gan.discriminator, tf.constant(REAL)))
    np.testing.assert_allclose(history["penalty"], penalty, rtol=1e-3)


@pytest.mark.parametrize("rates", [(0.1, 0.0), (0.0, 0.1)], ids=["generator", "discriminator"])
def test_a_move_leaves_the_other_player_where_it_is(rates):
    gan = new_gan(rates=rates, penalty="gradient penalty", weight=1.0)
    players = gan.generator, gan.discriminator
    before = [[w.numpy() for w in p.trainable_variables] for p in players]
    fit(gan, 2)
    for player, old, rate in zip(players, before, rates, strict=True):
        moved = [np.abs(a - b.numpy()).max() > 0
                 for a, b in zip(old, player.trainable_variables, strict=True)]  # fmt: skip
        assert all(moved) if rate else not any(moved)


def test_several_moves_of_the_discriminator_share_the_batch():
    """Two moves on 16 points each, one after the other, then one of the generator."""
    many = new_gan(rates=(0.1, 0.05), critic_steps=2)
    by_hand = new_gan(rates=(0.1, 0.05))
    fit(many)
    for half in np.split(REAL, 2):
        by_hand.move_discriminator(tf.constant(half))
    by_hand.move_generator(tf.constant(half))
    for player in ("generator", "discriminator"):
        moved, wanted = (getattr(gan, player).get_weights() for gan in (many, by_hand))
        for a, b in zip(moved, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


class Seen:
    """The reports of a training that nobody has run."""

    def __init__(self, **signs):
        healthy = {"modes": 1.0, "gradient_norm": 1.0, "confidence_gap": 0.0}
        length = max(len(values) for values in signs.values())
        self.rows = [
            healthy | {sign: values[number] for sign, values in signs.items()}
            for number in range(length)
        ]


@pytest.mark.parametrize(
    ("seen", "rings"),
    [
        (Seen(modes=[1, 1, 1, 1]), set()),
        (Seen(modes=[0.1, 0.1, 1, 1]), set()),  # a slow start is no collapse
        (Seen(modes=[1, 1, 0.2, 0.3]), {"mode collapse"}),
        (Seen(gradient_norm=[1, 1e-5, 1, 1]), {"vanishing gradient"}),
        (Seen(gradient_norm=[90, 90, 1, 1]), set()),
        (Seen(gradient_norm=[1, 1, 90, 1]), {"oscillation"}),
        (Seen(confidence_gap=[0, 0.1, 0.4, 0.5]), {"overconfidence"}),
        (Seen(confidence_gap=[0, 0, -0.4, -0.5]), set()),
        (Seen(modes=[0, 0], gradient_norm=[9, 9]), {"mode collapse", "oscillation"}),
    ],
)
def test_alarms(seen, rings):
    assert {name for name, rang in chapter.alarms(seen).items() if rang} == rings


def test_every_failure_has_a_sign_and_a_threshold():
    assert set(chapter.SIGNS) == set(chapter.THRESHOLDS)
    assert set(chapter.SIGNS.values()) == set(diagnosis.SIGNS)


def test_resizing_to_the_same_size_changes_nothing_and_antialiasing_averages(rng):
    images = rng.uniform(size=(3, 28, 28, 1)).astype("float32")
    np.testing.assert_allclose(chapter.resized(images, 28), images, atol=1e-6)
    stripes = np.zeros((1, 28, 28, 1), np.float32)
    stripes[:, :, ::4] = 1  # a quarter of the columns
    sharp, soft = (chapter.resized(stripes, 7, antialias=a) for a in (False, True))
    inside = (slice(None), slice(4, -4), slice(4, -4))
    assert np.ptp(soft[inside]) < 0.05 and soft[inside].mean() == pytest.approx(0.25, abs=0.05)
    assert abs(sharp[inside].mean() - 0.25) > 0.1  # the stripes became something else


def test_jpeg_and_quantising(rng):
    images = np.round(rng.uniform(size=(4, 28, 28, 1)) * 255).astype("float32") / 255
    good, bad = (chapter.through_jpeg(images, quality) for quality in (95, 10))
    assert good.shape == images.shape and good.dtype == np.float32
    assert np.abs(good - images).mean() < 0.5 * np.abs(bad - images).mean()
    assert set(np.unique(chapter.quantised(images, 2))) == {0.0, 1.0}
    assert len(np.unique(chapter.quantised(images, 16))) == 16
    assert np.abs(chapter.quantised(images, 16) - images).max() <= 1 / 30 + 1e-6


def test_r1_makes_the_slope_at_real_samples_smaller():
    slopes = []
    for weight in (0.0, 5.0):
        gan = new_gan(rates=(0.01, 0.01), penalty="R1", weight=weight)
        fit(gan, 60)
        slopes.append(np.mean(chapter.squared_slope(gan.discriminator, tf.constant(REAL))))
    assert slopes[1] < 0.5 * slopes[0]


def test_spectral_normalisation_bounds_the_stretch_of_every_layer():
    """The largest singular value of each kernel that the forward pass has used, after training."""
    gan = new_gan("hinge", rates=(0.1, 0.5), network={"wrap": keras.layers.SpectralNormalization})
    first = np.concatenate([np.ravel(w) for w in gan.discriminator.trainable_variables])
    fit(gan, 60)
    trained = np.concatenate([np.ravel(w) for w in gan.discriminator.trainable_variables])
    assert np.abs(trained - first).max() > 0.01  # it has learnt, within the bound
    gan.discriminator(REAL, training=True)
    used = [layer.layer.kernel for layer in gan.discriminator.layers if hasattr(layer, "layer")]
    assert len(used) == 4
    np.testing.assert_allclose([np.linalg.norm(kernel, 2) for kernel in used], 1, atol=0.1)
    free = new_gan("hinge", rates=(0.1, 0.5))
    fit(free, 60)
    kernels = [w for w in free.discriminator.trainable_variables if len(w.shape) == 2]
    assert max(np.linalg.norm(kernel, 2) for kernel in kernels) > 1.5  # which is what it prevents


def test_clip_bounds_every_weight_of_the_discriminator_alone():
    gan = new_gan("Wasserstein", network={"constraint": chapter.Clip(0.05)})
    fit(gan, 5)
    for weight in gan.discriminator.trainable_variables:
        assert np.abs(weight).max() <= 0.05 + 1e-7
    assert max(np.abs(w).max() for w in gan.generator.trainable_variables) > 0.06
    np.testing.assert_allclose(chapter.Clip(2.0)(np.float32([-3, -1, 0, 5])), [-2, -1, 0, 2])


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_an_unknown_loss_is_refused(player):
    logits = [tf.zeros((2, 1))] * (1 if player == "generator" else 2)
    with pytest.raises(ValueError, match="use a name of the table"):
        getattr(chapter, f"{player}_loss")("least cubes", *logits)


def test_first_weights_follow_from_the_seed_alone():
    for build in (
        lambda seed: chapter.build_generator(2, seed),
        lambda seed: chapter.build_discriminator((2,), seed),
    ):
        keras.utils.set_random_seed(1)
        one = build(3).get_weights()
        keras.utils.set_random_seed(2)
        same, other = build(3).get_weights(), build(4).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
        assert not np.array_equal(one[0], other[0])


def test_the_logs_of_an_epoch_are_means_over_its_steps():
    """Two epochs of one step, and one epoch of the same two steps."""
    single, double = new_gan(), new_gan()
    batches = tf.data.Dataset.from_tensors(REAL).repeat()
    steps = single.fit(batches, epochs=2, steps_per_epoch=1, verbose=0).history
    epoch = double.fit(batches, epochs=1, steps_per_epoch=2, verbose=0).history
    for name in ("discriminator_loss", "generator_loss", "gradient_norm"):
        assert steps[name][0] != steps[name][1]
        np.testing.assert_allclose(epoch[name], np.mean(steps[name]), rtol=1e-5)


def test_moved_images_reach_the_discriminator_in_training_only(rng):
    _, discriminator = chapter.digits(0, shift=0.2)
    x = data.to_symmetric(rng.integers(0, 256, (4, 28, 28, 1), np.uint8))
    plain = discriminator(x, training=False)
    assert np.array_equal(plain, discriminator.layers[-1](x))
    assert np.abs(discriminator(x, training=True) - plain).max() > 1e-4
    with tf.GradientTape() as tape:
        images = tf.Variable(x)
        logits = discriminator(images, training=True)
    assert np.abs(tape.gradient(logits, images)).max() > 0


def test_fid_infinity_takes_the_bias_away(rng):
    """Normal distributions with a Fréchet distance that is known: 4 of the means, 1 a direction."""
    d, sizes = 32, [100, 200, 400, 1000]
    real = rng.normal(size=(6000, d))
    fake = 2 * rng.normal(size=(6000, d)) + 2 * np.eye(d)[0]
    values, limit = chapter.fid_infinity(real, fake, sizes, draws=20)
    assert values.shape == (4,) and np.all(np.diff(values) < 0)
    assert limit == pytest.approx(4 + d, rel=0.02)
    assert abs(limit - (4 + d)) < 0.2 * (values[0] - (4 + d))
    values, limit = chapter.fid_infinity(real[:3000], real[3000:], sizes, draws=20)
    assert abs(limit) < 0.1 * values[0]
    assert values[0] == pytest.approx(metrics.fid(real[:100], real[3000:3100]), rel=0.3)


@pytest.mark.parametrize("sizes", [[100], [1, 50], [50, 5000], [60, 60]])
def test_sizes_that_cannot_be_extrapolated_are_refused(sizes):
    with pytest.raises(ValueError, match="give two or more different ones, 2 to 100"):
        chapter.fid_infinity(np.ones((100, 2)), np.ones((200, 2)), sizes)
