"""Observation models of 8-bit pixels: probabilities of levels, not densities."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers.likelihoods.base import Likelihood
from vae_helpers.likelihoods.levels import log_mass_logistic


class Levels(Likelihood):
    """The discretised form of another observation model: every level gets its density integrated over the bin.

    Use it to train on probabilities, or to measure a model trained on a density in bits per dimension:
    ``log_prob`` is the other's ``log_mass``.

    Args:
        density: the observation model, with its parameters.
    """

    def __init__(self, density: Likelihood) -> None:
        super().__init__()
        self.density = density
        self.n_params = density.n_params

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log P(x | z); x (..., D) levels k / 255."""
        return self.density.log_mass(x, out)

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """The same."""
        return self.density.log_mass(x, out)

    def mean(self, out: Tensor) -> Tensor:
        """The density's mean; the mean of the levels differs from it near 0 and 1, where the bins end."""
        return self.density.mean(out)

    def sample(self, out: Tensor) -> Tensor:
        """A draw rounded to its level."""
        return (self.density.sample(out) * 255).round().clamp(0, 255) / 255


class Logistic(Likelihood):
    r"""Logistic distribution per pixel, mean and log scale from the decoder: :math:`p(x) = \sigma'((x - \mu)/s)/s`.

    Alone it shares the unbounded density of `GaussianPerPixel`; ``Levels(Logistic())``, the discretised logistic,
    is a probability and cannot exceed 1, so it needs no floor.

    Source: Kingma et al. 2016 (IAF), section 5.2; Salimans et al. 2017, section 2.1 (one component).
    """

    n_params = 2

    def _mean_log_scale(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = out.chunk(2, dim=-1)
        return torch.sigmoid(mean), log_scale

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """The log density."""
        mean, log_scale = self._mean_log_scale(out)
        u = (x - mean) * torch.exp(-log_scale)
        return (-log_scale - u - 2 * torch.nn.functional.softplus(-u)).sum(-1)

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """See `levels.log_mass_logistic`."""
        return log_mass_logistic(x, *self._mean_log_scale(out))

    def mean(self, out: Tensor) -> Tensor:
        """sigmoid of the first half of the decoder output."""
        return self._mean_log_scale(out)[0]

    def sample(self, out: Tensor) -> Tensor:
        """mean + scale * logit(u)."""
        mean, log_scale = self._mean_log_scale(out)
        u = torch.rand_like(mean).clamp(1e-6, 1 - 1e-6)
        return mean + torch.exp(log_scale) * torch.logit(u)
