"""Chapter 9 as code: networks, losses, the pool, the step, the rivals; every set end to end."""

import dataclasses
import hashlib
import http.server
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import zipfile

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage import color

from helpers import chapters, experiment, files
from helpers.sources import unpaired
from tools import notebook as notebooks

chapter = chapters.import_chapter("09_cyclegan")
SHAPE = (32, 32, 3)
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def pictures(n, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def test_instance_norm_against_numpy():
    x = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 7)).astype(np.float32)
    mean, var = (f(x, axis=(1, 2), keepdims=True) for f in (np.mean, np.var))
    mine = chapter.instance_norm(tf.constant(x))
    np.testing.assert_allclose(mine, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-4)


def test_the_receptive_field_is_where_the_gradient_is():
    """By the network itself, without its normalisation, which looks at the whole picture."""
    image = keras.Input((64, 64, 1))
    x = image
    for filters, kernel, stride in ((2, 4, 2), (2, 4, 2), (1, 4, 1)):
        x = keras.layers.Conv2D(filters, kernel, stride, "same", kernel_initializer="ones")(x)
    model = keras.Model(image, x)
    pixels = tf.Variable(tf.zeros((1, 64, 64, 1)))
    with tf.GradientTape() as tape:
        verdict = model(pixels)[0, 8, 8, 0]
    seen = np.flatnonzero(np.abs(tape.gradient(verdict, pixels)[0, ..., 0]).sum(axis=0))
    assert len(seen) == seen[-1] - seen[0] + 1
    assert len(seen) == chapter.receptive_field([(4, 2), (4, 2), (4, 1)])
    assert chapter.receptive_field([(4, 2), (4, 2), (4, 2), (4, 1), (4, 1)]) == 70  # the paper's


BUILDERS = {"unet": chapter.build_generator, "resnet": chapter.build_resnet_generator}


@pytest.mark.parametrize("kind", BUILDERS)
def test_generators_keep_the_shape_and_the_range(kind):
    generator = BUILDERS[kind](SHAPE, 4)
    made = generator(pictures(2) / 127.5 - 1)
    assert made.shape == (2, *SHAPE) and np.abs(made).max() <= 1


def test_a_generator_draws_the_change():
    generator, images = chapter.build_generator(SHAPE, 4), np.float32(pictures(2) / 127.5 - 1)
    last = [x for x in generator.layers if isinstance(x, keras.layers.Conv2DTranspose)][-1]
    for weight in last.weights:
        weight.assign(tf.zeros_like(weight))
    np.testing.assert_allclose(generator(images), images, atol=1e-6)


def test_only_the_unet_hands_pixels_across():
    joins = {
        kind: [layer for layer in build(SHAPE, 4).layers
               if isinstance(layer, keras.layers.Concatenate)]
        for kind, build in BUILDERS.items()
    }  # fmt: skip
    assert len(joins["unet"]) == 2 and not joins["resnet"]


def new_model(rates=(0.0, 0.0), pool=6, **weights):
    experiment.start("smoke", 5)
    model = chapter.CycleGAN(SHAPE, 5, pool=pool, **weights)
    adam = [keras.optimizers.SGD(rate) for rate in rates]
    model.compile(*adam, jit_compile=False)
    return model


A, B = pictures(3, 1), pictures(3, 2)


def fit(model, steps=1):
    batches = tf.data.Dataset.from_tensors((A, B)).repeat()
    return model.fit(batches, steps_per_epoch=steps, verbose=0).history


def test_the_losses_of_a_step_written_out():
    model = new_model()
    a, b = (np.float32(x) / 127.5 - 1 for x in (A, B))

    def g(x):
        return model.generator_ab(x).numpy()

    def f(x):
        return model.generator_ba(x).numpy()

    pools = model.pool_a, model.pool_b
    pool_a, pool_b = (pool.numpy() for pool in pools)
    history = {name: values[0] for name, values in fit(model).items()}
    cycle = np.abs(f(g(a)) - a).mean() + np.abs(g(f(b)) - b).mean()
    identity = np.abs(g(b) - b).mean() + np.abs(f(a) - a).mean()
    fooling = [
        np.mean((d(x).numpy() - 1) ** 2)
        for d, x in ((model.discriminator_a, f(b)), (model.discriminator_b, g(a)))
    ]
    assert history["cycle"] == pytest.approx(cycle, rel=1e-3)
    assert history["identity"] == pytest.approx(identity, rel=1e-3)
    assert history["fooling"] == pytest.approx(sum(fooling), rel=1e-3)
    for before, pool, fake in zip((pool_a, pool_b), pools, (f(b), g(a)), strict=True):
        new = [p for p in pool.numpy() if not any(np.array_equal(p, q) for q in before)]
        assert len(new) == 3
        assert all(np.abs(fake - p).max(axis=(1, 2, 3)).min() < 1e-4 for p in new)


@pytest.mark.parametrize("rates", [(0.1, 0.0), (0.0, 0.1)], ids=["generators", "discriminators"])
def test_a_move_leaves_the_other_side_where_it_is(rates):
    model = new_model(rates)
    sides = (
        (model.generator_ab, model.generator_ba),
        (model.discriminator_a, model.discriminator_b),
    )
    before = [[w.numpy() for net in side for w in net.trainable_variables] for side in sides]
    fit(model, 2)
    for side, old, rate in zip(sides, before, rates, strict=True):
        new = [w.numpy() for net in side for w in net.trainable_variables]
        moved = [np.abs(x - y).max() > 0 for x, y in zip(new, old, strict=True)]
        assert np.mean(moved) > 0.7 if rate else not any(moved)  # biases before a norm stay


def test_a_weight_of_zero_leaves_a_loss_out():
    weights = []
    for changed in ({"cycle": 0.0, "identity": 0.0}, {"cycle": 0.0, "identity": 1.0}):
        model = new_model((0.1, 0.0), **changed)
        fit(model)
        weights.append(model.generator_ab.get_weights()[0])
    assert np.abs(weights[0] - weights[1]).max() > 1e-6


def test_the_pool_gives_old_pictures_for_about_half_of_the_new_ones():
    model, old_ones = new_model(pool=50), 0
    pool = model.pool_a
    pool.assign(tf.reshape(tf.range(50.0), (50, 1, 1, 1)) * tf.ones((50, *SHAPE)))
    for step in range(60):
        images = tf.fill((4, *SHAPE), 1000.0 + step)
        back = chapter.exchange(pool, images, model.random)[:, 0, 0, 0].numpy()
        assert np.all(
            (back == 1000 + step) | np.isin(back, [*range(50), *range(1000, 1000 + step)])
        )
        old_ones += np.sum(back != 1000 + step)
    assert 80 < old_ones < 160  # of 240
    assert np.mean(pool[:, 0, 0, 0] >= 1000) > 0.97  # 240 arrivals in 50 places


def test_the_learning_rate_is_constant_and_then_falls_to_zero():
    rate = chapter.LinearEnd(0.2, 100)
    values = [float(rate(step)) for step in (0, 49, 50, 75, 100)]
    np.testing.assert_allclose(values, [0.2, 0.2, 0.2, 0.1, 0], atol=1e-6)


def test_translate_is_the_generator_in_bytes():
    model = new_model()
    made = chapter.translate(model, A)
    assert made.dtype == np.uint8
    floats = (model.generator_ab(np.float32(A) / 127.5 - 1) + 1) * 127.5
    np.testing.assert_allclose(made, floats, atol=0.51)
    assert np.abs(made - np.float32(chapter.translate(model, A, "a"))).max() > 1


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_transfer_gives_the_statistics_of_the_goal(channels):
    rng = np.random.default_rng(0)
    images = np.uint8(rng.normal(120, 15, (2, 24, 24, channels)).clip(0, 255))
    middle = (150, 110, 90)[:channels]
    goal = np.uint8(rng.normal(middle, 12, (3, 24, 24, channels)).clip(0, 255))
    made = chapter.colour_transfer(images, goal)
    assert made.shape == images.shape and made.dtype == np.uint8

    def space(images):
        return images / 255 * 100 if channels == 1 else color.rgb2lab(images)

    got, target = space(made), space(goal)
    np.testing.assert_allclose(got.mean((1, 2)), [target.mean((0, 1, 2))] * 2, atol=1)
    np.testing.assert_allclose(got.std((1, 2)), [target.std((1, 2)).mean(axis=0)] * 2, atol=1)


def test_colour_transfer_of_a_flat_picture_is_the_mean_of_the_goal():
    flat = np.full((1, 16, 16, 3), 90, np.uint8)
    goal = np.full((1, 16, 16, 3), (200, 120, 40), np.uint8)
    made = chapter.colour_transfer(flat, goal)
    np.testing.assert_allclose(made, np.broadcast_to(goal, made.shape), atol=2)


def sets(n, m, paired=False, shape=SHAPE):
    parts = [pictures(k, seed, shape) for seed, k in enumerate((n, m, 3, 3 if paired else 2))]
    return unpaired.Domains(("a", "b"), *parts, paired=paired)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 7), (8, 5), (20, 30)])
def test_batches_are_as_large_as_the_smaller_set_allows(n, m):
    domains = sets(n, m)
    for seed in (0, 2**32 - 1):
        a, b = next(iter(chapter.pairs(domains, 8, seed)))
        assert len(a) == len(b) == min(8, n, m)


def test_the_measurements_written_out():
    domains = sets(4, 4, paired=True)
    made_b, made_a = pictures(3, 8), pictures(3, 9)
    back_a, back_b = pictures(3, 10), pictures(3, 11)

    class Everything:  # is B, it says
        def predict(self, images, verbose):
            return np.ones((len(images), 1))

    row = chapter.measure(Everything(), domains, made_b, made_a, back_a, back_b)
    squares = [
        np.mean((x / 255 - y / 255) ** 2)
        for x, y in zip([*made_b, *made_a], [*domains.test_b, *domains.test_a], strict=True)
    ]
    assert row["share"] == 0.5
    assert row["PSNR"] == pytest.approx(np.mean(-10 * np.log10(squares)))
    errors = np.abs(np.concatenate([domains.test_a, domains.test_b]) / 255
                    - np.concatenate([back_a, back_b]) / 255)  # fmt: skip
    assert row["way back"] == pytest.approx(errors.mean(), rel=1e-4)
    without_truth = dataclasses.replace(domains, paired=False)
    row = chapter.measure(Everything(), without_truth, made_b, made_a, back_a, back_b)
    assert set(row) == {"share", "way back"}


# Every set that the parameters cell offers, from the first cell to the last (drawn fruit, the
# default: test_notebooks.py)


def fill(folder, n, seed=0, size=(40, 44, 3)):
    folder.mkdir(parents=True)
    for number, image in enumerate(pictures(n, seed, size)):
        Image.fromarray(image).save(folder / f"Bild {number} 图.jpg")
    return folder


@pytest.fixture
def course(tmp_path):
    """A copy of what the chapter needs, where steps are fewer still and lists may be changed."""
    root = tmp_path / "course"
    shutil.copytree(REPOSITORY / "helpers", root / "helpers")
    (root / "notebooks").mkdir()
    text = (REPOSITORY / "notebooks/09_cyclegan.ipynb").read_text(encoding="utf-8")
    assert "smoke=5, laptop=600" in text
    text = text.replace("smoke=5, laptop=600", "smoke=2, laptop=600")
    (root / "notebooks/09_cyclegan.ipynb").write_text(text, encoding="utf-8")
    return root


def execute(root, *parameters, **environment):
    """Execute the chapter by papermill, as readers do; return it, or the error's last line."""
    notebook = root / "notebooks/09_cyclegan.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(root / "done.ipynb"),
               "--cwd", str(notebook.parent), "-p", "profile", "smoke", "-k", "python3",
               "--no-progress-bar", *parameters]  # fmt: skip
    environment = os.environ | {"COURSE_DATA": str(files.DATA)} | environment
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=900
    )
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1]
    executed = nbformat.read(root / "done.ipynb", as_version=4)
    streams = [o.text for c in executed.cells for o in c.get("outputs", []) if "text" in o]
    return notebooks.collect_results(executed), "".join(streams)


@pytest.fixture
def server(tmp_path):
    """A local server of the files below ``www``."""
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "www"))

        def log_message(self, *arguments):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/"
    httpd.shutdown()


def check(results):
    """All that does not need a truth was measured, and is not held to what fruit gives."""
    assert {"target_domain_share", "cycle_l1", "way_back_error_growth"} <= results.keys()
    assert {"classifier_accuracy_boots", "target_domain_share_boots"} <= results.keys()
    assert "psnr_gain_over_identity_db" not in results
    assert all(np.isfinite(result["value"]) for result in results.values())
    assert results["target_domain_share"]["target"] is None


@pytest.mark.slow
def test_grey_boots_run_to_the_end(course):
    results, said = execute(course, "-p", "dataset", "boots")
    assert results, said
    check(results)


@pytest.mark.slow
def test_own_folders_of_unequal_size_run_to_the_end(course, tmp_path):
    """One has two pictures: a single one is left to train with, and one to test."""
    a, b = fill(tmp_path / "rote [Äpfel]", 2), fill(tmp_path / "b, c", 25, 1)
    results, said = execute(
        course, "-p", "dataset", "folder", "-y", json.dumps({"folders": [str(a), str(b)]})
    )
    assert results, said
    check(results)
    assert "rote [Äpfel] and" in said and "but a network needs some hundreds" in said


@pytest.mark.slow
def test_grocery_runs_to_the_end(course, server, tmp_path):
    rows = []
    for number, image in enumerate(pictures(24, 0, (48, 48, 3))):
        fruit, split = ("apple", "orange")[number % 2], ("train", "test")[number % 3 == 0]
        path = tmp_path / "www" / split / f"{fruit}_{number:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(f"{split}/{path.name},{fruit},{split},{len(content)},{sha256}")
    table = "\n".join(["path,fruit,split,bytes,sha256", *rows])
    (course / "helpers/sources/grocery.csv").write_text(table, encoding="utf-8")
    cache = str(tmp_path / "cache")
    address = {"COURSE_GROCERY_URL": server, "COURSE_CACHE": cache}
    results, said = execute(course, "-p", "dataset", "grocery", **address)
    assert results, said
    check(results)
    assert "MIT licence, © 2019 Marcus Klasson" in said and "Kjellström" in said


@pytest.mark.slow
def test_apple2orange_runs_to_the_end(course, server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for seed, (part, n) in enumerate(
            {"trainA": 9, "trainB": 6, "testA": 2, "testB": 3}.items()
        ):
            for number, image in enumerate(pictures(n, seed, (48, 48, 3))):
                content = io.BytesIO()
                Image.fromarray(image).save(content, "JPEG")
                archive.writestr(f"apple2orange/{part}/n{number}.jpg", content.getvalue())
    (tmp_path / "www" / "apple2orange.zip").write_bytes(buffer.getvalue())
    module = course / "helpers/sources/unpaired.py"
    text = module.read_text(encoding="utf-8")
    official = unpaired.OFFICIAL["apple2orange"]
    assert text.count(official) == 1
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    module.write_text(text.replace(official, sha256), encoding="utf-8")
    address = {"COURSE_CYCLEGAN_URL": server, "COURSE_CACHE": str(tmp_path / "cache")}
    results, said = execute(course, "-p", "dataset", "apple2orange", **address)
    assert results, said
    check(results)
    assert "for research that is not commercial" in said


@pytest.mark.slow
def test_what_is_wrong_with_the_options_is_said_before_anything_is_computed(course):
    results, said = execute(
        course, "-p", "dataset", "folder", "-p", "folders", '["/no/a", "/no/b"]'
    )
    assert results is None
    assert said.endswith("There is no folder /no/a: correct the path.")
    failed = nbformat.read(course / "done.ipynb", as_version=4)
    assert not any(c.id == "code-05" and c.execution_count for c in failed.cells)
