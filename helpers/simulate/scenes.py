"""Scenes: where a fruit lies, how it is lit and what is behind it; ``fruit`` draws it.

A scene holds everything that an apple and an orange in the same picture have in common. Colours are
computed linear, as squares of display values, so that light adds up as in nature.
"""

import dataclasses
import functools

import numpy as np
import scipy.ndimage

BACKGROUNDS = ("plain", "table", "cloth", "wood", "garden")
DRAWS = 80  # uniform numbers of one scene; a row of them is one scene, whatever n is


@dataclasses.dataclass(frozen=True)
class Scenes:
    """What both kinds share; arrays of n, float32 but for the two that are named otherwise.

    Lengths are in widths of the picture (x to the right, y downwards), angles in radians.
    """

    x: np.ndarray  # the fruit's centre
    y: np.ndarray
    radius: np.ndarray  # 0.28 to 0.40
    tilt: np.ndarray  # of the axis, to the right
    nod: np.ndarray  # of the axis, towards the viewer
    turn: np.ndarray  # about the axis
    ripeness: np.ndarray  # 0 (green) to 1 (red, deep orange)
    leaf: np.ndarray  # bool: is there one?
    leaf_angle: np.ndarray  # above the horizontal; more than pi / 2 points to the left
    light: np.ndarray  # (n, 3): unit vector to the light; x right, y up, z to the viewer
    strength: np.ndarray  # of the light
    ambient: np.ndarray  # light from everywhere
    tint: np.ndarray  # (n, 3): colour of the light
    background: np.ndarray  # int: place in BACKGROUNDS
    horizon: np.ndarray  # y of the table's far edge
    far: np.ndarray  # (n, 3): colour above the horizon
    near: np.ndarray  # (n, 3): colour below it
    skin: np.ndarray  # (n, 6): uniform numbers for the fruit's texture, stem and cheek
    detail: np.ndarray  # (n, 40): uniform numbers for the background's texture

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part) -> "Scenes":
        """Return some of the scenes: a slice, a list of places or a mask."""
        return Scenes(*(getattr(self, field.name)[part] for field in dataclasses.fields(self)))


def random_scenes(n: int, seed) -> Scenes:
    """Draw random scenes; scene i follows from the seed alone, not from n.

    Args:
        n: how many, at least 1.
        seed: an integer from 0 to 2**32 - 1, or a tuple of them.

    Raises:
        ValueError: n is below 1, or the seed is out of range.
    """
    if n < 1:
        raise ValueError(f"n is {n}: ask for at least 1 scene.")
    # From 2**32 on, NumPy would take one number for two: (0, 1) is the same as 2**32.
    if not all(0 <= number < 2**32 for number in np.atleast_1d(seed)):
        raise ValueError(f"seed is {seed}: give 0 or more, below 2**32.")
    draws = np.random.default_rng(seed).random((n, DRAWS))
    column = iter(draws.T)

    def between(low, high):
        return (low + (high - low) * next(column)).astype(np.float32)

    radius = between(0.28, 0.40)
    side, height = between(-1.1, 1.1), between(0.45, 1.05)
    light = [np.sin(side) * np.cos(height), np.sin(height), np.cos(side) * np.cos(height)]
    warm = between(-1, 1)
    right = between(0, 1) < 0.5
    lift = between(-0.1, 0.75)
    background = np.minimum(between(0, 5).astype(int), 4)
    far, near = (
        _colour(between(0, 1), between(0.05, 0.4), between(low, 0.95)) for low in (0.3, 0.4)
    )
    return Scenes(
        x=0.5 + between(-1, 1) * (0.53 - radius),
        y=0.57 + between(-1, 1) * (0.43 - radius),
        radius=radius,
        tilt=between(-0.45, 0.45),
        nod=between(0.28, 0.8),
        turn=between(0, 2 * np.pi),
        ripeness=between(0, 1),
        leaf=between(0, 1) < 0.5,
        leaf_angle=np.where(right, lift, np.float32(np.pi) - lift),
        light=np.stack(light, axis=-1),
        strength=between(0.75, 1.15),
        ambient=between(0.22, 0.42),
        tint=1 + warm[:, None] * np.float32([0.08, 0.0, -0.14]),
        background=background,
        horizon=between(0.3, 0.6),
        far=far,
        near=near,
        skin=draws[:, -46:-40].astype(np.float32),
        detail=draws[:, -40:].astype(np.float32),
    )


def _colour(hue, saturation, value) -> np.ndarray:
    """Return linear colours (n, 3) for hue, saturation and value in [0, 1]."""
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * (hue[:, None] + np.float32([0, 1 / 3, 2 / 3])))
    return (value[:, None] * (1 - saturation[:, None] * wave)) ** 2


def linear(red, green, blue) -> np.ndarray:
    """Return a display colour in [0, 1] as linear, shaped (3, 1, 1) for planes of colour."""
    return np.square(np.float32([red, green, blue])).reshape(3, 1, 1)


def mix(first, second, weight):
    """Go from the first to the second as the weight goes from 0 to 1."""
    return first + (second - first) * weight


def smoothstep(low, high, values):
    """Go smoothly from 0 (below low) to 1 (above high)."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@functools.cache
def noise(sigma: float, across: float = 0) -> np.ndarray:
    """Return periodic noise (256, 256), about N(0, 1), smooth over sigma rows, across columns."""
    white = np.random.default_rng(256).standard_normal((256, 256))
    smooth = scipy.ndimage.gaussian_filter(white, (sigma, across or sigma), mode="wrap")
    return (smooth / smooth.std()).astype(np.float32)


def sample_texture(texture, u, v):
    """Return a texture's values at (u, v); it repeats after 1 in both directions."""
    rows, columns = ((256 * w).astype(np.int32) & 255 for w in (v, u))
    return texture.ravel()[rows * 256 + columns]


def background(s: Scenes, size: int) -> np.ndarray:
    """Return the scenes without fruit but with its shadow: linear, (n, 3, size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = axis[None, None, :], axis[None, :, None]
    picture = np.empty((len(s), 3, size, size), np.float32)
    painters = (_plain, _table, _cloth, _wood, _garden)
    for i, number in enumerate(s.background):
        picture[i] = painters[number](s, i, x, y)

    def per_image(values):
        return values[:, None, None]

    # The ground's shadow: a wide one away from the light, and a dark one where the fruit stands.
    slope = np.clip(s.light[:, 0] / s.light[:, 1], -1.2, 1.2)
    centre = s.x - 0.5 * slope * s.radius
    base = s.y + 0.86 * s.radius
    across = (x - per_image(centre)) / per_image(s.radius * (1 + 0.3 * abs(slope)))
    down = (y - per_image(base)) / per_image(0.3 * s.radius)
    wide = np.exp(-1.3 * (across**2 + down**2) ** 2)
    across = (x - per_image(s.x)) / per_image(0.62 * s.radius)
    down = (y - per_image(base)) / per_image(0.14 * s.radius)
    tight = np.exp(-(across**2) - down**2)
    lit = 1 - np.maximum(0.7 * wide * per_image(np.minimum(s.strength, 1)), 0.85 * tight)
    # Nearer to the light it is brighter.
    toward = per_image(s.light[:, 0]) * (x - 0.5) - per_image(s.light[:, 1]) * (y - 0.5)
    lit *= per_image(s.strength) * (0.85 + 0.45 * toward)
    picture *= lit[:, None]
    picture *= s.tint[:, :, None, None]
    return picture


def _plain(s, i, x, y):
    return mix(s.far[i, :, None, None], s.near[i, :, None, None], smoothstep(0.0, 0.9, y))


def _table(s, i, x, y):
    u, v = s.detail[i, :2]
    depth = 0.3 / np.maximum(y - s.horizon[i] + 0.15, 0.1)
    grain = sample_texture(noise(1, 8), 0.4 * (x - 0.5) * depth + u, 0.5 * depth + v)
    wall = s.far[i, :, None, None] * (1 - 0.25 * (1 - y / s.horizon[i]))
    table = s.near[i, :, None, None] * (1 + 0.07 * grain)
    return mix(wall, table, y > s.horizon[i])


def _cloth(s, i, x, y):
    u, v, angle, width, style = s.detail[i, :5]
    angle, count = (angle - 0.5) * 1.4, 4 + 5 * width
    across = np.cos(angle) * x + np.sin(angle) * y
    along = np.cos(angle) * y - np.sin(angle) * x
    folds = sample_texture(noise(18), 0.5 * x + u, 0.5 * y + v)
    across, along = across + 0.01 * folds, along + 0.01 * folds
    bands = [0.5 + 0.5 * np.clip(4 * np.sin(2 * np.pi * count * w), -1, 1) for w in (across, along)]
    pattern = bands[0] if style < 0.4 else (bands[0] + bands[1]) / 2
    if style > 0.8:
        pattern = 0.15 * pattern  # almost without a pattern
    threads = sample_texture(noise(0.7), x + u, y + v)
    light = 0.55 + 0.3 * s.near[i, :, None, None]
    return mix(light, s.far[i, :, None, None], pattern) * (1 + 0.09 * folds + 0.05 * threads)


def _wood(s, i, x, y):
    u, v, angle, tone, width = s.detail[i, :5]
    angle = (angle - 0.5) * 0.8
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (np.cos(angle) * y - np.sin(angle) * x) * (2.2 + 2 * width) + 2
    plank = np.floor(across)
    shift = np.mod(plank * 0.377 + u, 1)
    waves = sample_texture(noise(12), 0.3 * along + shift, 0.2 * across + v)
    grain = sample_texture(noise(1.5, 30), 0.5 * along + shift, 0.45 * across + v + 0.02 * waves)
    light, dark = linear(0.80, 0.66, 0.48), linear(0.36, 0.25, 0.17)
    weight = np.clip(0.75 * tone + 0.14 * grain + 0.3 * (shift - 0.5) + 0.1 * waves, 0, 1)
    gap = np.exp(-((np.abs(across - plank - 0.5) - 0.5) ** 2) / 0.0015)
    return mix(light, dark, weight) * (1 - 0.65 * gap)


def _garden(s, i, x, y):
    u, v = s.detail[i, :2]
    patches = sample_texture(noise(22), 0.6 * x + u, 0.6 * y + v)
    light, dark = linear(0.42, 0.58, 0.22), linear(0.10, 0.24, 0.10)
    picture = mix(dark, light, np.clip(0.4 + 0.3 * patches, 0, 1))
    for a, b, c in s.detail[i, 4:40].reshape(12, 3):  # spots of light, out of focus
        wide = 0.04 + 0.07 * c
        disc = 1 - smoothstep(0.7, 1.0, ((x - a) ** 2 + (y - 0.7 * b) ** 2) / wide**2)
        spot = linear(0.55 + 0.4 * b, 0.75 + 0.2 * c, 0.3 + 0.3 * a)
        picture = mix(picture, spot, (0.25 + 0.3 * c) * disc)
    ground = linear(0.45, 0.36, 0.24) * (1 + 0.1 * sample_texture(noise(3, 9), x + v, 2 * y + u))
    return mix(picture, ground, smoothstep(-0.04, 0.04, y - s.horizon[i] - 0.15))
