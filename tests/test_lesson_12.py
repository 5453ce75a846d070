"""Chapter 12 as code: losses, attention, styles, diffusion, the step, attacks, the signature."""

import math

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from helpers import chapters, experiment
from helpers.studies import provenance

chapter = chapters.import_chapter("12_what_comes_next")


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def test_steps_times_costs_are_equal():
    """The contest's numbers of steps follow from its ratios; diffusion has twice the cost."""
    for name, steps in chapter.STEPS.items():
        share = steps * chapter.STEP_COST.get(name, 1) / chapter.STEPS["DCGAN"]
        assert share == pytest.approx(2 if name == "diffusion" else 1, rel=0.03), name


def softplus(x):
    return np.log1p(np.exp(x))


def test_losses_against_numpy(rng):
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


def test_attention_against_numpy(rng):
    image = keras.Input((4, 6, 16))
    model = keras.Model(image, chapter.attend(image))
    x = rng.normal(size=(2, 4, 6, 16)).astype("float32")
    np.testing.assert_array_equal(model(x), x)  # the last weights are 0 at first
    weights = [rng.normal(size=w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights(weights)
    query, value, key, last = weights  # in the order in which Attention takes them
    pooled = x.reshape(2, 2, 2, 3, 2, 16).mean(axis=(2, 4)).reshape(2, 6, 16)
    flat = x.reshape(2, 24, 16)
    scores = np.einsum("nic,njc->nij", flat @ query, pooled @ key)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    answer = scores / scores.sum(axis=-1, keepdims=True) @ (pooled @ value)
    expected = (flat + answer @ last).reshape(x.shape)
    np.testing.assert_allclose(model(x), expected, rtol=1e-3, atol=1e-3)


def test_attention_enters_both_networks_and_changes_nothing_at_first(rng):
    for network in chapter.chapter5.digits(1):
        attentive = chapter.with_attention(network)
        assert len([x for x in attentive.layers if isinstance(x, keras.layers.Attention)]) == 1
        x = rng.normal(size=(2, *network.input_shape[1:])).astype("float32")
        np.testing.assert_allclose(attentive(x), network(x), atol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_modulated_convolution_has_a_kernel_for_every_image(strides, rng):
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


def test_demodulation_keeps_the_variance(rng):
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


def test_the_style_generator(rng):
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


def test_turning_is_a_rotation(rng):
    x, e = (rng.normal(size=(2, 3, 3, 1)).astype("float32") for _ in range(2))
    z, v = chapter.turn(x, e, 0.7)
    np.testing.assert_allclose(z, np.cos(0.7) * x + np.sin(0.7) * e, rtol=1e-5)
    slope = (chapter.turn(x, e, 0.701)[0] - chapter.turn(x, e, 0.699)[0]) / 0.002
    np.testing.assert_allclose(v, slope, atol=1e-2)
    back = chapter.turn(z, v, -0.7)
    np.testing.assert_allclose(back[0], x, atol=1e-5)
    np.testing.assert_allclose(back[1], e, atol=1e-5)


@pytest.mark.parametrize("turns", [1, 7])
def test_sampling_with_a_perfect_denoiser_finds_the_only_image(turns, rng):
    only = np.float32(rng.uniform(-0.9, 0.9, (1, 28, 28, 1)))

    def perfect(inputs, training):
        z, angle = inputs
        return chapter.turn(only, (z - tf.cos(angle) * only) / tf.sin(angle), angle)[1]

    z = rng.normal(size=(3, 28, 28, 1)).astype("float32")
    made = chapter.sample(perfect, tf.constant(z), turns)
    np.testing.assert_allclose(made, np.repeat(only, 3, axis=0), atol=1e-4)


def test_sampling_turns_normal_data_into_normal_data(rng):
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
    generator, discriminator = chapter.chapter5.digits(3)
    gan = chapter.GAN(generator, discriminator, 3, **options)
    optimizers = [keras.optimizers.SGD(rate) for rate in rates]
    gan.compile(*optimizers, loss=getattr(chapter, loss), jit_compile=False)
    return gan


BATCH = np.random.default_rng(1).integers(0, 256, (8, 28, 28, 1), np.uint8)


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


def test_the_reported_losses_are_means_of_the_epoch(rng):
    gan = new_gan()  # rates of 0: nothing moves, so each batch has a loss of its own
    twin = new_gan()
    batches = rng.integers(0, 256, (3, 8, 28, 28, 1), np.uint8)
    losses = []
    for batch in batches:
        real = tf.constant(np.float32(batch) / 127.5 - 1)
        losses.append(float(twin.move_discriminator(real)))
        twin.move_generator(real)
    history = gan.fit(tf.data.Dataset.from_tensor_slices(batches), verbose=0).history
    assert history["discriminator_loss"] == [pytest.approx(np.mean(losses), rel=1e-4)]
    assert np.std(losses) > 1e-3


def test_the_angle_enters_as_waves(rng):
    angle = rng.uniform(0, 1.5, (5, 1, 1, 1)).astype("float32")
    expected = [f(k * angle) for f in (np.sin, np.cos) for k in (1, 2, 4, 8, 16, 32)]
    np.testing.assert_allclose(
        chapter.waves_of(angle), np.concatenate(expected, axis=-1), atol=1e-5
    )


def test_the_denoiser_is_a_u_net_whose_first_answer_is_0(rng):
    network = chapter.build_denoiser(8)
    z = rng.normal(size=(2, 28, 28, 1)).astype("float32")
    angles = np.float32([0.2, 1.5]).reshape(2, 1, 1, 1)
    made = network([z, angles])
    assert made.shape == (2, 28, 28, 1)
    np.testing.assert_array_equal(made, 0)
    sides = {layer.output.shape[1] for layer in network.layers if len(layer.output.shape) == 4}
    assert {28, 14, 7} <= sides
    joined = [x for x in network.layers if isinstance(x, keras.layers.Concatenate)]
    shapes = [[tuple(part.shape[1:]) for part in x.input] for x in joined]
    assert [(14, 14, 8)] * 2 in shapes  # the shortcut meets what came up from 7 pixels


def test_the_denoiser_listens_to_the_angle_and_sees_through_the_shortcut(rng):
    network = chapter.build_denoiser(8)
    last = network.layers[-1]
    last.kernel.assign(tf.ones_like(last.kernel))
    z = rng.normal(size=(1, 28, 28, 1)).astype("float32")
    one, other = (np.full((1, 1, 1, 1), a, np.float32) for a in (0.2, 1.5))
    assert np.abs(network([z, one]) - network([z, other])).max() > 1e-4
    assert np.ptp(network([z, one]).numpy()) > 1e-3  # it depends on the place


def test_a_residual_block_adds_what_its_convolutions_compute(rng):
    maps = keras.Input((6, 6, 4))
    level = keras.Input((1, 1, 64))
    block = keras.Model([maps, level], chapter.residual_block(maps, level, 4))
    first, second = (x for x in block.layers if isinstance(x, keras.layers.Conv2D))
    (dense,) = (x for x in block.layers if isinstance(x, keras.layers.Dense))
    x = rng.normal(size=(3, 6, 6, 4)).astype("float32")
    noise_level = rng.normal(size=(3, 1, 1, 64)).astype("float32")

    def silu(y):  # after a batch normalisation that is new: mean 0, variance 1
        y = y / np.sqrt(1 + 1e-3)
        return y * scipy.special.expit(y)

    def convolve(layer, y):
        return tf.nn.conv2d(y.astype("float32"), layer.kernel, 1, "SAME").numpy()

    y = convolve(first, silu(x)) + noise_level @ dense.kernel.numpy()
    expected = x + convolve(second, silu(y))
    np.testing.assert_allclose(block([x, noise_level]), expected, atol=1e-4)


def test_diffusion_learns_one_image_and_generates(rng):
    keras.utils.set_random_seed(0)
    model = chapter.Diffusion(chapter.build_denoiser(8), 0)
    model.compile(chapter.adam(5e-3, 0.9), jit_compile=False)
    batches = tf.data.Dataset.from_tensors(np.zeros_like(BATCH)).repeat()
    history = model.fit(batches, epochs=60, steps_per_epoch=1, verbose=0).history["squared_error"]
    assert history[0] == pytest.approx(1, abs=0.1)  # v of an answer of 0 and an image of -1
    assert np.mean(history[-10:]) < 0.5
    noise = rng.normal(size=(503, 28, 28, 1)).astype("float32")
    made = model.generate(noise, turns=1)
    assert made.shape == (503, 28, 28, 1) and made.min() >= 0 and made.max() <= 1
    np.testing.assert_allclose(made[500:], model.generate(noise[500:], turns=1), atol=1e-5)


def test_fit_leaves_diffusions_average_of_the_weights():
    model = chapter.Diffusion(chapter.build_denoiser(8), 0)
    model.compile(chapter.adam(1e-2, 0.9), jit_compile=False)
    batches = tf.data.Dataset.from_tensors(BATCH).repeat()
    model.fit(batches, steps_per_epoch=3, verbose=0)
    averages = model.optimizer._model_variables_moving_average
    for weight, average in zip(model.denoiser.trainable_variables, averages, strict=True):
        np.testing.assert_allclose(weight, average, atol=1e-6)


def test_auroc_is_scikit_learns(rng):
    members, strangers = rng.integers(0, 9, 40), rng.integers(2, 12, 60)  # with equal scores
    expected = roc_auc_score(np.repeat([1, 0], [40, 60]), np.concatenate([members, strangers]))
    assert chapter.auroc(members, strangers) == pytest.approx(expected)
    assert chapter.auroc(strangers, members) == pytest.approx(1 - expected)


class Listener:
    """A discriminator of images in [-1, 1] that answers with a weighted sum of the pixels."""

    def __init__(self, weights):
        self.weights = weights

    def predict(self, images, batch_size, verbose):
        assert images.min() == -1 and images.max() == 1
        return (images * self.weights).sum(axis=(1, 2, 3), keepdims=True)[:, 0, 0]


def test_membership_scores_are_means_over_all_shifts(rng):
    images = np.zeros((4, 10, 10, 1))
    images[:, 3:7, 3:7] = rng.random((4, 4, 4, 1)) > 0.5
    images[:, 4, 4] = 1
    listener = Listener(rng.normal(size=(10, 10, 1)))
    plain = chapter.membership_scores(listener, images)
    np.testing.assert_allclose(plain, ((2 * images - 1) * listener.weights).sum(axis=(1, 2, 3)))
    expected = []
    for down in range(-2, 3):
        for right in range(-2, 3):
            moved = [scipy.ndimage.shift(x[..., 0], (down, right), order=0) for x in images]
            expected.append(listener.predict(2 * np.stack(moved)[..., None] - 1, 0, 0)[:, 0])
    scores = chapter.membership_scores(listener, images, largest_shift=2)
    np.testing.assert_allclose(scores, np.mean(expected, axis=0))


def test_membership_of_one_who_knows_and_of_one_who_does_not():
    bright = np.zeros((10, 8, 8, 1))
    bright[:, 3:5, 3:5] = 1
    dim = np.zeros((10, 8, 8, 1))
    dim[:, 3, 3] = 1
    listener = Listener(np.ones((8, 8, 1)))
    assert chapter.membership_auroc(listener, bright, dim) == 1
    assert chapter.membership_auroc(listener, bright, bright) == 0.5


def test_low_pass_keeps_long_waves_and_takes_short_ones():
    place = np.arange(28)
    slow = np.sin(2 * np.pi * place * 3 / 28)  # 0.11 cycles per pixel
    fast = np.sin(2 * np.pi * place * 10 / 28)  # 0.36
    image = (0.5 + 0.2 * slow[:, None] + 0.2 * fast[None, :])[None, ..., None]
    expected = (0.5 + 0.2 * slow[:, None] + 0 * fast[None, :])[None, ..., None]
    np.testing.assert_allclose(chapter.low_pass(image), expected, atol=1e-6)


def test_group_share_of_all_and_of_the_surest():
    sure = np.repeat([0.9, 0.6], [3, 5])
    kinds = [0, 1, 0, 1, 1, 1, 1, 0]
    rows = [(1 - p, p) if k else (p, 1 - p) for k, p in zip(kinds, sure, strict=True)]
    shares = chapter.group_share(np.array(rows), [1], surest=3)
    assert shares == {"all": 5 / 8, "the surest": pytest.approx(1 / 3)}


def test_the_corrected_share_is_what_a_biased_ruler_was_held_against(rng):
    """A ruler that keeps 80 % of the group and 40 % of the others, simulated on two sets."""

    def measured(share, n=400_000):
        member = rng.random(n) < share
        kept = rng.random(n) < np.where(member, 0.8, 0.4)
        return member[kept].mean()

    share = chapter.corrected_share(measured(0.1), measured(0.49), 0.49)
    assert share == pytest.approx(0.1, abs=0.003)
    assert 0 < chapter.corrected_share(0.0, 1.0, 0.49) < 0.01  # no division by 0


def test_patterns_are_orthonormal_secret_and_of_their_band():
    patterns = chapter.key_patterns(16, 28, 3)
    assert patterns.shape == (784, 16) and patterns.dtype == np.float32
    np.testing.assert_allclose(patterns.T @ patterns, np.eye(16), atol=1e-5)
    spectrum = np.abs(np.fft.fft2(patterns.T.reshape(-1, 28, 28)))
    frequency = np.fft.fftfreq(28)
    radius = np.hypot(frequency[:, None], frequency[None])
    assert spectrum[:, (radius < 0.1799) | (radius > 0.3601)].max() < 1e-4
    np.testing.assert_array_equal(patterns, chapter.key_patterns(16, 28, 3))
    assert np.abs(patterns.T @ chapter.key_patterns(16, 28, 4)).max() < 0.5
    with pytest.raises(AssertionError, match="no room"):
        chapter.key_patterns(500, 28, 0)


def test_chance_of_matches_by_counting_and_by_tossing_coins(rng):
    for matches, bits in ((0, 8), (5, 8), (26, 32), (32, 32)):
        exact = sum(math.comb(bits, k) for k in range(matches, bits + 1)) / 2**bits
        assert chapter.chance_of_matches(matches, bits) == pytest.approx(exact)
    tossed = rng.integers(0, 2, (200_000, 32)).sum(axis=1)
    assert chapter.chance_of_matches(20, 32) == pytest.approx(np.mean(tossed >= 20), abs=0.004)


def test_enough_matches_are_the_fewest_that_are_rare_enough():
    for bits, risk in ((32, 1e-3), (32, 1e-6), (64, 1e-3)):
        enough = chapter.enough_matches(bits, risk)
        chances = [
            sum(math.comb(bits, k) for k in range(least, bits + 1)) / 2**bits
            for least in (enough, enough - 1)
        ]
        assert chances[0] <= risk < chances[1]
    with pytest.raises(ValueError, match="use more bits"):
        chapter.enough_matches(4, 1e-3)


class Grey(keras.layers.Layer):
    """A generator of one grey level, which is to be learnt for every pixel."""

    def build(self, shape):
        self.level = self.add_weight(shape=(28, 28, 1), initializer="zeros")

    def call(self, latent):
        return tf.tanh(self.level) + 0 * latent[:, :1, None, None]


def test_a_generator_learns_to_sign_and_the_original_stays():
    latent = keras.Input((4,))
    original = keras.Model(latent, Grey()(latent))
    patterns = chapter.key_patterns(8, 28, 1)
    key = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    usual = np.full((1, 784), 0.5, np.float32) @ patterns
    signed = chapter.Signed(original, patterns, usual, key)
    signed.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    codes = np.zeros((16, 4), np.float32)
    history = signed.fit(codes, batch_size=8, epochs=15, verbose=0).history["reading"]
    assert history[-1] < 0.5 * history[0]
    assert np.abs(original.get_weights()[0]).max() == 0
    made = (signed.generator(codes[:2]).numpy() + 1) / 2
    for images in (made, provenance.jpeg(made, 75)):
        read = images.reshape(2, -1) @ patterns > usual
        assert (read == key).mean() > 0.9
