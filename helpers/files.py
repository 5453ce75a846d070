"""Files: the checked data that lie here, downloads that go on, archives unpacked safely.

Nothing in the course needs a network; larger official sets come through here when a reader asks,
and a notebook that stands alone fetches the course's own files (``COURSE_FETCH``, see ``content``).
What goes wrong is said in one sentence, as what it is.
"""

import contextlib
import errno
import functools
import gzip
import hashlib
import http.client
import itertools
import json
import lzma
import os
import pathlib
import re
import secrets
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

from IPython import get_ipython
from IPython.display import display

if os.name == "nt":
    import msvcrt
else:
    import fcntl

CHUNK = 2**18  # bytes
LARGEST = 2**31  # bytes; what a file may have, or an archive unpack to, unless the caller says
DECODER_MEMORY = 100 * 2**20  # bytes; the course's files ask for a dictionary of 64 MiB
HEADER = 2**20  # bytes; what a tar member's name and attributes may take
BLOCK = 512  # bytes; tar's unit
PAUSE = 1.0  # seconds before the second try of a download; then twice as long each time
PATIENCE = 2.0  # seconds in which a file that Windows holds for a moment becomes free
STAY = "or stay with the data that the course carries."
DAMAGED = (
    OSError, EOFError, ValueError, RuntimeError, zlib.error,
    lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')  # what Windows does not have in names
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # Windows again


class DataError(RuntimeError):
    """A file is missing, damaged or not what it should be; the message says what to do."""


class DownloadError(DataError):
    """A file could not be had, or is not the right one; the message says what to do."""


class ArchiveError(DataError):
    """An archive is damaged, too large, or wants to write where it must not; nothing was kept."""


class StorageError(DataError):
    """A disk is full, or a file or folder may not be written or read; the message says which."""


class _Stale(Exception):
    """The beginning that is here does not belong to what the server has."""


# Paths and writing


def user_path(path) -> pathlib.Path:
    """Return a path that a reader gave, with ``~`` for the home folder replaced."""
    return pathlib.Path(path).expanduser()


def _place(variable: str, name: str) -> pathlib.Path:
    chosen = os.environ.get(variable)
    return user_path(chosen) if chosen else pathlib.Path(__file__).parents[1] / name


DATA = _place("COURSE_DATA", "data")
CACHE = _place("COURSE_CACHE", ".cache")


def check_storage(error: OSError, path) -> None:
    """Raise a StorageError where the system's error means a full disk or a missing permission."""
    if error.errno in FULL:
        raise StorageError(f"The disk is full, at {path}: make room there, then go on.") from None
    if error.errno in DENIED:
        raise StorageError(
            f"{error.filename or path} may not be used ({os.strerror(error.errno)}): allow it, or "
            "give another folder (for downloads: in the environment variable COURSE_CACHE)."
        ) from None


def make_folder(folder) -> pathlib.Path:
    """Make a folder, with those above it, where it does not exist; return its path.

    Raises:
        StorageError: it cannot be made.
    """
    folder = user_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        check_storage(error, folder)
        raise StorageError(
            f"The folder {folder} cannot be made ({error.strerror}): give another one (for "
            "downloads: in the environment variable COURSE_CACHE)."
        ) from None
    return folder


def replace(source, target) -> None:
    """Rename a file to a name that may exist already.

    Windows denies it while a virus scanner or a viewer holds one of the two: then it is tried again
    for two seconds.
    """
    given_up = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() > given_up:
                raise
        time.sleep(0.05)


def write_whole(path, content: bytes) -> pathlib.Path:
    """Write a file whole or not at all, also where several processes do so at once.

    Raises:
        StorageError: the disk is full, or the file may not be written.
    """
    path = user_path(path)
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.write_bytes(content)
        replace(temporary, path)
    except OSError as error:
        check_storage(error, path)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def sha256(path: pathlib.Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class ProgressLine:
    """One line that is drawn again in place: in a notebook, or in a terminal.

    In a notebook that is executed, its last state stays; where output goes to a file, nothing
    is shown.
    """

    def __init__(self):
        self._handle = self._width = None

    def show(self, text: str, end: str = "") -> None:
        """Draw the line anew."""
        content = {"text/plain": text}
        if get_ipython() is None:
            if sys.stdout and sys.stdout.isatty():
                print(f"\r{text:{self._width or 0}}", end=end, flush=True)
                self._width = len(text)
        elif self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def end(self, text: str) -> None:
        """Draw the line for the last time, if it was drawn at all."""
        if self._handle or self._width:
            self.show(text, end="\n")


# Packed files and archives


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


def read_packed(path: pathlib.Path, limit: int) -> bytearray:
    """Read a file, unpacked if its name ends in .xz or .gz, but to one byte more than ``limit``."""
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            return read_bounded(stream, limit)
    with path.open("rb") as stream:
        return read_xz(stream, limit) if path.suffix == ".xz" else read_bounded(stream, limit)


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


def extract(archive, folder, limit: int = LARGEST) -> pathlib.Path:
    """Unpack a zip, tar or tar.gz archive into a new folder.

    Args:
        archive: the file.
        folder: the folder to make; it appears whole, or not at all. An existing one, also one that
            another process makes meanwhile, is left as it is.
        limit: the most bytes that the archive may unpack to; every member counts 512 at least.

    Returns:
        ``folder``.

    Raises:
        ArchiveError: the archive is damaged or too large, or a member is a link, a device, or has
            a path outside of the folder or a name that Windows does not allow.
        StorageError: the disk is full, or the folder may not be written.
    """
    archive, folder = user_path(archive), user_path(folder)
    if folder.exists():
        return folder
    make_folder(folder.parent)
    temporary = None
    try:
        temporary = pathlib.Path(tempfile.mkdtemp(suffix=".partial", dir=folder.parent))
        inside = temporary / folder.name  # mkdtemp's own is for nobody else's eyes
        inside.mkdir()
        _unpack(archive, inside, limit)
        try:
            replace(inside, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    except ArchiveError as error:
        raise ArchiveError(f"{archive} is refused, and nothing was unpacked. {error}") from None
    except DAMAGED as error:
        if isinstance(error, OSError):
            check_storage(error, folder)
        raise ArchiveError(
            f"{archive} cannot be unpacked ({error}): delete it and download it again."
        ) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


# Downloads


def _lock(stream) -> bool:
    """Take an open file for this process until it is closed; return False if another has it."""
    try:
        if os.name == "nt":
            stream.seek(2**40)  # the bytes themselves stay free
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextlib.contextmanager
def _own_partial(path: pathlib.Path):
    """Yield the place beside ``path`` for what arrives; no other process writes there meanwhile.

    What a stopped run left there is still there. ``close`` gives it up, before it is renamed.
    """
    for number in itertools.count():
        ending = f".{number}.partial" if number else ".partial"
        partial = path.with_name(path.name + ending)
        try:
            stream = partial.open("ab")
        except OSError as error:
            check_storage(error, partial)
            raise
        with stream:
            # Another process may have renamed it between the opening and the locking.
            if not _lock(stream) or not partial.exists():
                continue
            if not os.path.samestat(os.fstat(stream.fileno()), partial.stat()):
                continue
            try:
                yield partial, stream.close
            except BaseException:
                if os.name == "nt":
                    stream.close()  # Windows removes no open file
                with contextlib.suppress(OSError):
                    if not partial.stat().st_size:
                        partial.unlink()
                raise
            return


def _empty(partial: pathlib.Path) -> None:
    """Throw away what a file holds; the file, and with it the lock, stays."""
    partial.open("wb").close()


def _continue(url: str, partial: pathlib.Path, limit: int, timeout: float) -> None:
    """Fetch what ``partial`` lacks; bytes that arrive are kept even when the rest does not."""
    have = partial.stat().st_size
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
        line, name = ProgressLine(), urllib.parse.urlsplit(url).path.rpartition("/")[2]
        of_total, shown = f" of {total / 1e6:.1f}" if total else "", time.monotonic()
        with partial.open("ab" if resumed else "wb") as out:
            while chunk := answer.read1(CHUNK):  # read() loses what came before a stall
                have += len(chunk)
                if have > limit:
                    raise DownloadError(f"{url} sends more than the {limit} bytes it may have.")
                out.write(chunk)
                if time.monotonic() > shown + 1:
                    shown = time.monotonic()
                    line.show(f"{name}: {have / 1e6:.1f}{of_total} MB")
        line.end(f"{name}: {have / 1e6:.1f} MB")
    if total is not None and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")


def _attempt(url: str, partial: pathlib.Path, limit: int, timeout: float) -> tuple[str, bool]:
    """Try once; return why it failed ("" if it did not) and whether trying again makes sense."""
    try:
        _continue(url, partial, limit, timeout)
    except DownloadError:
        _empty(partial)
        raise
    except _Stale:
        _empty(partial)
        return "the file changed on the server", True
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server has nothing after what is here
            _empty(partial)
        error.close()
        again = error.code in (408, 416, 429) or error.code >= 500
        return f"the server answers {error.code} {error.reason}", again
    except urllib.error.URLError as error:
        return str(error.reason) or type(error).__name__, True
    except (OSError, EOFError, http.client.HTTPException) as error:
        if isinstance(error, OSError):
            check_storage(error, partial)
        return str(error) or type(error).__name__, True
    return "", True


def _have(path: pathlib.Path, expected_sha256: str | None) -> bool:
    """Return whether the right file is there, as far as that can be known."""
    return bool(expected_sha256) and path.is_file() and sha256(path) == expected_sha256


def download(
    url: str,
    expected_sha256: str | None,
    path: pathlib.Path | None = None,
    limit: int = LARGEST,
    timeout: float = 20.0,
    attempts: int = 4,
) -> pathlib.Path:
    """Download a file; what an earlier try left beside it (``.partial``) is continued.

    Two processes that want the same file do not disturb each other.

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
        StorageError: the disk is full, or the folder may not be written.
    """
    if not re.match("https?://", url):
        raise DownloadError(f"{url} is no address of a file: give one with https:// or http://.")
    if path is None:
        name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])
        path = CACHE / f"{(expected_sha256 or 'unchecked')[:12]}-{name}"
    path = user_path(path)
    if _have(path, expected_sha256):
        return path
    make_folder(path.parent)
    with _own_partial(path) as (partial, close):
        if not _have(partial, expected_sha256):  # a stopped run may have left it whole
            _fetch(url, expected_sha256, partial, limit, timeout, attempts)
        if os.name == "nt":
            close()  # Windows renames no open file
        try:
            replace(partial, path)
        except OSError as error:
            if not _have(path, expected_sha256):  # otherwise another process was faster
                check_storage(error, path)
                raise
            partial.unlink(missing_ok=True)
    return path


def _fetch(url, expected_sha256, partial, limit, timeout, attempts) -> None:
    """Download to ``partial`` and check it; the arguments are those of ``download``."""
    reason = "no attempt was made"
    for attempt in range(attempts):
        time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
        resumed = partial.stat().st_size > 0
        reason, again = _attempt(url, partial, limit, timeout)
        if not reason:
            found = sha256(partial)
            if expected_sha256 in (None, found):
                return
            _empty(partial)
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
    # A part that one address left is never continued from another: the two may differ.
    ending = url[-3:]
    packed = path.with_name(f"{path.name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{ending}")
    download(url, None, packed, limit=size + size // 8 + 2**12, **options)
    try:
        data = read_packed(packed, size)
    except DAMAGED as error:
        raise DownloadError(f"{url} is damaged ({error}): call again.") from None
    finally:
        packed.unlink(missing_ok=True)
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
        StorageError: the disk is full, or the folder may not be written.
    """
    for url in urls:
        try:
            data = _unpacked(url, path, expected_sha256, size, options)
            break
        except DownloadError:
            if url == urls[-1]:
                raise
    return write_whole(path, data)


# The folder data/


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


def find(relative: str) -> pathlib.Path | None:
    """Return where a file of ``data/`` lies, or None.

    Beside the packed ``.xz`` its original counts, as ``fetch`` stores it, and the official ``.gz``,
    as a reader may have put it there.
    """
    path = DATA / relative
    original = path.with_suffix("")
    places = [path]
    if path.suffix == ".xz":
        places += [original, original.with_name(original.name + ".gz")]
    return next((place for place in places if place.is_file()), None)


def fetch(relative: str, base_url: str | None = None, **options) -> pathlib.Path:
    """Download a file of ``data/`` that is missing: from the set's official addresses, or a mirror.

    Args:
        relative: the path inside ``data/``, as the manifest has it.
        base_url: where the file's folder lies as ``<file>.xz`` or ``<file>.gz``; by default the
            environment variable COURSE_DATA_URL followed by the folder, or else the official
            addresses; for files without any, COURSE_FETCH, the address of a copy of ``data/``.
        options: timeout and attempts, as in ``download``.

    Returns:
        Where it is now: a packed one is stored unpacked.

    Raises:
        DownloadError: it cannot be had, or is not the right one.
        StorageError: the disk is full, or the folder may not be written.
    """
    wanted, path, name = manifest()[relative], DATA / relative, relative.rpartition("/")[0]
    mirror = os.environ.get("COURSE_DATA_URL") or (
        os.environ.get("COURSE_FETCH") if path.suffix != ".xz" else None
    )
    base_url = base_url or (mirror and f"{mirror.rstrip('/')}/{name}")
    if path.suffix != ".xz":
        if not base_url:
            raise DownloadError(f"{relative} has no official address: {_restore(relative)}.")
        url, size = f"{base_url.rstrip('/')}/{path.name}", wanted["bytes"]
        return download(url, wanted["sha256"], path, limit=size, **options)
    original = path.with_suffix("")
    bases = [base_url] if base_url else manifest("sets")[name]["urls"]
    endings = (".xz", ".gz") if base_url else (".gz",)
    urls = [f"{base.rstrip('/')}/{original.name}{end}" for base in bases for end in endings]
    return download_packed(urls, original, wanted["sha256"], wanted["bytes"], **options)


def _restore(relative: str) -> str:
    return f"restore it (git checkout -- data/{relative})"


def _fetch_or_say_where(relative: str) -> pathlib.Path:
    """Fetch a file for a notebook that stands alone; raise a sentence that says what to upload."""
    try:
        return fetch(relative)
    except DownloadError as error:
        names = [pathlib.Path(relative).name]
        if relative.endswith(".xz"):
            same = [p for p in manifest() if p.split("/")[0] == relative.split("/")[0]]
            names = [pathlib.Path(p).stem + ".gz" for p in same if find(p) is None]
        raise DownloadError(
            f"{str(error).split(': ')[0]}: upload {', '.join(names)} to the folder "
            f"{(DATA / relative).parent}, and run this cell again."
        ) from None


def content(relative: str) -> bytearray:
    """Return a file's bytes (of a packed one, the original's) after its sha256 was checked.

    Where the environment variable COURSE_FETCH is set (the address of a copy of ``data/``; the
    first cell of a notebook that stands alone sets it), a file that is missing is fetched.

    Args:
        relative: the path inside ``data/``, as the manifest has it.

    Raises:
        DataError: the file is missing, truncated, altered, or unpacks to more than the manifest
            says (unpacking stops as soon as it does, so that it cannot fill the memory); or it
            cannot be fetched: then the message says where to upload what.
    """
    wanted = manifest().get(relative, {})
    if not {"sha256", "bytes"} <= wanted.keys():
        raise DataError(f"{DATA / 'manifest.json'} does not list {relative}: correct the name.")
    path, size = find(relative), wanted["bytes"]
    if path is None and os.environ.get("COURSE_FETCH"):
        path = _fetch_or_say_where(relative)
    path = path or DATA / relative
    try:
        data = read_packed(path, size)
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
        if isinstance(error, OSError):
            check_storage(error, path)
        problem = f"is damaged ({error})"
    name = relative.split("/")[0]
    other = f", or delete it and call data.fetch({name!r})" if relative.endswith(".xz") else ""
    raise DataError(f"{path} {problem}: {_restore(relative)}{other}.")


def checked_path(relative: str) -> pathlib.Path:
    """Return the path of a file of ``data/`` that is stored as it is, after ``content`` read it."""
    content(relative)
    return DATA / relative
