"""Pictures: their arrays, their animations, and what a static view shows."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from helpers import plots


def test_tile_places_every_image(rng):
    images = rng.random((5, 4, 3, 1))
    whole = plots.tile(images, columns=3, pad=1)
    assert whole.shape == (2 * 5 - 1, 3 * 4 - 1, 1)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        part = whole[row * 5 : row * 5 + 4, column * 4 : column * 4 + 3]
        np.testing.assert_allclose(part, image, atol=1e-6)
    assert np.all(whole[5:9, 8:] == 1), "the empty place is white"
    assert np.all(whole[4] == 1), "images are separated by a white line"


def test_tile_clips_and_takes_grey_images_without_a_channel():
    whole = plots.tile(np.array([[[-1.0, 2.0]]]), pad=0)
    np.testing.assert_array_equal(whole[..., 0], [[0, 1]])


@pytest.mark.parametrize("shape", [(28, 28), (2, 8, 8, 2), (0, 8, 8, 1)])
def test_tile_refuses_what_is_no_set_of_images(shape):
    with pytest.raises(ValueError, match="give at least one image"):
        plots.tile(np.zeros(shape))


def test_gif_holds_every_frame_in_order():
    frames = [np.full((6, 5), level) for level in (0.0, 0.5, 1.0)]
    picture = Image.open(io.BytesIO(plots.gif(frames, seconds_per_frame=0.3)))
    assert picture.n_frames == 3 and picture.size == (5, 6)
    levels, times = [], []
    for number in range(3):
        picture.seek(number)
        times.append(picture.info["duration"])
        levels.append(np.asarray(picture.convert("L")).mean())
    assert times == [300, 300, 1500]
    np.testing.assert_allclose(levels, [0, 128, 255], atol=1)


def test_gif_without_frames_says_what_to_do():
    with pytest.raises(ValueError, match="no frames"):
        plots.gif([])


def test_animation_has_a_still_for_viewers_that_show_none(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda content, **_: shown.append(content))
    plots.animation([np.zeros((4, 4)), np.ones((4, 4))])
    assert set(shown[0]) == {"text/plain", "text/html", "image/png"}
    assert 'src="data:image/gif;base64,' in shown[0]["text/html"]


def test_figure_frame_is_the_drawn_figure_and_closes_it():
    figure, ax = plt.subplots(figsize=(2, 1), dpi=50)
    figure.set_facecolor("red")
    ax.set_axis_off()
    frame = plots.figure_frame(figure)
    assert frame.shape == (50, 100, 3)
    np.testing.assert_allclose(frame[0, 0], [1, 0, 0])
    assert not plt.fignum_exists(figure.number)


def test_manifold_covers_the_prior_in_equal_shares():
    seen = []

    def decode(codes):
        seen.append(codes)
        return np.zeros((len(codes), 2, 2, 1))

    plots.manifold(decode, n=5, share=0.8)
    codes = seen[0].reshape(5, 5, 2)
    # Quantiles of the standard normal from a table: 10 %, 30 %, 50 %, 70 %, 90 %.
    table = [-1.2816, -0.5244, 0, 0.5244, 1.2816]
    np.testing.assert_allclose(codes[0, :, 0], table, atol=1e-4)
    np.testing.assert_allclose(codes[:, 0, 1], table[::-1], atol=1e-4)
    plt.close("all")


def test_loss_curves_smooths_with_an_unbiased_exponential_mean():
    figure, ax = plt.subplots()
    values = [4.0, 2.0, 0.0]
    plots.loss_curves({"generator_loss": values}, ax=ax, smooth=0.5)
    raw, smooth = ax.lines
    np.testing.assert_allclose(raw.get_ydata(), values)
    expected = [4, (2 + 0.5 * 4) / 1.5, (0 + 0.5 * 2 + 0.25 * 4) / 1.75]
    np.testing.assert_allclose(smooth.get_ydata(), expected)
    assert ax.get_legend().get_texts()[0].get_text() == "generator loss"
    plt.close(figure)


def test_lines_keep_their_points(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    plots.lines({"a": [(1, 10), (2, 20)], "b": [(3, 5)]}, "time", "FID", log=True)
    ax = plt.gca()
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1, 10], [2, 20]])
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[3, 5]])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("time", "FID", "log")
    plt.close("all")


def test_slider_shows_a_static_view_without_a_kernel():
    drawn = []
    plots.slider(lambda ax, value: drawn.append(value), range(11), "distance", panels=3)
    assert drawn == [0, 5, 10]
    plt.close("all")
