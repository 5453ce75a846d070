"""Chapter 11 as code: augmentation, networks, arms without leaks, intervals, attack, tastes."""

import contextlib
import signal
import sys

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from test_patients import archive, fill, serve  # noqa: F401 (serve is a fixture)

from helpers import chapters, data, experiment, files
from helpers.simulate import lesions, wardrobe
from helpers.sources import patients
from helpers.studies import augmentation

chapter = chapters.import_chapter("11_applications")


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


def test_the_classifier_augments_only_in_training_and_only_if_asked(rng):
    images = np.uint8(rng.integers(0, 256, (4, 28, 28, 1)))
    for augmented in (True, False):
        model = chapter.Classifier(3, augmented, 0)
        model.build((None, 28, 28, 1))
        one, two = (model(images).numpy() for _ in range(2))
        np.testing.assert_array_equal(one, two)
        assert one.shape == (4, 3)


def test_the_discriminator_never_sees_a_picture_as_it_is(monkeypatch):
    experiment.start("smoke", 0)
    gan, seen = chapter.new_gan(3, 0, 10), []
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
    small = chapter.new_gan(3, 0, 10)
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
    images, labels = chapter.invent(chapter.new_gan(3, 0, 10), 4, np.random.default_rng(0))
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

    def classify(model, start, parts, steps, seed):
        assert (start, steps, seed) == (f"start of {model}", 10, 5)
        seen.setdefault(model, []).append(parts)
        return {"accuracy": 0.0}

    names = {"pools": {5: train}, "sizes": (4,), "more": 6, "invented": 5, "classify": classify}
    for name, value in names.items():
        monkeypatch.setattr(chapter, name, value, raising=False)
    monkeypatch.setattr(augmentation, "snapshot", lambda model: f"start of {model}")
    monkeypatch.setattr(augmentation, "restore", lambda model, state: None)
    rows, samples = chapter.one_draw(5, "plain", "turned", Fake(), 10, 20)
    few = {x.tobytes() for x in augmentation.sample(train, 4, 5)[0]}
    unseen = {x.tobytes() for x in test.images}
    assert seen["gan"] == few and len(few) == 12 and not few & unseen
    (none,), (classic, gan, oracle) = seen["plain"], seen["turned"]
    for parts in (none, classic):
        assert {x.tobytes() for images, _ in parts for x in images} == few
    assert len(gan) == 4 and len(gan[3][0]) == 15 and samples[4] is gan[3]
    everybody = {x.tobytes() for x in oracle[0][0]}
    assert few < everybody and len(everybody) == 30 and not everybody & unseen
    assert [(row["size"], row["arm"]) for row in rows] == [
        (4, arm) for arm in ("none", "classic", "+ GAN", "oracle")
    ]


def test_intervals_against_scipy(rng):
    after, before = rng.normal(size=(2, 8))
    mean, low, high = chapter.paired(after, before)
    interval = scipy.stats.ttest_rel(after, before).confidence_interval(0.95)
    np.testing.assert_allclose([low, high], [interval.low, interval.high])
    assert mean == pytest.approx(np.mean(after - before))
    wider = scipy.stats.ttest_rel(after, before).confidence_interval(1 - 0.05 / 3)
    np.testing.assert_allclose(chapter.paired(after, before, 3)[1:], [wider.low, wider.high])


def test_bonferroni_keeps_its_promise(rng):
    """Of studies without any effect, at most 2.5 % find a gain at the best of three sizes."""
    gains = rng.normal(size=(2000, 3, 6))
    found = [any(chapter.paired(g, np.zeros(6), looks=3)[1] > 0 for g in study) for study in gains]
    alone = [any(chapter.paired(g, np.zeros(6))[1] > 0 for g in study) for study in gains]
    assert scipy.stats.binomtest(sum(found), 2000, 0.025, "greater").pvalue > 0.001
    assert np.mean(alone) > 0.05  # without it, three looks find far more


def test_gains_of_the_arms_over_a_rival():
    rows = [
        {"draw": draw, "size": size, "arm": arm, "accuracy": 0.5 + 0.01 * gain * (arm == "b")}
        for draw, gain in ((9, 1), (4, 2), (7, 3)) for size in (10, 20) for arm in "cab"
    ]  # fmt: skip
    gains = chapter.gains_over(pd.DataFrame(rows), "a")
    assert set(gains.index) == {("b", 10), ("b", 20), ("c", 10), ("c", 20)}
    expected = chapter.paired([1.0, 2, 3], [0.0, 0, 0], looks=2)
    np.testing.assert_allclose(gains.loc[("b", 20)], expected)
    np.testing.assert_allclose(gains.loc[("c", 10)], 0, atol=1e-12)


def test_the_attack_finds_copies_and_nothing_else():
    members, others, fresh = (lesions.render(np.repeat([0, 1, 2], 20), seed) for seed in (1, 2, 3))
    copies = np.rot90(members, 1, (1, 2))
    assert chapter.membership_auc(members, others, copies) == 1
    assert 0.3 < chapter.membership_auc(members, others, fresh) < 0.7
    near = augmentation.nearest_distance(members, fresh)
    far = augmentation.nearest_distance(others, fresh)
    by_hand = roc_auc_score([1] * 60 + [0] * 60, -np.concatenate([near, far]))
    assert chapter.membership_auc(members, others, fresh) == pytest.approx(by_hand)


def test_nearest_distance_by_hand(rng):
    images, library = (rng.integers(0, 256, (n, 6, 6, 1)) for n in (3, 4))
    for image, found in zip(images, augmentation.nearest_distance(images, library), strict=True):
        views = [np.rot90(v, k) for v in (image, image[::-1]) for k in range(4)]
        mine = min(np.sqrt(np.mean((v - x) ** 2.0)) for v in views for x in library)
        assert found == pytest.approx(mine)


def test_the_table_gan_learns_from_bytes():
    experiment.start("smoke", 0)
    gan = chapter.new_table_gan(30, 0, 10)
    few, _, _ = patients.wisconsin(10, 5, 0)
    gan.fit(augmentation.mixed_batches([few], 8, 10, 0), verbose=0)
    made, labels = chapter.invent(gan, 3, np.random.default_rng(0))
    assert made.shape == (6, 30) and made.dtype == np.uint8 and labels.tolist() == [0] * 3 + [1] * 3


def test_the_preference_model_finds_a_taste(rng):
    weights = np.float32(rng.normal(size=12))
    a, b = rng.normal(size=(2, 4000, 12))
    chosen = rng.random(4000) < 1 / (1 + np.exp(-(a - b) @ weights))
    found = chapter.learn_taste(a, b, chosen)
    assert np.corrcoef(found, weights)[0, 1] > 0.98 and found.dtype == np.float32


def test_describe_is_pooling_and_features(rng):
    images, features = np.float32(rng.random((3, 28, 28, 1))), np.float32(rng.random((3, 64)))
    made = wardrobe.describe(images, features).numpy()
    x = images[..., 0]
    edges = sum(np.abs(x - np.roll(x, 1, axis)) for axis in (1, 2))
    planes = np.stack([x, edges, np.abs(x - x[:, :, ::-1])], axis=-1)
    fields = planes.reshape(3, 7, 4, 7, 4, 3).mean(axis=(2, 4)).reshape(3, -1)
    np.testing.assert_allclose(made, np.concatenate([features / 4, 2 * fields], 1), rtol=1e-5)


def test_the_shop_sells_test_garments(rng):
    shop = wardrobe.Shop(500, 0, 200)
    test, kinds = data.load("fashion-mnist", "test")
    np.testing.assert_array_equal(shop.catalogue, data.to_unit(test[:200]))
    np.testing.assert_array_equal(shop.kinds, kinds[:200])
    first, second = shop.pairs(2, 40, rng)
    assert set(shop.seen_kinds[first]) == set(shop.seen_kinds[second]) == {2}


def test_what_is_realistic_by_hand(rng):
    real = np.abs(rng.normal(size=(300, 64)))
    test = chapter.RealismTest(real)
    distance = np.sqrt(((real[:, None] - real) ** 2).sum(axis=-1))
    radii = np.sort(distance, axis=1)[:, 3]  # 0 is the garment itself
    radii = np.minimum(radii, np.median(radii))
    new = real[:50] + rng.normal(size=(50, 64)) * np.linspace(0, 1.5, 50)[:, None]
    away = np.sqrt(((new[:, None] - real) ** 2).sum(axis=-1))
    by_hand = away.min(axis=1) / radii[away.argmin(axis=1)]
    np.testing.assert_allclose(test.strangeness(new), by_hand, rtol=1e-6, atol=1e-6)
    is_real = by_hand <= 1
    assert 0 < is_real.mean() < 0.9
    liked = rng.random(50)
    best = test.best(new, liked, 50)
    first, rest = best[: is_real.sum()], best[is_real.sum() :]
    assert is_real[first].all() and (np.diff(liked[first]) <= 0).all()
    assert not is_real[rest].any() and (np.diff(by_hand[rest]) >= 0).all()
    np.testing.assert_array_equal(test.best(new, liked, 4), best[:4])


def test_a_climb_stays_within_the_sphere_and_leaves_the_networks(monkeypatch):
    experiment.start("smoke", 0)
    generator = chapter.chapter8.build_generator(8, width=8)
    discriminator = chapter.chapter8.build_discriminator((28, 28, 1), "both", width=4)
    gan = chapter.compiled(chapter.chapter8.CGAN(generator, discriminator, 0), 10)
    classifier = type("Fake", (), {"network": staticmethod(lambda x, training: (x, x))})
    monkeypatch.setattr(chapter, "fashion_gan", gan, raising=False)
    monkeypatch.setattr(chapter, "classifier", classifier, raising=False)
    before = [w.numpy() for w in (*gan.average.weights, *gan.discriminator.weights)]
    label = np.eye(10, dtype="float32")[:6]
    codes = 3 * np.random.default_rng(0).standard_normal((6, 8), dtype="float32")

    def bright(images, features):
        return 100 * tf.reduce_mean(images, axis=(1, 2, 3))

    moved = chapter.climb(bright, codes, label, 15, realism=0.0)
    assert np.all(np.linalg.norm(moved, axis=1) <= 8**0.5 + 1e-4)
    start = codes * np.minimum(1, 8**0.5 / np.linalg.norm(codes, axis=1, keepdims=True))
    first, last = (gan.generate(z, label).mean(axis=(1, 2, 3)) for z in (start, moved))
    assert last.mean() > first.mean()
    after = [w.numpy() for w in (*gan.average.weights, *gan.discriminator.weights)]
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_reader_clicks():
    clicks = wardrobe.Clicks(np.zeros((2, 28, 28, 1)), np.ones((2, 28, 28, 1)))
    for answer in (True, False, True):
        clicks.answer(answer)
    assert clicks.answers == [True, False]  # the third came after the last pair
    clicks.show()


def a_user(rng, kind=2):
    images, labels = data.load("fashion-mnist", "test")
    mine = data.to_unit(images[:3000][labels[:3000] == kind])
    taste = rng.normal(size=5)
    return chapter.User(kind, taste / np.linalg.norm(taste), mine), mine


def test_utility_is_relative_to_the_average_garment(rng):
    user, mine = a_user(rng)
    measured = wardrobe.attributes(mine)
    deviation = scipy.stats.zscore(measured, axis=0).clip(-3, 3)
    np.testing.assert_allclose(user.utility(mine), deviation @ user.taste, atol=1e-6)
    assert abs(user.utility(mine).mean()) < 0.2


def test_choices_follow_bradley_and_terry(rng):
    user, mine = a_user(rng)
    pair = [np.repeat(mine[i : i + 1], 4000, axis=0) for i in (0, 1)]
    share = user.choose(*pair, np.random.default_rng(0)).mean()
    expected = 1 / (1 + np.exp(-2 * np.subtract(*user.utility(mine[:2]))))
    assert share == pytest.approx(expected, abs=0.03)
    descriptions, pairs = rng.normal(size=(len(mine), 3)), np.array([[0] * 500, [1] * 500])
    first, second, clicked = chapter.ask(user, mine, descriptions, pairs, np.random.default_rng(1))
    np.testing.assert_array_equal(first, np.tile(descriptions[0], (500, 1)))
    np.testing.assert_array_equal(second, np.tile(descriptions[1], (500, 1)))
    assert clicked.mean() == pytest.approx(expected, abs=0.08)


def a_small_shop():
    """Six garments of even brightness 0.1 ... 0.6, of classes 0 and 1 in turns, and two users."""

    class Bright:
        def __init__(self, kind, sign):
            self.kind, self.sign = kind, sign

        def utility(self, images):
            return self.sign * images.mean(axis=(1, 2, 3))

    catalogue = np.ones((6, 28, 28, 1)) * np.arange(1, 7)[:, None, None, None] / 10
    shop = type("Shop", (), {"catalogue": catalogue, "kinds": np.array([0, 1] * 3)})
    return shop, [Bright(0, 1), Bright(1, -1)]


def test_agreement_is_a_correlation_over_the_wanted_class(rng):
    shop, users = a_small_shop()
    predicted = rng.normal(size=(3, 6))  # the third is a reader's, whose utility nobody knows
    brightness = np.arange(1, 7) / 10
    ends = [scipy.stats.pearsonr(predicted[0][::2], brightness[::2])[0],
            scipy.stats.pearsonr(predicted[1][1::2], -brightness[1::2])[0]]  # fmt: skip
    assert chapter.agreement(users, predicted, shop) == pytest.approx(np.mean(ends))
    perfect = [user.utility(shop.catalogue) for user in users]
    assert chapter.agreement(users, perfect, shop) == pytest.approx(1)


def test_designs_are_set_against_what_the_shop_has():
    """The gain that the README shows: (design - item) / item, in true utilities."""
    shop, users = a_small_shop()
    predicted = np.array([[3, 9, 2, 9, 1, 9], [9, 1, 9, 3, 9, 2], [1, 9, 9, 9, 2, 9]])
    items, best = chapter.rank_catalogue(users, [0, 1, 0], predicted, shop)
    found = [np.round(10 * images.mean(axis=(1, 2, 3))).tolist() for images in (items, best)]
    assert found == [[1, 4, 3], [5, 2]]  # the model errs, and another class is never recommended
    np.testing.assert_allclose(chapter.true_utilities(users, items), [0.1, -0.4])
    np.testing.assert_allclose(chapter.true_utilities(users, best), [0.5, -0.2])


# The whole notebook


@contextlib.contextmanager
def time_limit(seconds):
    """Fail where something takes longer (on systems that have alarms)."""

    def too_long(*_):
        pytest.fail(f"The chapter was not done after {seconds} s.")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_chapter(monkeypatch, seconds=600, **parameters):
    """Execute all cells under smoke, in this process; return the notebook's names."""
    notebook = nbformat.read(chapters.find("11_applications"), as_version=4)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = {}
    with time_limit(seconds):
        for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
            exec(compile(cell.source, f"code cell {number}", "exec"), names)
            if number == 0:
                names |= {"profile": "smoke"} | parameters
    return names


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["breastmnist", "pneumoniamnist", "folder"])
def test_every_data_set_runs_to_the_end(dataset, monkeypatch, serve, tmp_path, rng):  # noqa: F811
    """The default, lesions, runs in test_notebooks."""
    if dataset == "folder":
        root = fill(tmp_path / "set", rng, 16, 2, ("covid", "normal"))
        options = {"folder": str(root), "positive": "covid"}
    else:
        serve(dataset, archive(rng)[0])
        options = {"seed": 2**32 - 1}  # the largest; the draws after it begin at 0 again
    names = run_chapter(monkeypatch, dataset=dataset, **options)
    assert names["positive_class"] == {"breastmnist": 0, "pneumoniamnist": 1, "folder": 0}[dataset]
    for pool in names["pools"].values():
        assert not set(pool.patients) & set(names["test"].patients)
    recorded = experiment.recorded()
    assert {"gan_minus_classic_gain", "membership_auc", "true_preference_gain"} <= set(recorded)
    assert len(names["results"]) == 2 * len(names["sizes"]) * 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"folder": None}, "folder is None"),
        ({}, 'set positive = "covid" or positive = "normal"'),
        ({"positive": "flu"}, "positive is 'flu', which is no class here"),
    ],
)
def test_a_folder_is_judged_before_any_training(monkeypatch, tmp_path, rng, options, sentence):
    root = fill(tmp_path / "set", rng, 16, 1, ("covid", "normal"))
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("It trained."))
    with pytest.raises(files.DataError, match=sentence):
        run_chapter(monkeypatch, **({"dataset": "folder", "folder": str(root)} | options))


def test_too_few_patients_are_named_before_any_training(monkeypatch, tmp_path, rng):
    root = fill(tmp_path / "set", rng, 9, 1, ("covid", "normal"))
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("It trained."))
    with pytest.raises(files.DataError, match=r"rarest class, covid, has 6 patients .* needs 10"):
        run_chapter(monkeypatch, dataset="folder", folder=str(root), positive="covid")
