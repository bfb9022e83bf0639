"""One slider a latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from vae_helpers.evaluation import AggregatePosterior, aggregate_posterior
from vae_helpers.explorer.panel import SliderPanel, wide
from vae_helpers.models import VAE, Autoencoder, ConditionalVAE
from vae_helpers.plotting import ImageShape, axes_png, plot_traversals, tile


def code_of(model: Any, x: Tensor) -> Tensor:
    """Codes (N, Z) of images (N, D): the posterior means of a VAE, the codes of an autoencoder."""
    codes = model.encode(x)
    return codes[0] if isinstance(codes, tuple) else codes


class LatentExplorer(SliderPanel):
    """Sliders over a model's latents, most informative first; original, reconstruction and edited picture.

    A slider's unit is one standard deviation of that latent under the aggregate posterior q(z), from
    its mean: 0 is the average code, and +-3 covers the data whether or not the model keeps to its prior.
    Latents beyond ``n_sliders`` keep the code of the chosen example.

    Args:
        model: a trained `VAE` or `Autoencoder`, in evaluation mode (a `ConditionalVAE` through `LabelExplorer`).
        x: example images to start from, (N, D) float in the model's range, N >= 2.
        shape: (H, W), (1, H, W) or (3, H, W). n_sliders: at most this many. limit: of the sliders. scale: enlargement.
        caption: under the picture. extra: more controls, above the sliders.

    Raises:
        ValueError: for fewer than two examples or a shape that does not fit them.
    """

    def __init__(
        self,
        model: VAE | Autoencoder | ConditionalVAE,
        x: Tensor,
        *,
        shape: ImageShape,
        n_sliders: int = 10,
        limit: float = 3.0,
        scale: int = 5,
        caption: str = "original · reconstruction · edited",
        extra: Sequence[widgets.Widget] = (),
    ) -> None:
        self.model: Any = model
        self.x, self.shape = x, shape
        with torch.inference_mode():
            self.codes, self._moments, self._reconstructions = self._encoded()
        moments = self._moments
        self._mean, self._sd = moments.mean, moments.sd.clamp_min(1e-6)
        has_kl = bool(moments.kl.any())
        importance = moments.kl if has_kl else moments.mu_variance
        self.order = importance.argsort(descending=True).tolist()[:n_sliders]
        self.names = [f"z{j + 1}  KL {moments.kl[j]:.1f}" if has_kl else f"z{j + 1}" for j in self.order]
        self.z = self.codes[0].clone()
        self._example = 0
        self.example = widgets.IntSlider(
            value=0,
            min=0,
            max=len(x) - 1,
            description="start from",
            **wide(),
        )
        self.example.observe(lambda change: self.start_from(change["new"]), names="value")
        with torch.inference_mode():
            still = self._traversals(limit)
        super().__init__(
            self._picture,
            names=self.names,
            start=self._units(self.z),
            limit=limit,
            scale=scale,
            still=still,
            caption=caption,
            extra=[self.example, *extra],
        )
        self.random = widgets.Button(description="Random", icon="random", layout=widgets.Layout(width="110px"))
        self.random.on_click(lambda _: self.show_code(self._mean + self._sd * torch.randn_like(self._mean)))
        self.buttons.children = (self.random, self.reset)

    def start_from(self, example: int) -> None:
        """Begin again from the code of ``x[example]``."""
        self._example = example
        self.start_again()

    def show_code(self, z: Tensor) -> None:
        """Show one code, (Z,), and move the sliders to it, drawing once."""
        self.z = z.clone()
        super().move_to(self._units(z))

    def move_to(self, values: Sequence[float]) -> None:
        """Set every slider, in standard deviations, and the latents with them; drawn once."""
        order = torch.tensor(self.order)
        self.z[order] = self._mean[order] + torch.tensor(values).to(self.z) * self._sd[order]
        super().move_to(values)

    def start_again(self) -> None:
        """Go back to the chosen example's code, latents without a slider included."""
        self.show_code(self.codes[self._example])

    def _on_slider(self, change: Any) -> None:
        if self._busy:
            return
        j = self.order[self.sliders.index(change["owner"])]
        self.z[j] = self._mean[j] + change["new"] * self._sd[j]
        self.draw()

    def _units(self, z: Tensor) -> list[float]:
        return ((z - self._mean) / self._sd)[self.order].tolist()

    def _encoded(self) -> tuple[Tensor, AggregatePosterior, Tensor]:
        """Codes (N, Z) of the examples, their moments and their reconstructions."""
        codes = code_of(self.model, self.x)
        return codes, aggregate_posterior(self.model, self.x), self.model.decode_mean(codes).cpu()

    def _decoded(self, z: Tensor) -> Tensor:
        """Pictures (N, D) of codes (N, Z)."""
        return self.model.decode_mean(z).cpu()

    def _picture(self, _values: list[float]) -> np.ndarray:
        edited = self._decoded(self.z[None])
        strip = torch.cat([self.x[self._example, None].cpu(), self._reconstructions[self._example, None], edited])
        return tile(strip, self.shape, n_columns=3, pad=3)

    def _traversals(self, limit: float) -> bytes:
        values = torch.linspace(-limit, limit, 11)
        images = self._decoded(self._moments.traversal(self.z, self.order, values))
        ax = plot_traversals(images, self.shape, row_labels=self.names, values=values.tolist())
        return axes_png(ax)
