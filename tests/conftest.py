"""Before anything else: no window for plots, no start-up messages of TensorFlow."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import helpers  # noqa: F401 (quietens TensorFlow before a test imports it)
