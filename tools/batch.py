"""Run jobs on a cluster of dask.distributed, show how far they are, and keep what they give."""

import contextlib
import json
import logging
import pathlib
import queue
import shutil
import subprocess
import time
import uuid

import dask
import distributed
import nbformat

from tools import execute, jobs, notebook, report, source

KEPT_COURSE = ("profile", "seed", "seconds", "cpu_seconds", "source_sha256", "computes_sha256",
               "results")  # fmt: skip
PAPERMILL_MARK = "papermill-error-cell-tag"
# Ctrl-C reaches every process of a terminal; the runner alone decides what is stopped.
DEAF = (
    "import signal\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, lambda *_: None)\n"
)
CONNECT_SECONDS = 15  # how long a scheduler may take to answer
STOP_SECONDS = 10  # how long an interrupted run waits for its kernels to end


def has_card() -> bool:
    """Return whether this machine has an NVIDIA graphics card (TensorFlow takes seconds to ask)."""
    program = shutil.which("nvidia-smi")
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        ask = [program, "-L"] if program else None
        return bool(ask) and b"GPU" in subprocess.run(ask, capture_output=True, timeout=20).stdout
    return False


@contextlib.contextmanager
def cluster(address: str | None, workers: int):
    """Yield a client of the cluster at ``address``, or of a local one of ``workers`` processes.

    The local one listens on the loopback address only: whoever reaches a scheduler can run code.

    Raises:
        jobs.UsageError: no scheduler answers there, or it has no workers.
    """
    quiet = {
        "distributed.worker.daemon": False,  # a daemon may not have child processes: kernels
        "distributed.nanny.pre-spawn-environ": {},  # it would leave kernels one thread each
        "distributed.scheduler.worker-ttl": None,  # a laptop that slept has not lost its worker
    }
    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(dask.config.set(quiet))
            local = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                memory_limit=0,  # a worker's own memory is not what fills up
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                preload=[DEAF],
            )
            address = stack.enter_context(local)
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise jobs.UsageError(
                f"No scheduler answers at {address} ({type(error).__name__}): start one with "
                "'dask scheduler', or leave --scheduler out."
            ) from None
        stack.enter_context(client)
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError:
            raise jobs.UsageError(
                f"The scheduler at {address} has no workers: in a copy of the repository start "
                f"one with 'python -m distributed.cli.dask_worker {address}'."
            ) from None
        yield client


def record(job: jobs.Job, answer: dict, out: pathlib.Path) -> dict:
    """Keep what a worker gave: write the executed notebook, and return the job's record."""
    executed = nbformat.reads(answer["notebook"], as_version=4)
    executed.metadata.pop("papermill", None)
    executed.cells = [c for c in executed.cells if PAPERMILL_MARK not in c.metadata.get("tags", [])]
    for cell in executed.cells:
        cell.metadata.pop("papermill", None)
        if notebook.INJECTED in cell.metadata.get("tags", []):
            cell["id"] = notebook.INJECTED
    entry = {
        "status": "failed" if answer["error"] else "ok",
        "notebook": f"{job.name}.ipynb",
        "profile": job.parameters["profile"],
        "seed": job.parameters["seed"],
        "parameters": job.parameters,
        "swept": job.swept,
        "source_sha256": job.source_sha256,
        "computes_sha256": job.walk.computes(job.parameters["profile"]),
        "keys": job.keys,
        "results": answer["results"] or notebook.collect_results(executed),
    }
    costs = ("seconds", "cpu_seconds", "peak_memory_mib", "versions", "machine", "error")
    entry |= {name: answer[name] for name in costs}
    executed.metadata["course"] = entry
    report.write_atomically(out / entry["notebook"], nbformat.writes(executed) + "\n")
    return json.loads(json.dumps(entry))  # as a later run reads it


def run(client, todo: list[jobs.Job], root, timeout: int | None, progress, done) -> None:
    """Execute jobs on the cluster and call ``done(job, answer)`` as each of them ends.

    An interrupt (KeyboardInterrupt) cancels what is left, waits until the kernels have ended and
    goes on to the caller.
    """
    events, topic = queue.SimpleQueue(), f"course-{uuid.uuid4().hex}"
    client.subscribe_topic(topic, lambda event: events.put(event[1]))
    waiting = {}
    for number, job in enumerate(todo):
        path = job.path.relative_to(root) if job.path.is_relative_to(root) else job.path
        task = {
            "name": job.name,
            "notebook": nbformat.writes(job.source),
            "parameters": job.parameters,
            "root": root.as_posix(),
            "path": path.as_posix(),
            "code": job.walk.code,
            "timeout": timeout,
            "run": topic,
            "packages": list(job.walk.packages),
        }
        key = f"{job.name}-{uuid.uuid4().hex}"
        future = client.submit(execute.execute, task, key=key, pure=False, priority=-number)
        waiting[key] = (job, future)
        future.add_done_callback(lambda future: events.put(future))

    def next_event(seconds: float):
        """Take what happens next; return a future that has ended, or None."""
        with contextlib.suppress(queue.Empty):
            event = events.get(timeout=seconds)
            if not isinstance(event, dict):
                return event
            progress.event(event)

    try:
        while waiting:
            if future := next_event(1):
                job, _ = waiting.pop(future.key)
                progress.running.pop(job.name, None)
                progress.left = len(waiting)
                done(job, _answer(job, future))
            progress.draw()
            if client.status != "running" and waiting:
                raise jobs.UsageError(
                    f"The scheduler is gone with {len(waiting)} chapters to do: start it again, "
                    "then run the same command; finished chapters are kept."
                )
    except KeyboardInterrupt:
        progress.say("Stopping the kernels ...")
        client.cancel([future for _, future in waiting.values()])
        with contextlib.suppress(OSError, ValueError):  # the cluster may be gone
            client.run(execute.stop, topic)
        limit = time.monotonic() + STOP_SECONDS
        while progress.running and time.monotonic() < limit:
            next_event(0.2)
        raise


def _answer(job: jobs.Job, future) -> dict:
    """Return a future's result; a worker that failed as a whole is a failed chapter, too."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    text = f"{type(error).__name__}: {error}" if error else f"The task was {future.status}."
    if isinstance(error, ModuleNotFoundError):
        text += ": start the worker in a copy of the repository, with its Python"
    return {
        "notebook": nbformat.writes(job.source),
        "results": {},
        "error": {"cell": None, "line": "", "exception": text.splitlines()[0]},
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "peak_memory_mib": 0.0,
        "versions": {},
        "machine": "",
    }


def write_back(job: jobs.Job, executed: pathlib.Path) -> None:
    """Put the outputs of an executed notebook into the one of the repository, in normal form.

    The prose is taken from the repository, where it may have been edited since the execution.

    Raises:
        jobs.UsageError: the code has been edited since.
    """
    path = job.path
    text, ran = path.read_text(encoding="utf-8"), nbformat.read(executed, as_version=4)
    course = ran.metadata["course"]
    if source.cells_sha256(text) != course["source_sha256"]:
        raise jobs.UsageError(f"{path.name} was edited during the run: run it again.")
    written = nbformat.reads(text, as_version=4)
    pairs = zip(notebook.code_cells(written), notebook.code_cells(ran), strict=True)
    for cell, result in pairs:
        cell.outputs, cell.execution_count = result.outputs, result.execution_count
    written.metadata["course"] = {name: course[name] for name in KEPT_COURSE}
    report.write_atomically(path, nbformat.writes(notebook.normalise(written)) + "\n")
