"""Image pyramids and the sliced Wasserstein distance, against loops and SciPy."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from helpers.studies import pyramids

rng = np.random.default_rng(0)


def test_shrink_takes_the_mean_of_each_square():
    images = rng.integers(0, 256, (3, 8, 8, 2)).astype(np.uint8)
    small = pyramids.shrink(images, 4)
    assert small.dtype == np.uint8 and small.shape == (3, 4, 4, 2)
    for i, y, x in np.ndindex(3, 4, 4):
        mean = images[i, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float).mean(axis=(0, 1))
        np.testing.assert_array_equal(small[i, y, x], np.round(mean))
    floats = images / np.float32(255)
    twice = pyramids.shrink(pyramids.shrink(floats, 4), 2)
    np.testing.assert_allclose(pyramids.shrink(floats, 2), twice, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 6, 1), 2), ((1, 8, 8, 1), 3)])
def test_shrink_refuses_what_does_not_divide(shape, size):
    with pytest.raises(ValueError, match="give squares"):
        pyramids.shrink(np.zeros(shape, np.float32), size)


def test_enlarge_undoes_shrink_of_flat_squares():
    small = rng.random((2, 4, 4, 1)).astype(np.float32)
    large = pyramids.enlarge(small, 16)
    assert large.shape == (2, 16, 16, 1)
    np.testing.assert_allclose(pyramids.shrink(large, 4), small, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_mix_weights_the_fine_details(alpha):
    images = rng.random((2, 8, 8, 1)).astype(np.float32)
    coarse = images.reshape(2, 4, 2, 4, 2, 1).mean(axis=(2, 4)).repeat(2, 1).repeat(2, 2)
    expected = (1 - alpha) * coarse + alpha * images
    np.testing.assert_allclose(pyramids.mix(images, alpha), expected, atol=1e-6)


def test_nearest_is_the_nearest():
    images = rng.integers(0, 256, (50, 8, 8, 1), np.uint8)
    image = images[31] / 255 + rng.normal(0, 0.02, (8, 8, 3))
    found = pyramids.nearest_image(image, images)
    np.testing.assert_allclose(found, images[31].repeat(3, -1) / 255, atol=1e-6)
    large = image.repeat(2, axis=0).repeat(2, axis=1)  # another size
    assert pyramids.nearest_image(large, images).shape == (16, 16, 3)
    np.testing.assert_allclose(
        pyramids.nearest_image(large, images)[1::2, 1::2].mean(), found.mean(), rtol=0.1
    )


def test_patches_are_pieces_of_the_images():
    images = np.arange(2 * 32 * 32, dtype=np.float32).reshape(2, 32, 32, 1)
    found = pyramids.patches(images, np.random.default_rng(1), 5)
    assert found.shape == (10, 49)
    assert abs(found.mean()) < 1e-5 and found.std() == pytest.approx(1, abs=1e-5)
    steps = np.diff(found.reshape(10, 7, 7), axis=2)  # neighbours in a row differ by 1 before
    assert np.ptp(steps) < 1e-3 * abs(steps).max() + 1e-4
    down = np.diff(found.reshape(10, 7, 7), axis=1)
    np.testing.assert_allclose(down, 32 * steps.mean(), rtol=1e-3)


def test_sliced_wasserstein_against_scipy():
    a, b = rng.normal(size=(200, 5)), rng.normal(0.5, 2, size=(200, 5))
    value = pyramids.sliced_wasserstein(a, b, np.random.default_rng(3), 20)
    axes = np.random.default_rng(3).standard_normal((5, 20))
    axes /= np.linalg.norm(axes, axis=0)
    expected = [wasserstein_distance(a @ axis, b @ axis) for axis in axes.T]
    assert value == pytest.approx(np.mean(expected))
    assert pyramids.sliced_wasserstein(a, a[::-1], np.random.default_rng(3)) == 0


def blobs(seed, n=300):
    r = np.random.default_rng(seed)
    return pyramids.enlarge(r.random((n, 4, 4, 1)).astype(np.float32)) * 0.8 + 0.1


def test_swd_sees_which_scale_is_wrong():
    real, same = blobs(1), blobs(2)
    good = pyramids.swd(real + 0.05 * rng.random(real.shape), same + 0.05 * rng.random(real.shape))
    coloured = rng.random((300, 16, 16, 1)).repeat(2, axis=1).repeat(2, axis=2)
    bad = pyramids.swd(real + 0.05 * rng.random(real.shape), same + 0.05 * coloured)
    assert set(good) == {32, 16, 8}
    assert bad[32] > 3 * good[32]  # the finest details are missing
    assert bad[8] < 2 * good[8] + 5


def test_swd_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"give \(n, 32, 32, 1\) twice"):
        pyramids.swd(np.zeros((2, 28, 28, 1)), np.zeros((2, 28, 28, 1)))
