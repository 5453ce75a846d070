"""Execute the notebooks of the course and report their results.

    python -m tools.run --profile smoke
    python -m tools.run --profile laptop --chapters 03 04
    python -m tools.run --chapters 03 --sweep seed=0,1,2

Each chapter is executed from its first cell to its last in a kernel of its own. The folder
--out then holds the executed notebooks, report.html and results.json. A run that was stopped goes
on where it was: only chapters whose result is missing, or whose code, parameters, helpers or
packages have changed, are executed. Exit code: 0 when every chapter went through, 1 when one
failed, 2 when the run cannot start, 130 after Ctrl-C.
"""

import argparse
import importlib.util
import pathlib
import signal
import sys

from tools import environment

NEEDED = ("papermill", "distributed", "tensorflow")


class Terminated(KeyboardInterrupt):
    """The process was asked to end with SIGTERM."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tools.run",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--profile", default="laptop", help="smoke, laptop (default) or gpu")
    add("--seed", default="0", help="the seed of every chapter (default 0)")
    add("--chapters", nargs="+", default=[], help="numbers or names (default: all)")
    add("--sweep", action="append", default=[], metavar="NAME=A,B,C",
        help="run the chapters for each of these values; may be given more than once")  # fmt: skip
    add("--out", type=pathlib.Path, help="folder for what is written (default runs/PROFILE)")
    add("--folder", type=pathlib.Path, help="folder of the notebooks (default notebooks)")
    add("--changed", choices=("code", "computes"), default="code",
        help="execute again what has changed in any code (default), or only in what computes "
        "numbers, not in plots")  # fmt: skip
    add("--fresh", action="store_true", help="execute everything, also what has not changed")
    add("--timeout", type=int, metavar="SECONDS", help="the longest that one cell may take")
    add("--workers", type=int, default=1, help="chapters executed at a time (default 1)")
    add("--scheduler", metavar="ADDRESS", help="use the dask cluster at tcp://... instead")
    add("--write-back", action="store_true",
        help="put the outputs into the notebooks of the repository")  # fmt: skip
    add("--root", type=pathlib.Path,
        help="the repository (default: the one that holds this file)")  # fmt: skip
    return parser.parse_args(arguments)


def start(args: argparse.Namespace) -> int:
    """Run what the command line asks for and return the exit code."""
    from tools import batch, jobs, report
    from tools.progress import Progress

    root = (args.root or environment.ROOT).resolve()
    folder = (args.folder or root / "notebooks").resolve()
    seed, sweeps = jobs.literal(args.seed), jobs.parse_sweeps(args.sweep)
    if not (root / "requirements.txt").is_file():
        raise jobs.UsageError(f"{root} is not the course's repository: correct --root.")
    if args.write_back and (args.profile, seed, sweeps) != ("laptop", 0, {}):
        raise jobs.UsageError("--write-back goes with profile laptop and seed 0, without a sweep.")
    if args.workers < 1 or (args.timeout is not None and args.timeout < 1):
        raise jobs.UsageError("--workers and --timeout take a positive number.")
    paths, left_out = jobs.find_chapters(folder, args.chapters)
    if left_out:
        print(f"Left out, no chapters: {', '.join(left_out)}")
    all_jobs = jobs.make_jobs(paths, root, args.profile, seed, sweeps)
    name = args.profile if folder == root / "notebooks" else f"{args.profile}-{folder.name}"
    out = (args.out or root / "runs" / name).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = report.read_results(out)
    except ValueError:
        print(
            f"{out / 'results.json'} is damaged: it is written anew for the chapters of this run."
        )
        before = {}
    except OSError as error:
        raise jobs.UsageError(f"{out} cannot be written ({error}): name another --out.") from None

    records, todo = {}, []
    for job in all_jobs:
        found, why = (None, "") if args.fresh else jobs.earlier(job, out, args.changed)
        if found and args.write_back and found["source_sha256"] != job.source_sha256:
            found, why = None, "its cells have other borders"
        _expect(job, before)
        if found:
            records[job.name] = found
            print(f"{job.name}  kept: nothing has changed since it was executed")
        else:
            todo.append(job)
            if why:
                print(f"{job.name}  is executed again: {why}")

    def entries() -> dict:
        chapters = {}
        for job in all_jobs:
            if job.name in records:
                chapters.setdefault(job.chapter, []).append(records[job.name])
        return before | {chapter: report.entry(found) for chapter, found in chapters.items()}

    progress = Progress(todo)

    def done(job, answer):
        records[job.name] = found = batch.record(job, answer, out)
        report.write(out, entries())
        error = found["error"]
        where = f" in code cell {error['cell']}" if error and error["cell"] else ""
        progress.say(f"{job.name}  {found['status']}{where} after "
                     f"{report.duration(found['seconds'])}")  # fmt: skip

    if todo:
        workers = args.workers
        if workers > 1 and not args.scheduler and batch.has_card():
            print("There is a graphics card: one chapter runs at a time.")
            workers = 1
        times = [job.expected for job in todo]
        total = None if None in times else sum(times)
        print(f"{len(todo)} to execute, profile {args.profile}, seed {seed}, "
              f"expected time {report.duration(total)}, into {out}", flush=True)  # fmt: skip
        with batch.cluster(args.scheduler, workers) as client:
            batch.run(client, todo, root, args.timeout, progress, done)
    report.write(out, entries())
    failed = _summary([records[job.name] | {"name": job.name} for job in all_jobs])
    print(f"\n{out / 'report.html'}", flush=True)
    if args.write_back and not failed:
        for job in all_jobs:
            batch.write_back(job, out / f"{job.name}.ipynb")
        print(f"The outputs are in {folder}")
    return 1 if failed else 0


def _expect(job, before: dict) -> None:
    """Take the time of the last run, where it was of the same profile, as the one to expect."""
    entry = before.get(job.chapter, {})
    for run in entry.get("runs", [entry]):
        same = run.get("profile") == job.parameters["profile"] and run.get("status") == "ok"
        if same and isinstance(run.get("seconds"), (int, float)):
            job.expected = run["seconds"]


def _summary(records: list[dict]) -> bool:
    """Print what every chapter gave, and what failed; return whether one failed."""
    import pandas as pd

    from tools import report

    rows, failures = [], []
    for found in records:
        row = {"chapter": found["name"], "status": found["status"],
               "time": report.duration(found["seconds"]),
               "peak MiB": round(found["peak_memory_mib"])}  # fmt: skip
        if found["profile"] != "smoke":  # which only checks that every cell works
            row["targets reached"] = "{} of {}".format(*report.verdicts([found]))
        rows.append(row)
        if error := found["error"]:
            failures.append({"chapter": found["name"], "code cell": error["cell"] or "-",
                             "its first line": error["line"][:50],
                             "exception": error["exception"][:120]})  # fmt: skip
    for title, found in (("", rows), (f"{len(failures)} failed:\n", failures)):
        if found:
            table = pd.DataFrame(found).set_index("chapter").rename_axis(None)
            print(f"\n{title}{table.fillna('').to_string()}")
    return bool(failures)


def main(arguments: list[str]) -> int:
    """Command line; makes the environment first where this Python lacks the packages."""
    args = parse(arguments)
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        return environment.main(["-m", "tools.run", *arguments])
    from tools import jobs

    for stream in (sys.stdout, sys.stderr):  # a name in another script must not end a run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def terminate(number, frame):
        raise Terminated

    former = signal.signal(signal.SIGTERM, terminate)
    try:
        return start(args)
    except jobs.UsageError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    except Terminated:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, former)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
