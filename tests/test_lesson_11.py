"""Chapter 11 as code: augmentation, networks, arms without leaks, the attack, the tastes."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from helpers import chapters, data, experiment
from helpers.simulate import lesions, wardrobe
from helpers.sources import patients
from helpers.studies import augmentation

chapter = chapters.import_chapter("11_applications")
rng = np.random.default_rng(0)


def smooth(n, seed=0):
    made = np.random.default_rng(seed).normal(size=(n, 28, 28))
    return np.float32(scipy.ndimage.gaussian_filter(made, (0, 2, 2)))[..., None]


def test_augmentation_against_scipy(monkeypatch):
    """With the random numbers fixed: turn, scale, mirror and shift by SciPy's own affine map."""
    drawn = {(0, 2 * np.pi): 0.7, (0.9, 1.1): 1.08, (-1, 1): -0.5, (-2.0, 2.0): 1.5}
    monkeypatch.setattr(
        keras.random, "uniform", lambda shape, low, high, seed: tf.fill(shape, drawn[low, high])
    )
    images = smooth(2)
    made = chapter.augment(tf.constant(images), None).numpy()
    a, b = np.cos(0.7) * 1.08, np.sin(0.7) * 1.08
    matrix = np.array([[-a, b], [b, a]])  # (row, column) of the output -> of the input, mirrored
    middle = np.array([13.5, 13.5])
    offset = middle + 1.5 - matrix @ middle
    for before, after in zip(images, made, strict=True):
        mine = scipy.ndimage.affine_transform(before[..., 0], matrix, offset, order=1)
        inner = slice(8, 20)
        np.testing.assert_allclose(after[inner, inner, 0], mine[inner, inner], atol=1e-4)


def test_augmentation_differs_from_picture_to_picture_and_lets_gradients_through():
    images = tf.Variable(np.repeat(smooth(1), 6, axis=0))
    with tf.GradientTape() as tape:
        made = chapter.augment(images, keras.random.SeedGenerator(1))
        total = tf.reduce_sum(made**2)
    assert made.shape == images.shape
    assert len(np.unique(np.round(made[:, 10, 10, 0], 5))) == 6
    assert np.abs(tape.gradient(total, images)).sum() > 0


def test_the_classifier_augments_only_in_training_and_only_if_asked():
    images = np.uint8(rng.integers(0, 256, (4, 28, 28, 1)))
    for augmented in (True, False):
        model = chapter.Classifier(3, augmented, 0)
        model.build((None, 28, 28, 1))
        one, two = (model(images).numpy() for _ in range(2))
        np.testing.assert_array_equal(one, two)
        assert one.shape == (4, 3)


def test_the_discriminator_never_sees_a_picture_as_it_is(monkeypatch):
    experiment.start("smoke", 0)
    gan, seen = chapter.new_gan(3, 0), []
    plain = chapter.chapter8.CGAN.judge

    def spy(self, images, label):
        seen.append(images)
        return plain(self, images, label)

    monkeypatch.setattr(chapter.chapter8.CGAN, "judge", spy)
    images = smooth(3)
    gan.judge(images, tf.eye(3))
    assert seen[0].shape == images.shape and np.abs(seen[0] - images).max() > 0.05


def test_the_judge_pays_for_its_slope_and_the_generator_does_not():
    experiment.start("smoke", 0)
    small = chapter.new_gan(3, 0)
    gan = chapter.SteadyGAN(small.generator, small.discriminator, 0)
    images, label = tf.constant(smooth(4)), tf.constant(np.eye(3, dtype="float32")[[0, 1, 2, 0]])
    plain, named = chapter.chapter8.CGAN.judge(gan, images, label)
    logits, paid = gan.judge(images, label)
    np.testing.assert_allclose(logits, plain, rtol=1e-5)
    step, slopes = 1e-2, []
    for n in range(4):  # the slope along the steepest way, by a finite difference
        one, y = images[n : n + 1], label[n : n + 1]
        with tf.GradientTape() as tape:
            tape.watch(one)
            value = chapter.chapter8.CGAN.judge(gan, one, y)[0]
        way = tape.gradient(value, one)
        way /= tf.norm(way)
        ends = [chapter.chapter8.CGAN.judge(gan, one + s * way, y)[0] for s in (-step, step)]
        slopes.append(float(ends[1][0, 0] - ends[0][0, 0]) / (2 * step))
    assert float(paid - named) == pytest.approx(np.mean(np.square(slopes)) / 2, rel=0.02)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        _, paid = gan.judge(images, label)
        _, named = chapter.chapter8.CGAN.judge(gan, images, label)
    np.testing.assert_allclose(
        tape.gradient(paid, images), tape.gradient(named, images), rtol=1e-4, atol=1e-7
    )


def test_invented_patients_are_bytes_of_all_classes():
    images, labels = chapter.invent(chapter.new_gan(3, 0), 4, np.random.default_rng(0))
    assert images.dtype == np.uint8 and images.shape == (12, 28, 28, 1)
    assert np.bincount(labels).tolist() == [4, 4, 4]


def test_every_arm_sees_only_its_patients(monkeypatch):
    """The GAN and the classifiers of a draw are given the drawn patients, and nobody else."""
    train, test = patients.load("lesions", 30, 5, test_per_class=20)
    seen = {}

    class Fake:
        classes, latent_dim = 3, 4

        def fit(self, batches, verbose):
            seen["gan"] = {x.tobytes() for images, _ in batches for x in images.numpy()}

        def generate(self, noise, labels):
            return np.zeros((len(labels), 28, 28, 1), np.float32)

    def classify(model, parts, seed, start):
        seen.setdefault(model, []).append(parts)
        return {"accuracy": 0.0}

    fake = Fake()
    names = {"pools": {5: train}, "sizes": (4,), "more": 6, "gan_steps": 20, "invented": 5}
    names |= {"classify": classify, "test": test, "steps": 10}
    for name, value in names.items():
        monkeypatch.setitem(chapter.one_draw.__globals__, name, value)
    monkeypatch.setattr(augmentation, "snapshot", lambda model: None)
    monkeypatch.setattr(augmentation, "restore", lambda model, state: None)
    rows, made = chapter.one_draw(5, "plain", "turned", fake)
    few = {x.tobytes() for x in augmentation.sample(train, 4, 5)[0]}
    unseen = {x.tobytes() for x in test.images}
    assert seen["gan"] == few and len(few) == 12 and not few & unseen
    (none,), (classic, gan, oracle) = seen["plain"], seen["turned"]
    for parts in (none, classic):
        assert {x.tobytes() for images, _ in parts for x in images} == few
    assert len(gan) == 4 and len(gan[3][0]) == 15 and made[4] is gan[3]
    everybody = {x.tobytes() for x in oracle[0][0]}
    assert few < everybody and len(everybody) == 30 and not everybody & unseen
    assert set(rows) == {(4, arm) for arm in ("none", "classic", "+ GAN", "oracle")}


def test_the_attack_finds_copies_and_nothing_else():
    members, others, fresh = (lesions.draw(np.repeat([0, 1, 2], 20), seed) for seed in (1, 2, 3))
    copies = np.rot90(members, 1, (1, 2))
    assert chapter.membership_auc(members, others, copies) == 1
    assert 0.3 < chapter.membership_auc(members, others, fresh) < 0.7
    near, far = augmentation.nearest(members, fresh), augmentation.nearest(others, fresh)
    by_hand = roc_auc_score([1] * 60 + [0] * 60, -np.concatenate([near, far]))
    assert chapter.membership_auc(members, others, fresh) == pytest.approx(by_hand)


def test_nearest_by_hand():
    images, library = (rng.integers(0, 256, (n, 6, 6, 1)) for n in (3, 4))
    for image, found in zip(images, augmentation.nearest(images, library), strict=True):
        views = [np.rot90(v, k) for v in (image, image[::-1]) for k in range(4)]
        mine = min(np.sqrt(np.mean((v - x) ** 2.0)) for v in views for x in library)
        assert found == pytest.approx(mine)


def test_the_table_gan_learns_from_bytes():
    experiment.start("smoke", 0)
    monkey = chapter.new_table_gan.__globals__
    monkey["run"] = experiment.start("smoke", 0)
    gan = chapter.new_table_gan(30)
    few, _, _ = patients.wisconsin(10, 5, 0)
    gan.fit(augmentation.mixed_batches([few], 8, 10, 0), verbose=0)
    made, labels = chapter.invent(gan, 3, np.random.default_rng(0))
    assert made.shape == (6, 30) and made.dtype == np.uint8 and labels.tolist() == [0] * 3 + [1] * 3


def test_the_preference_model_finds_a_taste():
    weights = np.float32(rng.normal(size=12))
    a, b = rng.normal(size=(2, 4000, 12))
    chosen = rng.random(4000) < 1 / (1 + np.exp(-(a - b) @ weights))
    found = chapter.learn_taste(a, b, chosen)
    assert np.corrcoef(found, weights)[0, 1] > 0.98 and found.dtype == np.float32


def test_describe_is_pooling_and_features():
    images, features = np.float32(rng.random((3, 28, 28, 1))), np.float32(rng.random((3, 64)))
    made = wardrobe.describe(images, features).numpy()
    x = images[..., 0]
    edges = sum(np.abs(x - np.roll(x, 1, axis)) for axis in (1, 2))
    planes = np.stack([x, edges, np.abs(x - x[:, :, ::-1])], axis=-1)
    fields = planes.reshape(3, 7, 4, 7, 4, 3).mean(axis=(2, 4)).reshape(3, -1)
    np.testing.assert_allclose(made, np.concatenate([features / 4, 2 * fields], 1), rtol=1e-5)


def test_the_shop_sells_test_garments_and_knows_what_is_realistic():
    shop = wardrobe.Shop(500, 0, 200)
    test, kinds = data.load("fashion-mnist", "test")
    np.testing.assert_array_equal(shop.catalogue, data.to_unit(test[:200]))
    np.testing.assert_array_equal(shop.kinds, kinds[:200])
    distance = np.sqrt(((shop.seen_features[:, None] - shop.seen_features) ** 2.0).sum(axis=-1))
    radii = np.sort(distance, axis=1)[:, 3]
    radii = np.minimum(radii, np.median(radii))
    new = shop.features[:50] * 1.3
    away = np.sqrt(((new[:, None] - shop.seen_features) ** 2.0).sum(axis=-1))
    by_hand = away.min(axis=1) / radii[away.argmin(axis=1)]
    np.testing.assert_allclose(shop.strangeness(new), by_hand, rtol=1e-4)
    real = by_hand <= 1
    assert 0 < real.mean() < 0.9
    liked = rng.random(50)
    best = shop.best(new, liked, 50)
    first, rest = best[: real.sum()], best[real.sum() :]
    assert real[first].all() and (np.diff(liked[first]) <= 0).all()
    assert not real[rest].any() and (np.diff(by_hand[rest]) >= 0).all()
    unliked = shop.shelf(2, liked[np.zeros(200, int)])
    assert (unliked[shop.kinds != 2] < -1e8).all() and (unliked[shop.kinds == 2] > 0).all()


def test_pursuit_climbs_within_the_sphere_and_leaves_the_networks():
    experiment.start("smoke", 0)
    networks = (
        chapter.chapter8.build_generator(8, width=8),
        chapter.chapter8.build_discriminator((28, 28, 1), "both", width=4),
    )
    tailor = chapter.compiled(chapter.chapter8.CGAN(*networks, 0))
    names = chapter.pursue.__globals__
    names["tailor"] = tailor
    names["eyes"] = type("Eyes", (), {"network": staticmethod(lambda x, training: (x, x))})
    before = [w.numpy() for w in (*tailor.average.weights, *tailor.discriminator.weights)]
    label = np.eye(10, dtype="float32")[:6]
    codes = 3 * np.random.default_rng(0).standard_normal((6, 8), dtype="float32")

    def bright(images, features):
        return 100 * tf.reduce_mean(images, axis=(1, 2, 3))

    moved = chapter.pursue(bright, codes, label, 15, realism=0.0)
    assert np.all(np.linalg.norm(moved, axis=1) <= 8**0.5 + 1e-4)
    start = codes * np.minimum(1, 8**0.5 / np.linalg.norm(codes, axis=1, keepdims=True))
    first, last = (tailor.generate(z, label).mean(axis=(1, 2, 3)) for z in (start, moved))
    assert last.mean() > first.mean()
    after = [w.numpy() for w in (*tailor.average.weights, *tailor.discriminator.weights)]
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_reader_clicks():
    clicks = wardrobe.Clicks(np.zeros((2, 28, 28, 1)), np.ones((2, 28, 28, 1)))
    for answer in (True, False, True):
        clicks.answer(answer)
    assert clicks.answers == [True, False]  # the third came after the last pair
    clicks.show()


def test_choices_follow_bradley_and_terry():
    images, labels = data.load("fashion-mnist", "test")
    shop = type("Shop", (), {"seen": data.to_unit(images[:3000]), "seen_kinds": labels[:3000]})
    user = wardrobe.simulate(shop, 3, 0)[2]
    mine = shop.seen[shop.seen_kinds == 2]
    assert user.wish == 2 and abs(user.utility(mine).mean()) < 0.2
    pair = [np.repeat(mine[i : i + 1], 4000, axis=0) for i in (0, 1)]
    share = user.choose(*pair, np.random.default_rng(0)).mean()
    expected = 1 / (1 + np.exp(-2 * np.subtract(*user.utility(mine[:2]))))
    assert share == pytest.approx(expected, abs=0.03)
    looks, pairs = rng.normal(size=(len(mine), 3)), np.array([[0] * 500, [1] * 500])
    first, second, chosen = user.click(mine, looks, pairs, np.random.default_rng(1))
    np.testing.assert_array_equal(first, np.tile(looks[0], (500, 1)))
    np.testing.assert_array_equal(second, np.tile(looks[1], (500, 1)))
    assert chosen.mean() == pytest.approx(expected, abs=0.08)
