"""Downloads and archives, against a local server that does everything wrong that a server can."""

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from helpers import data, files

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /<way>/<file>; the way says what goes wrong, the server's files have the content."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        way, name = self.path.strip("/").split("/", 1)
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        body, times = self.server.files.get(name), len(self.server.requests)
        if way == "404" or body is None:
            return self.send_error(404)
        if way == "503" or (way == "busy" and times < 3):
            return self.send_error(503)
        if way == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/plain/{name}")
            return self.end_headers()
        begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if begin and begin >= len(body):
            return self.send_error(416)
        ranged = begin and way != "norange"
        part = body[begin:] if ranged else body
        self.send_response(206 if ranged else 200)
        if ranged:
            shown = 0 if way == "wrongrange" else begin
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        if way in ("chunked", "endless", "broken"):
            self.send_header("Transfer-Encoding", "chunked")
        elif way != "nolength":
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the other side may have gone
            self.send(way, part)

    def send(self, way, part):
        first = not self.headers.get("Range")
        if way in ("chunked", "endless", "broken"):
            for start in range(0, len(part), 65536):
                chunk = part[start : start + 65536]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if way == "broken" and first:
                    return None
            while way == "endless":
                self.wfile.write(b"%x\r\n%s\r\n" % (65536, bytes(65536)))
            self.wfile.write(b"0\r\n\r\n")
        elif way == "truncate":
            self.wfile.write(part[:100_000])
        elif way in ("stall", "stall-once") and (first or way == "stall"):
            self.wfile.write(part[:50_000])
            self.wfile.flush()
            self.server.closing.wait(20)
        else:
            self.wfile.write(part)


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.files, made.requests, made.closing = {"a.bin": CONTENT}, [], threading.Event()
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.closing.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def quick(download_cache):
    pass


def fails(message: str, *arguments, error=files.DownloadError, call=None, **options) -> str:
    with pytest.raises(error) as caught:
        (call or files.download)(*arguments, **options)
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text and text.endswith(".")
    return text


# download


@pytest.mark.parametrize("way", ["plain", "chunked", "nolength", "redirect"])
def test_a_file_arrives_whole_and_once(server, way):
    url = f"{server.url}/{way}/a.bin?version=1"
    server.files["a.bin?version=1"] = CONTENT
    path = files.download(url, SHA256)
    assert path.parent == files.CACHE and path.name == f"{SHA256[:12]}-a.bin"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    count = len(server.requests)
    assert files.download(url, SHA256) == path
    assert len(server.requests) == count


def test_a_connection_that_ends_early_is_resumed(server, tmp_path):
    path = tmp_path / "new" / "a.bin"
    files.download(f"{server.url}/truncate/a.bin", SHA256, path)
    assert path.read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_what_arrived_is_kept_for_the_next_call(server, tmp_path):
    path = tmp_path / "a.bin"
    text = fails(
        "connection ended after 100000 of 300000 bytes",
        f"{server.url}/truncate/a.bin", SHA256, path, attempts=1,
    )  # fmt: skip
    assert "call again" in text and "stay with the data that the course carries" in text
    assert not path.exists()
    assert path.with_name("a.bin.partial").read_bytes() == CONTENT[:100_000]
    files.download(f"{server.url}/plain/a.bin", SHA256, path)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("/plain/a.bin", "bytes=100000-")
    assert not path.with_name("a.bin.partial").exists()


def test_a_server_without_ranges_starts_again(server, tmp_path):
    path = tmp_path / "a.bin"
    path.with_name("a.bin.partial").write_bytes(b"something else")
    files.download(f"{server.url}/norange/a.bin", SHA256, path)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["plain", "wrongrange"])
def test_a_beginning_that_does_not_fit_is_thrown_away(server, tmp_path, way):
    path = tmp_path / "a.bin"
    path.with_name("a.bin.partial").write_bytes(b"something else")
    files.download(f"{server.url}/{way}/a.bin", SHA256, path)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=14-", None]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    path = tmp_path / "a.bin"
    path.with_name("a.bin.partial").write_bytes(CONTENT + b"more")
    files.download(f"{server.url}/plain/a.bin", SHA256, path)
    assert path.read_bytes() == CONTENT


def test_a_whole_part_needs_no_network(tmp_path):
    path = tmp_path / "a.bin"
    path.with_name("a.bin.partial").write_bytes(CONTENT)
    assert files.download("http://127.0.0.1:9/a.bin", SHA256, path) == path
    assert path.read_bytes() == CONTENT


def test_a_server_that_stalls_is_left_after_the_timeout(server, tmp_path):
    path = tmp_path / "a.bin"
    begin = time.monotonic()
    fails("timed out", f"{server.url}/stall/a.bin", SHA256, path, timeout=0.3, attempts=2)
    assert time.monotonic() - begin < 5
    # what came before each stall is kept: the second try went on from the first
    assert path.with_name("a.bin.partial").read_bytes() == CONTENT[:100_000]
    server.requests.clear()
    path.with_name("a.bin.partial").unlink()
    files.download(f"{server.url}/stall-once/a.bin", SHA256, path, timeout=0.5)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=50000-"]


def test_a_chunked_answer_that_breaks_is_resumed(server, tmp_path):
    path = files.download(f"{server.url}/broken/a.bin", SHA256, tmp_path / "a.bin")
    assert path.read_bytes() == CONTENT
    assert server.requests[1][1] == "bytes=65536-"


def test_missing_files_are_asked_for_once_and_busy_servers_again(server):
    fails("the server answers 404 Not Found.*check the address", f"{server.url}/404/x", SHA256)
    assert len(server.requests) == 1
    server.requests.clear()
    fails("the server answers 503", f"{server.url}/503/a.bin", SHA256)
    assert len(server.requests) == 4
    server.requests.clear()
    assert files.download(f"{server.url}/busy/a.bin", SHA256).read_bytes() == CONTENT


def test_without_a_network_the_course_goes_on(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = fails("cannot be downloaded", f"http://127.0.0.1:{port}/a.bin", SHA256, attempts=2)
    assert "refused" in text.lower() and "stay with the data that the course carries" in text
    fails("cannot be downloaded", "http://no-such-host.invalid/a.bin", SHA256, attempts=1)


def test_another_content_is_removed(server, tmp_path):
    server.files["a.bin"] = CONTENT[:-1] + b"!"
    text = fails("not the expected file", f"{server.url}/plain/a.bin", SHA256, tmp_path / "a.bin")
    assert SHA256[:12] in text
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["plain", "nolength", "endless"])
def test_a_file_that_is_too_large_is_left(server, tmp_path, way):
    fails(
        "more than the 299999 (bytes )?it may have",
        f"{server.url}/{way}/a.bin", SHA256, tmp_path / "a.bin", limit=299_999,
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_only_web_addresses(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x", encoding="utf-8")
    for url in (secret.as_uri(), str(secret), "ftp://127.0.0.1/a"):
        fails("give one with https:// or http://", url, None)


# Disks and permissions, and other processes


def test_a_full_disk_is_no_matter_of_the_network(server, tmp_path):
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    (tmp_path / "a.bin.partial").symlink_to("/dev/full")
    fails(r"^The disk is full, at .*a\.bin\.partial: make room there", f"{server.url}/plain/a.bin",
          SHA256, tmp_path / "a.bin", error=files.StorageError)  # fmt: skip
    assert len(server.requests) == 1, "trying again would not help"


def test_a_cache_that_cannot_be_made(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(files, "CACHE", tmp_path / "file" / "cache")
    url = f"{server.url}/plain/a.bin"
    fails(r"The folder .*cache cannot be made .*COURSE_CACHE", url, SHA256,
          error=files.StorageError)  # fmt: skip


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_may_not_be_written_is_named(server, monkeypatch, tmp_path, number):
    real = pathlib.Path.open

    def denied(path, mode="r", *arguments, **options):
        if "r" not in mode:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, mode, *arguments, **options)

    archive = make_zip(tmp_path / "archive", {"a": b"1"})
    monkeypatch.setattr(pathlib.Path, "open", denied)
    sentence = r"may not be used \(.*\): allow it, or give another folder"
    for call, arguments in (
        (files.download, (f"{server.url}/plain/a.bin", SHA256, tmp_path / "a.bin")),
        (files.write_whole, (tmp_path / "b.bin", b"1")),
        (files.extract, (archive, tmp_path / "folder")),
    ):
        fails(sentence, *arguments, error=files.StorageError, call=call)
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_a_full_disk_is_no_damage_of_an_archive(monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = make_zip(tmp_path / "archive", {"a": b"1"})
    monkeypatch.setattr(shutil, "copyfileobj", full)
    fails("^The disk is full", archive, tmp_path / "folder", error=files.StorageError,
          call=files.extract)  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_a_name_that_is_held_for_a_moment(monkeypatch, tmp_path):
    """As Windows does while a virus scanner looks at a file."""
    real, calls = os.replace, []

    def denied_twice(source, target):
        calls.append(target)
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", denied_twice)
    assert files.write_whole(tmp_path / "a", b"1").read_bytes() == b"1"
    monkeypatch.setattr(files, "PATIENCE", 0)
    calls[:] = []
    fails("may not be used", tmp_path / "a", b"2", error=files.StorageError, call=files.write_whole)
    assert (tmp_path / "a").read_bytes() == b"1" and len(list(tmp_path.iterdir())) == 1


def test_downloads_of_the_same_file_at_once(server, tmp_path):
    urls = [f"{server.url}/{way}/a.bin" for way in ("truncate", "plain", "broken", "norange")] * 3
    with ThreadPoolExecutor(len(urls)) as pool:
        for path in pool.map(lambda url: files.download(url, SHA256, tmp_path / "a.bin"), urls):
            assert path.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_running_download_is_left_alone_and_a_killed_one_goes_on(server, tmp_path):
    path = tmp_path / "a.bin"
    code = "import sys; from helpers import files; files.download(*sys.argv[1:4])"
    command = [sys.executable, "-c", code, f"{server.url}/stall/a.bin", SHA256, str(path)]
    other = subprocess.Popen(command, cwd=pathlib.Path(files.__file__).parents[1])
    partial = tmp_path / "a.bin.partial"
    try:
        while not (partial.exists() and partial.stat().st_size == 50_000):
            assert other.poll() is None
            time.sleep(0.02)
        files.download(f"{server.url}/plain/a.bin", SHA256, path)
        assert path.read_bytes() == CONTENT and server.requests[-1][1] is None
        assert partial.stat().st_size == 50_000
    finally:
        other.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        other.wait()
    path.unlink()
    files.download(f"{server.url}/plain/a.bin", SHA256, path)
    assert server.requests[-1] == ("/plain/a.bin", "bytes=50000-")
    assert path.read_bytes() == CONTENT and not partial.exists()


def test_an_archive_that_is_unpacked_twice_at_once(monkeypatch, tmp_path):
    archive = make_tar(tmp_path / "archive", {"a": b"1", "b/c": CONTENT})
    real, first = files.replace, tmp_path / "folder"

    def too_late(source, target):
        shutil.copytree(source, target)  # another process was faster
        real(source, target)

    monkeypatch.setattr(files, "replace", too_late)
    assert files.extract(archive, first) == first
    assert (first / "b" / "c").read_bytes() == CONTENT
    assert {p.name for p in tmp_path.iterdir()} == {"archive", "folder"}


def test_the_home_folder(server, monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    path = files.download(f"{server.url}/plain/a.bin", SHA256, "~/a.bin")
    assert path == tmp_path / "home" / "a.bin"
    make_zip(tmp_path / "home" / "zip", {"a": b"1"})
    assert files.extract("~/zip", "~/folder") == tmp_path / "home" / "folder"
    assert files.write_whole("~/new/b", b"1") == tmp_path / "home" / "new" / "b"


# data.fetch, and files.content in a notebook that stands alone


@pytest.fixture
def root(tmp_path, monkeypatch, server):
    """A data folder with a manifest and nothing else; the server has its files as .gz."""
    folder = tmp_path / "data"
    (folder / "mnist").mkdir(parents=True)
    monkeypatch.setattr(files, "DATA", folder)
    originals = {
        "images-idx3": b"\0\0\x08\3" + struct.pack(">3I", 300, 28, 28) + CONTENT[: 300 * 784],
        "labels-idx1": b"\0\0\x08\1" + struct.pack(">I", 300) + bytes(range(10)) * 30,
    }
    listed = {"reference/other.h5": {"sha256": "0", "bytes": 1}}
    for prefix in ("train", "t10k"):
        for kind, original in originals.items():
            name = f"{prefix}-{kind}-ubyte"
            server.files[f"{name}.gz"] = gzip.compress(original)
            entry = {"sha256": hashlib.sha256(original).hexdigest(), "bytes": len(original)}
            listed[f"mnist/{name}.xz"] = entry
            listed[f"mnist-other/{name}.xz"] = entry
    urls = [f"{server.url}/404/", f"{server.url}/plain/"]
    text = json.dumps({"sets": {"mnist": {"urls": urls}}, "files": listed})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return folder


def stored(root) -> set[str]:
    return {path.name for path in (root / "mnist").iterdir()}


def test_fetch_gets_what_is_missing_and_no_more(root, server):
    data.fetch("mnist")
    names = {f"{p}-{k}-ubyte" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")}
    assert stored(root) == names
    images, labels = data.load("mnist", "test")
    assert images.tobytes() == CONTENT[: 300 * 784]
    assert images.shape == (300, 28, 28, 1) and labels.tolist() == list(range(10)) * 30
    assert sorted(p.name for p in root.iterdir()) == ["manifest.json", "mnist"]
    (root / "mnist" / "train-labels-idx1-ubyte").unlink()
    server.requests.clear()
    data.fetch("mnist")
    assert [path for path, _ in server.requests] == [
        "/404/train-labels-idx1-ubyte.gz", "/plain/train-labels-idx1-ubyte.gz",
    ]  # fmt: skip
    server.requests.clear()
    data.fetch("mnist")
    assert server.requests == []


def test_fetch_from_a_copy_of_the_data_folder(root, server, monkeypatch):
    for name in list(server.files):
        if name.endswith(".gz"):
            server.files[f"mnist/{name[:-3]}.xz"] = lzma.compress(
                gzip.decompress(server.files[name])
            )
    monkeypatch.setenv("COURSE_DATA_URL", f"{server.url}/plain")
    data.fetch("mnist")
    assert data.load("mnist", "train")[0].tobytes() == CONTENT[: 300 * 784]
    assert all(path.endswith(".xz") for path, _ in server.requests)
    monkeypatch.setenv("COURSE_DATA_URL", f"{server.url}/404")
    (root / "mnist" / "train-labels-idx1-ubyte").unlink()
    data.fetch("mnist", f"{server.url}/plain/mnist/")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[:-9], "is damaged"),
        (lambda whole: whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], "damaged|not hold"),
        (lambda whole: b"no archive", "is damaged"),
        (lambda whole: gzip.compress(b"no archive"), "does not hold the official file"),
        (lambda whole: gzip.compress(gzip.decompress(whole) + b"\0"), "does not hold the official"),
        (lambda whole: CONTENT, "more than the .* it may have"),
        (lambda whole: None, "404 Not Found"),
    ],
)
def test_fetch_stores_nothing_that_is_not_official(root, server, change, message):
    file = "train-images-idx3-ubyte.gz"
    server.files[file] = change(server.files[file])
    fails(message, "mnist", call=data.fetch)
    assert not any("train-images" in name for name in stored(root))


def test_fetch_unpacks_no_bomb(root, server):
    server.files["train-images-idx3-ubyte.gz"] = gzip.compress(bytes(10**8), 6)
    assert len(server.files["train-images-idx3-ubyte.gz"]) < 120_000
    tracemalloc.start()
    fails("does not hold the official file", "mnist", call=data.fetch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_stopped_fetch_goes_on(root, server):
    base = f"{server.url}/truncate"
    text = fails("ended after 100000 of", "mnist", base, call=data.fetch, attempts=1)
    assert "train-images-idx3-ubyte.gz" in text
    data.fetch("mnist", base)
    assert data.load("mnist", "train")[0].tobytes() == CONTENT[: 300 * 784]
    assert ("/truncate/train-images-idx3-ubyte.gz", "bytes=100000-") in server.requests
    assert len(stored(root)) == 4


def test_a_notebook_that_stands_alone_fetches_what_it_asks_for(root, server, monkeypatch):
    with pytest.raises(files.DataError, match="is missing"):
        data.load("mnist", "test")
    assert server.requests == []
    monkeypatch.setenv("COURSE_FETCH", f"{server.url}/plain/copy")
    assert data.load("mnist", "test")[0].tobytes() == CONTENT[: 300 * 784]
    assert stored(root) == {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}
    listed = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    listed["files"]["reference/other.h5"] = {"sha256": SHA256, "bytes": len(CONTENT)}
    (root / "manifest.json").write_text(json.dumps(listed), encoding="utf-8")
    server.files["copy/reference/other.h5"] = CONTENT
    assert files.checked_path("reference/other.h5").read_bytes() == CONTENT
    server.requests.clear()
    assert files.content("reference/other.h5") == CONTENT and server.requests == []


def test_what_cannot_be_fetched_can_be_uploaded(root, server, monkeypatch):
    monkeypatch.setenv("COURSE_FETCH", f"{server.url}/404")
    packed = {name: content for name, content in server.files.items() if name.endswith(".gz")}
    for name in packed:
        del server.files[name]
    text = fails(r"404 Not Found\): upload train-images", "mnist", "train", call=data.load)
    assert all(name in text for name in packed) and f"to the folder {root / 'mnist'}" in text
    for name, content in packed.items():  # official files, as they come or unpacked
        images = "images" in name
        (root / "mnist" / name.removesuffix("" if images else ".gz")).write_bytes(
            content if images else gzip.decompress(content)
        )
    assert data.load("mnist", "train")[0].tobytes() == CONTENT[: 300 * 784]
    (root / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"another file"))
    with pytest.raises(files.DataError, match=r"ubyte\.gz ends after 12 of"):
        data.load("mnist", "train")
    fails(r"404 Not Found\): upload other\.h5 to the folder .*reference,", "reference/other.h5",
          call=files.content)  # fmt: skip


# archives

GOOD = {"./a.txt": b"a", "folder/b.bin": CONTENT, "folder/deep/é.txt": b"", "c.tar": b"PK"}


def make_tar(path, members, packed=True):
    with tarfile.open(path, "w:gz" if packed else "w") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            stream = None
            if isinstance(content, bytes):
                info.size, stream = len(content), io.BytesIO(content)
            archive.addfile(info, stream)
    return path


def make_plain_tar(path, members):
    return make_tar(path, members, packed=False)


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            # a ZipInfo made by hand keeps the name as it is, also with backslashes
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


makers = pytest.mark.parametrize("make", [make_tar, make_plain_tar, make_zip])


def refuses(message, path, folder, **options):
    """Extracting must fail, and leave nothing."""
    before = sorted(folder.parent.rglob("*"))
    text = fails(message, path, folder, error=files.ArchiveError, call=files.extract, **options)
    assert sorted(folder.parent.rglob("*")) == before
    assert path.name in text
    return text


@makers
def test_a_good_archive_is_unpacked(tmp_path, make):
    path = make(tmp_path / "archive", GOOD)
    folder = files.extract(path, tmp_path / "new" / "folder")
    unpacked = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: p.read_bytes() for name, p in unpacked.items()} == {
        name.removeprefix("./"): content for name, content in GOOD.items()
    }
    assert [p.name for p in folder.parent.iterdir()] == ["folder"]
    (folder / "mine").write_bytes(b"")
    assert files.extract(path, folder) == folder  # is left as it is
    assert (folder / "mine").is_file()


def test_folders_in_archives(tmp_path):
    info = tarfile.TarInfo("a/")
    info.type = tarfile.DIRTYPE
    for path in (
        make_tar(tmp_path / "tar", {"a/": info, "a/b": b"1"}),
        make_zip(tmp_path / "zip", {"a/": b"", "a/b": b"1"}),
    ):
        folder = files.extract(path, tmp_path / f"from-{path.name}")
        assert (folder / "a" / "b").read_bytes() == b"1"


@makers
@pytest.mark.parametrize(
    "name",
    [
        "../evil", "a/../../evil", "a/..", "/evil", "//evil", "..\\evil", "a\\..\\..\\evil",
        "C:/evil", "C:\\evil", "C:evil", "a:stream", "con", "a/NUL.txt", "COM1", "a.", "a ",
        "a\nb", "what?", "<a>", ".. /evil",
    ],
)  # fmt: skip
def test_names_that_lead_out_or_are_not_safe(tmp_path, make, name):
    path = make(tmp_path / "archive", {"good": b"1", name: b"evil"})
    (tmp_path / "in").mkdir()
    refuses("is refused, and nothing was unpacked. It holds", path, tmp_path / "in" / "folder")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path, kind):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "../.."
    path = make_tar(tmp_path / "archive", {"good": b"1", "link": info, "link/evil": b"evil"})
    refuses("holds 'link', a link or a device", path, tmp_path / "folder")


def test_a_link_in_a_zip(tmp_path):
    path = tmp_path / "archive"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "../..")
    refuses("holds 'link', a link or a device", path, tmp_path / "folder")


@makers
def test_a_name_that_comes_twice(tmp_path, make):
    path = make(tmp_path / "archive", {"a": b"1", "./a": b"2"})
    refuses("cannot be unpacked .*delete it", path, tmp_path / "folder")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_archives_that_grow_too_large(tmp_path, make):
    path = make(tmp_path / "archive", {"zeros": bytes(30 * 10**6)})
    assert path.stat().st_size < 40_000
    tracemalloc.start()
    refuses("unpacks to more bytes", path, tmp_path / "folder", limit=10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 10**6
    path = make(tmp_path / "many", {f"{i}": b"" for i in range(300)})
    refuses("unpacks to more bytes", path, tmp_path / "folder", limit=10**5)
    path = make(tmp_path / "sum", {f"{i}": bytes(1000) for i in range(10)})
    refuses("unpacks to more bytes", path, tmp_path / "folder", limit=9999)
    assert len(list(files.extract(path, tmp_path / "folder", limit=10000).iterdir())) == 10


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_tar_takes_no_memory(tmp_path, kind):
    """tarfile reads extended headers whole, whatever size they say."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 50 * 10**6
    path = tmp_path / "archive"
    header = info.tobuf(tarfile.GNU_FORMAT) + bytes(info.size)
    file = tarfile.TarInfo("file").tobuf(tarfile.GNU_FORMAT)
    for before in (b"", file):
        with gzip.open(path, "wb") as stream:
            stream.write(before + header)
        tracemalloc.start()
        refuses("unpacks to more bytes than it says", path, tmp_path / "folder")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * 10**6


def test_a_zip_that_says_a_smaller_size(tmp_path):
    path = make_zip(tmp_path / "archive", {"zeros": bytes(10**6)})
    size = struct.pack("<I", 10**6)
    whole = path.read_bytes()
    assert whole.count(size) == 2  # in the member's header and in the directory
    path.write_bytes(whole.replace(size, struct.pack("<I", 1000)))
    refuses("cannot be unpacked .*CRC", path, tmp_path / "folder", limit=2000)
    path.write_bytes(whole.replace(size, struct.pack("<I", 2 * 10**6)))
    refuses("cannot be unpacked", path, tmp_path / "folder")


@makers
def test_damaged_archives(tmp_path, make):
    path = make(tmp_path / "archive", GOOD)
    whole = path.read_bytes()
    for content in (b"", b"PK", b"\x1f\x8b", b"no archive" * 99, whole[: len(whole) // 2]):
        path.write_bytes(content)
        refuses("cannot be unpacked .*: delete it and download it again", path, tmp_path / "folder")
    if make is not make_plain_tar:  # which has no check of its content
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 8]) + whole[middle + 1 :])
        refuses("cannot be unpacked", path, tmp_path / "folder")
    path.unlink()
    fails("cannot be unpacked", path, tmp_path / "f", error=files.ArchiveError,
          call=files.extract)  # fmt: skip


@makers
def test_flipped_bytes_never_end_in_another_error(tmp_path, make):
    path = make(tmp_path / "archive", {"a.txt": b"to be or not to be, " * 20, "b": b"1"})
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 1 if len(whole) < 1000 else 7):
        changed = whole[position] ^ (1 << position % 8)
        path.write_bytes(whole[:position] + bytes([changed]) + whole[position + 1 :])
        try:
            files.extract(path, tmp_path / str(position), limit=10**6)
        except files.ArchiveError:
            refused += 1
    assert refused > 20  # dates, for example, may change
    assert not list(tmp_path.glob("*.partial"))


def test_an_encrypted_zip(tmp_path):
    path = make_zip(tmp_path / "archive", {"a": b"1"})
    whole = bytearray(path.read_bytes())
    whole[6] |= 1  # the flag in the member's header
    whole[whole.index(b"PK\1\2") + 8] |= 1  # and in the directory
    path.write_bytes(whole)
    refuses("cannot be unpacked .*encrypted", path, tmp_path / "folder")


def test_a_served_archive_that_tries_to_escape(server, tmp_path):
    path = make_tar(tmp_path / "archive", {"../../evil": b"evil"})
    server.files["set.tar.gz"] = path.read_bytes()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = files.download(f"{server.url}/plain/set.tar.gz", digest)
    refuses("leads out of its folder", found, found.parent / "set")
    assert not list(tmp_path.rglob("evil"))
