"""Before anything else: no window for plots, no start-up messages of TensorFlow.

The fixtures run the tools on tiny notebooks, on one cluster for all tests.
"""

import json
import os
import subprocess
import sys

os.environ.setdefault("MPLBACKEND", "Agg")

import distributed
import numpy as np
import psutil
import pytest
from tiny_course import REPOSITORY, kill_tree, make_root, until

from helpers import files  # also quietens TensorFlow before a test imports it
from tools import run


@pytest.fixture
def rng():
    """A random generator of the test's own: what it draws does not depend on other tests."""
    return np.random.default_rng(0)


@pytest.fixture
def download_cache(monkeypatch, tmp_path):
    """An empty cache for downloads, which wait for nothing long and know no proxy or mirror."""
    monkeypatch.setattr(files, "PAUSE", 0.01)
    monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
    for name in ("http_proxy", "HTTP_PROXY", "COURSE_DATA_URL", "COURSE_FETCH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    """A repository of its own, without notebooks."""
    return make_root(tmp_path / "course")


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory):
    """The address of a scheduler with one worker, each a process of its own."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": REPOSITORY}
    dask = [sys.executable, "-m", "distributed.cli.dask_{}", "--scheduler-file", str(file)]
    started = [
        psutil.Popen([*dask[:2], dask[2].format(kind), *dask[3:], *arguments], **common)
        for kind, arguments in (
            ("scheduler", ["--port", "0", "--no-dashboard"]),
            ("worker", ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]),
        )
    ]
    try:
        until(lambda: file.exists() and file.read_text(encoding="utf-8").rstrip().endswith("}"))
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        with distributed.Client(address, timeout=240, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=240)
        yield address
    finally:
        for process in reversed(started):
            kill_tree(process)


@pytest.fixture
def course(root, scheduler, capsys):
    """Run the course on the shared cluster; gives the exit code and the lines of the output."""

    def go(*arguments):
        code = run.main(
            ["--root", str(root), "--profile", "smoke", "--scheduler", scheduler, *arguments]
        )
        return code, capsys.readouterr().out

    return go
