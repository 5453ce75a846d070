"""Patients: simulated, official (from a server of the test), from folders, and the table."""

import functools
import hashlib
import http.server
import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets
from sklearn import metrics as scikit

from helpers import files
from helpers.sources import patients
from helpers.studies import augmentation


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def fill(
    root, rng, number=16, pictures=2, names=("ill", "well"), form="{name}{patient:02d}_{view}"
):
    """A folder with a class for each name, of random grey pictures."""
    for name in names:
        for patient in range(number):
            for view in range(pictures):
                file = form.format(name=name, patient=patient, view=view)
                save(root / name / f"{file}.png", rng.integers(0, 256, (30, 40), np.uint8))
    return root


def archive(rng, shared=0, **extra):
    """An archive like those of MedMNIST, and its arrays."""
    arrays = {}
    for part, n in (("train", 60), ("val", 6), ("test", 30)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.uint8(np.arange(n)[:, None] % 3 == 0)
    arrays["test_images"][:shared] = arrays["train_images"][:shared]
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays, **extra)
    return stream.getvalue(), arrays


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """``serve(name, content)`` offers a file as MedMNIST would; gives the server's folder."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    def offer(name, content, official=True):
        (folder / f"{name}.npz").write_bytes(content)
        if official:
            entry = (hashlib.md5(content).hexdigest(), *patients.OFFICIAL[name][1:])
            monkeypatch.setitem(patients.OFFICIAL, name, entry)
        return folder

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("COURSE_MEDMNIST_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
        yield offer
        running.shutdown()


# Nothing leaks


def test_simulated_patients_are_never_on_both_sides():
    train, test = patients.load("lesions", 20, 3, test_per_class=30)
    assert train.images.shape == (60, 28, 28, 1) and len(test.labels) == 90
    patients.check_apart(train, test)
    other, again = patients.load("lesions", 20, 4, test_per_class=30)
    np.testing.assert_array_equal(test.images, again.images)
    assert not set(other.patients) & set(train.patients)


def test_a_folder_is_split_once_for_all_seeds(tmp_path, rng, capsys):
    root = fill(tmp_path / "set", rng)
    loaded = [patients.load("folder", 310, seed, root) for seed in range(5)]
    for train, _ in loaded:
        for _, test in loaded:
            assert not set(train.patients) & set(test.patients)
    train, test = loaded[0]
    assert train.names == ("ill", "well") and len(train.labels) + len(test.labels) == 64
    for label in (0, 1):  # whole patients, a quarter of each class
        assert len(set(test.patients[test.labels == label])) == 4
    assert train.images.shape[1:] == (28, 28, 1) and train.images.dtype == np.uint8
    assert "ill: 32 pictures of 16 patients" in capsys.readouterr().out


def test_a_patient_in_two_classes_stays_on_one_side(tmp_path, rng):
    root = fill(tmp_path / "set", rng, form="p{patient:02d}_{view}")  # one eye ill, one well
    train, test = patients.load("folder", folder=root)
    assert len(set(train.patients)) == 12 and len(set(test.patients)) == 4
    assert not set(train.patients) & set(test.patients)


def test_patients_and_pictures_on_both_sides_are_refused(rng):
    pictures = rng.integers(0, 256, (10, 4, 4, 1), np.uint8)

    def cohort(chosen, numbers):
        labels = np.zeros(len(chosen), np.int32)
        return patients.Cohort(("a", "b"), pictures[chosen], labels, np.array(numbers))

    train = cohort([0, 1, 2], ["p0", "p1", "p2"])
    patients.check_apart(train, cohort([3, 4], ["p3", "p4"]))
    with pytest.raises(files.DataError, match=r"1 patients are in training and test .such as p1"):
        patients.check_apart(train, cohort([3, 4], ["p3", "p1"]))
    with pytest.raises(files.DataError, match="2 pictures are in training and test"):
        patients.check_apart(train, cohort([3, 0, 2], ["p3", "p4", "p5"]))


def test_copies_of_training_pictures_are_not_tested(tmp_path, rng, capsys):
    root = fill(tmp_path / "set", rng)
    _, test = patients.load("folder", folder=root)
    tested = next(name for name in test.patients if name.startswith("ill"))
    trained = next(f"ill{n:02d}" for n in range(16) if f"ill{n:02d}" not in test.patients)
    shutil.copy(root / "ill" / f"{trained}_0.png", root / "ill" / f"{tested}_9.png")
    train, again = patients.load("folder", folder=root)
    patients.check_apart(train, again)
    assert len(again.labels) == len(test.labels)
    told = capsys.readouterr().out
    assert "Left out 1 test pictures that are in the training part too" in told
    assert f"(of patients such as {tested})" in told


# Nothing is swapped


@pytest.mark.parametrize("dataset", patients.DATASETS)
def test_sensitivity_and_specificity_are_about_the_right_class(dataset, serve, tmp_path, rng):
    content, _ = archive(rng)
    ill = {"breastmnist": "malignant", "pneumoniamnist": "pneumonia", "folder": "covid"}.get(
        dataset
    )
    options = {}
    if dataset in patients.OFFICIAL:
        serve(dataset, content)
    elif dataset == "folder":
        options["folder"] = fill(tmp_path / "set", rng, 16, 1, ("covid", "normal"))
    _, test = patients.load(dataset, 12, test_per_class=50, **options)
    wanted = "covid" if dataset == "folder" else None
    positive = patients.positive_class(test, wanted)
    made = rng.dirichlet(np.ones(len(test.names)), len(test.labels))
    found = augmentation.scores(test.labels, made, positive)

    true = np.array(test.names)[test.labels]  # from here on in words
    called = np.array(test.names)[made.argmax(axis=1)]
    classes = [ill] if ill else test.names
    if ill:
        recall = scikit.recall_score(true, called, pos_label=ill)
    else:
        recall = scikit.recall_score(true, called, average=None)
    others = [scikit.recall_score(true != c, called != c, pos_label=True) for c in classes]
    auroc = [scikit.roc_auc_score(true == c, made[:, test.names.index(c)]) for c in classes]
    assert found["sensitivity"] == pytest.approx(np.mean(recall))
    assert found["specificity"] == pytest.approx(np.mean(others))
    assert found["AUROC"] == pytest.approx(np.mean(auroc))
    assert found["accuracy"] == pytest.approx(scikit.accuracy_score(true, called))


def test_two_classes_need_a_positive_one(tmp_path, rng):
    _, test = patients.load(
        "folder", folder=fill(tmp_path / "set", rng, 16, 1, ("covid", "normal"))
    )
    choices = 'set positive = "covid" or positive = "normal"'
    with pytest.raises(files.DataError, match=choices):
        patients.positive_class(test)
    with pytest.raises(files.DataError, match=f"positive is 'Covid', .* {choices}"):
        patients.positive_class(test, "Covid")
    assert patients.positive_class(test, "covid") == 0
    assert patients.positive_class(test, "normal") == 1
    three, _ = patients.load("lesions", 2, test_per_class=2)
    assert patients.positive_class(three) is None
    assert patients.positive_class(three, "haemangioma") == 2


# Folders as people have them


def test_what_is_no_class_is_named_and_left_out(tmp_path, rng, capsys):
    root = fill(tmp_path / "set", rng, 16, 1)
    for name in (".ipynb_checkpoints", "__MACOSX", "empty", "notes"):
        (root / name).mkdir()
    (root / "__MACOSX" / "._ill00_0.png").write_bytes(b"\0\5\x16\7")
    (root / "notes" / "notes.txt").write_text("no picture")
    (root / "ill" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "ill" / "broken.png").write_bytes(b"no picture")
    train, test = patients.load("folder", folder=root)
    assert train.names == ("ill", "well") and len(train.labels) + len(test.labels) == 32
    told = capsys.readouterr().out
    assert ".ipynb_checkpoints, __MACOSX, empty, notes." in told and "broken.png" in told


@pytest.mark.parametrize("kind", ["zip", "home", "relative"])
def test_ways_to_give_a_folder(tmp_path, rng, monkeypatch, kind):
    fill(tmp_path / "my set (ä 图)", rng, 16, 1)
    monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
    given = "my set (ä 图)"
    if kind == "zip":
        given = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "my set (ä 图)")
    elif kind == "home":
        given = f"~/{given}"
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, str(tmp_path))
    else:
        monkeypatch.chdir(tmp_path)
    train, _ = patients.load("folder", folder=given)
    assert train.names == ("ill", "well")


def test_twelve_bits_share_one_range(tmp_path, rng):
    root = tmp_path / "set"
    for name in ("ill", "well"):
        for n in range(16):
            brightest = 4096 if n % 2 else 1024  # half of the pictures are dark, and stay so
            pixels = rng.integers(0, brightest, (28, 28)).astype(np.uint16)
            save(root / name / f"{name}{n}_0.png", pixels)
    train, test = patients.load("folder", folder=root)
    brightest = np.concatenate([side.images.max(axis=(1, 2, 3)) for side in (train, test)])
    assert np.sum(brightest > 240) == 16 and np.sum(brightest < 70) == 16
    assert len(np.unique(train.images)) > 200


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "no folder"),
        ("not given", "folder is None"),
        ("one class", r"has 1 folders with pictures \(ill\)"),
        ("pictures without classes", "has 0 folders with pictures"),
        ("few", r"too few patients .*ill: 1 pictures of 1 patients.*patient_picture"),
        ("slices of one", r"too few patients .*ill: 20 pictures of 1 patients.*patients.csv"),
        ("forgotten", 'folder is given, but dataset is "lesions"'),
        ("unknown", "no data set 'x': use lesions, breastmnist, pneumoniamnist, folder"),
    ],
)
def test_folders_that_will_not_do(tmp_path, rng, case, message):
    root, dataset = tmp_path / "set", "folder"
    if case == "one class":
        fill(root, rng, names=("ill",))
        (root / "well").mkdir()
    elif case == "pictures without classes":
        save(root / "a_1.png", rng.integers(0, 256, (28, 28), np.uint8))
    elif case == "few":
        fill(root, rng, 1, 1)
    elif case == "slices of one":
        fill(root, rng, 1, 20)
    elif case == "forgotten":
        dataset = "lesions"
    elif case == "unknown":
        dataset = "x"
    folder = None if case in ("not given", "unknown") else root
    with pytest.raises(files.DataError, match=message) as error:
        patients.load(dataset, folder=folder)
    assert "\n" not in str(error.value)


# Whose picture is it?


@pytest.mark.parametrize(
    "form", ["ISIC_{name}{patient:07d}", "IMG_{patient}", "scan_{patient:03d}_{view}", "{patient}"]
)
def test_names_without_a_patient(tmp_path, rng, capsys, form):
    root = fill(tmp_path / "set", rng, 16, 1, form=form)
    train, test = patients.load("folder", folder=root)
    assert len(set(train.patients)) == 24 and len(set(test.patients)) == 8
    told = capsys.readouterr().out
    assert "32 of 32 file names say nothing about patients (such as ill/" in told
    assert form.split("{")[0] in told
    assert "patient_picture, such as p012_3.png" in told and "patients.csv" in told


def test_the_name_of_the_class_is_no_patient(tmp_path, rng, capsys):
    root = fill(tmp_path / "set", rng, 8, 1, ("Covid19", "normal"), "{name}_{patient}")
    train, _ = patients.load("folder", folder=root)
    assert len(set(train.patients)) == 12
    assert (
        "16 of 16 file names say nothing about patients (such as Covid19/Covid19_0.png)"
        in capsys.readouterr().out
    )


def test_patients_with_names_are_patients(tmp_path, rng, capsys):
    root, letters = tmp_path / "set", "abcdefghijklmnop"
    for name, part in (("ill", letters[:8]), ("well", letters[8:])):
        for letter in part:
            for view in range(6):
                save(root / name / f"{letter}_{view}.png", rng.integers(0, 256, (9, 9), np.uint8))
    train, test = patients.load("folder", folder=root)
    assert set(train.patients) | set(test.patients) == set(letters)
    assert "nothing about patients" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["{name}/{file}", "{file}", "other\\{name}\\{file}"])
@pytest.mark.parametrize(("separator", "coding"), [(",", "utf-8"), (";", "utf-8-sig")])
def test_a_table_says_who_it_is(tmp_path, rng, form, separator, coding):
    root = fill(tmp_path / "set", rng, 24, 1, form="ISIC_{name}{patient:07d}")
    lines = [f"Patient{separator}File{separator}age"]
    for name in ("ill", "well"):
        for number, path in enumerate(sorted((root / name).iterdir())):
            file = form.format(name=name, file=path.name)
            lines.append(f"{name}{number // 3:03d}{separator}{file}{separator}50")
    (root / "patients.csv").write_text("\n".join(lines) + "\n\n", encoding=coding)
    train, test = patients.load("folder", folder=root)
    assert not set(train.patients) & set(test.patients)
    assert sorted({*train.patients, *test.patients}) == [
        f"{name}{number:03d}" for name in ("ill", "well") for number in range(8)
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "columns none: its first line must be file,patient"),
        ("name,patient\nx,1", "columns name, patient: its first line must be"),
        ("file,patient\nill/ill00_0.png,1", "no patient for 7 of 8 pictures, such as ill/ill01_0"),
        ("file,patient\nill00_0.png,1\nill00_0.png,2", "gives ill00_0.png two patients"),
    ],
)
def test_tables_that_will_not_do(tmp_path, rng, table, message):
    root = fill(tmp_path / "set", rng, 4, 1)
    (root / "patients.csv").write_text(table)
    with pytest.raises(files.DataError, match=message):
        patients.load("folder", folder=root)


# Official


def test_an_official_set_from_a_server(serve, rng, capsys):
    content, arrays = archive(rng, shared=2)
    folder = serve("breastmnist", content)
    train, test = patients.load("breastmnist")
    assert len(train.labels) == 66 and len(test.labels) == 28  # two copies are left out
    np.testing.assert_array_equal(train.images[60:, ..., 0], arrays["val_images"])
    assert train.names == ("malignant", "normal or benign")
    assert "Left out 2 test pictures" in capsys.readouterr().out
    (folder / "breastmnist.npz").unlink()
    patients.load("breastmnist")  # from the cache


def test_another_file_is_removed(serve, rng, tmp_path):
    serve("breastmnist", archive(rng)[0], official=False)
    with pytest.raises(files.DownloadError, match="not the official file"):
        patients.load("breastmnist")
    assert not list((tmp_path / "cache").glob("*.npz"))


def test_objects_in_an_archive_are_never_unpickled(serve, rng):
    content, _ = archive(rng, surprise=np.array([{"code": 1}], dtype=object))
    serve("breastmnist", content)
    with pytest.raises(ValueError, match="allow_pickle"):
        patients.load("breastmnist")


# The table


def test_the_table_is_split_by_patient_and_scaled_by_the_few():
    features, benign = datasets.load_breast_cancer(return_X_y=True)
    few, many, test = patients.wisconsin(20, 80, 1)
    assert [len(part[1]) for part in (few, many, test)] == [40, 200, 285]
    np.testing.assert_array_equal(many[0][:40], few[0])
    assert few[0].min(axis=0).tolist() == [0] * 30 and few[0].max(axis=0).tolist() == [255] * 30
    assert np.bincount(few[1]).tolist() == [20, 20]
    assert test[1].mean() == pytest.approx(0.37, abs=0.01)
    rows = [set(map(bytes, part[0])) for part in (many, test)]
    assert not rows[0] & rows[1]
    assert benign.sum() == 357 and features.shape == (569, 30)
    with pytest.raises(ValueError, match="at most 106 patients"):
        patients.wisconsin(20, 100, 1)
