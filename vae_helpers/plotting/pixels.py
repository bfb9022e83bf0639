"""Pictures as bytes and files: PNG, GIF, and a drawn figure to put points on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw


def to_png(image: np.ndarray | Image.Image, *, scale: int = 1) -> bytes:
    """Encode an image quickly as PNG, enlarged by whole pixels.

    Args:
        image: (H, W) or (H, W, 3) in [0, 1], or a Pillow image. scale: enlargement, >= 1.

    Returns:
        PNG bytes.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.ascontiguousarray((image * 255).round().astype(np.uint8)))
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def figure_png(figure: Figure, *, close: bool = True) -> bytes:
    """A matplotlib figure as PNG bytes at its own dpi; closed afterwards so that it does not show twice."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    if close:
        plt.close(figure)
    return buffer.getvalue()


def axes_png(ax: Axes) -> bytes:
    """The figure that an Axes belongs to, as `figure_png`."""
    figure = ax.figure.get_figure(root=True)
    assert figure is not None
    return figure_png(figure)


class Backdrop:
    """A drawn Axes as pixels, on which points can be put a thousand times a second.

    Args:
        ax: its figure is rendered once, and closed.
    """

    def __init__(self, ax: Axes) -> None:
        figure = ax.figure.get_figure(root=True)
        assert figure is not None
        figure.canvas.draw()
        self._to_display: Any = ax.transData.frozen()
        self._height = figure.bbox.height
        self.image = Image.open(io.BytesIO(figure_png(figure))).convert("RGB")

    def with_points(self, points: Any, *, radius: int = 6, colour: str = "black") -> Image.Image:
        """A copy with filled circles at data coordinates, (N, 2)."""
        picture = self.image.copy()
        draw = ImageDraw.Draw(picture)
        for x, y in self._to_display.transform(np.atleast_2d(np.asarray(points))):
            row = self._height - y
            draw.ellipse((x - radius, row - radius, x + radius, row + radius), fill=colour, outline="white", width=2)
        return picture


def save_gif(frames: Sequence[np.ndarray | Image.Image], path: Path, *, fps: float = 10.0, scale: int = 1) -> None:
    """Write an endlessly looping GIF.

    Args:
        frames: see `to_png`; all of one size. path: of the file. fps: frames a second, > 0. scale: enlargement.

    Raises:
        ValueError: for no frames or fps <= 0.
    """
    if not frames or not fps > 0:
        raise ValueError(f"a GIF needs frames and fps > 0, got {len(frames)} frames at {fps} fps")
    pictures = [
        Image.open(io.BytesIO(to_png(frame, scale=scale))).convert("P", palette=Image.Palette.ADAPTIVE)
        for frame in frames
    ]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=True)
