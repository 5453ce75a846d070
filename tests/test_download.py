"""Downloads from a server that misbehaves, and archives that must not be trusted."""

import functools
import gzip
import hashlib
import http.server
import io
import json
import lzma
import socket
import stat
import tarfile
import threading
import time
import tracemalloc
import zipfile

import pytest

from helpers import archives, data, download

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the server's plan says, one entry for each request; an empty plan is honest."""

    def do_GET(self):
        site = self.server
        site.ranges.append(self.headers.get("Range"))
        kind = site.plan.pop(0) if site.plan else "honest"
        if isinstance(kind, int):
            self.send_error(kind)
            return
        content = site.files.get(self.path, CONTENT)
        begin = 0
        if self.headers.get("Range") and kind != "whole":
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
        if kind == "moved":  # an answer for another beginning than the one that was asked for
            begin += 1
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if kind != "unknown":
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = HALF if kind in ("cut", "stall") else len(content)
        self.wfile.write(content[begin:end])
        self.wfile.flush()
        if kind == "stall":
            site.over.wait(10)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.01)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.over = True, threading.Event()
    server.plan, server.ranges, server.files = [], [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def fails(site, path, what, sha256=SHA256, **options) -> str:
    """The download must fail with one sentence that names the address and says what to do."""
    with pytest.raises(download.DownloadError, match=what) as error:
        download.download(f"{site.url}/a.bin", sha256, path, **options)
    message = str(error.value)
    assert f"{site.url}/a.bin" in message and "\n" not in message and message.endswith(".")
    assert not path.exists()
    return message


# downloads


def test_a_good_file_comes_once(site, tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    assert download.download(f"{site.url}/a.bin", SHA256, path) == path
    assert path.read_bytes() == CONTENT and names(path.parent) == ["a.bin"]
    download.download(f"{site.url}/a.bin", SHA256, path)
    assert site.ranges == [None]  # one request


def test_the_cache_is_the_default(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CACHE", tmp_path / "cache")
    path = download.download(f"{site.url}/b/a%20b.bin?x=1", SHA256)
    assert path.parent == tmp_path / "cache" and path.name.startswith(SHA256[:12])
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["cut", "stall"])
def test_the_rest_is_fetched_after_a_break(site, tmp_path, kind):
    site.plan = [kind]
    download.download(f"{site.url}/a.bin", SHA256, tmp_path / "a.bin", timeout=0.3)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]
    assert site.ranges == [None, f"bytes={HALF}-"]


def test_another_call_goes_on_where_one_gave_up(site, tmp_path):
    path, site.plan = tmp_path / "a.bin", ["cut", 503]
    message = fails(site, path, "503", attempts=2)
    assert "call again" in message and names(tmp_path) == ["a.bin.partial"]
    assert (tmp_path / "a.bin.partial").read_bytes() == CONTENT[:HALF]
    download.download(f"{site.url}/a.bin", SHA256, path)
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]
    assert site.ranges[-1] == f"bytes={HALF}-"


@pytest.mark.parametrize("kind", ["whole", "moved"])
def test_a_server_that_does_not_continue_is_asked_for_all(site, tmp_path, kind):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT[:HALF])
    site.plan = [kind]
    download.download(f"{site.url}/a.bin", SHA256, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]


def test_a_partial_file_of_something_else_is_replaced(site, tmp_path):
    for wrong in (b"x" * HALF, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 9)):
        path = tmp_path / f"{len(wrong)}.bin"
        path.with_name(path.name + ".partial").write_bytes(wrong)
        download.download(f"{site.url}/a.bin", SHA256, path)
        assert path.read_bytes() == CONTENT
    assert len(names(tmp_path)) == 3


def test_a_whole_partial_file_needs_no_server(tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT)
    path = download.download("http://127.0.0.1:9/a.bin", SHA256, tmp_path / "a.bin")
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]


def test_a_file_in_the_way_is_replaced(site, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    download.download(f"{site.url}/a.bin", SHA256, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("code", [403, 404])
def test_an_answer_that_stays_is_not_asked_again(site, tmp_path, code):
    site.plan = [code] * 9
    fails(site, tmp_path / "a.bin", f"answers {code} .*check the address")
    assert len(site.ranges) == 1 and names(tmp_path) == []


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_an_answer_that_passes_is_asked_again(site, tmp_path, code):
    site.plan = [code, code]
    download.download(f"{site.url}/a.bin", SHA256, tmp_path / "a.bin")
    assert len(site.ranges) == 3 and names(tmp_path) == ["a.bin"]


def test_tries_end_and_pauses_grow(site, tmp_path, monkeypatch):
    pauses, site.plan = [], [500] * 9
    monkeypatch.setattr(time, "sleep", pauses.append)
    fails(site, tmp_path / "a.bin", "answers 500", attempts=4)
    assert len(site.ranges) == 4 and names(tmp_path) == []
    assert [pause for pause in pauses if pause] == pytest.approx([0.01, 0.02, 0.04])


def test_a_stall_that_stays_ends(site, tmp_path):
    site.plan = ["stall", "stall"]
    begin = time.monotonic()
    fails(site, tmp_path / "a.bin", "timed out", timeout=0.2, attempts=2)
    assert time.monotonic() - begin < 3 and names(tmp_path) == ["a.bin.partial"]


def test_no_server(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.bin"
        with pytest.raises(download.DownloadError, match="check the address and the network"):
            download.download(url, SHA256, tmp_path / "a.bin", attempts=1, timeout=1)
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://example.org/a", "a.bin", ""])
def test_only_addresses_of_the_web(tmp_path, url):
    with pytest.raises(download.DownloadError, match="is no address of a file"):
        download.download(url, None, tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_wrong_content_is_removed(site, tmp_path):
    site.files["/a.bin"] = b"another file"
    fails(site, tmp_path / "a.bin", "is not the expected file")
    assert len(site.ranges) == 1 and names(tmp_path) == []


@pytest.mark.parametrize("kind", ["honest", "unknown"])  # the size is announced, or is not
@pytest.mark.parametrize("have", [0, 1000])
def test_a_file_that_is_too_large_is_left(site, tmp_path, kind, have):
    if have:
        (tmp_path / "a.bin.partial").write_bytes(CONTENT[:have])
    site.plan = [kind]
    fails(site, tmp_path / "a.bin", f"more than the {HALF}", limit=HALF)
    assert len(site.ranges) == 1 and names(tmp_path) == []


def test_a_file_of_just_the_limit_is_taken(site, tmp_path):
    path = download.download(f"{site.url}/a.bin", None, tmp_path / "a.bin", limit=len(CONTENT))
    assert path.read_bytes() == CONTENT


# packed files and data.fetch


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_packed_file_is_stored_unpacked(site, tmp_path, ending, pack):
    site.files[f"/a{ending}"] = pack(CONTENT)
    urls = [f"{site.url}/a{ending}"]
    path = download.download_packed(urls, tmp_path / "a", SHA256, len(CONTENT))
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(CONTENT)[:-20], "is damaged .*call again"),
        (b"\x1f\x8b" + bytes(100), "is damaged"),
        (b"<html>not found</html>", "is damaged"),
        (gzip.compress(CONTENT[:-1]), "does not hold the official file"),
        (gzip.compress(CONTENT[:-1] + b"x"), "does not hold the official file"),
        (gzip.compress(CONTENT + b"x"), "does not hold the official file"),
    ],
)
def test_a_packed_file_that_is_not_right_is_refused(site, tmp_path, content, what):
    site.files["/a.gz"] = content
    urls = [f"{site.url}/a.gz"]
    with pytest.raises(download.DownloadError, match=what):
        download.download_packed(urls, tmp_path / "a", SHA256, len(CONTENT))
    assert names(tmp_path) == []


def test_a_packed_bomb_takes_no_memory(site, tmp_path):
    site.files["/a.gz"] = gzip.compress(bytes(50 * 2**20), 1)
    tracemalloc.start()
    with pytest.raises(download.DownloadError):
        download.download_packed([f"{site.url}/a.gz"], tmp_path / "a", SHA256, len(CONTENT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20 and names(tmp_path) == []


def test_the_next_address_is_tried(site, tmp_path):
    site.files |= {"/1/a.gz": b"wrong", "/2/a.gz": gzip.compress(CONTENT)}
    urls = [f"{site.url}/{folder}/a.gz" for folder in (1, 2)]
    download.download_packed(urls, tmp_path / "a", SHA256, len(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT and names(tmp_path) == ["a"]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty data folder whose manifest has two small files."""
    root = tmp_path / "data"
    (root / "mnist").mkdir(parents=True)
    images, labels = bytes.fromhex("00000803 00000002 0000001c 0000001c"), b"\0\0\x08\1\0\0\0\2\7\4"
    originals = {
        "t10k-images-idx3-ubyte": images + CONTENT[:1568],
        "t10k-labels-idx1-ubyte": labels,
    }
    files = {
        f"mnist/{name}.xz": {"sha256": hashlib.sha256(o).hexdigest(), "bytes": len(o)}
        for name, o in originals.items()
    }
    files["reference/x.h5"] = {"sha256": "0", "bytes": 1}
    (root / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    monkeypatch.setattr(data, "ROOT", root)
    return originals


def test_fetch_gets_what_is_missing_and_only_that(site, empty, monkeypatch):
    for name, original in empty.items():
        site.files[f"/sets/mnist/{name}.xz"] = b""  # only .gz is good there
        site.files[f"/sets/mnist/{name}.gz"] = gzip.compress(original)
    monkeypatch.setenv("COURSE_DATA_URL", f"{site.url}/sets/")
    data.fetch("mnist")
    images, labels = data.load("mnist", "test")
    assert images.tobytes() == CONTENT[:1568] and labels.tolist() == [7, 4]
    assert names(data.ROOT / "mnist") == sorted(empty)
    before = len(site.ranges)
    data.fetch("mnist")
    assert len(site.ranges) == before


def test_fetch_refuses_another_file(site, empty):
    for name in empty:
        site.files |= {f"/{name}.gz": gzip.compress(b"another"), f"/{name}.xz": b"bad"}
    with pytest.raises(download.DownloadError, match="does not hold the official file"):
        data.fetch("mnist", site.url)
    assert names(data.ROOT / "mnist") == []


# archives


def make_zip(path, members: dict):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, members: dict, mode="w:gz"):
    """Members: bytes, or a TarInfo's attributes."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                for attribute, value in content.items():
                    setattr(info, attribute, value)
                archive.addfile(info)
    return path


GOOD = {"a.txt": b"one", "b/c/d.bin": CONTENT, "b/empty": b""}
MAKERS = {
    "zip": make_zip,
    "tar.gz": make_tar,
    "tar": functools.partial(make_tar, mode="w"),
}


@pytest.mark.parametrize("ending", MAKERS)
def test_a_good_archive_is_unpacked(tmp_path, ending):
    archive = MAKERS[ending](tmp_path / f"x.{ending}", GOOD)
    folder = archives.extract(archive, tmp_path / "deep" / "out")
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == GOOD and names(tmp_path / "deep")[-1] == "out"
    archive.unlink()
    assert archives.extract(archive, folder) == folder  # it is there already


def refused(archive, folder, what=r"refused|cannot be", **options):
    """Nothing may be left: no folder, no temporary one, nothing outside."""
    before = names(folder.parent)
    with pytest.raises(archives.ArchiveError, match=what) as error:
        archives.extract(archive, folder, **options)
    assert str(archive) in str(error.value) and "\n" not in str(error.value)
    assert names(folder.parent) == before and not folder.exists()


@pytest.mark.parametrize("ending", MAKERS)
@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "C:/evil", "a\\..\\..\\evil", "..", "nul", "b/con.txt"],
)
def test_a_name_that_leads_out_is_refused(tmp_path, ending, name):
    archive = MAKERS[ending](tmp_path / f"x.{ending}", {"good": b"1", name: b"2"})
    refused(archive, tmp_path / "out", "leads out|safe name")


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc"},
        {"type": tarfile.SYMTYPE, "linkname": "good"},
        {"type": tarfile.LNKTYPE, "linkname": "good"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
    ],
)
def test_a_link_or_device_in_a_tar_is_refused(tmp_path, attributes):
    archive = make_tar(tmp_path / "x.tar.gz", {"good": b"1", "link": attributes})
    refused(archive, tmp_path / "out", "'link', a link or a device")


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("good", b"1")
        archive.writestr(link, "/etc")
    refused(tmp_path / "x.zip", tmp_path / "out", "'link', a link or a device")


@pytest.mark.parametrize("ending", MAKERS)
def test_a_bomb_is_refused(tmp_path, ending):
    archive = MAKERS[ending](tmp_path / f"x.{ending}", {"good": b"1", "b": bytes(2**20)})
    refused(archive, tmp_path / "out", "more bytes than it may", limit=2**20)
    archives.extract(archive, tmp_path / "out", limit=2**20 + 512)
    many = MAKERS[ending](tmp_path / f"y.{ending}", {f"{i}": b"" for i in range(300)})
    refused(many, tmp_path / "many", "more bytes than it may", limit=512 * 299)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": bytes(5000)})
    lie = archive.read_bytes().replace((5000).to_bytes(4, "little"), (7).to_bytes(4, "little"))
    archive.write_bytes(lie)
    refused(archive, tmp_path / "out", limit=1000)


@pytest.mark.parametrize("ending", MAKERS)
def test_a_damaged_archive_is_refused(tmp_path, ending):
    archive = MAKERS[ending](tmp_path / f"x.{ending}", {"b": CONTENT, "a": b"1"})
    whole = archive.read_bytes()
    for content in (
        whole[: len(whole) // 2],
        whole[:20],
        b"",
        b"PK",
        b"\x1f\x8b",
        b"nonsense" * 99,
    ):
        archive.write_bytes(content)
        refused(archive, tmp_path / "out", "cannot be unpacked .*download it again")
    archive.unlink()
    refused(archive, tmp_path / "out")


def test_a_flipped_byte_in_a_packed_archive_is_noticed(tmp_path):
    for ending in ("zip", "tar.gz"):
        archive = MAKERS[ending](tmp_path / f"x.{ending}", {"a.txt": b"0123456789" * 50})
        whole = bytearray(archive.read_bytes())
        whole[50] ^= 255
        archive.write_bytes(whole)
        refused(archive, tmp_path / "out")
