"""Chapter 6 as code: the four ideas against NumPy, growing, the losses, the way back."""

import hashlib
import os
import subprocess
import sys

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.special import log_expit

from helpers import callbacks, chapters, experiment
from helpers.sources import hub
from tools import notebook, train_hub_module

chapter = chapters.import_chapter("06_progressive_gan")
PATH = chapters.find("06_progressive_gan")
WIDTHS = {4: 8, 8: 6, 16: 4, 32: 2}


@pytest.fixture
def tensor(rng):
    """Normal numbers of a shape, from the test's own generator."""
    return lambda *shape: rng.normal(size=shape).astype(np.float32)


def test_pixel_norm_by_hand(tensor):
    x = tensor(3, 4, 5, 6)
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-8)
    y = chapter.PixelNorm()(x).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose((y**2).mean(axis=-1), 1, rtol=1e-4)
    np.testing.assert_allclose(chapter.PixelNorm()(7 * x), y, rtol=1e-4)  # the scale is forgotten


def with_group(group):
    layer = chapter.MinibatchStd()
    layer.group = group
    return layer


@pytest.mark.parametrize(("n", "group"), [(8, 4), (4, 4), (3, 4), (6, 2)])
def test_minibatch_std_by_loops(n, group, tensor):
    x = tensor(n, 3, 2, 5)
    y = with_group(group)(x).numpy()
    np.testing.assert_array_equal(y[..., :5], x)
    members = min(group, n)
    groups = n // members
    for g in range(groups):
        chosen = [g + k * groups for k in range(members)]
        spread = np.std(x[chosen].astype(float), axis=0).mean()
        np.testing.assert_allclose(y[chosen][..., 5], spread, rtol=1e-4)


def test_minibatch_std_tells_copies_from_variety(tensor):
    layer = chapter.MinibatchStd()
    copies = np.repeat(tensor(1, 4, 4, 2), 8, axis=0)
    assert layer(copies)[..., 2].numpy().max() < 1e-3 < 0.5 < layer(tensor(8, 4, 4, 2))[0, 0, 0, 2]
    assert layer(keras.Input((4, 4, 2))).shape == (None, 4, 4, 3)


MAKERS = {
    "dense": (lambda **o: chapter.EqualisedDense(7, **o), (4, 9), 9),
    "conv": (lambda **o: chapter.EqualisedConv2D(7, 3, padding="same", **o), (2, 6, 6, 9), 81),
    "transposed": (
        lambda **o: chapter.EqualisedConv2DTranspose(7, 4, 2, "same", **o),
        (2, 6, 6, 9),
        36,
    ),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_equalised_layers_are_ordinary_ones_with_scaled_weights(kind, gain, tensor):
    make, shape, inputs = MAKERS[kind]
    layer, x = make(gain=gain), tensor(*shape)
    y = layer(x)
    layer.bias.assign(tensor(7))
    y = layer(x)
    plain_class = type(layer).__mro__[2]
    plain = {
        "dense": lambda: keras.layers.Dense(7),
        "conv": lambda: keras.layers.Conv2D(7, 3, padding="same"),
        "transposed": lambda: keras.layers.Conv2DTranspose(7, 4, 2, "same"),
    }[kind]()
    assert isinstance(plain, plain_class)
    plain.build(x.shape)
    plain.set_weights([layer.kernel.numpy() * gain / np.sqrt(inputs), layer.bias.numpy()])
    np.testing.assert_allclose(y, plain(x), atol=1e-5)


@pytest.mark.parametrize("kind", MAKERS)
def test_run_time_scaling_changes_the_move_and_not_the_function(kind, tensor):
    """Same function at the start; after a step of Adam the weights moved differently."""
    make, shape, _ = MAKERS[kind]
    x, layers = tensor(*shape), []
    for run_time in (True, False):
        keras.utils.set_random_seed(1)
        layers.append(make(run_time=run_time))
        layers[-1].build(x.shape)
    np.testing.assert_allclose(layers[0](x), layers[1](x), atol=1e-4)
    assert layers[0].kernel.numpy().std() == pytest.approx(1, rel=0.15)
    assert layers[1].kernel.numpy().std() < 0.6
    moved = []
    for layer in layers:
        before = layer.kernel.numpy() * layer.scale
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        gradient = tape.gradient(loss, layer.kernel.value)
        keras.optimizers.Adam(0.01).apply([gradient], [layer.kernel])
        moved.append(np.abs(layer.kernel.numpy() * layer.scale - before).max())
    assert moved[0] == pytest.approx(0.01 * layers[0].scale, rel=1e-2)
    assert moved[1] == pytest.approx(0.01, rel=1e-2)


def test_the_scale_keeps_the_variance_of_signals(tensor):
    x = tensor(64, 8, 8, 32)
    for layer in (
        chapter.EqualisedConv2D(32, 3, padding="same", gain=1.0),
        chapter.EqualisedDense(32, gain=1.0),
        chapter.EqualisedConv2DTranspose(32, 4, 2, "same", gain=1.0),
    ):
        y = layer(x).numpy()
        inner = y[:, 3:-3, 3:-3]
        assert inner.std() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_fade_is_a_mixture(alpha, tensor):
    fade = chapter.Fade()
    old, new = tensor(2, 4, 4, 1), tensor(2, 4, 4, 1)
    np.testing.assert_allclose(fade(old, new), new, atol=1e-6)  # alpha is 1 at first
    fade.alpha.assign(alpha)
    np.testing.assert_allclose(fade(old, new), (1 - alpha) * old + alpha * new, atol=1e-6)


@pytest.mark.parametrize("size", [4, 8, 16, 32])
def test_builders_give_the_shapes_that_they_promise(size, tensor):
    images = chapter.build_generator(5, size, widths=WIDTHS)(tensor(4, 5))
    assert images.shape == (4, size, size, 1)
    discriminator = chapter.build_discriminator((size, size, 1), widths=WIDTHS)
    assert discriminator(images).shape == (4, 1)


def test_parts_can_be_left_out():
    for part in chapter.PARTS:
        rest = tuple(set(chapter.PARTS) - {part})
        networks = (
            chapter.build_generator(5, 8, rest, WIDTHS),
            chapter.build_discriminator((8, 8, 1), rest, WIDTHS),
        )
        kinds = [type(x).__name__ for network in networks for x in network.layers]
        assert (kinds.count("PixelNorm") == 1) == (part == "pixel norm")  # that of the code stays
        assert ("MinibatchStd" in kinds) == (part != "minibatch std")
        scales = {x.scale for n in networks for x in n.layers if isinstance(x, chapter.Equalised)}
        assert (scales == {1.0}) == (part == "equalised")


@pytest.mark.parametrize("size", [8, 16, 32])
def test_a_grown_network_starts_as_the_old_one(size, tensor):
    """With alpha = 0: the generator's image is the old one enlarged, the logit that of the mean."""
    half = size // 2
    old = chapter.build_generator(5, half, widths=WIDTHS)
    new = chapter.build_generator(5, size, widths=WIDTHS)
    chapter.carry_over(old, new)
    new.get_layer("fade").alpha.assign(0.0)
    latent = tensor(3, 5)
    expected = old(latent).numpy().repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(new(latent), expected, atol=1e-5)
    new.get_layer("fade").alpha.assign(1.0)
    assert np.abs(new(latent) - expected).max() > 1e-2

    old = chapter.build_discriminator((half, half, 1), widths=WIDTHS)
    new = chapter.build_discriminator((size, size, 1), widths=WIDTHS)
    chapter.carry_over(old, new)
    new.get_layer("fade").alpha.assign(0.0)
    images = tensor(4, size, size, 1)
    small = images.reshape(4, half, 2, half, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(new(images), old(small), atol=1e-4)


IMAGES = np.random.default_rng(7).integers(0, 256, (8, 8, 8, 1), np.uint8)


def new_gan(kind="R1", rates=(1e-2, 1e-2), size=8):
    experiment.start("smoke", 5)
    ours, average = (chapter.build_generator(4, size, widths=WIDTHS) for _ in range(2))
    theirs = chapter.build_discriminator((size, size, 1), widths=WIDTHS)
    gan = chapter.ProgressiveGAN(ours, theirs, average, 5, kind, decay=0.9)
    adam = [keras.optimizers.SGD(rate) for rate in rates]
    plain = chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss
    gan.compile(*adam, losses=plain, jit_compile=False)
    return gan


def fit(gan, steps=1, *watch, images=IMAGES):
    batches = tf.data.Dataset.from_tensors(images).repeat()
    return gan.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=list(watch)).history


def test_the_losses_of_a_step_written_out():
    gan = new_gan()
    latent = keras.random.normal((8, 4), seed=keras.random.SeedGenerator(5))
    fake = np.asarray(gan.discriminator(gan.generator(latent)), float)
    real = np.asarray(gan.discriminator(IMAGES / np.float32(127.5) - 1), float)
    gan.random.state.assign(keras.random.SeedGenerator(5).state)
    history = fit(gan)
    expected = -log_expit(real).mean() - log_expit(-fake).mean()
    np.testing.assert_allclose(history["discriminator_loss"], [expected], rtol=1e-3)
    np.testing.assert_allclose(history["generator_loss"], [-log_expit(fake).mean()], rtol=1e-3)


def test_r1_is_due_in_every_sixteenth_step(tensor):
    gan = new_gan(rates=(0.0, 0.0))
    real = tf.constant(tensor(4, 8, 8, 1))
    with tf.GradientTape() as tape:
        tape.watch(real)
        logits = tf.reduce_sum(gan.discriminator(real))
    slopes = np.mean(np.sum(np.square(tape.gradient(logits, real)), axis=(1, 2, 3)))
    for step in range(20):
        expected = 16 * slopes / 2 if step % 16 == 0 else 0.0
        gan.discriminator_optimizer.iterations.assign(step)
        np.testing.assert_allclose(gan.penalty(real, real), expected, rtol=1e-5)


def test_the_gradient_penalty_is_due_in_every_step_with_weight_10(tensor):
    gan = new_gan("gradient penalty", rates=(0.0, 0.0))
    gan.discriminator = lambda images: 3.0 * tf.reduce_sum(images, axis=(1, 2, 3))
    for step in range(3):
        gan.discriminator_optimizer.iterations.assign(step)
        value = gan.penalty(tf.constant(tensor(5, 4, 4, 1)), tf.constant(tensor(5, 4, 4, 1)))
        np.testing.assert_allclose(value, 10 * (3 * np.sqrt(16) - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["R1", "gradient penalty"])
@pytest.mark.parametrize("rates", [(1e-2, 0.0), (0.0, 1e-2)], ids=["generator", "discriminator"])
def test_a_move_leaves_the_other_player_where_it_is(kind, rates):
    gan = new_gan(kind, rates)
    gan.set_alpha(0.5)  # both ways into the networks are open
    players = gan.generator, gan.discriminator
    before = [[w.numpy() for w in p.trainable_variables] for p in players]
    fit(gan, 2)
    for player, old, rate in zip(players, before, rates, strict=True):
        new = [w.numpy() for w in player.trainable_variables]
        moved = [np.abs(a - b).max() > 0 for a, b in zip(new, old, strict=True)]
        assert all(moved) if rate else not any(moved)


def test_the_average_follows_its_formula_and_draws_the_images(tensor):
    gan = new_gan()
    slow = [w.numpy() for w in gan.average.trainable_variables]
    gan.decay = 0.2  # counts from the second step: 2 / 11 is less, 3 / 12 is more
    for decay in (2 / 11, 0.2, 0.2):
        fit(gan)
        fast = [w.numpy() for w in gan.generator.trainable_variables]
        slow = [decay * a + (1 - decay) * b for a, b in zip(slow, fast, strict=True)]
    for mine, average in zip(slow, gan.average.trainable_variables, strict=True):
        np.testing.assert_allclose(average, mine, rtol=1e-4, atol=1e-6)
    latent = tensor(2, 4)
    expected = np.clip((gan.average(latent) + 1) / 2, 0, 1)
    np.testing.assert_allclose(gan.generate(latent), expected, atol=1e-5)


def test_the_callback_ramps_alpha_in_all_networks():
    gan, seen = new_gan(), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append([float(f.alpha) for f in gan.fades])
    )
    fit(gan, 6, chapter.fade_in(gan, 4), watch)
    assert len(gan.fades) == 3
    np.testing.assert_allclose(seen, np.repeat([0.25, 0.5, 0.75, 1, 1, 1], 3).reshape(6, 3))


def test_wgan_losses_are_differences_of_means(rng):
    real, fake = rng.normal(size=(2, 30, 1))
    np.testing.assert_allclose(chapter.critic_loss(real, fake), fake.mean() - real.mean())
    np.testing.assert_allclose(chapter.fool_the_critic(fake), -fake.mean())


# What growing costs


def test_the_plan_costs_as_much_as_the_direct_training():
    assert list(chapter.PLAN) == list(chapter.STEP_COST) == [4, 8, 16, 32]
    assert chapter.STEP_COST[32] == 1
    grown = sum(steps * chapter.STEP_COST[size] for size, steps in chapter.PLAN.items())
    assert grown == pytest.approx(chapter.DIRECT_STEPS, rel=0.03)
    halving = chapter.HALVING_STEPS * chapter.HALVING_STEP_COST
    assert halving == pytest.approx(chapter.DIRECT_STEPS, rel=0.03)
    *small, last = chapter.PLAN.values()
    assert all(steps % 100 == 0 for steps in small)  # their ends are measured
    assert last % 50 == 0  # whole reports; the final samples are measured apart


def test_moments_are_carried_over_by_name():
    """What both networks have keeps its moments; new layers and the counter of steps start anew."""
    old, new = (chapter.build_generator(4, size, widths=WIDTHS) for size in (8, 16))
    optimizers = []
    for network in (old, new):
        optimizers.append(keras.optimizers.Adam(0.1))
        optimizers[-1].build(network.trainable_variables)
    gradients = [tf.ones_like(w) for w in old.trainable_variables]
    optimizers[0].apply(gradients, old.trainable_variables)
    chapter.carry_over_moments(*optimizers)
    values = {v.name: v.numpy() for v in optimizers[1].variables}
    for name in ("start_kernel", "up8_bias", "image8_kernel"):
        np.testing.assert_allclose(values[f"{name}_momentum"], 0.1, rtol=1e-5)
        np.testing.assert_allclose(values[f"{name}_velocity"], 0.001, rtol=1e-3)
    for name in ("up16_kernel", "image16_kernel"):
        assert not values[f"{name}_velocity"].any()
    assert values["iteration"] == 0


@pytest.mark.parametrize(
    ("fids", "expected"),
    [
        ([9, 7, 9, 7, 7, 7], 40),
        ([9, 7, 7, 9, 7, 7], None),  # two in a row, twice
        ([7, 7, 7, 9, 9, 9], 10),
        ([9, 9, 9, 9, 7, 6], None),  # the training ended too soon to tell
        ([7, 7], None),
    ],
)
def test_reached_means_three_measurements_in_a_row(fids, expected):
    costs = [10, 20, 30, 40, 50, 60][: len(fids)]
    assert chapter.reached_at(costs, fids, 7) == expected


def test_measurements_of_two_stages_count_their_own_steps():
    """A watch for each stage, as in the notebook: its steps begin at 0 when the network grows."""
    steps = []
    for size in (4, 8):
        gan = new_gan(size=size)
        watch = callbacks.MeasureEvery(lambda gan: 0.0, 2)
        images = np.zeros((8, size, size, 1), np.uint8)
        fit(gan, 4, watch, images=images)
        steps.append(watch.steps)
    assert steps == [[2, 4], [2, 4]]


# The way back


def linear(matrix):
    return lambda codes: tf.reshape(tf.convert_to_tensor(codes) @ matrix, (-1, 4, 4, 3))


def test_descent_finds_the_least_squares_solution(tensor):
    matrix, image = tensor(3, 48), tensor(4, 4, 3)
    expected, *_ = np.linalg.lstsq(matrix.T, image.ravel(), rcond=None)
    code, log = chapter.descend(linear(matrix), image, tensor(5, 3), steps=400)
    np.testing.assert_allclose(code, expected, atol=1e-3)
    assert log.shape == (401,) and log[-1] <= log[0]
    residual = np.mean((expected @ matrix - image.ravel()) ** 2)
    assert log[-1] == pytest.approx(residual, rel=1e-4)


def test_descent_goes_through_the_signature_of_an_exported_module(tmp_path, tensor):
    experiment.start("smoke", 3)
    network = chapter.build_generator(4, 8, widths=WIDTHS)
    module = hub.load(str(hub.export(network, 4, tmp_path / "module")))
    image = module(tensor(1, 4))[0].numpy()
    code, log = chapter.descend(module, image, tensor(8, 4), steps=80)
    assert code.shape == (4,) and log[-1] < 0.05 * log[0]


def test_without_a_gradient_there_is_a_search(tensor):
    matrix = tensor(3, 48)

    def draw(codes):  # a function whose gradient TensorFlow does not see
        return tf.stop_gradient(tf.sigmoid(linear(matrix)(codes)))

    target = np.array([[0.5, -1.0, 0.8]], np.float32)
    image = draw(target)[0].numpy()
    with pytest.raises(ValueError, match="use search instead"):
        chapter.descend(draw, image, tensor(2, 3), steps=1)
    code, log = chapter.search(draw, image, 3, rounds=40)
    assert (np.diff(log) <= 0).all() and log[-1] < 1e-3
    np.testing.assert_allclose(code, target[0], atol=0.1)


# The whole notebook with what a reader may set


def without_training(folder):
    """Write the chapter without its comparison of trainings, which no option touches."""
    found = nbformat.read(PATH, as_version=4)
    ids = [cell.id for cell in found.cells]
    first, last = ids.index("code-15"), ids.index("code-35")
    (measures,) = (cell for cell in found.cells if cell.id == "code-21")
    lines = measures.source.splitlines()[:2]
    assert [line.split(" = ")[0] for line in lines] == ["test_images, _", "test"]
    measures.source = "\n".join(lines)  # the images that the last part looks up
    found.cells = [*found.cells[:first], measures, *found.cells[last + 1 :]]
    nbformat.write(found, folder / "short.ipynb")
    return folder / "short.ipynb"


def execute(tmp_path, cache, path=PATH, **parameters):
    """Run the chapter under smoke in a process of its own; return it and the executed notebook."""
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(path), str(out), "--cwd", str(PATH.parent)]
    command += ["-k", "python3", "--no-progress-bar", "--execution-timeout", "900"]
    for name, value in {"profile": "smoke", **parameters}.items():
        command += ["-p", name, str(value)]
    environment = os.environ | {"COURSE_CACHE": str(cache), "HOME": str(tmp_path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=3000
    )
    return done, nbformat.read(out, as_version=4)


def printed(found) -> str:
    """Everything that the cells printed."""
    outputs = [output for cell in notebook.code_cells(found) for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def large_network():
    """A generator of 128 x 128 colour pixels, as the public module's, but tiny."""
    latent = keras.Input((512,))
    x = keras.layers.Reshape((8, 8, 3))(keras.layers.Dense(192, activation="tanh")(latent))
    return keras.Model(latent, keras.layers.UpSampling2D(16)(x))


@pytest.mark.slow
def test_the_public_module_and_an_own_picture(tmp_path):
    """ "public" comes from the cache as if it had been downloaded; the picture is named with ~."""
    cache = tmp_path / "cache"
    name = hashlib.sha256(hub.PUBLIC.encode()).hexdigest()[:16]
    (cache / "hub").mkdir(parents=True)
    hub.export(large_network(), 512, cache / "hub" / name)
    Image.new("RGBA", (40, 60), (200, 30, 30, 120)).save(tmp_path / "mine.png")
    done, found = execute(tmp_path, cache, source="public", picture="~/mine.png")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "128 x 128 pixels" in printed(found)
    results = notebook.collect_results(found)
    assert "hub_module_fid" not in results and {"inversion_error", "search_error"} <= set(results)


@pytest.mark.slow
def test_a_folder_with_a_module_of_the_chapters_own_size(tmp_path):
    network = chapter.build_generator(8, 32, widths=WIDTHS)
    hub.export(network, 8, tmp_path / "module", {"title": "mine"})
    short = without_training(tmp_path)
    done, found = execute(tmp_path, tmp_path / "cache", short, source=tmp_path / "module")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "title: mine" in printed(found)
    assert "hub_module_fid" in notebook.collect_results(found)


@pytest.mark.slow
def test_an_address_that_does_not_answer_gives_a_sentence_and_the_embedded_module(tmp_path):
    address = "https://127.0.0.1:9/module"
    short = without_training(tmp_path)
    done, found = execute(tmp_path, tmp_path / "cache", short, source=address)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "The embedded module is used." in printed(found)
    assert "hub_module_fid" in notebook.collect_results(found)


@pytest.mark.slow
def test_a_picture_that_is_not_there_stops_the_notebook_before_any_training(tmp_path):
    done, found = execute(tmp_path, tmp_path / "cache", picture="nowhere/mine.png")
    assert done.returncode != 0
    (error,) = [
        output
        for cell in notebook.code_cells(found)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert error.ename == "ValueError" and "mine.png" in error.evalue
    executed = [cell.id for cell in notebook.code_cells(found) if cell.execution_count]
    assert len(executed) <= 4, executed  # parameters, imports, the cell that opens them


@pytest.mark.slow
def test_the_hub_module_can_be_trained_again(monkeypatch):
    monkeypatch.setattr(train_hub_module, "STEPS", 2)
    experiment.start("smoke", 0)
    gan, _ = train_hub_module.train((1, 1, 1, 1), fade=2)
    assert gan.average.output_shape == (None, 32, 32, 1)
    assert gan.average.get_layer("up8").filters == 2 * chapter.WIDTHS[8]
    samples = gan.generate(np.zeros((3, train_hub_module.LATENT), np.float32))
    assert np.isfinite(samples).all()
