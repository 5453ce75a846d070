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

    def interaction(distance):
        both = np.stack([image] * 4)
        both[1:3:2, 8, 6] += 2  # image, with one stroke, with the other, with both
        both[3, 8, 6] += 2
        both[2:4, 8, 6 + distance] += 2
        plain, one, other, together = discriminator(both).numpy().ravel()
        return abs(together - one - other + plain)

    assert interaction(2) > 1e-3
    for distance in (10, 11, 15):
        assert interaction(distance) < 1e-5


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
    """Run the notebook twice with one folder: the second run only loads, and measures the same."""
    found = []
    for name in ("first", "second"):
        out = tmp_path / f"{name}.ipynb"
        papermill.execute_notebook(
            str(PATH), str(out), {"profile": "smoke", "checkpoints": str(tmp_path / "gan")},
            cwd=str(PATH.parent), kernel_name="python3", progress_bar=False,
            execution_timeout=900,
        )  # fmt: skip
        found.append(notebook.collect_results(nbformat.read(out, as_version=4)))
    first, second = found
    assert second["fid"]["value"] == pytest.approx(first["fid"]["value"], rel=1e-4)
