"""Chapter 2 as code: networks, likelihood, KL, ELBO and the importance-weighted bound."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from helpers import lesson, profiles

chapter = lesson.definitions("02_autoencoder")
rng = np.random.default_rng(0)


@pytest.mark.parametrize("linear", [False, True])
def test_builders_give_the_shapes_that_they_promise(linear):
    image = rng.random((3, 28, 28, 1), dtype=np.float32)
    code = chapter.build_encoder(5, linear)(image)
    assert code.shape == (3, 5)
    copy = chapter.build_decoder(5, linear)(code)
    assert copy.shape == (3, 28, 28, 1)
    if not linear:
        assert 0 <= float(tf.reduce_min(copy)) <= float(tf.reduce_max(copy)) <= 1
    assert chapter.build_autoencoder(5, linear)(image).shape == (3, 28, 28, 1)
    assert [c.shape for c in chapter.build_encoder(5, outputs=2)(image)] == [(3, 5), (3, 5)]


def test_a_linear_autoencoder_is_affine():
    model = chapter.build_autoencoder(4, linear=True)
    a, b = rng.random((2, 1, 28, 28, 1), dtype=np.float32)
    middle = model((a + b) / 2)
    np.testing.assert_allclose(middle, (model(a) + model(b)) / 2, atol=1e-5)


def test_the_log_likelihood_is_scipys():
    pixels = rng.integers(0, 2, (4, 28, 28, 1)).astype(np.float32)
    logits = rng.normal(0, 3, pixels.shape).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = scipy.stats.bernoulli.logpmf(pixels, probabilities).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(
        chapter.bernoulli_log_likelihood(pixels, logits), expected, rtol=1e-5
    )


def test_the_kl_is_that_of_its_definition():
    mean, log_variance = rng.normal(size=(2, 3, 2)).astype(np.float32)
    q = scipy.stats.norm(mean, np.exp(log_variance / 2))
    expected = np.zeros(3)
    for i in range(3):
        for j in range(2):
            part = scipy.stats.norm(mean[i, j], np.exp(log_variance[i, j] / 2))
            expected[i] += part.expect(lambda z, p=part: p.logpdf(z) - scipy.stats.norm.logpdf(z))
    assert q.mean().shape == (3, 2)
    np.testing.assert_allclose(
        chapter.kl_to_standard_normal(mean, log_variance), expected, rtol=1e-4
    )


def test_log_normal_is_scipys():
    z, mean, log_variance = rng.normal(size=(3, 5, 2)).astype(np.float32)
    expected = scipy.stats.norm(mean, np.exp(log_variance / 2)).logpdf(z).sum(axis=1)
    np.testing.assert_allclose(chapter.log_normal(z, mean, log_variance), expected, rtol=1e-4)


class OnePixelModel:
    """p(z) = N(0, 1), one pixel white with probability sigmoid(a z), q far from the posterior.

    Its log p(x) is an integral over one number: an exact answer to compare the bounds with.
    """

    slope = 2.0

    def __init__(self):
        self.random = keras.random.SeedGenerator(0)

    def encoder(self, pixels):
        return tf.fill((len(pixels), 1), 0.5), tf.fill((len(pixels), 1), -0.2)

    def decoder(self, z):
        return tf.reshape(self.slope * z, (-1, 1, 1, 1))

    sample = chapter.VAE.sample
    elbo_parts = chapter.VAE.elbo_parts


def test_bounds_rise_with_k_to_the_exact_likelihood():
    model, pixels = OnePixelModel(), np.ones((20000, 1, 1, 1), np.float32)
    z = np.linspace(-10, 10, 20001)
    inner = scipy.stats.norm.pdf(z) / (1 + np.exp(-model.slope * z))
    exact = np.log(np.trapezoid(inner, z))
    reconstruction, kl = model.elbo_parts(pixels)
    elbo = float(tf.reduce_mean(reconstruction - kl))
    bounds = [
        float(tf.reduce_mean(chapter.importance_weighted_bound(model, pixels, k)))
        for k in (1, 5, 200)
    ]
    assert bounds[0] == pytest.approx(elbo, abs=0.02), "k = 1 is the ELBO"
    assert elbo < bounds[1] < bounds[2]
    assert bounds[2] == pytest.approx(exact, abs=0.01)


def new_vae():
    profiles.start("smoke", 1)
    vae = chapter.VAE(2, 1)
    vae.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    return vae


def test_the_gradient_passes_through_the_draw():
    vae = new_vae()
    mean, log_variance = tf.Variable([[0.3, -1.0]]), tf.Variable([[0.2, 0.4]])
    with tf.GradientTape() as tape:
        z = vae.sample(mean, log_variance)
        total = tf.reduce_sum(z)
    by_mean, by_log_variance = tape.gradient(total, [mean, log_variance])
    np.testing.assert_allclose(by_mean, [[1, 1]])
    np.testing.assert_allclose(by_log_variance, (z - mean) / 2, rtol=1e-5)


def test_draws_have_the_mean_and_the_sd_that_the_encoder_says():
    vae = new_vae()
    z = vae.sample(tf.fill((20000, 1), 2.0), tf.fill((20000, 1), float(np.log(9.0)))).numpy()
    assert z.mean() == pytest.approx(2, abs=0.1) and z.std() == pytest.approx(3, abs=0.1)


def test_the_same_seed_gives_the_same_numbers():
    images = rng.integers(0, 256, (16, 28, 28, 1)).astype(np.uint8)
    batches = tf.data.Dataset.from_tensors(images).repeat()
    losses = [
        new_vae().fit(batches, epochs=3, steps_per_epoch=2, verbose=0).history["loss"]
        for _ in range(2)
    ]
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
