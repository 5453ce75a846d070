"""The course's plumbing: data, profiles, plots, metrics, callbacks and results.

Import this package before TensorFlow (any ``from helpers import ...`` does): it starts TensorFlow
without its messages about graphics cards, which would otherwise stand above the first picture.
"""

import contextlib
import os
import sys
import warnings


@contextlib.contextmanager
def _without_native_messages():
    """Send what C++ code writes to standard error (file descriptor 2) to nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
warnings.filterwarnings("ignore", message="Conversion from CIE-LAB")  # colours out of range
warnings.filterwarnings("ignore", message="optuna.visualization.matplotlib")  # "experimental"
# Keras warns that fit's default shuffle=True is not used with a tf.data.Dataset: ours is shuffled.
warnings.filterwarnings("ignore", message="`shuffle=True` was passed")
if "tensorflow" not in sys.modules:
    with _without_native_messages():
        import tensorflow

        tensorflow.config.list_physical_devices()
        tensorflow.zeros(1)
    tensorflow.get_logger().setLevel("ERROR")  # no advice about retracing
