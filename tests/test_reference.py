"""Reference classifiers: their accuracy, their size, their inputs."""

import json
import time

import keras
import numpy as np
import pytest

from helpers import data, files, metrics
from tools import train_reference


@pytest.mark.parametrize(
    "name, accuracy, kib", [("mnist", 0.994, 400), ("fashion-mnist", 0.93, 1200)]
)
def test_accuracy_on_all_test_images_and_size(name, accuracy, kib):
    images, labels = data.load(name, "test")
    features, probabilities = metrics.load_classifier(name)(data.to_unit(images))
    reached = np.mean(probabilities.argmax(axis=1) == labels)
    assert reached >= accuracy
    entry = files.manifest()[metrics.weights_file(name)]
    assert entry["test_accuracy"] == pytest.approx(reached, abs=5e-4)
    assert entry["bytes"] <= kib * 1024
    assert features.shape == (10000, metrics.FEATURES) and features.min() >= 0
    assert features.var(axis=0).mean() == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_features_do_not_depend_on_the_company_of_an_image():
    images = data.to_unit(data.load("mnist", "test")[0][:7])
    classifier = metrics.load_classifier("mnist")
    together = classifier.features(images)
    np.testing.assert_allclose(classifier.features(images[3:4])[0], together[3], atol=1e-4)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 28, 28)), "shape"),
        (np.zeros((0, 28, 28, 1)), "shape"),
        (np.zeros((2, 28, 28, 1), np.uint8), "uint8"),
        (np.full((2, 28, 28, 1), -1.0), r"\[0, 1\]"),
        (np.full((2, 28, 28, 1), np.nan), r"\[0, 1\]"),
    ],
)
def test_wrong_images_say_what_to_give(images, message):
    with pytest.raises(ValueError, match=message):
        metrics.load_classifier("mnist").features(images)


def test_an_unknown_classifier():
    with pytest.raises(files.DataError, match="no classifier for 'cifar'"):
        metrics.load_classifier("cifar")


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    relative = metrics.weights_file("mnist")
    whole = (files.DATA / relative).read_bytes()
    (tmp_path / "reference").mkdir()
    (tmp_path / "manifest.json").write_text(
        json.dumps({"files": files.manifest()}), encoding="utf-8"
    )
    (tmp_path / relative).write_bytes(whole[:5000] + b"!" + whole[5001:])
    monkeypatch.setattr(files, "DATA", tmp_path)
    metrics.load_classifier.cache_clear()
    with pytest.raises(files.DataError, match=r"mnist\.weights\.h5 has been altered.*git checkout"):
        metrics.load_classifier("mnist")
    monkeypatch.undo()
    metrics.load_classifier.cache_clear()


def test_a_policy_of_mixed_precision_does_not_reach_the_classifier():
    images = data.to_unit(data.load("mnist", "test")[0][:50])
    expected = metrics.load_classifier("mnist").features(images)
    metrics.load_classifier.cache_clear()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        features = metrics.load_classifier("mnist").features(images)
    finally:
        keras.config.set_dtype_policy("float32")
        metrics.load_classifier.cache_clear()
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, expected)


@pytest.fixture
def untrained():
    keras.utils.set_random_seed(0)
    return metrics.build_classifier("mnist")


def test_what_is_stored_is_what_is_loaded(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {}}', encoding="utf-8")
    entry = train_reference.store("mnist", untrained)
    metrics.load_classifier.cache_clear()
    images = np.random.default_rng(0).random((20, 28, 28, 1))
    loaded = metrics.load_classifier("mnist").probabilities(images)
    metrics.load_classifier.cache_clear()
    expected = metrics.ReferenceClassifier(untrained).probabilities(images)
    np.testing.assert_allclose(loaded, expected, atol=5e-3)  # half precision
    time.sleep(1.1)  # a time inside the file would be seen
    assert train_reference.store("mnist", untrained) == entry, "the same file each time"


def test_scaled_features_have_unit_variance_and_the_same_probabilities(untrained):
    images = data.load("mnist", "train")[0][:1000]
    classifier = metrics.ReferenceClassifier(untrained)
    before = classifier.probabilities(data.to_unit(images))
    train_reference.scale_features(untrained, images)
    features, after = classifier(data.to_unit(images))
    assert features.var(axis=0).mean() == pytest.approx(1, rel=1e-3)
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_augmentation_moves_images_and_keeps_their_range_and_label(name):
    images, labels = (part[:64] for part in data.load(name, "train"))
    changed, targets = (part.numpy() for part in train_reference.augment(name)(images, labels))
    assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 1
    np.testing.assert_array_equal(targets.argmax(axis=1), labels)
    original = data.to_unit(images)
    assert changed.mean() == pytest.approx(original.mean(), rel=0.1)
    moved = np.abs(changed - original).mean(axis=(1, 2, 3))
    assert moved.min() > 0 and np.median(moved) > 0.02


def test_a_short_training_learns():
    images, labels = (part[:4096] for part in data.load("mnist", "train"))
    keras.utils.set_random_seed(0)
    model = train_reference.fit("mnist", images, labels, epochs=2)
    assert train_reference.accuracy(model, images[:1000], labels[:1000]) > 0.5
