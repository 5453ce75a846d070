"""Chapter 12 as code: losses, attention, styles, diffusion, the step, the signature."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import chapters, experiment

chapter = chapters.import_chapter("12_what_comes_next")
rng = np.random.default_rng(0)


def softplus(x):
    return np.log1p(np.exp(x))


def test_losses_against_numpy():
    r, f = (rng.normal(size=(6, 1)) for _ in range(2))
    real, fake = tf.constant(r, tf.float32), tf.constant(f, tf.float32)
    expected = {
        "standard": softplus(-r).mean() + softplus(f).mean(),
        "relativistic_average": softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean(),
        "relativistic_pairs": softplus(f - r).mean(),
    }
    for name, value in expected.items():
        loss = getattr(chapter, name)
        assert float(loss(real, fake)) == pytest.approx(value, rel=1e-5)
        shifted = float(loss(real + 3, fake + 3))
        assert (shifted == pytest.approx(value, rel=1e-5)) == (name != "standard")


def test_the_generators_standard_loss_has_the_non_saturating_gradient():
    fake, real = tf.Variable([[0.3], [-2.0]]), tf.constant([[1.0], [2.0]])
    with tf.GradientTape() as tape:
        loss = chapter.standard(fake, real)
    expected = -1 / (1 + np.exp(fake.numpy())) / 2
    np.testing.assert_allclose(tape.gradient(loss, fake), expected, rtol=1e-5)


def test_attention_against_numpy():
    image = keras.Input((4, 6, 16))
    model = keras.Model(image, chapter.attend(image))
    x = rng.normal(size=(2, 4, 6, 16)).astype("float32")
    np.testing.assert_array_equal(model(x), x)  # the last weights are 0 at first
    weights = [rng.normal(size=w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights(weights)
    query, value, key, last = weights
    pooled = x.reshape(2, 2, 2, 3, 2, 16).mean(axis=(2, 4)).reshape(2, 6, 16)
    flat = x.reshape(2, 24, 16)
    scores = np.einsum("nic,njc->nij", flat @ query, pooled @ key)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    answer = scores / scores.sum(axis=-1, keepdims=True) @ (pooled @ value)
    expected = (flat + answer @ last).reshape(x.shape)
    np.testing.assert_allclose(model(x), expected, rtol=1e-3, atol=1e-3)


def test_attention_enters_both_networks_and_changes_nothing_at_first():
    for network in chapter.chapter5.digits(1):
        attentive = chapter.with_attention(network)
        assert len([x for x in attentive.layers if isinstance(x, keras.layers.Attention)]) == 1
        x = rng.normal(size=(2, *network.input_shape[1:])).astype("float32")
        np.testing.assert_allclose(attentive(x), network(x), atol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_modulated_convolution_has_a_kernel_for_every_image(strides):
    layer = chapter.ModulatedConv(5, strides)
    x = rng.normal(size=(3, 4, 4, 6)).astype("float32")
    w = rng.normal(size=(3, 7)).astype("float32")
    made = layer([x, w])
    scale = w @ layer.scale.kernel.numpy() + layer.scale.bias.numpy()
    for i in range(3):
        kernel = layer.conv.kernel.numpy() * scale[i]  # (k, k, out, in)
        kernel /= np.sqrt((kernel**2).sum(axis=(0, 1, 3), keepdims=True))
        shape = (1, 4 * strides, 4 * strides, 5)
        alone = tf.nn.conv2d_transpose(x[i : i + 1], kernel, shape, strides)
        np.testing.assert_allclose(made[i], alone[0], rtol=1e-3, atol=1e-3)


def test_demodulation_keeps_the_variance():
    layer = chapter.ModulatedConv(64)
    x = rng.normal(size=(8, 10, 10, 32)).astype("float32")
    made = layer([x, 20 * rng.normal(size=(8, 7)).astype("float32")]).numpy()
    assert made[:, 2:-2, 2:-2].std() == pytest.approx(1, abs=0.1)


def test_styles_mix_in_training_alone_and_with_a_neighbour():
    layer = chapter.StyleMixing(3, 5)
    w = tf.range(200.0)[:, None]
    copies = layer(w, training=False).numpy()[..., 0]
    np.testing.assert_array_equal(copies, np.repeat(np.arange(200)[:, None], 3, axis=1))
    mixed = layer(w, training=True).numpy()[..., 0]
    strange = mixed != copies
    np.testing.assert_array_equal(mixed[strange], ((copies - 1) % 200)[strange])
    assert not strange[:, 0].any() and (np.diff(strange.astype(int)) >= 0).all()
    assert 0.25 < strange[:, -1].mean() < 0.55  # 2 of 5 starts lie inside


def test_the_style_generator():
    experiment.start("smoke", 0)
    generator = chapter.build_generator(8, width=16, seed=0)
    z = rng.normal(size=(4, 8)).astype("float32")
    made = generator(z)
    assert made.shape == (4, 28, 28, 1) and np.abs(made).max() <= 1
    w = generator.get_layer("mapping")(z)
    again = generator.get_layer("synthesis")(tf.repeat(w[:, None], 3, axis=1))
    np.testing.assert_allclose(made, again, atol=1e-5)
    weights = generator.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(generator(z) ** 2)
    assert all(g is not None for g in tape.gradient(loss, weights))


def test_turning_is_a_rotation():
    x, e = (rng.normal(size=(2, 3, 3, 1)).astype("float32") for _ in range(2))
    z, v = chapter.turn(x, e, 0.7)
    np.testing.assert_allclose(z, np.cos(0.7) * x + np.sin(0.7) * e, rtol=1e-5)
    slope = (chapter.turn(x, e, 0.701)[0] - chapter.turn(x, e, 0.699)[0]) / 0.002
    np.testing.assert_allclose(v, slope, atol=1e-2)
    back = chapter.turn(z, v, -0.7)
    np.testing.assert_allclose(back[0], x, atol=1e-5)
    np.testing.assert_allclose(back[1], e, atol=1e-5)


@pytest.mark.parametrize("turns", [1, 7])
def test_sampling_with_a_perfect_denoiser_finds_the_only_image(turns):
    only = np.float32(rng.uniform(-0.9, 0.9, (1, 28, 28, 1)))

    def perfect(inputs, training):
        z, angle = inputs
        return chapter.turn(only, (z - tf.cos(angle) * only) / tf.sin(angle), angle)[1]

    z = rng.normal(size=(3, 28, 28, 1)).astype("float32")
    made = chapter.sample(perfect, tf.constant(z), turns)
    np.testing.assert_allclose(made, np.repeat(only, 3, axis=0), atol=1e-4)


def test_sampling_turns_normal_data_into_normal_data():
    """For x ~ N(0, s^2) the best guess of v is linear; DDIM ends near the deviation s."""
    s = 0.3

    def best(inputs, training):
        z, angle = inputs
        c, d = tf.cos(angle), tf.sin(angle)
        return z * c * d * (1 - s**2) / (c**2 * s**2 + d**2)

    z = rng.normal(size=(4, 28, 28, 1)).astype("float32")
    made = chapter.sample(best, tf.constant(z), 50).numpy()
    assert made.std() == pytest.approx(s, rel=0.1)
    assert np.corrcoef(made.ravel(), z.ravel())[0, 1] > 0.99


def new_gan(rates=(0.0, 0.0), loss="standard", **options):
    gan = chapter.GAN(*chapter.chapter5.digits(3), 3, **options)
    loss = getattr(chapter, loss)
    gan.compile(*map(keras.optimizers.SGD, rates), losses=(loss, loss), jit_compile=False)
    return gan


BATCH = rng.integers(0, 256, (8, 28, 28, 1), np.uint8)


def weights_after(model, batch=BATCH):
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    return model


@pytest.mark.parametrize("rates", [(0.1, 0.0), (0.0, 0.1)], ids=["generator", "discriminator"])
def test_a_move_leaves_the_other_player_where_it_is(rates):
    gan = new_gan(rates, "relativistic_average")
    players = gan.generator, gan.discriminator
    before = [[w.numpy() for w in p.trainable_variables] for p in players]
    weights_after(gan)
    for player, old, rate in zip(players, before, rates, strict=True):
        new = [w.numpy() for w in player.trainable_variables]
        moved = [np.abs(a - b).max() > 0 for a, b in zip(new, old, strict=True)]
        assert any(moved) == bool(rate)


@pytest.mark.parametrize("penalty", [0.0, 50.0])
def test_the_discriminators_step_is_the_gradient_written_out(penalty):
    rate, options = 0.01, {"penalty": penalty}
    twin = new_gan(loss="relativistic_pairs", **options)
    real = tf.constant(np.float32(BATCH) / 127.5 - 1)
    fake, judge = twin.fake(real), twin.discriminator  # the first noise of the same seed
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.softplus(judge(fake) - judge(real)))
        for x in (real, fake):
            with tf.GradientTape() as inner:
                inner.watch(x)
                logits = tf.reduce_sum(judge(x))
            slope = inner.gradient(logits, x)
            loss += penalty / 2 * tf.reduce_mean(tf.reduce_sum(slope**2, axis=(1, 2, 3)))
    gradients = tape.gradient(loss, judge.trainable_variables)
    expected = [w - rate * g for w, g in zip(judge.trainable_variables, gradients, strict=True)]
    gan = weights_after(new_gan((0.0, rate), "relativistic_pairs", **options))
    for mine, theirs in zip(gan.discriminator.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_diffusion_learns_one_image_and_generates():
    keras.utils.set_random_seed(0)
    model = chapter.Diffusion(chapter.denoiser.build_denoiser(8), 0)
    model.compile(chapter.contest.adam(5e-3, 0.9), jit_compile=False)
    batches = tf.data.Dataset.from_tensors(np.zeros_like(BATCH)).repeat()
    history = model.fit(batches, epochs=60, steps_per_epoch=1, verbose=0).history["squared_error"]
    assert history[0] == pytest.approx(1, abs=0.1)  # v of an answer of 0 and an image of -1
    assert np.mean(history[-10:]) < 0.5
    made = model.generate(rng.normal(size=(4, 28, 28, 1)).astype("float32"), turns=3)
    assert made.shape == (4, 28, 28, 1) and made.min() >= 0 and made.max() <= 1


class Grey(keras.layers.Layer):
    """A generator of one grey level, which is to be learnt for every pixel."""

    def build(self, shape):
        self.level = self.add_weight(shape=(28, 28, 1), initializer="zeros")

    def call(self, latent):
        return tf.tanh(self.level) + 0 * latent[:, :1, None, None]


def test_a_generator_learns_to_sign_and_the_original_stays():
    latent = keras.Input((4,))
    original = keras.Model(latent, Grey()(latent))
    patterns = chapter.provenance.key_patterns(8, 28, 1)
    key = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    usual = np.full((1, 784), 0.5, np.float32) @ patterns
    signed = chapter.Signed(original, (patterns, usual, key))
    signed.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    codes = np.zeros((16, 4), np.float32)
    history = signed.fit(codes, batch_size=8, epochs=15, verbose=0).history["reading"]
    assert history[-1] < 0.5 * history[0]
    assert np.abs(original.get_weights()[0]).max() == 0
    made = (signed.generator(codes[:2]).numpy() + 1) / 2
    for images in (made, chapter.provenance.jpeg(made, 75)):
        read = images.reshape(2, -1) @ patterns > usual
        assert (read == key).mean() > 0.9
