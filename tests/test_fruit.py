"""Fruit: scenes, both kinds in the same scene, the splits, light, and what tells them apart."""

import dataclasses

import numpy as np
import pytest

from helpers.simulate import fruit, scenes

N = 160


@pytest.fixture(scope="module")
def pairs():
    """Scenes and both kinds drawn into them."""
    shared = fruit.random_scenes(N, 5)
    return shared, fruit.render("apple", shared), fruit.render("orange", shared)


@pytest.fixture(scope="module")
def halves():
    """Two unpaired sets: one to fit a classifier, one to test it."""
    return [fruit.load("train", N, seed) for seed in (0, 1)]


def change(scenes, **values):
    """Return the scenes with some fields set to one value each."""
    fields = {name: np.full_like(getattr(scenes, name), value) for name, value in values.items()}
    return dataclasses.replace(scenes, **fields)


def bare(seen, size=64):
    """Return the pictures without fruit, as render would give them; float, 0 to 255."""
    picture = scenes.background(seen, 2 * size).reshape(len(seen), 3, size, 2, size, 2)
    return 255 * np.moveaxis(np.sqrt(np.clip(picture.mean(axis=(3, 5)), 0, 1)), 1, -1)


def silhouette(kind, scenes, size=64):
    """Return where there is fruit; the background is black."""
    black = change(scenes, background=0, far=0, near=0, strength=1, ambient=0.4)
    return fruit.render(kind, black, size).max(axis=-1) > 12


def distance(scenes, size=64):
    """Return how far each pixel is from the fruit's centre, in radii, (n, size, size)."""
    axis = (np.arange(size) + 0.5) / size
    x, y = (values[:, None, None] for values in (scenes.x, scenes.y))
    away = np.hypot(axis[None, None, :] - x, axis[None, :, None] - y)
    return away / scenes.radius[:, None, None]


# scenes


def test_scenes_have_the_documented_ranges():
    drawn = fruit.random_scenes(2000, 1)
    assert len(drawn) == 2000
    ranges = {"radius": (0.28, 0.40), "ripeness": (0, 1), "detail": (0, 1), "skin": (0, 1)}
    for name, (low, high) in ranges.items():
        values = getattr(drawn, name)
        assert values.min() >= low - 1e-6 and values.max() <= high + 1e-6
        assert np.ptp(values) > 0.95 * (high - low)
    for field in dataclasses.fields(drawn):
        values = getattr(drawn, field.name)
        assert len(values) == 2000 and np.isfinite(values).all()
        wanted = {"leaf": np.bool_, "background": np.int64}.get(field.name, np.float32)
        assert np.issubdtype(values.dtype, wanted), field.name
    np.testing.assert_allclose(np.linalg.norm(drawn.light, axis=1), 1, rtol=1e-5)
    assert (drawn.light[:, 1:] > 0).all()  # from above, and from the viewer's side
    assert np.bincount(drawn.background, minlength=5).min() > 300
    assert 0.45 < drawn.leaf.mean() < 0.55
    # The picture's edge cuts off a ninth of the fruit's radius at most.
    for place in (drawn.x, drawn.y):
        assert (np.minimum(place, 1 - place) > 0.88 * drawn.radius).all()


def test_a_scene_follows_from_the_seed_and_not_from_n():
    few, many, other = (
        fruit.random_scenes(5, 3),
        fruit.random_scenes(50, 3),
        fruit.random_scenes(5, 4),
    )
    for field in dataclasses.fields(few):
        first = getattr(few, field.name)
        np.testing.assert_array_equal(first, getattr(many[:5], field.name))
    assert not np.intersect1d(few.x, other.x).size
    # The same with every version: the recorded results hang on it.
    assert few.radius == pytest.approx([0.2902779, 0.2952106, 0.2863636, 0.3871063, 0.2803712])


def test_some_of_the_scenes():
    drawn = fruit.random_scenes(10, 0)
    assert len(drawn[2:5]) == 3 and len(drawn[[1, 7]]) == 2
    np.testing.assert_array_equal(drawn[drawn.leaf].x, drawn.x[drawn.leaf])


# pictures


@pytest.mark.parametrize("size", [16, 33, 64])
def test_shape_type_and_range(size):
    for kind in fruit.KINDS:
        images = fruit.render(kind, fruit.random_scenes(9, 0), size)
        assert images.shape == (9, size, size, 3) and images.dtype == np.uint8
        assert images.flags.writeable and np.ptp(images) > 150


def test_drawing_is_reproducible_and_one_by_one_the_same(pairs):
    scenes, apples, _ = pairs
    np.testing.assert_array_equal(fruit.render("apple", scenes[:16]), apples[:16])
    # other places in a chunk may round differently, by one step of 255
    some = fruit.render("apple", scenes[5:8]).astype(int)
    assert np.abs(some - apples[5:8]).max() <= 1


def test_pairs_share_everything_but_the_fruit(pairs):
    scenes, apples, oranges = pairs
    differ = np.abs(apples.astype(int) - oranges).max(axis=-1)
    away = distance(scenes)
    assert (differ[away > 1.45] == 0).all()
    assert np.median(differ[away < 0.8]) > 20
    # Without fruit, it is the same picture.
    plain = bare(scenes[:40])
    outside = away[:40] > 1.45
    assert np.abs(apples[:40] - plain)[outside].max() < 1


def test_both_kinds_are_at_the_same_place_and_of_the_same_size():
    scenes = change(fruit.random_scenes(40, 2), leaf=False)
    apple, orange = (silhouette(kind, scenes) for kind in fruit.KINDS)
    overlap = (apple & orange).sum(axis=(1, 2)) / (apple | orange).sum(axis=(1, 2))
    assert overlap.min() > 0.8 and overlap.mean() > 0.88
    share = orange.mean(axis=(1, 2)) / (np.pi * scenes.radius**2)
    assert share.min() > 0.8 and share.max() < 1.05


def test_the_pairs_are_neither_alike_nor_unlike(pairs):
    """An apple left as it is, is the baseline of the chapter: about 20 dB."""
    _, apples, oranges = pairs
    errors = np.square((apples.astype(float) - oranges) / 255).mean(axis=(1, 2, 3))
    assert 18 < (-10 * np.log10(errors)).mean() < 22


# splits


def test_training_halves_are_unpaired_and_evaluation_is_paired():
    for split in fruit.SPLITS:
        apples, oranges = fruit.load(split, 12, seed=9)
        assert apples.shape == oranges.shape == (12, 64, 64, 3)
        corners = [images[:, :3, :3].reshape(12, -1).astype(int) for images in (apples, oranges)]
        apart = np.abs(corners[0][:, None] - corners[1][None]).max(axis=-1)
        alike = np.argwhere(apart == 0).tolist()
        assert alike == ([] if split == "train" else [[i, i] for i in range(12)])


def test_no_scene_is_in_two_splits(monkeypatch):
    asked = []

    def draw(n, seed):
        asked.append((seed, scenes.random_scenes(n, seed).x))
        return scenes.random_scenes(1, 0)

    monkeypatch.setattr(fruit, "random_scenes", draw)
    for split in fruit.SPLITS:
        for seed in (0, 1):
            fruit.load(split, 500, seed, size=16)
    used = dict(asked)
    assert len(asked) == 12 and len(used) == 8  # a pair asks twice for the same
    places = np.concatenate(
        [*used.values(), scenes.random_scenes(500, 0).x, scenes.random_scenes(500, 1).x]
    )
    # float32 has few enough values that unrelated draws meet, about once in 2**23 comparisons
    assert len(places) - len(np.unique(places)) < 20


# light and shape


@pytest.mark.parametrize("kind", fruit.KINDS)
def test_the_lit_side_is_brighter(kind):
    scenes = change(fruit.random_scenes(32, 4), leaf=False, background=0)
    away = distance(scenes)
    axis = (np.arange(64) + 0.5) / 64
    right = axis[None, None, :] > scenes.x[:, None, None]
    above = axis[None, :, None] < scenes.y[:, None, None]

    def contrast(light, side):
        lit = dataclasses.replace(scenes, light=np.float32([light] * 32))
        grey = fruit.render(kind, lit).astype(float).mean(axis=-1)
        inside = away < 0.85
        one, other = inside & side, inside & ~side
        parts = zip(grey, one, other, strict=True)
        return [image[a].mean() - image[b].mean() for image, a, b in parts]

    from_right, from_left = contrast([0.7, 0.5, 0.51], right), contrast([-0.7, 0.5, 0.51], right)
    assert np.min(from_right) > 8 and np.max(from_left) < -8
    assert np.mean(contrast([0, 0.8, 0.6], above)) > 15
    # It follows the light: its side, and more the farther it stands there.
    sides = [np.mean(contrast([x, 0.5, np.sqrt(0.75 - x * x)], right)) for x in (-0.6, -0.2, 0.3)]
    assert sides == sorted(sides)


def test_an_apple_is_wider_above_and_an_orange_is_round():
    upright = change(
        fruit.random_scenes(20, 6), leaf=False, tilt=0, nod=0.3, x=0.5, y=0.5, radius=0.36
    )
    ratios, heights = {}, {}
    for kind in fruit.KINDS:
        width = silhouette(kind, upright).sum(axis=2)
        ratios[kind] = width[:, 17:26].sum() / width[:, 38:47].sum()
        heights[kind] = (width > 8).sum(axis=1).mean() / width.max(axis=1).mean()
    assert ratios["apple"] > 1.05 > ratios["orange"] > 0.95
    assert heights["apple"] < 0.95 < heights["orange"] < 1.05


def test_the_profile_has_a_hollow_and_a_right_derivative():
    c = np.linspace(-1, 1, 2001)
    for kind, low, high in (("apple", 0.5, 0.7), ("orange", 0.85, 0.95)):
        radius, slope = fruit._profile(kind, c)
        np.testing.assert_allclose(np.gradient(radius, c)[1:-1], slope[1:-1], atol=1e-3)
        assert low < radius[-1] < high  # at the stem
        assert 0.95 < radius.max() < 1.03  # rays start at 1.03


@pytest.mark.parametrize("kind", fruit.KINDS)
def test_the_fruit_leans_to_the_side_of_the_tilt(kind):
    """A leaf that goes on in the direction of the axis shows where the axis points."""
    scenes = change(fruit.random_scenes(20, 6), x=0.5, y=0.5, leaf_angle=np.pi / 2)
    for tilt in (-0.4, 0.4):
        leaning = change(scenes, tilt=tilt)
        without, leafy = (fruit.render(kind, change(leaning, leaf=leaf)) for leaf in (False, True))
        leaf = np.abs(without.astype(int) - leafy).max(axis=-1) > 40
        place = (leaf * (np.arange(64) - 31.5)).sum(axis=(1, 2)) / leaf.sum(axis=(1, 2))
        assert (place * np.sign(tilt) > 5).all()


def test_ripeness_changes_the_colour():
    scenes = fruit.random_scenes(60, 7)
    for kind, gain in (("apple", 0.15), ("orange", 0.05)):
        redness = []
        for ripeness in (0, 0.5, 1):
            image = fruit.render(kind, change(scenes, ripeness=ripeness, leaf=False)).astype(int)
            red, green, _ = image[distance(scenes) < 0.8].mean(axis=0)
            redness.append((red - green) / (red + green))
        assert redness[1] - redness[0] > gain and redness[2] - redness[1] > gain


def test_a_leaf_is_green_and_near_the_stem():
    scenes = fruit.random_scenes(40, 8)
    for kind in fruit.KINDS:
        without, leafy = (fruit.render(kind, change(scenes, leaf=leaf)) for leaf in (False, True))
        changed = np.abs(without.astype(int) - leafy).max(axis=-1) > 40
        assert (changed.sum(axis=(1, 2)) > 15).all()
        assert not changed[distance(scenes) > 1.95].any()
        red, green, blue = leafy[changed].mean(axis=0)
        assert green > red + 10 and green > blue + 20


# what tells the kinds apart


def features(images, rows):
    """Return colours, their squares and products, and contrasts of some pixels (a mask)."""
    pixels = images[:, rows].reshape(len(images), -1, 3) / 255
    means = pixels.mean(axis=1)
    products = means[:, [0, 0, 0, 1, 1, 2]] * means[:, [0, 1, 2, 1, 2, 2]]
    spread = pixels.std(axis=1)
    highlights = np.quantile(pixels.min(axis=2), [0.5, 0.99], axis=1).T
    return np.concatenate([np.ones((len(images), 1)), means, products, spread, highlights], axis=1)


def accuracy(halves, rows):
    """Fit least squares to the first pair of sets, return the share that is right in the second."""
    (fit, to_fit), (test, to_test) = (
        (features(np.concatenate(sets), rows), np.repeat([-1, 1], N)) for sets in halves
    )
    weights = np.linalg.lstsq(fit, to_fit, rcond=None)[0]
    return (np.sign(test @ weights) == to_test).mean()


def test_fruit_tells_the_kinds_apart_and_background_does_not(halves):
    middle, border = np.zeros((2, 64, 64), bool)
    middle[24:48, 20:44] = True
    border[:6] = True  # above: no fruit, seldom a leaf
    assert accuracy(halves, middle) > 0.93
    assert abs(accuracy(halves, border) - 0.5) < 0.1


# errors


def test_wrong_arguments_say_what_to_give():
    scenes = fruit.random_scenes(1, 0)
    for call, message in [
        (lambda: fruit.render("pear", scenes), r"no fruit 'pear': use apple or orange\.$"),
        (lambda: fruit.render("apple", scenes, 8), r"size is 8: give at least 16 pixels, .*\.$"),
        (lambda: fruit.random_scenes(0, 0), r"n is 0: ask for at least 1 scene\.$"),
        (lambda: fruit.random_scenes(3, -1), r"seed is -1: give 0 or more, below 2\*\*32\.$"),
        (lambda: fruit.load("valid", 3), r"'valid': use one of train, validation, test\.$"),
        (lambda: fruit.load("train", -2), r"n is -2: ask"),
        (lambda: fruit.load("train", 2, 2**32), r"seed is \(4294967296, 1\): give"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
