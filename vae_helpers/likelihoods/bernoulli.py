"""Pixels in [0, 1]: binary, or grey."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers.distributions import log_bernoulli_with_logits, log_continuous_bernoulli_with_logits
from vae_helpers.likelihoods.base import Likelihood
from vae_helpers.likelihoods.levels import log_mass_continuous_bernoulli


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels; on grey pixels its value is a cross-entropy, not a likelihood.

    Source: Kingma & Welling 2014, appendix C.1.
    """

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """See `distributions.log_bernoulli_with_logits`."""
        return log_bernoulli_with_logits(x, out)

    def mean(self, out: Tensor) -> Tensor:
        """sigmoid(x_logits)."""
        return torch.sigmoid(out)

    def sample(self, out: Tensor) -> Tensor:
        """Binary pixels."""
        return torch.bernoulli(torch.sigmoid(out))


class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoulli pixels on [0, 1]: a density for grey levels.

    Source: Loaiza-Ganem & Cunningham 2019.
    """

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """See `distributions.log_continuous_bernoulli_with_logits`."""
        return log_continuous_bernoulli_with_logits(x, out)

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """See `levels.log_mass_continuous_bernoulli`."""
        return log_mass_continuous_bernoulli(x, out)

    def mean(self, out: Tensor) -> Tensor:
        """E[x] of the continuous Bernoulli, which is *not* its parameter lambda."""
        # torch.distributions clamps lambda to 1 - 1e-7 in float32, which puts a floor of 0.06 under the mean
        near_zero = out.abs() < 1e-2
        safe = torch.where(near_zero, torch.ones_like(out), out)
        return torch.where(near_zero, 0.5 + out / 12, -1 / torch.expm1(-safe) - 1 / safe)

    def sample(self, out: Tensor) -> Tensor:
        """Grey pixels in [0, 1]."""
        u, rate = torch.rand_like(out), out.abs().clamp_min(1e-4)  # an exponential cut off at 1, by its inverse CDF
        y = (-torch.log1p(u * torch.expm1(-rate)) / rate).clamp(0, 1)
        return torch.where(out < 0, y, 1 - y)
