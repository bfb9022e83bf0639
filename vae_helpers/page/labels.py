"""Explorers with labels: a button per label and a slider per latent, for one model or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from vae_helpers.evaluation import AggregatePosterior
from vae_helpers.models import ADGM, ConditionalVAE
from vae_helpers.page.arrays import Arrays
from vae_helpers.page.specs import Coded, Spec, build_spec
from vae_helpers.plotting import (
    ImageShape,
    figure_png,
    plot_grid,
)


@torch.inference_mode()
def label_spec(
    model: ConditionalVAE,
    x: Tensor,
    y: Tensor,
    *,
    shape: ImageShape,
    classes: Sequence[str] | None = None,
    n_sliders: int = 8,
    limit: float = 3.0,
    scale: int = 5,
    title: str = "label and latents",
) -> Spec:
    """A button per label and a slider per latent; see `explorer.LabelExplorer`."""
    return _with_labels({title: model}, x, y, shape, classes, n_sliders, limit, scale, title, relative=False)


@torch.inference_mode()
def comparison_spec(
    models: Mapping[str, ConditionalVAE],
    x: Tensor,
    y: Tensor,
    *,
    shape: ImageShape,
    classes: Sequence[str] | None = None,
    n_sliders: int = 6,
    limit: float = 3.0,
    scale: int = 3,
    title: str = "models under the same controls",
) -> Spec:
    """Several models under the same buttons and sliders; see `explorer.ComparisonExplorer`."""
    if not models:
        raise ValueError("name at least one model to show")
    return _with_labels(models, x, y, shape, classes, n_sliders, limit, scale, title, relative=True)


def _with_labels(
    models: Mapping[str, ConditionalVAE],
    x: Tensor,
    y: Tensor,
    shape: ImageShape,
    classes: Sequence[str] | None,
    n_sliders: int,
    limit: float,
    scale: int,
    title: str,
    *,
    relative: bool,
) -> Spec:
    n_classes = {model.n_classes for model in models.values()}
    if len(n_classes) > 1:
        raise ValueError(f"models under the same buttons need the same classes, got {sorted(n_classes)}")
    k = n_classes.pop()
    if y.shape != x.shape[:1]:
        raise ValueError(f"x and y must agree in length, got {tuple(x.shape)} and {tuple(y.shape)}")
    if classes is not None and len(classes) != k:
        raise ValueError(f"this model has {k} classes, but {len(classes)} names were given")
    names, arrays = [str(i) for i in range(k)] if classes is None else list(classes), Arrays()
    parts = {name: _encoded_with_labels(model, x, y) for name, model in models.items()}
    orders = {name: part.order(n_sliders) for name, part in parts.items()}
    n = min(map(len, orders.values()))
    orders = {name: order[:n] for name, order in orders.items()}
    first, order = next(iter(parts.values())), next(iter(orders.values()))
    sliders = [{"name": f"latent {j + 1}", "detail": ""} if relative else first.slider(i) for j, i in enumerate(order)]

    @torch.inference_mode()
    def still() -> bytes:
        chosen = [int((y == label).nonzero()[0]) for label in y.unique()][:5]
        size = (0.36 * (k + 1) * len(parts) + 0.4, 0.36 * len(chosen) + 0.8)
        figure, axes = plt.subplots(1, len(parts), figsize=size, squeeze=False)
        for ax, (name, part) in zip(axes[0], parts.items(), strict=True):
            rows = [torch.cat([x[i, None].cpu(), analogies(part.model, part.codes[i])]) for i in chosen]
            shown = name if len(parts) > 1 else ""
            plot_grid(torch.cat(rows), shape, n_columns=k + 1, column_labels=["x", *names], title=shown, ax=ax)
        return figure_png(figure)

    return build_spec(
        "comparison" if relative else "labels",
        parts,
        arrays,
        shape=shape,
        scale=scale,
        limit=limit,
        title=title,
        still=still,
        x=x,
        orders=orders,
        sliders=sliders,
        relative=relative,
        labels=arrays.add("labels", y, "int32"),
        classes=names,
    )


def analogies(model: ConditionalVAE, z: Tensor) -> Tensor:
    """Pictures (K, D) of one code (Z,) under all labels, on the CPU."""
    k = model.n_classes
    return model.decode_mean(z.expand(k, -1), torch.eye(k, device=z.device)).cpu()


def _encoded_with_labels(model: ConditionalVAE, x: Tensor, y: Tensor) -> Coded:
    one_hot = model.one_hot(y.to(x.device))
    read = model.with_auxiliary(x, model.encode_a(x)[0]) if isinstance(model, ADGM) else x
    q_mu, q_logvar = model.encode(read, one_hot)
    return Coded(model, q_mu, AggregatePosterior.of(q_mu, q_logvar), one_hot)
