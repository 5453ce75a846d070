"""Chapter 4 as code: shapes, smoothing, the average of the weights, checkpoints."""

import keras
import nbformat
import numpy as np
import papermill
import pytest
import tensorflow as tf
from scipy.special import log_expit

from helpers import callbacks, chapters, data, experiment
from tools import notebook

chapter = chapters.import_chapter("04_dcgan")
PATH = chapters.find("04_dcgan")


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("n", "k", "s"), [(7, 4, 2), (5, 3, 3), (6, 2, 1)])
def test_the_sizes_of_the_first_section(n, k, s, padding):
    """Stamps of k pixels at 0, s, 2s, ...: count the pixels that at least one of them covers."""
    covered = {i * s + j for i in range(n) for j in range(k)}
    expected = len(covered) if padding == "valid" else n * s
    assert chapter.output_size(n, k, s, padding) == expected


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3])
def test_label_smoothing_is_the_cross_entropy_with_soft_labels(alpha, rng):
    real, fake = rng.normal(0, 3, (2, 40, 1))
    expected = -((1 - alpha) * log_expit(real) + alpha * log_expit(-real)).mean()
    expected -= log_expit(-fake).mean()
    value = chapter.smoothed_discriminator_loss(real, fake, alpha)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_builders_give_the_shapes_that_they_promise(normalise, rng):
    generator = chapter.build_generator(6, width=8, normalise=normalise)
    images = generator(rng.normal(size=(3, 6)))
    assert images.shape == (3, 28, 28, 1)
    assert -1 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 1
    discriminator = chapter.build_discriminator((28, 28, 1), width=8, normalise=normalise)
    assert discriminator(images).shape == (3, 1)
    norms = [
        sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
        for model in (generator, discriminator)
    ]
    assert norms == ([2, 1] if normalise else [0, 0])


def test_the_generator_stamps_evenly():
    """The chapter's remedy against checkerboards: the stride divides every kernel."""
    generator = chapter.build_generator(6, width=8)
    transposed = [x for x in generator.layers if isinstance(x, keras.layers.Conv2DTranspose)]
    assert len(transposed) == 2
    for layer in transposed:
        assert [k % s for k, s in zip(layer.kernel_size, layer.strides, strict=True)] == [0, 0]


def test_the_discriminator_judges_patches_of_ten_pixels(rng):
    """What the text says: distant strokes add up, those within ten pixels do not."""
    discriminator = chapter.build_discriminator((28, 28, 1), width=8)
    image = rng.normal(size=(28, 28, 1)).astype(np.float32)

    assert interaction(discriminator, image, 2) > 1e-3
    for distance in (10, 11, 15):
        assert interaction(discriminator, image, distance) < 1e-5


def new_gan(seed=5):
    experiment.start("smoke", seed)
    networks = chapter.build_generator(4, width=8), chapter.build_discriminator((28, 28, 1), 8)
    gan = chapter.AveragedGAN(*networks, seed, decay=0.9)
    losses = (chapter.chapter3.generator_loss, chapter.smoothed_discriminator_loss)
    adam = [keras.optimizers.Adam(1e-2) for _ in range(2)]
    gan.compile(*adam, losses=losses, jit_compile=False)
    return gan


def test_the_average_follows_its_formula():
    gan = new_gan()
    slow = [w.numpy().copy() for w in gan.average.weights]
    batches = tf.data.Dataset.from_tensors(np.zeros((4, 28, 28, 1), np.uint8)).repeat()
    for step in range(1, 4):
        gan.fit(batches, epochs=1, steps_per_epoch=1, verbose=0)
        decay = min(0.9, (1 + step) / (10 + step))
        fast = [w.numpy() for w in gan.generator.weights]
        slow = [decay * a + (1 - decay) * b for a, b in zip(slow, fast, strict=True)]
    for mine, average in zip(slow, gan.average.weights, strict=True):
        np.testing.assert_allclose(average, mine, rtol=1e-4, atol=1e-6)


def test_images_come_from_the_average():
    gan, latent = new_gan(), np.ones((2, 4), np.float32)
    for weight in gan.generator.weights:
        weight.assign(tf.zeros_like(weight))
    expected = (gan.average(latent, training=False) + 1) / 2
    np.testing.assert_allclose(gan.generate(latent), expected, atol=1e-5)


def test_a_resumed_training_keeps_the_average(tmp_path, rng):
    """Four epochs at once, or two and two with a process that was killed in between."""
    images = rng.integers(0, 256, (64, 28, 28, 1), np.uint8)

    def train(epochs, folder):
        gan = new_gan()
        resume = callbacks.Resume(gan, folder, "test")
        batches = data.batches(images, 16, 1, start=resume.step)
        gan.fit(batches, epochs=epochs, steps_per_epoch=3, initial_epoch=resume.epoch, verbose=0,
                callbacks=[resume])  # fmt: skip
        return gan

    whole = train(4, None)
    train(2, tmp_path)
    second = train(4, tmp_path)
    for one, other in zip(whole.average.weights, second.average.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# The new recipe: a discriminator that compares, R1, a falling rate


def interaction(discriminator, image, distance):
    """By how much two strokes at a distance do more, or less, than the sum of both."""
    both = np.stack([image] * 4)
    both[1:4:2, 8, 6] += 2  # with one stroke, and below with both
    both[2:4, 8, 6 + distance] += 2
    plain, one, other, together = discriminator(both).numpy().ravel()
    return abs(together - one - other + plain)


def test_the_hidden_layer_compares_distant_strokes(rng):
    image = rng.normal(size=(28, 28, 1)).astype(np.float32)
    patches = chapter.build_comparing_discriminator((28, 28, 1), width=8, hidden=0)
    comparing = chapter.build_comparing_discriminator((28, 28, 1), width=8, hidden=64)
    assert interaction(patches, image, 15) < 1e-5
    assert interaction(comparing, image, 15) > 1e-4


def regularised_gan(discriminator=None, rates=(1e-2, 1e-2), **options):
    experiment.start("smoke", 5)
    generator = chapter.build_generator(4, width=8)
    if discriminator is None:
        discriminator = chapter.build_comparing_discriminator((28, 28, 1), width=4, hidden=8)
    gan = chapter.RegularisedGAN(generator, discriminator, 5, **options)
    losses = (chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss)
    sgd = [keras.optimizers.SGD(rate) for rate in rates]
    gan.compile(*sgd, losses=losses, jit_compile=False)
    return gan


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_r1_of_a_straight_discriminator_is_known(gamma, rng):
    """Its slope is its row of weights, everywhere."""
    weights = rng.normal(size=(784, 1))
    straight = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    straight.set_weights([weights, np.ones(1)])
    gan = regularised_gan(straight, gamma=gamma)
    real = tf.constant(rng.normal(size=(3, 28, 28, 1)), tf.float32)
    np.testing.assert_allclose(gan.r1(real), gamma / 2 * (weights**2).sum(), rtol=1e-5)


def test_r1_is_due_in_every_eighth_step_with_eight_times_the_weight(rng):
    gan = regularised_gan()
    real = tf.constant(rng.normal(size=(3, 28, 28, 1)), tf.float32)
    expected = 8 * float(gan.r1(real))
    assert expected > 0
    for step in range(17):
        gan.discriminator_optimizer.iterations.assign(step)
        value = float(gan.penalty(real))
        assert value == pytest.approx(expected if step % 8 == 0 else 0.0, rel=1e-5)
    assert regularised_gan(gamma=0).penalty(real) == 0


@pytest.mark.parametrize("rates", [(1e-2, 0.0), (0.0, 1e-2)], ids=["generator", "discriminator"])
def test_one_batch_of_fakes_moves_each_player_by_its_own_loss(rates):
    gan = regularised_gan(rates=rates)
    players = gan.generator, gan.discriminator
    before = [[w.numpy() for w in p.trainable_variables] for p in players]
    batches = tf.data.Dataset.from_tensors(np.zeros((4, 28, 28, 1), np.uint8)).repeat()
    gan.fit(batches, steps_per_epoch=2, verbose=0)
    for player, old, rate in zip(players, before, rates, strict=True):
        new = [w.numpy() for w in player.trainable_variables]
        moved = any(np.abs(a - b).max() > 0 for a, b in zip(new, old, strict=True))
        assert moved == bool(rate)


def test_the_penalty_flattens_the_discriminator_at_real_images(rng):
    """The same steps with a heavy penalty and without one."""
    images = rng.integers(0, 256, (8, 28, 28, 1), np.uint8)
    slopes = []
    for gamma in (0.0, 20.0):
        keras.utils.set_random_seed(0)  # the same first weights
        gan = regularised_gan(gamma=gamma, every=1)
        gan.fit(tf.data.Dataset.from_tensors(images).repeat(), steps_per_epoch=30, verbose=0)
        gan.gamma = 2.0
        real = tf.constant(data.to_symmetric(images))
        slopes.append(float(gan.r1(real)))
    assert slopes[1] < 0.7 * slopes[0]


def test_the_rate_falls_in_the_second_half():
    falling = chapter.FallingRate(0.3, 1000)
    rates = [float(falling(step)) for step in (0, 250, 500, 750, 1000, 1500)]
    np.testing.assert_allclose(rates, [0.3, 0.3, 0.3, 0.15, 0, 0], atol=1e-7)
    again = chapter.FallingRate.from_config(falling.get_config())
    assert float(again(750)) == pytest.approx(0.15)


def test_slerp_walks_on_the_sphere_at_a_steady_pace(rng):
    a, b = rng.normal(size=(2, 16))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    walk = chapter.slerp(a, b, np.linspace(0, 1, 9))
    np.testing.assert_allclose(walk[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 1)
    angles = np.arccos(np.sum(walk[:-1] * walk[1:], axis=1))
    np.testing.assert_allclose(angles, angles[0])


def test_a_moved_code_stays_on_its_sphere_and_goes_the_way_it_was_told(rng):
    codes, direction = rng.normal(size=(20, 64)), rng.normal(size=64)
    moved = chapter.move(codes, direction)
    lengths = np.linalg.norm(codes, axis=1)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), lengths, rtol=1e-5)
    assert (moved @ direction > codes @ direction).all()
    np.testing.assert_allclose(chapter.move(codes, 7 * direction), moved, rtol=1e-5)


@pytest.mark.slow
def test_a_folder_of_checkpoints_may_hold_a_finished_training(tmp_path):
    """Run the notebook twice with one folder: the second run only loads, and measures the same.

    Up to the cell that measures: what comes after it keeps no checkpoints.
    """
    short = nbformat.read(PATH, as_version=4)
    (last,) = (i for i, cell in enumerate(short.cells) if '\n    "fid",\n' in cell.source)
    table = nbformat.v4.new_code_cell("experiment.table()")
    short.cells = [*short.cells[: last + 1], table]
    nbformat.write(short, tmp_path / "short.ipynb")
    found = []
    for name in ("first", "second"):
        out = tmp_path / f"{name}.ipynb"
        papermill.execute_notebook(
            str(tmp_path / "short.ipynb"), str(out),
            {"profile": "smoke", "checkpoints": str(tmp_path / "gan")},
            cwd=str(PATH.parent), kernel_name="python3", progress_bar=False,
            execution_timeout=900,
        )  # fmt: skip
        found.append(notebook.collect_results(nbformat.read(out, as_version=4)))
    first, second = found
    assert second["fid"]["value"] == pytest.approx(first["fid"]["value"], rel=1e-4)
