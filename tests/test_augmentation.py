"""Augmentation: draws, batches, snapshots and scores, against other implementations."""

import keras
import numpy as np
import pytest
from sklearn import metrics

from helpers import files
from helpers.simulate import lesions
from helpers.sources import patients
from helpers.studies import augmentation


def cohort(labels, numbers=None):
    """A cohort whose pictures are their own positions."""
    labels = np.asarray(labels)
    names = tuple(f"class {label}" for label in range(labels.max() + 1))
    numbers = np.arange(len(labels)) if numbers is None else np.asarray(numbers)
    return patients.Cohort(names, np.arange(len(labels)), labels, numbers)


def test_choices_are_balanced_and_nested(rng):
    labels = rng.integers(0, 3, 200)
    everybody = cohort(labels)
    small, large = (augmentation.choose(everybody, n, 7) for n in (5, 20))
    assert np.bincount(labels[large]).tolist() == [20, 20, 20] and len(set(large)) == 60
    assert set(small) < set(large)
    assert augmentation.count_patients(everybody) == np.bincount(labels).tolist()
    with pytest.raises(ValueError, match=r"per_class is 100: class 0 has \d+ patients"):
        augmentation.choose(everybody, 100, 0)
    first, second = augmentation.halves(everybody, 5, 7)
    np.testing.assert_array_equal(first, small)
    assert set(first) | set(second) == set(augmentation.choose(everybody, 10, 7))
    assert len(set(second)) == 15 and not set(first) & set(second)


def test_a_patient_with_many_pictures_is_chosen_once(rng):
    labels = np.repeat([0, 1], 60)
    numbers = np.concatenate([np.repeat(np.arange(12), 5), np.repeat(np.arange(10, 22), 5)])
    everybody = cohort(labels, numbers)  # patients 10 and 11 have pictures of both classes
    assert augmentation.count_patients(everybody) == [11, 11]
    for seed in range(20):
        members, others = augmentation.halves(everybody, 5, seed)
        chosen = numbers[np.concatenate([members, others])]
        assert len(set(chosen)) == 20
        assert np.bincount(labels[members]).tolist() == [5, 5]
    views = {int(x) for seed in range(20) for x in augmentation.choose(everybody, 5, seed)}
    assert len(views) > 22  # not always the same picture of a patient


def test_patients_who_are_in_both_classes_are_shared_out():
    everybody = cohort(np.tile([0, 1], 40), np.repeat(np.arange(40), 2))  # one eye ill, one well
    assert augmentation.count_patients(everybody) == [20, 20]
    assert len(set(augmentation.choose(everybody, 20, 0) // 2)) == 40


def test_sizes_that_a_small_set_can_bear():
    pool = cohort(np.repeat([0, 1], [100, 150]))
    assert augmentation.affordable([pool], (10, 40, 160), 300) == ((10, 40), 60)
    with pytest.raises(files.DataError, match=r"class 0, has 100 patients .* needs 320"):
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


def test_a_snapshot_repeats_a_training(rng):
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


@pytest.mark.parametrize(("classes", "positive"), [(2, 0), (2, 1), (3, None), (3, 2)])
def test_scores_against_scikit_learn(rng, classes, positive):
    labels = np.arange(300) % classes
    p = rng.dirichlet(np.ones(classes), 300) + 0.4 * np.eye(classes)[labels]
    p /= p.sum(axis=1, keepdims=True)
    found, named = augmentation.scores(labels, p, positive), p.argmax(axis=1)
    asked = range(classes) if positive is None else [positive]
    recall = [metrics.recall_score(labels == c, named == c) for c in asked]
    specificity = [metrics.recall_score(labels != c, named != c) for c in asked]
    auroc = [metrics.roc_auc_score(labels == c, p[:, c]) for c in asked]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, named))
    assert found["sensitivity"] == pytest.approx(np.mean(recall))
    assert found["specificity"] == pytest.approx(np.mean(specificity))
    assert found["AUROC"] == pytest.approx(np.mean(auroc))


def test_two_classes_are_not_scored_without_a_positive_one():
    with pytest.raises(ValueError, match="which is to be found"):
        augmentation.scores(np.array([0, 1]), np.eye(2))


def test_lesions_have_the_densities_of_the_literature():
    """In the middle of large lesions, in Hounsfield units."""
    labels = np.repeat([0, 1, 2], 400)
    images = lesions.render(labels, 0) / 255 * (lesions.HIGHEST - lesions.LOWEST) + lesions.LOWEST
    middle = images[:, 11:17, 11:17, 0].mean(axis=(1, 2))
    frame = np.concatenate([images[:, :3, :, 0], images[:, -3:, :, 0]], axis=1).mean(axis=(1, 2))
    cyst, metastasis, haemangioma = (middle[labels == kind] for kind in range(3))
    assert 95 < np.median(frame) < 115
    assert np.median(cyst) < np.median(metastasis) < np.median(haemangioma)
    assert np.percentile(cyst, 5) > -20 and 10 < np.percentile(cyst, 25) < 60
    assert 40 < np.median(metastasis) < 95 and np.percentile(haemangioma, 90) > 110


def test_lesions_follow_from_seed_and_stream():
    labels = np.array([0, 1, 2, 2])
    one, same = (lesions.render(labels, 3) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (4, 28, 28, 1) and one.dtype == np.uint8
    for other in (lesions.render(labels, 4), lesions.render(labels, 3, lesions.TEST)):
        assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="0, 1 or 2"):
        lesions.render([3], 0)
