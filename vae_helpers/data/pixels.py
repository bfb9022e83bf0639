"""From uint8 pixels to the data a likelihood describes. The two kinds are never compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def to_grey(x: Tensor) -> Tensor:
    """Grey levels x / 255; uint8 (..., D) -> float32 (..., D) in [0, 1]."""
    _check_bytes(x)
    return x.to(torch.float32) / 255


def binarise(x: Tensor) -> Tensor:
    """A fresh Bernoulli draw of every pixel with mean x / 255 (dynamic binarisation).

    Exact: u is uniform on {0, ..., 254}, so P(u < x) = x / 255. Call it once on a test set, under a
    fixed seed, to get a fixed binarisation.

    Args:
        x: uint8, (..., D).

    Returns:
        float32 (..., D) in {0, 1}.

    Source: Salakhutdinov & Murray 2008, section 5.
    """
    _check_bytes(x)
    u = torch.empty_like(x).random_(0, 255)
    return (u < x).to(torch.float32)


def _check_bytes(x: Tensor) -> None:
    if x.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, 0 to 255, got {x.dtype}: are they grey levels or binarised already?")


PIXELS: dict[str, Callable[[Tensor], Tensor]] = {"dynamic": binarise, "grey": to_grey}


def fixed_pixels(x: Tensor, pixels: str) -> Tensor:
    """Test pixels: grey, or binarised once by seed 0 without touching the global random state; uint8 -> float."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PIXELS[pixels](x)
