"""The deterministic autoencoder: a code, not a distribution."""

from __future__ import annotations

from torch import Tensor, nn

from vae_helpers.likelihoods import Likelihood


class Autoencoder(nn.Module):
    """z = encoder(x), x_mean = likelihood.mean(decoder(z)); no noise anywhere and no prior.

    Args:
        encoder: maps (B, D) to (B, Z). decoder: maps (..., Z) to (..., D).
        likelihood: what the decoder's output means; its log-density is the reconstruction term.
        z_dim: number of code dimensions Z.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, *, z_dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood, self.z_dim = encoder, decoder, likelihood, z_dim

    def encode(self, x: Tensor) -> Tensor:
        """The code of each example; x (B, D) -> z (B, Z)."""
        return self.encoder(x).to(x.dtype)  # float32 again under bf16

    def decode(self, z: Tensor) -> Tensor:
        """Decoder output (logits or means, as the likelihood reads it); z (..., Z) -> (..., D)."""
        return self.decoder(z).to(z.dtype)

    def decode_mean(self, z: Tensor) -> Tensor:
        """E[x | z], the picture to look at; z (..., Z) -> (..., D)."""
        return self.likelihood.mean(self.decode(z))
