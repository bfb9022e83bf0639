"""What the mean of a latent does over places, scales and orientations of a sprite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure


def plot_mean_activations(
    grids: Mapping[str, tuple[Sequence[str], Any]],
    *,
    shapes: Sequence[str],
    scales: Sequence[float],
    angles: Sequence[float],
    limit: float = 2.0,
) -> Figure:
    """A row per latent and three columns per model: its mean code by place, by scale and by angle.

    Args:
        grids: title -> (names of latents, mean codes (shape, scale, orientation, y, x, latent)). shapes, scales,
            angles: of the first three axes, angles in degrees. limit: of the colours and, a little more, of the lines.

    Returns:
        the Figure.

    Raises:
        ValueError: for grids of other sizes than the names.
    """
    n_rows = max(len(names) for names, _ in grids.values())
    figure, axes = plt.subplots(
        n_rows, 3 * len(grids), figsize=(4.4 * len(grids), 1.5 * n_rows + 0.5), width_ratios=[1, 1, 1.2] * len(grids),
        squeeze=False,
    )  # fmt: skip
    for column, (title, (names, grid)) in enumerate(grids.items()):
        means = np.asarray(grid)
        if means.ndim != 6 or means.shape[:3] != (len(shapes), len(scales), len(angles)) or means.shape[5] < len(names):
            raise ValueError(
                f"{title}: mean codes must be (shape, scale, orientation, y, x, latent), got {means.shape}"
            )
        for row in range(n_rows):
            place, by_scale, by_angle = axes[row, 3 * column : 3 * column + 3]
            if row >= len(names):
                for ax in (place, by_scale, by_angle):
                    ax.set_axis_off()
                continue
            latent = means[..., row]
            picture = place.imshow(latent.mean((0, 1, 2)), vmin=-limit, vmax=limit, cmap="RdBu_r")
            place.set(xticks=[], yticks=[], ylabel=names[row])
            for k, shape in enumerate(shapes):
                by_scale.plot(scales, latent[k].mean((1, 2, 3)), marker=".", label=shape)
                by_angle.plot(angles, latent[k].mean((0, 2, 3)), label=shape)
            by_scale.set(ylim=(-1.3 * limit, 1.3 * limit), xticks=list(scales))
            by_angle.set(ylim=(-1.3 * limit, 1.3 * limit), xticks=[0, 180, 360], yticklabels=[])
        axes[0, 3 * column].set_title(f"{title}\nby place (y, x)", fontsize=9)
        axes[0, 3 * column + 1].set_title("by scale", fontsize=9)
        axes[0, 3 * column + 2].set_title("by rotation, degrees", fontsize=9)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(shapes))
    figure.colorbar(picture, ax=axes, shrink=0.5, label="mean code")
    return figure
