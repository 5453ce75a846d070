"""Chapter 3 as code: its losses, its networks, its training step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_expit

from helpers import chapters, experiment

chapter = chapters.import_chapter("03_vanilla_gan")
real, fake = np.random.default_rng(0).normal(0, 4, (2, 50, 1))
losses = (chapter.generator_loss, chapter.discriminator_loss)


def test_losses_are_the_cross_entropies_of_the_paper():
    expected = -log_expit(real).mean() - log_expit(-fake).mean()
    np.testing.assert_allclose(chapter.discriminator_loss(real, fake), expected, rtol=1e-6)
    np.testing.assert_allclose(chapter.generator_loss(fake), -log_expit(fake).mean(), rtol=1e-6)
    minimax = np.log(1 - expit(fake)).mean()
    np.testing.assert_allclose(chapter.minimax_generator_loss(fake), minimax, rtol=1e-6)


def test_losses_agree_with_the_cross_entropy_of_keras():
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = entropy(np.ones_like(real), real) + entropy(np.zeros_like(fake), fake)
    np.testing.assert_allclose(chapter.discriminator_loss(real, fake), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "loss, gradient",
    [("generator_loss", lambda s: expit(s) - 1), ("minimax_generator_loss", lambda s: -expit(s))],
)
def test_gradients_are_those_of_the_derivation(loss, gradient):
    logits = tf.constant(fake)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = getattr(chapter, loss)(logits) * len(fake)
    np.testing.assert_allclose(tape.gradient(value, logits), gradient(fake), rtol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_losses_stay_finite_for_an_overconfident_discriminator(logit):
    logits = tf.fill((3, 1), np.float32(logit))
    for value in (chapter.discriminator_loss(logits, logits), chapter.generator_loss(logits)):
        assert np.isfinite(value)


def test_builders_give_the_shapes_that_they_promise():
    generator = chapter.build_generator(10)
    images = generator(np.random.default_rng(0).normal(size=(5, 10)))
    assert images.shape == (5, 28, 28, 1)
    assert -1 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 1
    assert chapter.build_discriminator((28, 28, 1))(images).shape == (5, 1)


def new_gan(rates=(1e-3, 1e-3), **options):
    experiment.start("smoke", 3)
    discriminator = chapter.build_discriminator((28, 28, 1), seed=3)
    gan = chapter.GAN(chapter.build_generator(4), discriminator, 3)
    optimizers = [keras.optimizers.SGD(rate) for rate in rates]
    gan.compile(*optimizers, losses=losses, jit_compile=False, **options)
    return gan


images = np.random.default_rng(1).integers(0, 256, (8, 28, 28, 1)).astype(np.uint8)
batches = tf.data.Dataset.from_tensors(images).repeat()


@pytest.mark.parametrize("still", [0, 1])
def test_a_player_moves_only_by_its_own_optimizer(still):
    gan = new_gan([0.0 if player == still else 1e-3 for player in (0, 1)])
    players = (gan.generator, gan.discriminator)
    before = [[w.numpy().copy() for w in p.trainable_variables] for p in players]
    gan.fit(batches, epochs=1, steps_per_epoch=2, verbose=0)
    for number, player in enumerate(players):
        same = [
            np.array_equal(a, b)
            for a, b in zip(before[number], player.trainable_variables, strict=True)
        ]
        assert all(same) if number == still else not any(same)


def test_one_step_is_one_step_of_gradient_descent():
    """The discriminator's first move, by hand: without dropout, plain SGD."""
    gan = new_gan((0.0, 0.1))
    for layer in gan.discriminator.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    last = gan.discriminator.layers[-1]
    before = last.bias.numpy().copy()
    twin = new_gan((0.0, 0.1))  # the same seed: the same weights and the same noise
    fakes = twin.fake(images)
    for layer in twin.discriminator.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    real_logits = twin.discriminator(images / np.float32(127.5) - 1).numpy()
    fake_logits = twin.discriminator(fakes).numpy()
    gradient = (expit(real_logits) - 1).mean() + expit(fake_logits).mean()
    gan.fit(batches, epochs=1, steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(last.bias.numpy(), before - 0.1 * gradient, rtol=1e-4)


def test_the_same_seed_gives_the_same_numbers():
    runs = []
    for _ in range(2):
        gan = new_gan()
        history = gan.fit(batches, epochs=2, steps_per_epoch=2, verbose=0).history
        runs.append((history["generator_loss"], gan.generate(np.ones((2, 4), np.float32))))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_generate_gives_images_between_0_and_1():
    made = new_gan().generate(np.zeros((3, 4), np.float32))
    assert made.shape == (3, 28, 28, 1) and made.min() >= 0 and made.max() <= 1


def test_the_numbers_of_an_epoch_are_means_over_its_steps():
    gan = new_gan((1e-2, 1e-2), run_eagerly=True)
    seen = []
    average = gan.mean_of_epoch

    def spy(values):
        seen.append({name: float(value) for name, value in values.items()})
        return average(values)

    gan.mean_of_epoch = spy
    history = gan.fit(batches, epochs=2, steps_per_epoch=3, verbose=0).history
    assert set(history) == set(seen[0]) == set(chapter.GAN.reported)
    for name, values in history.items():
        steps = np.array([step[name] for step in seen]).reshape(2, 3)
        assert steps.std(axis=1).min() > 0, "the steps differ, so that their mean is not the last"
        np.testing.assert_allclose(values, steps.mean(axis=1), rtol=1e-5)


def test_a_subclass_without_trackers_reports_its_last_step():
    """Chapters whose train_step returns plain numbers must not get means of nothing."""

    class Plain(chapter.AdversarialModel):
        def train_step(self, images):
            return {"generator_loss": tf.reduce_sum(tf.ones_like(images[:, 0, 0, 0], tf.float32))}

    gan = Plain(chapter.build_generator(4), chapter.build_discriminator((28, 28, 1)), 0)
    gan.compile(*(keras.optimizers.SGD(0.0) for _ in range(2)), losses=losses)
    history = gan.fit(batches, epochs=1, steps_per_epoch=2, verbose=0).history
    assert history["generator_loss"] == [len(images)]


def test_the_average_of_the_weights_is_the_one_of_the_text_and_training_goes_on_without_it():
    decay = 0.8
    gan = new_gan()
    averaging = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=decay)
    gan.compile(averaging, keras.optimizers.SGD(0.1), losses=losses, jit_compile=False)
    expected = None
    for _ in range(4):
        gan.fit(batches, epochs=1, steps_per_epoch=1, verbose=0)
        weights = [w.numpy() for w in gan.generator.trainable_variables]
        expected = expected or weights  # the average starts where the first step ends
        expected = [
            decay * slow + (1 - decay) * fast for slow, fast in zip(expected, weights, strict=True)
        ]
    latent = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
    before = gan.generator.get_weights()
    found = chapter.generate_with_average(gan, latent)
    for old, new in zip(before, gan.generator.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for variable, value in zip(gan.generator.trainable_variables, expected, strict=True):
        variable.assign(value)
    np.testing.assert_allclose(found, gan.generate(latent), atol=1e-5)
    assert not np.allclose(found, chapter.data.from_symmetric(twin_images(before, latent)))


def twin_images(weights, latent):
    """Images in [-1, 1] of a generator with these weights, without any helper of the chapter."""
    twin = chapter.build_generator(latent.shape[1])
    twin.set_weights(weights)
    return twin(latent).numpy()


def test_the_trend_compares_the_last_third_with_the_first():
    assert chapter.trend([4.0, 2.0, 7.0, 7.0, 1.0, 2.0]) == pytest.approx(-0.5)
    assert chapter.trend([2.0, 2.0, 2.0]) == 0
