"""Priors made of known factors: a uniform interval with soft ends, and smoothed grid values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vae_helpers.distributions import LOG_2PI
from vae_helpers.priors.base import Prior


class SmoothedUniform(Prior):
    r"""Independent latents, uniform on [-a, a] with Gaussian ends: :math:`z = u + s\,\varepsilon`.

    .. math:: \log p(z) = \sum_d \log \frac{\Phi((z_d + a)/s) - \Phi((z_d - a)/s)}{2a}

    Inside, away from the ends, the density is that of the uniform, and it has no gradient in z.

    Args:
        z_dim: Z, >= 1. half_width: a, > 0. sd: s of the ends, > 0.

    Raises:
        ValueError: for a value out of range.
    """

    def __init__(self, z_dim: int, *, half_width: float = 1.0, sd: float = 0.01) -> None:
        super().__init__(z_dim)
        if not half_width > 0 or not sd > 0:
            raise ValueError(f"half_width and sd must be positive, got {half_width} and {sd}")
        self.half_width, self.sd = half_width, sd

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z); z (..., Z) -> (...), nats, not reduced."""
        if z.shape[-1] != self.z_dim:
            raise ValueError(f"this prior has {self.z_dim} latents, got z of shape {tuple(z.shape)}")
        # by symmetry at |z|, where both terms are in the lower tail or the difference is near one
        near, far = (self.half_width - z.abs()) / self.sd, (-self.half_width - z.abs()) / self.sd
        log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
        log_mass = log_near + torch.log1p(-torch.exp((log_far - log_near).clamp_max(-1e-6)))
        return (log_mass - math.log(2 * self.half_width)).sum(-1)

    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, Z)."""
        uniform = self.half_width * (2 * torch.rand(n, self.z_dim, device=device) - 1)
        return uniform + self.sd * torch.randn(n, self.z_dim, device=device)


class FactorMarginals(Prior):
    r"""A product over factors, each a mixture of equal Gaussians at the codes of its values.

    .. math:: \log p(z) = \sum_f \mathrm{logsumexp}_k\, [\log N(z_{[f]};\, c_{fk}, s_f^2 I) - \log K_f]

    Args:
        codes: for each factor the codes of its values, (K_f, d_f): d_f = 1 for a value on a line, 2 for an angle on a
            circle. The latents of the factors follow one another, Z = sum of d_f.
        sds: s_f, one a factor, > 0.

    Raises:
        ValueError: for no factors, codes that are no (K, d), or not one positive sd a factor.
    """

    def __init__(self, codes: Sequence[Tensor], sds: Sequence[float]) -> None:
        if not codes or any(values.ndim != 2 or len(values) == 0 for values in codes):
            raise ValueError(f"codes must be (K, d) for each factor, got {[tuple(values.shape) for values in codes]}")
        if len(sds) != len(codes) or not all(sd > 0 for sd in sds):
            raise ValueError(f"sds must be {len(codes)} positive numbers, got {list(sds)}")
        super().__init__(sum(values.shape[1] for values in codes))
        self.sds = tuple(sds)
        self.widths = tuple(values.shape[1] for values in codes)
        for f, values in enumerate(codes):
            self.register_buffer(f"codes_{f}", values.clone().float())

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z); z (..., Z) -> (...), nats, not reduced."""
        if z.shape[-1] != self.z_dim:
            raise ValueError(f"this prior has {self.z_dim} latents, got z of shape {tuple(z.shape)}")
        total = torch.zeros_like(z[..., 0])
        for f, part in enumerate(z.split(self.widths, dim=-1)):
            codes, sd = self._codes(f), self.sds[f]
            squares = ((part[..., None, :] - codes) / sd).square().sum(-1)
            constant = codes.shape[1] * (LOG_2PI + 2 * math.log(sd)) + 2 * math.log(len(codes))
            total = total + torch.logsumexp(-0.5 * squares, dim=-1) - 0.5 * constant
        return total

    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, Z)."""
        parts = []
        for f, (width, sd) in enumerate(zip(self.widths, self.sds, strict=True)):
            codes = self._codes(f).to(device)
            k = torch.randint(len(codes), (n,), device=device)
            parts.append(codes[k] + sd * torch.randn(n, width, device=device))
        return torch.cat(parts, dim=-1)

    def _codes(self, f: int) -> Tensor:
        return self.get_buffer(f"codes_{f}")
