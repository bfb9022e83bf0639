"""What every prior can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vae_helpers.distributions import check_suffix, entropy_normal


class Prior(nn.Module, ABC):
    """p(z) over z_dim latents: what every prior can do.

    Args:
        z_dim: number of latent dimensions Z, >= 1.

    Raises:
        ValueError: if ``z_dim`` < 1.
    """

    n_components = 1

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        if z_dim < 1:
            raise ValueError(f"z_dim must be at least 1, got {z_dim}")
        self.z_dim = z_dim

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z); z (..., Z) -> (...), nats, not reduced."""

    @abstractmethod
    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, Z)."""

    def kl(self, q_mu: Tensor, q_logvar: Tensor, z: Tensor) -> Tensor:
        r"""KL[q || p] by one sample, :math:`-H(q) - \log p(z)`, :math:`z \sim q = N(q_\mu, e^{q_{lv}})`.

        The entropy is in closed form: the gradient is that of :math:`\log q(z) - \log p(z)`, draw by draw, and
        the value of a narrow q is less noisy.

        Args:
            q_mu, q_logvar: (B, Z). z: a reparameterised sample of q, (..., B, Z).

        Returns:
            (..., B), nats, not reduced. The mean over z is the KL, >= 0; a single value may be negative.

        Source: Kingma & Welling 2014, equation 7, for a p without closed form.
        """
        check_suffix(z=z, q_mu=q_mu, q_logvar=q_logvar)
        return -entropy_normal(q_logvar) - self.log_prob(z)
