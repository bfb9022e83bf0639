"""Priors p(z): a log-density, a sampler and the KL of a diagonal Gaussian to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_helpers.distributions import kl_diag_gaussians, log_standard_normal


class StandardNormal(nn.Module):
    """The prior N(0, I) over z_dim latents; it has no parameters.

    Args:
        z_dim: number of latent dimensions Z, >= 1.

    Raises:
        ValueError: if ``z_dim`` < 1.

    Source: Kingma & Welling 2014, section 3.
    """

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        if z_dim < 1:
            raise ValueError(f"z_dim must be at least 1, got {z_dim}")
        self.z_dim = z_dim

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I); z (..., Z) -> (...), nats, not reduced."""
        return log_standard_normal(z)

    def kl(self, q_mu: Tensor, q_logvar: Tensor, z: Tensor) -> Tensor:
        """KL[N(q_mu, exp(q_logvar)) || N(0, I)] in closed form, so the sample ``z`` is not used.

        Args:
            q_mu, q_logvar: (B, Z). z: a sample of q, (..., B, Z); priors without a closed form need it.

        Returns:
            (B,), nats, >= 0, not reduced.
        """
        return kl_diag_gaussians(q_mu, q_logvar)

    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, Z)."""
        return torch.randn(n, self.z_dim, device=device)
