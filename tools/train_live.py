"""Make the weights of the book's live pages, docs/book/live/*.weights.js, with the chapters' code.

    python -m tools.train_live                           all three, seed 0: about 8 CPU minutes
    python -m tools.train_live latent_walk --part 0.2    one of them, a fifth of its training

``game`` holds the first weights of chapter 1's game on numbers, ``latent_plane`` the decoder of
chapter 2's VAE with two latent numbers, ``latent_walk`` the averaged generator of chapter 4. They
are trained as their chapters train them under ``laptop``; the pages say for how many steps. The
weights are kept in half precision, as text in a script, because a page that was opened from a
folder may not read files.
"""

import argparse
import base64
import json

import keras
import numpy as np

from helpers import chapters, data, experiment, files
from tools import book

SEED = 0
SETTINGS = (  # of a layer: what decides what it computes
    "activation", "epsilon", "filters", "interpolation", "kernel_size", "negative_slope", "padding",
    "size", "strides", "target_shape", "units", "use_bias",
)  # fmt: skip


def prepared(name: str):
    """Return a chapter's definitions, with the run and the digits that its cells use."""
    chapter = chapters.import_chapter(name)
    run = experiment.start("laptop", SEED, chapter=name)
    images, _ = data.load("mnist", "train")
    vars(chapter).update(run=run, images=images)
    return chapter


def game(part: float) -> tuple[dict, int]:
    """Return both players of chapter 1 before their first move, whatever ``part`` is."""
    chapter = prepared("01_introduction")
    keras.utils.set_random_seed(SEED)
    generator = chapter.build_generator(1)
    discriminator = chapter.build_discriminator(1)
    return {"generator": generator, "discriminator": discriminator}, 0


def latent_plane(part: float) -> tuple[dict, int]:
    """Return the decoder of chapter 2's VAE with two latent numbers, and its training steps."""
    chapter = prepared("02_autoencoder")
    epochs = max(1, round(15 * part))
    vars(chapter).update(steps=240, long=epochs)
    vae, _ = chapter.train_vae(2)
    return {"decoder": vae.decoder}, 240 * epochs


def latent_walk(part: float) -> tuple[dict, int]:
    """Return the averaged generator of chapter 4's plain DCGAN, and its training steps."""
    chapter = prepared("04_dcgan")
    epochs = max(1, round(72 * part))
    vars(chapter).update(steps=3600, report=50)
    gan = chapter.new_dcgan()
    batches = data.batches(chapter.images, chapter.batch_size, SEED)
    gan.fit(batches, epochs=epochs, steps_per_epoch=50, verbose=2)
    return {"generator": gan.average}, 50 * epochs


PAGES = {"game": game, "latent_plane": latent_plane, "latent_walk": latent_walk}


def described(network) -> dict:
    """Return a network as data: its layers in order, and all their weights in one text.

    Returns:
        {"input": shape, "layers": [{"kind", "settings", "shapes"}], "weights": base64 of float16}.
    """
    layers, weights = [], []
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        config = layer.get_config()
        settings = {name: config[name] for name in SETTINGS if name in config}
        shapes = [list(weight.shape) for weight in layer.get_weights()]
        layers.append({"kind": type(layer).__name__, "settings": settings, "shapes": shapes})
        weights += [weight.ravel() for weight in layer.get_weights()]
    halves = np.concatenate(weights).astype("<f2")
    text = base64.b64encode(halves.tobytes()).decode("ascii")
    return {"input": list(network.input_shape[1:]), "layers": layers, "weights": text}


def rebuilt(description: dict) -> keras.Model:
    """Return the Keras model that ``described`` was given, with its rounded weights."""
    halves = np.frombuffer(base64.b64decode(description["weights"]), "<f2").astype("float32")
    model = keras.Sequential([keras.Input(description["input"])])
    for layer in description["layers"]:
        model.add(getattr(keras.layers, layer["kind"])(**layer["settings"]))
    weights, first = [], 0
    for shape in [shape for layer in description["layers"] for shape in layer["shapes"]]:
        size = int(np.prod(shape))
        weights.append(halves[first : first + size].reshape(shape))
        first += size
    model.set_weights(weights)
    return model


def write(page: str, networks: dict, steps: int) -> None:
    """Write the weights of a page, and their sha256 into the list of the book's files."""
    described_networks = {name: described(network) for name, network in networks.items()}
    text = json.dumps(described_networks, separators=(",", ":"))
    content = f"window.networks_of_page = {text};\n".encode()
    relative = f"live/{page}.weights.js"
    files.write_whole(book.SOURCES / relative, content)
    book.register(relative, content, made_by="tools/train_live.py", steps=steps)
    print(f"{relative}: {len(content):,} bytes")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the weights of the book's live pages.")
    parser.add_argument("pages", nargs="*", default=list(PAGES), choices=[*PAGES, []])
    parser.add_argument("--part", type=float, default=1.0, help="of the chapters' training steps")
    args = parser.parse_args()
    for page in args.pages:
        write(page, *PAGES[page](args.part))


if __name__ == "__main__":
    main()
