"""Pack IDX files into data/ and enter them in data/manifest.json.

    python -m tools.pack_data FOLDER

FOLDER holds ``<set>/<file>-ubyte.gz`` as the sets' authors publish them, for example
``mnist/train-images-idx3-ubyte.gz``. Files that are packed already are left as they are; a file
that differs from the one in the manifest is refused. 47 MB of images take about a minute.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import lzma
import pathlib
import sys

from helpers import data, files
from tools import manifest

LARGEST = 2**30  # bytes; what one original may have
PATTERN = "*-ubyte.gz"


def compress(original: bytes) -> bytes:
    """Pack with xz as the files in ``data/`` are packed: the same bytes on every machine.

    For images, LZMA looks at more of the byte before (lc=4) and never at the position (lp, pb):
    a little smaller than xz -9e.
    """
    images = original[3] == 3  # dimensions
    filters = [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": 2**26,
            "lc": 4 if images else 3,
            "lp": 0,
            "pb": 0,
        }
    ]
    return lzma.compress(original, check=lzma.CHECK_SHA256, filters=filters)


def pack(source: pathlib.Path) -> str:
    """Pack one ``<set>/<file>-ubyte.gz``, enter it in the manifest, and return what was done.

    Raises:
        helpers.files.DataError: it is damaged, no IDX file, another file than the manifest's, or of
            a set whose source and licence the manifest does not say.
    """
    folder, relative = source.parent.name, f"{source.parent.name}/{source.stem}.xz"
    if folder not in files.manifest("sets"):
        raise files.DataError(
            f"{files.DATA / 'manifest.json'} does not say where {folder} comes from: describe it "
            "under sets first."
        )
    try:
        with gzip.open(source) as stream:
            original = bytes(files.read_bounded(stream, LARGEST))
    except files.DAMAGED as error:
        raise files.DataError(f"{source} is damaged ({error}): download it again.") from None
    shape = data.read_idx(original, str(source)).shape
    entry = {"sha256": hashlib.sha256(original).hexdigest(), "bytes": len(original)}
    known = files.manifest().get(relative)
    if known and known["sha256"] != entry["sha256"]:
        raise files.DataError(
            f"{source} is not the original of {relative} (its sha256 is another): remove the entry "
            "from the manifest if it is to be replaced."
        )
    target = files.DATA / relative
    with contextlib.suppress(*files.DAMAGED):
        if known and files.read_packed(target, len(original)) == original:
            return f"{relative}: was packed already"
    packed = compress(original)
    assert files.read_xz(io.BytesIO(packed), len(original)) == original
    manifest.register(relative, packed, **entry)
    return f"{relative}: {shape}, {len(original)} -> {len(packed)} bytes"


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.pack_data")
    parser.add_argument("folder", type=pathlib.Path, help="holds <set>/<file>-ubyte.gz")
    folder = parser.parse_args(arguments).folder
    sources = sorted(folder.glob(f"*/{PATTERN}"))
    if not sources:
        print(f"{folder} holds no <set>/{PATTERN}: give another folder.", file=sys.stderr)
        return 1
    for source in sources:
        try:
            print(pack(source), flush=True)
        except files.DataError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
