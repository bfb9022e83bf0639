"""Curves with their names at their ends, in place of a legend."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

from vae_helpers.plotting.style import CLASS_PALETTE

LINE = 0.055  # of the axes' height: the smallest distance of two names
TEXT = 1.06  # of the axes' width: where the names begin


def plot_labelled_curves(
    steps: Any,
    series: Mapping[str, Any],
    *,
    grey: Collection[str] = (),
    ylabel: str = "",
    title: str = "",
    ylim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Lines over optimiser steps, each with its name in its colour, joined to its right end by a thin line.

    Args:
        steps: (T,). series: name -> (T,), at most ten besides those in ``grey``. grey: names of lines drawn thin and
            grey, with one name for all of them. ylabel, title, ylim: of the axes. ax: drawn into; None makes a figure.

    Returns:
        the Axes.

    Raises:
        ValueError: for more than ten coloured lines, which could not be told apart.
    """
    coloured = [name for name in series if name not in grey]
    if len(coloured) > len(CLASS_PALETTE):
        raise ValueError(f"{len(coloured)} coloured lines; {len(CLASS_PALETTE)} can be told apart, so make some grey")
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.4))
    colours = {name: CLASS_PALETTE[i] for i, name in enumerate(coloured)}
    for name, values in series.items():
        ax.plot(steps, values, color=colours.get(name, "0.7"), linewidth=1.6 if name in colours else 0.8)
    ax.set(xlabel="optimiser step", ylabel=ylabel, title=title)
    if ylim is not None:
        ax.set_ylim(*ylim)
    ends = {name: float(np.asarray(series[name])[-1]) for name in coloured}
    greys = [name for name in series if name in grey]
    if greys:
        ends[", ".join(greys)] = float(np.mean([np.asarray(series[name])[-1] for name in greys]))
    low, high = ax.get_ylim()
    last = np.asarray(steps)[-1]
    ax.set_xlim(right=last)
    for name, y in _spread(ends, LINE * (high - low), low, high).items():
        label = name if name in colours else f"{len(greys)} others"
        ax.annotate(
            label,
            (last, ends[name]),
            (TEXT, y),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colours.get(name, "0.45"),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.6,
                "color": colours.get(name, "0.45"),
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    return ax


def _spread(ends: Mapping[str, float], distance: float, low: float, high: float) -> dict[str, float]:
    """Heights in the order of the ends, at least ``distance`` apart and within the axes, as near to the ends as can be.

    The squared distances to the ends are the least; names that touch stay around their mean end.
    """
    names = sorted(ends, key=ends.__getitem__)
    steps = distance * np.arange(len(names))
    free = isotonic_regression(np.array([ends[name] for name in names]) - steps).x
    heights = free.clip(low, max(low, high - steps[-1])) + steps if names else steps
    return dict(zip(names, heights.tolist(), strict=True))
