"""Arrays to Axes, Figures and GIFs. Nothing here knows a model; arrays may be numpy or CPU tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy.stats import norm

CLASS_PALETTE = sns.color_palette("tab10", 10)  # one colour a class, the same in every figure
DPI = 110
ImageShape = tuple[int, int] | tuple[int, int, int]


def use_style() -> None:
    """The collection's look: white grid-free axes, thin lines, PNG at 110 dpi."""
    sns.set_theme(style="ticks", context="notebook", font_scale=0.85)
    plt.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 1.4,
            "legend.frameon": False,
        }
    )


def tile(images: Any, shape: ImageShape, *, n_columns: int, pad: int = 1, between: float = 1.0) -> np.ndarray:
    """Lay images out in rows on one array, with lines between them.

    Args:
        images: (N, D) with values in [0, 1], D = prod(shape). shape: (H, W), or (C, H, W) with C = 3.
        n_columns: images a row. pad: pixels between them. between: their grey level; 1, white, shows no border.

    Returns:
        (rows*(H+pad)-pad, columns*(W+pad)-pad) in [0, 1], with a last axis of 3 for colour. Grey images are
        returned inverted (ink dark on white), so that 0 is white as in ``gray_r``.

    Raises:
        ValueError: if D does not fit the shape, or ``n_columns`` < 1.
    """
    images = np.asarray(images, dtype=np.float32)
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    if images.ndim != 2 or images.shape[1] != np.prod(shape):
        raise ValueError(f"images of shape {tuple(shape)} need rows of {np.prod(shape)} values, got {images.shape}")
    colour = len(shape) == 3
    height, width = shape[-2:]
    cells = (
        images.reshape(-1, 3, height, width).transpose(0, 2, 3, 1) if colour else 1 - images.reshape(-1, height, width)
    )
    n_rows = -(-len(cells) // n_columns)
    size = (n_rows * (height + pad) - pad, n_columns * (width + pad) - pad, *cells.shape[3:])
    canvas = np.full(size, between, np.float32)
    for i in range(n_rows * n_columns):
        top, left = (i // n_columns) * (height + pad), (i % n_columns) * (width + pad)
        canvas[top : top + height, left : left + width] = cells[i] if i < len(cells) else 1
    return canvas.clip(0, 1)


def plot_grid(
    images: Any,
    shape: ImageShape,
    *,
    n_columns: int,
    pad: int = 1,
    between: float = 1.0,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A grid of images as one ``imshow``, dark ink on white, fixed 0-1, with optional labels.

    Args:
        images, shape, n_columns, pad, between: see `tile`. row_labels, column_labels: one string each.
        title: of the axes. ax: drawn into; None makes a figure of fitting size.

    Returns:
        the Axes.

    Raises:
        ValueError: as `tile`.
    """
    canvas = tile(images, shape, n_columns=n_columns, pad=pad, between=between)
    height, width = shape[-2] + pad, shape[-1] + pad
    if ax is None:
        inches = 0.42
        _, ax = plt.subplots(figsize=(canvas.shape[1] / width * inches + 1.2, canvas.shape[0] / height * inches + 0.4))
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="auto")
    ax.set_xticks([(i + 0.5) * width - 1 for i in range(len(column_labels))], column_labels)
    ax.set_yticks([(i + 0.5) * height - 1 for i in range(len(row_labels))], row_labels)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    sns.despine(ax=ax, left=True, bottom=True)
    if title:
        ax.set_title(title)
    return ax


def normal_grid(n: int, *, margin: float = 0.02) -> np.ndarray:
    """Points of a square grid pushed through the inverse normal CDF, so that each holds equal prior mass.

    Args:
        n: points a side. margin: probability left out at each end, in (0, 0.5).

    Returns:
        (n*n, 2): first axis of z to the right, second *up*, in image order (top row first).

    Raises:
        ValueError: for n < 1 or a margin out of range.

    Source: Kingma & Welling 2014, appendix A.
    """
    if n < 1 or not 0 < margin < 0.5:
        raise ValueError(f"need n >= 1 and 0 < margin < 0.5, got n={n}, margin={margin}")
    quantiles = norm.ppf(np.linspace(margin, 1 - margin, n))
    second, first = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")
    return np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)


def plot_latents(
    z: Any,
    y: Any | None = None,
    *,
    title: str = "",
    legend: bool = True,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Scatter of 2-D codes, coloured by class, equal aspect.

    Args:
        z: (N, 2). y: (N,) classes 0-9, or None. title: of the axes. legend: name the classes.
        limit: half-width of the axes; None fits the data. ax: drawn into; None makes a figure.

    Returns:
        the Axes.

    Raises:
        ValueError: if z is not (N, 2).
    """
    z = np.asarray(z)
    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(f"z must be (N, 2), got {z.shape}")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.2, 4.2))
    classes = np.zeros(len(z), dtype=int) if y is None else np.asarray(y)
    for label in np.unique(classes):
        chosen = classes == label
        ax.scatter(
            z[chosen, 0], z[chosen, 1], s=3, alpha=0.5, linewidths=0, color=CLASS_PALETTE[label % 10], label=str(label)
        )
    if y is not None and legend:
        ax.legend(markerscale=4, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
    if limit is not None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    ax.set(xlabel="$z_1$", ylabel="$z_2$", title=title)
    ax.set_aspect("equal", adjustable="datalim" if limit is None else "box")
    return ax


def plot_components(
    p_mu: Any, p_logvar: Any, *, n_sd: float = 1.0, colour: Any = "black", label: str = "", ax: Axes | None = None
) -> Axes:
    """Diagonal 2-D Gaussians as ellipses.

    Args:
        p_mu, p_logvar: (K, 2), the second the log *variance*. n_sd: half-axes in standard deviations.
        colour, label: of the ellipses, one legend entry for all. ax: drawn into; None makes a figure.

    Returns:
        the Axes.

    Raises:
        ValueError: if the arrays are not (K, 2).
    """
    p_mu, p_sd = np.asarray(p_mu), np.exp(0.5 * np.asarray(p_logvar))
    if p_mu.ndim != 2 or p_mu.shape[1] != 2 or p_sd.shape != p_mu.shape:
        raise ValueError(f"p_mu and p_logvar must be (K, 2), got {p_mu.shape} and {p_sd.shape}")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.2, 4.2))
    axes = 2 * n_sd * p_sd
    ellipses = EllipseCollection(
        axes[:, 0],
        axes[:, 1],
        np.zeros(len(p_mu)),
        units="xy",
        offsets=p_mu,
        offset_transform=ax.transData,
        facecolors="none",
        edgecolors=colour,
        linewidths=0.8,
        label=label or None,
    )
    ax.add_collection(ellipses)
    ax.autoscale_view()
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    ax.set_aspect("equal", adjustable="datalim")
    return ax


def plot_curves(
    steps: Any, series: Mapping[str, Any], *, ylabel: str = "nats per example", title: str = "", ax: Axes | None = None
) -> Axes:
    """Lines over optimiser steps, one a name.

    Args:
        steps: (T,). series: name -> (T,). ylabel, title: of the axes. ax: drawn into; None makes a figure.

    Returns:
        the Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 3))
    for name, values in series.items():
        ax.plot(steps, values, label=name)
    ax.set(xlabel="optimiser step", ylabel=ylabel, title=title)
    if len(series) > 1:
        ax.legend()
    return ax


def plot_traversals(
    images: Any,
    shape: ImageShape,
    *,
    row_labels: Sequence[str],
    values: Sequence[float],
    unit: str = "standard deviations from the mean code",
    between: float = 1.0,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """One row a latent, one column a value: what each latent does.

    Args:
        images: (rows*columns, D), row by row. shape: see `tile`. row_labels: such as "z3  KL 4.1".
        values: of the columns. unit: of the values. between: see `tile`. title: of the axes. ax: drawn into.

    Returns:
        the Axes.
    """
    labels = [f"{value:+.1f}" if abs(value) > 1e-6 else "0" for value in values]
    ax = plot_grid(
        images,
        shape,
        n_columns=len(values),
        between=between,
        row_labels=row_labels,
        column_labels=labels,
        title=title,
        ax=ax,
    )
    ax.set_xlabel(unit)
    ax.xaxis.set_label_position("bottom")
    return ax


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
