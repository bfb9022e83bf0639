"""The explorer of known factors: a slider per factor, for models whose latents are these factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import torch

from vae_helpers.data import FactorCode, FactorImages
from vae_helpers.data.dsprites import outlines
from vae_helpers.evaluation import aggregate_posterior
from vae_helpers.models import VAE
from vae_helpers.page.arrays import Arrays
from vae_helpers.page.decoding import NotInAPage, page_encoder
from vae_helpers.page.specs import Coded, Spec, build_spec
from vae_helpers.plotting import (
    ImageShape,
    figure_png,
    plot_traversals,
)

FACTOR_LIMIT = 1.0  # of the sliders of known factors; the values of the grid lie within 0.9


@torch.inference_mode()
def factor_spec(
    models: Mapping[str, VAE],
    images: FactorImages,
    code: FactorCode,
    *,
    scale: int = 3,
    title: str = "known factors",
) -> Spec:
    """A slider per known factor, for models whose latents are these factors; see `explorer.FactorExplorer`."""
    if not models:
        raise ValueError("a FactorExplorer needs at least one model")
    if code.grid != images.grid:
        raise ValueError(f"the code is for {code.grid.names}, the images have {images.grid.names}")
    for name, model in models.items():
        if model.z_dim != code.z_dim:
            raise ValueError(f"{name} has {model.z_dim} latents, the code {code.z_dim}: {', '.join(code.latents)}")
    grid, arrays = images.grid, Arrays()
    varying, names = list(grid.varying), [grid.names[f] for f in grid.varying]
    middle = torch.tensor([[size // 2 for size in grid.sizes]])
    start = grid.scaled(middle)[0, varying].tolist()
    x = images.pixels(middle.expand(2, -1))
    shape: ImageShape = images.shape if images.shape[0] == 3 else images.shape[1:]
    z = code.at(torch.tensor([start]))
    parts = {}
    for name, model in models.items():
        moments = aggregate_posterior(model, x.to(next(model.parameters()).device))
        parts[name] = Coded(model, z.expand(2, -1), moments)
    encoders: list[dict[str, Any] | None] = []
    for i, model in enumerate(models.values()):
        try:
            page_encoder(model, Arrays(), images.x_dim)
            encoders.append(page_encoder(model, arrays, images.x_dim, prefix=f"e{i}."))
        except NotInAPage:
            encoders.append(None)
    top, bottom = outlines() if images.name == "dsprites" else (None, None)
    factors = {
        "start": start,
        "circular": [name in code.circular for name in names],
        "varying": varying,
        "sizes": list(grid.sizes),
        "encoders": encoders,
        "top": None if top is None else arrays.add("top", top.clamp(-1e9, 1e9), "float32"),
        "bottom": None if bottom is None else arrays.add("bottom", bottom.clamp(-1e9, 1e9), "float32"),
    }

    @torch.inference_mode()
    def still() -> bytes:
        values = torch.linspace(-FACTOR_LIMIT, FACTOR_LIMIT, 11)
        codes = torch.tensor(start).repeat(len(start), len(values), 1)
        for j in range(len(start)):
            codes[j, :, j] = values
        at, unit = code.at(codes.flatten(0, 1)), "scaled value of the factor"
        size = (0.42 * len(values) + 1.2, (0.42 * len(names) + 0.9) * len(models))
        figure, axes = plt.subplots(len(models), 1, figsize=size, squeeze=False)
        for ax, (name, model) in zip(axes[:, 0], models.items(), strict=True):
            pictures = model.decode_mean(at.to(next(model.parameters()).device)).cpu()
            options: dict[str, Any] = {"unit": unit, "between": 0.85, "title": name, "ax": ax}
            plot_traversals(pictures, shape, row_labels=names, values=values.tolist(), **options)
        return figure_png(figure)

    return build_spec(
        "factors",
        parts,
        arrays,
        shape=shape,
        scale=scale,
        limit=FACTOR_LIMIT,
        title=title,
        still=still,
        sliders=[{"name": name, "detail": ""} for name in names],
        factors=factors,
    )
