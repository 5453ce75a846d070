"""Downloads that can stop and go on, and archives that cannot write where they should not.

Nothing in the course needs a network; larger official sets come through here when a reader asks.
"""

import contextlib
import gzip
import hashlib
import os
import pathlib
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib

CHUNK = 2**18  # bytes
LARGEST = 2**31  # bytes; what a file or an unpacked archive may take unless the caller says


class DownloadError(RuntimeError):
    """A file could not be had, or is not the right one; the message says what to do."""


class _Changed(Exception):
    """The rest that the server offers does not belong to the part that is here."""


def read_bounded(stream, limit: int) -> bytes:
    """Read a stream to its end, but one byte more than ``limit`` at most (so that it shows)."""
    parts, size = [], 0
    while size <= limit:
        part = stream.read(min(CHUNK, limit + 1 - size))
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def sha256(path: pathlib.Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _continue(url: str, partial: pathlib.Path, limit: int, timeout: float) -> None:
    """Fetch what ``partial`` lacks; bytes that arrive are kept even when the rest does not."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        ranged = answer.status == 206
        if ranged and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _Changed
        announced = answer.headers.get("Content-Length")
        size = int(announced) if announced and announced.isdigit() else None
        have = have if ranged else 0
        total = None if size is None else have + size
        if total is not None and total > limit:
            raise DownloadError(f"{url} has {total} bytes, more than the {limit} it may have.")
        with partial.open("ab" if ranged else "wb") as out:
            while chunk := answer.read(CHUNK):
                have += len(chunk)
                if have > limit:
                    raise DownloadError(f"{url} sends more than the {limit} bytes it may have.")
                out.write(chunk)
    if total is not None and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")


def download(
    url: str,
    path: pathlib.Path,
    expected_sha256: str | None,
    limit: int = LARGEST,
    timeout: float = 20.0,
    attempts: int = 4,
) -> pathlib.Path:
    """Download a file to ``path``; what an earlier try left beside it is continued.

    Args:
        url: an http or https address.
        path: where the file goes; it appears there at once and whole, or not at all.
        expected_sha256: hexadecimal digits, or None where the caller checks the content itself.
        limit: the largest size in bytes.
        timeout: how many seconds the server may be silent.
        attempts: tries before giving up, with growing pauses between them.

    Returns:
        ``path``. When a file with this sha256 is there already, nothing is downloaded.

    Raises:
        DownloadError: there is no network, no such file, or the file is too large or another one.
    """
    path = pathlib.Path(path)
    if expected_sha256 and path.is_file() and sha256(path) == expected_sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, reason = path.with_name(path.name + ".partial"), ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(0.5 * 2**attempt, timeout))
        try:
            _continue(url, partial, limit, timeout)
        except DownloadError:
            partial.unlink(missing_ok=True)
            raise
        except _Changed:
            partial.unlink(missing_ok=True)
            reason = "the file changed on the server"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # what is here is no beginning of the file
                partial.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                break
        except (OSError, EOFError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        else:
            found = sha256(partial)
            if expected_sha256 in (None, found):
                os.replace(partial, path)
                return path
            partial.unlink()
            raise DownloadError(
                f"{url} is not the expected file (sha256 {found[:12]}... instead of "
                f"{expected_sha256[:12]}...): it was removed; look for a newer address of it."
            )
    raise DownloadError(
        f"{url} cannot be downloaded ({reason}): check the address and the network, and call again "
        "to go on, or stay with the data that the course carries."
    )


def download_gzip(url: str, path: pathlib.Path, expected_sha256: str, size: int) -> pathlib.Path:
    """Download a gzip file and store what it holds at ``path``.

    Args:
        url: the address of the gzip file.
        path: where its content goes, whole or not at all.
        expected_sha256: of the content, hexadecimal digits.
        size: bytes of the content.

    Raises:
        DownloadError: there is no network, or the content is damaged or another one.
    """
    packed = path.with_name(path.name + ".gz")
    try:
        download(url, packed, None, limit=size)
    except DownloadError as error:
        raise DownloadError(f"{error} Or unpack {packed.name} to {path} yourself.") from None
    try:
        with gzip.open(packed) as stream:
            data = read_bounded(stream, size)
    except (OSError, EOFError, zlib.error) as error:
        raise DownloadError(f"{url} is damaged ({error}): call again.") from None
    finally:
        packed.unlink(missing_ok=True)
    if hashlib.sha256(data).hexdigest() != expected_sha256:
        raise DownloadError(f"{url} does not hold the official file: use another address.")
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    return path


def _zip_members(archive: zipfile.ZipFile, limit: int, folder: pathlib.Path) -> None:
    for info in archive.infolist():
        target = (folder / info.filename).resolve()
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if link or not target.is_relative_to(folder.resolve()) or ":" in info.filename:
            raise DownloadError(
                f"The archive holds {info.filename!r}, which leads out of its folder."
            )
        if info.is_dir():
            continue
        limit -= info.file_size
        if limit < 0:
            raise DownloadError("The archive unpacks to more bytes than it may have.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, CHUNK)  # zipfile stops at the size in the header


def _tar_members(archive: tarfile.TarFile, limit: int, folder: pathlib.Path) -> None:
    for member in archive:
        if not (member.isfile() or member.isdir()):
            raise DownloadError(f"The archive holds {member.name!r}, a link or a device.")
        limit -= member.size
        if limit < 0:
            raise DownloadError("The archive unpacks to more bytes than it may have.")
        try:
            archive.extract(member, folder, filter="data")
        except tarfile.FilterError as error:
            raise DownloadError(
                f"The archive holds {member.name!r}, which leads out of its folder ({error})."
            ) from None


def extract(archive: pathlib.Path, folder: pathlib.Path, limit: int = LARGEST) -> pathlib.Path:
    """Unpack a zip or tar archive (also gz, bz2, xz) into a new folder.

    Args:
        archive: the file.
        folder: the folder to make; it appears whole, or not at all. An existing one is left as
            it is, and nothing is unpacked.
        limit: the most bytes that the archive may unpack to.

    Returns:
        ``folder``.

    Raises:
        DownloadError: the archive is damaged or too large, or a member is a link or has a path
            outside of the folder.
    """
    archive, folder = pathlib.Path(archive), pathlib.Path(folder)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(prefix=folder.name, suffix=".partial", dir=folder.parent)
    )
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _zip_members(opened, limit, temporary)
        else:
            with tarfile.open(archive) as opened:
                _tar_members(opened, limit, temporary)
        os.replace(temporary, folder)
    except DownloadError as error:
        raise DownloadError(f"{archive.name} is refused. {error} Nothing was unpacked.") from None
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise DownloadError(
            f"{archive.name} cannot be unpacked ({error}): delete it and download it again."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return folder
