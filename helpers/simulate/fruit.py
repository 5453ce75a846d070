"""Fruit: pictures of apples and oranges, of the same scenes or of different ones.

CycleGAN (Zhu et al. 2017) learns from two unpaired collections; theirs were photographs, and nobody
knows which orange belongs to an apple. Here a scene says where the fruit is, how it is turned, how
ripe it is, where the light comes from and what lies behind, and either kind can be drawn into it.
Training gets apples and oranges of different scenes; evaluation gets the pairs.

A fruit is a surface r = f(c) around its centre, c the cosine of the angle to its axis. Rays find it
by sphere tracing (Hart 1996); the light is Lambert's plus Phong's (1975), with the half vector of
Blinn (1977). Pictures are computed at twice the size and averaged.
"""

import numpy as np

from helpers.simulate.scenes import (
    Scenes,
    background,
    linear,
    mix,
    noise,
    random_scenes,
    sample_texture,
    smoothstep,
)

KINDS = ("apple", "orange")
SPLITS = ("train", "validation", "test")
STEPS = 10  # of a ray
CHUNK = 8  # images computed at once: their arrays should stay in the processor's cache


def render(kind: str, scenes: Scenes, size: int = 64) -> np.ndarray:
    """Draw one kind of fruit into each scene.

    Args:
        kind: ``"apple"`` or ``"orange"``.
        scenes: n scenes.
        size: width and height in pixels, at least 16.

    Returns:
        uint8, shape (n, size, size, 3), values 0 to 255.

    Raises:
        ValueError: the kind is unknown, or the size too small.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no fruit {kind!r}: use {' or '.join(KINDS)}.")
    if size < 16:
        raise ValueError(f"size is {size}: give at least 16 pixels, or no fruit can be seen.")
    images = np.empty((len(scenes), size, size, 3), np.uint8)
    for start in range(0, len(scenes), CHUNK):
        part = scenes[start : start + CHUNK]
        picture = _fruit(kind, part, background(part, 2 * size))
        picture = picture.reshape(len(part), 3, size, 2, size, 2).mean(axis=(3, 5))
        picture = np.sqrt(np.clip(picture, 0, 1)) * 255 + 0.5
        images[start : start + CHUNK] = np.moveaxis(picture, 1, -1)
    return images


def load(split: str, n: int, seed: int = 0, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return apples and oranges for CycleGAN.

    Args:
        split: ``"train"`` (no apple has the scene of an orange), ``"validation"`` or ``"test"``
            (apple i and orange i have the same scene). No scene is in two splits.
        n: images of each kind, at least 1.
        seed: an integer from 0 to 2**32 - 1.
        size: width and height in pixels.

    Returns:
        (apples, oranges): uint8, each of shape (n, size, size, 3).

    Raises:
        ValueError: there is no such split, or a number is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}: use one of {', '.join(SPLITS)}.")
    # NumPy takes (seed, 0) for seed: streams count from 1.
    streams = {"train": (1, 2), "validation": (3, 3), "test": (4, 4)}[split]
    apples, oranges = (
        render(kind, random_scenes(n, (seed, stream)), size)
        for kind, stream in zip(KINDS, streams, strict=True)
    )
    return apples, oranges


def _profile(kind: str, c):
    """Return f(c), the distance of the surface from the centre, and its derivative."""
    if kind == "orange":
        dent = 0.05 * np.exp((c - 1) * 40)
        return 0.97 - 0.02 * c * c - dent, -0.04 * c - 40 * dent
    top, bottom = 0.40 * np.exp((c - 1) * 16), 0.1 * np.exp((-1 - c) * 16)
    return 0.99 + 0.06 * c - 0.02 * c * c - top - bottom, 0.06 - 0.04 * c - 16 * (top - bottom)


def _fruit(kind: str, s: Scenes, picture: np.ndarray) -> np.ndarray:
    """Draw the fruit over the background; linear, (n, 3, size, size), also written to."""
    size = picture.shape[-1]
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size

    def per_image(values):
        return np.asarray(values, np.float32)[:, None, None]

    # Frame of the fruit: unit its radius, y up along its axis as seen, z to the viewer.
    right = (axis[None, None, :] - per_image(s.x)) / per_image(s.radius)
    up = (per_image(s.y) - axis[None, :, None]) / per_image(s.radius)
    cos, sin = per_image(np.cos(s.tilt)), per_image(np.sin(s.tilt))
    x, y = right * cos - up * sin, right * sin + up * cos
    light = [cos * per_image(s.light[:, 0]) - sin * per_image(s.light[:, 1])]
    light += [sin * per_image(s.light[:, 0]) + cos * per_image(s.light[:, 1])]
    light += [per_image(s.light[:, 2])]
    pixel = per_image(1 / (size * s.radius))
    high, front = per_image(np.cos(s.nod)), per_image(np.sin(s.nod))  # the axis: (0, high, front)

    flat = x * x + y * y
    z = np.sqrt(np.maximum(1.03**2 - flat, 0))
    nearest = np.full_like(z, 9)
    for _ in range(STEPS):
        r = np.sqrt(flat + z * z)
        c = (y * high + z * front) / r
        gap = r - _profile(kind, c)[0]
        nearest = np.minimum(nearest, gap)
        # Rays that graze the side may go faster; in an apple's steep hollow they must not.
        fast = np.clip(0.7 / (np.abs(z) + 1e-3), 0.75, 2.5)
        z -= gap * np.where(c > 0.65, np.float32(0.7), fast)
    # A ray that hits ends at a gap of 0; one at the edge would still come nearer, up to z = 0.
    cover = np.clip(1 - (nearest - np.clip(z, 0, 0.3) ** 2 / 2) / pixel, 0, 1)

    r = np.sqrt(flat + z * z)
    c = np.minimum((y * high + z * front) / r, 1)
    slope = _profile(kind, c)[1] / r
    # The gradient of r - f(c) is across the surface.
    normal = [w / r * (1 + slope * c) - slope * a for w, a in ((x, 0), (y, high), (z, front))]
    around = np.arctan2(z * high - y * front, x) + per_image(s.turn)
    skin = _apple_skin if kind == "apple" else _orange_skin
    colour, normal, gloss, sharp = skin(s, x, y, z, c, around, normal, pixel)
    norm = 1 / np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    normal = [w * norm for w in normal]

    lambert = sum(a * b for a, b in zip(normal, light, strict=True))
    lambert = np.clip((lambert + 0.12) / 1.12, 0, 1)  # a lamp is no point: a soft border
    # Light from everywhere: more from above, less in the hollow at the stem.
    sky = per_image(s.ambient) * (0.65 + 0.35 * normal[1])
    hollow = 1 - (0.55 if kind == "apple" else 0.2) * np.exp((c - 1) * 18)
    half = [light[0], light[1], light[2] + 1]
    length = np.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
    toward = np.clip(sum(a * b for a, b in zip(normal, half, strict=True)) / length, 0, 1)
    shine = gloss * toward**sharp * per_image(s.strength) * hollow * hollow
    leaf = _leaf(s, x, y, high, pixel)
    shade = _leaf(s, x + 0.1 * light[0], y + 0.1 * light[1], high, 3 * pixel)[0]
    lambert *= 1 - 0.6 * shade
    lit = (sky + 1.05 * per_image(s.strength) * lambert) * hollow
    tint = s.tint[:, :, None, None]
    bounce = s.near[:, :, None, None] * (0.16 * np.clip(-normal[1], 0, 1))[:, None]
    body = colour * (lit[:, None] * tint + bounce) + shine[:, None] * tint
    picture = mix(picture, body, cover[:, None])
    if kind == "apple":
        stem, bark = _stem(s, x, y, np.where(cover > 0.5, z, -9), high, front, light, pixel)
        picture = mix(picture, bark * tint, stem[:, None])
    blade, green = leaf
    lit = per_image(s.ambient) + 0.8 * per_image(s.strength) * np.clip(light[1] + light[2], 0.3, 1)
    return mix(picture, green * (lit[:, None] * tint), blade[:, None])


def _apple_skin(s, x, y, z, c, around, normal, pixel):
    """Return an apple's colour, normal, gloss and sharpness: a red cheek, streaks, pale dots."""
    ripe = s.ripeness[:, None, None]
    u = around / (2 * np.pi)
    streaky = 0.1 + 0.35 * s.skin[:, 5, None, None]
    streaks = sample_texture(noise(14, 0.9), u, 0.22 * c + s.skin[:, 0, None, None])
    streaks = streaks * smoothstep(1.0, 0.9, c)  # they would crowd at the stem
    broad = sample_texture(noise(20), u, 0.2 * c + s.skin[:, 1, None, None])
    cheek = np.cos(around - s.turn[:, None, None] - 2.2 + 1.5 * s.skin[:, 2, None, None])
    amount = 3.2 * ripe - 1.4 + 0.75 * cheek + 0.25 * broad + streaky * streaks
    amount -= 0.25 * smoothstep(0.7, 0.9, c)
    red = smoothstep(-0.5, 0.9, amount)[:, None]
    ground = mix(
        linear(0.52, 0.70, 0.14), linear(0.93, 0.80, 0.30), smoothstep(0.0, 0.6, ripe)[:, None]
    )
    cover = mix(
        linear(0.86, 0.20, 0.13), linear(0.62, 0.04, 0.08), smoothstep(0.5, 1.0, ripe)[:, None]
    )
    colour = mix(ground, cover, red) * (1 + 0.3 * (streaky * streaks)[:, None])
    hollow = smoothstep(0.93, 0.99, c + 0.01 * broad)[:, None]
    colour = mix(colour, linear(0.55, 0.52, 0.18), 0.7 * hollow)
    dots = sample_texture(noise(0.8), 2 * u, 0.8 * c)
    colour = mix(colour, linear(0.95, 0.85, 0.60), 0.25 * smoothstep(2.0, 2.6, dots)[:, None])
    return colour, normal, 0.75, 50


def _orange_skin(s, x, y, z, c, around, normal, pixel):
    """Return an orange's colour, normal, gloss and sharpness: pores and the star of its stalk."""
    ripe = s.ripeness[:, None, None]
    u = 0.42 * x / (1.2 + z) + s.skin[:, 0, None, None]
    v = 0.42 * y / (1.2 + z) + s.skin[:, 1, None, None]
    pores = noise(1.3)
    middle = sample_texture(pores, u, v)
    bumps = [
        sample_texture(pores, u + 1 / 256, v) - middle,
        sample_texture(pores, u, v + 1 / 256) - middle,
    ]
    normal = [normal[0] - 0.14 * bumps[0], normal[1] - 0.14 * bumps[1], normal[2]]
    colour = mix(linear(0.97, 0.66, 0.08), linear(0.96, 0.42, 0.03), ripe[:, None])
    colour = colour * (1 + 0.07 * middle[:, None])
    pale = (1 - ripe) * smoothstep(0.3, 1.0, c) * 0.3
    colour = mix(colour, linear(0.62, 0.68, 0.15), pale[:, None])
    away = np.sqrt(np.maximum(2 - 2 * c, 0))
    star = np.clip(0.5 + (0.11 + 0.04 * np.cos(5 * around) - away) / pixel, 0, 1)
    green = mix(linear(0.30, 0.36, 0.12), linear(0.52, 0.46, 0.25), away[:, None] / 0.13)
    return mix(colour, green, star[:, None]), normal, 0.16, 14


def _stem(s, x, y, z, high, front, light, pixel):
    """Return where the stem is seen (n, h, w), in [0, 1], and its colour."""
    bend = (s.skin[:, 3, None, None] - 0.5) * 0.5
    t = (y / high - 0.55) / (0.55 + 0.2 * s.skin[:, 4, None, None])
    across = x - bend * t * t
    wide = 0.04 + 0.03 * np.clip(t, 0, 1) ** 4
    seen = np.clip(0.5 + (wide - np.abs(across)) / pixel, 0, 1) * (t > 0) * (t < 1)
    seen *= z < front * (y / high) + 0.04  # else it is behind the fruit's shoulder
    bright = 0.45 + 0.35 * np.clip(across / wide, -1, 1) * light[0] + 0.3 * np.clip(t, 0, 1)
    return seen, linear(0.50, 0.33, 0.17) * (s.strength[:, None, None] * bright)[:, None]


def _leaf(s, x, y, high, pixel):
    """Return where the leaf is (n, h, w), in [0, 1], and its colour."""
    cos, sin = (f(s.leaf_angle)[:, None, None] for f in (np.cos, np.sin))
    y = y - 0.92 * high
    along, across = (x * cos + y * sin) / 0.85, y * cos - x * sin
    across = across + 0.25 * along * (along - 0.6) * np.sign(cos)
    inside = np.clip(along * (1 - along), 0, 1)
    wide = 0.85 * inside * (1.2 - 0.5 * along)
    seen = np.clip(0.5 + (wide - np.abs(across)) / pixel, 0, 1) * (inside > 0)
    vein = np.exp(-((across / 0.025) ** 2)) + 0.3 * np.sin(30 * (along - 0.8 * np.abs(across)))
    bright = 0.85 + 0.2 * np.sign(across * cos) + 0.25 * vein
    return seen * s.leaf[:, None, None], linear(0.27, 0.52, 0.13) * bright[:, None]
