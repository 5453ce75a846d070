"""Provenance: what a file keeps of an image, and what an image's spectrum tells of its maker.

Images are floats in [0, 1] of shape (n, height, width, 1 or 3); everything else raises a ValueError
that says what to give.
"""

import io

import numpy as np
from PIL import Image


def _images(images) -> np.ndarray:
    """Check images and return them as an array."""
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        raise ValueError(f"images have shape {images.shape}: give (n, height, width, 1 or 3).")
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("images are not floats in [0, 1]: use data.to_unit or from_symmetric.")
    return images


def eight_bit(images) -> np.ndarray:
    """Round images to the 256 values that a file can hold; float32 in [0, 1], the same shape."""
    return (np.round(_images(images) * 255) / 255).astype(np.float32)


def jpeg(images, quality: int) -> np.ndarray:
    """Return what is left of images after they were stored as JPEG files.

    Args:
        images: shape (n, h, w, 1 or 3), floats in [0, 1].
        quality: 1 (smallest file) to 95 (best picture).

    Returns:
        float32 in [0, 1], the same shape.
    """
    if not 1 <= quality <= 95:
        raise ValueError(f"quality is {quality}: give a number from 1 to 95.")
    read = []
    for image in _images(images):
        pixels = np.uint8(np.round(image * 255))
        grey = pixels.shape[-1] == 1
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "JPEG", quality=quality)
        read.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.float32(read) / 255


def log_power(images) -> np.ndarray:
    """Return the mean log power spectrum, in decibels (Frank et al. 2020, § 3, with the DCT).

    10 log10 of the squared discrete Fourier transform, divided by the number of pixels, the mean
    over images and channels. Frequency 0 is at (h // 2, w // 2).

    Args:
        images: shape (n, h, w, 1 or 3), floats in [0, 1].

    Returns:
        Shape (h, w), float64, in dB; at least -100.
    """
    images = _images(images).astype(np.float64)
    size = images.shape[1] * images.shape[2]
    power = np.abs(np.fft.fft2(images, axes=(1, 2))) ** 2 / size
    decibels = 10 * np.log10(np.maximum(power, 1e-10)).mean(axis=(0, 3))
    return np.fft.fftshift(decibels)
