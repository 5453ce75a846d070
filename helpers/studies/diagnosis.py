"""Diagnosis: what a training looks like from outside, and whether a generator copies.

``GanDiagnostics`` measures a GAN after every epoch; ``plot_failures`` draws trainings that were
made to fail beside their cures.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.ticker import MaxNLocator
from sklearn.neighbors import NearestNeighbors

from helpers import data, plots
from helpers.simulate import mixtures

SAMPLES = 256  # that GanDiagnostics looks at
SIGNS = {
    "modes": "modes found",
    "mode_change": "share of samples in a new mode",
    "gradient_norm": "norm of the generator's gradient",
    "logit_gap": "mean logit, seen minus unseen",
}


class GanDiagnostics(keras.callbacks.Callback):
    """Measures a GAN after every epoch of ``fit``, from 256 samples of a fixed latent code.

    The model needs ``generator``, ``discriminator``, ``latent_dim`` and, in its logs,
    ``gradient_norm``.

    Args:
        modes_of: function from samples to the number of each one's mode, shape (n,).
        modes: how many modes there are.
        seen, unseen: real samples that the discriminator learns from, and others, as it gets them.

    Attributes:
        rows: a dict for each epoch: ``modes`` (found: with a tenth of their fair share at least),
            ``mode_change`` (the share of the samples that changed their mode since the epoch
            before, at least; in [0, 1]), ``gradient_norm`` (the norm of the generator's gradient,
            as logged), ``logit_gap`` (mean logit of seen minus that of unseen samples).
        samples: for each epoch, the 256 samples.
        steps: for each epoch, how many training steps were done.
    """

    def __init__(self, modes_of, modes: int, seen, unseen):
        super().__init__()
        self.modes_of = modes_of
        self.modes = modes
        self.seen = tf.constant(seen)
        self.unseen = tf.constant(unseen)
        self.rows, self.samples, self.steps = [], [], []
        self._shares = None

    def _mean_logit(self, samples) -> float:
        return float(tf.reduce_mean(self.model.discriminator(samples, training=False)))

    def on_epoch_end(self, epoch, logs=None):
        latent = keras.random.normal((SAMPLES, self.model.latent_dim), seed=1)
        samples = self.model.generator(latent, training=False).numpy()
        shares = np.bincount(self.modes_of(samples), minlength=self.modes) / len(samples)
        before = shares if self._shares is None else self._shares
        self.rows.append(
            {
                "modes": int(np.sum(shares >= mixtures.FOUND / self.modes)),
                "mode_change": float(np.abs(shares - before).sum() / 2),
                "gradient_norm": float(logs["gradient_norm"]),
                "logit_gap": self._mean_logit(self.seen) - self._mean_logit(self.unseen),
            }
        )
        self.samples.append(samples)
        self.steps.append((epoch + 1) * self.params["steps"])
        self._shares = shares


def train_with_diagnostics(
    gan, real, unseen, modes_of, modes: int, steps: int, reports: int, seed: int
) -> GanDiagnostics:
    """Train a GAN and return its diagnostics.

    Args:
        gan: a compiled model.
        real, unseen: real samples to learn from, and others (n, ...); images (uint8) are turned
            into floats in [-1, 1].
        modes_of, modes: as in GanDiagnostics.
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
    diagnostics = GanDiagnostics(modes_of, modes, seen, unseen)
    gan.fit(batches, epochs=reports, steps_per_epoch=steps, verbose=0, callbacks=[diagnostics])
    return diagnostics


def plot_failures(cases: dict, draw, early: int = 3, alt: str | None = None) -> None:
    """Show failures side by side: a row for each, with the curve of its sign and with samples.

    Args:
        cases: {name: {"sign": a key of ``GanDiagnostics.rows``, "provoked": the failure's
            GanDiagnostics, "cured": those of the cured training}}.
        draw: function ``draw(ax, samples)``.
        early: the epoch, from 1, of the first samples; the others are those of the last epoch.
        alt: a text for readers who cannot see it; by default the last value of each sign.
    """
    _, axes = plt.subplots(len(cases), 5, figsize=(11, 2.2 * len(cases)), squeeze=False)
    told = []
    for row, (name, case) in zip(axes, cases.items(), strict=True):
        curve_ax, *sample_axes = row
        sign, ends = case["sign"], []
        for arm, line in (("provoked", "o-"), ("cured", "s--")):
            values = [report[sign] for report in case[arm].rows]
            curve_ax.plot(case[arm].steps, values, line, markersize=3, label=arm)
            ends.append(f"{arm} {values[-1]:.3g}")
        steps = case["provoked"].steps
        first = min(early, len(steps)) - 1
        curve_ax.axvline(steps[first], color=plots.QUIET, linestyle=":")
        curve_ax.set(title=name, xlabel="training step", ylabel=SIGNS[sign])
        curve_ax.yaxis.label.set_size(8)
        if sign == "gradient_norm":
            curve_ax.set_yscale("log")
        elif sign == "modes":
            curve_ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        curve_ax.legend(frameon=False, fontsize=7)
        columns = [
            (arm, epoch) for epoch in (first, len(steps) - 1) for arm in ("provoked", "cured")
        ]
        for ax, (arm, epoch) in zip(sample_axes, columns, strict=True):
            draw(ax, case[arm].samples[epoch])
            ax.set_title(f"{arm}, step {steps[epoch]}", fontsize=8)
        told.append(f"{name}: {SIGNS[sign]} at the end, {' and '.join(ends)}")
    plots.show(alt or f"A row for each failure, its sign and its samples. {'; '.join(told)}.")


def nearer_to_training(samples, training, test) -> float:
    """Return the share of samples nearer to a training than to any test image, in [0, 1].

    Independent samples of the same distribution give 1/2, copies of training images 1. (Meehan et
    al. 2020 test the ranks of these distances, § 3.)

    Args:
        samples, training, test: shapes (n, ...), (m, ...), (m, ...); as many test as training
            images, or the share means nothing.

    Raises:
        ValueError: there are not as many test as training images.
    """
    if len(training) != len(test):
        raise ValueError(f"{len(training)} training and {len(test)} test images: give as many.")
    samples, training, test = (np.reshape(x, (len(x), -1)) for x in (samples, training, test))
    distances = [
        NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x).kneighbors(samples)[0]
        for x in (training, test)
    ]
    return float(np.mean(distances[0] < distances[1]))
