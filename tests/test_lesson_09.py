"""Chapter 9 as code: networks, losses, the pool, the step, the rivals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage import color

from helpers import chapters, experiment

chapter = chapters.import_chapter("09_cyclegan")
rng = np.random.default_rng(0)
SHAPE = (32, 32, 3)


def pictures(n, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def test_instance_norm_against_numpy():
    x = rng.normal(3, 2, (4, 6, 5, 7)).astype(np.float32)
    mean, var = (f(x, axis=(1, 2), keepdims=True) for f in (np.mean, np.var))
    mine = chapter.instance_norm(tf.constant(x))
    np.testing.assert_allclose(mine, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-4)


def test_the_receptive_field_is_where_the_gradient_is():
    """By the network itself, without its normalisation, which looks at the whole picture."""
    image = keras.Input((64, 64, 1))
    x = image
    for filters, kernel, stride in ((2, 4, 2), (2, 4, 2), (1, 4, 1)):
        x = keras.layers.Conv2D(filters, kernel, stride, "same", kernel_initializer="ones")(x)
    model = keras.Model(image, x)
    pixels = tf.Variable(tf.zeros((1, 64, 64, 1)))
    with tf.GradientTape() as tape:
        verdict = model(pixels)[0, 8, 8, 0]
    seen = np.flatnonzero(np.abs(tape.gradient(verdict, pixels)[0, ..., 0]).sum(axis=0))
    assert len(seen) == seen[-1] - seen[0] + 1
    assert len(seen) == chapter.receptive_field([(4, 2), (4, 2), (4, 1)])
    assert chapter.receptive_field([(4, 2), (4, 2), (4, 2), (4, 1), (4, 1)]) == 70  # the paper's


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_generators_keep_the_shape_and_the_range(kind):
    generator = chapter.build_generator(SHAPE, 4, kind)
    made = generator(pictures(2) / 127.5 - 1)
    assert made.shape == (2, *SHAPE) and np.abs(made).max() <= 1


def test_a_generator_draws_the_change():
    generator, images = chapter.build_generator(SHAPE, 4), np.float32(pictures(2) / 127.5 - 1)
    last = [x for x in generator.layers if isinstance(x, keras.layers.Conv2DTranspose)][-1]
    for weight in last.weights:
        weight.assign(tf.zeros_like(weight))
    np.testing.assert_allclose(generator(images), images, atol=1e-6)


def test_only_the_unet_hands_pixels_across():
    joins = {
        kind: [layer for layer in chapter.build_generator(SHAPE, 4, kind).layers
               if isinstance(layer, keras.layers.Concatenate)]
        for kind in ("unet", "resnet")
    }  # fmt: skip
    assert len(joins["unet"]) == 2 and not joins["resnet"]


def new_model(rates=(0.0, 0.0), pool=6, **weights):
    experiment.start("smoke", 5)
    model = chapter.CycleGAN(SHAPE, 5, pool=pool, **weights)
    adam = [keras.optimizers.SGD(rate) for rate in rates]
    model.compile(*adam, jit_compile=False)
    return model


A, B = pictures(3, 1), pictures(3, 2)


def fit(model, steps=1):
    batches = tf.data.Dataset.from_tensors((A, B)).repeat()
    return model.fit(batches, steps_per_epoch=steps, verbose=0).history


def test_the_losses_of_a_step_written_out():
    model = new_model()
    a, b = (np.float32(x) / 127.5 - 1 for x in (A, B))

    def g(x):
        return model.to_b(x).numpy()

    def f(x):
        return model.to_a(x).numpy()

    pool_a, pool_b = (pool.numpy() for pool in model.pools)
    history = {name: values[0] for name, values in fit(model).items()}
    cycle = np.abs(f(g(a)) - a).mean() + np.abs(g(f(b)) - b).mean()
    identity = np.abs(g(b) - b).mean() + np.abs(f(a) - a).mean()
    fooling = [
        np.mean((d(x).numpy() - 1) ** 2) for d, x in ((model.of_a, f(b)), (model.of_b, g(a)))
    ]
    assert history["cycle"] == pytest.approx(cycle, rel=1e-3)
    assert history["identity"] == pytest.approx(identity, rel=1e-3)
    assert history["fooling"] == pytest.approx(sum(fooling), rel=1e-3)
    for before, pool, fake in zip((pool_a, pool_b), model.pools, (f(b), g(a)), strict=True):
        new = [p for p in pool.numpy() if not any(np.array_equal(p, q) for q in before)]
        assert len(new) == 3
        assert all(np.abs(fake - p).max(axis=(1, 2, 3)).min() < 1e-4 for p in new)


@pytest.mark.parametrize("rates", [(0.1, 0.0), (0.0, 0.1)], ids=["generators", "discriminators"])
def test_a_move_leaves_the_other_side_where_it_is(rates):
    model = new_model(rates)
    sides = (model.to_a, model.to_b), (model.of_a, model.of_b)
    before = [[w.numpy() for net in side for w in net.trainable_variables] for side in sides]
    fit(model, 2)
    for side, old, rate in zip(sides, before, rates, strict=True):
        new = [w.numpy() for net in side for w in net.trainable_variables]
        moved = [np.abs(x - y).max() > 0 for x, y in zip(new, old, strict=True)]
        assert np.mean(moved) > 0.7 if rate else not any(moved)  # biases before a norm stay


def test_a_weight_of_zero_leaves_a_loss_out():
    weights = []
    for changed in ({"cycle": 0.0, "identity": 0.0}, {"cycle": 0.0, "identity": 1.0}):
        model = new_model((0.1, 0.0), **changed)
        fit(model)
        weights.append(model.to_b.get_weights()[0])
    assert np.abs(weights[0] - weights[1]).max() > 1e-6


def test_the_pool_gives_old_pictures_for_about_half_of_the_new_ones():
    model, old_ones = new_model(pool=50), 0
    pool = model.pools[0]
    pool.assign(tf.reshape(tf.range(50.0), (50, 1, 1, 1)) * tf.ones((50, *SHAPE)))
    for step in range(60):
        images = tf.fill((4, *SHAPE), 1000.0 + step)
        back = chapter.exchange(pool, images, model.random)[:, 0, 0, 0].numpy()
        assert np.all(
            (back == 1000 + step) | np.isin(back, [*range(50), *range(1000, 1000 + step)])
        )
        old_ones += np.sum(back != 1000 + step)
    assert 80 < old_ones < 160  # of 240
    assert np.mean(pool[:, 0, 0, 0] >= 1000) > 0.97  # 240 arrivals in 50 places


def test_the_learning_rate_is_constant_and_then_falls_to_zero():
    rate = chapter.LinearEnd(0.2, 100)
    values = [float(rate(step)) for step in (0, 49, 50, 75, 100)]
    np.testing.assert_allclose(values, [0.2, 0.2, 0.2, 0.1, 0], atol=1e-6)


def test_translate_is_the_generator_in_bytes():
    model = new_model()
    made = chapter.translate(model, A)
    assert made.dtype == np.uint8
    floats = (model.to_b(np.float32(A) / 127.5 - 1) + 1) * 127.5
    np.testing.assert_allclose(made, floats, atol=0.51)
    assert np.abs(made - np.float32(chapter.translate(model, A, "a"))).max() > 1


def test_colour_transfer_gives_the_statistics_of_the_goal():
    images = np.uint8(rng.normal(120, 15, (2, 24, 24, 3)).clip(0, 255))
    goal = np.uint8(rng.normal((150, 110, 90), 12, (3, 24, 24, 3)).clip(0, 255))
    lab, target = color.rgb2lab(chapter.colour_transfer(images, goal)), color.rgb2lab(goal)
    np.testing.assert_allclose(lab.mean((1, 2)), [target.mean((0, 1, 2))] * 2, atol=1)
    np.testing.assert_allclose(lab.std((1, 2)), [target.std((1, 2)).mean(axis=0)] * 2, atol=1)
