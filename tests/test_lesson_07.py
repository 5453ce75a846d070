"""Chapter 7 as code: K + 1 classes, feature matching, consistency, the step of the SGAN."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from scipy.special import expit, log_softmax, logsumexp, softmax

from helpers import chapters, experiment

chapter = chapters.import_chapter("07_semi_supervised_gan")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_real_logit_is_scipys_logsumexp(rng):
    logits = rng.normal(0, 5, (20, 10))
    np.testing.assert_allclose(chapter.real_logit(logits), logsumexp(logits, axis=1))


def test_the_adversarial_loss_is_the_cross_entropy_of_k_plus_1_classes(rng):
    """With the class "generated" written out, as an eleventh logit of 0."""
    real, fake = rng.normal(0, 4, (2, 30, 10))

    def logs(logits):
        return log_softmax(np.hstack([logits, np.zeros((30, 1))]), axis=1)

    expected = -logsumexp(logs(real)[:, :10], axis=1).mean() - logs(fake)[:, 10].mean()
    np.testing.assert_allclose(chapter.adversarial_loss(real, fake), expected, rtol=1e-9)


def test_the_gradient_of_the_adversarial_loss(rng):
    """Of log p(generated): every class falls by its share of p(real)."""
    fake = tf.constant(rng.normal(size=(6, 10)))
    with tf.GradientTape() as tape:
        tape.watch(fake)
        loss = chapter.adversarial_loss(fake - fake, fake)
    p_real = expit(logsumexp(fake, axis=1))[:, None]
    expected = p_real * softmax(fake, axis=1) / len(fake)
    np.testing.assert_allclose(tape.gradient(loss, fake), expected, rtol=1e-6)


def test_the_adversarial_loss_stays_finite():
    huge = tf.constant([[1e4] + [0.0] * 9])
    np.testing.assert_allclose(chapter.adversarial_loss(huge, -huge - 1e4), 0, atol=1e-6)
    np.testing.assert_allclose(chapter.adversarial_loss(-huge - 1e4, huge), 2e4, rtol=1e-2)


def test_feature_matching_is_the_distance_of_the_means_and_moves_only_the_fakes(rng):
    real, fake = (tf.constant(rng.normal(size=(n, 5))) for n in (8, 11))
    with tf.GradientTape() as tape:
        tape.watch([real, fake])
        loss = chapter.feature_matching_loss(real, fake)
    gap = real.numpy().mean(axis=0) - fake.numpy().mean(axis=0)
    np.testing.assert_allclose(loss, np.abs(gap).mean())
    of_real, of_fake = tape.gradient(loss, [real, fake])
    assert of_real is None
    np.testing.assert_allclose(of_fake, np.tile(-np.sign(gap) / 5 / 11, (11, 1)))


def test_consistency_counts_only_sure_answers_and_moves_only_the_strong_ones(rng):
    weak = tf.constant(np.vstack([np.eye(10)[[3, 7]] * 20, np.zeros((2, 10))]), tf.float32)
    strong = tf.constant(rng.normal(size=(4, 10)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([weak, strong])
        loss = chapter.consistency_loss(weak, strong)
    logs = log_softmax(strong, axis=1)
    np.testing.assert_allclose(loss, -(logs[0, 3] + logs[1, 7]) / 4, rtol=1e-5)
    of_weak, of_strong = tape.gradient(loss, [weak, strong])
    assert of_weak is None
    assert np.abs(of_strong[:2]).min() > 0 and np.abs(of_strong[2:]).max() == 0


def test_the_labelled_set_has_so_many_of_each_class_and_follows_from_its_seed():
    labels = np.repeat(np.arange(10), 30)
    chosen = chapter.labelled_set(labels, 7, 1)
    assert len(set(chosen)) == 70
    np.testing.assert_array_equal(np.bincount(labels[chosen]), [7] * 10)
    np.testing.assert_array_equal(chosen, chapter.labelled_set(labels, 7, 1))
    assert set(chosen) != set(chapter.labelled_set(labels, 7, 2))


def test_random_affine_is_scipys_affine_transform(rng):
    images = np.full((5, 28, 28, 1), -1, np.float32)
    images[:, 8:20, 10:18] = rng.random((5, 12, 8, 1), np.float32)
    moved = chapter.random_affine(images, 0.8, keras.random.SeedGenerator(3))
    u = 0.8 * keras.random.uniform((6, 5), -1.0, 1.0, seed=keras.random.SeedGenerator(3)).numpy()
    for n in range(5):
        angle, shear = 0.35 * u[0, n], np.array([[1, 0.3 * u[1, n]], [0, 1]])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        xy = np.diag(1 + 0.2 * u[2:4, n]) @ turn @ shear
        matrix = xy[::-1, ::-1]  # SciPy counts (row, column), not (x, y)
        offset = 13.5 - matrix @ [13.5, 13.5] + 3 * u[[5, 4], n]
        expected = ndimage.affine_transform(
            images[n, ..., 0], matrix, offset, order=1, mode="grid-constant", cval=-1
        )
        np.testing.assert_allclose(moved[n, ..., 0], expected, atol=2e-4)


def test_random_affine_of_strength_0_changes_nothing(rng):
    images = rng.uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    same = chapter.random_affine(images, 0.0, keras.random.SeedGenerator(0))
    np.testing.assert_allclose(same, images, atol=1e-5)


def test_the_classifier_gives_logits_and_features():
    logits, features = chapter.build_classifier((28, 28, 1))(np.zeros((2, 28, 28, 1)))
    assert logits.shape == (2, 10) and features.shape[0] == 2 and len(features.shape) == 2


def trained(unlabelled, **options):
    """The model after two steps; its weights before and after."""
    experiment.start("smoke", 5)
    labelled = np.full((10, 28, 28, 1), 0.5, np.float32), np.arange(10)
    model = chapter.SGAN(labelled, 5, **options)
    adam = [keras.optimizers.Adam(1e-3) for _ in range(2)]
    model.compile(*adam, jit_compile=False)
    networks = model.classifier, model.generator
    before = [network.get_weights()[0] for network in networks]
    batches = tf.data.Dataset.from_tensors(unlabelled).repeat()
    history = model.fit(batches, epochs=1, steps_per_epoch=2, verbose=0).history
    after = [network.get_weights()[0] for network in networks]
    return before, after, history


BLACK = np.zeros((8, 28, 28, 1), np.uint8)


@pytest.mark.parametrize(
    ("options", "generator_moves", "losses"),
    [
        ({}, False, {"labels"}),
        ({"consistency": 1.0}, False, {"labels", "consistency"}),
        ({"gan": 0.3}, True, {"labels", "adversarial", "generator"}),
        ({"gan": 0.3, "consistency": 1.0}, True,
         {"labels", "consistency", "adversarial", "generator"}),
    ],
)  # fmt: skip
def test_who_moves_in_a_step(options, generator_moves, losses):
    before, after, history = trained(BLACK, **options)
    assert np.abs(after[0] - before[0]).max() > 1e-4
    assert (np.abs(after[1] - before[1]).max() > 1e-4) == generator_moves
    assert set(history) == losses
    assert np.isfinite([history[name][-1] for name in losses]).all()


def test_without_gan_and_consistency_unlabelled_images_do_not_matter():
    white = np.full_like(BLACK, 255)
    one, other = (trained(images)[1][0] for images in (BLACK, white))
    np.testing.assert_array_equal(one, other)
    one, other = (trained(images, gan=0.3)[1][0] for images in (BLACK, white))
    assert np.abs(one - other).max() > 1e-5


def test_calibration_against_a_loop(rng):
    probabilities = softmax(rng.normal(0, 2, (500, 10)), axis=1)
    labels = rng.integers(0, 10, 500)
    expected, top = 0.0, probabilities.max(axis=1)
    for low in np.arange(15) / 15:
        inside = (top >= low) & (top < low + 1 / 15)
        if inside.any():
            right = probabilities.argmax(axis=1)[inside] == labels[inside]
            expected += inside.mean() * abs(right.mean() - top[inside].mean())
    share, confidence, right = chapter.calibration(probabilities, labels)
    assert share.sum() == pytest.approx(1)
    assert np.sum(share * np.abs(right - confidence)) == pytest.approx(expected)
