"""Unpaired sets: drawn fruit, boots, own folders, photographs and archives from a server."""

import functools
import hashlib
import http.server
import io
import pathlib
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from helpers import data, files
from helpers.sources import unpaired


def picture(mode="RGB", size=(80, 60), seed=0):
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "P": 1}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    image = Image.fromarray(values.squeeze(), "L" if mode == "P" else mode)
    return image.convert("P") if mode == "P" else image


def fill(folder, n=12):
    folder.mkdir(parents=True)
    for number in range(n):
        picture(seed=number).save(folder / f"{number:03d}.png")
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
    assert [line.split(":")[0] for line in said.splitlines()] == [
        "Left out of cats", "cats has 4 pictures", "dogs has 12 pictures"
    ]  # fmt: skip
    assert str(tmp_path) not in said


@pytest.mark.parametrize(("n", "test"), [(2, 1), (8, 1), (11, 2), (100, 10), (20000, 500)])
def test_a_part_is_kept_for_testing(n, test):
    images = np.arange(n)
    kept, tested = unpaired._split(images)
    assert len(tested) == test
    assert sorted([*kept, *tested]) == images.tolist()


def test_folders_of_equal_names_and_zips(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
    a, b = fill(tmp_path / "cats" / "train", 3), fill(tmp_path / "dogs" / "train", 5)
    assert unpaired.load("folder", 32, folders=[a, b]).names == ("cats/train", "dogs/train")
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        for path in a.iterdir():
            archive.write(path, f"birds/{path.name}")
    domains = unpaired.load("folder", 32, folders=[tmp_path / "birds.zip", b])
    assert domains.names == ("birds", "train") and len(domains.train_a) == 2


@pytest.mark.parametrize(
    "text",
    ['["{a}", "{b}"]', "['{a}', '{b}']", '("{a}", "{b}")', "[{a}, {b}]", ' [ "{a}" , "{b}" ] '],
)
@pytest.mark.parametrize("names", [("a", "b"), ("with blank", "Äpfel 图"), ("C:\\boots", "n\\t")])
def test_a_list_that_came_as_text(text, names, tmp_path):
    given = text.format(a=names[0], b=names[1])
    assert unpaired._two(given) == list(names)


def test_a_comma_inside_of_a_quoted_path():
    assert unpaired._two('["red, green", "b"]') == ["red, green", "b"]


def test_options_are_checked_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = fill(tmp_path / "a", 2), fill(tmp_path / "b", 2)
    assert unpaired.check("folder", f'["{a.name}", "{b.name}"]') == [
        pathlib.Path("a"), pathlib.Path("b")
    ]  # fmt: skip
    for dataset in ("fruit", "boots", "grocery", "apple2orange", "horse2zebra"):
        assert unpaired.check(dataset) == []


@pytest.mark.parametrize(
    ("dataset", "folders", "sentence"),
    [
        ("folder", None, "give the paths of two folders, .* -y 'folders:"),
        ("folder", ["one"], "give the paths of two folders"),
        ("folder", "one", "give the paths of two folders"),
        ("folder", ["a", "b", "c"], "give the paths of two folders"),
        ("folder", 5, "give the paths of two folders"),
        ("folder", ["missing", "a"], "There is no folder missing in .*: correct the path"),
        ("folder", ["a", "a"], "Both folders are a: give two different ones"),
        ("folder", ["a", "empty"], "The folder empty is empty"),
        ("folder", ["one", "a"], "one has 1 usable pictures: put 2 or more"),
        ("folder", ["a", "above"], r"give one of the folders in it \(cats\)"),
        ("fruit", ["a", "b"], 'folders are given, but dataset is "fruit": set dataset = "folder"'),
        ("Boots", None, "There is no data set 'Boots': use fruit, boots, grocery"),
    ],
)
def test_wrong_options_are_one_sentence(dataset, folders, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "a", 2)
    fill(tmp_path / "one", 1)
    fill(tmp_path / "above" / "cats", 2)
    (tmp_path / "empty").mkdir()
    for call in (
        unpaired.check,
        lambda *options: unpaired.load(options[0], 32, folders=options[1]),
    ):
        with pytest.raises(files.DataError, match=sentence) as problem:
            call(dataset, folders)
        assert "\n" not in str(problem.value)


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
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture
def server(download_cache, monkeypatch):
    """A server of archives like the official ones, and an empty cache."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files, httpd.asked = {}, []
    threading.Thread(target=functools.partial(httpd.serve_forever, 0.05), daemon=True).start()
    monkeypatch.setenv("COURSE_CYCLEGAN_URL", f"http://127.0.0.1:{httpd.server_port}/sets/")
    monkeypatch.setenv("COURSE_GROCERY_URL", f"http://127.0.0.1:{httpd.server_port}/grocery/")
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
    assert "not commercial" in capsys.readouterr().out  # it is shown again
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


def test_the_list_of_photographs_is_of_unambiguous_kinds():
    entries = unpaired.grocery_files()
    kinds = {entry["path"].split("/")[-2] for entry in entries if entry["fruit"] == "apple"}
    assert kinds == {"Red-Delicious", "Granny-Smith"}
    assert all("/Orange/" in e["path"] for e in entries if e["fruit"] == "orange")
    for split in ("train", "test"):
        for fruit in ("apple", "orange"):
            assert sum((e["split"], e["fruit"]) == (split, fruit) for e in entries) > 50
    assert len({entry["sha256"] for entry in entries}) == len(entries)
    for entry in entries:
        assert len(entry["sha256"]) == 64 and 5000 < int(entry["bytes"]) < 100_000
        assert entry["path"].startswith("test/") == (entry["split"] == "test")
    assert unpaired.GROCERY_ADDRESS == (
        "https://raw.githubusercontent.com/marcusklasson/GroceryStoreDataset/"
        "fc80ba90f803d79d0383df52c5a4ac5de99ff6fc/dataset/"
    )


@pytest.fixture
def grocery(server, monkeypatch):
    """Twelve made photographs on the server, and the list of them."""
    entries = []
    for number in range(12):
        content = io.BytesIO()
        picture(seed=number).save(content, "JPEG")
        body = content.getvalue()
        path = f"train/Fruit/{number}.jpg"
        server.files[f"/grocery/{path}"] = body
        entries.append({
            "path": path, "fruit": ("apple", "orange")[number % 2],
            "split": "test" if number < 4 else "train", "bytes": str(len(body)),
            "sha256": hashlib.sha256(body).hexdigest(),
        })  # fmt: skip
    monkeypatch.setattr(unpaired, "grocery_files", lambda: entries)
    return server


def test_photographs_are_downloaded_once(grocery, capsys):
    domains = unpaired.load("grocery", 32)
    assert domains.names == ("apple", "orange") and not domains.paired
    parts = domains.train_a, domains.train_b, domains.test_a, domains.test_b
    assert [len(part) for part in parts] == [4, 4, 2, 2]
    said = capsys.readouterr().out
    for word in ("Klasson", "Zhang", "Kjellström", "WACV 2019", "MIT", "Red Delicious"):
        assert word in said
    asked = len(grocery.asked)
    assert asked == 12
    again = unpaired.load("grocery", 32)
    assert len(grocery.asked) == asked  # nothing is asked for a second time
    np.testing.assert_array_equal(again.train_a, domains.train_a)
    assert "Klasson" in capsys.readouterr().out  # the licence is


def test_a_download_that_stopped_goes_on_where_it_was(grocery):
    missing = "/grocery/train/Fruit/7.jpg"
    body = grocery.files.pop(missing)
    with pytest.raises(files.DownloadError, match="it goes on where it stopped"):
        unpaired.load("grocery", 32)
    grocery.files[missing] = body
    grocery.asked.clear()
    assert len(unpaired.load("grocery", 32).train_b) == 4
    assert grocery.asked == [f"/grocery/train/Fruit/{n}.jpg" for n in range(7, 12)]


def test_a_photograph_that_was_altered_is_fetched_again_or_refused(grocery):
    first = unpaired.load("grocery", 32)
    path = next(files.CACHE.glob("grocery-*/train/Fruit/5.jpg"))
    path.write_bytes(b"altered")
    np.testing.assert_array_equal(unpaired.load("grocery", 32).train_b, first.train_b)
    path.write_bytes(b"altered")
    wrong = bytearray(grocery.files["/grocery/train/Fruit/5.jpg"])
    wrong[-1] ^= 1
    grocery.files["/grocery/train/Fruit/5.jpg"] = bytes(wrong)
    with pytest.raises(files.DownloadError, match="is not the expected file"):
        unpaired.load("grocery", 32)
