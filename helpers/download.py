"""Downloads that stop and go on.

Nothing in the course needs a network; larger official sets come through here when a reader asks.
"""

import gzip
import hashlib
import http.client
import os
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from helpers import archives

CACHE = pathlib.Path(os.environ.get("COURSE_CACHE") or pathlib.Path(__file__).parents[1] / ".cache")
LARGEST = 2**31  # bytes; what a file may have unless the caller says
PAUSE = 1.0  # seconds before the second try; then twice as long each time
STAY = "or stay with the data that the course carries."


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
            while chunk := answer.read1(archives.CHUNK):  # read() loses what came before a stall
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
                data = archives.read_xz(stream, size)
        else:
            with gzip.open(packed) as stream:
                data = archives.read_bounded(stream, size)
    except archives.DAMAGED as error:
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
