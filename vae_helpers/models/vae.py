"""The variational autoencoder with a diagonal Gaussian posterior."""

from __future__ import annotations

from torch import Tensor, nn

from vae_helpers.likelihoods import Likelihood
from vae_helpers.priors import Prior


class VAE(nn.Module):
    """p(z) p(x | z) with approximate posterior q(z | x) = N(q_mu(x), diag exp(q_logvar(x))).

    Args:
        encoder: maps (B, D) to (B, 2Z): q_mu, then q_logvar. decoder: maps (..., Z) to the likelihood's parameters.
        likelihood: p(x | z). prior: p(z).

    Source: Kingma & Welling 2014, sections 2 and 3.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, prior: Prior) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood, self.prior = encoder, decoder, likelihood, prior

    @property
    def z_dim(self) -> int:
        """Number of latent dimensions Z."""
        return self.prior.z_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior parameters; x (B, D) -> q_mu (B, Z), q_logvar (B, Z), the log *variance*."""
        q_mu, q_logvar = self.encoder(x).to(x.dtype).chunk(2, dim=-1)  # float32 again under bf16
        return q_mu, q_logvar

    def decode(self, z: Tensor) -> Tensor:
        """Decoder output (logits or means, as the likelihood reads it); z (..., Z) -> (..., D)."""
        return self.decoder(z).to(z.dtype)

    def decode_mean(self, z: Tensor) -> Tensor:
        """E[x | z], the picture to look at; z (..., Z) -> (..., D)."""
        return self.likelihood.mean(self.decode(z))
