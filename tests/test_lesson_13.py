"""Chapter 13 as code: networks, changes, measures, what is kept; folders of all kinds."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import keras
import nbformat
import numpy as np
import papermill
import pytest
import tensorflow as tf
from PIL import Image
from tiny_course import REPOSITORY, posix

from helpers import callbacks, chapters, data, files, metrics
from helpers.sources import portraits
from helpers.studies import collection, keeping
from tools import generate, pack_portraits
from tools import notebook as notebooks

chapter = chapters.import_chapter("13_your_pictures")
PATH = chapters.find("13_your_pictures")


def seeds():
    return keras.random.SeedGenerator(0)


# Networks, changes, the step


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("colours", [1, 3])
def test_networks_for_every_size(size, colours):
    generator = chapter.build_generator(5, (size, size, colours), width=2, widest=8)
    images = generator(tf.ones((2, 5)))
    assert images.shape == (2, size, size, colours)
    discriminator = chapter.build_discriminator((size, size, colours), width=2, widest=4)
    assert discriminator(images).shape == (2, 1)
    last = [x for x in discriminator.layers if isinstance(x, keras.layers.Conv2D)][-1]
    assert last.output.shape[1:] == (4, 4, 4)


def test_a_moved_picture_is_a_window_of_the_picture_on_white(rng):
    images = rng.uniform(-1, 0.9, (20, 8, 8, 3)).astype(np.float32)
    moved = chapter.move(tf.constant(images), 2, seeds()).numpy()
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=1.0)
    places = []
    for one, window in zip(moved, padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(one, window[y : y + 8, x : x + 8])
        ]
        places += found
    assert len(places) == 20 and len(set(places)) > 8  # each in its own way


def test_half_are_mirrored_and_only_where_it_is_wanted(rng):
    images = tf.constant(rng.uniform(-1, 1, (200, 4, 4, 1)), tf.float32)
    mirrored = chapter.mirror_half(images, seeds()).numpy()
    same = (mirrored == images).numpy().all(axis=(1, 2, 3))
    turned = (mirrored == images[:, :, ::-1]).numpy().all(axis=(1, 2, 3))
    assert (same ^ turned).all() and 70 < same.sum() < 130
    unchanged = chapter.augment(images, seeds(), mirror=False)  # 4 pixels: moved by none
    np.testing.assert_array_equal(unchanged, images)


def test_the_gradient_passes_through_the_change(rng):
    images = tf.Variable(rng.uniform(-1, 1, (3, 16, 16, 1)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(chapter.augment(images, seeds()))
    gradient = tape.gradient(total, images).numpy()
    assert set(np.unique(gradient)) <= {0.0, 1.0} and gradient.mean() > 0.5


def tiny_gan(steps=40, size=32, seed=3):
    keras.utils.set_random_seed(seed)
    generator = chapter.build_generator(4, (size, size, 1), width=2, widest=4)
    discriminator = chapter.build_discriminator((size, size, 1), width=2, widest=4, dense=4)
    gan = chapter.PictureGAN(generator, discriminator, seed)
    rate = chapter.chapter4.FallingRate(1e-3, steps)
    adam = [keras.optimizers.Adam(rate) for _ in range(2)]
    losses = chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss
    gan.compile(*adam, losses=losses, jit_compile=False)
    return gan


def test_the_price_of_the_slope_against_a_linear_discriminator(rng):
    gan = tiny_gan()
    image = keras.Input((6, 6, 1))
    linear = keras.layers.Dense(1)
    gan.discriminator = keras.Model(image, linear(keras.layers.Flatten()(image)))
    price = gan.penalty(tf.constant(rng.normal(size=(5, 6, 6, 1)), tf.float32))
    expected = gan.every * gan.gamma / 2 * np.sum(linear.kernel.numpy() ** 2)
    assert float(price) == pytest.approx(expected, rel=1e-5)


def test_the_rate_falls_over_the_second_half():
    rate = chapter.chapter4.FallingRate(0.1, 100)
    assert [round(float(rate(step)), 4) for step in (0, 50, 75, 100, 120)] == [
        0.1, 0.1, 0.05, 0.0, 0.0,
    ]  # fmt: skip


def fit(gan, images, epochs, folder):
    resume = callbacks.Resume(gan, folder, "test")
    batches = data.batches(images, 8, 1, start=resume.step)
    gan.fit(batches, epochs=epochs, steps_per_epoch=2, initial_epoch=resume.epoch, verbose=0,
            callbacks=[resume])  # fmt: skip
    return resume


def test_a_training_goes_on_and_raised_steps_go_on_from_a_finished_one(tmp_path, rng):
    images = rng.integers(0, 256, (16, 32, 32, 1), np.uint8)
    whole = tiny_gan()
    fit(whole, images, 4, None)
    fit(tiny_gan(), images, 2, tmp_path)
    second = tiny_gan()
    fit(second, images, 4, tmp_path)
    for one, other in zip(whole.average.weights, second.average.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    longer = tiny_gan(steps=80)
    resume = fit(longer, images, 5, tmp_path)
    assert resume.step == 10 and int(longer.generator_optimizer.iterations) == 10
    moved = [np.abs(a - b).max() for a, b in zip(longer.generator.weights, second.generator.weights,
                                                 strict=True)]  # fmt: skip
    assert max(moved) > 1e-4


# Looking and measuring


def test_the_hash_against_a_loop(rng):
    small = rng.integers(0, 256, (3, 8, 9, 1), np.uint8)
    images = np.repeat(np.repeat(small, 9, axis=1), 8, axis=2)  # 72 x 72 pixels
    hashes = chapter.difference_hash(images)
    for image, bits in zip(small[..., 0].astype(int), hashes, strict=True):
        expected = [image[y, x + 1] > image[y, x] for y in range(8) for x in range(8)]
        assert bits.tolist() == expected


def test_a_fifth_is_put_aside_unless_there_are_few():
    for count, aside in ((2, 0), (90, 0), (100, 20), (702, 140)):
        training, left_out = chapter.split(count, 5)
        assert len(left_out) == aside
        assert sorted([*training, *left_out]) == list(range(count))
    assert chapter.split(702, 5)[1].tolist() != chapter.split(702, 6)[1].tolist()


def test_kid_is_the_mean_of_parts(rng):
    one, other = rng.normal(size=(50, 6)), rng.normal(0.5, 1, size=(70, 6))
    value, error = chapter.kid(one, other)
    parts = [
        metrics.squared_mmd(one[5 * i : 5 * i + 5], other[7 * i : 7 * i + 7]) for i in range(10)
    ]
    assert value == pytest.approx(1000 * np.mean(parts))
    assert error == pytest.approx(1000 * np.std(parts, ddof=1) / np.sqrt(10))
    few, no_error = chapter.kid(one[:2], other)
    assert few == pytest.approx(1000 * metrics.squared_mmd(one[:2], other)) and no_error == 0


def test_what_counts_as_a_copy():
    pictures = np.float32([[0, 0], [10, 0], [0, 4]]).reshape(3, 1, 2, 1)
    points = np.float32([[1, 0], [8, 0], [0, 9], [100, 100]]).reshape(4, 1, 2, 1)
    # Their neighbours are 4, 10 and 4 away.
    assert chapter.copied(points, pictures).tolist() == [True, True, False, False]
    distance, position = chapter.nearest(points, pictures)
    np.testing.assert_allclose(distance[:3], [1, 2, 5])
    assert position[:3].tolist() == [0, 1, 2]


def test_a_walk_passes_its_stops_and_keeps_to_their_lengths(rng):
    stops = rng.normal(size=(3, 16))
    codes = chapter.walk(stops, frames=5)
    np.testing.assert_allclose(codes[::5], stops)
    lengths = np.linalg.norm(stops, axis=1)
    found = np.linalg.norm(codes, axis=1)
    assert found.min() >= lengths.min() - 1e-9 and found.max() <= lengths.max() + 1e-9
    near = chapter.variations(stops[0].astype(np.float32), 4, 0.3, seed=1)
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), lengths[0], rtol=1e-5)
    np.testing.assert_allclose(generate.walk_between(stops)[:: generate.FRAMES], stops, rtol=1e-5)


# The portraits


def test_each_pair_of_design_and_tone_is_there_once():
    found = collection.read(portraits.archive(), 32)
    assert found.images.shape == (702, 32, 32, 3) and not found.left_out
    designs, tones = portraits.designs_and_tones(found.paths)
    pairs = set(zip(designs.tolist(), tones.tolist(), strict=True))
    assert len(pairs) == 702 and len(set(designs.tolist())) == 117
    assert found.images[:, :2, :2].min() > 240  # on white


def test_what_is_a_portrait():
    known = pack_portraits.design_and_tone
    assert known("1f469-1f3fd-200d-1f52c") == ("1f469-1f52c", 3)
    assert known("1f473") == ("1f473", 0)
    for other in ("1f600", "1f469-200d-1f469", "1f469-1f3fd-1f3fb", "1f469-200d-2764-fe0f"):
        assert known(other) is None


def test_an_archive_is_packed_as_described(tmp_path):
    import tarfile

    picture = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (64, 64, 192, 192))
    content = io.BytesIO()
    picture.save(content, "WEBP", lossless=True)
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name in ("1f469-1f3fd-200d-1f52c.webp", "1f600.webp"):
            member = tarfile.TarInfo(f"package/assets/{name}")
            member.size = len(content.getvalue())
            archive.addfile(member, io.BytesIO(content.getvalue()))
    packed = zipfile.ZipFile(io.BytesIO(pack_portraits.pack(package)))
    assert packed.namelist() == ["1f469-1f52c.3.webp"]
    small = np.asarray(Image.open(packed.open("1f469-1f52c.3.webp")))
    assert small.shape == (128, 128, 3) and small[0, 0].min() > 250 and small[64, 64, 1] < 10


# Parameters and folders


@pytest.mark.parametrize(
    ("size", "steps", "limit", "sentence"),
    [
        (48, None, None, "size is 48: set it to 32, 64 or 128"),
        (64, 0, None, "steps is 0: set it to None or to 1 or more"),
        (64, "many", None, "steps is 'many'"),
        (64, 10, 1, "limit is 1: set it to None or to 2 or more"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(size, steps, limit, sentence):
    with pytest.raises(ValueError, match=sentence):
        collection.check_options(size, steps, limit)
    collection.check_options(128, 1, 2)


def save(folder, name, pixels, **options):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, **options)


def test_a_folder_is_read_with_the_folders_in_it(tmp_path, rng):
    save(tmp_path / "a", "one.png", rng.integers(0, 256, (40, 30, 3), np.uint8))
    save(tmp_path, "two.jpg", rng.integers(0, 256, (30, 30, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    found = collection.read(tmp_path, 32)
    assert found.images.shape == (2, 32, 32, 3) and found.sizes == [(30, 30), (30, 40)]
    assert "2 pictures in colour; 1 file was left out" in found.describe()
    assert "of 1 only the square" in found.describe()
    with pytest.raises(files.DataError, match="has 1 usable pictures: put 2 or more"):
        collection.read(tmp_path / "a", 32)


def test_features_are_those_of_the_network_and_take_grey():
    grey = np.full((2, 32, 32, 1), 128, np.uint8)
    found = collection.features(grey)
    assert found.shape == (2, 1280) and (found >= 0).all()
    np.testing.assert_allclose(found, collection.features(np.repeat(grey, 3, -1) / 255), atol=1e-4)


def test_nothing_of_a_reader_is_overwritten(tmp_path):
    mine = tmp_path / "mine"
    save(mine, "holiday.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="where other files lie: name a folder that is new"):
        keeping.folder(str(mine))
    with pytest.raises(ValueError, match="where other files lie"):
        keeping.folder(mine / "holiday.png")
    assert keeping.folder(tmp_path / "new") == tmp_path / "new"
    first, second = keeping.folder(None), keeping.folder(None)
    assert first != second and first.parent.name == "generators"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "card.md").write_text(keeping.card({"numbers in a code": 4}))
    assert keeping.folder(tmp_path / "kept") == tmp_path / "kept"


# tools.generate


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    codes = keras.Input((4,))
    image = keras.layers.Rescaling(0.5, offset=0.5)(
        chapter.build_generator(4, (32, 32, 3), 2, 4)(codes)
    )
    samples = np.random.default_rng(0).random((4, 32, 32, 3))
    model = keras.Model(codes, image)
    names = keeping.store(folder, model, samples, list(samples), {"numbers in a code": 4})
    assert {path.name for path in folder.iterdir()} == set(names)
    return folder


def test_the_same_seed_draws_the_same_pictures(kept, tmp_path, capsys):
    assert generate.main([str(kept), "--count", "3", "--out", str(tmp_path / "a")]) == 0
    assert "3 pictures are in" in capsys.readouterr().out
    assert generate.main([str(kept), "--count", "12", "--walk", "2", "--out",
                          str(tmp_path / "b")]) == 0  # fmt: skip
    first, second = (np.asarray(Image.open(tmp_path / x / "0003.png")) for x in "ab")
    assert first.shape == (32, 32, 3)
    assert np.abs(first.astype(int) - second).max() <= 1
    assert Image.open(tmp_path / "b" / "walk.gif").n_frames > 2
    mine = keras.models.load_model(kept / "generator.keras")(generate.codes(3, 4, 0))[2]
    assert np.abs(np.asarray(mine) * 255 - first).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["."], "has no generator.keras"),
        (["damaged"], "cannot be opened"),
        (["KEPT", "--count", "-1"], "--count is -1"),
        (["KEPT", "--count", "0"], "There is nothing to draw"),
        (["KEPT", "--walk", "1"], "--walk 1"),
        (["KEPT", "--seed", "-1"], "--seed is -1"),
        (["KEPT", "--out", "full"], "exists already"),
        (["KEPT", "--out", "file"], "cannot be written"),
    ],
)
def test_errors_are_one_sentence(kept, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "generator.keras").write_bytes(b"no model")
    save(tmp_path / "full", "0001.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "file").write_text("x")
    given = [str(kept) if word == "KEPT" else word for word in arguments]
    assert generate.main(given) == 2
    message = capsys.readouterr().err
    assert sentence in message and message.count("\n") == 1 and "Traceback" not in message


# End to end


def papermill_options(**parameters):
    return {"parameters": {"profile": "smoke", **parameters}, "cwd": str(PATH.parent),
            "kernel_name": "python3", "progress_bar": False, "execution_timeout": 900}  # fmt: skip


def printed(executed) -> str:
    found = nbformat.read(executed, as_version=4)
    outputs = [output for cell in notebooks.code_cells(found) for output in cell.outputs]
    return "\n".join(output.get("text", "") for output in outputs)


ALONE = """
import sys
import keras, numpy
model = keras.models.load_model(sys.argv[1])
images = model.predict(numpy.zeros((2, model.input_shape[1]), "float32"), verbose=0)
assert images.shape == (2, 32, 32, 1) and 0 <= images.min() <= images.max() <= 1
assert not any(name.split(".")[0] in ("helpers", "tools") for name in sys.modules)
"""
RUN = """
import papermill, sys
folder, checkpoints, path, cwd = sys.argv[1:]
papermill.execute_notebook(path, "out.ipynb", {"profile": "smoke", "folder": folder, "size": 32,
    "steps": 5000, "checkpoints": checkpoints, "keep": "kept"}, cwd=cwd, progress_bar=False)
"""


@pytest.mark.slow
@posix
def test_two_grey_pictures_in_a_zip_survive_a_kill(tmp_path, rng):
    """A zip, grey, transparent, 32 pixels; kill -9; go on; open it without the course."""
    pictures = tmp_path / "pictures"
    save(pictures, "a.png", rng.integers(0, 256, (50, 40), np.uint8))
    clear = np.zeros((32, 32, 2), np.uint8)
    clear[8:24, 8:24, 1] = 255
    save(pictures, "b.png", clear)
    archive = shutil.make_archive(str(tmp_path / "mine"), "zip", pictures)
    checkpoints = tmp_path / "checkpoints"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, archive, str(checkpoints), str(PATH), str(PATH.parent)],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 600
        while not list(checkpoints.glob("ckpt-*.index")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reached = max(int(re.search(r"\d+", p.name)[0]) for p in checkpoints.glob("ckpt-*.index")) * 5

    out = tmp_path / "second.ipynb"
    papermill.execute_notebook(str(PATH), str(out), **papermill_options(
        folder=archive, size=32, steps=reached + 5, checkpoints=str(checkpoints),
        keep=str(tmp_path / "kept")))  # fmt: skip
    text = printed(out)
    assert f"Going on from step {reached}" in text
    assert "2 pictures in grey" in text and "All 2 pictures are trained on" in text
    results = notebooks.collect_results(nbformat.read(out, as_version=4))
    assert results.keys() >= {"kid_left_out", "copied_share", "distinct_neighbours"}
    card = (tmp_path / "kept" / "card.md").read_text(encoding="utf-8")
    assert f"| steps | {reached + 5} |" in card and "To be filled in by you" in card
    assert len(list((tmp_path / "kept" / "pictures").glob("*.png"))) == 64
    assert (tmp_path / "kept" / "saved_model" / "saved_model.pb").is_file()
    command = [sys.executable, "-c", ALONE, str(tmp_path / "kept" / "generator.keras")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_ninety_colourful_pictures_with_128_pixels(tmp_path, rng):
    """WebP and JPEG, 90 pictures, a limit, no mirror: nothing is put aside, and it says so."""
    for number in range(90):
        pixels = np.full((140, 130, 3), rng.integers(0, 256, 3), np.uint8)
        pixels[number : number + 40, 30:90] = rng.integers(0, 256, 3)
        ending = "webp" if number % 2 else "jpg"
        save(tmp_path / "pictures", f"{number:03d}.{ending}", pixels)
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(str(PATH), str(out), **papermill_options(
        folder=str(tmp_path / "pictures"), size=128, steps=5, limit=60, mirror=False,
        keep=str(tmp_path / "kept")))  # fmt: skip
    assert "All 60 pictures are trained on" in printed(out)
    results = notebooks.collect_results(nbformat.read(out, as_version=4))
    assert results["kid_left_out"]["label"].endswith("training pictures")
    assert results["kid_left_out"]["target"] is None
    opened = keras.models.load_model(REPOSITORY / tmp_path / "kept" / "generator.keras")
    assert opened.output_shape == (None, 128, 128, 3)
