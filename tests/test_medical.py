"""Patients: simulated, official (from a server of the test), from folders, and the table."""

import functools
import hashlib
import http.server
import io
import threading

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from helpers import files
from helpers.sources import patients

rng = np.random.default_rng(0)


def test_simulated_patients_are_never_on_both_sides():
    train, test = patients.load("lesions", 20, 3, test_per_class=30)
    assert train.images.shape == (60, 28, 28, 1) and len(test.labels) == 90
    assert not set(train.patients) & set(test.patients)
    assert not {x.tobytes() for x in train.images} & {x.tobytes() for x in test.images}
    other, again = patients.load("lesions", 20, 4, test_per_class=30)
    np.testing.assert_array_equal(test.images, again.images)
    assert not set(other.patients) & set(train.patients)
    with pytest.raises(files.DataError, match="no data set 'x': use lesions, breastmnist"):
        patients.load("x")


def fill(root, patients=12, pictures=2):
    for name in ("ill", "healthy"):
        (root / name).mkdir(parents=True)
        for patient in range(patients):
            for view in range(pictures):
                mode = ("L", "RGB", "RGBA")[view % 3]
                size = (40 + view, 30, {"L": 1, "RGB": 3, "RGBA": 4}[mode])
                picture = rng.integers(0, 256, size, np.uint8).squeeze()
                Image.fromarray(picture, mode).save(root / name / f"{name}{patient}_{view}.png")
    return root


def test_a_folder_is_split_by_patient(tmp_path, capsys):
    root = fill(tmp_path / "set")
    (root / "ill" / "notes.txt").write_text("no picture")
    train, test = patients.load("folder", folder=root)
    assert train.names == ("healthy", "ill")
    assert len(train.labels) + len(test.labels) == 48
    assert not set(train.patients) & set(test.patients) and len(set(test.patients)) == 6
    assert train.images.shape[1:] == (28, 28, 1) and train.images.dtype == np.uint8
    assert "ill/notes.txt" in capsys.readouterr().out
    assert patients.patient_of("p012_slice3.png") == "p012"


@pytest.mark.parametrize("case", ["missing", "one class", "few"])
def test_folders_that_will_not_do(tmp_path, case):
    root = tmp_path / "set"
    message = {"missing": "no folder", "one class": "1 subfolders", "few": "too few patients"}
    if case == "one class":
        (root / "ill").mkdir(parents=True)
    elif case == "few":
        fill(root, 1, 1)
    with pytest.raises(files.DataError, match=message[case]):
        patients.load("folder", folder=root)


def test_a_copy_on_both_sides_of_a_folder_is_refused(tmp_path):
    root = fill(tmp_path / "set")
    same = (root / "ill" / "ill0_0.png").read_bytes()
    for patient in range(12):
        (root / "ill" / f"ill{patient}_9.png").write_bytes(same)
    with pytest.raises(files.DataError, match="pictures are in training and test"):
        patients.load("folder", folder=root)


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("COURSE_MEDMNIST_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
        yield folder
        running.shutdown()


def archive(shared=0, **extra):
    arrays = {}
    for part, n in (("train", 30), ("val", 6), ("test", 12)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.uint8(np.arange(n)[:, None] % 2)
    arrays["test_images"][:shared] = arrays["train_images"][:shared]
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays, **extra)
    return stream.getvalue(), arrays


def test_an_official_set_from_a_server(server, capsys):
    content, arrays = archive(shared=2)
    (server / "breastmnist.npz").write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    train, test = patients.load("breastmnist", md5=md5)
    assert len(train.labels) == 36 and len(test.labels) == 10  # two copies are left out
    np.testing.assert_array_equal(train.images[30:, ..., 0], arrays["val_images"])
    assert train.names == ("malignant", "normal or benign")
    assert "Left out 2 test pictures" in capsys.readouterr().out
    (server / "breastmnist.npz").unlink()
    patients.load("breastmnist", md5=md5)  # from the cache


def test_another_file_is_removed(server, tmp_path):
    (server / "breastmnist.npz").write_bytes(archive()[0])
    with pytest.raises(files.DownloadError, match="not the official file"):
        patients.load("breastmnist")
    assert not list((tmp_path / "cache").glob("*.npz"))


def test_objects_in_an_archive_are_never_unpickled(server):
    content, _ = archive(surprise=np.array([{"code": 1}], dtype=object))
    (server / "breastmnist.npz").write_bytes(content)
    with pytest.raises(ValueError, match="allow_pickle"):
        patients.load("breastmnist", md5=hashlib.md5(content).hexdigest())


def test_the_table_is_split_by_patient_and_scaled_by_the_few():
    features, benign = datasets.load_breast_cancer(return_X_y=True)
    few, many, test = patients.wisconsin(20, 80, 1)
    assert [len(part[1]) for part in (few, many, test)] == [40, 200, 285]
    np.testing.assert_array_equal(many[0][:40], few[0])
    assert few[0].min(axis=0).tolist() == [0] * 30 and few[0].max(axis=0).tolist() == [255] * 30
    assert np.bincount(few[1]).tolist() == [20, 20] and test[1].mean() == pytest.approx(
        0.37, abs=0.01
    )
    rows = [set(map(bytes, part[0])) for part in (many, test)]
    assert not rows[0] & rows[1]
    assert benign.sum() == 357 and features.shape == (569, 30)
    with pytest.raises(ValueError, match="at most 106 patients"):
        patients.wisconsin(20, 100, 1)
