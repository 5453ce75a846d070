"""Chapter 10 as code: attacks against known optima and a library, training, the helpers."""

import sys

import keras
import nbclient
import nbformat
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from PIL import Image

from benchmarks import attacks
from helpers import chapters, data, experiment
from helpers.sources import imagenet, photographs
from helpers.studies import robustness

chapter = chapters.import_chapter("10_adversarial_examples")
SHAPE = (6, 6, 1)
PIXELS = 36


@pytest.fixture(scope="module")
def linear():
    """A linear model of three classes: its weights (36, 3), biases (3,), images and answers."""
    rng = np.random.default_rng(0)
    weights, biases = rng.normal(size=(PIXELS, 3)), rng.normal(size=3)
    weights, biases = weights.astype("float32"), biases.astype("float32")
    images = rng.uniform(0.35, 0.65, (12, *SHAPE)).astype("float32")
    return weights, biases, images, logits_of(weights, biases)


def logits_of(weights, biases=0.0):
    return lambda x: tf.reshape(x, (-1, PIXELS)) @ weights + biases


def named(logits, images):
    return np.argmax(logits(tf.constant(images)), axis=1)


def gap_loss(_, z):
    return z[:, 1] - z[:, 0]


def lengths(change):
    return np.sqrt((np.asarray(change) ** 2).sum(axis=(1, 2, 3)))


# pgd


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("start", [None, 3])
def test_pgd_finds_the_worst_case_of_a_linear_model(linear, norm, start):
    weights, _, images, logits = linear
    random = None if start is None else keras.random.SeedGenerator(start)
    attacked = chapter.pgd(logits, tf.constant(images), np.zeros(12, int), 0.1, 40, norm=norm,
                           random=random, loss=gap_loss)  # fmt: skip
    way = (weights[:, 1] - weights[:, 0]).reshape(SHAPE)
    gains = ((np.asarray(attacked) - images) * way).sum(axis=(1, 2, 3))
    best = 0.1 * (np.abs(way).sum() if norm == "inf" else np.sqrt((way**2).sum()))
    assert (gains > (0.99 if norm == "inf" else 0.97) * best).all() and (gains < best + 1e-4).all()


def test_pgd_at_the_border_of_the_cube_against_scipy(linear):
    """Where [0, 1] cuts the ball, the worst case is that of a linear programme in a box."""
    weights, _, _, logits = linear
    image = np.random.default_rng(1).choice([0.0, 0.02, 0.97, 1.0], (1, *SHAPE)).astype("float32")
    attacked = chapter.pgd(logits, tf.constant(image), [0], 0.2, 30, loss=gap_loss).numpy()
    way, flat = weights[:, 1] - weights[:, 0], image.ravel()
    bounds = np.stack([np.maximum(flat - 0.2, 0), np.minimum(flat + 0.2, 1)], axis=1)
    best = scipy.optimize.linprog(-way, bounds=bounds)
    assert way @ attacked.ravel() == pytest.approx(-best.fun, rel=1e-4)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.3), ("2", 1.5)])
def test_pgd_stays_inside(linear, norm, eps):
    _, _, _, logits = linear
    images = np.random.default_rng(2).choice([0, 0.5, 1], (20, *SHAPE)).astype("float32")
    random = keras.random.SeedGenerator(0)
    for steps, size in ((0, None), (5, None), (3, 7.0)):
        x = tf.constant(images)
        size = 0.1 if steps == 0 else size
        found = chapter.pgd(logits, x, np.zeros(20, int), eps, steps, size, norm, random=random)
        found = found.numpy()
        assert found.min() >= 0 and found.max() <= 1 and np.abs(found - images).max() > 0.01
        change = found - images
        largest = np.abs(change).max() if norm == "inf" else lengths(change).max()
        assert largest <= eps + 1e-5


def test_fgsm_is_the_sign_of_the_gradient_by_hand(linear):
    weights, biases, images, logits = linear
    labels = named(logits, images)
    scores = images.reshape(-1, PIXELS) @ weights + biases
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    gradient = (shares - np.eye(3)[labels]) @ weights.T
    expected = images + 0.05 * np.sign(gradient).reshape(images.shape)
    found = chapter.fgsm(logits, tf.constant(images), labels, 0.05)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_targeted_attack_reaches_its_class(linear):
    _, _, images, logits = linear
    goals = (named(logits, images) + 1) % 3
    found = chapter.pgd(logits, tf.constant(images), goals, 0.4, 20, targeted=True)
    assert (named(logits, found) == goals).all()


def test_starts_differ_but_not_with_the_same_seed(linear):
    _, _, images, logits = linear

    def go(seed):
        random = keras.random.SeedGenerator(seed)
        x = tf.constant(images)
        return [chapter.pgd(logits, x, np.zeros(12, int), 0.1, 1, 0.01, random=random).numpy()
                for _ in range(2)]  # fmt: skip

    (first, second), (again, _) = go(1), go(1)
    assert np.array_equal(first, again) and np.abs(first - second).max() > 0.01


def test_a_masked_gradient_and_the_way_around_it(linear):
    """Logits in the thousands: the cross-entropy is flat, the margin is not."""
    weights, biases, images, _ = linear
    sharp = logits_of(1e5 * weights, 1e5 * biases)
    labels = named(sharp, images)
    x = tf.constant(images)
    assert np.array_equal(chapter.fgsm(sharp, x, labels, 0.3), images)
    found = chapter.pgd(sharp, x, labels, 0.3, 10, loss=chapter.margin)
    assert (named(sharp, found) != labels).all()


# Other attacks


def test_margin_by_hand():
    z = np.array([[1.0, 4.0, 2.0], [5.0, -1.0, 3.0]], "float32")
    np.testing.assert_allclose(chapter.margin([1, 2], tf.constant(z)), [-2, 2])


def test_carlini_wagner_against_the_exact_distance(linear):
    """The nearest misread point of a linear model, by a quadratic programme over each class."""
    weights, biases, images, logits = linear
    labels = named(logits, images)
    found, success = chapter.carlini_wagner(logits, tf.constant(images), labels, steps=120)
    assert success.all() and (named(logits, found) != labels).all()
    for image, label, near in zip(images[:4], labels, found, strict=False):
        exact = []
        for other in set(range(3)) - {label}:
            way = np.float64(weights[:, other] - weights[:, label])
            gap = biases[other] - biases[label]
            there = {"type": "ineq", "fun": lambda v, way=way, gap=gap: way @ v + gap}
            done = scipy.optimize.minimize(
                lambda v, image=image: ((v - image.ravel()) ** 2).sum(), np.float64(image.ravel()),
                jac=lambda v, image=image: 2 * (v - image.ravel()), bounds=[(0, 1)] * PIXELS,
                constraints=[there], method="SLSQP",
            )  # fmt: skip
            exact.append(np.sqrt(done.fun))
        mine = lengths((near - image)[None])[0]
        assert min(exact) - 1e-3 <= mine <= 1.05 * min(exact)


def test_carlini_wagner_says_where_it_failed(linear):
    _, _, images, _ = linear
    never = logits_of(np.zeros((PIXELS, 3), "float32"), np.array([9.0, 0, 0], "float32"))
    found, success = chapter.carlini_wagner(never, tf.constant(images), [0] * 12, (1,), steps=3)
    assert not success.any() and np.array_equal(found, images)


def test_a_universal_perturbation_of_a_linear_model(linear):
    """Two classes: the change that helps every image is the sign of the weights' difference."""
    weights, _, images, _ = linear
    two = logits_of(weights[:, :2])
    batches = [(tf.constant(images), tf.zeros(12, tf.int32))] * 10
    change = chapter.universal_perturbation(two, batches, SHAPE, 0.1, 0.03).numpy()
    expected = 0.1 * np.sign(weights[:, 1] - weights[:, 0]).reshape(1, *SHAPE)
    np.testing.assert_allclose(change, expected, atol=1e-6)


# Against the library


@pytest.fixture(scope="module")
def digits():
    """A small plain classifier, trained for a moment, and test digits."""
    experiment.start("smoke", 3)
    images, labels = data.load("mnist", "train")
    model = chapter.new_model(3, 100, attack_steps=0)
    chapter.train(model, images[:5000], labels[:5000], steps=100, part=50, seed=3)
    tests, answers = data.load("mnist", "test")
    return robustness.compiled(model.network), data.to_unit(tests[:200]), answers[:200]


@pytest.mark.parametrize(("eps", "steps"), [(0.05, 10), (0.1, 20)])
def test_pgd_is_as_strong_as_the_librarys(digits, eps, steps):
    logits, images, labels = digits
    size = 2.5 * eps / steps
    random = keras.random.SeedGenerator(0)
    mine = chapter.correct_under_attack(
        logits, images, labels,
        lambda x, y: chapter.pgd(logits, x, y, eps, steps, size, random=random), restarts=2,
    )  # fmt: skip
    found = robustness.library_pgd(logits, images, labels, eps, steps, size, 2)
    assert np.abs(found - images).max() <= eps + 1e-6
    theirs = np.mean(robustness.predicted(logits, found) == labels)
    assert mine[0].mean() > 0.8 and 0.02 < theirs < mine[0].mean() - 0.05
    assert abs(mine[-1].mean() - theirs) <= 0.015  # three of 200 digits


def test_fgsm_and_the_euclidean_pgd_are_the_librarys(digits):
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    logits, images, labels = digits
    part, named_as = images[:50], labels[:50]
    theirs = TensorFlowV2Classifier(
        model=lambda x, training: logits(x), nb_classes=10, input_shape=(28, 28, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )  # fmt: skip
    attack = FastGradientMethod(theirs, eps=0.1)
    mine = chapter.fgsm(logits, tf.constant(part), named_as, 0.1).numpy()
    same = np.abs(attack.generate(part, y=named_as) - mine) < 1e-6
    assert same.mean() > 0.999  # the sign of a gradient near 0 may differ
    options = {"norm": 2, "eps": 1.0, "eps_step": 0.25, "max_iter": 10, "verbose": False}
    found = ProjectedGradientDescent(theirs, **options).generate(part, y=named_as)
    mine = chapter.pgd(logits, tf.constant(part), named_as, 1.0, 10, 0.25, norm="2")
    losses = [chapter.cross_entropy(named_as, logits(tf.constant(x))) for x in (found, mine)]
    assert np.mean(losses[1]) == pytest.approx(np.mean(losses[0]), rel=0.03)


def test_without_the_library_one_sentence(digits, monkeypatch):
    logits, images, labels = digits
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(ModuleNotFoundError, match="pip install adversarial-robustness-toolbox"):
        robustness.library_pgd(logits, images[:1], labels[:1], 0.1, 1, 0.1, 1)


def test_the_copy_for_autoattack_answers_the_same():
    torch = pytest.importorskip("torch")
    network = chapter.build_classifier((28, 28, 1))
    images = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    copied = attacks.in_torch(network)(torch.tensor(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(copied.detach(), network(images), atol=1e-5)


# Training


def small_model(**options):
    model = chapter.AdversarialClassifier((28, 28, 1), 1, **options)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return model


def one_step(model, images, labels):
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    history = model.fit(batches, steps_per_epoch=1, verbose=0).history
    return {name: values[0] for name, values in history.items()}


def test_a_plain_step_is_keras_own():
    images, labels = (x[:32] for x in data.load("mnist", "train"))
    model = small_model(attack_steps=0)
    other = keras.models.clone_model(model.network)
    other.set_weights(model.network.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    other.compile(keras.optimizers.SGD(0.1), loss)
    expected = other.train_on_batch(data.to_unit(images), labels)
    assert one_step(model, images, labels)["loss"] == pytest.approx(expected, rel=1e-4)
    for mine, theirs in zip(model.network.weights, other.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("done", [0, 5, 20])
def test_the_limit_grows_with_the_steps(done):
    """A step of FGSM training, written out; eps = 0.3 (done + 1) / 10."""
    images, labels = (x[:32] for x in data.load("mnist", "train"))
    model = small_model(attack_steps=1, ramp=10)
    model.optimizer.build(model.network.trainable_variables)
    model.optimizer.iterations.assign(done)
    x = tf.constant(data.to_unit(images))
    attacked = chapter.fgsm(model.network, x, labels, 0.3 * min(1, (done + 1) / 10))
    expected = np.mean(chapter.cross_entropy(labels, model.network(attacked)))
    assert one_step(model, images, labels)["loss"] == pytest.approx(expected, rel=1e-3)


def test_a_robust_step_sees_worse_images():
    images, labels = (x[:64] for x in data.load("mnist", "train"))
    models = [small_model(attack_steps=n, eps=0.1) for n in (0, 5)]
    models[1].network.set_weights(models[0].network.get_weights())
    plain, attacked = (one_step(model, images, labels)["loss"] for model in models)
    assert attacked > plain + 0.05


# Helpers


def test_the_fooled_stay_fooled_and_are_left_alone():
    images = np.linspace(0, 0.9, 10, dtype="float32").reshape(10, 1, 1, 1)
    labels, sizes = np.array([0] * 5 + [1] * 4 + [0]), []

    def logits(x):
        return tf.concat([0.45 - x, x - 0.45], axis=-1)[:, 0, 0]

    def attack(x, y):
        sizes.append(len(x))
        return x[:1] * 0 + 0.6 * tf.ones_like(x) if len(sizes) == 1 else x

    found = chapter.correct_under_attack(logits, images, labels, attack, 3, batch_size=6)
    assert found.sum(axis=1).tolist() == [9, 4, 4, 4]
    assert (np.diff(found.astype(int), axis=0) <= 0).all()
    assert sizes == [6, 3, 4, 4]
    with pytest.raises(AssertionError):
        chapter.correct_under_attack(logits, images, labels[:3], attack)


def test_counting_is_that_of_the_worst_attack_for_each_image():
    """Against a count by hand: three attacks, each fools some, what is left is right under all."""
    rng = np.random.default_rng(5)
    fooled = rng.random((3, 40)) < 0.3
    wrong = rng.random(40) < 0.1
    images = np.arange(40, dtype="float32").reshape(40, 1, 1, 1)
    state = {"attack": None}

    def logits(x):
        number = np.asarray(x, int).ravel()
        misread = wrong[number].copy()
        if state["attack"] is not None:
            misread |= fooled[state["attack"], number]
        return tf.stack([1.0 - misread, 1.0 * misread], axis=1)

    def attack(x, y):
        state["attack"] = 0 if state["attack"] is None else state["attack"] + 1
        return x

    found = chapter.correct_under_attack(logits, images, np.zeros(40, int), attack, 3)
    alive = ~wrong
    np.testing.assert_array_equal(found[0], alive)
    for row in range(3):
        alive = alive & ~fooled[row]
        np.testing.assert_array_equal(found[row + 1], alive)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_256_levels(channels):
    rng = np.random.default_rng(0)
    images = rng.random((2, 5, 7, channels), np.float32)
    found = robustness.through_png(images)
    assert found.shape == images.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, np.round(images * 255) / 255, atol=1e-6)
    assert np.array_equal(robustness.through_png(found), found)
    with pytest.raises(ValueError, match="keep them in"):
        robustness.through_png(images + 0.5)


def test_steps_of_one_level_survive_the_file(linear):
    _, _, images, _ = linear
    start = np.round(images * 255) / np.float32(255)
    logits = logits_of(np.random.default_rng(4).normal(size=(PIXELS, 10)).astype("float32"))
    x = tf.constant(start)
    found = chapter.pgd(logits, x, [0] * 12, 4 / 255, 7, 1 / 255, targeted=True).numpy()
    assert np.abs(found - start).max() > 3.9 / 255
    np.testing.assert_allclose(robustness.through_png(found), found, atol=1e-6)


def test_parts_are_joined_in_order():
    x, y = np.arange(7.0), np.arange(7.0) * 10
    np.testing.assert_array_equal(robustness.in_parts(lambda a, b: a + b, 3, x, y), x + y)


def test_a_photograph_is_attacked_on_the_levels_of_a_file():
    """Four steps already move the real classifier's opinion a long way, and the file keeps it."""
    classifier = imagenet.load_or_embedded("embedded")
    model = robustness.compiled(classifier)
    photo = photographs.shown()[:1]
    goal = np.array([classifier.names.index("volcano")])
    found = chapter.pgd(model, tf.constant(photo), goal, 4 / 255, 5, 1 / 255, targeted=True)
    stored = robustness.through_png(found.numpy())
    before, after = (classifier.probabilities(x)[0, goal[0]] for x in (photo, stored))
    assert before < 0.01 and after > 20 * before
    assert np.abs(stored - photo).max() <= 4.001 / 255


def test_nearest_generated_finds_what_the_generator_can_draw(monkeypatch):
    """A linear generator that reaches all images of two pixels: the search ends at the image."""

    def draw(z):
        return tf.reshape(z[:, :2], (-1, 1, 2, 1))

    monkeypatch.setattr(chapter, "draw", draw, raising=False)
    monkeypatch.setattr(chapter, "random", keras.random.SeedGenerator(0), raising=False)
    x = tf.constant(np.random.default_rng(0).random((5, 1, 2, 1), np.float32))
    found = chapter.nearest_generated(x, starts=2, steps=120)
    np.testing.assert_allclose(found, x, atol=1e-3)


def test_of_several_searches_the_nearest_counts(monkeypatch):
    """Images that cannot be moved: each gets the best of its own random starts."""

    def draw(z):
        return tf.stop_gradient(tf.reshape(z[:, :1], (-1, 1, 1, 1))) + 0 * z[:, :1, None, None]

    drawn = np.asarray(keras.random.normal((12, chapter.LATENT_DIM),
                                           seed=keras.random.SeedGenerator(7)))  # fmt: skip
    monkeypatch.setattr(chapter, "draw", draw, raising=False)
    monkeypatch.setattr(chapter, "random", keras.random.SeedGenerator(7), raising=False)
    x = np.array([-0.5, 0.0, 0.5], np.float32)
    found = chapter.nearest_generated(tf.constant(x.reshape(3, 1, 1, 1)), starts=4, steps=1)
    starts = drawn[:, 0].reshape(3, 4)
    best = np.abs(starts - x[:, None]).argmin(axis=1)
    np.testing.assert_allclose(np.ravel(found), starts[range(3), best], atol=1e-6)


def test_the_defence_is_the_identity_backwards(monkeypatch):
    monkeypatch.setattr(chapter, "nearest_generated", lambda x: tf.zeros_like(x))
    x = tf.constant([[[[0.3], [0.8]]]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(chapter.cleaned(x) * [[[[2.0], [5.0]]]])
    np.testing.assert_allclose(chapter.cleaned(x), np.zeros((1, 1, 2, 1)), atol=1e-7)
    np.testing.assert_allclose(tape.gradient(value, x), [[[[2.0], [5.0]]]])


def test_a_point_of_the_learning_curve_is_the_mean_of_its_part():
    images, labels = (x[:64] for x in data.load("mnist", "train"))
    model = small_model(attack_steps=0)
    model.optimizer.learning_rate.assign(0.0)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    history = model.fit(batches, steps_per_epoch=2, verbose=0).history
    whole = chapter.cross_entropy(labels, model.network(tf.constant(data.to_unit(images))))
    assert history["loss"][0] == pytest.approx(float(np.mean(whole)), rel=1e-4)


# The chapter's own options


def test_options_are_looked_at_before_anything_is_trained():
    cells = [
        cell
        for cell in nbformat.read(chapters.find("10_adversarial_examples"), as_version=4).cells
        if cell.cell_type == "code"
    ]
    uses = [i for i, cell in enumerate(cells) if "load_or_embedded(classifier)" in cell.source]
    assert uses and "photographs.shown(photograph)" in cells[uses[0]].source
    assert not any(".fit(" in cell.source for cell in cells[: uses[0] + 1])


@pytest.mark.slow
def test_the_chapter_runs_with_its_options(tmp_path, monkeypatch):
    """In smoke, to its end; without a network the embedded classifier takes over."""
    options = {"photograph": "~/eigenes Bild [1].JPG", "classifier": "MobileNetV2"}
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (300, 200), "navy").save(tmp_path / "eigenes Bild [1].JPG", exif=exif)
    notebook = nbformat.read(chapters.find("10_adversarial_examples"), as_version=4)
    parameters = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    values = {"profile": "smoke", **options}
    parameters.source += "\n" + "\n".join(f"{k} = {v!r}" for k, v in values.items())
    folder = str(chapters.find("10_adversarial_examples").parent)
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "The weights of MobileNetV2 cannot be had" in printed
    assert any("application/vnd.course.results+json" in o.get("data", {}) for o in outputs)
