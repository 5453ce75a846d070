"""Image pyramids: the same images at several sizes, and the distance of two sets at each scale."""

import numpy as np
import tensorflow as tf

PATCH = 7  # pixels, as in the paper
SCALES = (32, 16, 8)


def pad(images, border: int = 2) -> np.ndarray:
    """Return images (n, h, w, c) with a black border: 28 x 28 become 32 x 32."""
    return np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)))


def shrink(images, size: int) -> np.ndarray:
    """Return images (n, h, h, c) at (n, size, size, c), each pixel the mean of a square.

    Raises:
        ValueError: ``size`` does not divide h, or the images are not square.
    """
    n, height, width, channels = images.shape
    if height != width or size < 1 or height % size:
        raise ValueError(f"images are {height} x {width}: give squares that {size} divides.")
    k = height // size
    means = images.reshape(n, size, k, size, k, channels).mean(axis=(2, 4), dtype=np.float32)
    return np.round(means).astype(images.dtype) if images.dtype == np.uint8 else means


def enlarge(images, size: int = 32) -> np.ndarray:
    """Return images (n, h, h, c) at (n, size, size, c), each pixel a square of pixels."""
    k = size // images.shape[1]
    return np.asarray(images).repeat(k, axis=1).repeat(k, axis=2)


def mix(images, alpha):
    """Return a tensor (n, h, w, c): the images with their finest details weighted by alpha.

    With alpha = 0 each square of 2 x 2 pixels is its mean.
    """
    means = tf.nn.avg_pool2d(images, 2, 2, "VALID")
    coarse = tf.repeat(tf.repeat(means, 2, axis=1), 2, axis=2)
    return coarse + alpha * (images - coarse)


def nearest_image(image, images) -> np.ndarray:
    """Return that of ``images`` (n, h, w, 1), uint8, which has the smallest squared distance.

    Args:
        image: shape (h', w', c), floats in [0, 1]; compared in grey and at h x w pixels.

    Returns:
        Shape (h', w', c), floats in [0, 1].
    """
    grey = tf.image.resize(image, images.shape[1:3]).numpy().mean(axis=-1)
    parts = [np.square(p[..., 0] / np.float32(255) - grey) for p in np.array_split(images, 30)]
    found = images[np.argmin(np.concatenate([p.sum(axis=(1, 2)) for p in parts]))]
    found = tf.image.resize(found / np.float32(255), image.shape[:2]).numpy()
    return found.repeat(image.shape[-1], axis=-1)


def patches(images, rng, count: int = 8) -> np.ndarray:
    """Return random 7 x 7 patches of images (n, h, w, 1): (n * count, 49), of mean 0 and sd 1."""
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (PATCH, PATCH), axis=(1, 2))
    n, rows, columns = len(images) * count, *windows.shape[1:3]
    where = rng.integers(rows, size=n), rng.integers(columns, size=n)
    found = windows[np.repeat(np.arange(len(images)), count), *where].reshape(n, -1)
    return (found - found.mean()) / (found.std() + 1e-8)  # flat images stay 0


def sliced_wasserstein(a, b, rng, directions: int = 128) -> float:
    """Return the mean Wasserstein distance of (n, d) and (n, d) along random directions.

    On a line the distance of two sets of n numbers is the mean distance of the sorted values.
    """
    axes = rng.standard_normal((a.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    return float(np.abs(np.sort(a @ axes, axis=0) - np.sort(b @ axes, axis=0)).mean())


def swd(real, fake, seed: int = 0) -> dict[int, float]:
    """Return 1000 x the sliced Wasserstein distance at each scale (Karras et al. 2018, § 5).

    At 32 and 16 pixels it looks at the details of that scale alone (a Laplacian pyramid, with
    means of squares instead of the paper's Gaussian filter), at 8 pixels at the images.

    Args:
        real, fake: shape (n, 32, 32, 1) both, floats in [0, 1].
        seed: chooses patches and directions.

    Raises:
        ValueError: the shapes differ or are others.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    if real.shape != fake.shape or real.shape[1:] != (32, 32, 1):
        raise ValueError(f"shapes {real.shape}, {fake.shape}: give (n, 32, 32, 1) twice.")
    rng, values = np.random.default_rng(seed), {}
    for size in SCALES:
        last = size == SCALES[-1]
        parts = [x if last else np.asarray(x - mix(x, 0.0)) for x in (real, fake)]
        values[size] = 1000 * sliced_wasserstein(*(patches(x, rng) for x in parts), rng)
        real, fake = (x if last else shrink(x, size // 2) for x in (real, fake))
    return values
