"""Unpacking what came from elsewhere: bounded in memory and on disk, and only into its folder."""

import contextlib
import functools
import gzip
import lzma
import os
import pathlib
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib

CHUNK = 2**18  # bytes
LARGEST = 2**31  # bytes; what an archive may unpack to unless the caller says
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


def extract(archive: pathlib.Path, folder: pathlib.Path, limit: int = LARGEST) -> pathlib.Path:
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
