"""What an explorer shows: its controls, the numbers behind them and the decoders, as a page reads them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_hex
from torch import Tensor

from vae_helpers.data import FactorCode, FactorImages
from vae_helpers.data.dsprites import outlines
from vae_helpers.evaluation import AggregatePosterior, aggregate_posterior
from vae_helpers.models import ADGM, VAE, Autoencoder, ConditionalVAE
from vae_helpers.page.arrays import Arrays
from vae_helpers.page.decoding import NotInAPage, half_is_enough, page_decoder, page_encoder
from vae_helpers.plotting import (
    CLASS_PALETTE,
    ImageShape,
    axes_png,
    figure_png,
    normal_grid,
    plot_grid,
    plot_latents,
    plot_traversals,
    tile,
)
from vae_helpers.priors import Mixture

VERSION = 1  # of the fields, as static/explorer.js knows them
EXAMPLE_BYTES = 80_000  # of example images in a page; 16 of them at least
COLLAPSED = 0.05  # nats; a latent below does not change the picture
SHOWN_COMPONENTS = 40  # in the still picture


@dataclass(frozen=True)
class Spec:
    """An explorer without a front end.

    Args:
        fields: for the page, JSON. data: the arrays that they name. models: those that are decoded, in order.
        z: codes at the start, of all models one behind the other. still: draws the picture for pages without scripts,
            PNG.
    """

    fields: dict[str, Any]
    data: bytes
    models: tuple[Any, ...]
    z: list[float]
    still: Callable[[], bytes]

    @property
    def needs_kernel(self) -> str:
        """Which part of a model a page cannot run; empty if it can run all."""
        return next((model["why"] for model in self.fields["models"] if model["why"]), "")


def code_of(model: Any, x: Tensor) -> Tensor:
    """Codes (N, Z) of images (N, D): the posterior means of a VAE, the codes of an autoencoder."""
    codes = model.encode(x)
    return codes[0] if isinstance(codes, tuple) else codes


@dataclass(frozen=True)
class _Coded:
    """A model with the codes of the examples, what is known of their distribution, and their labels (one-hot)."""

    model: Any
    codes: Tensor
    moments: AggregatePosterior
    one_hot: Tensor | None = None

    @property
    def has_kl(self) -> bool:
        return bool(self.moments.kl.any())

    def order(self, n: int) -> list[int]:
        """At most ``n`` latents, the one with the largest KL (or variance) first; collapsed ones only if all are."""
        if n < 1:
            raise ValueError(f"n_sliders must be at least 1, got {n}")
        importance = self.moments.kl if self.has_kl else self.moments.mu_variance
        order = importance.argsort(descending=True).tolist()[:n]
        alive = [j for j in order if importance[j] >= COLLAPSED] if self.has_kl else []
        return alive or order

    def slider(self, j: int) -> dict[str, str]:
        return {"name": f"z{j + 1}", "detail": f"KL {self.moments.kl[j]:.1f}" if self.has_kl else ""}

    def fields(self, arrays: Arrays, name: str, order: list[int], prefix: str) -> dict[str, Any]:
        """Of this model, as the page reads them; ``why`` says what it cannot run."""
        part: dict[str, Any] = {
            "name": name,
            "why": "",
            "decoder": None,
            "z_dim": self.codes.shape[1],
            "codes": arrays.add(f"{prefix}codes", self.codes, "float32"),
            "mean": self.moments.mean.tolist(),
            "sd": self.moments.sd.clamp_min(1e-6).tolist(),
            "order": order,
        }
        try:
            page_decoder(self.model, Arrays())  # which adds nothing if it fails half-way
            label = () if self.one_hot is None else (self.one_hot[:100],)
            half = half_is_enough(self.model, self.codes[:100], *label)
            part["decoder"] = page_decoder(self.model, arrays, prefix=prefix, half=half)
        except NotInAPage as error:
            part["why"] = f"The page cannot run {error}"
        return part


def _encoded(model: Any, x: Tensor) -> _Coded:
    if len(x) < 2:
        raise ValueError(f"an explorer needs two images or more for the spread of their codes, got {len(x)}")
    return _Coded(model, code_of(model, x), aggregate_posterior(model, x))


def _encoded_with_labels(model: ConditionalVAE, x: Tensor, y: Tensor) -> _Coded:
    one_hot = model.one_hot(y.to(x.device))
    read = model.with_auxiliary(x, model.encode_a(x)[0]) if isinstance(model, ADGM) else x
    q_mu, q_logvar = model.encode(read, one_hot)
    return _Coded(model, q_mu, AggregatePosterior.of(q_mu, q_logvar), one_hot)


def _spec(
    kind: str,
    parts: Mapping[str, _Coded],
    arrays: Arrays,
    *,
    shape: ImageShape,
    scale: int,
    limit: float,
    title: str,
    still: Callable[[], bytes],
    x: Tensor | None = None,
    orders: Mapping[str, list[int]] | None = None,
    **more: Any,
) -> Spec:
    """The fields that all explorers share, and ``more``."""
    if x is not None:
        tile(x[:1].cpu(), shape, n_columns=1)  # raises for a shape that does not fit
    orders = orders or {name: [] for name in parts}
    models = [part.fields(arrays, name, orders[name], f"m{i}.") for i, (name, part) in enumerate(parts.items())]
    n = 0 if x is None else min(len(x), max(16, EXAMPLE_BYTES // x.shape[1]))
    examples = None
    if x is not None:
        examples = arrays.add("examples", (x[:n].cpu().clamp(0, 1) * 255).round(), "uint8")
    data = arrays.data
    fields = {
        "version": VERSION,
        "kind": kind,
        "title": title,
        "shape": [1, *shape] if len(shape) == 2 else list(shape),
        "scale": scale,
        "limit": limit,
        "relative": False,
        "n_examples": n,
        "examples": examples,
        "labels": None,
        "classes": [],
        "sliders": [],
        **more,
        "models": models,
        "arrays": arrays.index,
        "crc": zlib.crc32(data),
    }
    z = [0.0, 0.0] if kind == "pad" else [v for part in parts.values() for v in part.codes[0].tolist()]
    return Spec(fields, data, tuple(part.model for part in parts.values()), z, still)


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
    part, arrays = _encoded(model, x), Arrays()
    order = part.order(n_sliders)
    sliders = [part.slider(j) for j in order]

    @torch.inference_mode()
    def still() -> bytes:
        values = torch.linspace(-limit, limit, 11)
        images = model.decode_mean(part.moments.traversal(part.codes[0], order, values)).cpu()
        labels = [f"{slider['name']}  {slider['detail']}".strip() for slider in sliders]
        return axes_png(plot_traversals(images, shape, row_labels=labels, values=values.tolist()))

    return _spec(
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
    part, arrays = _encoded(model, x), Arrays()
    z = part.codes.cpu()
    half = limit or float(z.abs().max(dim=1).values.quantile(0.995))
    n_classes = 0 if y is None or not len(y) else int(y.max()) + 1

    @torch.inference_mode()
    def still() -> bytes:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.2))
        plot_latents(z, y, limit=half, ax=left)
        grid = torch.from_numpy(normal_grid(15)).to(part.codes.device)
        plot_grid(model.decode_mean(grid * (half / grid.abs().max())).cpu(), shape, n_columns=15, pad=0, ax=right)
        return figure_png(figure)

    pad = {"codes": arrays.add("plane", z, "float32"), "y": None if y is None else arrays.add("classes", y, "int32")}
    return _spec(
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

    return _spec(
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
    part, arrays = _encoded(model, x), Arrays()
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
    return _spec(
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
        parts[name] = _Coded(model, z.expand(2, -1), moments)
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

    return _spec(
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
