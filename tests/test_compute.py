"""helpers.compute: options by device, costs in turns, several calls at a time."""

import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import compute


def test_results_come_in_order_and_two_run_at_a_time():
    meeting = threading.Barrier(2, timeout=20)  # nobody passes alone

    def slow_first(number, base):
        meeting.wait()
        time.sleep(0.2 if number == 0 else 0)
        return base + number

    assert compute.together(slow_first, [(n, 10) for n in range(6)]) == list(range(10, 16))


def test_an_error_reaches_the_caller_and_later_jobs_do_not_start():
    started = []

    def work(number):
        started.append(number)
        time.sleep(0.1)
        if number == 1:
            raise ValueError("number 1 is bad")

    with pytest.raises(ValueError, match="number 1 is bad"):
        compute.together(work, [(n,) for n in range(50)])
    assert len(started) < 10


def test_an_early_failure_is_noticed_while_an_earlier_job_still_runs():
    started = []

    def work(number):
        started.append(number)
        if number == 0:
            time.sleep(1.0)
        if number == 1:
            raise ValueError("number 1 is bad")
        time.sleep(0.05)

    with pytest.raises(ValueError, match="number 1 is bad"):
        compute.together(work, [(n,) for n in range(50)])
    assert len(started) < 10


def test_trainings_side_by_side_give_what_they_give_alone():
    def model(seed):
        start = keras.initializers.GlorotUniform(seed)
        made = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=start)]
        )
        made.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
        return made

    def fit(made):
        x = np.random.default_rng(0).normal(size=(64, 3))
        made.fit(x, x.sum(axis=1), batch_size=8, epochs=2, shuffle=False, verbose=0)
        return made.get_weights()

    alone = [fit(model(seed)) for seed in range(3)]
    side_by_side = compute.together(fit, [(model(seed),) for seed in range(3)])
    for a, b in zip(alone, side_by_side, strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-5)


@pytest.fixture
def card(monkeypatch):
    """A machine with one graphics card, as TensorFlow would list it; what is set on it."""
    device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    listed = tf.config.list_physical_devices
    grown = []

    def list_physical_devices(kind=None):
        return [device] if kind == "GPU" else listed(kind)

    monkeypatch.setattr(tf.config, "list_physical_devices", list_physical_devices)
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda *arguments: grown.append(arguments)
    )
    monkeypatch.setattr(keras.Model, "make_train_function", keras.Model.make_train_function)
    return device, grown


def test_options_on_a_cpu():
    assert compute.cards() == []
    assert compute.compile_options(50) == {"jit_compile": False, "steps_per_execution": 10}
    assert compute.compile_options(7) == {"jit_compile": False, "steps_per_execution": 7}
    assert compute.compile_options(33)["steps_per_execution"] == 3
    assert compute.compile_options(11)["steps_per_execution"] == 1
    before = keras.Model.make_train_function
    compute.prepare_devices()
    assert keras.Model.make_train_function is before  # nothing is changed where there is no card


def test_options_on_a_card(card):
    assert compute.compile_options(250) == {"jit_compile": True, "steps_per_execution": 50}
    assert compute.compile_options(200) == {"jit_compile": True, "steps_per_execution": 100}
    assert compute.compile_options(200, xla=False)["jit_compile"] is False
    compute.prepare_devices()
    compute.prepare_devices()
    assert card[1] == [(card[0], True)] * 2


def test_on_a_card_one_training_at_a_time(card):
    running = []

    def work(number):
        running.append(number)
        assert len(running) == 1
        time.sleep(0.02)
        running.remove(number)
        return number

    assert compute.together(work, [(n,) for n in range(4)]) == [0, 1, 2, 3]


class Turned(keras.Model):
    """Learns to undo a turn, with an image transform that XLA does not have."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, images):
        transforms = tf.tile([[1.0, 0, 0, 0, 1, 0, 0, 0]], (tf.shape(images)[0], 1))
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms,
            output_shape=[4, 4],
            fill_value=0.0,
            interpolation="BILINEAR",
        )
        return self.dense(tf.reshape(moved, (-1, 16)))


def fit_turned(jit_compile):
    keras.utils.set_random_seed(3)
    model = Turned()
    model.compile("sgd", "mse", jit_compile=jit_compile, steps_per_execution=2)
    images = np.random.default_rng(0).random((16, 4, 4, 1), dtype=np.float32)
    return model.fit(images, images.mean(axis=(1, 2)), batch_size=4, shuffle=False, verbose=0)


def test_xla_that_refuses_a_step_is_one_sentence(card, capsys):
    compute.prepare_devices()
    history = fit_turned(jit_compile=True)
    sentence = "turned: XLA does not take this training step, so it runs without XLA.\n"
    assert capsys.readouterr().out == sentence
    assert np.isfinite(history.history["loss"]).all()
    fit_turned(jit_compile=False)
    assert capsys.readouterr().out == ""


def test_xla_that_takes_a_step_is_used(card, capsys):
    compute.prepare_devices()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **compute.compile_options(4))
    model.fit(np.ones((16, 3)), np.ones((16, 1)), batch_size=4, verbose=0)
    assert model.jit_compile is True and capsys.readouterr().out == ""


def test_an_error_of_the_step_itself_is_not_swallowed(card):
    compute.prepare_devices()

    class Wrong(keras.Model):
        def train_step(self, batch):
            tf.debugging.assert_less(tf.reduce_sum(batch), 0.0, message="my own mistake")
            return {"loss": tf.reduce_sum(batch)}

    model = Wrong()
    model.compile("sgd", jit_compile=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="my own mistake"):
        model.fit(np.ones((4, 1), np.float32), verbose=0)


def test_the_ratio_of_costs_is_measured_in_turns(monkeypatch):
    now, calls = [0.0], []

    def lasts(name, seconds):
        def work():
            calls.append(name)
            # the machine becomes slower and slower
            now[0] += seconds * (1 + 0.1 * len(calls))

        return work

    monkeypatch.setattr(compute.time, "perf_counter", lambda: now[0])
    ratio = compute.cost_ratio(lasts("a", 3.0), lasts("b", 1.0), rounds=5)
    assert "".join(calls) == "ab" * 6
    assert ratio == pytest.approx(3, rel=0.1)


def test_a_ratio_that_is_off_is_said(capsys):
    compute.check_cost_ratio(0.44, 0.4)
    assert capsys.readouterr().out == ""
    compute.check_cost_ratio(0.5, 0.4)
    text = capsys.readouterr().out
    assert "0.50" in text and "0.40" in text and text.count("\n") == 1
