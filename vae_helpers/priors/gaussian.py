"""One Gaussian: the standard one, or one that is given for each example."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers.distributions import kl_diag_gaussians, log_normal, log_standard_normal, sample_normal
from vae_helpers.priors.base import Prior


class StandardNormal(Prior):
    """The prior N(0, I); it has no parameters.

    Source: Kingma & Welling 2014, section 3.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I); z (..., Z) -> (...), nats, not reduced."""
        return log_standard_normal(z)

    def kl(self, q_mu: Tensor, q_logvar: Tensor, z: Tensor) -> Tensor:
        """KL[N(q_mu, exp(q_logvar)) || N(0, I)] in closed form, so the sample ``z`` is not used.

        Args:
            q_mu, q_logvar: (B, Z). z: see `Prior.kl`.

        Returns:
            (B,), nats, >= 0, not reduced.
        """
        return kl_diag_gaussians(q_mu, q_logvar)

    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, Z)."""
        return torch.randn(n, self.z_dim, device=device)


class DiagonalGaussian(Prior):
    """N(p_mu, diag exp(p_logvar)), one for each example of a batch or one for all: p(z | y) of a given label.

    Args:
        p_mu, p_logvar: (..., Z); the second is the log *variance*.

    Raises:
        ValueError: if the two shapes differ.
    """

    def __init__(self, p_mu: Tensor, p_logvar: Tensor) -> None:
        if p_mu.shape != p_logvar.shape:
            raise ValueError(f"p_mu {tuple(p_mu.shape)} and p_logvar {tuple(p_logvar.shape)} must have one shape")
        super().__init__(p_mu.shape[-1])
        self.p_mu, self.p_logvar = p_mu, p_logvar

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; p_mu, exp(p_logvar)); z (..., Z) -> (...), nats, not reduced."""
        return log_normal(z, self.p_mu, self.p_logvar)

    def kl(self, q_mu: Tensor, q_logvar: Tensor, z: Tensor) -> Tensor:
        """KL[N(q_mu, exp(q_logvar)) || N(p_mu, exp(p_logvar))] in closed form; ``z`` is not used.

        Args:
            q_mu, q_logvar: (..., Z), alike with p_mu but for axes of length one. z: see `Prior.kl`.

        Returns:
            (...), nats, >= 0, not reduced.
        """
        q_mu, q_logvar, p_mu, p_logvar = torch.broadcast_tensors(q_mu, q_logvar, self.p_mu, self.p_logvar)
        return kl_diag_gaussians(q_mu, q_logvar, p_mu, p_logvar)

    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, ..., Z)."""
        return sample_normal(self.p_mu, self.p_logvar, n).to(device)
