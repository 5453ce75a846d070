"""Chapter 8 as code: labels, three discriminators, the step, the measures inside a class."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.linalg import sqrtm
from scipy.signal import correlate2d
from scipy.spatial.distance import cdist
from scipy.special import log_expit, log_softmax

from helpers import chapters, experiment

chapter = chapters.import_chapter("08_conditional_gan")
SHAPE = (28, 28, 1)
WAYS = ("concatenation", "classifier", "projection", "both")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pictures(n, rng):
    return rng.uniform(-1, 1, (n, *SHAPE)).astype(np.float32)


def test_one_hot_is_a_row_of_the_identity(rng):
    labels = rng.integers(0, 10, 30)
    rows = chapter.one_hot(labels)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, labels[:, None] == np.arange(10))


@pytest.mark.parametrize("labels", [[10], [-1, 2], [1.5], [], [[1, 2]], 3, ["7"]])
def test_wrong_labels_are_refused_in_one_sentence(labels):
    with pytest.raises(ValueError, match=r"give whole numbers from 0 to 9\.$"):
        chapter.one_hot(labels)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="give one of concatenation, classifier, projection, both"):
        chapter.build_discriminator(SHAPE, "magic")


def features_of(discriminator, images, label):
    part = keras.Model(discriminator.inputs, discriminator.get_layer("features").output)
    return part([images, label]).numpy().astype(float)


def test_the_projection_logit_is_psi_plus_the_product_with_the_row_of_the_class(rng):
    discriminator = chapter.build_discriminator(SHAPE, "projection", width=4)
    for weight in discriminator.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    images, labels = pictures(6, rng), rng.integers(0, 10, 6)
    label = chapter.one_hot(labels)
    phi = features_of(discriminator, images, label)
    psi, v = discriminator.get_layer("psi"), discriminator.get_layer("V").kernel.numpy()
    by_hand = phi @ psi.kernel.numpy() + psi.bias.numpy()
    by_hand[:, 0] += [v[c] @ phi[n] for n, c in enumerate(labels)]
    np.testing.assert_allclose(discriminator([images, label]), by_hand, rtol=1e-4, atol=1e-4)


def test_without_its_row_a_projection_does_not_know_the_class(rng):
    discriminator = chapter.build_discriminator(SHAPE, "projection", width=4)
    images = pictures(10, rng)
    one, other = (chapter.one_hot(labels) for labels in (np.arange(10), np.arange(10)[::-1]))
    assert np.abs(discriminator([images, one]) - discriminator([images, other])).max() > 1e-5
    discriminator.get_layer("V").kernel.assign(np.zeros((10, 7 * 7 * 8)))
    np.testing.assert_array_equal(discriminator([images, one]), discriminator([images, other]))


def test_concatenation_convolves_the_image_and_the_plane_of_the_class(rng):
    """The first convolution with SciPy, the embedding as the second channel."""
    discriminator = chapter.build_discriminator(SHAPE, "concatenation", width=2)
    image, label = pictures(1, rng), chapter.one_hot([4])
    first = next(x for x in discriminator.layers if isinstance(x, keras.layers.Conv2D))
    plane = next(x for x in discriminator.layers if isinstance(x, keras.layers.Dense))
    plane.bias.assign(rng.normal(size=plane.bias.shape))
    channels = [image[0, ..., 0], (plane.kernel.numpy()[4] + plane.bias.numpy()).reshape(28, 28)]
    output = keras.Model(discriminator.inputs, first.output)([image, label])[0]
    kernel = first.kernel.numpy()
    for k in range(2):
        whole = sum(
            correlate2d(np.pad(channel, 1), kernel[:, :, c, k], mode="valid")
            for c, channel in enumerate(channels)
        )
        np.testing.assert_allclose(output[..., k], whole[::2, ::2], atol=1e-4)


def test_the_generator_joins_the_noise_and_the_row_of_the_class(rng):
    generator = chapter.build_generator(3, embedding=5, width=4)
    dense = next(x for x in generator.layers if isinstance(x, keras.layers.Dense))
    assert dense.kernel.shape == (10, 5) and not dense.use_bias
    joined = next(x for x in generator.layers if isinstance(x, keras.layers.Concatenate))
    latent, labels = rng.normal(size=(4, 3)).astype(np.float32), np.array([0, 9, 9, 2])
    code = keras.Model(generator.inputs, joined.output)([latent, chapter.one_hot(labels)])
    np.testing.assert_allclose(code, np.hstack([latent, dense.kernel.numpy()[labels]]), rtol=1e-6)
    images = generator([latent, chapter.one_hot(labels)])
    assert images.shape == (4, *SHAPE) and np.abs(images).max() <= 1


def test_the_auxiliary_classifier_never_sees_the_label():
    alone = chapter.build_discriminator(SHAPE, "classifier", width=4)
    assert alone.input_shape == (None, *SHAPE)
    logits, class_logits = alone(np.zeros((2, *SHAPE), np.float32))
    assert logits.shape == (2, 1) and class_logits.shape == (2, 10)


def compiled(gan, rates=(1e-2, 1e-2)):
    """The same GAN with plain gradient descent at these rates and chapter 3's losses."""
    optimizers = [keras.optimizers.SGD(rate) for rate in rates]
    losses = (chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss)
    gan.compile(*optimizers, losses=losses, jit_compile=False)
    return gan


def new_gan(way, rates=(1e-2, 1e-2)):
    experiment.start("smoke", 5)
    networks = chapter.build_generator(4, width=8), chapter.build_discriminator(SHAPE, way, width=8)
    gan = chapter.CGAN(*networks, 5, decay=0.9)
    return compiled(gan, rates)


IMAGES = np.random.default_rng(1).integers(0, 256, (8, *SHAPE), np.uint8)
LABELS = np.arange(8, dtype=np.int32)


def fit(gan, steps=1, labels=LABELS):
    batches = tf.data.Dataset.from_tensors((IMAGES, labels)).repeat()
    return gan.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0).history


@pytest.mark.parametrize("way", WAYS)
def test_the_losses_of_a_step_written_out(way):
    """Cross-entropies in NumPy; for ACGAN those of the classes, of real and generated images."""
    gan, label = new_gan(way), tf.constant(chapter.one_hot(LABELS))
    latent = keras.random.normal((8, 4), seed=keras.random.SeedGenerator(5))
    fake = gan.generator([latent, label], training=True)
    real = tf.constant(IMAGES / np.float32(127.5) - 1)
    inputs = [x if way == "classifier" else [x, label] for x in (real, fake)]
    answers = [
        [np.asarray(part, float) for part in tf.nest.flatten(gan.discriminator(x))] for x in inputs
    ]
    (real_logits, *_), (fake_logits, *_) = answers
    named = [-log_softmax(c, axis=1)[range(8), LABELS].mean() for _, *part in answers for c in part]
    assert len(named) == (2 if way in ("classifier", "both") else 0)
    discriminator = -log_expit(real_logits).mean() - log_expit(-fake_logits).mean() + sum(named)
    generator = -log_expit(fake_logits).mean() + sum(named[1:])
    gan.random.state.assign(keras.random.SeedGenerator(5).state)
    history = fit(gan)
    np.testing.assert_allclose(history["discriminator_loss"], [discriminator], rtol=1e-3)
    np.testing.assert_allclose(history["generator_loss"], [generator], rtol=1e-3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rates", [(1e-2, 0.0), (0.0, 1e-2)], ids=["generator", "discriminator"])
def test_a_move_leaves_the_other_player_where_it_is(way, rates):
    gan = new_gan(way, rates)
    players = gan.generator, gan.discriminator
    before = [[w.numpy() for w in p.trainable_variables] for p in players]
    fit(gan, 2)
    for player, old, rate in zip(players, before, rates, strict=True):
        new = [w.numpy() for w in player.trainable_variables]
        moved = [np.abs(a - b).max() > 0 for a, b in zip(new, old, strict=True)]
        assert all(moved) if rate else not any(moved)


@pytest.mark.parametrize("way", WAYS)
def test_the_labels_of_the_batch_matter(way):
    weights = []
    for labels in (LABELS, LABELS[::-1].copy()):
        gan = new_gan(way)
        fit(gan, labels=labels)
        weights.append(gan.discriminator.get_weights())
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(*weights, strict=True))


def test_images_come_from_the_average_and_from_labels_or_weights(rng):
    gan, latent = new_gan("projection"), rng.normal(size=(3, 4)).astype(np.float32)
    for weight in gan.generator.weights:
        weight.assign(tf.zeros_like(weight))
    label = chapter.one_hot([1, 2, 3])
    expected = (gan.average([latent, label], training=False) + 1) / 2
    np.testing.assert_allclose(gan.generate(latent, [1, 2, 3]), expected, atol=1e-5)
    np.testing.assert_allclose(gan.generate(latent, label), expected, atol=1e-5)
    with pytest.raises(ValueError, match="whole numbers from 0 to 9"):
        gan.generate(latent, [1, 2, 10])


def test_the_average_follows_its_formula():
    gan = new_gan("projection")
    slow = [w.numpy().copy() for w in gan.average.weights]
    for step in range(1, 4):
        fit(gan)
        decay = min(0.9, (1 + step) / (10 + step))
        slow = [decay * a + (1 - decay) * b.numpy()
                for a, b in zip(slow, gan.generator.weights, strict=True)]  # fmt: skip
    for mine, average in zip(slow, gan.average.weights, strict=True):
        np.testing.assert_allclose(average, mine, rtol=1e-4, atol=1e-6)


# The recipe for garments: a hidden layer and R1


def regularised(kind=chapter.CGAN, gamma=None):
    """A small GAN of this kind on the discriminator with a hidden layer."""
    experiment.start("smoke", 5)
    keras.utils.set_random_seed(5)
    generator = chapter.build_generator(4, width=8)
    discriminator = chapter.build_comparing_discriminator(SHAPE, width=4, hidden=6)
    options = {} if gamma is None else {"gamma": gamma}
    gan = kind(generator, discriminator, 5, decay=0.9, **options)
    return compiled(gan)


def test_the_hidden_layer_stands_before_both_answers(rng):
    discriminator = chapter.build_comparing_discriminator(SHAPE, width=4, hidden=6)
    images, labels = pictures(5, rng), rng.integers(0, 10, 5)
    label = chapter.one_hot(labels)
    phi = features_of(discriminator, images, label)
    assert phi.shape == (5, 6)
    psi, v = discriminator.get_layer("psi"), discriminator.get_layer("V").kernel.numpy()
    by_hand = phi @ psi.kernel.numpy() + psi.bias.numpy()
    by_hand[:, 0] += [v[c] @ phi[n] for n, c in enumerate(labels)]
    logits, class_logits = discriminator([images, label])
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)
    named = discriminator.get_layer("classes")
    expected = phi @ named.kernel.numpy() + named.bias.numpy()
    np.testing.assert_allclose(class_logits, expected, rtol=1e-4, atol=1e-5)


def test_r1_against_differences_of_the_logit(rng):
    """The slope of each of the 784 pixels from two logits, one image at a time."""
    gan = regularised(chapter.RegularisedCGAN, gamma=3.0)
    images, label = pictures(2, rng), chapter.one_hot([4, 7])
    squared_lengths = []
    for image, row in zip(images, label, strict=True):
        moves = 1e-2 * np.eye(784, dtype=np.float32).reshape(784, *SHAPE)
        rows = np.repeat(row[None], 784, axis=0)
        up, _ = gan.discriminator([image + moves, rows])
        down, _ = gan.discriminator([image - moves, rows])
        slopes = (np.asarray(up, float) - np.asarray(down, float)) / 2e-2
        squared_lengths.append(np.sum(slopes**2))
    expected = 3.0 / 2 * np.mean(squared_lengths)
    assert float(gan.r1(tf.constant(images), tf.constant(label))) == pytest.approx(
        expected, rel=0.02
    )


def test_the_penalty_comes_in_every_eighth_step(rng):
    gan = regularised(chapter.RegularisedCGAN, gamma=3.0)
    images, label = tf.constant(pictures(2, rng)), tf.constant(chapter.one_hot([4, 7]))
    once = float(gan.r1(images, label))
    due = []
    for step in range(17):
        gan.discriminator_optimizer.iterations.assign(step)
        due.append(float(gan.penalty(images, label)))
    np.testing.assert_allclose(due, [8 * once if step % 8 == 0 else 0 for step in range(17)])


def test_without_gamma_the_step_is_that_of_the_plain_game():
    plain, free = regularised(), regularised(chapter.RegularisedCGAN, gamma=0.0)
    pulled = regularised(chapter.RegularisedCGAN, gamma=50.0)
    for gan in (plain, free, pulled):
        fit(gan, 3)
    for networks in ("generator", "discriminator", "average"):
        mine = getattr(free, networks).get_weights()
        for a, b in zip(mine, getattr(plain, networks).get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    weights = zip(plain.discriminator.weights, pulled.discriminator.weights, strict=True)
    assert any(np.abs(a.numpy() - b.numpy()).max() > 1e-6 for a, b in weights)


def test_r1_makes_the_discriminator_flatter():
    slopes = []
    for gamma in (0.0, 50.0):
        gan = regularised(chapter.RegularisedCGAN, gamma=gamma)
        fit(gan, 40)
        real = tf.constant(IMAGES / np.float32(127.5) - 1)
        gan.gamma = 2.0
        slopes.append(float(gan.r1(real, tf.constant(chapter.one_hot(LABELS)))))
    assert slopes[1] < 0.7 * slopes[0]


def test_blend_is_a_mixture_of_two_classes():
    rows = chapter.blend(3, 8, [0, 0.25, 1])
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    np.testing.assert_allclose(rows[:, [3, 8]], [[1, 0], [0.75, 0.25], [0, 1]])


# The measures inside the classes, on features of our own: three clouds that lie apart

belongs = np.repeat(np.arange(3), 200)


def clouds(seed, spread=1.0, n=200):
    r = np.random.default_rng(seed)
    return np.repeat(20 * np.eye(3, 6), n, axis=0) + spread * r.normal(size=(3 * n, 6))


def test_intra_class_against_loops():
    real, fake = clouds(1), clouds(2, 0.7)
    mine = chapter.intra_class(real, belongs, fake, belongs)
    fids, recalls, distances = [], [], []
    for c in range(3):
        a, b = real[belongs == c], fake[belongs == c]
        ca, cb = np.cov(a.T), np.cov(b.T)
        root = np.real(np.trace(sqrtm(ca @ cb)))
        fids.append(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb) - 2 * root)
        radius = np.sort(cdist(b, b), axis=1)[:, 3]  # column 0 is the point itself
        recalls.append((cdist(a, b) <= radius).any(axis=1).mean())
        distances.append(cdist(b, b).mean() / cdist(a, a).mean())
    assert mine["fid"] == pytest.approx(np.mean(fids), rel=1e-6)
    assert mine["recall"] == pytest.approx(np.mean(recalls))
    assert mine["distance"] == pytest.approx(np.mean(distances), rel=0.1)  # pairs are drawn


@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["copies", "copies with noise"])
def test_intra_class_punishes_a_class_that_has_collapsed(noise):
    real = clouds(1)
    collapsed = clouds(2, noise) + np.repeat(clouds(3, 1, 1), 200, axis=0) - clouds(0, 0)
    good = chapter.intra_class(real, belongs, clouds(2), belongs)
    bad = chapter.intra_class(real, belongs, collapsed, belongs)
    assert bad["recall"] <= 0.01 < 0.7 < good["recall"]
    assert bad["distance"] < 0.1 and good["distance"] == pytest.approx(1, abs=0.1)
    assert bad["fid"] > 10 * good["fid"]


def test_intra_class_notices_swapped_classes_and_one_collapsed_class():
    real, fake = clouds(1), clouds(2)
    good = chapter.intra_class(real, belongs, fake, belongs)
    swapped = chapter.intra_class(real, belongs, fake, (belongs + 1) % 3)
    assert swapped["recall"] == 0 and swapped["fid"] > 100
    fake[belongs == 1] = fake[250]
    one = chapter.intra_class(real, belongs, fake, belongs)
    assert one["recall"] == pytest.approx(good["recall"] * 2 / 3, abs=0.07)
