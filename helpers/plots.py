"""Plots: image grids, bars, loss curves, animations, latent manifolds and sliders.

Images are arrays of shape (n, height, width, 1 or 3) with values in [0, 1]; what lies outside
is clipped. Every function draws and shows at once, and returns nothing unless it says so.
"""

import base64
import html
import io

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

REAL, GENERATED, THIRD, QUIET = "#2a6fbb", "#e8731a", "#3a9d5d", "#8a8a8a"
plt.rcParams.update(
    {
        "figure.dpi": 80,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": plt.cycler(color=[REAL, GENERATED, THIRD, "#8e5bb5", QUIET]),
        "axes.titlesize": 11,
        "image.cmap": "gray",
    }
)


def show(alt: str) -> None:
    """Show the current figure with a text for readers who cannot see it.

    Args:
        alt: what the picture shows and what to see in it, a sentence or two; it goes into the
            output's metadata, from where pages take it.
    """
    figure = plt.gcf()
    if get_ipython() is None:
        plt.show()
        return
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def tile(images, columns: int | None = None, pad: int = 1) -> np.ndarray:
    """Return one array with all images side by side, on white.

    Args:
        images: shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), values in [0, 1].
        columns: images in a row; by default about as many as there are rows.
        pad: white pixels between two images.

    Returns:
        float32, shape (rows * (h + pad) - pad, columns * (w + pad) - pad, 1 or 3).

    Raises:
        ValueError: the shape is none of these, or there is no image.
    """
    images = np.asarray(images, dtype=np.float32)
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(
            f"images have shape {images.shape}: give at least one image, "
            "(n, height, width, 1) or (n, height, width, 3)."
        )
    n, height, width, channels = images.shape
    columns = columns or min(n, int(np.ceil(np.sqrt(n))))
    rows = -(-n // columns)
    cells = np.ones((rows * columns, height + pad, width + pad, channels), np.float32)
    cells[:n, :height, :width] = np.clip(images, 0, 1)
    cells = cells.reshape(rows, columns, height + pad, width + pad, channels)
    whole = cells.swapaxes(1, 2).reshape(rows * (height + pad), -1, channels)
    return whole[: rows * (height + pad) - pad, : columns * (width + pad) - pad]


def show_image(ax, image, title: str | None = None) -> None:
    """Draw one array of shape (h, w, 1 or 3), values in [0, 1], without axes."""
    ax.imshow(np.squeeze(np.clip(image, 0, 1)), vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    if title:
        ax.set_title(title)


def image_grid(
    images, columns=None, title=None, scale: float = 1.0, ax=None, alt: str | None = None
) -> None:
    """Show images as one tiled picture.

    Args:
        images: shape (n, h, w, 1 or 3), values in [0, 1].
        columns: images in a row; by default a square.
        title: a line above the picture.
        scale: size of a pixel, in screen pixels divided by 1.6.
        ax: axes to draw on, for pictures side by side; by default a figure of its own.
        alt: a text for readers who cannot see it; by default the number of images and the title.
    """
    whole = tile(images, columns)
    if ax is None:
        height, width = (scale * side * 1.6 / 80 for side in whole.shape[:2])
        _, ax = plt.subplots(figsize=(width, height + (0.35 if title else 0)))
        show_image(ax, whole, title)
        show(alt or f"{len(images)} images in a grid: {title or 'no title'}.")
    else:
        show_image(ax, whole, title)


def image_grids(groups: dict, columns=None, width: float = 10, alt: str | None = None) -> None:
    """Show several sets of images side by side, each under its name.

    Args:
        groups: {title: images (n, h, w, 1 or 3) in [0, 1]}.
        columns: images in a row of each; by default a square.
        width: width of the whole, in inches.
        alt: a text for readers who cannot see it; by default the titles.
    """
    rows, across = tile(next(iter(groups.values())), columns).shape[:2]
    height = width / len(groups) * rows / across + 0.3
    _, axes = plt.subplots(1, len(groups), figsize=(width, height), squeeze=False)
    for ax, (title, images) in zip(axes[0], groups.items(), strict=True):
        image_grid(images, columns, title, ax=ax)
    show(alt or f"Image grids side by side: {', '.join(groups)}.")


def bars(
    values: dict,
    xlabel: str,
    errors=None,
    mark: str | None = None,
    log: bool = True,
    alt: str | None = None,
) -> None:
    """Draw named numbers > 0 as horizontal bars, the smallest first.

    Args:
        values: {name: number}.
        xlabel: what the numbers are.
        errors: {name: standard deviation}, drawn as whiskers.
        mark: a name whose value gets a line down all bars, to compare with.
        log: a logarithmic axis.
        alt: a text for readers who cannot see it; by default the names and their numbers.
    """
    names = sorted(values, key=values.get, reverse=True)
    _, ax = plt.subplots(figsize=(7, 0.6 + 0.24 * len(names)))
    whiskers = errors and [errors[name] for name in names]
    drawn = ax.barh(names, [values[name] for name in names], xerr=whiskers, color=GENERATED)
    ax.bar_label(drawn, fmt="%.3g", padding=3)
    if mark:
        ax.axvline(values[mark], color="grey", linestyle=":")
    ax.set(xlabel=xlabel, xscale="log" if log else "linear")
    ax.margins(x=0.12)
    told = ", ".join(f"{name} {values[name]:.3g}" for name in reversed(names))
    show(alt or f"Bars, {xlabel}: {told}.")


def loss_curves(history, names=None, title=None, ax=None, smooth: float = 0.0, xlabel="epoch",
                alt: str | None = None):  # fmt: skip
    """Draw losses (or other numbers) over the course of training.

    Args:
        history: what ``fit`` returns, or a dict of lists, one value an epoch.
        names: which of them to draw, or a dict name -> label; by default all.
        title: a line above the picture.
        ax: axes to draw on; by default a figure of its own.
        smooth: weight of the past in an exponential mean, in [0, 1); the raw curve stays visible.
        xlabel: the horizontal axis.
        alt: a text for readers who cannot see it; by default where each curve starts and ends.
    """
    values = getattr(history, "history", history)
    names = names or list(values)
    labels = names if isinstance(names, dict) else {name: name.replace("_", " ") for name in names}
    own = ax is None
    if own:
        _, ax = plt.subplots(figsize=(7, 2.8))
    for number, (name, label) in enumerate(labels.items()):
        raw = np.asarray(values[name], dtype=float)
        epochs, colour = np.arange(1, len(raw) + 1), f"C{number}"
        if smooth:
            ax.plot(epochs, raw, color=colour, alpha=0.25, linewidth=1)
            weights = smooth ** np.arange(len(raw))
            raw = np.convolve(raw, weights)[: len(raw)] / np.cumsum(weights)
        ax.plot(epochs, raw, color=colour, label=label)
    ax.set_xlabel(xlabel)
    ax.legend(frameon=False)
    if title:
        ax.set_title(title)
    if own:
        ends = [f"{label} from {values[name][0]:.3g} to {values[name][-1]:.3g}"
                for name, label in labels.items()]  # fmt: skip
        show(alt or f"Curves over {xlabel}: {'; '.join(ends)}.")


def lines(
    groups: dict, xlabel: str, ylabel: str, log: bool = False, alt: str | None = None
) -> None:
    """Draw points joined by lines, a colour for each name.

    Args:
        groups: {name: pairs (x, y)}.
        log: a logarithmic vertical axis.
        alt: a text for readers who cannot see it; by default the axes and the names.
    """
    _, ax = plt.subplots(figsize=(7, 2.8))
    for name, pairs in groups.items():
        ax.plot(*np.transpose(pairs), "o-", markersize=4, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    ax.legend(frameon=False)
    show(alt or f"Lines, {ylabel} over {xlabel}: {', '.join(groups)}.")


def manifold(
    decode, n: int = 15, share: float = 0.98, title=None, ax=None, alt: str | None = None
) -> None:
    """Show what a decoder makes of a regular grid over a two-dimensional latent space.

    The grid has equal steps in probability under a standard normal prior (Kingma & Welling
    2014, appendix A): each picture stands for the same share of the prior.

    Args:
        decode: function from latent codes (m, 2) to images (m, h, w, 1 or 3) in [0, 1].
        n: pictures in each direction.
        share: the central part of the prior that is covered in each direction.
        title: a line above the picture.
        ax: axes to draw on; by default a figure of its own.
        alt: as in ``image_grid``.
    """
    steps = scipy.stats.norm.ppf(np.linspace((1 - share) / 2, (1 + share) / 2, n))
    first, second = np.meshgrid(steps, steps[::-1])
    codes = np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)
    image_grid(np.asarray(decode(codes)), columns=n, title=title, ax=ax, alt=alt)


def slider(
    draw, values, label: str, panels: int = 5, size: float = 2.4, alt: str | None = None
) -> None:
    """Show a picture that depends on one number, for several of its values.

    The static view (a printed or published notebook) has ``panels`` of the pictures side by
    side; in a live kernel a slider over all values stands below them.

    Args:
        draw: function ``draw(ax, value)`` that draws one picture.
        values: the values, in order.
        label: the number's name.
        panels: how many pictures the static view has.
        size: width and height of a picture, in inches.
        alt: a text for readers who cannot see it; by default the values that are shown.
    """
    values = list(values)
    shown = np.unique(np.linspace(0, len(values) - 1, min(panels, len(values))).round().astype(int))
    _, axes = plt.subplots(1, len(shown), figsize=(size * len(shown), size), squeeze=False)
    for ax, position in zip(axes[0], shown, strict=True):
        draw(ax, values[position])
        ax.set_title(f"{label} = {values[position]:g}")
    told = ", ".join(f"{values[position]:g}" for position in shown)
    show(alt or f"Pictures for {label} = {told}.")
    if get_ipython() is None:
        return
    import ipywidgets  # only where a kernel can answer

    def redraw(value):
        _, ax = plt.subplots(figsize=(1.6 * size, 1.6 * size))
        draw(ax, value)
        plt.show()

    options = [(f"{value:g}", value) for value in values]
    ipywidgets.interact(
        redraw, value=ipywidgets.SelectionSlider(options=options, description=label)
    )


def figure_frame(figure: Figure) -> np.ndarray:
    """Turn a figure into a frame for ``animation``, and close it.

    Returns:
        float32, shape (h, w, 3), values in [0, 1].
    """
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(np.float32) / 255
    plt.close(figure)
    return pixels


def gif(frames, seconds_per_frame: float = 0.2, last: float = 1.5) -> bytes:
    """Return an animated GIF of frames of one shape: (h, w), (h, w, 1) or (h, w, 3) in [0, 1].

    Args:
        frames: at least one array.
        seconds_per_frame: how long each frame stays.
        last: how long the last frame stays, in seconds.
    """
    if not len(frames):
        raise ValueError("There are no frames: train longer, or take a frame more often.")
    pictures = []
    for frame in frames:
        pixels = np.squeeze(np.asarray(np.clip(frame, 0, 1) * 255 + 0.5, dtype=np.uint8))
        picture = Image.fromarray(pixels)
        pictures.append(picture if pixels.ndim == 2 else picture.quantize(64))
    times = [int(1000 * seconds_per_frame)] * (len(pictures) - 1) + [int(1000 * last)]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0
    )
    return buffer.getvalue()


def strip(frames, n: int = 6) -> list:
    """Return n of the frames, evenly spread from the first to the last, for a still picture."""
    chosen = np.linspace(0, len(frames) - 1, min(n, len(frames))).round().astype(int)
    return [frames[i] for i in chosen]


def animation(
    frames, seconds_per_frame: float = 0.2, scale: int = 1, width=None, alt: str | None = None
) -> None:
    """Show frames as an embedded GIF; viewers without animation see the last frame.

    Args:
        frames: arrays of one shape, (h, w), (h, w, 1) or (h, w, 3), values in [0, 1].
        seconds_per_frame: how long each frame stays.
        scale: screen pixels for one pixel of a frame, in both directions.
        width: width on the screen in pixels, instead of a scale.
        alt: a text for readers who cannot see it.
    """
    alt = alt or f"Animation of {len(frames)} frames; the last one is shown where nothing moves."
    data = gif(frames, seconds_per_frame)
    still = io.BytesIO()
    Image.open(io.BytesIO(gif(frames[-1:]))).save(still, "PNG", optimize=True)
    width = width or scale * np.shape(frames[0])[1]
    style = f"width:{width}px; image-rendering:pixelated"
    source = f"data:image/gif;base64,{base64.b64encode(data).decode('ascii')}"
    display(
        {
            "text/plain": f"animation of {len(frames)} frames",
            "text/html": f'<img alt="{html.escape(alt)}" style="{style}" src="{source}">',
            "image/png": base64.b64encode(still.getvalue()).decode("ascii"),
        },
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )
