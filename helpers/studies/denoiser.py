"""Denoiser: the network of a small diffusion model."""

import keras
import numpy as np
from keras import layers, ops


def build_denoiser(width: int = 32) -> keras.Model:
    """Build a U-Net (Ronneberger et al. 2015) that knows how noisy its input is.

    Residual blocks at 14 and 7 pixels; the angle enters each of them as sines and cosines of six
    frequencies (Ho et al. 2020, appendix B). Its first answer is 0.

    Args:
        width: channels at 14 pixels, from 1; twice as many at 7.

    Returns:
        Noisy images (n, 28, 28, 1) and angles (n, 1, 1, 1), 0 to pi / 2 -> (n, 28, 28, 1).
    """
    image, angle = keras.Input((28, 28, 1)), keras.Input((1, 1, 1))
    waves = angle * ops.cast(2.0 ** np.arange(6), "float32")
    waves = ops.concatenate([ops.sin(waves), ops.cos(waves)], axis=-1)
    waves = layers.Dense(64, activation="silu")(waves)

    def block(x, filters):
        y = ops.silu(layers.BatchNormalization(momentum=0.9)(x))
        y = layers.Conv2D(filters, 3, padding="same")(y) + layers.Dense(filters)(waves)
        y = ops.silu(layers.BatchNormalization(momentum=0.9)(y))
        return x + layers.Conv2D(filters, 3, padding="same")(y)

    early = block(layers.Conv2D(width, 4, strides=2, padding="same")(image), width)
    x = block(layers.Conv2D(2 * width, 4, strides=2, padding="same")(early), 2 * width)
    x = layers.Conv2DTranspose(width, 4, strides=2, padding="same")(block(x, 2 * width))
    x = block(layers.Conv2D(width, 1)(layers.Concatenate()([x, early])), width)
    x = layers.Conv2DTranspose(1, 4, strides=2, padding="same", kernel_initializer="zeros")(x)
    return keras.Model([image, angle], x, name="denoiser")
