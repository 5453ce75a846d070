"""Train chapter 6's progressive GAN for longer, and export it as the course's Hub module.

    python -m tools.train_hub_module --epochs 4 8 12 36

Twice the chapter's channels; the learning rate falls to 0 over the last stage. The module goes to
``data/hub/garments-32``, its files into ``data/manifest.json``. It is measured once, with 10,000
samples against the test images; nothing was chosen by that number.
"""

import argparse
import json
import shutil
import time

import keras
import numpy as np

from helpers import callbacks, chapters, compute, data, experiment, files, metrics
from helpers.sources import hub
from helpers.studies import pyramids
from tools import manifest, train_reference

LATENT, BATCH, STEPS, RATE = 64, 64, 250, 1e-2
SIZES = (4, 8, 16, 32)
LARGEST = 6 * 10**6  # bytes


def stage(chapter, size: int, old, widths, seed: int, steps: int):
    """Return the GAN of one stage, with the weights of the one before."""
    parts = {"parts": chapter.PARTS, "widths": widths}
    networks = (
        chapter.build_generator(LATENT, size, **parts),
        chapter.build_discriminator((size, size, 1), **parts),
        chapter.build_generator(LATENT, size, **parts),
    )
    gan = chapter.ProgressiveGAN(*networks, seed, decay=0.99 if size < 32 else 0.998)
    if old is not None:
        for player in ("generator", "discriminator", "average"):
            chapter.carry_over(getattr(old, player), getattr(gan, player))
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps) if size == SIZES[-1] else RATE
    adam = [keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.99) for _ in range(2)]
    losses = chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss
    gan.compile(*adam, losses=losses, **compute.compile_options(STEPS))
    return gan


def train(epochs, width: int = 2, seed: int = 0, fade: int = 500):
    """Train all stages, ``epochs`` of 250 steps each; return the last GAN and its CPU seconds."""
    chapter = chapters.import_chapter("06_progressive_gan")
    images = pyramids.pad(data.load("fashion-mnist", "train")[0])
    widths, gan = {size: width * n for size, n in chapter.WIDTHS.items()}, None
    started = time.process_time()
    for size, count in zip(SIZES, epochs, strict=True):
        gan = stage(chapter, size, gan, widths, seed, STEPS * count)
        batches = data.batches(pyramids.shrink(images, size), BATCH, seed)
        watch = [chapter.fade_in(gan, fade), callbacks.Progress()]
        gan.fit(batches, epochs=count, steps_per_epoch=STEPS, verbose=0, callbacks=watch)
    return gan, time.process_time() - started


def measure(gan, count: int = 10000) -> float:
    """Return the FID of ``count`` samples against as many test images."""
    latent = np.random.default_rng(1).standard_normal((count, LATENT), dtype="float32")
    made = gan.generate(latent)[:, 2:-2, 2:-2]
    features = metrics.load_classifier("fashion-mnist").features(made)
    return metrics.fid(metrics.real_features("fashion-mnist", count), features)


def store(gan, card: dict) -> int:
    """Export to ``data/hub/``, write the manifest; return the bytes of the module."""
    prefix = f"hub/{hub.EMBEDDED}/"
    folder = files.DATA / prefix
    shutil.rmtree(folder, ignore_errors=True)
    weights = [train_reference.half(values) for values in gan.average.get_weights()]
    gan.average.set_weights(weights)
    hub.export(gan.average, LATENT, folder, card)
    with manifest.edited() as content:
        kept = {k: v for k, v in content["files"].items() if not k.startswith(prefix)}
        content["files"] = kept
        content["sets"]["hub"] = {
            "title": "A generator of garments, 32 x 32, as a TensorFlow Hub module",
            "source": "trained on the sets above by tools/train_hub_module.py",
            "licence": "as the course",
        }
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [manifest.register(prefix + p.relative_to(folder).as_posix()) for p in paths]
    return sum(entry["bytes"] for entry in entries)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, nargs=4, default=(4, 8, 12, 36), metavar="N",
                        help="of 250 steps, at 4, 8, 16 and 32 pixels")  # fmt: skip
    parser.add_argument("--width", type=int, default=2, help="times the chapter's channels")
    args = parser.parse_args()
    experiment.start("gpu", 0)
    gan, seconds = train(args.epochs, args.width)
    card = {
        "title": "Garments like those of Fashion-MNIST, 32 x 32, progressive GAN of chapter 6",
        "fid": round(measure(gan), 2),
        "fid_samples": 10000,
        "epochs_of_250_steps": list(args.epochs),
        "width": args.width,
        "cpu_seconds": round(seconds),
    }
    size = store(gan, card)
    if size > LARGEST:
        raise SystemExit(f"The module has {size} bytes, more than {LARGEST}: use a smaller width.")
    print(json.dumps(card, indent=1), f"{size} bytes", sep="\n")


if __name__ == "__main__":
    main()
