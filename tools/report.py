"""What a run leaves behind for its reader: results.json and report.html.

results.json maps a chapter to its entry: status ("ok" or "failed"), profile, seed, parameters,
seconds and cpu_seconds, peak_memory_mib, versions, machine, notebook (the executed file), error
(None, or cell, line and exception) and results {name: {value, target, op, unit, label}}. A chapter
that was run over a sweep also has runs (an entry for each combination); its results then hold the
mean as value, with sd (standard deviation of a sample, divisor n - 1) and n beside it; its seconds
are the sum and its peak memory is the maximum.
"""

import json
import operator
import os
import pathlib
import statistics
import time
import urllib.parse
import uuid

import jinja2

COMPARISONS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}
REPLACE_SECONDS = 2
HERE = pathlib.Path(__file__).resolve().parent
BOOK = HERE.parent / "book" / "index.html"  # what make book writes
FIELDS = {"status", "profile", "seed", "seconds", "cpu_seconds", "peak_memory_mib", "versions",
          "machine", "error", "results"}  # fmt: skip


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Write a text file so that a reader finds the old or the new one, never a part of it."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        limit = time.monotonic() + REPLACE_SECONDS
        while True:
            try:
                os.replace(partial, path)
                return
            except PermissionError:  # Windows, while a virus scanner or a viewer has it open
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_results(out: pathlib.Path) -> dict[str, dict]:
    """Return the results.json of an earlier run, or {} where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = out / "results.json"
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(entries, dict) or not all(map(whole, entries.values())):
        raise ValueError("results.json does not map chapters to entries.")
    return entries


def whole(entry) -> bool:
    """Return whether something read from a file is an entry with everything it should have."""
    return isinstance(entry, dict) and entry.keys() >= FIELDS


def entry(records: list[dict]) -> dict:
    """Return a chapter's entry of results.json, made from the records of its jobs."""
    if not records[0]["swept"]:
        return {k: v for k, v in records[0].items() if k != "swept"}
    first = records[0]
    names = {name: None for record in records for name in record["results"]}
    results = {}
    for name in names:
        found = [r["results"][name] for r in records if name in r["results"]]
        values = [result["value"] for result in found]
        sd = statistics.stdev(values) if len(values) > 1 else None
        results[name] = {**found[0], "value": statistics.fmean(values), "sd": sd, "n": len(values)}
    failed = [record for record in records if record["status"] != "ok"]
    varied = {name: [r["swept"][name] for r in records] for name in first["swept"]}
    return {
        "status": "failed" if failed else "ok",
        "profile": first["profile"] if "profile" not in varied else varied["profile"],
        "seed": first["seed"] if "seed" not in varied else varied["seed"],
        "seconds": round(sum(record["seconds"] for record in records), 2),
        "cpu_seconds": round(sum(record["cpu_seconds"] for record in records), 2),
        "peak_memory_mib": max(record["peak_memory_mib"] for record in records),
        "versions": first["versions"],
        "machine": first["machine"],
        "error": failed[0]["error"] if failed else None,
        "results": results,
        "runs": [{k: v for k, v in r.items() if k != "swept"} | {"parameters": r["swept"]}
                 for r in records],
    }  # fmt: skip


def met(result: dict) -> bool | None:
    """Return whether a result reaches its target, or None where it has no target.

    The same as ``helpers.experiment.met``: to import ``helpers`` would start TensorFlow here.
    """
    if result["target"] is None:
        return None
    return COMPARISONS[result["op"]](result["value"], result["target"])


def verdicts(entries) -> tuple[int, int]:
    """Return how many results of some entries reached their target, and how many have one."""
    judged = [met(result) for entry in entries for result in entry["results"].values()]
    judged = [verdict for verdict in judged if verdict is not None]
    return sum(judged), len(judged)


def label(name: str, result: dict) -> str:
    """Return what a result is, in words."""
    return result.get("label") or name.replace("_", " ")


def duration(seconds: float | None) -> str:
    """Write seconds as m:ss, or h:mm:ss."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def book_from(out: pathlib.Path) -> str | None:
    """Return the address of the book as a page in ``out`` names it, or None where none was made."""
    if not BOOK.is_file():
        return None
    try:
        return urllib.parse.quote(pathlib.Path(os.path.relpath(BOOK, out)).as_posix())
    except ValueError:  # Windows: on another drive
        return BOOK.as_uri()


def write(out: pathlib.Path, entries: dict[str, dict]) -> None:
    """Write results.json and report.html into ``out``, each of them at once."""
    entries = dict(sorted(entries.items()))
    text = json.dumps(entries, indent=1, ensure_ascii=False, default=str)
    write_atomically(out / "results.json", text + "\n")
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    environment.tests["met"] = lambda result: met(result) is True
    environment.tests["missed"] = lambda result: met(result) is False
    judged = verdicts(entry for entry in entries.values() if entry["profile"] != "smoke")
    html = environment.get_template("report.html.jinja").render(
        entries=entries, verdicts=judged, label=label, book=book_from(out)
    )
    write_atomically(out / "report.html", html)
