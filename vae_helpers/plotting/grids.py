"""Images in rows: grids and traversals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from scipy.stats import norm

ImageShape = tuple[int, int] | tuple[int, int, int]


def tile(images: Any, shape: ImageShape, *, n_columns: int, pad: int = 1, between: float = 1.0) -> np.ndarray:
    """Lay images out in rows on one array, with lines between them.

    Args:
        images: (N, D) with values in [0, 1], D = prod(shape). shape: (H, W), or (C, H, W) with C = 1 or 3.
        n_columns: images a row. pad: pixels between them. between: their grey level; 1, white, shows no border.

    Returns:
        (rows*(H+pad)-pad, columns*(W+pad)-pad) in [0, 1], with a last axis of 3 for colour. Grey images are
        returned inverted (ink dark on white), so that 0 is white as in ``gray_r``.

    Raises:
        ValueError: if D does not fit the shape, C is another number, or ``n_columns`` < 1.
    """
    images = np.asarray(images, dtype=np.float32)
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    if images.ndim != 2 or images.shape[1] != np.prod(shape):
        raise ValueError(f"images of shape {tuple(shape)} need rows of {np.prod(shape)} values, got {images.shape}")
    if len(shape) not in (2, 3) or shape[:-2] not in ((), (1,), (3,)):
        raise ValueError(f"a picture is (H, W), (1, H, W) or (3, H, W), got {tuple(shape)}")
    colour = shape[:-2] == (3,)
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
    labels = [f"{value:+.3g}" if abs(value) > 1e-6 else "0" for value in values]
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
    if max(map(len, labels)) > 4:
        ax.tick_params(axis="x", labelsize="x-small")
    ax.set_xlabel(unit)
    ax.xaxis.set_label_position("bottom")
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
