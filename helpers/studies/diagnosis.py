"""Diagnosis: data whose truth is known, the vital signs of a training, and tests of its result.

A mixture of Gaussians in the plane has countable modes, and a distance tells how good a sample is:
nothing has to be estimated by another network.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

from helpers import data, metrics
from helpers.simulate import mixtures

SAMPLES = 256  # that VitalSigns looks at


class VitalSigns(keras.callbacks.Callback):
    """Measures a GAN after every epoch of ``fit``, from 256 samples of a fixed latent code.

    The model needs ``generator``, ``discriminator`` and, in its logs, ``gradient_norm``.

    Args:
        modes_of: function from samples to the number of each one's mode, shape (n,).
        modes: how many modes there are.
        seen, unseen: real samples that the discriminator learns from, and others.

    Attributes:
        rows: a dict for each epoch: ``modes`` found, ``moved`` (the share of the samples that
            changed their mode since the epoch before, at least; in [0, 1]), ``force`` (the norm
            of the generator's gradient), ``gap`` (mean logit of seen minus unseen samples).
        samples: for each epoch, the 256 samples.
    """

    def __init__(self, modes_of, modes: int, seen, unseen):
        super().__init__()
        self.modes_of, self.count = modes_of, modes
        self.seen, self.unseen = tf.constant(seen), tf.constant(unseen)
        self.rows, self.samples = [], []
        self._shares = None

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        latent = keras.random.normal((SAMPLES, model.latent_dim), seed=1)
        samples = model.generator(latent, training=False).numpy()
        shares = np.bincount(self.modes_of(samples), minlength=self.count) / len(samples)
        before = shares if self._shares is None else self._shares
        seen, unseen = (
            float(tf.reduce_mean(model.discriminator(part, training=False)))
            for part in (self.seen, self.unseen)
        )
        self.rows.append(
            {
                "modes": int(np.sum(shares >= mixtures.FOUND / self.count)),
                "moved": float(np.abs(shares - before).sum() / 2),
                "force": float(logs["gradient_norm"]),
                "gap": seen - unseen,
            }
        )
        self.samples.append(samples)
        self._shares = shares


def watch(gan, real, unseen, modes_of, modes: int, steps: int, reports: int, seed: int):
    """Train a GAN and return its VitalSigns.

    Args:
        gan: a compiled model.
        real, unseen: real samples to learn from, and others (n, ...); images (uint8) are turned
            into floats in [-1, 1].
        modes_of, modes: as in VitalSigns.
        steps: training steps between two reports, of 64 points or 32 images (or all there are).
        reports: how many.
        seed: orders the batches.
    """
    pictures = real.dtype == np.uint8
    batches = data.batches(real, min(32 if pictures else 64, len(real)), seed)
    seen, unseen = real[:SAMPLES], unseen[:SAMPLES]
    if pictures:
        batches = batches.map(data.to_symmetric)
        seen, unseen = data.to_symmetric(seen), data.to_symmetric(unseen)
    vitals = VitalSigns(modes_of, modes, seen, unseen)
    gan.fit(batches, epochs=reports, steps_per_epoch=steps, verbose=0, callbacks=[vitals])
    return vitals


def sheet(cases, draw, early: int = 3) -> None:
    """Show failures side by side: a row for each, with the curve of its sign and with samples.

    Args:
        cases: {title: (sign, VitalSigns of the failure, VitalSigns of the cured training)}; the
            sign is a key of ``VitalSigns.rows``.
        draw: function ``draw(ax, samples)``.
        early: the epoch, from 1, of the first column of samples; the others show the last one.
    """
    _, axes = plt.subplots(len(cases), 4, figsize=(9, 2.1 * len(cases)), layout="constrained")
    for row, (title, (sign, failed, cured)) in zip(np.atleast_2d(axes), cases.items(), strict=True):
        for vitals, label in ((failed, "provoked"), (cured, "cured")):
            curve = [report[sign] for report in vitals.rows]
            row[0].plot(range(1, len(curve) + 1), curve, label=label)
        row[0].axvline(early, color="grey", linestyle=":")
        row[0].set(title=f"{title}: {sign}", yscale="log" if sign == "force" else "linear")
        row[0].legend(frameon=False, fontsize=7)
        pictures = failed.samples[:early][-1], failed.samples[-1], cured.samples[-1]
        names = f"provoked, report {early}", "provoked, last report", "cured, last report"
        for ax, samples, name in zip(row[1:], pictures, names, strict=True):
            draw(ax, samples)
            ax.set_title(name, fontsize=8)
    plt.show()


def fid_infinity(real, fake, sizes, draws: int = 5, seed: int = 0) -> tuple[np.ndarray, float]:
    """Extrapolate the FID to infinitely many samples (Chong & Forsyth 2020, § 3).

    The bias of the FID of n against n samples falls as 1/n: a line through the values over 1/n
    meets 0 at the limit. It is an estimate, and can be slightly negative for equal distributions.

    Args:
        real, fake: features, shapes (m, d) and (m', d).
        sizes: at least two numbers of samples, from 2 to the smaller of m and m'.
        draws: random subsets of each size, without replacement.
        seed: chooses the subsets.

    Returns:
        The mean FID of each size, shape (len(sizes),), and the limit.
    """
    sizes = np.asarray(sizes)
    largest = min(len(real), len(fake))
    if len(np.unique(sizes)) < 2 or sizes.min() < 2 or sizes.max() > largest:
        raise ValueError(f"sizes are {sizes}: give two or more different ones, 2 to {largest}.")
    rng = np.random.default_rng(seed)
    values = [
        np.mean([metrics.fid(*(rng.choice(x, n, replace=False) for x in (real, fake)))
                 for _ in range(draws)])
        for n in sizes
    ]  # fmt: skip
    return np.array(values), float(np.polyfit(1 / sizes, values, 1)[1])


def nearer_to_training(samples, training, test) -> float:
    """Return the share of samples nearer to a training than to any test image, in [0, 1].

    Independent samples of the same distribution give 1/2, copies of training images 1. (Meehan et
    al. 2020 test the ranks of these distances, § 3.)

    Args:
        samples, training, test: shapes (n, ...), (m, ...), (m, ...); as many test as training
            images, or the share means nothing.
    """
    if len(training) != len(test):
        raise ValueError(f"{len(training)} training and {len(test)} test images: give as many.")
    samples, training, test = (np.reshape(x, (len(x), -1)) for x in (samples, training, test))
    distances = [
        NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x).kneighbors(samples)[0]
        for x in (training, test)
    ]
    return float(np.mean(distances[0] < distances[1]))
