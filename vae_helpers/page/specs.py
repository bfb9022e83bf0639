"""What an explorer shows: its controls, the numbers behind them and the decoders, as a page reads them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vae_helpers.evaluation import AggregatePosterior, aggregate_posterior
from vae_helpers.page.arrays import Arrays
from vae_helpers.page.decoding import NotInAPage, half_is_enough, page_decoder
from vae_helpers.plotting import (
    ImageShape,
    tile,
)

VERSION = 1  # of the fields, as static/explorer.js knows them
EXAMPLE_BYTES = 80_000  # of example images in a page; 16 of them at least
COLLAPSED = 0.05  # nats; a latent below does not change the picture


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
class Coded:
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


def encoded(model: Any, x: Tensor) -> Coded:
    if len(x) < 2:
        raise ValueError(f"an explorer needs two images or more for the spread of their codes, got {len(x)}")
    return Coded(model, code_of(model, x), aggregate_posterior(model, x))


def build_spec(
    kind: str,
    parts: Mapping[str, Coded],
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
