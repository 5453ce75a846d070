"""Profiles and seeds: how large a run is, and which random numbers it draws."""

import dataclasses
import html
import math
import numbers
import time

import keras
import numpy as np
import tensorflow as tf
from IPython.display import display

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


MIME_TYPE = "application/vnd.course.results+json"
COMPARISONS = {
    "<=": lambda value, target: value <= target,
    ">=": lambda value, target: value >= target,
    "==": lambda value, target: value == target,
}
_recorded: dict[str, dict] = {}


def met(result: dict) -> bool | None:
    """Return whether a result reaches its target, or None where it has no target."""
    if result["target"] is None:
        return None
    return bool(COMPARISONS[result["op"]](result["value"], result["target"]))


def record(name: str, value, target=None, op: str = "<=", unit: str = "") -> float:
    """Keep one measured number of this notebook under a name.

    Args:
        name: an identifier such as ``"fid"``; recording a name again replaces it.
        value: a finite number (Python, NumPy or a scalar tensor).
        target: the number that was expected, or None for a result without a target.
        op: how the value compares to its target: ``"<="``, ``">="`` or ``"=="``.
        unit: the unit to print, for example ``"nats"``.

    Returns:
        The value as a Python number, so that a cell can go on with it.

    Raises:
        ValueError: the name is no identifier, the comparison is unknown or the value is not
            a finite number.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{name!r} is no result name: use letters, digits and underscores.")
    if op not in COMPARISONS:
        raise ValueError(f"op is {op!r}: use one of {', '.join(COMPARISONS)}.")
    value = value if isinstance(value, numbers.Integral) else float(value)
    value = int(value) if isinstance(value, numbers.Integral) else value
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}: a result must be finite; look at the training above.")
    target = None if target is None else float(target)
    _recorded[name] = {"value": value, "target": target, "op": op, "unit": unit}
    return value


def recorded() -> dict[str, dict]:
    """Return a copy of everything recorded: {name: {value, target, op, unit}}."""
    return {name: dict(result) for name, result in _recorded.items()}


def clear() -> None:
    """Forget everything recorded (a test or a second run in the same kernel)."""
    _recorded.clear()


def _rows() -> list[tuple[str, str, str, str]]:
    rows = []
    for name, result in _recorded.items():
        unit = f" {result['unit']}" if result["unit"] else ""
        target = "" if result["target"] is None else f"{result['op']} {result['target']:.4g}{unit}"
        verdict = {True: "reached", False: "missed", None: ""}[met(result)]
        rows.append((name, f"{result['value']:.4g}{unit}", target, verdict))
    return rows


def compare(rows: dict[str, dict], digits: int = 3) -> None:
    """Print a table of candidates: {name: {column: number, or numbers of several seeds}}.

    Several numbers become their mean ± their standard deviation.
    """

    def cell(value) -> str:
        values = np.atleast_1d(value)
        spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{np.mean(values):.{digits}f}{spread}"

    columns = list(next(iter(rows.values())))
    lines = [["", *columns]]
    lines += [[name, *(cell(row[column]) for column in columns)] for name, row in rows.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    for name, *cells in lines:
        print(name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)),
              sep="  ")  # fmt: skip


def table() -> None:
    """Draw the table of measured against expected, and store the numbers in the output."""
    header = ("result", "measured", "expected", "")
    rows = _rows()
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
             for row in [header, *rows]]  # fmt: skip
    cells = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(c)}</td>" for c in row)
        + "</tr>" for row in rows
    )  # fmt: skip
    head = "".join(f"<th style='text-align:left'>{c}</th>" for c in header)
    display(
        {
            "text/plain": "\n".join(lines),
            "text/html": f"<table><tr>{head}</tr>{cells}</table>",
            MIME_TYPE: recorded(),
        },
        raw=True,
    )
