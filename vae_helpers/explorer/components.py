"""The components of a mixture prior, one by one."""

from __future__ import annotations

import ipywidgets as widgets
import torch
from torch import Tensor

from vae_helpers.explorer.latents import LatentExplorer
from vae_helpers.explorer.panel import wide
from vae_helpers.models import VAE
from vae_helpers.plotting import ImageShape, axes_png, plot_grid
from vae_helpers.priors import Mixture


class ComponentExplorer(LatentExplorer):
    """A `LatentExplorer` that starts from a component of the prior: its mean, or a draw from it.

    Components come in the order of the share of the examples' codes that falls to them,
    :math:`\\frac1N \\sum_n p(k \\mid \\mu(x_n))`.

    Args:
        model: a trained `VAE` whose prior is a mixture (a `VampPrior` is one), in evaluation mode.
        x, shape, n_sliders, limit, scale: as `LatentExplorer`.

    Raises:
        ValueError: as `LatentExplorer`, or for a model whose prior is no mixture.
    """

    SHOWN = 40  # components in the still picture

    def __init__(
        self,
        model: VAE,
        x: Tensor,
        *,
        shape: ImageShape,
        n_sliders: int = 8,
        limit: float = 3.0,
        scale: int = 5,
    ) -> None:
        if not isinstance(model.prior, Mixture):
            raise ValueError(f"this model's prior is {type(model.prior).__name__}, no mixture; use LatentExplorer")
        self._prior = model.prior
        with torch.inference_mode():
            share = self._prior.component_probs(model.encode(x)[0]).mean(0)
            self._means = self._prior.components()[0].clone()
        self.by_share = share.argsort(descending=True).tolist()
        self._share = share[self.by_share].tolist()
        self.component = widgets.IntSlider(
            value=0,
            min=0,
            max=len(self.by_share) - 1,
            description="component",
            **wide(),
        )
        self.component.observe(lambda _: self.show_mean(), names="value")
        self.draw_one = widgets.Button(description="Draw from it", icon="random", layout=widgets.Layout(width="130px"))
        self.draw_one.on_click(lambda _: self.show_draw())
        self.about = widgets.HTML()
        super().__init__(
            model,
            x,
            shape=shape,
            n_sliders=n_sliders,
            limit=limit,
            scale=scale,
            caption="original · reconstruction · edited, which a component's mean or a draw from it replaces",
            extra=[self.component, widgets.HBox([self.draw_one, self.about])],
        )
        self._tell()

    def show_mean(self) -> None:
        """Show the mean of the chosen component."""
        self._tell()
        self.show_code(self._means[self.by_share[self.component.value]])

    @torch.no_grad()
    def show_draw(self) -> None:
        """Show a draw from the chosen component."""
        chosen = torch.tensor([self.by_share[self.component.value]], device=self._means.device)
        self.show_code(self._prior.sample_component(chosen)[0])

    def _tell(self) -> None:
        rank = self.component.value
        self.about.value = f"<small>number {self.by_share[rank]}, {self._share[rank]:.1%} of the examples</small>"

    def _traversals(self, limit: float) -> bytes:
        means = self._means[self.by_share[: self.SHOWN]]
        ax = plot_grid(self._decoded(means), self.shape, n_columns=10, title="the components with the largest shares")
        return axes_png(ax)
