"""Unpaired: two sets of pictures without partners, for translation from one to the other.

``load`` gives every set in the same form: drawn fruit (with the truth for testing), real boots and
sneakers, photographs of apples and oranges in grocery stores, the official sets of Zhu et al. 2017,
or a reader's own two folders.
"""

import csv
import dataclasses
import os
import pathlib
import re

import numpy as np
from IPython import get_ipython
from IPython.display import display

from helpers import data, files, pictures
from helpers.simulate import fruit

ADDRESS = "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/"  # of <name>.zip
OFFICIAL = {  # sha256 of the archive
    "apple2orange": "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
    "horse2zebra": "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
}
LICENCE = (
    "photographs from ImageNet (Zhu et al. 2017), for research that is not commercial; the rights "
    "stay with the photographers"
)
GROCERY = "fc80ba90f803d79d0383df52c5a4ac5de99ff6fc"  # the commit of the data set's repository
GROCERY_ADDRESS = (
    f"https://raw.githubusercontent.com/marcusklasson/GroceryStoreDataset/{GROCERY}/dataset/"
)
GROCERY_FILES = pathlib.Path(__file__).with_name("grocery.csv")
GROCERY_LICENCE = (
    "photographs of the Grocery Store Dataset by M. Klasson, C. Zhang and H. Kjellström (WACV "
    "2019), MIT licence, © 2019 Marcus Klasson; of its apples the kinds Red Delicious and Granny "
    "Smith, of its oranges the kind Orange"
)
DATASETS = ("fruit", "boots", "grocery", *OFFICIAL, "folder")
SNEAKER, BOOT = 7, 9  # classes of Fashion-MNIST
FEW = 50  # pictures; with fewer, a network learns them by heart
MOST_TESTS = 500  # pictures of a folder that are kept for testing


@dataclasses.dataclass(frozen=True, eq=False)
class Domains:
    """Two domains, A and B.

    Attributes:
        names: what A and B show.
        train_a, train_b: uint8, shapes (n, size, size, 3 or 1) and (m, ...), without partners.
        test_a, test_b: others, for testing.
        paired: whether ``test_b[i]`` is the true counterpart of ``test_a[i]``.
    """

    names: tuple[str, str]
    train_a: np.ndarray
    train_b: np.ndarray
    test_a: np.ndarray
    test_b: np.ndarray
    paired: bool = False


# What a reader may ask for


def check(dataset: str, folders=None) -> list[pathlib.Path]:
    """Check the options of a notebook before anything is computed.

    Args:
        dataset: one of ``DATASETS``.
        folders: with ``"folder"``, the paths of two folders or zip files with pictures: a list, or
            text that shows one (what papermill's option -p gives).

    Returns:
        The two folders; [] for the other sets.

    Raises:
        helpers.files.DataError: the name is unknown; or folders are given for another set; or they
            are not two different ones with two files or more in each.
    """
    if dataset not in DATASETS:
        raise files.DataError(f"There is no data set {dataset!r}: use {', '.join(DATASETS)}.")
    if dataset != "folder":
        if folders:
            raise files.DataError(
                f'folders are given, but dataset is "{dataset}": set dataset = "folder".'
            )
        return []
    found = [pictures.find_folder(folder) for folder in _two(folders)]
    if found[0].resolve() == found[1].resolve():
        raise files.DataError(f"Both folders are {found[0]}: give two different ones.")
    for folder in found:
        if len(pictures.list_pictures(folder)) < 2:
            pictures.read_folder(folder, 32)  # says what is there instead
    return found


def _two(folders) -> list:
    """Return two paths, given as a list or as text that shows a list."""
    given = folders
    if isinstance(given, str):
        shown = re.fullmatch(r"\s*[\[(](.*)[\])]\s*", given, re.DOTALL)
        inside = shown[1] if shown else ""
        # Quoted parts as they stand: in a path of Windows, a backslash is no escape.
        quoted = re.findall(r"\"([^\"]*)\"|'([^']*)'", inside)
        given = [one or other for one, other in quoted]
        given = given or [path.strip() for path in inside.split(",")]
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise files.DataError(
            f'folders is {folders!r}: with dataset="folder", give the paths of two folders, '
            '["path of A", "path of B"] (papermill: -y \'folders: ["path of A", "path of B"]\').'
        )
    return list(given)


# The sets


def _split(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep every tenth picture for testing: one at least, and about 500 at most."""
    test = np.arange(len(images)) % max(10, len(images) // MOST_TESTS) == 0
    return images[~test], images[test]


def _name(folder) -> str:
    path = pathlib.Path(os.path.expanduser(folder)).resolve()
    return path.stem if path.is_file() else path.name


def _folders(folders, size: int) -> Domains:
    found = check("folder", folders)
    sets = [pictures.read_folder(folder, size) for folder in found]
    names = [_name(folder) for folder in _two(folders)]
    if names[0] == names[1]:
        names = [f"{folder.parent.name}/{folder.name}" for folder in found]
    for name, images in zip(names, sets, strict=True):
        if len(images) < FEW:
            print(
                f"{name} has {len(images)} pictures: all cells run, but a network needs some "
                "hundreds to learn what they have in common."
            )
    (train_a, test_a), (train_b, test_b) = map(_split, sets)
    return Domains(tuple(names), train_a, train_b, test_a, test_b)


def _official(name: str, size: int, **options) -> Domains:
    address = os.environ.get("COURSE_CYCLEGAN_URL", ADDRESS).rstrip("/")
    sha256 = options.pop("sha256", OFFICIAL[name])
    folder = files.CACHE / f"{name}-{sha256[:12]}"
    if not folder.is_dir():
        archive = files.download(f"{address}/{name}.zip", sha256, **options)
        files.extract(archive, folder)
        archive.unlink()
    parts = [
        pictures.read_folder(folder / name / part, size)
        for part in ("trainA", "trainB", "testA", "testB")
    ]
    print(f"{name}: {LICENCE}.")
    return Domains(tuple(name.split("2")), *parts)


def grocery_files() -> list[dict[str, str]]:
    """Return the photographs of ``"grocery"``: path, fruit, split, bytes and sha256 of each.

    Of the apples those that cannot be taken for oranges (Royal Gala, Pink Lady and Golden Delicious
    can), and no satsumas, of which some are green; the authors' validation part is for training.
    The order, by sha256, mixes the kinds.
    """
    with GROCERY_FILES.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _grocery(size: int, **options) -> Domains:
    """Download what is not there yet, one file at a time, and read all."""
    base = os.environ.get("COURSE_GROCERY_URL", GROCERY_ADDRESS).rstrip("/")
    folder = files.CACHE / f"grocery-{GROCERY[:12]}"
    entries, line = grocery_files(), None
    paths = {(fruit, split): [] for split in ("train", "test") for fruit in ("apple", "orange")}
    for number, entry in enumerate(entries, 1):
        path, limit = folder / entry["path"], int(entry["bytes"])
        missing = not path.is_file()
        files.download(f"{base}/{entry['path']}", entry["sha256"], path, limit=limit, **options)
        paths[entry["fruit"], entry["split"]].append(path)
        if missing and (line is None or number % 10 == 0 or number == len(entries)):
            line = _progress(line, f"grocery: photograph {number} of {len(entries)} has arrived")
    parts = [pictures.read_pictures(those, size).images for those in paths.values()]
    print(f"grocery: {GROCERY_LICENCE}.")
    return Domains(("apple", "orange"), *parts)


def _progress(line, text: str):
    """Show a line that takes the place of the one before; outside of a notebook, nothing."""
    if get_ipython() is None:
        return None
    content = {"text/plain": text}
    if line is None:
        return display(content, raw=True, display_id=True)
    line.update(content, raw=True)
    return line


def _boots(size: int) -> Domains:
    parts, before = [], (size - 28) // 2
    margin = (before, size - 28 - before)
    for split in ("train", "test"):
        images, labels = data.load("fashion-mnist", split)
        for kind in (SNEAKER, BOOT):
            parts.append(np.pad(images[labels == kind], ((0, 0), margin, margin, (0, 0))))
    return Domains(("sneaker", "ankle boot"), *parts)


def load(
    dataset: str = "fruit", size: int = 64, n: int = 1000, seed: int = 0, folders=None, **options
) -> Domains:
    """Load two domains.

    Args:
        dataset: ``"fruit"`` (drawn apples and oranges; the only set whose truth is known),
            ``"boots"`` (Fashion-MNIST, sneakers and ankle boots; grey), ``"grocery"`` (Klasson et
            al. 2019, photographs of apples and oranges in stores, in the authors' split),
            ``"apple2orange"`` or ``"horse2zebra"`` (Zhu et al. 2017), or ``"folder"``. Grocery and
            the sets of Zhu et al. are downloaded, and kept in the cache.
        size: width and height in pixels; a multiple of 16, 32 at least.
        n: fruit: how many of each kind to train with; a fifth as many pairs are for testing.
        seed: fruit: chooses the scenes.
        folders: with ``"folder"``, the paths of two folders, as for ``check``; they may differ in
            size, and every tenth picture of each (500 at most) is for testing.
        options: timeout and attempts, as in ``helpers.files.download``.

    Raises:
        helpers.files.DataError: the name is unknown, a number is out of range, or a folder has
            fewer than 2 usable pictures.
        helpers.files.DownloadError: there is no network, or a file is not the official one; what
            has arrived stays, and the next call goes on there.
        helpers.files.ArchiveError: the archive is damaged.
    """
    check(dataset, folders)
    if size % 16 or size < 32:
        raise files.DataError(f"size is {size}: give a multiple of 16, 32 or more.")
    if dataset == "boots":
        return _boots(size)
    if dataset == "folder":
        return _folders(folders, size)
    if dataset == "grocery":
        return _grocery(size, **options)
    if dataset in OFFICIAL:
        return _official(dataset, size, **options)
    train_a, train_b = fruit.load("train", n, seed, size)
    test_a, test_b = fruit.load("test", max(2, n // 5), seed, size)
    return Domains(("apple", "orange"), train_a, train_b, test_a, test_b, paired=True)
