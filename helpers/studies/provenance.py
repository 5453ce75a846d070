"""Provenance: traces that a generator leaves, and marks that it is made to leave.

Images are floats in [0, 1] of shape (n, height, width, channels).
"""

import io

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from PIL import Image
from sklearn.metrics import roc_auc_score

from helpers import data


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
        file = io.BytesIO()
        pixels = np.uint8(np.round(image * 255))
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
            file, "JPEG", quality=quality
        )
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


def key_patterns(bits: int, size: int, seed: int, band=(0.08, 0.25)) -> np.ndarray:
    """Draw the secret patterns of a spread-spectrum watermark (Cox et al. 1997).

    Noise of a band of frequencies: the lowest belong to the picture, the highest do not survive
    compression. The patterns are orthogonal and have length 1.

    Args:
        bits: how many patterns.
        size: height and width of the images.
        seed: the secret.
        band: lowest and highest frequency, in cycles per pixel (0.5 is the highest there is).

    Returns:
        float32, shape (size * size, bits); ``images.reshape(n, -1) @ patterns`` has their scores.

    Raises:
        ValueError: the band has fewer free directions than bits.
    """
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    inside = (radius >= band[0]) & (radius <= band[1])
    if not 1 <= bits <= inside.sum():
        raise ValueError(f"bits is {bits}: the band has room for 1 to {inside.sum()}.")
    noise = np.random.default_rng(seed).standard_normal((bits, size, size))
    filtered = np.fft.ifft2(np.fft.fft2(noise) * inside).real
    return np.linalg.qr(filtered.reshape(bits, -1).T)[0].astype(np.float32)


def chance_of_matches(matches: int, bits: int) -> float:
    """Return the probability that at least so many of the bits agree by pure chance.

    The upper tail of a binomial distribution with probability 1/2 (Fernandez et al. 2023, eq. 2).
    """
    if not 0 <= matches <= bits:
        raise ValueError(f"matches is {matches}: give a number from 0 to {bits}, the bits.")
    return float(scipy.stats.binom.sf(matches - 1, bits, 0.5))


def enough_matches(bits: int, risk: float) -> int:
    """Return the smallest number of matching bits whose chance is at most ``risk``.

    Raises:
        ValueError: not even all bits are that unlikely.
    """
    for matches in range(bits + 1):
        if chance_of_matches(matches, bits) <= risk:
            return matches
    raise ValueError(f"{bits} bits cannot bring the risk down to {risk}: use more bits.")


def survival(groups: dict, found) -> dict[str, dict[str, float]]:
    """Measure a mark after what happens to images on their way.

    Args:
        groups: {name: images (n, h, w, 1 or 3) in [0, 1]}.
        found: function of images that returns a number.

    Returns:
        {name: {"8 bits", "JPEG 75", "JPEG 50", "moved 1 pixel": number}}.
    """
    changes = {
        "8 bits": eight_bit,
        "JPEG 75": lambda images: jpeg(images, 75),
        "JPEG 50": lambda images: jpeg(images, 50),
        "moved 1 pixel": lambda images: np.roll(eight_bit(images), 1, axis=2),
    }
    return {
        name: {kind: float(found(change(images))) for kind, change in changes.items()}
        for name, images in groups.items()
    }


def membership_auroc(discriminator, seen, unseen) -> float:
    """Attack by logits: was an image among the training data? (Hayes et al. 2019)

    Args:
        discriminator: a model of images in [-1, 1] -> logits (n, 1).
        seen, unseen: images (n, h, w, c); uint8, or floats in [0, 1].

    Returns:
        The area under the ROC curve: 1/2 is guessing, 1 certainty.
    """
    units = [data.to_unit(x) if x.dtype == np.uint8 else _images(x) for x in (seen, unseen)]
    logits = discriminator.predict(np.concatenate(units) * 2 - 1, batch_size=500, verbose=0)
    return float(roc_auc_score(np.arange(len(logits)) < len(seen), logits[:, 0]))


def fingerprints(groups: dict, real) -> dict[str, float]:
    """Show the power spectra of generated images minus that of real ones.

    Args:
        groups: {name: images (n, h, w, c) in [0, 1]}; they are rounded to 8 bits.
        real: real images, as many as in a group.

    Returns:
        The mean absolute difference of each group, in dB.
    """
    usual, off = log_power(eight_bit(real)), {}
    _, axes = plt.subplots(1, len(groups), figsize=(1.9 * len(groups), 2.1), squeeze=False)
    for ax, (name, images) in zip(axes[0], groups.items(), strict=True):
        excess = log_power(eight_bit(images)) - usual
        off[name] = float(np.abs(excess).mean())
        shown = ax.imshow(excess, cmap="RdBu_r", vmin=-6, vmax=6)
        ax.set_title(f"{name}\n{off[name]:.1f} dB off", fontsize=9)
        ax.set_axis_off()
    plt.colorbar(shown, ax=axes[0].tolist(), label="dB")
    plt.show()
    return off


def group_share(probabilities, group, surest: int = 1000) -> dict[str, float]:
    """Count how many samples belong to a group of classes, in the eyes of a classifier.

    A broken sample has a most probable class too. The second number leaves most of them out.

    Args:
        probabilities: shape (n, classes).
        group: numbers of the classes.
        surest: how many of the samples with the largest probabilities, from 1.

    Returns:
        {"all": share of all samples, "the surest": share of those}.
    """
    probabilities = np.asarray(probabilities)
    member = np.isin(probabilities.argmax(axis=1), list(group))
    order = np.argsort(probabilities.max(axis=1), kind="stable")[-surest:]
    return {"all": float(member.mean()), "the surest": float(member[order].mean())}
