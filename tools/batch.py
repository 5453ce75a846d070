"""Run jobs on a cluster of dask.distributed, show how far they are, and keep what they give."""

import contextlib
import json
import logging
import pathlib
import pickle
import queue
import re
import time
import uuid

import cloudpickle
import dask
import distributed
import nbformat

import tools
from tools import execute, jobs, notebook, report

KEPT_COURSE = ("profile", "seed", "seconds", "source_sha256", "results")
PAPERMILL_MARK = "papermill-error-cell-tag"
# Ctrl-C reaches every process of a terminal; the runner alone decides what is stopped.
DEAF = (
    "import signal\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, lambda *_: None)\n"
)
CONNECT_SECONDS = 15  # how long a scheduler may take to answer
STOP_SECONDS = 10  # how long an interrupted run waits for its kernels to end


@contextlib.contextmanager
def cluster(address: str | None, workers: int, root: pathlib.Path):
    """Yield a client of the cluster at ``address``, or of a local one of ``workers`` processes.

    Raises:
        jobs.Mistake: no scheduler answers there, or it has no workers.
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
                memory_limit=0,  # a worker's own memory is not what fills up
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                env={"COURSE_ROOT": str(root)},
                preload=[DEAF],
            )
            address = stack.enter_context(local)
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise jobs.Mistake(
                f"No scheduler answers at {address} ({type(error).__name__}): start one with "
                "'dask scheduler', or leave --scheduler out."
            ) from None
        stack.enter_context(client)
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError:
            raise jobs.Mistake(
                f"The scheduler at {address} has no workers: start one with 'dask worker'."
            ) from None
        yield client


def packages(root: pathlib.Path) -> list[str]:
    """Return the names that requirements.txt pins."""
    text = (root / "requirements.txt").read_text(encoding="utf-8")
    return re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE)


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
        "source_sha256": notebook.source_sha256(job.source),
        "key": job.key,
        "results": notebook.collect_results(executed),
    }
    costs = ("seconds", "cpu_seconds", "peak_memory_mib", "versions", "machine", "error")
    entry |= {name: answer[name] for name in costs}
    executed.metadata["course"] = entry
    report.write_atomically(out / entry["notebook"], nbformat.writes(executed) + "\n")
    return json.loads(json.dumps(entry, sort_keys=True))  # as a later run reads it


def run(client, todo: list[jobs.Job], root, folder, timeout: int | None, progress, done) -> None:
    """Execute jobs on the cluster and call ``done(job, answer)`` as each of them ends.

    An interrupt (KeyboardInterrupt) cancels what is left, waits until the kernels have ended and
    goes on to the caller.
    """
    cloudpickle.register_pickle_by_value(tools)
    payload = cloudpickle.dumps(execute.execute)
    events, topic = queue.SimpleQueue(), f"course-{uuid.uuid4().hex}"
    client.subscribe_topic(topic, lambda event: events.put(event[1]))
    folder = folder.relative_to(root) if folder.is_relative_to(root) else folder
    common = {
        "root": root.as_posix(),
        "folder": folder.as_posix(),
        "helpers_sha256": jobs.helpers_sha256(str(root)),
        "timeout": timeout,
        "topic": topic,
        "packages": packages(root),
    }
    waiting = {}
    for number, job in enumerate(todo):
        task = {"name": job.name, "notebook": nbformat.writes(job.source),
                "parameters": job.parameters, **common}  # fmt: skip
        # A lambda that carries the code travels by value: workers do not import tools.
        future = client.submit(
            lambda task: pickle.loads(payload)(task),
            task,
            key=f"{job.name}-{uuid.uuid4().hex}",
            pure=False,
            priority=-number,
        )
        waiting[future.key] = (job, future)
        future.add_done_callback(lambda future: events.put(future))
    try:
        while waiting:
            with contextlib.suppress(queue.Empty):
                event = events.get(timeout=1)
                if isinstance(event, dict):
                    progress.event(event)
                else:
                    job, future = waiting.pop(event.key)
                    progress.running.pop(job.name, None)
                    progress.left = len(waiting)
                    done(job, _answer(job, future))
            progress.draw()
            if client.status != "running" and waiting:
                raise jobs.Mistake(
                    f"The scheduler is gone with {len(waiting)} chapters to do: start it again, "
                    "then run the same command; finished chapters are kept."
                )
    except KeyboardInterrupt:
        progress.say("Stopping the kernels ...")
        client.cancel([future for _, future in waiting.values()], force=True)
        limit = time.monotonic() + STOP_SECONDS
        while progress.running and time.monotonic() < limit:
            with contextlib.suppress(queue.Empty):
                event = events.get(timeout=0.2)
                if isinstance(event, dict):
                    progress.event(event)
        raise


def _answer(job: jobs.Job, future) -> dict:
    """Return a future's result; a worker that failed as a whole is a failed chapter, too."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    text = f"{type(error).__name__}: {error}" if error else f"The task was {future.status}."
    return {
        "notebook": nbformat.writes(job.source),
        "error": {"cell": None, "line": "", "exception": text.splitlines()[0]},
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "peak_memory_mib": 0.0,
        "versions": {},
        "machine": "",
    }


def write_back(job: jobs.Job, path: pathlib.Path, executed: pathlib.Path) -> None:
    """Put the outputs of an executed notebook into the one of the repository, in normal form.

    The prose is taken from the repository, where it may have been edited since the execution.

    Raises:
        jobs.Mistake: the code has been edited since.
    """
    source, ran = nbformat.read(path, as_version=4), nbformat.read(executed, as_version=4)
    if notebook.source_sha256(source) != notebook.source_sha256(ran):
        raise jobs.Mistake(f"{path.name} was edited during the run: run it again.")
    for cell, result in zip(notebook.code_cells(source), notebook.code_cells(ran), strict=True):
        cell.outputs, cell.execution_count = result.outputs, result.execution_count
    course = ran.metadata["course"]
    source.metadata["course"] = {name: course[name] for name in KEPT_COURSE}
    report.write_atomically(path, nbformat.writes(notebook.normalise(source)) + "\n")
