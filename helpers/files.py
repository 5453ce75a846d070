"""Files: the checked data that lie here, downloads that go on, archives unpacked safely.

Nothing in the course needs a network; larger official sets come through here when a reader asks.
"""

import contextlib
import functools
import gzip
import hashlib
import http.client
import json
import lzma
import os
import pathlib
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib

CHUNK = 2**18  # bytes
LARGEST_UNPACKED = 2**31  # bytes; what an archive may unpack to unless the caller says
DECODER_MEMORY = 100 * 2**20  # bytes; the course's files ask for a dictionary of 64 MiB
HEADER = 2**20  # bytes; what a tar member's name and attributes may take
BLOCK = 512  # bytes; tar's unit
DAMAGED = (
    OSError, EOFError, ValueError, RuntimeError, zlib.error,
    lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')  # what Windows does not have in names
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # Windows again


class ArchiveError(RuntimeError):
    """An archive is damaged, too large, or wants to write where it must not; nothing was kept."""


def read_bounded(stream, limit: int) -> bytearray:
    """Read a stream to its end, but one byte more than ``limit`` at most (so that it shows)."""
    data = bytearray()
    while len(data) <= limit and (part := stream.read(min(CHUNK, limit + 1 - len(data)))):
        data += part
    return data


def read_xz(stream, limit: int) -> bytearray:
    """Unpack an xz stream to its end, but to one byte more than ``limit`` at most.

    Raises:
        lzma.LZMAError: it is damaged, asks for a dictionary of more than 100 MiB, or more bytes
            follow it.
        EOFError: it is truncated.
    """
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER_MEMORY)
    data = bytearray()
    while not decoder.eof and len(data) <= limit:
        packed = stream.read(CHUNK) if decoder.needs_input else b""
        if decoder.needs_input and not packed:
            raise EOFError("it is truncated")
        data += decoder.decompress(packed, max_length=limit + 1 - len(data))
    if decoder.eof and (decoder.unused_data or stream.read(1)):
        raise lzma.LZMAError("bytes follow after its end")
    return data


class _Rationed:
    """A stream that gives no more than it was allowed to; tarfile reads headers whole."""

    def __init__(self, stream):
        self._stream, self.left = stream, HEADER

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ArchiveError("It unpacks to more bytes than it says.")
        return data


# Both generators give (name, regular file or folder?, folder?, size, function that opens it).


def _zip_members(path: pathlib.Path):
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            opened = functools.partial(archive.open, info)
            yield info.filename, plain, info.is_dir(), info.file_size, opened


def _tar_members(path: pathlib.Path, packed: bool):
    with gzip.open(path) if packed else path.open("rb") as stream:
        rationed = _Rationed(stream)
        with tarfile.open(fileobj=rationed, mode="r|") as archive:
            while member := archive.next():
                plain = member.isfile() or member.isdir()
                rationed.left = max(member.size, 0) + HEADER
                opened = functools.partial(archive.extractfile, member)
                yield member.name, plain, member.isdir(), member.size, opened
                archive.members = []  # tarfile would remember each one
                rationed.left = HEADER
        while rationed.read(CHUNK):
            pass  # gzip's check of all that came stands behind tar's own end


def _members(path: pathlib.Path):
    with path.open("rb") as stream:
        beginning = stream.read(2)
    if beginning == b"PK":
        return _zip_members(path)
    return _tar_members(path, beginning == b"\x1f\x8b")


def _target(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Return where a member goes; its name must be one that every system has, inside the folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    unsafe = any(UNSAFE.search(part) or DEVICES.match(part) for part in parts)
    if name.startswith("/") or unsafe:  # ".." ends with a dot
        raise ArchiveError(f"It holds {name!r}, which leads out of its folder or is no safe name.")
    return folder.joinpath(*parts)


def _unpack(path: pathlib.Path, folder: pathlib.Path, limit: int) -> None:
    for name, plain, is_folder, size, opened in _members(path):
        if not plain:
            raise ArchiveError(f"It holds {name!r}, a link or a device.")
        target = _target(name, folder)
        limit -= max(size, BLOCK)
        if limit < 0 or size < 0:
            raise ArchiveError("It unpacks to more bytes than it may.")
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened() as source, target.open("xb") as out:
            shutil.copyfileobj(source, out, CHUNK)  # both kinds stop at the announced size
            if out.tell() != size:
                raise EOFError(f"{name} is truncated")


def extract(
    archive: pathlib.Path, folder: pathlib.Path, limit: int = LARGEST_UNPACKED
) -> pathlib.Path:
    """Unpack a zip, tar or tar.gz archive into a new folder.

    Args:
        archive: the file.
        folder: the folder to make; it appears whole, or not at all. An existing one is left as
            it is, and nothing is unpacked.
        limit: the most bytes that the archive may unpack to; every member counts 512 at least.

    Returns:
        ``folder``.

    Raises:
        ArchiveError: the archive is damaged or too large, or a member is a link, a device, or has
            a path outside of the folder or a name that Windows does not allow.
    """
    archive, folder = pathlib.Path(archive), pathlib.Path(folder)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(suffix=".partial", dir=folder.parent))
    try:
        inside = temporary / folder.name  # mkdtemp's own is for nobody else's eyes
        inside.mkdir()
        _unpack(archive, inside, limit)
        os.replace(inside, folder)
    except ArchiveError as error:
        raise ArchiveError(f"{archive} is refused, and nothing was unpacked. {error}") from None
    except DAMAGED as error:
        raise ArchiveError(
            f"{archive} cannot be unpacked ({error}): delete it and download it again."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return folder


DATA = pathlib.Path(os.environ.get("COURSE_DATA") or pathlib.Path(__file__).parents[1] / "data")
CACHE = pathlib.Path(os.environ.get("COURSE_CACHE") or pathlib.Path(__file__).parents[1] / ".cache")
LARGEST = 2**31  # bytes; what a file may have unless the caller says
PAUSE = 1.0  # seconds before the second try; then twice as long each time
STAY = "or stay with the data that the course carries."


class DataError(RuntimeError):
    """A data file is missing, damaged or not what it should be; the message says what to do."""


class DownloadError(RuntimeError):
    """A file could not be had, or is not the right one; the message says what to do."""


class _Stale(Exception):
    """The beginning that is here does not belong to what the server has."""


def sha256(path: pathlib.Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _show(name: str, have: int, end: str = "") -> None:
    if sys.stderr and sys.stderr.isatty():
        print(f"\r{name}: {have / 1e6:.1f} MB", end=end, file=sys.stderr, flush=True)


def _continue(url: str, partial: pathlib.Path, limit: int, timeout: float) -> None:
    """Fetch what ``partial`` lacks; bytes that arrive are kept even when the rest does not."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "gan-course"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        resumed = answer.status == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _Stale
        have = have if resumed else 0
        announced = answer.headers.get("Content-Length") or ""
        total = have + int(announced) if announced.isdigit() else None
        if total is not None and total > limit:
            raise DownloadError(f"{url} has {total} bytes, more than the {limit} it may have.")
        with partial.open("ab" if resumed else "wb") as out:
            while chunk := answer.read1(CHUNK):  # read() loses what came before a stall
                have += len(chunk)
                if have > limit:
                    raise DownloadError(f"{url} sends more than the {limit} bytes it may have.")
                out.write(chunk)
                _show(partial.stem, have)
    _show(partial.stem, have, "\n")
    if total is not None and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")


def _attempt(url: str, partial: pathlib.Path, limit: int, timeout: float) -> tuple[str, bool]:
    """Try once; return why it failed ("" if it did not) and whether trying again makes sense."""
    try:
        _continue(url, partial, limit, timeout)
    except DownloadError:
        partial.unlink(missing_ok=True)
        raise
    except _Stale:
        partial.unlink(missing_ok=True)
        return "the file changed on the server", True
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server has nothing after what is here
            partial.unlink(missing_ok=True)
        error.close()
        again = error.code in (408, 416, 429) or error.code >= 500
        return f"the server answers {error.code} {error.reason}", again
    except (OSError, EOFError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__, True
    return "", True


def download(
    url: str,
    expected_sha256: str | None,
    path: pathlib.Path | None = None,
    limit: int = LARGEST,
    timeout: float = 20.0,
    attempts: int = 4,
) -> pathlib.Path:
    """Download a file; what an earlier try left beside it (``.partial``) is continued.

    Args:
        url: an http or https address.
        expected_sha256: hexadecimal digits, or None where the caller checks the content itself.
        path: where the file goes; it appears there whole, or not at all. By default in ``CACHE``
            (the folder ``.cache``, or the environment variable COURSE_CACHE).
        limit: the largest size in bytes.
        timeout: how many seconds the server may be silent.
        attempts: tries before giving up, with growing pauses between them.

    Returns:
        Its path. When a file with this sha256 is there already, nothing is downloaded.

    Raises:
        DownloadError: there is no network, no such file, or the file is too large or another one.
    """
    if not re.match("https?://", url):
        raise DownloadError(f"{url} is no address of a file: give one with https:// or http://.")
    if path is None:
        name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])
        path = CACHE / f"{(expected_sha256 or 'unchecked')[:12]}-{name}"
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, reason = path.with_name(path.name + ".partial"), "no attempt was made"
    for candidate in (path, partial):  # a whole one may be left from a run that was stopped
        if expected_sha256 and candidate.is_file() and sha256(candidate) == expected_sha256:
            os.replace(candidate, path)
            return path
    for attempt in range(attempts):
        time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
        resumed = partial.exists()
        reason, again = _attempt(url, partial, limit, timeout)
        if not reason:
            found = sha256(partial)
            if expected_sha256 in (None, found):
                os.replace(partial, path)
                return path
            partial.unlink()
            reason = "what was here of it did not fit the rest"
            if not resumed:
                raise DownloadError(
                    f"{url} is not the expected file (sha256 {found[:12]}... instead of "
                    f"{expected_sha256[:12]}...) and was removed: look for a newer address, {STAY}"
                )
        if not again:
            break
    raise DownloadError(
        f"{url} cannot be downloaded ({reason}): check the address and the network and call again "
        f"(it goes on where it stopped), {STAY}"
    )


def _unpacked(url: str, path: pathlib.Path, expected_sha256: str, size: int, options) -> bytearray:
    suffix = url[-3:]
    # A part that one address left is never continued from another: the two may differ.
    packed = path.with_name(f"{path.name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{suffix}")
    download(url, None, packed, limit=size + size // 8 + 2**12, **options)
    try:
        if suffix == ".xz":
            with packed.open("rb") as stream:
                data = read_xz(stream, size)
        else:
            with gzip.open(packed) as stream:
                data = read_bounded(stream, size)
    except DAMAGED as error:
        raise DownloadError(f"{url} is damaged ({error}): call again.") from None
    finally:
        packed.unlink()
    if len(data) != size or hashlib.sha256(data).hexdigest() != expected_sha256:
        raise DownloadError(f"{url} does not hold the official file: use another address, {STAY}")
    return data


def download_packed(
    urls: list[str], path: pathlib.Path, expected_sha256: str, size: int, **options
) -> pathlib.Path:
    """Download a gzip or xz file and store what it holds at ``path``.

    Args:
        urls: addresses of the packed file, tried in turn; each ends with ``.gz`` or ``.xz``.
        path: where its content goes, whole or not at all.
        expected_sha256: of the content, hexadecimal digits.
        size: bytes of the content; more is neither loaded nor unpacked.
        options: timeout and attempts, as in ``download``.

    Raises:
        DownloadError: there is no network, or the content is damaged or another one.
    """
    for url in urls:
        try:
            data = _unpacked(url, path, expected_sha256, size, options)
            break
        except DownloadError:
            if url == urls[-1]:
                raise
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    return path


def manifest(part: str = "files") -> dict[str, dict]:
    """Return a part of ``data/manifest.json``.

    Args:
        part: ``"files"``: {path inside data/: {"sha256", "bytes", ...}}; for a path that ends in
            ``.xz`` both are those of the unpacked original. ``"sets"``: {folder: {"title",
            "source", "licence", "cite", "urls"}}.

    Raises:
        DataError: the manifest cannot be read, or lacks this part.
    """
    path = DATA / "manifest.json"
    try:
        entries = dict(json.loads(path.read_text(encoding="utf-8"))[part])
        return {name: dict(entry) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): restore it (git checkout -- data), "
            "or correct the environment variable COURSE_DATA if you set it."
        ) from None


def content(relative: str) -> bytearray:
    """Return a file's bytes (of a packed one, the original's) after its sha256 was checked.

    Args:
        relative: the path inside ``data/``, as the manifest has it.

    Raises:
        DataError: the file is missing, truncated, altered, or unpacks to more than the manifest
            says (unpacking stops as soon as it does, so that it cannot fill the memory).
    """
    wanted = manifest().get(relative, {})
    if not {"sha256", "bytes"} <= wanted.keys():
        raise DataError(f"{DATA / 'manifest.json'} does not list {relative}: correct the name.")
    path, size, name = DATA / relative, wanted["bytes"], relative.split("/")[0]
    if path.suffix == ".xz" and not path.is_file() and path.with_suffix("").is_file():
        path = path.with_suffix("")  # as fetch stores it
    try:
        with path.open("rb") as stream:
            read = read_xz if path.suffix == ".xz" else read_bounded
            data = read(stream, size)
        if len(data) > size:
            problem = f"holds more than the {size} bytes that it should"
        elif len(data) < size:
            problem = f"ends after {len(data)} of {size} bytes"
        elif hashlib.sha256(data).hexdigest() != wanted["sha256"]:
            problem = "has been altered (its sha256 is another)"
        else:
            return data
    except FileNotFoundError:
        problem = "is missing"
    except DAMAGED as error:
        problem = f"is damaged ({error})"
    other = f", or delete it and call data.fetch({name!r})" if relative.endswith(".xz") else ""
    raise DataError(f"{path} {problem}: restore it (git checkout -- data/{relative}){other}.")


def checked_path(relative: str) -> pathlib.Path:
    """Return the path of a file of ``data/`` that is stored as it is, after ``content`` read it."""
    content(relative)
    return DATA / relative
