r"""Probabilities of 8-bit grey levels: a density integrated over the bin of each level.

Level k is the number x = k / 255, its bin is :math:`[x - \delta, x + \delta]` with :math:`\delta = 1/510`;
the first and the last bin reach to the end of the line (for a density on [0, 1]: to its edge), so that the
256 masses sum to one. Masses of any two models of the same images may be compared, which densities of
different kinds may not; divided by D log 2 and negated they are bits per dimension.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_helpers.distributions import check_suffix, check_unit_interval

HALF_BIN = 1 / 510
FAR = 1e4  # scales to the end of the line: no float holds what lies beyond
FURTHEST = 1e15  # scales; its square is still a float32


def bits_per_dim(log_px: float, x_dim: int) -> float:
    """-log P(x) / (D log 2); log_px in nats per image of ``x_dim`` = D pixels."""
    return -log_px / (x_dim * math.log(2))


def log_mass_normal(x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    r"""Level probabilities of a diagonal Gaussian, :math:`\sum_d \log[\Phi(b_d) - \Phi(a_d)]`, a and b standardised.

    Args:
        x: levels k / 255, (..., D). mu: (..., D). logvar: log variance, (..., D), (D,) or scalar.

    Returns:
        (...), nats, <= 0, not reduced over the batch.

    Raises:
        ValueError: if x leaves [0, 1] or the shapes do not match.
    """
    check_suffix(x=x, mu=mu, logvar=logvar)
    low, high = _standardised_edges(x, mu, torch.exp(-0.5 * logvar))
    return _log_difference(_log_ndtr(high), _log_ndtr(low)).sum(-1)


def log_mass_logistic(x: Tensor, mu: Tensor, log_scale: Tensor) -> Tensor:
    r"""Level probabilities of a logistic distribution, :math:`\sum_d \log[\sigma(b_d) - \sigma(a_d)]`.

    Args:
        x: levels k / 255, (..., D). mu: (..., D). log_scale: log of the scale s (sd = 1.81 s), as mu or (D,).

    Returns:
        (...), nats, <= 0, not reduced over the batch.

    Raises:
        ValueError: if x leaves [0, 1] or the shapes do not match.

    Source: Kingma et al. 2016 (IAF), section 5.2; Salimans et al. 2017, equation 2.
    """
    check_suffix(x=x, mu=mu, log_scale=log_scale)
    low, high = _standardised_edges(x, mu, torch.exp(-log_scale))
    return _log_difference(F.logsigmoid(high), F.logsigmoid(low)).sum(-1)


def log_mass_continuous_bernoulli(x: Tensor, x_logits: Tensor) -> Tensor:
    r"""Level probabilities of a continuous Bernoulli, :math:`\sum_d \log\frac{e^{l b_d} - e^{l a_d}}{e^{l} - 1}`.

    Args:
        x: levels k / 255, (..., D). x_logits: l, log-odds of lambda, (..., D).

    Returns:
        (...), nats, <= 0, not reduced over the batch.

    Raises:
        ValueError: if x leaves [0, 1] or the shapes do not match.

    Source: Loaiza-Ganem & Cunningham 2019, equation 5 (the density).
    """
    check_suffix(x=x, x_logits=x_logits)
    check_unit_interval(x)
    below, above = (x - HALF_BIN).clamp_min(0), (x + HALF_BIN).clamp_max(1)
    # for l > 0 the mirror image (1 - x, -l): an exponential falling from 0, whose terms do not overflow
    flip = x_logits > 0
    a, width = torch.where(flip, 1 - above, below), above - below
    rate = torch.where(flip, x_logits, -x_logits)  # |l|, with a gradient at 0
    near_zero = rate < 1e-3
    safe = torch.where(near_zero, torch.ones_like(rate), rate)
    curved = -safe * a + torch.log(-torch.expm1(-safe * width)) - torch.log(-torch.expm1(-safe))
    flat = torch.log(width) + rate * (0.5 - a - width / 2)  # to first order in the rate
    return torch.where(near_zero, flat, curved).sum(-1)


def _standardised_edges(x: Tensor, mu: Tensor, scale_inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of each level's bin in scales from the mean, mirrored to the left of it, the outermost far off.

    On the right of the mean the mirror image is taken, so that differences are of small numbers, not of numbers near 1.
    """
    check_unit_interval(x)
    below, above = (x - HALF_BIN - mu) * scale_inverse, (x + HALF_BIN - mu) * scale_inverse
    below = torch.where(x < HALF_BIN, (2 * above.clamp_max(0) - FAR).detach(), below)
    above = torch.where(x > 1 - HALF_BIN, (2 * below.clamp_min(0) + FAR).detach(), above)
    flip = below + above > 0
    low, high = torch.where(flip, -above, below), torch.where(flip, -below, above)
    return low.clamp_min(-FURTHEST), high.clamp_min(-FURTHEST)


def _log_ndtr(t: Tensor) -> Tensor:
    r""":math:`\log \Phi(t)`; torch.special.log_ndtr has wrong gradients far to the left, and infinite ones."""
    left = t < -1
    far, near = torch.where(left, t, -1.0), torch.where(left, -1.0, t)
    root = math.sqrt(0.5)
    tail = torch.log(torch.special.erfcx(-far * root) / 2) - far**2 / 2
    return torch.where(left, tail, torch.log1p(-torch.erfc(near * root) / 2))


def _log_difference(log_high: Tensor, log_low: Tensor) -> Tensor:
    """log(exp(log_high) - exp(log_low)) for log_high > log_low, stable; a bin too thin for float32 gets the floor."""
    gap = (log_high - log_low).clamp_min(1e-7)
    return log_high + torch.where(gap < math.log(2), torch.log(-torch.expm1(-gap)), torch.log1p(-torch.exp(-gap)))
