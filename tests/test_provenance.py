"""What chapter 12 measures with: files of 8 bits, JPEG, power spectra."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import fft

from helpers import data
from helpers.studies import provenance


@pytest.fixture
def rng():
    return np.random.default_rng(12)


@pytest.fixture(scope="module")
def digits():
    return data.to_unit(data.load("mnist", "test")[0][:20])


def test_eight_bit_gives_what_a_file_holds(rng):
    x = rng.random((3, 4, 5, 1), dtype="float32")
    rounded = provenance.eight_bit(x)
    assert np.abs(rounded - x).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(rounded * 255, np.round(rounded * 255), atol=1e-4)
    np.testing.assert_array_equal(provenance.eight_bit(rounded), rounded)


@pytest.mark.parametrize("quality", [50, 90])
def test_jpeg_is_tensorflows(digits, quality):
    mine = provenance.jpeg(digits, quality)
    exact = {"dct_method": "INTEGER_ACCURATE"}
    theirs = [tf.image.adjust_jpeg_quality(x, quality, **exact) for x in digits]
    assert np.abs(mine - np.stack(theirs)).max() <= 2.01 / 255
    assert np.abs(mine - digits).mean() > 0.001  # it does lose something


def test_jpeg_keeps_colours():
    x = np.tile(np.float32([1, 0.5, 0]), (1, 16, 16, 1))
    assert np.abs(provenance.jpeg(x, 95) - x).max() < 0.05


def test_log_power_against_scipy(rng):
    x = rng.random((4, 6, 8, 1))
    power = np.abs(fft.fft2(x[..., 0], norm="ortho")) ** 2
    expected = fft.fftshift(10 * np.log10(power).mean(axis=0))
    np.testing.assert_allclose(provenance.log_power(x), expected, atol=1e-8)


def test_log_power_of_a_flat_image_is_all_at_frequency_0():
    flat = provenance.log_power(np.full((2, 6, 8, 1), 0.5))
    assert flat[3, 4] == pytest.approx(10 * np.log10(0.25 * 48))
    flat[3, 4] = -100
    np.testing.assert_array_equal(flat, -100)


def test_log_power_puts_a_wave_of_two_pixels_at_the_border():
    stripes = np.tile([0.0, 1.0], 4)  # 0.5 cycles per pixel, across
    image = np.broadcast_to(stripes[None, None, :, None], (1, 8, 8, 1))
    spectrum = provenance.log_power(image)
    spectrum[4, 4] = -100  # the mean of the image
    assert np.unravel_index(spectrum.argmax(), spectrum.shape) == (4, 0)


@pytest.mark.parametrize(
    ("images", "quality", "sentence"),
    [
        (np.zeros((2, 8, 8)), 50, r"shape \(2, 8, 8\): give \(n, height, width, 1 or 3\)"),
        (np.zeros((0, 8, 8, 1)), 50, "have shape"),
        (np.full((1, 8, 8, 1), 2.0), 50, r"not floats in \[0, 1\]: use data.to_unit"),
        (np.zeros((1, 8, 8, 1), np.uint8), 50, "not floats in"),
        (np.full((1, 8, 8, 1), np.nan), 50, "not floats in"),
        (np.zeros((1, 8, 8, 1)), 96, "quality is 96: give a number from 1 to 95"),
    ],
)
def test_errors_say_what_to_do(images, quality, sentence):
    with pytest.raises(ValueError, match=sentence):
        provenance.jpeg(images, quality)
