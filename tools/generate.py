"""Draws with a generator that chapter 13 kept.

    python -m tools.generate FOLDER --count 100 --seed 3 --out pictures/
    python -m tools.generate FOLDER --count 0 --walk 8 --out pictures/

The same seed gives the same pictures; picture 7 of 10 is picture 7 of 100. Nothing is overwritten.
"""

import argparse
import importlib
import pathlib
import sys

FRAMES = 12  # of a walk, from one code to the next
MOST = 100_000


class UsageError(ValueError):
    """It cannot be drawn as it was asked for; the message says what to write instead."""


def codes(count: int, latent_dim: int, seed: int):
    """Return standard normal codes, shape (count, latent_dim), as chapter 13 draws them."""
    import numpy as np

    return np.random.default_rng(seed).standard_normal((count, latent_dim), dtype="float32")


def load(folder: str):
    """Return the generator of a folder."""
    path = pathlib.Path(folder).expanduser()
    file = path / "generator.keras"
    if not path.is_dir():
        raise UsageError(f"There is no folder {folder}: give the one that chapter 13 named.")
    if not file.is_file():
        raise UsageError(f"{folder} has no generator.keras: give a folder that chapter 13 kept.")
    importlib.import_module("helpers")  # before Keras: TensorFlow without its messages
    import keras

    try:
        return keras.models.load_model(file, compile=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UsageError(
            f"{file} cannot be opened ({reason}): keep the generator again with chapter 13."
        ) from None


def walk_between(stops):
    """Return the codes of chapter 13's walk from stop to stop and back to the first."""
    from helpers import chapters

    return chapters.import_chapter("13_your_pictures").walk(stops, FRAMES).astype("float32")


def free_path(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Return where a file goes; raise a UsageError where one lies there already."""
    if (folder / name).exists():
        raise UsageError(f"{folder / name} exists already: give another folder with --out.")
    return folder / name


def save_pictures(generator, count: int, seed: int, folder: pathlib.Path) -> None:
    """Write count PNG files."""
    from helpers.studies import keeping

    latent = codes(count, generator.input_shape[-1], seed)
    width = max(4, len(str(count)))
    paths = [free_path(folder, f"{n:0{width}d}.png") for n in range(1, count + 1)]
    for start in range(0, count, 100):
        made = generator(latent[start : start + 100], training=False).numpy()
        for path, image in zip(paths[start:], made, strict=False):
            path.write_bytes(keeping.png(image))


def save_walk(generator, stops: int, seed: int, path: pathlib.Path) -> None:
    """Write a GIF that goes through some codes and back."""
    from helpers import plots

    latent = walk_between(codes(stops, generator.input_shape[-1], seed))
    frames = [generator(latent[i : i + 1], training=False).numpy()[0] for i in range(len(latent))]
    path.write_bytes(plots.gif(frames, seconds_per_frame=0.1, last=0.1))


def draw(args) -> str:
    """Do what the command line says; return a sentence about it."""
    if not 0 <= args.count <= MOST or args.walk < 0 or args.walk == 1:
        raise UsageError(
            f"--count is {args.count}, --walk {args.walk}: give 0 to {MOST} pictures, and a walk "
            "with 2 codes or more."
        )
    if not args.count and not args.walk:
        raise UsageError("There is nothing to draw: give --count, --walk or both.")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}: give 0 or more.")
    generator = load(args.folder)
    out = pathlib.Path(args.out).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
        walk = free_path(out, "walk.gif") if args.walk else None
        save_pictures(generator, args.count, args.seed, out)
        if walk:
            save_walk(generator, args.walk, args.seed, walk)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): give another one.") from None
    walked = f" and a walk through {args.walk} codes" if args.walk else ""
    return f"{args.count} pictures{walked} are in {out}."


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate")
    parser.add_argument("folder", help="what chapter 13 kept: it holds generator.keras")
    parser.add_argument("--count", type=int, default=16, help="pictures (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default 0)")
    parser.add_argument("--out", default="pictures", help="where they go (default pictures/)")
    parser.add_argument("--walk", type=int, default=0, help="also a GIF through so many codes")
    try:
        print(draw(parser.parse_args(arguments)))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
