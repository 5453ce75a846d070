"""Patients: small sets of pictures, split so that no patient is on both sides.

``load`` gives simulated lesions, two official sets of MedMNIST (Yang et al. 2023), or a reader's
own folder in the same form; ``wisconsin`` gives the table of real patients that scikit-learn has.
"""

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import unicodedata
import zipfile

import numpy as np
from sklearn import datasets

from helpers import files, pictures
from helpers.simulate import lesions

ADDRESS = "https://zenodo.org/records/10519652/files/"  # of <name>.npz
OFFICIAL = {  # md5 as the MedMNIST project publishes it, its classes, and the one to be found
    "breastmnist": ("750601b1f35ba3300ea97c75c52ff8f6", ("malignant", "normal or benign"), 0),
    "pneumoniamnist": ("28209eda62fecd6e6a2d98b1501bb15f", ("normal", "pneumonia"), 1),
}
LICENCE = "CC BY 4.0; Yang et al. 2023, MedMNIST v2, and the authors of the original pictures"
DATASETS = ("lesions", *OFFICIAL, "folder")
LARGEST = 2**26  # bytes, packed or not
TABLE = "patients.csv"
FORM = (
    f"name each file patient_picture, such as p012_3.png, or put a table {TABLE} with the columns "
    "file and patient beside the classes"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Cohort:
    """Pictures of patients.

    Attributes:
        names: what the classes are called.
        images: uint8, shape (n, 28, 28, 1).
        labels: int32, shape (n,), from 0 to len(names) - 1.
        patients: shape (n,), what tells one patient from another.
        positive: the number of the class that is to be found, where the data set says so.
    """

    names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    positive: int | None = None

    def part(self, chosen) -> "Cohort":
        """Return the pictures at some positions, or where a mask is True."""
        images, labels = self.images[chosen], self.labels[chosen]
        return Cohort(self.names, images, labels, self.patients[chosen], self.positive)


def positive_class(cohort: Cohort, wanted=None) -> int | None:
    """Return the number of the class that sensitivity is about.

    Args:
        cohort: whose classes they are.
        wanted: the reader's choice, the name of a class; None leaves it to the data set.

    Returns:
        None where there are three or more classes and nobody has chosen: all of them count.

    Raises:
        helpers.files.DataError: there is no such class, or there are two and nobody has chosen.
    """
    choices = " or ".join(f'positive = "{name}"' for name in cohort.names)
    if wanted is not None:
        if str(wanted) not in cohort.names:
            raise files.DataError(f"positive is {wanted!r}, which is no class here: set {choices}.")
        return cohort.names.index(str(wanted))
    if cohort.positive is None and len(cohort.names) == 2:
        raise files.DataError(
            f"There are two classes, and which one is to be found is not known: set {choices} in "
            "the parameters cell."
        )
    return cohort.positive


def check_apart(train: Cohort, test: Cohort) -> None:
    """Refuse patients that are on both sides, by name or by picture.

    Raises:
        helpers.files.DataError: a patient, or a whole picture, is in both.
    """
    both = set(train.patients.tolist()) & set(test.patients.tolist())
    if both:
        raise files.DataError(
            f"{len(both)} patients are in training and test (such as {min(both)}): split by "
            "patient."
        )
    copies = _copies(test.images, train.images).sum()
    if copies:
        raise files.DataError(f"{copies} pictures are in training and test: remove the copies.")


def _copies(images, others) -> np.ndarray:
    """Return which images (n, ...) are among others (m, ...) too, bool (n,)."""
    there = {image.tobytes() for image in others}
    return np.array([image.tobytes() in there for image in images], bool)


def _without_copies(train: Cohort, test: Cohort) -> Cohort:
    """Leave out test pictures that are in the training part as well, and name them."""
    copies = _copies(test.images, train.images)
    if copies.any():
        named = ", ".join(sorted(set(test.patients[copies].tolist()))[:5])
        print(
            f"Left out {copies.sum()} test pictures that are in the training part too (of patients "
            f"such as {named})."
        )
    return test.part(~copies)


# Simulated


def _simulated(stream: int, n: int, seed: int) -> Cohort:
    labels = np.tile(np.arange(3, dtype=np.int32), n)
    numbers = np.array([f"{stream}-{seed}-{number}" for number in range(len(labels))])
    return Cohort(lesions.NAMES, lesions.render(labels, seed, stream), labels, numbers)


@functools.lru_cache(maxsize=1)
def _simulated_test(n: int) -> Cohort:
    return _simulated(lesions.TEST, n, 0)  # the same patients for every seed


# Official


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read train, val and test of an archive that was checked; no code in it is ever run."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise files.DataError(f"{path.name} unpacks to more than it should: delete it.")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _official(name: str, **options) -> tuple[Cohort, Cohort]:
    md5, names, positive = OFFICIAL[name]
    base = os.environ.get("COURSE_MEDMNIST_URL", ADDRESS).rstrip("/")
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
    arrays = _read_npz(path)

    def side(*parts) -> Cohort:
        images = np.concatenate([arrays[f"{part}_images"] for part in parts])[..., None]
        labels = np.concatenate([arrays[f"{part}_labels"] for part in parts])[:, 0]
        numbers = np.array([f"{parts[0]}-{number}" for number in range(len(labels))])
        return Cohort(names, images, labels.astype(np.int32), numbers, positive)

    # The set has been split by its authors; it does not say which pictures share a patient.
    train = side("train", "val")
    return train, _without_copies(train, side("test"))


# Folders


def patients_of(root: pathlib.Path, paths) -> list[str]:
    """Return for each picture the patient whom it shows.

    A table ``patients.csv`` in the root says so; without one, what stands before the first ``_`` of
    a file's name. Names without a patient are recognised (``017.png`` has no ``_``, and the word in
    ``ISIC_0024306.jpg``, ``IMG_2034.JPG`` or ``benign_7.png`` is shared by many pictures): each of
    these files counts as a patient of its own, after a sentence that says so.

    Args:
        root: the folder with the classes.
        paths: of the pictures, each in the folder of its class.

    Raises:
        helpers.files.DataError: the table cannot be used, or does not name every picture.
    """
    if (root / TABLE).is_file():
        return _from_table(root / TABLE, paths)
    first = [path.stem.partition("_")[0] for path in paths]
    shared = collections.Counter(first)
    many = max(10, len(paths) / 10)
    found, silent = [], []
    for path, word in zip(paths, first, strict=True):
        only_a_word = shared[word] > many and not any(letter.isdigit() for letter in word)
        is_class = word.casefold() == path.parent.name.casefold()
        if "_" in path.stem and not only_a_word and not is_class:
            found.append(word)
        else:
            silent.append(f"{path.parent.name}/{path.name}")
            found.append(silent[-1])
    if silent:
        print(
            f"{len(silent)} of {len(paths)} file names say nothing about patients (such as "
            f"{pictures.printable(silent[0])}), so each of these files counts as one patient. If "
            f"several show the same patient, {FORM}."
        )
    return found


def _key(name: str) -> str:
    """Return a file's name, with its folder if it has one, as it is compared."""
    parts = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").split("/")
    return "/".join(parts[-2:]).casefold()


def _from_table(table: pathlib.Path, paths) -> list[str]:
    content = table.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # as older spreadsheets write it
    lines = text.splitlines() or [""]
    separator = max(",;\t", key=lines[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    rows = [[cell.strip() for cell in row] for row in reader if row]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if "file" not in header or "patient" not in header:
        raise files.DataError(
            f"{table} has the columns {', '.join(header) or 'none'}: its first line must be "
            "file,patient."
        )
    known = {}
    for row in rows[1:]:
        line = dict(zip(header, row, strict=False))
        name, patient = line.get("file", ""), line.get("patient", "")
        if patient and known.setdefault(_key(name), patient) != patient:
            raise files.DataError(
                f"{table} gives {name} two patients: write it once, with its class before it "
                "(class/file) where two classes have a file of this name."
            )
    found = [known.get(_key(f"{p.parent.name}/{p.name}"), known.get(_key(p.name))) for p in paths]
    missing = [f"{p.parent.name}/{p.name}" for p, patient in zip(paths, found, strict=True)
               if patient is None]  # fmt: skip
    if missing:
        raise files.DataError(
            f"{table} names no patient for {len(missing)} of {len(paths)} pictures, such as "
            f"{pictures.printable(missing[0])}: add a line for each."
        )
    return found


def _folder(folder) -> tuple[Cohort, Cohort]:
    root = pictures.find_folder(folder)
    places = pictures.list_folders(root)
    everything = [path for place in places for path in pictures.list_pictures(place)]
    read = pictures.read_pictures(everything, lesions.SIZE, channels=1)
    of_class = [path.parent.name for path in read.paths]
    folders = sorted(set(of_class))
    unused = sorted(
        path.name for path in root.iterdir() if path.is_dir() and path.name not in folders
    )
    if unused:
        listed = ", ".join(pictures.printable(name) for name in unused)
        print(f"Left out, folders that are no class or hold no picture: {listed}.")
    if len(folders) < 2:
        there = f" ({pictures.printable(folders[0])})" if folders else ""
        raise files.DataError(
            f"{root} has {len(folders)} folders with pictures{there}: make one for each class."
        )
    names = tuple(unicodedata.normalize("NFC", name) for name in folders)
    labels = np.array([folders.index(name) for name in of_class], np.int32)
    whole = Cohort(names, read.images, labels, np.array(patients_of(root, read.paths)))
    for_testing = _test_quarter(whole)
    train = whole.part(~for_testing)
    test = _without_copies(train, whole.part(for_testing))
    told = []
    for label, name in enumerate(names):
        mine = whole.patients[labels == label]
        told.append(f"{name}: {len(mine)} pictures of {len(set(mine))} patients")
        for side in (train, test):
            if np.sum(side.labels == label) < 2:
                raise files.DataError(
                    f"{root} has too few patients to learn from some and test with others "
                    f"({told[-1]}): give more, or, if there are more, {FORM}."
                )
    print(f"{'; '.join(told)}. A quarter of the patients of each class is for testing.")
    return train, test


def _test_quarter(cohort: Cohort) -> np.ndarray:
    """Return which pictures are for testing, bool (n,): a quarter of the patients of each class.

    Whole patients, and always the same ones: what a seed chooses must not change who is tested.
    """
    taken, test = set(), []
    for label in np.argsort(np.bincount(cohort.labels), kind="stable"):  # the rarest class first
        mine = set(cohort.patients[cohort.labels == label].tolist()) - taken
        test.extend(np.random.default_rng(0).permutation(sorted(mine))[::4])
        taken |= mine
    return np.isin(cohort.patients, test)


def load(
    dataset: str = "lesions",
    per_class: int = 400,
    seed: int = 0,
    folder=None,
    test_per_class: int = 1000,
    **options,
) -> tuple[Cohort, Cohort]:
    """Load patients to train with and others to test with.

    Only simulated training patients depend on the seed. A real set is split once, whatever the
    seed: no patient who is tested is in anybody's training part.

    Args:
        dataset: ``"lesions"`` (simulated), ``"breastmnist"`` (ultrasound) or ``"pneumoniamnist"``
            (X-rays of children; both downloaded), or ``"folder"``.
        per_class: lesions: training patients of each class.
        seed: lesions: which training patients, an integer from 0.
        folder: with ``"folder"``, a path (or a zip) with one folder of pictures for each class, as
            ``helpers.pictures`` reads them: any size and kind, deeper ones with one range of
            brightness. ``patients_of`` says whose they are; a quarter of the patients of each class
            is for testing. Folders and files that cannot be used are named and left out.
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
    if folder is not None and dataset != "folder":
        raise files.DataError(
            f'folder is given, but dataset is "{dataset}": set dataset = "folder" to use it.'
        )
    if dataset == "lesions":
        sides = _simulated(lesions.TRAIN, per_class, seed), _simulated_test(test_per_class)
    elif dataset == "folder":
        sides = _folder(folder)
    else:
        sides = _official(dataset, **options)
    check_apart(*sides)
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
