"""Unpaired sets: drawn fruit, boots, own folders, and the official archives from a server."""

import functools
import hashlib
import http.server
import io
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from helpers import data, files
from helpers.sources import unpaired

rng = np.random.default_rng(0)


def picture(mode="RGB", size=(80, 60)):
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "P": 1}[mode]
    values = rng.integers(0, 256, (size[1], size[0], channels), np.uint8)
    image = Image.fromarray(values.squeeze(), "L" if mode == "P" else mode)
    return image.convert("P") if mode == "P" else image


def fill(folder, n=12):
    folder.mkdir(parents=True)
    for number in range(n):
        picture().save(folder / f"{number:03d}.png")
    return folder


def test_fruit_has_the_truth_for_testing_and_none_for_training():
    domains = unpaired.load("fruit", 32, 10, 3)
    assert domains.names == ("apple", "orange") and domains.paired
    assert domains.train_a.shape == domains.train_b.shape == (10, 32, 32, 3)
    assert domains.test_a.shape == domains.test_b.shape == (2, 32, 32, 3)
    assert domains.train_a.dtype == np.uint8
    corners = [x[:, :2, :2].astype(float) for x in (domains.test_a, domains.test_b)]
    np.testing.assert_allclose(*corners, atol=3)
    again = unpaired.load("fruit", 32, 10, 3)
    np.testing.assert_array_equal(domains.train_b, again.train_b)


def test_boots_are_the_two_classes_with_a_margin():
    domains = unpaired.load("boots", 32)
    images, labels = data.load("fashion-mnist", "train")
    assert domains.train_a.shape == (6000, 32, 32, 1) and not domains.paired
    np.testing.assert_array_equal(domains.train_a[:, 2:-2, 2:-2], images[labels == 7])
    assert domains.test_b.shape == (1000, 32, 32, 1) and domains.test_b[:, :2].max() == 0


def test_two_folders_of_any_size_and_mode(tmp_path, capsys):
    a, b = fill(tmp_path / "cats", 0), fill(tmp_path / "dogs")
    for number, (mode, size) in enumerate(
        [("RGB", (10, 300)), ("RGBA", (64, 64)), ("L", (33, 47)), ("P", (100, 20))]
    ):
        picture(mode, size).save(a / f"{number}.png")
    (a / "notes.txt").write_text("no picture")
    (a / "empty.jpg").write_bytes(b"")
    whole = (b / "000.png").read_bytes()
    (a / "cut.png").write_bytes(whole[: len(whole) // 2])
    (a / "below").mkdir()
    domains = unpaired.load("folder", 48, folders=[str(a), str(b)])
    assert domains.names == ("cats", "dogs")
    assert len(domains.train_a) + len(domains.test_a) == 4
    assert (len(domains.train_b), len(domains.test_b)) == (10, 2)
    assert domains.train_a.shape[1:] == (48, 48, 3)
    said = capsys.readouterr().out
    for name in ("notes.txt", "empty.jpg", "cut.png"):
        assert name in said
    assert len(said.splitlines()) == 1 and str(tmp_path) not in said


def test_pictures_are_cut_around_the_middle(tmp_path):
    folder = fill(tmp_path / "wide", 0)
    values = np.zeros((32, 96, 3), np.uint8)
    values[:, 32:64] = 200
    for name in ("a.png", "b.png"):
        Image.fromarray(values).save(folder / name)
    assert unpaired.read_folder(folder, 32)[:, :, 2:-2].min() == 200


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (None, "give the paths of two folders"),
        (["one"], "give the paths of two folders"),
        (["missing", "missing"], "There is no folder missing: give the path"),
    ],
)
def test_wrong_folders(folders, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(files.DataError, match=sentence):
        unpaired.load("folder", 32, folders=folders)


def test_one_picture_is_too_few(tmp_path):
    one, many = fill(tmp_path / "one", 1), fill(tmp_path / "many")
    with pytest.raises(files.DataError, match="has 1 usable pictures: put 2 or more"):
        unpaired.load("folder", 32, folders=[one, many])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"dataset": "pears"}, "There is no data set 'pears': use fruit, boots"),
     ({"size": 50}, "size is 50: give a multiple of 16"), ({"size": 16}, "32 or more")],
)  # fmt: skip
def test_wrong_arguments(arguments, sentence):
    with pytest.raises(files.DataError, match=sentence):
        unpaired.load(**arguments)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        body = self.server.files.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of archives like the official ones, and an empty cache."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files = {}
    threading.Thread(target=functools.partial(httpd.serve_forever, 0.05), daemon=True).start()
    monkeypatch.setenv("COURSE_CYCLEGAN_URL", f"http://127.0.0.1:{httpd.server_port}/sets/")
    monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(files, "PAUSE", 0.01)
    yield httpd
    httpd.shutdown()


def official():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part, n in (("trainA", 5), ("trainB", 4), ("testA", 2), ("testB", 3)):
            for number in range(n):
                content = io.BytesIO()
                picture(size=(70, 70)).save(content, "JPEG")
                archive.writestr(f"apple2orange/{part}/n{number}.jpg", content.getvalue())
    return buffer.getvalue()


def test_the_official_set_is_downloaded_once(server, capsys):
    body = official()
    server.files["/sets/apple2orange.zip"] = body
    sha256 = hashlib.sha256(body).hexdigest()
    domains = unpaired.load("apple2orange", 32, sha256=sha256)
    assert domains.names == ("apple", "orange") and not domains.paired
    parts = domains.train_a, domains.train_b, domains.test_a, domains.test_b
    assert [len(part) for part in parts] == [5, 4, 2, 3]
    assert "not commercial" in capsys.readouterr().out
    server.files.clear()
    again = unpaired.load("apple2orange", 32, sha256=sha256)
    np.testing.assert_array_equal(again.train_a, domains.train_a)


def test_another_archive_is_refused_and_leaves_nothing(server):
    server.files["/sets/apple2orange.zip"] = official()
    with pytest.raises(files.DownloadError, match="is not the expected file"):
        unpaired.load("apple2orange", 32)
    assert not list(files.CACHE.glob("apple2orange*"))


def test_a_broken_archive_is_a_sentence(server):
    body = official()[:-200]
    server.files["/sets/horse2zebra.zip"] = body
    with pytest.raises(files.ArchiveError, match="cannot be unpacked"):
        unpaired.load("horse2zebra", 32, sha256=hashlib.sha256(body).hexdigest())
    assert not list(files.CACHE.glob("horse2zebra*"))


def test_no_network_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CYCLEGAN_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(files, "CACHE", tmp_path)
    with pytest.raises(files.DownloadError, match="stay with the data that the course carries"):
        unpaired.load("horse2zebra", 32, attempts=1, timeout=2)
