"""Unpaired: two sets of pictures without partners, for translation from one to the other.

``load`` gives every set in the same form: drawn fruit (with the truth for testing), real boots and
sneakers, the official sets of Zhu et al. 2017, or a reader's own two folders.
"""

import dataclasses
import os
import pathlib

import numpy as np

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
DATASETS = ("fruit", "boots", *OFFICIAL, "folder")
SNEAKER, BOOT = 7, 9  # classes of Fashion-MNIST


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


def _split(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep every tenth picture (one at least) for testing."""
    test = np.arange(len(pictures)) % 10 == 0
    return pictures[~test], pictures[test]


def _folders(folders, size: int) -> Domains:
    if folders is None or len(folders) != 2:
        raise files.DataError(
            f'folders is {folders}: with dataset="folder", give the paths of two folders.'
        )
    (train_a, test_a), (train_b, test_b) = (_split(pictures.read_folder(f, size)) for f in folders)
    names = tuple(pathlib.Path(f).expanduser().resolve().name for f in folders)
    return Domains(names, train_a, train_b, test_a, test_b)


def _official(name: str, size: int, **options) -> Domains:
    address = os.environ.get("COURSE_CYCLEGAN_URL", ADDRESS).rstrip("/")
    sha256 = options.pop("sha256", OFFICIAL[name])
    folder = files.CACHE / f"{name}-{sha256[:12]}"
    if not folder.is_dir():
        archive = files.download(f"{address}/{name}.zip", sha256, **options)
        files.extract(archive, folder)
        archive.unlink()
        print(f"{name}: {LICENCE}.")
    parts = [
        pictures.read_folder(folder / name / part, size)
        for part in ("trainA", "trainB", "testA", "testB")
    ]
    return Domains(tuple(name.split("2")), *parts)


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
            ``"boots"`` (Fashion-MNIST, sneakers and ankle boots), ``"apple2orange"`` or
            ``"horse2zebra"`` (Zhu et al. 2017, downloaded), or ``"folder"``.
        size: width and height in pixels; a multiple of 16, 32 at least.
        n: fruit: how many of each kind to train with; a fifth as many pairs are for testing.
        seed: fruit: chooses the scenes.
        folders: with ``"folder"``, the paths of two folders.
        options: timeout and attempts, as in ``helpers.files.download``.

    Raises:
        helpers.files.DataError: the name is unknown, a number is out of range, or a folder has
            fewer than 2 usable pictures.
        helpers.files.DownloadError: there is no network, or the archive is not the official one.
        helpers.files.ArchiveError: the archive is damaged.
    """
    if dataset not in DATASETS:
        raise files.DataError(f"There is no data set {dataset!r}: use {', '.join(DATASETS)}.")
    if size % 16 or size < 32:
        raise files.DataError(f"size is {size}: give a multiple of 16, 32 or more.")
    if dataset == "boots":
        return _boots(size)
    if dataset == "folder":
        return _folders(folders, size)
    if dataset in OFFICIAL:
        return _official(dataset, size, **options)
    train = [fruit.load("train", n, seed, size), fruit.load("test", max(2, n // 5), seed, size)]
    return Domains(("apple", "orange"), *train[0], *train[1], paired=True)
