"""Encoder and decoder networks. Data go in and come out flat, (..., D); images are reshaped inside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "softplus": nn.Softplus, "tanh": nn.Tanh}


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
        _check_width(x, self.in_dim, "MLP")
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
            _check_width(x, width, "JointMLP")
            parts.append(layer(x))
        return self.tail(sum(parts[1:], start=parts[0]))


class ConvEncoder(nn.Module):
    """Strided convolutions (4x4, stride 2), one hidden layer, one linear head; flat images in.

    Args:
        image_shape: (C, H, W); H and W divisible by 2 once per entry of ``channels``.
        out_dim: output features (2Z for a Gaussian posterior).
        channels: output channels of each convolution. h_dim: width of the hidden layer.

    Raises:
        ValueError: if the image cannot be halved that often.

    Source: the dSprites encoder of Burgess et al. 2018 (``channels=(32, 32, 64, 64), h_dim=128`` here).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        out_dim: int,
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        h_dim: int = 128,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        height, width = _halved(image_shape, len(channels))
        widths = [image_shape[0], *channels]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(channels[-1] * height * width, h_dim), nn.ReLU(), nn.Linear(h_dim, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C*H*W) -> (B, out_dim)."""
        _check_width(x, math.prod(self.image_shape), "ConvEncoder")
        return self.head(self.conv(x.reshape(-1, *self.image_shape)).flatten(1))


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: two linear layers, transposed convolutions, flat images out.

    Args:
        z_dim: input features. image_shape: (C, H, W) of the output.
        channels: channels of the *encoder* it mirrors. h_dim: width of the hidden layer.

    Raises:
        ValueError: if the image cannot be halved that often.

    Source: as `ConvEncoder`.
    """

    def __init__(
        self,
        z_dim: int,
        image_shape: tuple[int, int, int],
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        h_dim: int = 128,
    ) -> None:
        super().__init__()
        height, width = _halved(image_shape, len(channels))
        self.grid = (channels[-1], height, width)
        self.stem = nn.Sequential(nn.Linear(z_dim, h_dim), nn.ReLU(), nn.Linear(h_dim, math.prod(self.grid)), nn.ReLU())
        widths = [*channels[::-1], image_shape[0]]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
        self.deconv = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (..., C*H*W)."""
        flat = self.stem(z.reshape(-1, z.shape[-1]))
        return self.deconv(flat.reshape(-1, *self.grid)).reshape(*z.shape[:-1], -1)


def _halved(image_shape: tuple[int, int, int], times: int) -> tuple[int, int]:
    _, height, width = image_shape
    if height % 2**times or width % 2**times:
        raise ValueError(f"an image of {height}x{width} cannot be halved {times} times; use fewer channels")
    return height >> times, width >> times


def _check_layers(widths: Sequence[int], activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
    if min(widths) < 1:
        raise ValueError(f"every layer needs at least one unit, got widths {list(widths)}")


def _check_width(x: Tensor, width: int, who: str) -> None:
    if x.shape[-1] != width:
        raise ValueError(f"{who} expects flat data with {width} values on the last axis, got shape {tuple(x.shape)}")
