"""Lesions: simulated liver lesions in CT, of which there can be as many patients as one likes.

A phantom, not patients: it answers what no real collection can answer, how much *more patients*
would have helped. The task is that of Frid-Adar et al. 2018 (182 lesions: 53 cysts, 64 metastases,
65 haemangiomas; portal venous phase). What the numbers below imitate:

- the liver in the portal venous phase: 50 to 65 HU without contrast agent and about 50 HU more with
  it (Heiken et al. 1995), less when it is fatty (Boll & Merkle 2009);
- cysts: water, 0 to 20 HU, sharp edge, even, no enhancement (Mortelé & Ros 2001);
- metastases: darker than the liver, irregular, with a soft edge, often a brighter rim and a dark
  centre (Sica, Ji & Ros 2000);
- haemangiomas: bright nodules at the edge, about as bright as vessels, that grow together towards
  the centre; small ones may be bright all over (Vilgrain et al. 2000);
- the scanner: blur, slices so thick that small lesions are mixed with liver, and noise that is
  coloured as filtered back projection colours it (Riederer, Pelc & Chesler 1978).
"""

import numpy as np

NAMES = ("cyst", "metastasis", "haemangioma")
SIZE = 28  # pixels of about 1.2 mm
LOWEST, HIGHEST = -80.0, 220.0  # HU that become 0 and 255
TRAIN, TEST = 0, 1  # streams of random numbers: no patient of one is in the other


def _filtered(fields: np.ndarray, response: np.ndarray, sd) -> np.ndarray:
    """Filter (n, s, s) by a response (s, s // 2 + 1) and give each field a standard deviation."""
    size = fields.shape[1]
    made = np.fft.irfft2(np.fft.rfft2(fields) * response, s=(size, size))
    return made / made.std(axis=(1, 2), keepdims=True) * sd


def _frequency(size: int) -> np.ndarray:
    """Return the frequency of each coefficient, in cycles a pixel, shape (s, s // 2 + 1)."""
    return np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])


def _column(values) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None, None]


def render(labels, seed: int, stream: int = TRAIN, size: int = SIZE) -> np.ndarray:
    """Render one lesion for each label; every lesion is another patient's.

    Args:
        labels: whole numbers 0 (cyst), 1 (metastasis), 2 (haemangioma), shape (n,), n >= 1.
        seed: an integer from 0; with the stream it chooses all random numbers.
        stream: ``TRAIN`` or ``TEST``: the same seed gives other patients.
        size: width and height in pixels.

    Returns:
        uint8, shape (n, size, size, 1): -80 HU is 0 and 220 HU is 255, in steps of 1.2 HU.

    Raises:
        ValueError: a label is unknown or there is none.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size or not np.isin(labels, (0, 1, 2)).all():
        raise ValueError("labels must be numbers 0, 1 or 2: give at least one.")
    rng, n = np.random.default_rng((seed, stream)), len(labels)
    cyst, metastasis, haemangioma = (_column(labels == kind) for kind in range(3))
    down, across = np.mgrid[:size, :size] - (size - 1) / 2
    frequency = _frequency(size)

    liver = _column(rng.normal(104, 15, n))
    image = liver + _filtered(rng.standard_normal((n, size, size)), np.exp(-80 * frequency**2), 5)
    for _ in range(2):  # vessels
        turn, offset = (_column(rng.uniform(0, np.pi, n)), _column(rng.uniform(-14, 14, n)))
        away = np.abs(across * np.cos(turn) + down * np.sin(turn) - offset)
        strength = _column(rng.uniform(25, 60, n) * (rng.random(n) < 0.5))
        image = image + strength / (1 + np.exp((away - _column(rng.uniform(0.6, 1.8, n))) / 0.4))

    radius = _column(np.clip(rng.lognormal(np.log(6.5), 0.3, n), 3.5, 11))
    centre = [_column(rng.normal(0, 1.5, n)) for _ in range(2)]
    x, y = across - centre[0], down - centre[1]
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    roughness = np.array([0.04, 0.09, 0.08])[labels]
    reach = np.ones_like(angle)
    for wave in range(2, 6):
        bulge = _column(rng.normal(0, roughness) / np.sqrt(wave - 1))
        reach = reach + bulge * np.cos(wave * angle + _column(rng.uniform(0, 7, n)))
    inside = radius * reach - distance  # pixels from the edge, inside > 0
    softness = _column(rng.uniform(*np.array([[0.3, 0.5, 0.4], [0.7, 1.6, 1.1]])[:, labels]))
    mask = 1 / (1 + np.exp(-np.clip(inside / softness, -30, 30)))

    # What the lesion is made of, in HU.
    texture = _filtered(rng.standard_normal((n, size, size)), np.exp(-25 * frequency**2), 1)
    water = _column(rng.normal(14, 9, n))
    solid = liver - _column(np.clip(rng.normal(45, 16, n), 10, 85))
    rim = _column(rng.uniform(0, 40, n)) * np.exp(-(((inside - 1) / 1.5) ** 2))
    dead = _column(rng.uniform(0, 45, n) * (rng.random(n) < 0.5))
    dead = dead * np.clip(inside / radius, 0, 1)
    solid = solid + 10 * texture + rim - dead
    pool = _column(rng.normal(160, 18, n))  # as bright as the vessels
    lobes = sum(
        np.exp(_column(rng.uniform(2, 6, n)) * (np.cos(angle - _column(rng.uniform(0, 7, n))) - 1))
        for _ in range(4)
    )
    filled = _column(rng.uniform(0.15, 1.0, n) + 0.5 * (radius[:, 0, 0] < 3.5))
    depth = np.clip(inside, 0, None) / radius
    nodules = np.clip(lobes, 0, 1) / (1 + np.exp((depth - filled) / 0.12))
    dark = liver - _column(np.clip(rng.normal(45, 14, n), 15, 80))
    blood = dark + (pool - dark) * nodules
    content = cyst * water + metastasis * solid + haemangioma * blood

    # A thick slice holds liver above and below a small lesion.
    share = 1 - _column(rng.uniform(0, 0.5, n)) * np.clip(4.5 / radius, 0, 1)
    image = image + (content - image) * mask * share
    blur = np.exp(-2 * (np.pi * frequency * 0.8) ** 2)
    image = np.fft.irfft2(np.fft.rfft2(image) * blur, s=(size, size))
    colour = frequency * np.exp(-((frequency / 0.25) ** 2))
    noise = _column(rng.uniform(3, 10, n))
    image = image + _filtered(rng.standard_normal((n, size, size)), colour, noise)
    scaled = (image - LOWEST) / (HIGHEST - LOWEST) * 255
    return np.uint8(np.clip(np.round(scaled), 0, 255))[..., None]
