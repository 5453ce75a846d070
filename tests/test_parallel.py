"""Parallel: several calls at a time, results in order, the first error reaches the reader."""

import threading
import time

import keras
import numpy as np
import pytest

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
