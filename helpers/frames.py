"""Frames: pictures that follow each other, as an animation that every viewer shows."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image


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


def animation(frames, seconds_per_frame: float = 0.2, scale: int = 1, width=None) -> None:
    """Show frames as an embedded GIF; viewers without animation see the last frame.

    Args:
        frames: arrays of one shape, (h, w), (h, w, 1) or (h, w, 3), values in [0, 1].
        seconds_per_frame: how long each frame stays.
        scale: screen pixels for one pixel of a frame, in both directions.
        width: width on the screen in pixels, instead of a scale.
    """
    data = gif(frames, seconds_per_frame)
    still = io.BytesIO()
    Image.open(io.BytesIO(gif(frames[-1:]))).save(still, "PNG", optimize=True)
    width = width or scale * np.shape(frames[0])[1]
    style = f"width:{width}px; image-rendering:pixelated"
    source = base64.b64encode(data).decode("ascii")
    display(
        {
            "text/plain": f"animation of {len(frames)} frames",
            "text/html": f'<img style="{style}" src="data:image/gif;base64,{source}">',
            "image/png": base64.b64encode(still.getvalue()).decode("ascii"),
        },
        raw=True,
    )
