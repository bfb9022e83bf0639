"""How much squared error of the pixels each factor explains."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers.data import FactorImages


def at_all_values(images: FactorImages, name: str, *, n: int, seed: int = 0) -> Tensor:
    """``n`` images, each with one factor at all its V values and the others as drawn: (n, V, D), 0 to 1.

    Args:
        images: the data set. name: of the factor. n: images, >= 1. seed: of the other factors.

    Raises:
        ValueError: for an unknown factor, listing the known ones, or ``n`` < 1.
    """
    if name not in images.grid.names:
        raise ValueError(f"there is no factor {name!r}; there are {', '.join(images.grid.names)}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    k = images.grid.names.index(name)
    values = images.grid.sizes[k]
    classes = images.grid.sample(n, generator=torch.Generator().manual_seed(seed)).repeat_interleave(values, dim=0)
    classes[:, k] = torch.arange(values).repeat(n)
    return images.pixels(classes).view(n, values, -1)


def error_without(images: FactorImages, name: str, *, n: int, seed: int = 0) -> float:
    r"""Squared error of the best guess that knows all factors but one.

    .. math:: E = \sum_d \mathbb E\, \mathrm{Var}[x_d \mid \text{all other factors}]

    Args:
        images: the data set. name: of the factor. n, seed: see `at_all_values`.

    Returns:
        summed over the D pixel values, mean over the images, in squared pixel units.
    """
    return at_all_values(images, name, n=n, seed=seed).var(1, unbiased=False).sum(-1).mean().item()
