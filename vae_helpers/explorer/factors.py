"""One slider a known factor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data import FactorCode, FactorImages
from vae_helpers.explorer.panel import SliderPanel
from vae_helpers.models import VAE
from vae_helpers.plotting import axes_png, plot_traversals, tile

LIMIT = 1.0  # of the sliders; the values of the grid lie within 0.9


class FactorExplorer(SliderPanel):
    """Sliders named after the factors; the true picture beside what decoders make of the same code.

    A slider runs over the scaled values of its factor, -0.9 to 0.9 on the grid. The first picture is that of the
    nearest values on the grid, as `FactorImages` renders it; a decoder also takes what lies between and a little
    beyond. Below, each model encodes the true picture and decodes the mean.

    Args:
        models: name -> a `VAE` in evaluation mode whose latents are those of ``code``. images: the data set.
        code: from factors to latents. scale: enlargement.

    Raises:
        ValueError: for no models, a model of another width, or images and a code of different factors.
    """

    def __init__(self, models: Mapping[str, VAE], images: FactorImages, code: FactorCode, *, scale: int = 3) -> None:
        if not models:
            raise ValueError("a FactorExplorer needs at least one model")
        if code.grid != images.grid:
            raise ValueError(f"the code is for {code.grid.names}, the images have {images.grid.names}")
        for name, model in models.items():
            if model.z_dim != code.z_dim:
                raise ValueError(f"{name} has {model.z_dim} latents, the code {code.z_dim}: {', '.join(code.latents)}")
        self.models, self.images, self.code = dict(models), images, code
        self.shape = images.shape if images.shape[0] == 3 else images.shape[1:]
        grid = images.grid
        names = [grid.names[f] for f in grid.varying]
        middle = torch.tensor([[size // 2 for size in grid.sizes]])
        start = grid.scaled(middle)[0, list(grid.varying)].tolist()
        with torch.inference_mode():
            still = self._traversals(start)
        super().__init__(
            self._picture,
            names=names,
            start=start,
            limit=LIMIT,
            scale=scale,
            still=still,
            caption=" · ".join(["true picture", *self.models]) + "; below, each model's reconstruction of the true one",
        )

    def nearest(self, values: list[float]) -> Tensor:
        """Classes (1, F) of the grid nearest to scaled values of the varying factors."""
        grid = self.images.grid
        scaled = torch.zeros(1, len(grid.sizes))
        scaled[0, list(grid.varying)] = torch.tensor(values)
        return grid.unscaled(scaled)

    def _picture(self, values: list[float]) -> np.ndarray:
        true = self.images.pixels(self.nearest(values))
        z = self.code.at(torch.tensor([values]))
        decoded = [_decoded(model, z) for model in self.models.values()]
        again = [_decoded(model, model.encode(true.to(_device(model)))[0]) for model in self.models.values()]
        strip = torch.cat([true, *decoded, torch.zeros_like(true), *again])
        return tile(strip, self.shape, n_columns=1 + len(self.models), pad=3, between=0.85)

    def _traversals(self, start: list[float]) -> bytes:
        """The first model's pictures, a factor a row."""
        values = torch.linspace(-LIMIT, LIMIT, 11)
        grid = self.images.grid
        codes = torch.tensor(start).repeat(len(start), len(values), 1)
        for j in range(len(start)):
            codes[j, :, j] = values
        model = next(iter(self.models.values()))
        pictures = _decoded(model, self.code.at(codes.flatten(0, 1)))
        labels = [grid.names[f] for f in grid.varying]
        ax = plot_traversals(
            pictures,
            self.shape,
            row_labels=labels,
            values=values.tolist(),
            unit="scaled value of the factor",
            between=0.85,
        )
        return axes_png(ax)


def _device(model: VAE) -> torch.device:
    return next(model.parameters()).device


def _decoded(model: VAE, z: Tensor) -> Tensor:
    """Pictures (N, D) of codes (N, Z), on the CPU."""
    return model.decode_mean(z.to(_device(model))).cpu()
