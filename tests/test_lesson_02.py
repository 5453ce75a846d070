"""Chapter 2 as code: the likelihood, its bounds, the reparameterisation, PCA by training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import integrate, stats
from scipy.special import expit, log_expit, logsumexp
from sklearn.decomposition import PCA

from helpers import chapters, data, experiment

chapter = chapters.import_chapter("02_autoencoder")
mean, log_variance = np.random.default_rng(0).normal(0, 1.5, (2, 6, 3)).astype(np.float32)


@pytest.fixture
def rng():
    """A generator of its own for every test, so that their order does not matter."""
    return np.random.default_rng(1)


def test_builders_give_the_shapes_that_they_promise(rng):
    images = rng.random((5, 28, 28, 1), np.float32)
    assert chapter.build_encoder(7)(images).shape == (5, 7)
    assert chapter.build_decoder(7)(np.zeros((5, 7), np.float32)).shape == images.shape
    copies = chapter.build_autoencoder(7)(images).numpy()
    assert copies.shape == images.shape and copies.min() >= 0 and copies.max() <= 1


def test_log_bernoulli_is_the_likelihood_of_scipy(rng):
    logits = rng.normal(0, 3, (4, 5, 6, 1))
    images = np.float64(rng.random(logits.shape) < 0.5)
    expected = stats.bernoulli.logpmf(images, expit(logits)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(chapter.log_bernoulli(images, logits), expected, rtol=1e-9)


@pytest.mark.parametrize("logit, pixel, expected", [(1e4, 1, 0), (-1e4, 1, -1e4), (1e4, 0, -1e4)])
def test_log_bernoulli_stays_finite_for_certain_pixels(logit, pixel, expected):
    shape = (1, 1, 1, 1)
    value = chapter.log_bernoulli(tf.fill(shape, float(pixel)), tf.fill(shape, float(logit)))
    np.testing.assert_allclose(value, [expected], atol=1e-4)


def test_log_normal_is_the_density_of_scipy(rng):
    z = rng.normal(size=mean.shape).astype(np.float32)
    expected = stats.norm.logpdf(z, mean, np.exp(log_variance / 2)).sum(axis=1)
    np.testing.assert_allclose(chapter.log_normal(z, mean, log_variance), expected, rtol=1e-5)


def test_kl_is_the_integral_of_its_definition():
    def divergence(m, v):
        q, prior = stats.norm(m, np.exp(v / 2)), stats.norm()
        reach = 12 * np.exp(v / 2)

        def density(z):
            return q.pdf(z) * (q.logpdf(z) - prior.logpdf(z))

        return integrate.quad(density, m - reach, m + reach, limit=200)[0]

    expected = np.vectorize(divergence)(mean, log_variance).sum(axis=1)
    np.testing.assert_allclose(chapter.kl_from_prior(mean, log_variance), expected, rtol=1e-5)


def test_kl_is_zero_only_for_the_prior_itself():
    zeros = tf.zeros((1, 4))
    assert chapter.kl_from_prior(zeros, zeros).numpy() == 0
    assert (chapter.kl_from_prior(mean, log_variance).numpy() > 0).all()


def tiny_model():
    """One latent dimension and 1 x 3 pixels: small enough to integrate."""
    model = chapter.VAE(1, seed=1)
    image, code = keras.Input((1, 3, 1)), keras.Input((1,))
    posterior = layers.Dense(2)
    model.encoder = keras.Model(image, posterior(layers.Flatten()(image)))
    # Variances above 1: wider than any true posterior here, so that no weight is huge.
    weights = np.array([[0.4, 0.1], [-0.3, 0.2], [0.2, 0.0]])
    posterior.set_weights([weights, np.array([0.0, 0.1])])
    logits = layers.Dense(3)
    model.decoder = keras.Model(code, layers.Reshape((1, 3, 1))(logits(code)))
    logits.set_weights([np.array([[2.0, -1.5, 0.7]]), np.array([0.3, -0.2, 0.1])])
    return model


every = np.array(list(np.ndindex(2, 2, 2)), np.float32).reshape(8, 1, 3, 1)  # all eight images


def exact_log_likelihood(model):
    grid = np.linspace(-9, 9, 4001)
    logits = np.float64(model.decoder(grid[:, None])).reshape(len(grid), 1, 3)
    signs = 2 * every.reshape(8, 3) - 1
    joint = log_expit(signs * logits).sum(axis=2) + stats.norm.logpdf(grid)[:, None]
    return np.log(integrate.trapezoid(np.exp(joint), grid, axis=0)), grid, joint


def test_likelihoods_of_all_images_add_up_to_one():
    assert np.exp(exact_log_likelihood(tiny_model())[0]).sum() == pytest.approx(1, abs=1e-6)


def test_elbo_falls_short_of_the_likelihood_by_the_divergence_of_the_posteriors():
    model = tiny_model()
    exact, grid, joint = exact_log_likelihood(model)
    posterior_mean, posterior_log_variance = (p.numpy() for p in model.posterior(every))
    scale = np.exp(posterior_log_variance[:, 0] / 2)
    log_q = stats.norm.logpdf(grid[:, None], posterior_mean[:, 0], scale)
    gap = integrate.trapezoid(np.exp(log_q) * (log_q - (joint - exact)), grid, axis=0)
    parts = [model.elbo(np.repeat(every, 20000, axis=0)) for _ in range(2)]
    elbo = np.mean([reconstruction - kl for reconstruction, kl in parts], axis=0)
    np.testing.assert_allclose(elbo.reshape(8, -1).mean(axis=1), exact - gap, atol=0.03)


def test_elbo_is_below_the_importance_weighted_bound_and_that_below_the_likelihood():
    model = tiny_model()
    exact = exact_log_likelihood(model)[0]
    weights = chapter.log_weights(model, np.repeat(every, 400, axis=0), 200).numpy()
    bounds = []
    for k in (1, 5, 50):
        groups = weights.reshape(8, -1, k)
        bounds.append((logsumexp(groups, axis=2) - np.log(k)).mean(axis=1))
    assert (bounds[0] < bounds[1]).all() and (bounds[1] < bounds[2]).all()
    assert (bounds[2] < exact + 0.01).all()
    reconstruction, kl = model.elbo(np.repeat(every, 20000, axis=0))
    elbo = (reconstruction - kl).numpy().reshape(8, -1).mean(axis=1)
    np.testing.assert_allclose(bounds[0], elbo, atol=0.03)


class OnePixelModel:
    """p(z) = N(0, 1), one pixel white with probability sigmoid(2 z), and a rough posterior.

    Its log p(x) is an integral over one number: an exact answer to converge to.
    """

    def __init__(self):
        self.random = keras.random.SeedGenerator(0)

    def posterior(self, binary):
        return tf.fill((len(binary), 1), 0.5), tf.fill((len(binary), 1), -0.2)

    def decoder(self, z):
        return tf.reshape(2 * z, (-1, 1, 1, 1))

    sample = chapter.VAE.sample


def test_the_importance_weighted_bound_converges_to_the_likelihood():
    z = np.linspace(-10, 10, 20001)
    exact = np.log(integrate.trapezoid(stats.norm.pdf(z) * expit(2 * z), z))
    white = np.ones((5000, 1, 1, 1), np.float32)
    weights = chapter.log_weights(OnePixelModel(), white, 200).numpy()
    bound = (logsumexp(weights, axis=1) - np.log(200)).mean()
    assert bound == pytest.approx(exact, abs=0.01) and weights.mean() < exact - 0.02


def test_importance_weighted_bound_agrees_with_the_weights():
    model = tiny_model()
    twin = tiny_model()  # the same seed: the same codes
    weights = chapter.log_weights(twin, every, 30).numpy()
    expected = logsumexp(weights, axis=1) - np.log(30)
    found = chapter.importance_weighted(model, every, 30, batch_size=8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_samples_are_reparameterised_and_have_the_right_gradients():
    """E z^2 = mean^2 + variance; its derivatives are 2 mean and, by log variance, variance."""
    model = tiny_model()
    m, v = tf.constant([[0.7]]), tf.constant([[-0.4]])
    with tf.GradientTape() as tape:
        tape.watch([m, v])
        z = model.sample(tf.repeat(m, 200000, axis=0), tf.repeat(v, 200000, axis=0))
        moment = tf.reduce_mean(tf.square(z))
    variance = np.exp(-0.4)
    assert float(moment) == pytest.approx(0.49 + variance, rel=0.02)
    gradients = [float(g[0, 0]) for g in tape.gradient(moment, [m, v])]
    assert gradients == pytest.approx([1.4, variance], rel=0.02)


images = np.random.default_rng(1).integers(0, 256, (64, 28, 28, 1)).astype(np.uint8)


def trained(seed):
    experiment.start("smoke", seed)
    vae = chapter.VAE(2, seed)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=False)
    history = vae.fit(data.batches(images, 32, seed), epochs=2, steps_per_epoch=3, verbose=0)
    return vae, history.history


def test_training_raises_the_elbo_and_follows_from_the_seed():
    first, second, other = (trained(seed)[1]["loss"] for seed in (4, 4, 5))
    assert first == second and first != other
    assert first[-1] < first[0]


def test_evaluate_reports_the_mean_of_both_parts_over_all_images():
    vae = trained(0)[0]
    binary = np.float32(images >= 128)
    found = vae.evaluate(binary, batch_size=48, verbose=0, return_dict=True)  # unequal batches
    assert found["loss"] == pytest.approx(found["kl"] - found["reconstruction"], rel=1e-5)
    kl = chapter.kl_from_prior(*vae.posterior(binary)).numpy().mean()
    assert found["kl"] == pytest.approx(kl, rel=1e-4)


def test_training_draws_white_pixels_with_the_probability_of_their_grey_value():
    class Spy(chapter.VAE):
        def elbo(self, binary):
            seen.append(binary.numpy())
            return super().elbo(binary)

    seen, vae = [], Spy(2, 0)
    vae.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    vae.fit(tf.data.Dataset.from_tensors(images).repeat(), epochs=1, steps_per_epoch=40, verbose=0)
    assert set(np.unique(seen)) == {0, 1}
    assert not np.array_equal(seen[0], seen[1]), "drawn anew in every step"
    drawn, grey = np.mean(seen, axis=0), images / 255
    assert abs(drawn - grey).max() < 6 * 0.5 / np.sqrt(40)
    assert np.corrcoef(drawn.ravel(), grey.ravel())[0, 1] > 0.95


def test_generate_gives_images_between_0_and_1():
    made = chapter.VAE(2, 0).generate(np.zeros((3, 2), np.float32))
    assert made.shape == (3, 28, 28, 1) and made.min() >= 0 and made.max() <= 1


def test_principal_angle_of_known_planes():
    turn = np.radians(30)
    plane = np.eye(4)[:2]
    tilted = np.array([[1, 0, 0, 0], [0, np.cos(turn), np.sin(turn), 0]])
    assert chapter.principal_angle(plane, tilted) == pytest.approx(30)
    mixed = np.array([[2.0, 1.0], [-1.0, 3.0]]) @ plane  # other axes of the same plane
    assert chapter.principal_angle(plane, mixed) == pytest.approx(0, abs=1e-6)


def test_pca_copy_is_the_reconstruction_of_scikit_learn():
    flat = images.reshape(len(images), -1) / np.float32(255)
    pca = PCA(6).fit(flat)
    expected = pca.inverse_transform(pca.transform(flat))
    copy = chapter.pca_copy(pca, images / np.float32(255), 6)
    assert copy.shape == images.shape
    np.testing.assert_allclose(copy.reshape(flat.shape), expected, atol=1e-5)


def test_linear_autoencoder_finds_the_subspace_of_pca(rng):
    """Low rank and noise: by training, without ever being shown the components."""
    spread = np.array([3.0, 2.0, 1.5, 0.3, 0.3, 0.3])
    axes = np.linalg.qr(rng.normal(size=(784, 6)))[0].T
    x = np.float32((rng.normal(size=(2000, 6)) * spread) @ axes)
    x -= x.mean(axis=0)
    keras.utils.set_random_seed(0)
    model = chapter.build_linear_autoencoder(3)
    pairs = data.batches(x, 200, 0).map(lambda batch: (batch, batch))
    chapter.train(model, pairs, rate=1e-2, epochs=40, steps=10)
    pca = PCA(3).fit(x)
    assert chapter.principal_angle(model.layers[-1].kernel.numpy(), pca.components_) < 2
    error = np.mean((model.predict(x, verbose=0) - x) ** 2)
    best = np.mean((pca.inverse_transform(pca.transform(x)) - x) ** 2)
    assert best * 0.9999 < error < best * 1.01


def test_denoiser_adds_its_noise_in_training_only():
    keras.utils.set_random_seed(0)
    denoiser = chapter.build_autoencoder(4, layers.GaussianNoise(0.5, seed=0))
    x = images[:3] / np.float32(255)
    copies = denoiser(x), denoiser(x)
    np.testing.assert_array_equal(*copies)
    assert not np.array_equal(denoiser(x, training=True), copies[0])


def test_psnr_of_a_known_error():
    x = np.zeros((2, 4, 4, 1))
    assert chapter.psnr(x, x + 0.1) == pytest.approx(20)


def test_a_walk_goes_in_equal_steps_from_each_even_row_to_the_next():
    codes = np.array([[0.0, 6.0], [6.0, 0.0], [1.0, 1.0], [1.0, 4.0]])
    expected = [[t, 6 - t] for t in range(7)] + [[1, 1 + t / 2] for t in range(7)]
    np.testing.assert_allclose(chapter.walk(codes), expected)


def test_the_numbers_of_an_epoch_are_means_over_its_steps():
    class Spy(chapter.VAE):
        def report(self, reconstruction, kl):
            seen.append(float(np.mean(kl)))
            return super().report(reconstruction, kl)

    seen, vae = [], Spy(2, 0)
    vae.compile(optimizer=keras.optimizers.SGD(1e-4), run_eagerly=True)
    fitted = vae.fit(data.batches(images, 16, 0), epochs=2, steps_per_epoch=3, verbose=0)
    expected = np.reshape(seen, (2, 3)).mean(axis=1)
    np.testing.assert_allclose(fitted.history["kl"], expected, rtol=1e-5)
