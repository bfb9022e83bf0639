"""Curves and a picture that follow a training while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vae_helpers.plotting import figure_png

PANEL = 3.2  # inches
TITLES = {  # of terms that every model has
    "loss": "loss, nats",
    "log_px": "log p(x | z), nats",
    "kl": "KL, nats",
    "elbo_bound": "ELBO, nats",
    "synergy_loss": "KL of penalised latents, nats",
    "n_kept": "latents kept",
}


class LiveView:
    """A ``watch`` of `training.fit` that redraws one figure in a notebook: curves, and what the model draws.

    The last state stays as the cell's output.

    Args:
        terms: names of terms or evaluated numbers, a panel each. picture: model -> (H, W) or (H, W, 3), 0 to 1; None
            for none.

    Raises:
        ValueError: for nothing to show; at a call with terms and evaluations, for a name in neither, listing them.
    """

    def __init__(self, terms: Sequence[str] = ("loss",), *, picture: Callable[[Any], np.ndarray] | None = None) -> None:
        if not terms and picture is None:
            raise ValueError("a LiveView needs terms or a picture to show")
        self.terms, self.picture = tuple(terms), picture
        self.png = b""
        self._handle: Any = None

    def __call__(self, model: Any, history: Any) -> None:
        """Draw the state of a training and show it in the place of the one before."""
        from IPython.display import Image, display

        self.png = figure_png(self._figure(model, history))
        if self._handle is None:
            self._handle = display(Image(self.png), display_id=True)
        else:
            self._handle.update(Image(self.png))

    def _figure(self, model: Any, history: Any) -> Figure:
        n_panels = len(self.terms) + (self.picture is not None)
        figure = Figure(figsize=(PANEL * n_panels, PANEL), layout="constrained")
        axes = figure.subplots(1, n_panels, squeeze=False)[0]
        for ax, name in zip(axes, self.terms, strict=False):
            ax.plot(*self._values(history, name), marker=".")
            ax.set(title=TITLES.get(name, name), xlabel="optimiser step")
        if self.picture is not None:
            axes[-1].imshow(self.picture(model), cmap="gray", vmin=0, vmax=1)
            axes[-1].set_axis_off()
        return figure

    def _values(self, history: Any, name: str) -> tuple[Sequence[float], Sequence[float]]:
        for rows in (history.rows, history.evals):
            if rows and name in rows[0]:
                return [row["step"] for row in rows], [row[name] for row in rows]
        if history.rows and history.evals:  # both kinds are known by now
            known = (history.rows[0].keys() | history.evals[0].keys()) - {"step", "seconds"}
            raise ValueError(f"{name!r} is not measured; there are {', '.join(sorted(known))}")
        return [], []
