"""Medical: small sets of patients, split so that no patient is on both sides.

``load`` gives simulated lesions, two official sets of MedMNIST (Yang et al. 2023), or a reader's
own folder in the same form; ``wisconsin`` gives the table of real patients that scikit-learn has.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import zipfile

import numpy as np
from sklearn import datasets

from helpers import files, pictures
from helpers.simulate import lesions
from helpers.studies import augmentation

ADDRESS = "https://zenodo.org/records/10519652/files/"  # of <name>.npz
OFFICIAL = {  # md5 as the MedMNIST project publishes it, and the names of the classes
    "breastmnist": ("750601b1f35ba3300ea97c75c52ff8f6", ("malignant", "normal or benign")),
    "pneumoniamnist": ("28209eda62fecd6e6a2d98b1501bb15f", ("normal", "pneumonia")),
}
LICENCE = "CC BY 4.0; Yang et al. 2023, MedMNIST v2, and the authors of the original pictures"
DATASETS = ("lesions", *OFFICIAL, "folder")
LARGEST = 2**26  # bytes, packed or not


@dataclasses.dataclass(frozen=True, eq=False)
class Cohort:
    """Pictures of patients.

    Attributes:
        names: what the classes are called.
        images: uint8, shape (n, 28, 28, 1).
        labels: int32, shape (n,), from 0 to len(names) - 1.
        patients: shape (n,), what tells one patient from another.
    """

    names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray


@functools.lru_cache(maxsize=1)
def _simulated(stream: int, n: int, seed: int) -> Cohort:
    labels = np.tile(np.arange(3, dtype=np.int32), n)
    patients = np.array([f"{stream}-{seed}-{number}" for number in range(len(labels))])
    return Cohort(lesions.NAMES, lesions.draw(labels, seed, stream), labels, patients)


def _lesions(per_class: int, seed: int, test_per_class: int) -> tuple[Cohort, Cohort]:
    return (
        _simulated.__wrapped__(lesions.TRAIN, per_class, seed),
        _simulated(lesions.TEST, test_per_class, 0),  # the same patients for every seed
    )


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read train, val and test of an archive that was checked; no code in it is ever run."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise files.DataError(f"{path.name} unpacks to more than it should: delete it.")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _official(name: str, **options) -> tuple[Cohort, Cohort]:
    md5, names = OFFICIAL[name]
    base = os.environ.get("COURSE_MEDMNIST_URL", ADDRESS).rstrip("/")
    md5 = options.pop("md5", md5)
    path = files.CACHE / f"{md5[:12]}-{name}.npz"

    def right() -> bool:
        return path.is_file() and hashlib.md5(path.read_bytes()).hexdigest() == md5

    if not right():
        files.download(f"{base}/{name}.npz", None, path, limit=LARGEST, **options)
        if not right():
            path.unlink()
            raise files.DownloadError(
                f"{base}/{name}.npz is not the official file and was removed: look for a newer "
                f"address, {files.STAY}"
            )
        print(f"{name}: {LICENCE}.")
    arrays, sides = _read_npz(path), []
    # The set has been split by its authors; it does not say which pictures share a patient.
    for parts in (("train", "val"), ("test",)):
        images = np.concatenate([arrays[f"{part}_images"] for part in parts])[..., None]
        labels = np.concatenate([arrays[f"{part}_labels"] for part in parts])[:, 0]
        patients = np.array([f"{parts[0]}-{i}" for i in range(len(labels))])
        images, labels, patients = _without_copies(images, labels, patients, sides)
        sides.append(Cohort(names, images, labels.astype(np.int32), patients))
    return sides[0], sides[1]


def _without_copies(images, labels, patients, before):
    """Leave out pictures that an earlier side holds as well."""
    seen = {x.tobytes() for side in before for x in side.images}
    new = np.array([x.tobytes() not in seen for x in images])
    if not new.all():
        print(f"Left out {np.sum(~new)} test pictures that are in the training part too.")
    return images[new], labels[new], patients[new]


def patient_of(name: str) -> str:
    """Return the patient's part of a file name: what stands before the first ``_``."""
    return re.split("_", pathlib.PurePath(name).stem, maxsplit=1)[0]


def _folder(folder, seed: int) -> tuple[Cohort, Cohort]:
    if folder is None or not (root := pathlib.Path(folder).expanduser()).is_dir():
        raise files.DataError(
            f"There is no folder {folder}: give the path of one with a subfolder for each class."
        )
    names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir()))
    if len(names) < 2:
        raise files.DataError(f"{folder} has {len(names)} subfolders: make one for each class.")
    images, labels, patients, skipped = [], [], [], []
    for label, name in enumerate(names):
        for path in sorted(p for p in (root / name).iterdir() if p.is_file()):
            try:
                picture = pictures.read_picture(path, lesions.SIZE)
            except ValueError:
                skipped.append(f"{name}/{path.name}")
                continue
            grey = picture @ np.float32([0.299, 0.587, 0.114])
            images.append(np.uint8(np.round(grey * 255))[..., None])
            labels.append(label)
            patients.append(patient_of(path.name))
    if skipped:
        print(f"Left out, no usable pictures: {', '.join(skipped)}.")
    labels, patients = np.array(labels, np.int32), np.array(patients)
    everybody = np.unique(patients)
    test = np.isin(patients, np.random.default_rng(seed).permutation(everybody)[::4])
    for side, there in (("train", ~test), ("test", test)):
        found = np.bincount(labels[there], minlength=len(names)) if len(labels) else np.zeros(2)
        if found.min() < 2:
            raise files.DataError(
                f"{folder} has too few patients: the {side} part holds {found.astype(int).tolist()}"
                " pictures of the classes, and each needs 2."
            )
    whole = Cohort(names, np.stack(images), labels, patients)
    sides = [Cohort(names, whole.images[s], labels[s], patients[s]) for s in (~test, test)]
    return sides[0], sides[1]


def load(
    dataset: str = "lesions",
    per_class: int = 400,
    seed: int = 0,
    folder=None,
    test_per_class: int = 1000,
    **options,
) -> tuple[Cohort, Cohort]:
    """Load patients to train with and others to test with.

    Args:
        dataset: ``"lesions"`` (simulated), ``"breastmnist"`` (ultrasound) or ``"pneumoniamnist"``
            (X-rays of children; both downloaded), or ``"folder"``.
        per_class: lesions: training patients of each class.
        seed: lesions: the training patients; folder: which quarter of the patients is for testing.
        folder: with ``"folder"``, a path with one subfolder for each class. Pictures of any size
            and mode; what stands before the first ``_`` of a file's name is the patient, and all
            pictures of a patient stay on one side. Damaged files are named and left out.
        test_per_class: lesions: test patients of each class, the same for every seed.
        options: timeout and attempts, as in ``helpers.files.download``.

    Returns:
        Two cohorts without a common patient or picture.

    Raises:
        helpers.files.DataError: the name is unknown, a folder is missing or too small, or a picture
            is on both sides.
        helpers.files.DownloadError: there is no network, or the file is not the official one.
    """
    if dataset not in DATASETS:
        raise files.DataError(f"There is no data set {dataset!r}: use {', '.join(DATASETS)}.")
    if dataset == "lesions":
        sides = _lesions(per_class, seed, test_per_class)
    elif dataset == "folder":
        sides = _folder(folder, seed)
    else:
        sides = _official(dataset, **options)
    augmentation.check_apart(*sides)
    return sides


def wisconsin(per_class: int, more: int, seed: int):
    """Draw patients of the Wisconsin breast cancer table (Street et al. 1993; scikit-learn).

    Half of the patients of each class, chosen by the seed, are for testing. The 30 features are
    scaled by the range that they have among the few training patients, and rounded to bytes.

    Args:
        per_class: training patients of each class.
        more: further training patients of each class (for the oracle); both together at most 106.
        seed: an integer from 0.

    Returns:
        few, many, test: pairs of features (n, 30), uint8, and labels (n,), int32, 1 = malignant;
        ``many`` begins with ``few``'s patients.

    Raises:
        ValueError: there are not as many patients.
    """
    features, benign = datasets.load_breast_cancer(return_X_y=True)
    labels, rng = np.int32(1 - benign), np.random.default_rng(seed)
    halves = [], []
    for label in (0, 1):
        mine = rng.permutation(np.flatnonzero(labels == label))
        halves[0].append(mine[: len(mine) // 2])
        halves[1].append(mine[len(mine) // 2 :])
    most = min(map(len, halves[0]))
    if per_class < 1 or more < 0 or per_class + more > most:
        raise ValueError(f"{per_class} and {more} more: give at most {most} patients of a class.")
    few = np.concatenate([half[:per_class] for half in halves[0]])
    rest = np.concatenate([half[per_class : per_class + more] for half in halves[0]])
    low, high = features[few].min(axis=0), features[few].max(axis=0)
    scaled = (features - low) / np.maximum(high - low, 1e-9) * 255
    scaled = np.uint8(np.round(np.clip(scaled, 0, 255)))
    sides = few, np.concatenate([few, rest]), np.concatenate(halves[1])
    return tuple((scaled[side], labels[side]) for side in sides)
