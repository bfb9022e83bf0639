"""Factors as latents: the code that a supervised encoder is taught."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vae_helpers.data.factors import SCALED_MAX, FactorGrid


@dataclass(frozen=True)
class FactorCode:
    r"""Every varying factor of a grid as one latent on [-0.9, 0.9], or a circular one as two,
    :math:`0.9\,(\cos\alpha, \sin\alpha)` with :math:`\alpha = 2\pi i / (K - 1)`, so that its last value is its first.

    Args:
        grid: the factors. circular: names of the circular ones.

    Raises:
        ValueError: for a name that is no factor of the grid with at least three values.
    """

    grid: FactorGrid
    circular: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = [name for name, size in zip(self.grid.names, self.grid.sizes, strict=True) if size >= 3]
        if unknown := [name for name in self.circular if name not in known]:
            raise ValueError(f"{', '.join(unknown)} cannot be circular; choose among {', '.join(known)}")

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latents, in order: the factor's, with ``_cos`` and ``_sin`` of a circular one."""
        names: list[str] = []
        for f in self.grid.varying:
            name = self.grid.names[f]
            names += [f"{name}_cos", f"{name}_sin"] if name in self.circular else [name]
        return tuple(names)

    @property
    def z_dim(self) -> int:
        """Number of latents Z."""
        return len(self.latents)

    @property
    def widths(self) -> tuple[int, ...]:
        """Latents of each varying factor, in order."""
        return tuple(2 if self.grid.names[f] in self.circular else 1 for f in self.grid.varying)

    def latents_of(self, factor: str) -> slice:
        """Where a varying factor's latents lie.

        Raises:
            ValueError: for a name that is no varying factor.
        """
        varying = [self.grid.names[f] for f in self.grid.varying]
        if factor not in varying:
            raise ValueError(f"unknown factor {factor!r}; choose one of {', '.join(varying)}")
        at = varying.index(factor)
        start = sum(self.widths[:at])
        return slice(start, start + self.widths[at])

    def values(self) -> list[Tensor]:
        """The codes of each varying factor's values, (K_f, 1) or (K_f, 2) float32."""
        return [table.clone() for table in _values(self, torch.device("cpu"))]

    def steps(self) -> Tensor:
        """How far apart the codes of neighbouring values are, one number a latent, (Z,)."""
        found = []
        for values in self.values():
            found += [(values[1] - values[0]).norm().item()] * values.shape[1]
        return torch.tensor(found)

    def of(self, classes: Tensor) -> Tensor:
        """The codes of images; classes (N, F) int64 -> (N, Z) float32."""
        tables = _values(self, classes.device)
        return torch.cat([table[classes[:, f]] for f, table in zip(self.grid.varying, tables, strict=True)], dim=1)

    def at(self, values: Tensor) -> Tensor:
        """The codes of values between those of the grid; scaled, one a varying factor, (N, V) -> (N, Z)."""
        parts = []
        for f, value in zip(self.grid.varying, values.unbind(1), strict=True):
            if self.grid.names[f] in self.circular:
                angle = math.pi * (value / SCALED_MAX + 1)
                parts += [SCALED_MAX * angle.cos(), SCALED_MAX * angle.sin()]
            else:
                parts.append(value)
        return torch.stack(parts, dim=1)


@cache
def _values(code: FactorCode, device: torch.device) -> tuple[Tensor, ...]:
    tables = []
    for f in code.grid.varying:
        size = code.grid.sizes[f]
        if code.grid.names[f] in code.circular:
            angle = 2 * math.pi / (size - 1) * (torch.arange(size) % (size - 1))
            table = SCALED_MAX * torch.stack([angle.cos(), angle.sin()], dim=1)
        else:
            table = torch.linspace(-SCALED_MAX, SCALED_MAX, size)[:, None]
        tables.append(table.to(device))
    return tuple(tables)
