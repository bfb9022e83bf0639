"""Fully connected nets, of one input and of several."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class MLP(nn.Sequential):
    """A fully connected net in_dim -> h_dims... -> out_dim, linear at the end; no h_dims means one linear map.

    Args:
        in_dim: input features, >= 1. h_dims: widths of the hidden layers, possibly none.
        out_dim: output features, >= 1.
        activation: one of `ACTIVATIONS`.

    Raises:
        ValueError: for a width below 1 or an unknown activation.
    """

    def __init__(self, in_dim: int, h_dims: Sequence[int], out_dim: int, *, activation: str = "elu") -> None:
        widths = [in_dim, *h_dims, out_dim]
        _check_layers(widths, activation)
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
        self.in_dim = in_dim

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_dim) -> (..., out_dim); raises ValueError for any other width."""
        check_width(x, self.in_dim, "MLP")
        return super().forward(x)


class JointMLP(nn.Module):
    """A fully connected net of several inputs, h = act(sum_i W_i input_i + b) and then as `MLP`.

    It is the net of the concatenated inputs. The first layer is one linear map per input and the maps are
    added, so inputs may differ by leading axes and each is multiplied once: with x (B, D) and all K labels
    as y (K, 1, K), the x part is computed B times, not K B times.

    Each map starts with the default range of its own width, +-1/sqrt(in_dim_i), so a one-hot label is heard
    beside hundreds of pixels; in the net of the concatenation it would start at +-1/sqrt(sum of in_dims).

    Args:
        in_dims: features of each input, >= 1. h_dims, out_dim, activation: as `MLP`.
        scales: factors of the initial weights, one an input, > 0; None for ones.

    Raises:
        ValueError: for a width below 1, no inputs, scales that do not fit or an unknown activation.
    """

    def __init__(
        self,
        in_dims: Sequence[int],
        h_dims: Sequence[int],
        out_dim: int,
        *,
        activation: str = "elu",
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if min(in_dims, default=0) < 1:
            raise ValueError(f"every input needs at least one feature, got in_dims {list(in_dims)}")
        scales = [1.0] * len(in_dims) if scales is None else scales
        if len(scales) != len(in_dims) or not min(scales) > 0:
            raise ValueError(f"scales must be {len(in_dims)} positive numbers, one an input, got {list(scales)}")
        _check_layers([*in_dims, *h_dims, out_dim], activation)
        first, *rest = [*h_dims, out_dim]
        self.in_dims = tuple(in_dims)
        maps = [nn.Linear(n_in, first, bias=i == 0) for i, n_in in enumerate(in_dims)]
        with torch.no_grad():
            for layer, scale in zip(maps, scales, strict=True):
                layer.weight.mul_(scale)
        self.inputs = nn.ModuleList(maps)
        self.tail = nn.Sequential()
        if rest:
            tail = MLP(first, rest[:-1], rest[-1], activation=activation)
            self.tail = nn.Sequential(ACTIVATIONS[activation](), *tail)

    def forward(self, *inputs: Tensor) -> Tensor:
        """inputs (..., in_dim_i), alike but for leading axes -> (..., out_dim); raises ValueError for other widths."""
        if len(inputs) != len(self.in_dims):
            raise ValueError(f"JointMLP expects {len(self.in_dims)} inputs, got {len(inputs)}")
        parts = []
        for layer, x, width in zip(self.inputs, inputs, self.in_dims, strict=True):
            check_width(x, width, "JointMLP")
            parts.append(layer(x))
        return self.tail(sum(parts[1:], start=parts[0]))


def _check_layers(widths: Sequence[int], activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
    if min(widths) < 1:
        raise ValueError(f"every layer needs at least one unit, got widths {list(widths)}")


def check_width(x: Tensor, width: int, who: str) -> None:
    """Raise ValueError unless the last axis of x has ``width`` values; ``who`` expects them."""
    if x.shape[-1] != width:
        raise ValueError(f"{who} expects flat data with {width} values on the last axis, got shape {tuple(x.shape)}")
