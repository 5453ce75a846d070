"""What several seeds show: run chapters under laptop for each seed, and keep it in docs/.

    python -m tools.evidence --chapters 07 --seeds 0 1 2 3 4
    python -m tools.evidence --chapters 13 --seeds 0 --vary limit=60,200
    python -m tools.evidence --check        which entries are not of today's code

A notebook trains one seed, the reader's. docs/evidence.json holds beside it, for each result, mean,
standard deviation and the value of every seed; ``experiment.table()`` shows them where profile and
options are the same. What other values of one option give (``--vary``) stands beside it, for the
chapter to draw (``experiment.varied``). Runs that have finished are kept, also after a kill; other
chapters' entries stay as they are.
"""

import argparse
import json
import pathlib
import statistics
import sys

from tools.walk import ROOT, Walk

PROFILE = "laptop"


def read(root: pathlib.Path = ROOT) -> dict[str, dict]:
    """Return docs/evidence.json, or {} where there is none."""
    path = root / "docs" / "evidence.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def stale(root: pathlib.Path = ROOT) -> list[str]:
    """Return the chapters whose entry was not made by what computes their numbers today."""
    found = []
    for chapter, entry in read(root).items():
        path = root / "notebooks" / f"{chapter}.ipynb"
        if not path.is_file() or Walk(path, root).computes(PROFILE) != entry["computes_sha256"]:
            found.append(chapter)
    return found


def results_of(runs: list[dict]) -> dict[str, dict]:
    """Return for each result of some runs of one chapter mean, spread and the value of each seed.

    Args:
        runs: of the chapter's entry of results.json, from a sweep over seeds.
    """
    firsts = {}  # a result need not be in every run
    for run in runs:
        for name, result in run["results"].items():
            firsts.setdefault(name, result)
    results = {}
    for name, first in firsts.items():
        values = {str(run["seed"]): run["results"][name]["value"] for run in runs
                  if name in run["results"]}  # fmt: skip
        numbers = list(values.values())
        results[name] = {
            "label": first["label"],
            "unit": first["unit"],
            "difference": first["difference"],
            "mean": statistics.fmean(numbers),
            "sd": statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
            "n": len(numbers),
            "values": values,
        }
    return results


def entry(chapter: dict, options: dict, known: dict, vary: str | None = None) -> dict:
    """Return a chapter's entry of docs/evidence.json.

    Args:
        chapter: its entry of results.json, from a sweep over seeds.
        options: the chapter's own parameters and their values.
        known: the entry of before, of which today's code keeps what this sweep did not make.
        vary: the parameter that was swept over too; the results of each of its values are kept.
    """
    runs = chapter["runs"]
    made = {"computes_sha256": runs[0]["computes_sha256"], "options": options}
    if any(known.get(key) != value for key, value in made.items()):
        known = {}
    made |= {"profile": PROFILE, "versions": chapter["versions"]}
    if vary is None:
        made |= {"seeds": [run["seed"] for run in runs], "results": results_of(runs)}
        return {"varied": {}} | known | made
    groups = {}
    for run in runs:
        groups.setdefault(str(run["parameters"][vary]), []).append(run)
    found = {value: results_of(group) for value, group in groups.items()}
    varied = known.get("varied", {})
    varied = varied | {vary: varied.get(vary, {}) | found}
    return {"seeds": [], "results": {}} | known | made | {"varied": varied}


def collect(
    root: pathlib.Path, out: pathlib.Path, chapters: list[str], vary: str | None = None
) -> list[str]:
    """Put what a run over seeds gave into docs/evidence.json; return the chapters that failed."""
    from tools import jobs, notebook, report

    known, found, failed = read(root), report.read_results(out), []
    for path in jobs.find_chapters(root / "notebooks", chapters)[0]:
        if found.get(path.stem, {}).get("status") != "ok":
            failed.append(path.stem)
            continue
        parameters = notebook.parameters(jobs.read(path))
        options = {k: v for k, v in parameters.items() if k not in ("profile", "seed")}
        made = entry(found[path.stem], options, known.get(path.stem, {}), vary)
        known[path.stem] = made
        if vary is None:
            _print(path.stem, made["results"])
        else:
            for value, results in made["varied"][vary].items():
                _print(f"{path.stem}, {vary} = {value}", results)
    (root / "docs").mkdir(exist_ok=True)
    text = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False)
    report.write_atomically(root / "docs" / "evidence.json", text + "\n")
    return failed


def _print(chapter: str, results: dict) -> None:
    import pandas as pd

    from helpers import experiment

    rows = {}
    for result in results.values():
        numbers = result["mean"], result["sd"], result["n"]
        sure = result["difference"] and result["n"] > 1
        rows[result["label"]] = {
            "mean": f"{result['mean']:.4g} {result['unit']}",
            "sd": f"{result['sd']:.2g}",
            "n": result["n"],
            "difference": ("holds" if experiment.holds(*numbers) else "open") if sure else "",
        }
    print(f"\n{chapter}\n{pd.DataFrame.from_dict(rows, orient='index').to_string()}")


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.evidence")
    parser.add_argument("--check", action="store_true", help="run nothing; exit 1 when stale")
    parser.add_argument("--chapters", nargs="+", default=[], help="numbers or names (default: all)")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2", "3", "4"])
    parser.add_argument("--vary", metavar="NAME=A,B", help="values of one option of a chapter")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a dask cluster at tcp://...")
    parser.add_argument("--workers", default="1", help="runs at a time (default 1)")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the repository")
    args = parser.parse_args(arguments)
    if args.check:
        old = stale(args.root)
        print(f"Not of today's code: {', '.join(old)}. Run: make evidence" if old else
              "docs/evidence.json is up to date.")  # fmt: skip
        return int(bool(old))
    from tools import jobs, run

    vary = None
    if args.vary:
        try:
            [vary] = jobs.parse_sweeps([args.vary])
        except ValueError as mistake:
            parser.error(f"--vary takes one option and its values, as in limit=60,200 ({mistake}).")
    out = args.root / "runs" / "evidence"
    command = ["--root", str(args.root), "--profile", PROFILE, "--out", str(out)]
    command += ["--changed", "computes", "--workers", args.workers]
    command += ["--sweep", f"seed={','.join(args.seeds)}"]
    command += ["--sweep", args.vary] if args.vary else []
    command += ["--chapters", *args.chapters] if args.chapters else []
    command += ["--scheduler", args.scheduler] if args.scheduler else []
    code = run.main(command)
    if code > 1:  # the run did not start, or was stopped
        return code
    return int(bool(collect(args.root, out, args.chapters, vary)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
