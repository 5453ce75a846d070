"""Profiles and seeds: how large a run is, and which random numbers it draws."""

import dataclasses
import time

import keras
import tensorflow as tf

PROFILES = ("smoke", "laptop", "gpu")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a chapter.

    Attributes:
        profile: ``"smoke"`` (proves that every cell works, <= 60 s), ``"laptop"`` (makes the
            committed outputs, <= 6 min on two cores) or ``"gpu"`` (full size).
        seed: the integer from which every random number of the run follows.
        started: ``time.perf_counter()`` at the start, in seconds.
    """

    profile: str
    seed: int
    started: float = dataclasses.field(default_factory=time.perf_counter)

    def pick(self, *, smoke, laptop, gpu):
        """Return the value that belongs to this run's profile."""
        return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[self.profile]


def start(profile: str, seed: int, deterministic: bool = False) -> Run:
    """Seed Python, NumPy and Keras, and return the run's profile.

    Models of this course also own a ``keras.random.SeedGenerator``: random layers and
    operations draw from it, so that the seed reaches them inside a compiled step too.

    Args:
        profile: ``"smoke"``, ``"laptop"`` or ``"gpu"``.
        seed: an integer from 0 to 2**32 - 1.
        deterministic: make every TensorFlow operation deterministic. Two runs then agree to
            the last bit on the same machine; training becomes slower.

    Raises:
        ValueError: the profile is not one of the three, or the seed is out of range.
    """
    if profile not in PROFILES:
        raise ValueError(
            f"profile is {profile!r}: set it to one of {', '.join(PROFILES)} "
            "in the parameters cell."
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed!r}: set it to an integer from 0 to 4294967295.")
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return Run(profile, seed)
