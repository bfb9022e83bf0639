"""Which latents carry information, and where the codes lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_helpers.distributions import kl_diag_gaussians_per_dim
from vae_helpers.models import VAE, Autoencoder

ACTIVE_VARIANCE = 1e-2  # of a posterior mean over a data set that still moves with it (Burda et al. 2016, section 5.2)


@dataclass(frozen=True)
class AggregatePosterior:
    """Moments of q(z) = mean over x of q(z | x), per latent.

    Args:
        mean: (Z,). sd: standard deviation of z under q(z), (Z,). mu_variance: variance of q_mu over x, (Z,).
        kl: mean KL[q(z_j | x) || N(0, 1)], (Z,), nats; zeros for a deterministic code.
    """

    mean: Tensor
    sd: Tensor
    mu_variance: Tensor
    kl: Tensor

    @classmethod
    def of(cls, q_mu: Tensor, q_logvar: Tensor) -> AggregatePosterior:
        """From the posterior parameters of a data set, (N, Z) each."""
        mu_variance = q_mu.var(0)
        sd = (mu_variance + q_logvar.exp().mean(0)).sqrt()
        return cls(q_mu.mean(0), sd, mu_variance, kl_diag_gaussians_per_dim(q_mu, q_logvar).mean(0))

    def active_units(self, threshold: float = ACTIVE_VARIANCE) -> int:
        """Latents whose posterior mean moves with x: mu_variance > threshold; see `active_units`."""
        return int((self.mu_variance > threshold).sum())

    def traversal(self, z: Tensor, latents: Sequence[int], values: Tensor) -> Tensor:
        """Copies of one code with one latent at a time moved to mean + value * sd.

        Args:
            z: the code to start from, (Z,). latents: which to move, a row each. values: (T,), standard deviations.

        Returns:
            (len(latents) * T, Z), row by row.
        """
        rows = z.detach().repeat(len(latents), len(values), 1)
        for i, j in enumerate(latents):
            rows[i, :, j] = self.mean[j] + values.to(self.sd) * self.sd[j]
        return rows.flatten(0, 1)


@torch.inference_mode()
def aggregate_posterior(model: VAE | Autoencoder, x: Tensor, *, batch_size: int = 5000) -> AggregatePosterior:
    r"""Moments of the codes of a data set; :math:`\mathrm{var}_q(z_j) = \mathrm{var}_x(\mu_j) + E_x[\sigma_j^2]`.

    Args:
        model: a `VAE` or an `Autoencoder` (whose posterior has no width). x: (N, D) float, N >= 2.

    Returns:
        an `AggregatePosterior`.

    Raises:
        ValueError: for fewer than two examples.
    """
    if len(x) < 2:
        raise ValueError(f"a variance needs at least two examples, got {len(x)}")
    parts = [model.encode(chunk) for chunk in x.split(batch_size)]
    if isinstance(parts[0], tuple):
        q_mu, q_logvar = (torch.cat(list(values)) for values in zip(*parts, strict=True))
        return AggregatePosterior.of(q_mu, q_logvar)
    code = torch.cat(parts)  # type: ignore[arg-type]
    variance = code.var(0)
    return AggregatePosterior(code.mean(0), variance.sqrt(), variance, torch.zeros_like(variance))


def active_units(model: VAE | Autoencoder, x: Tensor, *, threshold: float = ACTIVE_VARIANCE) -> int:
    """Latents whose posterior mean moves with x: var_x(q_mu_j) > threshold.

    Args:
        model: see `aggregate_posterior`. x: (N, D) float. threshold: variance, > 0.

    Returns:
        a count from 0 to Z.

    Source: Burda et al. 2016, section 5.2 (threshold 0.01).
    """
    return aggregate_posterior(model, x).active_units(threshold)
