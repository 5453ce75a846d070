"""The same GANs trained in three ways; each contestant is a function ``train(steps)``.

All of them make one step of the discriminator and one of the generator with fresh noise, on
batches of ``BATCH`` MNIST digits, with Adam and the losses of chapter 3.
"""

import pathlib

import keras
import numpy as np

from benchmarks import cyclegan
from helpers import chapters, data

BATCH, LATENT = 64, 64
IMAGE_SHAPE = (28, 28, 1)
CHAPTERS = {"dense GAN": "03_vanilla_gan", "DCGAN": "04_dcgan"}
BATCHES = {"dense GAN": BATCH, "DCGAN": BATCH, "CycleGAN": cyclegan.BATCH}


def images_of(model: str):
    """Return what a model is trained with: digits, or apples and oranges."""
    return cyclegan.images() if model == "CycleGAN" else data.load("mnist", "train")[0]


def networks(model: str):
    """Return the generator and the discriminator of a chapter."""
    chapter = chapters.import_chapter(CHAPTERS[model])
    return chapter.build_generator(LATENT), chapter.build_discriminator(IMAGE_SHAPE)


def classic(model: str, images, batch: int = BATCH, parts=None, rate: float = 2e-4):
    """The loop of older courses: predict, train_on_batch, ``trainable`` switched to and fro."""
    generator, discriminator = parts or networks(model)
    latent_dim, rng = generator.input_shape[1], np.random.default_rng(0)
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    discriminator.compile(keras.optimizers.Adam(rate, beta_1=0.5), entropy)
    discriminator.trainable = False
    latent = keras.Input((latent_dim,))
    combined = keras.Model(latent, discriminator(generator(latent)))
    combined.compile(keras.optimizers.Adam(rate, beta_1=0.5), entropy)
    real_images = data.to_symmetric(images)
    ones, zeros = np.ones((batch, 1), np.float32), np.zeros((batch, 1), np.float32)

    def noise():
        return rng.standard_normal((batch, latent_dim)).astype(np.float32)

    def train(steps):
        for _ in range(steps):
            real = real_images[rng.integers(0, len(real_images), batch)]
            fake = generator.predict(noise(), verbose=0)
            discriminator.trainable = True
            discriminator.train_on_batch(real, ones)
            discriminator.train_on_batch(fake, zeros)
            discriminator.trainable = False
            combined.train_on_batch(noise(), ones)

    return train


def ours(model: str, images, jit: bool = False):
    """``fit`` with the chapter's ``train_step``."""
    chapter3 = chapters.import_chapter("03_vanilla_gan")
    gan = chapter3.GAN(*networks(model), 0)
    adam = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2)]
    losses = (chapter3.generator_loss, chapter3.discriminator_loss)
    gan.compile(*adam, losses=losses, jit_compile=jit, steps_per_execution=10)
    batches = data.batches(images, BATCH, 0)

    def train(steps):
        gan.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0)

    return train


def _torch_networks(model: str):
    """Build a chapter's networks in PyTorch, layer by layer."""
    from torch import nn

    def translate(network):
        made, shape = [], network.input_shape
        for layer in network.layers[1:]:
            kind, before = type(layer).__name__, shape
            shape = layer.output.shape
            if kind == "Dense":
                made.append(nn.Linear(before[-1], layer.units, layer.use_bias))
            elif kind in ("Conv2D", "Conv2DTranspose"):
                make = nn.Conv2d if kind == "Conv2D" else nn.ConvTranspose2d
                made.append(make(before[-1], layer.filters, 4, 2, 1, bias=layer.use_bias))
            elif kind == "BatchNormalization":
                make = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
                made.append(make(shape[-1]))
            elif kind == "Reshape":
                made.append(nn.Unflatten(1, (shape[3], *shape[1:3])))
            else:
                simple = {
                    "LeakyReLU": nn.LeakyReLU(0.2),
                    "ReLU": nn.ReLU(),
                    "Flatten": nn.Flatten(),
                    "Dropout": nn.Dropout(0.3),
                }
                made.append(simple[kind])
            if getattr(layer, "activation", None) is keras.activations.tanh:
                made.append(nn.Tanh())
        return nn.Sequential(*made)

    return [translate(network) for network in networks(model)]


def pytorch(model: str, images, variant: str):
    """A plain PyTorch loop; variant is eager, channels_last or compile."""
    import torch
    from torch.nn.functional import softplus

    torch.manual_seed(0)
    generator, discriminator = _torch_networks(model)
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    generator.to(memory_format=layout), discriminator.to(memory_format=layout)
    adam = [
        torch.optim.Adam(p.parameters(), 2e-4, (0.5, 0.999)) for p in (generator, discriminator)
    ]
    source = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    def discriminator_loss(real):
        fake = generator(torch.randn(BATCH, LATENT)).detach()
        return softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()

    def generator_loss():
        return softplus(-discriminator(generator(torch.randn(BATCH, LATENT)))).mean()

    if variant == "compile":
        discriminator_loss, generator_loss = map(
            torch.compile, (discriminator_loss, generator_loss)
        )

    def train(steps):
        for _ in range(steps):
            index = torch.randint(0, len(source), (BATCH,))
            real = (source[index].float() / 127.5 - 1).to(memory_format=layout)
            for loss, arguments, optimizer in (
                (discriminator_loss, (real,), adam[1]),
                (generator_loss, (), adam[0]),
            ):
                optimizer.zero_grad(set_to_none=True)
                loss(*arguments).backward()
                optimizer.step()

    return train


def available(model: str, images) -> dict:
    """Return {name: function that builds the contestant}; PyTorch only where it is installed."""
    if model == "CycleGAN":
        return cyclegan.available(images)
    makers = {
        "classic loop": lambda: classic(model, images),
        "ours": lambda: ours(model, images),
        "ours, XLA": lambda: ours(model, images, jit=True),
    }
    try:
        import torch  # noqa: F401
    except ImportError:
        return makers
    for variant in ("eager", "channels_last", "compile"):
        makers[f"PyTorch {variant}"] = lambda v=variant: pytorch(model, images, v)
    return makers


def peak_memory(model: str, name: str) -> float:
    """Train 20 steps and return the largest resident memory of this process, in MiB."""
    import psutil

    available(model, images_of(model))[name]()(20)
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset / 2**20
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # Linux, where ru_maxrss also counts what the parent process held
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def pipeline_seconds(model: str, images, batches: int = 500) -> float:
    """Return how long one batch of the input pipeline takes when nothing else is done."""
    import time

    source = cyclegan.batches(images) if model == "CycleGAN" else data.batches(images, BATCH, 0)
    source = iter(source)
    next(source)
    started = time.perf_counter()
    for _ in range(batches):
        next(source)
    return (time.perf_counter() - started) / batches
