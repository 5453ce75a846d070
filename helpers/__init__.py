"""The course's plumbing; docs/architecture.md says what lies where.

Import this package before TensorFlow (any ``from helpers import ...`` does): it sets Keras up as
the chapters need it, and starts TensorFlow without its messages about graphics cards, which would
otherwise stand above the first picture. The messages are kept, and shown where something is wrong:
the import fails, Python itself dies in it, or a graphics card is there and not used. With the
environment variable TF_CPP_MIN_LOG_LEVEL=0 nothing is held back.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

# A second Python waits until the first says "loaded" or is dead, and then shows the messages.
_WATCHER = """
import pathlib, sys
if sys.stdin.read() != "loaded":
    text = pathlib.Path(sys.argv[1]).read_text(errors="replace")
    sys.stderr.write("Python died while it loaded TensorFlow, which wrote before:\\n" + text)
    pathlib.Path(sys.argv[1]).unlink()
"""


@contextlib.contextmanager
def _native_messages_kept(messages: list[str]):
    """Keep what C++ code writes to standard error (descriptor 2): at the end, it is appended.

    Where there is no standard error (pythonw, a service), it goes to nowhere; where no file can be
    made, it stays where it was.
    """
    kept = None
    try:
        kept = os.dup(2)
    except OSError:  # closed: the next file that is opened must not take its place
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    terminal = getattr(sys.stderr, "_original_stdstream_copy", kept)  # behind Jupyter's own pipe
    try:
        descriptor, path = tempfile.mkstemp(prefix="gan-course-")
        watcher = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _WATCHER, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            start_new_session=True,  # Ctrl-C is not meant for it
        )
    except OSError:
        yield
        return
    if sys.stderr:
        sys.stderr.flush()
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        if kept is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        else:
            os.dup2(kept, 2)
            os.close(kept)
        messages.append(pathlib.Path(path).read_text(errors="replace").strip())
        watcher.communicate(b"loaded")
        with contextlib.suppress(OSError):
            os.unlink(path)


def _say(sentence: str, messages: list[str]) -> None:
    """Write a sentence and TensorFlow's messages to standard error, if there is one."""
    if sys.stderr and any(messages):
        print(sentence, "It wrote:", *messages, sep="\n", file=sys.stderr)


def _unused_card(tensorflow) -> bool:
    """Return whether a graphics card is there that TensorFlow should see and does not."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or sys.platform == "win32":  # there, TensorFlow uses cards only inside WSL
        return False
    there = os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi")
    return bool(there) and not tensorflow.config.list_physical_devices("GPU")


def _load_tensorflow() -> None:
    """Import and start TensorFlow; show its messages where they are needed."""
    messages = []
    try:
        with _native_messages_kept(messages):
            import tensorflow

            tensorflow.config.list_physical_devices()
            tensorflow.zeros(1)
    except BaseException:
        _say("TensorFlow cannot be loaded.", messages)
        raise
    if _unused_card(tensorflow):
        _say("There is a graphics card, and TensorFlow does not use it.", messages)
    tensorflow.get_logger().setLevel("ERROR")  # no advice about retracing


def _set_keras_up() -> None:
    """Choose what the chapters are written for, whatever an old ~/.keras/keras.json says.

    Raises:
        ImportError: Keras was imported before, with another backend than TensorFlow.
    """
    import keras

    if keras.config.backend() != "tensorflow":
        raise ImportError(
            f"Keras runs on {keras.config.backend()}, the course on TensorFlow: restart Python, "
            "and import helpers before keras."
        )
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)


warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
warnings.filterwarnings("ignore", message="Conversion from CIE-LAB")  # colours out of range
warnings.filterwarnings("ignore", message="optuna.visualization.matplotlib")  # "experimental"
# Keras warns that fit's default shuffle=True is not used with a tf.data.Dataset: ours is shuffled.
warnings.filterwarnings("ignore", message="`shuffle=True` was passed")
os.environ["KERAS_BACKEND"] = "tensorflow"  # the chapters' training steps are TensorFlow's
_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
if _quiet and "tensorflow" not in sys.modules:
    _load_tensorflow()
_set_keras_up()
