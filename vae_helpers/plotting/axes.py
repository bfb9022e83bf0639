"""Codes, components of a prior, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection

from vae_helpers.plotting.style import CLASS_PALETTE


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
    size = float(np.clip(12_000 / max(len(z), 1), 3, 12))  # the fewer dots, the larger
    dot: dict[str, Any] = {"s": size, "alpha": float(np.clip(size / 12, 0.5, 0.85)), "linewidths": 0}
    for label in np.unique(classes):
        chosen = classes == label
        ax.scatter(z[chosen, 0], z[chosen, 1], color=CLASS_PALETTE[label % 10], label=str(label), **dot)
    if y is not None and legend:
        ax.legend(markerscale=math.sqrt(48 / size), loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
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
