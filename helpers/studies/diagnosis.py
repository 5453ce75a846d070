"""Diagnosis: what a training looks like from outside, and whether a generator copies.

``GanDiagnostics`` measures a GAN after every epoch; ``plot_failures`` draws trainings that were
made to fail beside their cures, ``plot_alarms`` in how many trainings each alarm rang.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.ticker import MaxNLocator
from sklearn.neighbors import NearestNeighbors

from helpers import plots
from helpers.simulate import mixtures

SIGNS = {
    "modes": "share of the modes found",
    "gradient_norm": "norm of the generator's gradient",
    "confidence_gap": "D(seen) minus D(unseen)",
}


class GanDiagnostics(keras.callbacks.Callback):
    """Measures a GAN after every epoch of ``fit``, from samples of a fixed latent code.

    The model needs ``generator``, ``discriminator``, ``latent_dim`` and, in its logs,
    ``gradient_norm``.

    Args:
        modes_of: function from samples to the number of each one's mode, shape (n,).
        modes: how many modes there are.
        seen, unseen: real samples that the discriminator learns from, and others, as it gets them.
        count: how many samples are looked at.

    Attributes:
        rows: a dict for each epoch: ``modes`` (the share of the modes that is found: with a tenth
            of its fair share of the samples at least), ``gradient_norm`` (the norm of the
            generator's gradient, as logged), ``confidence_gap`` (the mean probability with which
            the discriminator takes seen samples for real, minus that of unseen ones; in [-1, 1]).
        samples: for each epoch, the samples.
        steps: for each epoch, how many training steps were done.
    """

    def __init__(self, modes_of, modes: int, seen, unseen, count: int = 256):
        super().__init__()
        self.modes_of = modes_of
        self.modes = modes
        self.seen = tf.constant(seen)
        self.unseen = tf.constant(unseen)
        self.count = count
        self.rows, self.samples, self.steps = [], [], []

    def _confidence(self, samples) -> float:
        logits = self.model.discriminator(samples, training=False)
        return float(tf.reduce_mean(tf.sigmoid(logits)))

    def on_epoch_end(self, epoch, logs=None):
        latent = keras.random.normal((self.count, self.model.latent_dim), seed=1)
        samples = self.model.generator(latent, training=False).numpy()
        shares = np.bincount(self.modes_of(samples), minlength=self.modes) / len(samples)
        self.rows.append(
            {
                "modes": float(np.mean(shares >= mixtures.FOUND / self.modes)),
                "gradient_norm": float(logs["gradient_norm"]),
                "confidence_gap": self._confidence(self.seen) - self._confidence(self.unseen),
            }
        )
        self.samples.append(samples)
        self.steps.append((epoch + 1) * self.params["steps"])


def plot_failures(cases: dict, draw, early: int = 3, alt: str | None = None) -> None:
    """Show failures side by side: a row for each, with the curve of its sign and with samples.

    Args:
        cases: {name: {"sign": a key of ``GanDiagnostics.rows``, "threshold": from where on (or
            down to where) the alarm rings, "provoked": the failure's GanDiagnostics, "cured":
            those of the cured training}}.
        draw: function ``draw(ax, samples)``.
        early: the epoch, from 1, of the first samples; the others are those of the last epoch.
        alt: a text for readers who cannot see it; by default the last value of each sign.
    """
    _, axes = plt.subplots(len(cases), 5, figsize=(12.5, 2.5 * len(cases)), squeeze=False)
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
        curve_ax.axhline(case["threshold"], color=plots.QUIET, linestyle=":", label="alarm")
        curve_ax.set(title=name, xlabel="training step", ylabel=SIGNS[sign])
        curve_ax.yaxis.label.set_size(8)
        if sign == "gradient_norm":
            curve_ax.set_yscale("log")
        elif sign == "modes":
            curve_ax.set_ylim(-0.05, 1.05)
        curve_ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        curve_ax.legend(frameon=False, fontsize=7)
        columns = [
            (arm, epoch) for epoch in (first, len(steps) - 1) for arm in ("provoked", "cured")
        ]
        for ax, (arm, epoch) in zip(sample_axes, columns, strict=True):
            draw(ax, case[arm].samples[epoch])
            ax.set_title(f"{arm}, step {steps[epoch]}", fontsize=9)
        told.append(f"{name}: {SIGNS[sign]} at the end, {' and '.join(ends)}")
    plots.show(alt or f"A row for each failure, its sign and its samples. {'; '.join(told)}.")


def plot_alarms(groups: dict, alt: str | None = None) -> None:
    """Show in which share of the trainings each alarm rang, a panel for each kind of data.

    Args:
        groups: {title: table (a DataFrame) with a row for each kind of training and a column for
            each alarm, shares in [0, 1]}.
        alt: a text for readers who cannot see it; by default all shares.
    """
    width, height = 4.2 * len(groups) + 1.6, 0.34 * len(next(iter(groups.values()))) + 1.5
    _, axes = plt.subplots(1, len(groups), figsize=(width, height), squeeze=False)
    told = []
    for ax, (title, table) in zip(axes[0], groups.items(), strict=True):
        shares = table.to_numpy(float)
        ax.imshow(shares, vmin=0, vmax=1.6, cmap="Oranges", aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            ax.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=9)
        ax.set(title=title, xticks=range(len(table.columns)), yticks=range(len(table)))
        ax.set_xticklabels(table.columns, rotation=25, ha="right")
        ax.set_yticklabels(table.index if ax is axes[0, 0] else [])
        ax.tick_params(length=0)
        for kind, row in table.iterrows():
            rang = [f"{name} {share:.0%}" for name, share in row.items() if share > 0]
            told.append(f"{title}, {kind}: {', '.join(rang) or 'no alarm'}")
    plots.show(alt or f"Shares of trainings in which an alarm rang. {'; '.join(told)}.")


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
