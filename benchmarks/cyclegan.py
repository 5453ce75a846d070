"""Chapter 9's CycleGAN, in Keras and in PyTorch: the same networks, losses, pool and batches."""

import keras
import numpy as np
import tensorflow as tf

from helpers import chapters, data
from helpers.simulate import fruit

BATCH, SIZE = 8, 64
SHAPE = (SIZE, SIZE, 3)
POOL = 50


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return apples and oranges, uint8, shape (200, 64, 64, 3)."""
    return fruit.load("train", 200, 0, SIZE)


def batches(pictures) -> tf.data.Dataset:
    """Endless batches of apples and oranges."""
    return tf.data.Dataset.zip(*(data.batches(x, BATCH, s) for s, x in enumerate(pictures)))


def ours(pictures, jit: bool = False):
    """``fit`` with the chapter's ``train_step``."""
    chapter = chapters.import_chapter("09_cyclegan")
    model = chapter.CycleGAN(SHAPE, 0, pool=POOL)
    adam = [keras.optimizers.Adam(2e-3, beta_1=0.5) for _ in range(2)]
    model.compile(*adam, jit_compile=jit, steps_per_execution=5)
    source = batches(pictures)

    def train(steps):
        model.fit(source, epochs=1, steps_per_epoch=steps, verbose=0)

    return train


def _networks():
    """Build the chapter's generator and discriminator in PyTorch."""
    import torch
    from torch import nn

    chapter = chapters.import_chapter("09_cyclegan")
    widths = [
        layer.filters
        for layer in chapter.build_generator(SHAPE).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    first = chapter.build_discriminator(SHAPE).layers[1].filters

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, before = nn.ModuleList(), nn.ModuleList(), 3
            for level, width in enumerate(widths):
                norm = nn.InstanceNorm2d(width, affine=True) if level else nn.Identity()
                convolution = nn.Conv2d(before, width, 4, 2, 1)
                self.down.append(nn.Sequential(convolution, norm, nn.LeakyReLU(0.2)))
                before = width
            for width in widths[-2::-1]:
                convolution = nn.ConvTranspose2d(before, width, 4, 2, 1)
                norm = nn.InstanceNorm2d(width, affine=True)
                self.up.append(nn.Sequential(convolution, norm, nn.ReLU()))
                before = 2 * width
            self.change = nn.ConvTranspose2d(before, 3, 4, 2, 1)

        def forward(self, image):
            x, early = image, []
            for part in self.down:
                x = part(x)
                early.append(x)
            for part, skip in zip(self.up, early[-2::-1], strict=True):
                x = torch.cat([part(x), skip], 1)
            return (image + 2 * torch.tanh(self.change(x))).clamp(-1, 1)

    def discriminator():
        return nn.Sequential(
            nn.Conv2d(3, first, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(first, 2 * first, 4, 2, 1),
            nn.InstanceNorm2d(2 * first, affine=True),
            nn.LeakyReLU(0.2),
            nn.ZeroPad2d((1, 2, 1, 2)),
            nn.Conv2d(2 * first, 1, 4),
        )

    return [Generator(), Generator()], [discriminator(), discriminator()]


def pytorch(pictures, variant: str):
    """A plain PyTorch loop; variant is eager or channels_last."""
    import torch

    torch.manual_seed(0)
    generators, discriminators = _networks()
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    for network in (*generators, *discriminators):
        network.to(memory_format=layout)
    adam = [
        torch.optim.Adam([w for n in networks for w in n.parameters()], 2e-3, (0.5, 0.999))
        for networks in (generators, discriminators)
    ]
    sources = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in pictures]
    pools = [torch.randn(POOL, 3, SIZE, SIZE) for _ in range(2)]
    to_b, to_a = generators
    of_a, of_b = discriminators

    def squares(verdicts, answer):
        return ((verdicts - answer) ** 2).mean()

    def exchange(pool, fakes):
        places = torch.randperm(POOL)[: len(fakes)]
        old = pool[places].clone()
        pool[places] = fakes
        return torch.where(torch.rand(len(fakes), 1, 1, 1) < 0.5, old, fakes)

    def step():
        a, b = (
            (x[torch.randint(0, len(x), (BATCH,))].float() / 127.5 - 1).to(memory_format=layout)
            for x in sources
        )
        fake_b, same_b = to_b(torch.cat([a, b])).chunk(2)
        fake_a, same_a = to_a(torch.cat([b, a])).chunk(2)
        cycle = (to_a(fake_b) - a).abs().mean() + (to_b(fake_a) - b).abs().mean()
        identity = (same_a - a).abs().mean() + (same_b - b).abs().mean()
        fooling = squares(of_a(fake_a), 1) + squares(of_b(fake_b), 1)
        adam[0].zero_grad(set_to_none=True)
        (fooling + 10 * cycle + 5 * identity).backward()
        adam[0].step()
        old_a, old_b = exchange(pools[0], fake_a.detach()), exchange(pools[1], fake_b.detach())
        loss = squares(of_a(a), 1) + squares(of_a(old_a), 0)
        loss = loss + squares(of_b(b), 1) + squares(of_b(old_b), 0)
        adam[1].zero_grad(set_to_none=True)
        loss.backward()
        adam[1].step()

    def train(steps):
        for _ in range(steps):
            step()

    return train


def available(pictures) -> dict:
    """Return {name: function that builds the contestant}; PyTorch only where it is installed."""
    makers = {"ours": lambda: ours(pictures), "ours, XLA": lambda: ours(pictures, jit=True)}
    try:
        import torch  # noqa: F401
    except ImportError:
        return makers
    for variant in ("eager", "channels_last"):
        makers[f"PyTorch {variant}"] = lambda v=variant: pytorch(pictures, v)
    return makers
