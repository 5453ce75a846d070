"""GAN inversion: the latent code whose image comes closest to a given one."""

import keras
import numpy as np
import tensorflow as tf


def descend(draw, image, starts, steps: int = 150, rate: float = 0.1):
    """Look for the latent code of an image by gradient descent (Creswell & Bharath 2018, § 3).

    All starts move at once, with Adam; the best end counts.

    Args:
        draw: differentiable function from codes (n, latent_dim) to images (n, h, w, c).
        image: shape (h, w, c).
        starts: codes to start from, shape (n, latent_dim).
        steps: moves of each code.
        rate: Adam's learning rate.

    Returns:
        The best code (latent_dim,), and the smallest mean squared error before each move and
        after the last, shape (steps + 1,).

    Raises:
        ValueError: TensorFlow knows no gradient of ``draw``.
    """
    codes, adam, log = keras.Variable(starts), keras.optimizers.Adam(rate), []
    adam.build([codes])

    @tf.function
    def move():
        with tf.GradientTape() as tape:
            each = tf.reduce_mean(tf.square(draw(codes.value) - image), axis=(1, 2, 3))
        gradient = tape.gradient(each, codes.value)
        if gradient is None:
            raise ValueError(
                "There is no gradient through this generator: use inversion.search instead."
            )
        adam.apply([gradient], [codes])
        return each

    for _ in range(steps):
        log.append(move().numpy())
    log.append(np.mean((np.asarray(draw(codes.value)) - image) ** 2, axis=(1, 2, 3)))
    return codes.numpy()[np.argmin(log[-1])], np.min(log, axis=1)


def search(draw, image, latent_dim: int, rounds: int = 60, size: int = 100, seed: int = 0):
    """Look for the latent code of an image without a gradient (the cross-entropy method).

    In each round ``size`` codes are drawn; the next ones come from around the best tenth.

    Args:
        draw: function from codes (n, latent_dim) to images (n, h, w, 3).
        image: shape (h, w, 3).

    Returns:
        The best code (latent_dim,), and the smallest squared error after each round.
    """
    rng, mean, sd = np.random.default_rng(seed), 0.0, 1.0
    best, log = (np.inf, None), []
    for _ in range(rounds):
        codes = (mean + sd * rng.standard_normal((size, latent_dim))).astype(np.float32)
        each = np.mean((np.asarray(draw(codes)) - image) ** 2, axis=(1, 2, 3))
        order = np.argsort(each)
        best = min(best, (each[order[0]], codes[order[0]]), key=lambda pair: pair[0])
        chosen = codes[order[: max(2, size // 10)]]
        mean, sd = chosen.mean(axis=0), chosen.std(axis=0) + 0.02
        log.append(best[0])
    return best[1], np.array(log)
