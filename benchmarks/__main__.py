"""Measure and write benchmarks/README.md.

python -m benchmarks                  everything (about 30 minutes on two cores)
python -m benchmarks --only speed     images per second and memory
python -m benchmarks --only memory    memory alone, after the speed
python -m benchmarks --only quality   CPU seconds to the quality of the classic recipe
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import jinja2

from benchmarks import contestants, quality

HERE = pathlib.Path(__file__).parent
TARGETS = (
    ("DCGAN", "classic loop", 2.2),
    ("DCGAN", "best PyTorch", 1.1),
    ("CycleGAN", "best PyTorch", 1.0),
)


def speed(models, rounds: int, steps: int, found: dict) -> None:
    """Run the contestants in turn (A B C A B C ...) and put images/s of every round into found."""
    for part in ("pipeline_share", "rates"):
        found.setdefault(part, {})
    for model in models:
        images, batch = contestants.images_of(model), contestants.BATCHES[model]
        trains, rates = {}, {}
        for name, make in contestants.available(model, images).items():
            try:
                trains[name] = make()
                trains[name](20)  # compile, allocate
            except Exception as error:  # PyTorch's compiler needs a C++ compiler
                print(f"{model}, {name} left out: {str(error).splitlines()[0][:100]}", flush=True)
                trains.pop(name, None)
        for number in range(rounds):
            for name, train in trains.items():
                started = time.perf_counter()
                train(steps)
                rate = steps * batch / (time.perf_counter() - started)
                rates.setdefault(name, []).append(rate)
                print(f"{model} round {number + 1} {name:22s} {rate:7.0f} images/s", flush=True)
        found["rates"][model] = rates
        step = batch / statistics.median(rates["ours"])
        found["pipeline_share"][model] = contestants.pipeline_seconds(model, images) / step


def memory(models, rates: dict) -> dict:
    """Return the peak memory in MiB of every contestant, each in a process of its own."""
    return {model: {name: _memory(model, name) for name in rates[model]}
            for model in models if model in rates}  # fmt: skip


def _memory(model: str, name: str) -> float:
    code = (
        "import sys; from benchmarks import contestants as c; print(c.peak_memory(*sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, model, name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout.split()[-1])


def ratios(rates: dict) -> dict[str, list[float]]:
    """Return ours / other, round by round; neighbours in time see the same machine."""
    found = {
        name: [a / b for a, b in zip(rates["ours"], values, strict=True)]
        for name, values in rates.items()
    }
    torch = [name for name in rates if name.startswith("PyTorch")]
    if torch:
        best = max(torch, key=lambda name: statistics.median(rates[name]))
        found["best PyTorch"] = found[best]
    return found


def report(found: dict) -> str:
    """Write what was measured as Markdown."""
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters["median"] = statistics.median
    tables = {model: ratios(rates) for model, rates in found.get("rates", {}).items()}
    template = environment.get_template("README.md.jinja")
    text = template.render(**found, tables=tables, targets=TARGETS, batches=contestants.BATCHES)
    return text.rstrip() + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", choices=("speed", "memory", "quality"))
    parser.add_argument("--models", nargs="+", choices=contestants.BATCHES, metavar="MODEL",
                        default=list(contestants.BATCHES), help="measure these alone")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="steps of a contestant in a round")
    parser.add_argument("--minutes", type=float, default=10, help="for the classic recipe")
    args = parser.parse_args()
    path = HERE / "results.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if args.only in (None, "speed"):
        speed(args.models, args.rounds, args.steps, found)
    if args.only in (None, "speed", "memory"):
        found.setdefault("memory", {}).update(memory(args.models, found["rates"]))
    if args.only in (None, "quality"):
        found["quality"] = quality.measure(args.minutes)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n")
    text = report(found)
    (HERE / "README.md").write_text(text, encoding="utf-8", newline="\n")
    print(text)


if __name__ == "__main__":
    main()
