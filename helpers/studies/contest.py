"""Contest: train different generators in the same way, and count what it costs."""

import time

import keras
import numpy as np

from helpers import callbacks, data


def adam(rate: float, beta_1: float = 0.5) -> keras.optimizers.Adam:
    """Return Adam that also keeps the average of the weights (EMA, decay 0.99)."""
    return keras.optimizers.Adam(rate, beta_1, 0.99, use_ema=True, ema_momentum=0.99)


def train(model, images, steps: int, seed: int) -> float:
    """Fit and put the average of the generator's weights in their place.

    Args:
        model: compiled, with ``generator`` and ``generator_optimizer`` (from ``adam``).
        images: uint8, shape (n, h, w, c), n >= 64.
        steps: of 64 images each, from 1.
        seed: orders the batches.

    Returns:
        CPU seconds, all threads added up.
    """
    clock, batches = callbacks.CpuBudget(), data.batches(images, 64, seed)
    model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[clock])
    model.generator_optimizer.finalize_variable_values(model.generator.trainable_variables)
    return clock.used


def generate(model, inputs) -> tuple[np.ndarray, float]:
    """Return ``model.generate(inputs)`` and its CPU milliseconds per image.

    It is called on a few inputs first: the first call of a model also builds its graph.
    """
    model.generate(inputs[:500])
    started = time.process_time()
    images = model.generate(inputs)
    return images, 1000 * (time.process_time() - started) / len(inputs)
