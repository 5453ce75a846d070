"""Data: the committed files, what happens to damaged ones, ranges and batches."""

import gzip
import hashlib
import io
import json
import lzma
import re
import runpy
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf

from helpers import data, files
from tools import pack_data

IMAGES, LABELS = "mnist/train-images-idx3-ubyte.xz", "mnist/train-labels-idx1-ubyte.xz"
# Facts that others published: images per digit (LeCun's page), mean and sd of the training pixels
# in [0, 1] (the numbers everybody normalises by).
PER_CLASS = {
    ("mnist", "train"): [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    ("mnist", "test"): [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ("fashion-mnist", "train"): [6000] * 10,
    ("fashion-mnist", "test"): [1000] * 10,
}
MOMENTS = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}


def idx(array: np.ndarray, magic: bytes = b"\0\0\x08") -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return magic + bytes([array.ndim]) + shape + array.astype(np.uint8).tobytes()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path)
    (tmp_path / "mnist").mkdir()
    store(tmp_path, IMAGES, idx(np.arange(12 * 784).reshape(12, 28, 28) % 251))
    store(tmp_path, LABELS, idx(np.arange(12) % 10))
    return tmp_path


def store(root, relative: str, original: bytes, packed: bytes | None = None) -> None:
    """Write a packed file and enter its original in the manifest."""
    (root / relative).write_bytes(lzma.compress(original) if packed is None else packed)
    path = root / "manifest.json"
    listed = json.loads(path.read_text("utf-8"))["files"] if path.exists() else {}
    listed[relative] = {"sha256": hashlib.sha256(original).hexdigest(), "bytes": len(original)}
    path.write_text(json.dumps({"files": listed}), encoding="utf-8")


def refused(relative: str, what: str) -> None:
    """Loading must fail with one sentence that names the file and the remedy."""
    with pytest.raises(files.DataError) as error:
        data.load("mnist", "train")
    message = str(error.value)
    assert str(files.DATA / relative) in message and re.search(what, message), message
    assert f"git checkout -- data/{relative}" in message or "replace" in message
    assert "\n" not in message and message.endswith(".")


# the committed files


@pytest.mark.parametrize(("name", "split"), PER_CLASS)
def test_a_committed_set_is_the_published_one(name, split):
    images, labels = data.load(name, split)
    n = {"train": 60000, "test": 10000}[split]
    assert images.shape == (n, 28, 28, 1) and images.dtype == np.uint8
    assert labels.shape == (n,) and labels.dtype == np.int32
    assert (images.min(), images.max()) == (0, 255)
    assert np.bincount(labels).tolist() == PER_CLASS[name, split]
    assert images.flags.writeable and labels.flags.writeable
    if split == "train":
        pixels = images[::3] / 255
        assert (pixels.mean(), pixels.std()) == pytest.approx(MOMENTS[name], abs=0.002)
        if name == "mnist":
            assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert len(data.CLASSES[name]) == 10


def test_readme_and_manifest_say_the_same():
    readme = (files.DATA / "README.md").read_text(encoding="utf-8")
    listed, sets = files.manifest(), files.manifest("sets")
    packed = [path for path in listed if path.endswith(".xz")]
    assert len(packed) == 8
    for path in packed:
        entry = listed[path]
        original = lzma.decompress((files.DATA / path).read_bytes())
        assert entry["sha256"] == hashlib.sha256(original).hexdigest()
        row = next(line for line in readme.splitlines() if f"`{path}`" in line)
        assert entry["sha256"] in row and f"{entry['bytes']:,}" in row
    assert {path.split("/")[0] for path in listed} == set(sets)
    for name in data.NAMES:
        assert sets[name]["licence"].split(" (")[0] in readme
        assert re.search(r"package (\S+)", sets[name]["source"])[1].strip(",") in readme
    on_disk = {p.relative_to(files.DATA).as_posix() for p in files.DATA.glob("*/*.*")}
    modules = {path for path in listed if path.startswith("hub/")}
    assert {path for path in on_disk if path.endswith((".xz", ".h5", ".txt", ".zip"))} == set(
        listed
    ) - modules
    in_modules = {p for p in (files.DATA / "hub").rglob("*") if p.is_file()}
    assert {p.relative_to(files.DATA).as_posix() for p in in_modules} == modules


def test_another_folder_by_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert runpy.run_path(files.__file__)["DATA"] == tmp_path
    monkeypatch.setenv("COURSE_DATA", "")
    root = runpy.run_path(files.__file__)["DATA"]
    assert (root / "manifest.json").is_file() and root.name == "data"


# damaged files


def test_a_whole_set_loads(root):
    images, labels = data.load("mnist", "train")
    assert (images.ravel() == np.arange(12 * 784) % 251).all()
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_every_flipped_byte_and_every_cut_is_noticed(root):
    path = root / LABELS
    whole = path.read_bytes()
    for position in range(len(whole)):
        flipped = whole[position] ^ (1 << position % 8)
        path.write_bytes(whole[:position] + bytes([flipped]) + whole[position + 1 :])
        refused(LABELS, "is damaged|has been altered|ends after|holds more")
        path.write_bytes(whole[:position])
        refused(LABELS, "is damaged .*truncated")
    path.write_bytes(whole + b"\0")
    refused(LABELS, "is damaged .*follow")
    path.write_bytes(whole)
    data.load("mnist", "train")


@pytest.mark.parametrize("file", ["images-idx3", "labels-idx1"])
def test_a_missing_file_names_the_ways_to_get_it(root, file):
    relative = f"mnist/train-{file}-ubyte.xz"
    (root / relative).unlink()
    refused(relative, r"is missing: restore it .*, or delete it and call data.fetch\('mnist'\)")


def test_a_good_xz_file_of_something_else_is_noticed(root):
    original = lzma.decompress((root / LABELS).read_bytes())
    (root / LABELS).write_bytes(lzma.compress(original[:-1] + b"\3"))
    refused(LABELS, "has been altered")
    (root / LABELS).write_bytes(lzma.compress(original[:-1]))
    refused(LABELS, "ends after 19 of 20 bytes")
    (root / LABELS).write_bytes(lzma.compress(original) + lzma.compress(original))
    refused(LABELS, "is damaged .*follow")


def test_a_bomb_is_left_before_it_takes_memory(root):
    compressor = lzma.LZMACompressor(preset=1)
    zeros = bytes(2**20)
    packed = b"".join([compressor.compress(zeros) for _ in range(200)] + [compressor.flush()])
    assert len(packed) < 100_000
    (root / LABELS).write_bytes(packed)
    tracemalloc.start()
    refused(LABELS, "holds more than the 20 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20  # of 200


def test_a_header_that_asks_for_four_gigabytes_is_refused(root):
    """The size of xz's dictionary is byte 16; the block's header ends with its own CRC32."""
    packed = bytearray((root / LABELS).read_bytes())
    end = 12 + 4 * (packed[12] + 1)
    assert packed[14:16] == b"\x21\x01"  # LZMA2, one byte of properties
    packed[16] = 40
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    (root / LABELS).write_bytes(packed)
    refused(LABELS, "is damaged .*[Mm]emory")


@pytest.mark.parametrize(
    ("relative", "original", "what"),
    [
        (LABELS, idx(np.arange(12), b"\0\0\x0d"), r"begins with 00 00 0d 01"),
        (LABELS, idx(np.arange(12))[:-1], r"12 values of shape \(12,\) and holds 11"),
        (LABELS, b"", "begins with nothing"),
        (LABELS, idx(np.arange(11) % 10), r"\(12, 28, 28\) and \(11,\), not"),
        (LABELS, idx(np.zeros((12, 1))), r"\(12, 28, 28\) and \(12, 1\), not"),
        (LABELS, idx(np.arange(12)), "a label 11, but 0 to 9 exist"),
        (IMAGES, idx(np.zeros((12, 28, 27))), r"\(12, 28, 27\) and \(12,\), not"),
        (IMAGES, idx(np.zeros((12, 784))), r"\(12, 784\) and"),
        (IMAGES, idx(np.zeros(12)), r"\(12,\) and"),
    ],
)
def test_a_file_with_the_right_sha256_and_a_wrong_content(root, relative, original, what):
    store(root, relative, original)
    refused(relative, what)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\0",
        b"\0\0\x08\5" + bytes(20),
        b"\0\0\x08\3" + bytes(11),
        b"\0\0\x08\4" + b"\xff" * 16,  # promises 2**128 bytes
        b"\0\0\x08\1" + struct.pack(">I", 3) + b"ab",
        b"\0\0\x08\1" + struct.pack(">I", 3) + b"abcd",
        gzip.compress(idx(np.arange(3)), mtime=0),
    ],
)
def test_the_reader_of_idx_is_safe_alone(content):
    with pytest.raises(files.DataError, match=r"^some file .*: replace it\.$"):
        data.read_idx(content, "some file")


def test_the_reader_of_idx_reads_every_shape():
    for shape in [(5,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (0, 28, 28)]:
        array = np.arange(np.prod(shape)).reshape(shape)
        read = data.read_idx(idx(array))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)


def test_an_unpacked_file_is_read_and_checked_too(root):
    original = lzma.decompress((root / LABELS).read_bytes())
    (root / LABELS).unlink()
    raw = (root / LABELS).with_suffix("")
    raw.write_bytes(original)
    assert data.load("mnist", "train")[1].sum() == 46
    raw.write_bytes(original + b"\0")
    with pytest.raises(files.DataError, match=r"labels-idx1-ubyte holds more than the 20 bytes"):
        data.load("mnist", "train")


def test_a_file_that_is_stored_as_it_is(root):
    (root / "reference").mkdir()
    store(root, "reference/a.weights.h5", b"weights", packed=b"weights")
    assert files.checked_path("reference/a.weights.h5").read_bytes() == b"weights"
    (root / "reference/a.weights.h5").write_bytes(b"weight!")
    with pytest.raises(files.DataError, match=r"altered.*git checkout -- data/ref[^,]*\.h5\)\.$"):
        files.checked_path("reference/a.weights.h5")


@pytest.mark.parametrize(
    "text", [None, "{", "[]", "{}", '{"files": 3}', '{"files": {"mnist": "x"}}']
)
def test_a_missing_or_damaged_manifest(root, text):
    (root / "manifest.json").unlink()
    if text is not None:
        (root / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(files.DataError, match=r"manifest\.json cannot be read .*git checkout"):
        data.load("mnist", "train")


def test_names_that_do_not_exist(root):
    for name, split in [("cifar", "train"), ("mnist", "valid"), ("../mnist", "train")]:
        with pytest.raises(files.DataError, match="use mnist or fashion-mnist, and train or test"):
            data.load(name, split)
    with pytest.raises(files.DataError, match="does not list mnist/secret"):
        files.checked_path("mnist/secret")
    with pytest.raises(files.DataError, match="no data set 'cifar'"):
        data.fetch("cifar")


# ranges


def test_ranges_of_arrays_and_tensors_are_the_same():
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    exact = np.arange(256).reshape(2, 128) / 255
    for images in (pixels, tf.constant(pixels)):
        unit, symmetric = data.to_unit(images), data.to_symmetric(images)
        assert tf.is_tensor(unit) == tf.is_tensor(symmetric) == tf.is_tensor(images)
        np.testing.assert_allclose(unit, exact, rtol=1e-6)
        np.testing.assert_allclose(symmetric, 2 * exact - 1, atol=1e-6)
        assert np.max(unit) == np.max(symmetric) == 1 and np.min(symmetric) == -1
        back = data.from_symmetric(symmetric)
        np.testing.assert_allclose(back, exact, atol=1e-6)
        for result in (unit, symmetric, back):
            assert np.asarray(result).dtype == np.float32
        beyond = data.from_symmetric(symmetric * 3)
        assert np.min(beyond) == 0 and np.max(beyond) == 1


def test_turning_images_twice_is_refused():
    for images in (np.zeros(3, np.float32), tf.zeros(3)):
        with pytest.raises(ValueError, match="images are float32: give uint8"):
            data.to_unit(images)


# batches


def take(count, *arguments, **options):
    return list(data.batches(*arguments, **options).take(count).as_numpy_iterator())


def orders(n, seed, epochs):
    """Return whole epochs: with one batch to an epoch, it is the order itself."""
    return np.array(take(epochs, np.arange(n), n, seed))


def test_a_batch_follows_from_seed_and_step():
    numbers = np.arange(103)
    first = take(40, numbers, 10, 7)
    np.testing.assert_array_equal(first, take(40, numbers, 10, 7))
    for start in (1, 9, 10, 25):
        np.testing.assert_array_equal(first[start:], take(40 - start, numbers, 10, 7, start=start))
    assert not np.array_equal(first, take(40, numbers, 10, 8))
    assert not np.array_equal(first[:10], first[10:20])
    # The same on every machine and with every version: all of the recorded results hang on it.
    pinned = [24638, 39633, 43314, 42975, 35842, 27019]
    assert take(1, np.arange(60000), 6, 0)[0].tolist() == pinned


def test_far_steps_and_large_seeds():
    far = 10**12 + 7
    numbers = np.arange(50)
    np.testing.assert_array_equal(
        take(8, numbers, 7, 2**32 - 1, start=far)[3:], take(5, numbers, 7, 2**32 - 1, start=far + 3)
    )


@pytest.mark.parametrize(("n", "size"), [(100, 10), (103, 10), (10, 10), (7, 1), (1, 1), (257, 64)])
def test_an_epoch_has_each_image_once_at_most(n, size):
    steps = n // size
    batches = take(3 * steps, np.arange(n), size, 3)
    for epoch in range(3):
        seen = np.concatenate(batches[epoch * steps : (epoch + 1) * steps])
        assert len(set(seen.tolist())) == len(seen) == steps * size


def test_each_image_is_in_each_place_equally_often():
    """Pearson's statistic of (place, image), and the images that an epoch leaves out."""
    epochs, n = 2000, 10
    batches = np.reshape(take(2 * epochs, np.arange(n), 4, 1), (epochs, 8))
    counts = np.array([np.bincount(place, minlength=n) for place in batches.T])
    statistic = ((counts - epochs / n) ** 2).sum() / (epochs / n)
    freedom = 8 * (n - 1)
    assert abs(statistic - freedom) < 4.5 * np.sqrt(2 * freedom)
    left_out = epochs - counts.sum(axis=0)
    assert np.abs(left_out - 0.2 * epochs).max() < 4.5 * np.sqrt(epochs * 0.8 * 0.2)


@pytest.mark.parametrize("n", [60000, 10000, 1000])
def test_the_orders_are_independent(n):
    """Of epochs, of seeds, and within one: correlations times sqrt(n) are like N(0, 1)."""
    found = np.concatenate([orders(n, 0, 12), orders(n, 1, 6), orders(n, 2, 6)])
    assert (np.sort(found) == np.arange(n)).all()
    between = np.corrcoef(found)[np.triu_indices(len(found), 1)] * np.sqrt(n)
    within = [np.corrcoef(order[:-1], order[1:])[0, 1] * np.sqrt(n) for order in found]
    natural = [np.corrcoef(order, np.arange(n))[0, 1] * np.sqrt(n) for order in found]
    for values in (between, within, natural):
        assert np.abs(values).max() < 4.5
        assert np.std(values) < 1.6
    same = [(found[i] == found[j]).sum() for i in range(len(found)) for j in range(i)]
    assert 0.75 < np.mean(same) < 1.25  # two random orders agree in one place on average


def test_images_keep_their_labels_and_their_type():
    n = 500
    labels = (np.arange(n) % 10).astype(np.int32)
    for dtype in (np.uint8, np.float32):
        images = np.broadcast_to(np.arange(n).reshape(n, 1, 1, 1) % 250, (n, 4, 4, 1)).astype(dtype)
        dataset = data.batches(images, 32, 0, labels)
        assert dataset.cardinality() < 0  # no end that is known: fit asks for steps_per_epoch
        specs = dataset.element_spec
        assert specs[0].shape == (32, 4, 4, 1) and specs[0].dtype == dtype
        assert specs[1].shape == (32,) and specs[1].dtype == tf.int32
        for part, of_part in dataset.take(40).as_numpy_iterator():
            # 250 is a multiple of 10: the value of an image tells its label
            np.testing.assert_array_equal(part[:, 0, 0, 0] % 10, of_part)
        alone = take(5, images, 32, 0)
        np.testing.assert_array_equal(
            alone, [pair[0] for pair in dataset.take(5).as_numpy_iterator()]
        )
        tensor = take(5, tf.constant(images), 32, 0)
        np.testing.assert_array_equal(alone, tensor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 101}, "batch_size is 101: give a number from 1 to 100"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"labels": np.zeros(99)}, "100 images and 99 labels"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"start": -1}, "start -1"),
    ],
)
def test_wrong_numbers_say_what_to_give(options, message):
    with pytest.raises(ValueError, match=message):
        data.batches(np.zeros(100), **{"batch_size": 10, "seed": 0} | options)


# tools.pack_data


@pytest.fixture
def originals(tmp_path):
    folder = tmp_path / "originals"
    (folder / "mnist").mkdir(parents=True)
    arrays = {"t10k-images-idx3": np.ones((4, 28, 28)), "t10k-labels-idx1": np.arange(4)}
    for file, array in arrays.items():
        (folder / "mnist" / f"{file}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return folder


@pytest.fixture
def described(root):
    content = {"sets": {"mnist": {}}, "files": {"reference/x.h5": {"sha256": "0", "bytes": 1}}}
    (root / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def test_packing_makes_files_that_load(described, originals, capsys):
    assert pack_data.main([str(originals)]) == 0
    images, labels = data.load("mnist", "test")
    assert images.shape == (4, 28, 28, 1) and images.min() == 1 and labels.tolist() == [0, 1, 2, 3]
    assert files.manifest()["reference/x.h5"] == {"sha256": "0", "bytes": 1}
    before = (described / "manifest.json").read_bytes()
    capsys.readouterr()
    assert pack_data.main([str(originals)]) == 0
    assert capsys.readouterr().out.count("was packed already") == 2
    assert (described / "manifest.json").read_bytes() == before
    path = described / "mnist" / "t10k-labels-idx1-ubyte.xz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])  # a damaged one is packed again
    assert pack_data.main([str(originals)]) == 0
    assert path.read_bytes() == whole


def test_packing_refuses_other_files(described, originals, tmp_path, capsys):
    assert pack_data.main([str(tmp_path / "nowhere")]) == 1
    assert pack_data.main([str(originals)]) == 0
    path = originals / "mnist" / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    for content, message in [
        (gzip.compress(idx(np.zeros(4)), mtime=0), "is not the original of mnist/t10k-labels"),
        (whole[:-9], "is damaged"),
        (gzip.compress(b"something else", mtime=0), "does not begin as an IDX file"),
    ]:
        path.write_bytes(content)
        capsys.readouterr()
        assert pack_data.main([str(originals)]) == 1
        assert message in capsys.readouterr().err
    assert data.load("mnist", "test")[1].tolist() == [0, 1, 2, 3]
    (originals / "mnist").rename(originals / "kmnist")
    assert pack_data.main([str(originals)]) == 1
    assert "does not say where kmnist comes from" in capsys.readouterr().err


@pytest.mark.parametrize("name", data.NAMES)
def test_the_committed_labels_are_what_the_tool_makes(name):
    packed = (files.DATA / name / "t10k-labels-idx1-ubyte.xz").read_bytes()
    original = bytes(files.read_xz(io.BytesIO(packed), 10008))
    assert lzma.decompress(pack_data.compress(original)) == original
    assert len(pack_data.compress(original)) <= len(packed) * 1.02
