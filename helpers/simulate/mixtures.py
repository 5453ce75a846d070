"""Mixtures: Gaussians in the plane, whose modes can be counted.

A distance tells how good a sample is: nothing has to be estimated by another network.
"""

import dataclasses

import numpy as np
from sklearn.neighbors import NearestNeighbors

from helpers import plots

FOUND = 0.1  # of its fair share of the samples, for a mode to count as found


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Equally likely round Gaussians in the plane.

    Attributes:
        centres: shape (modes, 2).
        sd: standard deviation of each, in both directions; > 0.
    """

    centres: np.ndarray
    sd: float

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draw n >= 1 points that follow from the seed, float32, shape (n, 2)."""
        rng = np.random.default_rng(seed)
        chosen = self.centres[rng.integers(len(self.centres), size=n)]
        return (chosen + self.sd * rng.standard_normal((n, 2))).astype("float32")

    def _nearest(self, points) -> tuple[np.ndarray, np.ndarray]:
        points = np.asarray(points, dtype=float)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"points of shape {points.shape}: give finite numbers, shape (n, 2).")
        tree = NearestNeighbors(n_neighbors=1).fit(self.centres)
        distances, modes = tree.kneighbors(points)
        return distances[:, 0], modes[:, 0]

    def modes(self, points) -> np.ndarray:
        """Return the number of the nearest centre of each point (n, 2), shape (n,).

        Raises:
            ValueError: the points have another shape, or are not finite.
        """
        return self._nearest(points)[1]

    def quality(self, points) -> tuple[int, float]:
        """Return how many modes were found and the share of high-quality points, in [0, 1].

        A point has high quality within 3 sd of a centre (Srivastava et al. 2017, § 4.1). A mode
        counts as found with at least a tenth of its fair share of the points, of high quality.

        Raises:
            ValueError: the points have another shape than (n, 2), or are not finite.
        """
        distances, modes = self._nearest(points)
        good = distances < 3 * self.sd
        counts = np.bincount(modes[good], minlength=len(self.centres))
        fair = len(distances) / len(self.centres)
        return int(np.sum(counts >= FOUND * fair)), float(good.mean())

    def draw(self, ax, points, size: float = 4) -> None:
        """Draw points (n, 2) over the centres."""
        reach = np.abs(self.centres).max() + 1
        ax.scatter(*self.centres.T, s=60, color=plots.REAL, alpha=0.25, linewidths=0)
        ax.scatter(*np.transpose(points), s=size, color=plots.GENERATED, linewidths=0)
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")


def ring(modes: int = 8, radius: float = 2.0, sd: float = 0.1) -> Mixture:
    """Return Gaussians on a circle, by default eight, 1.53 apart (fifteen standard deviations)."""
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), sd)


def grid(side: int = 5, spacing: float = 2.0, sd: float = 0.1) -> Mixture:
    """Return side * side Gaussians on a square lattice around the origin."""
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), sd)
