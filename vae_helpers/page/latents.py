"""Explorers of unlabelled codes: a slider per latent, the plane of two latents, the components of a prior."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_hex
from torch import Tensor

from vae_helpers.models import VAE, Autoencoder
from vae_helpers.page.arrays import Arrays
from vae_helpers.page.specs import Spec, build_spec, encoded
from vae_helpers.plotting import (
    CLASS_PALETTE,
    ImageShape,
    axes_png,
    figure_png,
    normal_grid,
    plot_grid,
    plot_latents,
    plot_traversals,
)
from vae_helpers.priors import Mixture

SHOWN_COMPONENTS = 40  # in the still picture


@torch.inference_mode()
def latent_spec(
    model: VAE | Autoencoder,
    x: Tensor,
    *,
    shape: ImageShape,
    n_sliders: int = 10,
    limit: float = 3.0,
    scale: int = 5,
    title: str = "latents",
) -> Spec:
    """A slider per latent, the largest KL first; see `explorer.LatentExplorer`."""
    part, arrays = encoded(model, x), Arrays()
    order = part.order(n_sliders)
    sliders = [part.slider(j) for j in order]

    @torch.inference_mode()
    def still() -> bytes:
        values = torch.linspace(-limit, limit, 11)
        images = model.decode_mean(part.moments.traversal(part.codes[0], order, values)).cpu()
        labels = [f"{slider['name']}  {slider['detail']}".strip() for slider in sliders]
        return axes_png(plot_traversals(images, shape, row_labels=labels, values=values.tolist()))

    return build_spec(
        "latents",
        {title: part},
        arrays,
        shape=shape,
        scale=scale,
        limit=limit,
        title=title,
        still=still,
        x=x,
        orders={title: order},
        sliders=sliders,
    )


@torch.inference_mode()
def pad_spec(
    model: VAE | Autoencoder,
    x: Tensor,
    y: Tensor | None = None,
    *,
    shape: ImageShape,
    limit: float | None = None,
    scale: int = 8,
    classes: Sequence[str] | None = None,
    title: str = "plane of two latents",
) -> Spec:
    """The plane of a model with two latents; see `explorer.LatentPad`."""
    if model.z_dim != 2:
        raise ValueError(f"a 2-D pad needs a model with 2 latents, this one has {model.z_dim}; use LatentExplorer")
    part, arrays = encoded(model, x), Arrays()
    z = part.codes.cpu()
    half = limit or float(z.abs().max(dim=1).values.quantile(0.995))
    n_classes = 0 if y is None or not len(y) else int(y.max()) + 1

    @torch.inference_mode()
    def still() -> bytes:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        plot_latents(z, y, limit=half, ax=left)
        grid = torch.from_numpy(normal_grid(15)).to(part.codes.device)
        plot_grid(model.decode_mean(grid * (half / grid.abs().max())).cpu(), shape, n_columns=15, pad=0, ax=right)
        return figure_png(figure)

    pad = {"codes": arrays.add("plane", z, "float32"), "y": None if y is None else arrays.add("classes", y, "int32")}
    return build_spec(
        "pad",
        {title: part},
        arrays,
        shape=shape,
        scale=scale,
        limit=half,
        title=title,
        still=still,
        pad=pad,
        palette=[to_hex(colour) for colour in CLASS_PALETTE],
        classes=[str(k) for k in range(n_classes)] if classes is None else list(classes),
    )


@torch.inference_mode()
def component_spec(
    model: VAE,
    x: Tensor,
    *,
    shape: ImageShape,
    n_sliders: int = 8,
    limit: float = 3.0,
    scale: int = 5,
    title: str = "components of the prior",
) -> Spec:
    """The components of a mixture prior, the largest share first; see `explorer.ComponentExplorer`."""
    if not isinstance(model.prior, Mixture):
        raise ValueError(f"this model's prior is {type(model.prior).__name__}, no mixture; use LatentExplorer")
    part, arrays = encoded(model, x), Arrays()
    share = model.prior.component_probs(part.codes).mean(0)
    p_mu, p_logvar = model.prior.components()
    number, order = share.argsort(descending=True).tolist(), part.order(n_sliders)

    @torch.inference_mode()
    def still() -> bytes:
        images = model.decode_mean(p_mu[number[:SHOWN_COMPONENTS]]).cpu()
        return axes_png(plot_grid(images, shape, n_columns=10, title="the components with the largest shares"))

    components = {
        "mean": arrays.add("p_mu", p_mu, "float32"),
        "sd": arrays.add("p_sd", torch.exp(0.5 * p_logvar), "float32"),
        "share": share[number].tolist(),
        "number": number,
    }
    return build_spec(
        "components",
        {title: part},
        arrays,
        shape=shape,
        scale=scale,
        limit=limit,
        title=title,
        still=still,
        x=x,
        orders={title: order},
        sliders=[part.slider(j) for j in order],
        components=components,
    )
