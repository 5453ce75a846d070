"""Chapter 10's robust model under attacks that take too long for a notebook.

python -m benchmarks.attacks                     train as the notebook does under laptop, measure
python -m benchmarks.attacks --weights FILE      measure these weights (Keras' .weights.h5)

Writes benchmarks/attacks.json. AutoAttack (Croce and Hein 2020: APGD by the cross-entropy, APGD
and FAB for nine targets each, Square) is that of torchattacks, so the network is copied to PyTorch:
pip install -r benchmarks/requirements.txt torchattacks.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import time

import keras
import numpy as np

from helpers import chapters, data
from helpers.studies import robustness

HERE = pathlib.Path(__file__).parent
EPS = 0.3


def classifier(weights, steps: int, seed: int) -> keras.Model:
    """Return the chapter's network: with weights of a file, or trained by the chapter's recipe."""
    chapter = chapters.import_chapter("10_adversarial_examples")
    images, labels = data.load("mnist", "train")
    model = chapter.new_model(seed, steps, ramp=steps // 2)
    if weights:
        model.network.load_weights(weights)
    else:
        chapter.train(model, images, labels, steps, chapter.count_part(steps), seed)
    return model.network


def in_torch(network: keras.Model):
    """Return the same network as a PyTorch module, images (n, 1, 28, 28) -> logits (n, 10)."""
    import torch
    from torch import nn

    class Channelwise(nn.Module):
        """Flatten as Keras does: the channels last."""

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    found = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):  # 4 x 4, stride 2: "same" is one pixel a side
            kernel, bias = layer.get_weights()
            module = nn.Conv2d(kernel.shape[2], kernel.shape[3], 4, 2, 1)
            kernel = kernel.transpose(3, 2, 0, 1)
        elif isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            module, kernel = nn.Linear(*kernel.shape), kernel.T
        else:
            found += [Channelwise()] if isinstance(layer, keras.layers.Flatten) else []
            continue
        module.weight.data, module.bias.data = torch.tensor(kernel.copy()), torch.tensor(bias)
        found += [module, nn.ReLU()]
    return nn.Sequential(*found[:-1]).eval()


def auto_attack(network: keras.Model, images, labels, batch_size: int = 250) -> float:
    """Return the accuracy under torchattacks' AutoAttack, its standard version."""
    import torch
    import torchattacks

    module = in_torch(network)
    attack = torchattacks.AutoAttack(module, norm="Linf", eps=EPS, version="standard", seed=0)
    right = []
    for i in range(0, len(images), batch_size):
        x = torch.tensor(images[i : i + batch_size].transpose(0, 3, 1, 2))
        y = torch.tensor(labels[i : i + batch_size]).long()
        found = attack(x, y)
        assert (found - x).abs().max() <= EPS + 1e-5
        right.append((module(found).argmax(1) == y).numpy())
        print(f"AutoAttack, {i + len(y)} digits: {np.concatenate(right).mean():.4f}", flush=True)
    return float(np.concatenate(right).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a file of Keras; by default the model is trained")
    parser.add_argument("--steps", type=int, default=5000, help="of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--digits", type=int, default=1000, help="the first test digits")
    parser.add_argument("--restarts", type=int, default=50)
    chosen = parser.parse_args()
    chapter = chapters.import_chapter("10_adversarial_examples")
    network = classifier(chosen.weights, chosen.steps, chosen.seed)
    logits = robustness.compiled(network)
    images, labels = data.load("mnist", "test")
    images, labels = data.to_unit(images[: chosen.digits]), labels[: chosen.digits]
    found = {
        "weights": pathlib.Path(chosen.weights or "trained as in the chapter").name,
        "date": datetime.date.today().isoformat(),
        "digits": len(images), "eps": EPS, "steps of training": chosen.steps, "seed": chosen.seed,
        "weights sha256": hashlib.sha256(
            b"".join(w.tobytes() for w in network.get_weights())
        ).hexdigest(),
    }  # fmt: skip
    random = keras.random.SeedGenerator(chosen.seed)
    for steps, restarts in ((40, 3), (100, chosen.restarts)):

        def attack(x, y, steps=steps):
            return chapter.pgd(logits, x, y, EPS, steps, random=random)

        started = time.perf_counter()
        alive = chapter.correct_under_attack(logits, images, labels, attack, restarts).mean(axis=1)
        found["clean"] = alive[0]
        found[f"PGD {steps} steps, {restarts} starts"] = alive[-1]
        print(f"PGD {steps} x {restarts}: {alive[-1]:.4f}, {time.perf_counter() - started:.0f} s")
    theirs = robustness.library_pgd(logits, images, labels, EPS, 40, 2.5 * EPS / 40, 3)
    theirs = np.mean(robustness.predicted(logits, theirs) == labels)
    found["PGD 40 steps, 3 starts, Adversarial Robustness Toolbox"] = theirs
    found["AutoAttack, torchattacks"] = auto_attack(network, images, labels)
    path = HERE / "attacks.json"
    path.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
