"""Reference classifiers: their accuracy, their size, their inputs."""

import json

import numpy as np
import pytest

from helpers import data, reference


@pytest.mark.parametrize(
    "name, accuracy, kib", [("mnist", 0.994, 400), ("fashion-mnist", 0.93, 1200)]
)
def test_accuracy_on_all_test_images_and_size(name, accuracy, kib):
    images, labels = data.load(name, "test")
    features, probabilities = reference.load(name)(data.to_unit(images))
    reached = np.mean(probabilities.argmax(axis=1) == labels)
    assert reached >= accuracy
    entry = data.manifest()[reference.weights_file(name)]
    assert entry["test_accuracy"] == pytest.approx(reached, abs=5e-4)
    assert entry["bytes"] <= kib * 1024
    assert features.shape == (10000, reference.FEATURES) and features.min() >= 0
    assert features.var(axis=0).mean() == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_features_do_not_depend_on_the_company_of_an_image():
    images = data.to_unit(data.load("mnist", "test")[0][:7])
    classifier = reference.load("mnist")
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
        reference.load("mnist").features(images)


def test_an_unknown_classifier():
    with pytest.raises(data.DataError, match="no classifier for 'cifar'"):
        reference.load("cifar")


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    relative = reference.weights_file("mnist")
    whole = (data.ROOT / relative).read_bytes()
    (tmp_path / "reference").mkdir()
    (tmp_path / "manifest.json").write_text(
        json.dumps({"files": data.manifest()}), encoding="utf-8"
    )
    (tmp_path / relative).write_bytes(whole[:5000] + b"!" + whole[5001:])
    monkeypatch.setattr(data, "ROOT", tmp_path)
    reference.load.cache_clear()
    with pytest.raises(data.DataError, match=r"mnist\.weights\.h5 has been altered.*git checkout"):
        reference.load("mnist")
    monkeypatch.undo()
    reference.load.cache_clear()
