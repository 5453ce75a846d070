"""One chapter in one kernel: what a worker of the cluster does.

A worker of another machine runs in a copy of the repository there:

    python -m distributed.cli.dask_worker tcp://machine:8786
"""

import contextlib
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import tempfile
import threading
import time

import distributed
import nbformat
import papermill
import papermill.engines
import papermill.exceptions
import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient

from tools.notebook import code_cells
from tools.walk import ROOT, Walk

SAMPLE_SECONDS = 0.2
_running: dict[str, list] = {}  # the kernels of each run, as Watch
_stopped: set[str] = set()


def stop(run: str) -> None:
    """Kill the kernels of a run that this worker has, and those that it would still start."""
    _stopped.add(run)
    for watch in list(_running.get(run, [])):
        watch.kill()


class Watch(threading.Thread):
    """Samples the memory and the CPU time of a kernel and its child processes.

    Attributes:
        peak_mib: the largest resident memory seen so far, in MiB.
        cpu_seconds: user and system time at the last sample.
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True, name="watch-kernel")
        self.kernel = psutil.Process(pid)
        self.peak_mib = self.cpu_seconds = 0.0
        self.done = threading.Event()

    def run(self):
        """Sample until ``done`` is set."""
        while not self.done.wait(SAMPLE_SECONDS):
            self.sample()

    def _processes(self) -> list:
        with contextlib.suppress(psutil.Error):
            return [self.kernel, *self.kernel.children(recursive=True)]
        return []

    def sample(self):
        """Take one sample now."""
        memory, cpu = 0, 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.Error), process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system
        self.peak_mib = max(self.peak_mib, memory / 2**20)
        self.cpu_seconds = max(self.cpu_seconds, cpu)

    def kill(self):
        """Kill the kernel and its children."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


class CourseEngine(papermill.engines.Engine):
    """Papermill's engine with the interpreter, the folder and the environment that we choose."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man, kernel_name, log_output=False, observer=None, folder=None, timeout=None, **_
    ):
        """Execute ``nb_man.nb`` in a kernel of this very Python, in ``folder``."""
        observer.notebook = nb_man.nb
        # Without folders to look in, jupyter_client offers only the kernel of sys.executable:
        # a kernel "python3" that the user installed elsewhere cannot take its place.
        specs = KernelSpecManager(kernel_dirs=[])
        manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        client = PapermillNotebookClient(
            nb_man,
            km=manager,
            timeout=timeout,
            startup_timeout=120,
            extra_arguments=["--log-level=CRITICAL"],
            log=logging.getLogger("papermill"),
            on_notebook_start=lambda notebook: observer.start(manager.provisioner.process.pid),
            on_cell_execute=lambda cell, cell_index: observer.cell_starts(cell),
            on_cell_executed=lambda cell, cell_index, execute_reply: observer.watch.sample(),
        )
        environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
        environment |= {"PYTHONHASHSEED": "0", "COURSE_RESULTS": str(observer.results)}
        client.execute(cwd=str(folder), env=environment, cleanup_kc=True)


class Observer:
    """Follows one notebook: where it is, what its kernel uses; reports to the runner."""

    def __init__(self, run: str, job: str, results: pathlib.Path):
        self.run, self.job, self.results = run, job, results
        self.worker = distributed.get_worker()
        self.notebook = self.watch = None
        self.cell, self.numbers = None, {}

    def report(self, event: str, **details):
        """Send an event to the runner."""
        message = {"job": self.job, "event": event, **details}
        self.worker.log_event(self.run, message)

    def start(self, pid: int):
        """The kernel runs: watch it."""
        self.numbers = {c["id"]: n for n, c in enumerate(code_cells(self.notebook), 1)}
        self.watch = Watch(pid)
        self.watch.start()
        _running.setdefault(self.run, []).append(self.watch)
        if self.run in _stopped:
            self.watch.kill()
        self.report("start")

    def cell_starts(self, cell):
        """This code cell starts."""
        self.cell = cell
        if cell["id"] in self.numbers:
            self.report("cell", cell=self.numbers[cell["id"]], cells=len(self.numbers))

    def ends(self):
        """The kernel has ended."""
        if self.watch is not None:
            self.watch.done.set()
            _running[self.run].remove(self.watch)
        self.report("stopped")

    def failure(self, exception: Exception | None, timeout: int | None) -> dict | None:
        """Return which cell failed and how, or None when every cell went through."""
        failed, text = self.cell, None
        for cell in self.notebook.cells if self.notebook is not None else []:
            if cell.metadata.get("papermill", {}).get("exception"):
                error = next((o for o in cell.outputs if o.output_type == "error"), None)
                failed, text = cell, f"{error.ename}: {error.evalue}" if error else str(exception)
        if text is None and exception is not None:
            if isinstance(exception, CellTimeoutError):
                text = f"TimeoutError: the cell did not end within {timeout} seconds"
            elif isinstance(exception, DeadKernelError):
                text = "DeadKernelError: the kernel died (often because the memory was full)"
            elif not isinstance(exception, papermill.exceptions.PapermillExecutionError):
                text = f"{type(exception).__name__}: {exception}"
            # else an error in a cell that is tagged raises-exception: part of the lesson
        if text is None:
            return None
        source = failed.source.strip() if failed is not None else ""
        return {
            "cell": self.numbers.get(failed["id"]) if failed is not None else None,
            "line": next(iter(source.splitlines()), ""),
            "exception": text.strip().splitlines()[0],
        }


def _versions(packages) -> dict:
    versions = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def execute(job: dict) -> dict:
    """Execute one notebook and return it with what it cost.

    Args:
        job: ``name``, ``notebook`` (JSON text), ``parameters``, ``root`` and ``path`` (of the
            notebook, from the root or absolute), ``code`` (the hash of a walk through it),
            ``timeout`` (seconds for a cell, or None), ``run`` (the topic of events) and
            ``packages`` whose versions are wanted.

    Returns:
        ``notebook`` (JSON text with outputs, up to the failing cell), ``results`` (recorded until
        then), ``error`` (None, or cell, line and exception), ``seconds`` (wall), ``cpu_seconds``
        and ``peak_memory_mib`` of the kernel's processes, ``versions`` and ``machine``.

    Raises:
        RuntimeError: the worker has no such folder, or other files than the runner.
    """
    root = pathlib.Path(job["root"])
    root = root if root.is_dir() else ROOT  # on another machine: the copy that this file is in
    path = root / job["path"]
    if not path.parent.is_dir():
        raise RuntimeError(f"The worker on {platform.node()} has no folder {path.parent}.")
    if Walk(path, root, job["notebook"]).code != job["code"]:
        raise RuntimeError(
            f"The worker on {platform.node()} has other helpers or chapters in {root} than this "
            "machine: bring its copy of the repository up to date."
        )
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)
    papermill.engines.papermill_engines.register("course", CourseEngine)
    source, failure = nbformat.reads(job["notebook"], as_version=4), None
    with tempfile.TemporaryDirectory(prefix="course-", ignore_cleanup_errors=True) as folder:
        observer = Observer(job["run"], job["name"], pathlib.Path(folder, "results.json"))
        started = time.perf_counter()
        try:
            papermill.execute_notebook(
                source,
                None,
                parameters=job["parameters"],
                engine_name="course",
                kernel_name="python3",
                language="python",
                progress_bar=False,
                observer=observer,
                folder=path.parent,
                timeout=job["timeout"],
            )
        except Exception as error:  # whatever a chapter does, the others go on
            failure = error
        finally:
            seconds = time.perf_counter() - started
            observer.ends()
        results = {}
        with contextlib.suppress(OSError, ValueError):  # a kernel may have died while it wrote
            results = json.loads(observer.results.read_text(encoding="utf-8"))
    watch = observer.watch
    return {
        "error": observer.failure(failure, job["timeout"]),
        "notebook": nbformat.writes(observer.notebook or source),
        "results": results,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(watch.cpu_seconds, 2) if watch else 0.0,
        "peak_memory_mib": round(watch.peak_mib, 1) if watch else 0.0,
        "versions": _versions(job["packages"]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
