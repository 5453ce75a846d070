"""Entries of data/manifest.json, for the scripts that make files of data/."""

import contextlib
import hashlib
import json

from helpers import files


@contextlib.contextmanager
def edited():
    """Yield the manifest, {"about", "sets", "files"}; it is written when the block ends well."""
    path = files.DATA / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    yield content
    files.write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def register(relative: str, content: bytes | None = None, **facts) -> dict:
    """Enter a file in the manifest, in place of an older entry.

    Args:
        relative: the path inside ``data/``.
        content: what to write there first, whole or not at all; None if the file is there already.
        facts: more of the entry; for a packed file also its original's ``sha256`` and ``bytes``,
            which are the file's own otherwise.

    Returns:
        The entry.
    """
    path = files.DATA / relative
    if content is None:
        content = path.read_bytes()
    else:
        files.write_whole(path, content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **facts}
    with edited() as manifest:
        manifest["files"][relative] = entry
    return entry
