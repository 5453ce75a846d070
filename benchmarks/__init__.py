"""Training speed and time to quality, measured against the classic loop and PyTorch."""

import helpers  # noqa: F401 (quietens TensorFlow before it is imported)
