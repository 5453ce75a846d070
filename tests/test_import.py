"""``import helpers``: quiet when all is well, and it hides nothing when something goes wrong."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="descriptors and signals of POSIX")
# Stand in for the real packages, and say as much on descriptor 2 as TensorFlow does.
TENSORFLOW = """
import logging, os
os.write(2, b"native words\\n")
class config:
    list_physical_devices = staticmethod(lambda kind=None: {cards})
zeros = int
get_logger = logging.getLogger
{more}
"""
KERAS = """
class config:
    backend = staticmethod(lambda: "tensorflow")
    set_image_data_format = set_floatx = set_epsilon = staticmethod(print)
"""


@pytest.fixture
def start(tmp_path):
    """Run Python code in a process whose packages, and perhaps more, are the stand-ins."""
    packages, tools = tmp_path / "packages", tmp_path / "bin"
    packages.mkdir()
    tools.mkdir()
    (packages / "keras.py").write_text(KERAS, encoding="utf-8")

    def go(more="", code="import helpers", cards=(), card_is_there=False, **environment):
        text = TENSORFLOW.format(cards=list(cards), more=textwrap.dedent(more))
        (packages / "tensorflow.py").write_text(text, encoding="utf-8")
        if card_is_there:
            (tools / "nvidia-smi").write_text("#!/bin/sh\n", encoding="utf-8")
            (tools / "nvidia-smi").chmod(0o755)
        known = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "CUDA_"))}
        known |= {
            "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}",
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(tmp_path),
        }
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, env=known | environment, capture_output=True, text=True, timeout=60
        )

    yield go
    assert not list(tmp_path.glob("gan-course-*")), "the kept messages are removed"


def test_a_good_start_says_nothing(start):
    done = start()
    assert (done.returncode, done.stderr) == (0, "")
    later = start(code="import helpers, os; os.write(2, b'later words')")
    assert later.stderr == "later words", "only the start is quiet"


def test_who_asks_for_all_messages_gets_them(start):
    assert start(TF_CPP_MIN_LOG_LEVEL="0", code="import helpers, tensorflow").stderr == (
        "native words\n"
    )


def test_an_import_that_fails_shows_what_was_written_before(start):
    done = start("raise ImportError('DLL load failed')")
    assert done.returncode == 1 and "ImportError: DLL load failed" in done.stderr
    assert "TensorFlow cannot be loaded.\nIt wrote:\nnative words\n" in done.stderr


@posix
@pytest.mark.parametrize("signal", ["SIGILL", "SIGSEGV", "SIGABRT"])
def test_a_native_death_does_not_take_the_words_with_it(start, signal):
    done = start(f"import signal; os.kill(os.getpid(), signal.{signal})")
    assert done.returncode < 0
    assert done.stderr.endswith("Python died while it loaded TensorFlow, which wrote before:\n"
                                "native words\n")  # fmt: skip


@posix
def test_a_card_that_is_there_and_not_used(start):
    done = start(card_is_there=True)
    assert "There is a graphics card, and TensorFlow does not use it." in done.stderr
    assert "native words" in done.stderr
    assert start(card_is_there=True, cards=["GPU:0"]).stderr == ""
    assert start(card_is_there=True, CUDA_VISIBLE_DEVICES="-1").stderr == "", "as it was asked to"


@posix
def test_without_a_standard_error(start):
    """As under pythonw or in a service: sys.stderr is None, or the descriptor is closed."""
    code = "import sys; sys.stderr = sys.__stderr__ = None; import helpers; print('imported')"
    assert start(code=code).stdout.endswith("imported\n")
    code = """
        import os, sys
        os.close(2)
        sys.stderr = sys.__stderr__ = None
        import helpers
        print("imported", os.path.sameopenfile(2, os.open(os.devnull, os.O_WRONLY)))
    """
    done = start(code=textwrap.dedent(code))
    assert done.stdout.endswith("imported True\n"), done


def test_keras_is_set_up_as_the_chapters_need_it(tmp_path):
    """An old keras.json and another backend in the environment change nothing."""
    old = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1e-3}
    (tmp_path / "keras.json").write_text(json.dumps(old | {"backend": "jax"}), encoding="utf-8")
    code = """
        from helpers import metrics
        import keras, numpy as np
        made = metrics.load_classifier("mnist").probabilities(np.zeros((2, 28, 28, 1), "float32"))
        print(made.shape, keras.config.backend(), keras.layers.Dense(1).compute_dtype,
              keras.config.epsilon())
    """
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "(2, 10) tensorflow float32 1e-07\n", done.stderr


def test_keras_with_another_backend_is_said_in_a_sentence(start):
    code = "import keras; keras.config.backend = lambda: 'jax'; import helpers"
    done = start(code=code)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: Keras runs on jax, the course on TensorFlow: restart Python, and import "
        "helpers before keras."
    )
