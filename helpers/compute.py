"""Compute: what depends on the machine, in one place: devices, compile options, costs, threads.

Small networks spend a graphics card's time on starting kernels, not on arithmetic. There XLA, which
fuses them, and many steps in one call help; on a CPU, XLA brings convolutions little and makes
small dense networks with noise layers about five times as slow (measured for this course).
Nothing here changes what is computed, only how fast.
"""

import contextlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import keras
import tensorflow as tf

MOST_STEPS = 100  # in one call, on a card
TOLERANCE = 0.15  # by which a measured ratio of costs may miss the one that step numbers assume


def cards() -> list[str]:
    """Return the names of the graphics cards that TensorFlow sees."""
    return [device.name for device in tf.config.list_physical_devices("GPU")]


def prepare_devices() -> None:
    """Let memory grow on every card, and let a training fall back where XLA refuses its step."""
    for device in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # the card is in use already: called again
            tf.config.experimental.set_memory_growth(device, True)
    if cards():
        fall_back_without_xla()


def compile_options(steps: int, xla: bool = True) -> dict:
    """Return the arguments of ``compile`` that depend on the device.

    Args:
        steps: training steps of an epoch (``steps_per_epoch``).
        xla: False where XLA is known to lack an operation of the training step.

    Returns:
        ``jit_compile`` and ``steps_per_execution``: on a card XLA and the largest divisor of
        ``steps`` up to 100, on a CPU no XLA and the largest divisor up to 10.
    """
    on_card = bool(cards())
    most = min(MOST_STEPS if on_card else 10, steps)
    divisor = next(n for n in range(most, 0, -1) if steps % n == 0)
    return {"jit_compile": on_card and xla, "steps_per_execution": divisor}


def fall_back_without_xla() -> None:
    """Make every later ``fit`` go on without XLA, after one sentence, where XLA refuses its step.

    XLA compiles a step before it runs it for the first time, so that nothing is half done; only the
    first batch is lost.
    """
    make = keras.Model.make_train_function
    if getattr(make, "falls_back", False):
        return

    def make_train_function(model, force=False):
        make(model, force)
        if not model.jit_compile:
            return
        compiled = model.train_function

        def train_function(iterator):
            try:
                return compiled(iterator)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
                if "XLA" not in str(error) and "compil" not in str(error):
                    raise
            print(f"{model.name}: XLA does not take this training step, so it runs without XLA.")
            model.jit_compile = False
            make(model, True)
            return model.train_function(iterator)

        model.train_function = train_function

    make_train_function.falls_back = True
    keras.Model.make_train_function = make_train_function


def cost_ratio(first, second, rounds: int = 7) -> float:
    """Return how many times as long ``first()`` takes as ``second()``, measured in turns.

    On a shared machine the same training took 54 and 123 CPU seconds: only what is measured in
    turns, A B A B ..., can be compared. Each function is called once before, which compiles it.

    Args:
        first, second: functions without arguments that train for a while and return when the
            device has done its work (``fit`` does: it returns the losses).
        rounds: how often each is timed, from 1.

    Returns:
        The median over the rounds of time of ``first`` / time of ``second``.
    """

    def seconds(function) -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    first(), second()
    return statistics.median(seconds(first) / seconds(second) for _ in range(rounds))


def check_cost_ratio(measured: float, assumed: float) -> None:
    """Print a sentence where a ratio of step costs is not the one that step numbers assume.

    Args:
        measured: from ``cost_ratio``, on this machine.
        assumed: the ratio from which the notebook's constants came.
    """
    if abs(measured / assumed - 1) > TOLERANCE:
        print(
            f"On this machine the ratio of the step costs is {measured:.2f}, and the step numbers "
            f"come from {assumed:.2f}: what is called equal cost here is off by as much."
        )


def together(function, jobs, threads: int = 2) -> list:
    """Call ``function(*job)`` for every job, some at a time, and return the results in order.

    In threads: TensorFlow computes outside of Python's lock, so that two small trainings share two
    cores well, and their results are those of one after the other. On a card they run one after
    the other. Whatever draws from a global seed (``keras.utils.set_random_seed``, a layer built
    without a seed) must be done before.

    Args:
        function: what to call.
        jobs: tuples of arguments.
        threads: how many run at a time on a CPU, from 1.

    Raises:
        what the first failing call raises, as soon as it fails; jobs that have not started then
        do not start.
    """
    with ThreadPoolExecutor(1 if cards() else threads) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
