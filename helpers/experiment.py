"""Experiment: how large a run is, which random numbers it draws, and what it measured.

``start`` seeds a chapter, ``record`` keeps a number, ``table`` draws all of them beside what was
expected and beside what other seeds gave. The table's output also carries the numbers as data
(``MIME_TYPE``); the batch runner reads them from there into the notebook's ``metadata.course``.
"""

import dataclasses
import json
import math
import numbers
import os
import pathlib

import keras
import numpy as np
import pandas as pd
import scipy.stats
import tensorflow as tf
from IPython.display import display

from helpers import compute

PROFILES = ("smoke", "laptop", "gpu")
MIME_TYPE = "application/vnd.course.results+json"
EVIDENCE = pathlib.Path(__file__).parents[1] / "docs" / "evidence.json"
SURE = 0.99  # of the prediction interval, outside of which a value is marked
COMPARISONS = {
    "<=": lambda value, target: value <= target,
    ">=": lambda value, target: value >= target,
    "==": lambda value, target: value == target,
}
_recorded: dict[str, dict] = {}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a chapter.

    Attributes:
        profile: ``"smoke"`` (proves that every cell works, a minute at most), ``"laptop"`` (makes
            the committed outputs, minutes on two cores) or ``"gpu"`` (full size).
        seed: the integer from which every random number of the run follows.
        chapter: the notebook's name without the ending, "" outside of the course's chapters.
        options: the chapter's own parameters, {name: value}.
    """

    profile: str
    seed: int
    chapter: str = ""
    options: dict = dataclasses.field(default_factory=dict)

    def pick(self, *, smoke, laptop, gpu):
        """Return the value that belongs to this run's profile."""
        return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[self.profile]


_run = Run("laptop", 0)


def start(
    profile: str, seed: int, chapter: str = "", deterministic: bool = False, **options
) -> Run:
    """Prepare the devices, seed Python, NumPy and Keras, and return the run.

    Models of this course also own a ``keras.random.SeedGenerator``: random layers and
    operations draw from it, so that the seed reaches them inside a compiled step too.

    Args:
        profile: ``"smoke"``, ``"laptop"`` or ``"gpu"``.
        seed: an integer from 0 to 2**32 - 1.
        chapter: the notebook's name without the ending; ``table`` looks up its evidence.
        deterministic: make every TensorFlow operation deterministic (on the CPU; on a card it
            would switch XLA off). Two runs then agree to the last bit on the same machine.
        options: the chapter's own parameters.

    Raises:
        ValueError: the profile is not one of the three, or the seed is out of range.
    """
    global _run
    if profile not in PROFILES:
        raise ValueError(
            f"profile is {profile!r}: set it to one of {', '.join(PROFILES)} "
            "in the parameters cell."
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed!r}: set it to an integer from 0 to 4294967295.")
    compute.prepare_devices()
    keras.utils.set_random_seed(seed)
    if deterministic and not compute.cards():
        tf.config.experimental.enable_op_determinism()
    _recorded.clear()
    _run = Run(profile, seed, chapter, options)
    return _run


def met(result: dict) -> bool | None:
    """Return whether a result reaches its target, or None where it has no target."""
    if result["target"] is None:
        return None
    return bool(COMPARISONS[result["op"]](result["value"], result["target"]))


def record(
    name: str,
    value,
    target=None,
    op: str = "<=",
    unit: str = "",
    label: str = "",
    difference: bool = False,
) -> float:
    """Keep one measured number of this notebook under a name.

    Args:
        name: an identifier such as ``"fid"``; recording a name again replaces it.
        value: a finite number (Python, NumPy or a scalar tensor).
        target: the number that was expected, or None for a result without a target.
        op: how the value compares to its target: ``"<="``, ``">="`` or ``"=="``.
        unit: the unit to print, for example ``"nats"``.
        label: what the number is, in words; by default the name with blanks.
        difference: it says how much better one thing is than another, so that over several seeds
            it "holds" where its 95 % interval excludes 0, and is "open" where it does not.

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
    value = int(value) if isinstance(value, numbers.Integral) else float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}: a result must be finite; look at the training above.")
    _recorded[name] = {
        "value": value,
        "target": None if target is None else float(target),
        "op": op,
        "unit": unit,
        "label": label or name.replace("_", " "),
        "difference": bool(difference),
    }
    if path := os.environ.get("COURSE_RESULTS"):  # the batch runner keeps them if a cell fails
        pathlib.Path(path).write_text(json.dumps(_recorded), encoding="utf-8")
    return value


def recorded() -> dict[str, dict]:
    """Return everything recorded: {name: {value, target, op, unit, label, difference}}."""
    return {name: dict(result) for name, result in _recorded.items()}


def evidence(run: Run | None = None) -> dict[str, dict]:
    """Return what several seeds gave for a chapter under the same profile and options.

    Args:
        run: by default the run that ``start`` returned last.

    Returns:
        {name: {"mean", "sd", "n", "values"}} as ``tools/evidence.py`` writes it; {} where there is
        none.
    """
    run = run or _run
    try:
        chapter = json.loads(EVIDENCE.read_text(encoding="utf-8"))[run.chapter]
    except (OSError, ValueError, KeyError):
        return {}
    options = json.loads(json.dumps(run.options, default=str))
    same = chapter["profile"] == run.profile and chapter["options"] == options
    return chapter["results"] if same else {}


def varied(option: str) -> dict[str, dict]:
    """Return what other values of one option gave for this chapter, else run as it is now.

    Args:
        option: the name of one of the chapter's own parameters.

    Returns:
        {value, as text: {name: {"mean", "sd", "n", "values"}}} as ``tools/evidence.py --vary``
        writes it; {} where there is none.
    """
    try:
        chapter = json.loads(EVIDENCE.read_text(encoding="utf-8"))[_run.chapter]
    except (OSError, ValueError, KeyError):
        return {}
    options = json.loads(json.dumps(_run.options, default=str))
    same = chapter["profile"] == _run.profile and chapter["options"] == options
    return chapter.get("varied", {}).get(option, {}) if same else {}


def prediction_interval(mean: float, sd: float, n: int, sure: float = SURE) -> tuple[float, float]:
    """Return where one more seed's value lies with this probability, after n >= 2 of them.

    The t interval for a further draw of a normal distribution whose mean and standard deviation
    are estimated: mean ± t sd √(1 + 1/n).
    """
    half = scipy.stats.t.ppf((1 + sure) / 2, n - 1) * sd * math.sqrt(1 + 1 / n)
    return mean - half, mean + half


def holds(mean: float, sd: float, n: int) -> bool:
    """Return whether the 95 % t interval of a mean difference of n >= 2 seeds excludes 0."""
    return abs(mean) > scipy.stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)


def _other_seeds(result: dict, known: dict | None) -> str:
    """Say in words what other seeds gave, and whether this value is unlike them."""
    if not known or known["n"] < 2:
        return ""
    text = f"{known['n']} seeds: {known['mean']:.4g} ± {known['sd']:.2g}"
    numbers_of = known["mean"], known["sd"], known["n"]
    if result["difference"]:
        text += ", holds" if holds(*numbers_of) else ", open"
    low, high = prediction_interval(*numbers_of)
    return text if low <= result["value"] <= high else text + " (yours lies outside)"


def table() -> None:
    """Draw the table of measured against expected, and store the numbers in the output.

    Under ``smoke`` no target is judged: a run that only checks the set-up reaches none of them.
    """
    known, rows = evidence(), []
    for name, result in _recorded.items():
        unit = f" {result['unit']}" if result["unit"] else ""
        row = {"result": result["label"], "measured": f"{result['value']:.4g}{unit}"}
        if result["target"] is not None:
            row["expected"] = f"{result['op']} {result['target']:.4g}{unit}"
        if _run.profile != "smoke" and met(result) is not None:
            row["verdict"] = "reached" if met(result) else "missed"
        if known:
            row["other seeds"] = _other_seeds(result, known.get(name))
        rows.append(row)
    columns = ["result", "measured", "expected", "verdict", "other seeds"]
    shown = pd.DataFrame(rows, columns=columns).dropna(axis=1, how="all").fillna("")
    display(
        {
            "text/plain": shown.to_string(index=False, justify="left"),
            "text/html": shown.to_html(index=False, justify="left", border=0),
            MIME_TYPE: recorded(),
        },
        raw=True,
    )


def compare(rows: dict[str, dict], digits: int = 3) -> None:
    """Show a table of candidates: {name: {column: number, or numbers of several seeds}}.

    Several numbers become their mean ± their standard deviation.
    """

    def cell(value) -> str:
        values = np.atleast_1d(value)
        spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{np.mean(values):.{digits}f}{spread}"

    display(pd.DataFrame.from_dict(rows, orient="index").map(cell))
