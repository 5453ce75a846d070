"""Pictures: files of every kind, folders as people have them, and what is said of the others."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageOps

from helpers import files, pictures

ORIENTATION = 0x0112


def noise(*shape, high=256, seed=0, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, high, shape).astype(kind)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def fill(folder, n=3, size=(40, 40, 3)):
    for number in range(n):
        save(folder / f"{number:03d}.png", noise(*size, seed=number))
    return folder


# One picture


def halves(mode: str, size=(60, 40)) -> Image.Image:
    """An image in this mode: left half dark, right half light."""
    grey = np.zeros((size[1], size[0]), np.uint8)
    grey[:, size[0] // 2 :] = 255
    return Image.fromarray(grey).convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *((mode, "png") for mode in ("L", "1", "P", "RGB", "RGBA", "LA", "I;16")),
        *(("CMYK", ending) for ending in ("jpg", "tif")),
        *(("L", ending) for ending in ("JPG", "JpEg", "webp", "bmp", "gif", "TIFF", "pgm")),
        *((mode, "tif") for mode in ("I", "F", "I;16")),
    ],
)
def test_any_kind_is_read(mode, ending, tmp_path):
    path = tmp_path / f"image.{ending}"
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        white = 1 if mode == "F" else 2**16 - 1
        Image.fromarray((np.asarray(halves("L")) // 255).astype(kind) * kind(white)).save(path)
    else:
        halves(mode).save(path)
    image = pictures.read_picture(path)
    assert image.shape == (224, 224, 3) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1
    np.testing.assert_allclose(image[:, :80], 0, atol=0.02)
    np.testing.assert_allclose(image[:, 144:], 1, atol=0.02)
    np.testing.assert_array_equal(pictures.read_picture(str(path)), image)
    np.testing.assert_array_equal(pictures.read_picture(path.read_bytes()), image)
    grey = pictures.read_picture(path, 50, channels=1)
    assert grey.shape == (50, 50, 1)
    np.testing.assert_allclose(grey[:, :20], 0, atol=0.02)


def test_grey_is_the_weighted_mean_of_the_colours():
    pixels = noise(30, 30, 3)
    grey = pictures.read_picture(pixels, 30, channels=1)
    weighted = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(grey[..., 0], weighted, atol=1e-5)


def test_inverted_cmyk_of_adobe(tmp_path):
    """Adobe's JPEG has 255 for no ink, and says so by a segment that Pillow writes too."""
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., 1:3] = 255  # magenta and yellow: red
    path = tmp_path / "print.jpg"
    Image.fromarray(pixels, "CMYK").save(path)
    assert b"Adobe" in path.read_bytes()
    np.testing.assert_allclose(
        pictures.read_picture(path, 10), np.broadcast_to([1, 0, 0], (10, 10, 3)), atol=0.02
    )


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key"])
def test_what_is_transparent_becomes_white(kind, tmp_path):
    """Black, the lower half of it transparent; or a dark half whose colour is the transparent."""
    path = tmp_path / "glass.png"
    if kind == "RGBA":
        pixels = np.zeros((30, 30, 4), np.uint8)
        pixels[:15, :, 3] = 255
        save(path, pixels)
    elif kind == "LA":
        alpha = Image.fromarray(np.repeat(np.uint8([255, 0]), 15)[:, None].repeat(30, 1))
        Image.merge("LA", [Image.new("L", (30, 30)), alpha]).save(path)
    elif kind == "palette":
        image = Image.fromarray(np.repeat(np.uint8([0, 1]), 15)[:, None].repeat(30, 1), "P")
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.save(path, transparency=1)
    else:
        pixels = np.zeros((30, 30, 3), np.uint8)
        pixels[15:] = (9, 9, 9)
        save(path, pixels, transparency=(9, 9, 9))
    image = pictures.read_picture(path)
    assert image[:100].max() < 0.01 and image[124:].min() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 400), (1000, 300)])
def test_any_size_becomes_a_square(size):
    image = pictures.read_picture(Image.new("RGB", size, (255, 0, 51)))
    np.testing.assert_allclose(image, np.broadcast_to([1, 0, 0.2], (224, 224, 3)), atol=1e-6)


def test_the_middle_is_kept():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert pictures.read_picture(pixels, size=10).min() == 1
    assert pictures.read_picture(pixels.transpose(1, 0, 2), size=10).min() == 1


def test_a_large_jpeg_is_the_same_picture(tmp_path):
    """It is decoded at a part of its size: quickly, and with the same result to the eye."""
    y, x = np.mgrid[:1600, :1200] / 1200
    pixels = np.uint8(np.stack([x * 200, y * 150, 100 + 50 * np.sin(9 * x)], axis=-1))
    path = save(tmp_path / "large.jpg", pixels, quality=95)
    np.testing.assert_allclose(
        pictures.read_picture(path, 64), pictures.read_picture(pixels, 64), atol=0.02
    )


def test_arrays_of_floats_are_rounded_to_bytes():
    values = np.random.default_rng(0).random((20, 20, 3))
    np.testing.assert_allclose(pictures.read_picture(values, 20), values, atol=0.5001 / 255)
    assert pictures.read_picture(np.full((5, 5), 0.5), size=5)[0, 0, 0] == np.float32(128 / 255)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 5, 5, 3), np.uint8), "shape"),
        (np.zeros((5, 5, 2), np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "shape"),
        (np.zeros((5, 5, 3), np.int32), "int32"),
        (np.full((5, 5, 3), 255.0), r"255\.0: give uint8"),
        (np.full((5, 5, 3), np.nan), "give uint8"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(ValueError, match=message):
        pictures.read_picture(array)


# Turned upright


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_a_photograph_taken_sideways_is_turned_upright(turn, ending, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    lossless = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", noise(20, 30, 3), exif=exif, **lossless)
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    expected = ImageOps.fit(image, (20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(
        pictures.read_picture(path, 20), np.asarray(expected, np.float32) / 255
    )


def test_a_deep_picture_is_turned_too(tmp_path):
    upright = np.zeros((32, 32), np.uint16)
    upright[:16] = 65535  # light above
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored turned by 90 degrees to the left
    path = save(tmp_path / "a.png", np.rot90(upright).copy(), exif=exif)
    np.testing.assert_array_equal(pictures.read_picture(path, 32)[..., 0], upright / 65535)
    colours = np.rot90(upright)[..., None].repeat(3, axis=-1)
    deep = tmp_path / "colours.tif"
    tifffile.imwrite(deep, colours, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(pictures.read_picture(deep, 32)[..., 0], upright / 65535)


def exif_block(kind: int, count: int, value: bytes) -> bytes:
    """An EXIF directory with one entry: the orientation, of any type."""
    entry = struct.pack("<HHI", ORIENTATION, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + b"\0\0\0\0"


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (exif_block(3, 1, b"\x06\0"), True),
        (exif_block(4, 1, b"\x06\0\0\0"), True),  # a long number instead of a short one
        (exif_block(1, 1, b"\x06"), True),  # a byte
        (exif_block(7, 1, b"\x06"), True),  # "undefined"
        (exif_block(2, 2, b"6\0"), True),  # a text
        (exif_block(3, 2, b"\x06\0\x06\0"), True),  # twice
        (exif_block(3, 1, b"\x00\0"), False),  # 0 and 9 mean nothing
        (exif_block(3, 1, b"\x09\0"), False),
        (exif_block(2, 2, b"x\0"), False),
        (exif_block(5, 1, b"\xff\xff\xff\x7f"), False),  # a value that lies beyond the end
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
        (b"Exif\0\0garbage", False),
        (b"Exif\0\0", False),
    ],
)
def test_odd_exif_never_loses_a_picture(exif, turned, tmp_path, recwarn):
    lying = np.zeros((64, 64, 3), np.uint8)
    lying[:, :32] = 255
    path = save(tmp_path / "odd.jpg", lying, exif=exif, quality=95)
    image = pictures.read_picture(path, 64)
    light = image[:20] if turned else image[:, :20]
    assert light.min() > 0.9 and abs(image.mean() - 0.5) < 0.05
    assert not recwarn.list


# Deeper than 8 bits


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14, 16])
def test_whole_numbers_in_a_deep_file_are_scaled_by_the_depth_that_they_need(bits, tmp_path):
    pixels = noise(64, 64, high=2**bits, kind=np.uint16)
    pixels[0, :2] = 0, 2**bits - 1
    path = save(tmp_path / "deep.png", pixels)
    expected = pixels / (2**bits - 1)
    np.testing.assert_allclose(pictures.read_picture(path, 64)[..., 0], expected, atol=1e-6)
    read = pictures.read_pictures([path], 64, channels=1).images[0, ..., 0]
    np.testing.assert_allclose(read, 255 * expected, atol=0.51)


def test_precision_is_kept_until_after_scaling(tmp_path):
    """12 bits, of which a dark quarter is used: 1,024 levels, not the 17 that 8 of 16 bits keep."""
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    image = pictures.read_picture(save(tmp_path / "a.png", pixels), 64)
    assert len(np.unique(image)) > 4000


@pytest.mark.parametrize(("kind", "white"), [(np.uint16, 4095), (np.float32, 1)])
def test_a_folder_has_one_range(kind, white, tmp_path):
    for name, most in (("a.tif", 410), ("b.tif", 4096)):
        pixels = noise(40, 40, high=most, kind=np.int64)
        save(tmp_path / name, (pixels * white / 4095).astype(kind))
    save(tmp_path / "c.png", np.full((40, 40), 100, np.uint8))  # 8 bits: as it is
    images = pictures.read_folder(tmp_path, 40, channels=1)
    assert 20 <= images[0].max() <= 26 and images[1].max() >= 254
    assert (images[2] == 100).all()


def test_eight_bits_are_never_stretched(tmp_path):
    save(tmp_path / "a.png", noise(40, 40, 3, high=60))
    save(tmp_path / "b.png", noise(40, 40, 3, high=90))
    images = pictures.read_folder(tmp_path, 40)
    assert images.reshape(2, -1).max(axis=1).tolist() == [59, 89]


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [(0, 1, 0, 1), (0.2, 0.7, 0, 1), (0, 255, 0, 255), (-1, 1, -1, 1), (-1000, 3000, -1000, 3000)],
)
def test_floats_of_any_range(low, high, black, white, tmp_path):
    values = np.linspace(low, high, 4096, dtype=np.float32).reshape(64, 64)
    image = pictures.read_picture(save(tmp_path / "cell.tif", values), 64)
    np.testing.assert_allclose(image[..., 1], (values - black) / (white - black), atol=1e-5)


def test_negative_whole_numbers_as_of_a_ct(tmp_path):
    values = np.linspace(-1024, 3071, 4096).round().astype(np.int16).reshape(64, 64)
    tifffile.imwrite(tmp_path / "ct.tif", values)
    image = pictures.read_picture(tmp_path / "ct.tif", 64)
    np.testing.assert_allclose(image[..., 0], (values + 1024.0) / 4095, atol=1e-5)


def test_pixels_without_a_value_are_black_and_do_not_count(tmp_path):
    values = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    values[0, :3] = np.nan, np.inf, -3.4e38  # the last is how maps mark them
    image = pictures.read_picture(save(tmp_path / "holes.tif", values), 64)[..., 0]
    assert (image[0, :3] == 0).all()
    np.testing.assert_allclose(image[1:], values[1:], atol=1e-6)
    empty = save(tmp_path / "empty.tif", np.full((64, 64), np.nan, np.float32))
    with pytest.raises(ValueError, match="holds no number"):
        pictures.read_picture(empty)


@pytest.mark.parametrize("ending", ["png", "tif", "planar.tif", "float.tif"])
def test_colours_of_more_than_8_bits(ending, tmp_path):
    """Pillow keeps the upper 8 of 16 bits of a colour: 12-bit colours would be black."""
    pixels, path = noise(40, 40, 3, high=4096, kind=np.uint16), tmp_path / f"deep.{ending}"
    pixels[0, 0] = 4095
    expected = pixels / 4095
    if ending == "png":
        path.write_bytes(tf.io.encode_png(pixels).numpy())
    elif ending == "planar.tif":
        planes = np.moveaxis(pixels, -1, 0)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    else:
        values = pixels if ending == "tif" else expected.astype(np.float32)
        tifffile.imwrite(path, values, photometric="rgb")
    np.testing.assert_allclose(pictures.read_picture(path, 40), expected, atol=1e-5)


def test_a_transparent_deep_picture_is_white_there(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint16)
    pixels[:20] = (4095, 0, 0, 65535)
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(pixels).numpy())
    image = pictures.read_picture(tmp_path / "a.png", 40)
    np.testing.assert_allclose(image[:15], np.broadcast_to([1, 0, 0], (15, 40, 3)), atol=1e-3)
    np.testing.assert_allclose(image[25:], 1, atol=1e-3)


# What cannot be used


def half_a_picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


UNUSABLE = {
    "text.png": (b"This is a text.", "is no picture that can be read"),
    "empty.jpg": (b"", "is empty"),
    "broken.png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "is (damaged|no picture)"),
    "broken.tif": (b"II*\0" + b"\xff" * 60, "is (damaged|no picture)"),
    "half.jpg": (half_a_picture(), "is damaged .*truncated"),
    "IMG_1.HEIC": (b"\0\0\0 ftypheic" + b"\0" * 50, "is HEIC, .*save it as JPEG"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_files_that_are_no_pictures(tmp_path, name):
    content, message = UNUSABLE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as problem:
        pictures.read_picture(path)
    assert str(path) in str(problem.value) and "\n" not in str(problem.value)
    assert str(problem.value).endswith("give the path of a PNG or JPEG file.")


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.png does not exist: give the path"):
        pictures.read_picture(tmp_path / "missing.png")
    with pytest.raises(ValueError, match=r"cannot be read \(it is a folder\)"):
        pictures.read_picture(tmp_path)
    with pytest.raises(ValueError, match="size is 0"):
        pictures.read_picture(np.zeros((5, 5)), size=0)


def test_what_cannot_be_used_is_named_with_its_reason_and_left_out(tmp_path, capsys, monkeypatch):
    folder = fill(tmp_path / "set", 2)
    for name, (content, _) in UNUSABLE.items():
        (folder / name).write_bytes(content)
    save(folder / "tiny.png", noise(2, 300, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    save(folder / "bomb.png", noise(100, 100, 3))
    read = pictures.read_pictures(pictures.list_pictures(folder), 32)
    assert [path.name for path in read.paths] == ["000.png", "001.png"] and len(read.images) == 2
    said = capsys.readouterr().out
    assert said.startswith("Left out of set: ") and said.count("\n") == 1
    assert str(tmp_path) not in said
    for name in (*UNUSABLE, "tiny.png", "bomb.png"):
        assert name in said and read.left_out[folder / name] in said
    assert read.left_out[folder / "tiny.png"] == "has only 300 x 2 pixels"
    assert read.left_out[folder / "bomb.png"].startswith("has more than")


def test_many_that_are_left_out_are_counted(tmp_path, capsys):
    folder = fill(tmp_path / "set", 2)
    for number in range(30):
        (folder / f"x{number:02d}.txt").write_text("no")
    pictures.read_folder(folder, 32)
    said = capsys.readouterr().out
    assert said.endswith("; and 20 more.\n") and "x09.txt" in said and "x10.txt" not in said


def test_a_folder_that_is_nearly_black_is_said(tmp_path, capsys):
    for number in range(2):
        save(tmp_path / f"{number}.png", noise(20, 20, high=3, seed=number))
    pictures.read_folder(tmp_path, 20)
    assert "nearly black: their brightest value is 2 of 255" in capsys.readouterr().out


# Folders


def test_what_systems_leave_behind_is_not_even_named(tmp_path, capsys):
    folder = fill(tmp_path / "set", 2)
    for name in (".DS_Store", "Thumbs.db", "._000.png", "desktop.ini", "ehthumbs.db", "Icon\r"):
        if os.name != "nt" or "\r" not in name:
            (folder / name).write_bytes(b"\0\5\x16\7nothing")
    for name in (".ipynb_checkpoints", "__MACOSX", "cats", "__pycache__"):
        fill(folder / name, 1)
    assert [path.name for path in pictures.list_pictures(folder)] == ["000.png", "001.png"]
    assert [path.name for path in pictures.list_folders(folder)] == ["cats"]
    assert len(pictures.read_folder(folder, 32)) == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["with blank", "[1] (x) {y}", "Äpfel", "苹果", "n" * 200, "a,b;c'd", "100%", "#1"]
)
def test_names_of_all_kinds(name, tmp_path):
    folder = tmp_path / name
    for number in range(2):
        save(folder / f"{name}{number}.PNG", noise(20, 20, 3))
    assert pictures.find_folder(str(folder)) == folder
    assert pictures.read_folder(folder, 20).shape == (2, 20, 20, 3)
    image = pictures.read_picture(str(folder / f"{name}0.PNG"), 20)
    np.testing.assert_allclose(image, noise(20, 20, 3) / 255, atol=1e-6)


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are all Unicode")
def test_a_name_that_is_no_unicode_can_be_printed(tmp_path, capsys):
    folder = fill(tmp_path / "set", 2)
    with open(os.path.join(os.fsencode(folder), b"\xff\n.png"), "wb"):
        pass
    pictures.read_folder(folder, 32)
    said = capsys.readouterr().out
    said.encode("utf-8")
    assert "is empty" in said and said.count("\n") == 1


def test_the_home_folder_quotes_and_relative_paths(tmp_path, monkeypatch):
    fill(tmp_path / "my cats", 2)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/my cats", "my cats", f'"{tmp_path / "my cats"}"', " my cats "):
        assert len(pictures.read_folder(path, 32)) == 2
    assert pictures.read_picture("~/my cats/000.png", 32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        (None, "folder is None: give the path"),
        ("", "folder is '': give the path"),
        (["a", "b"], "folder is .*: give the path"),
        ("missing", "There is no folder missing in .*: correct the path"),
        ("n" * 5000, "cannot be read|There is no folder"),
        ("file.png", "file.png is a file and no zip"),
        ("empty", "empty is empty: put pictures there"),
        ("one", "one has 1 usable pictures: put 2 or more there"),
        ("above", r"above has 0 usable pictures: .* one of the folders in it \(cats, dogs\)"),
        ("half.zip", "half.zip is a file and no zip that can be opened"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_sentence(folder, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "file.png", noise(20, 20, 3))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"")
    fill(tmp_path / "one", 1)
    for name in ("cats", "dogs"):
        fill(tmp_path / "above" / name, 2)
    (tmp_path / "half.zip").write_bytes(zipped({"a.png": b"1" * 500})[:-40])
    with pytest.raises(files.DataError, match=sentence) as problem:
        pictures.read_folder(folder, 32)
    assert str(problem.value).count("\n") == 0


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def png(seed=0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(20, 20, 3, seed=seed)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("inside", ["", "cats/", "a/b/"])
def test_a_zip_is_unpacked_into_the_cache(inside, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
    members = {f"{inside}Katze {n} 图.png": png(n) for n in range(3)}
    members |= {f"__MACOSX/{inside}._0.png": b"\0\5\x16\7", ".DS_Store": b"x"}
    archive = tmp_path / "cats.zip"
    archive.write_bytes(zipped(members))
    images = pictures.read_folder(archive, 20)
    assert len(images) == 3
    np.testing.assert_array_equal(images[1], noise(20, 20, 3, seed=1))
    np.testing.assert_array_equal(pictures.read_folder(archive, 20), images)
    archive.write_bytes(zipped({"a.png": png(7), "b.png": png(8)}))  # another with the same name
    assert len(pictures.read_folder(archive, 20)) == 2


def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CACHE", tmp_path / "deep" / "cache")
    archive = tmp_path / "evil.zip"
    archive.write_bytes(zipped({"a.png": png(), "../../../evil.png": png()}))
    with pytest.raises(files.DataError, match="leads out of its folder") as problem:
        pictures.find_folder(archive)
    assert "\n" not in str(problem.value)
    assert not list(tmp_path.rglob("*.png"))


def test_classes_in_subfolders_share_one_range(tmp_path, capsys):
    for name, most in (("ill", 4096), ("well", 300)):
        for number in range(2):
            pixels = noise(28, 28, high=most, seed=number, kind=np.uint16)
            save(tmp_path / name / f"{number}.png", pixels)
    (tmp_path / "well" / "notes.txt").write_text("no")
    folders = pictures.list_folders(pictures.find_folder(tmp_path))
    paths = [path for folder in folders for path in pictures.list_pictures(folder)]
    read = pictures.read_pictures(paths, 28, channels=1)
    assert read.images.shape == (4, 28, 28, 1) and read.images.dtype == np.uint8
    assert read.images[:2].max() == 255 and 15 <= read.images[2:].max() <= 19
    assert [path.parent.name for path in read.paths] == ["ill"] * 2 + ["well"] * 2
    name = os.path.join("well", "notes.txt")
    assert f"Left out of {tmp_path.name}: {name} is no picture" in capsys.readouterr().out


def test_no_picture_at_all():
    read = pictures.read_pictures([], 28)
    assert read.images.shape == (0, 28, 28, 3) and not read.paths and not read.left_out
