"""Studies: draws, batches, snapshots, scores and intervals, against other implementations."""

import keras
import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from helpers import files
from helpers.simulate import lesions
from helpers.studies import augmentation

rng = np.random.default_rng(0)


def test_patients_and_pictures_on_both_sides_are_refused():
    a, b = rng.integers(0, 256, (2, 5, 4, 4, 1), np.uint8)
    augmentation.check_apart((a, range(5)), (b, range(5, 10)))
    with pytest.raises(files.DataError, match="1 patients are in training and test"):
        augmentation.check_apart((a, range(5)), (b, range(4, 9)))
    with pytest.raises(files.DataError, match="2 pictures are in training and test"):
        augmentation.check_apart((a, range(5)), (np.concatenate([b, a[:2]]), range(5, 12)))


def test_draws_are_balanced_and_nested():
    labels = rng.integers(0, 3, 200)
    small, large = (augmentation.draw(labels, n, 7) for n in (5, 20))
    assert np.bincount(labels[large]).tolist() == [20, 20, 20] and len(set(large)) == 60
    assert set(small) < set(large)
    with pytest.raises(ValueError, match="examples"):
        augmentation.draw(labels, 100, 0)
    cohort = type("Cohort", (), {"labels": labels, "images": np.arange(200)})
    first, second = augmentation.halves(cohort, 5, 7)
    np.testing.assert_array_equal(first, small)
    assert (
        set(first) | set(second) == set(augmentation.draw(labels, 10, 7)) and len(set(second)) == 15
    )


def test_sizes_that_a_small_set_can_bear():
    pool = type("Pool", (), {"labels": np.repeat([0, 1], [100, 150])})
    assert augmentation.affordable([pool], (10, 40, 160), 300) == ((10, 40), 60)
    with pytest.raises(files.DataError, match="rarest class has 100"):
        augmentation.affordable([pool], (160,), 10)


def test_every_part_has_its_share_of_every_batch():
    parts = [(np.full((n, 2), i, np.uint8), np.full(n, i)) for i, n in enumerate((3, 50))]
    batches = list(augmentation.mixed_batches([parts[0]] * 3 + [parts[1]], 8, 5, 0))
    assert len(batches) == 5
    for images, labels in batches:
        assert np.bincount(labels).tolist() == [6, 2]
        np.testing.assert_array_equal(images[:, 0], labels)
    with pytest.raises(ValueError, match="multiple of 2"):
        augmentation.mixed_batches(parts, 7, 5, 0)


def test_a_snapshot_repeats_a_training():
    keras.utils.set_random_seed(0)
    parts = [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    model = keras.Sequential(parts)
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    start, x = augmentation.snapshot(model), rng.normal(size=(32, 4))
    ends = []
    for _ in range(2):
        augmentation.restore(model, start)
        model.fit(x, x[:, :2], verbose=0, shuffle=False)
        ends.append(augmentation.snapshot(model))
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(np.any(a != b) for a, b in zip(start, ends[0], strict=True))
    with pytest.raises(ValueError, match="another model"):
        augmentation.restore(model, start[:-1])


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_against_scikit_learn(classes):
    labels = np.arange(300) % classes
    p = rng.dirichlet(np.ones(classes), 300) + 0.4 * np.eye(classes)[labels]
    p /= p.sum(axis=1, keepdims=True)
    found, named = augmentation.scores(labels, p), p.argmax(axis=1)
    asked = [1] if classes == 2 else range(classes)
    recall = [metrics.recall_score(labels == c, named == c) for c in asked]
    specificity = [metrics.recall_score(labels != c, named != c) for c in asked]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, named))
    assert found["sensitivity"] == pytest.approx(np.mean(recall))
    assert found["specificity"] == pytest.approx(np.mean(specificity))
    score = p[:, 1] if classes == 2 else p
    auroc = metrics.roc_auc_score(labels, score, multi_class="ovr")
    assert found["AUROC"] == pytest.approx(auroc)


def test_intervals_against_scipy():
    after, before = rng.normal(size=(2, 8))
    mean, low, high = augmentation.paired(after, before)
    interval = scipy.stats.ttest_rel(after, before).confidence_interval(0.95)
    np.testing.assert_allclose([low, high], [interval.low, interval.high])
    assert mean == pytest.approx(np.mean(after - before))
    wider = scipy.stats.ttest_rel(after, before).confidence_interval(1 - 0.05 / 3)
    np.testing.assert_allclose(augmentation.paired(after, before, 3)[1:], [wider.low, wider.high])
    with pytest.raises(ValueError, match="two pairs or more"):
        augmentation.paired([1.0], [2.0])


def test_bonferroni_keeps_its_promise():
    """Of studies without any effect, at most 5 % find one at the best of three sizes."""
    found = 0
    for _ in range(1000):
        gains = rng.normal(size=(3, 6))
        found += any(augmentation.paired(g, np.zeros(6), looks=3)[1] > 0 for g in gains)
    assert found / 1000 < 0.045  # one-sided: about 2.5 % expected


def test_comparison_of_arms(capsys):
    draws = [
        {(n, arm): {"accuracy": 0.5 + 0.01 * i * (arm == "b") + n / 1000} for n in (10, 20)
         for arm in "ab"}
        for i in (1, 2, 3)
    ]  # fmt: skip
    gains = augmentation.compare(draws, rival="a")
    assert set(gains) == {("b", 10), ("b", 20)}
    expected = augmentation.paired([1.0, 2, 3], [0.0, 0, 0], looks=2)
    np.testing.assert_allclose(gains["b", 20], expected)
    assert "b - a" in capsys.readouterr().out


def test_lesions_have_the_densities_of_the_literature():
    """In the middle of large lesions, in Hounsfield units."""
    labels = np.repeat([0, 1, 2], 400)
    images = lesions.to_hounsfield(lesions.draw(labels, 0))
    middle = images[:, 11:17, 11:17, 0].mean(axis=(1, 2))
    frame = np.concatenate([images[:, :3, :, 0], images[:, -3:, :, 0]], axis=1).mean(axis=(1, 2))
    cyst, metastasis, haemangioma = (middle[labels == kind] for kind in range(3))
    assert 95 < np.median(frame) < 115
    assert np.median(cyst) < np.median(metastasis) < np.median(haemangioma)
    assert np.percentile(cyst, 5) > -20 and 10 < np.percentile(cyst, 25) < 60
    assert 40 < np.median(metastasis) < 95 and np.percentile(haemangioma, 90) > 110


def test_lesions_follow_from_seed_and_stream():
    labels = np.array([0, 1, 2, 2])
    one, same = (lesions.draw(labels, 3) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (4, 28, 28, 1) and one.dtype == np.uint8
    for other in (lesions.draw(labels, 4), lesions.draw(labels, 3, lesions.TEST)):
        assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="0, 1 or 2"):
        lesions.draw([3], 0)
