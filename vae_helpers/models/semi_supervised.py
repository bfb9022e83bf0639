"""Semi-supervised models: a label y beside the latent z, observed for a few examples and inferred for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_helpers.likelihoods import Likelihood
from vae_helpers.priors import StandardNormal


class Classifier(nn.Module):
    """q(y | x), a categorical distribution over K classes.

    Args:
        net: maps (B, D) to logits (B, K). n_classes: K, >= 2.

    Raises:
        ValueError: if ``n_classes`` < 2.
    """

    def __init__(self, net: nn.Module, *, n_classes: int) -> None:
        super().__init__()
        if n_classes < 2:
            raise ValueError(f"n_classes must be at least 2, got {n_classes}")
        self.net, self.n_classes = net, n_classes

    def classify(self, x: Tensor) -> Tensor:
        """y_logits (B, K) of x (B, D)."""
        return self.net(x).to(x.dtype)  # float32 again under bf16


class M2(Classifier):
    """p(y) p(z) p(x | y, z) with q(y | x) and q(z | x, y); y is uniform over K classes.

    Labels are one-hot (or relaxed) vectors, (..., K). Encoder and decoder add up one linear map per input
    (`nets.JointMLP`), so y may carry leading axes that x has not: see `all_labels`.

    Args:
        classifier: x (B, D) -> y_logits (B, K).
        encoder: (x (B, D), y (..., K)) -> (..., 2Z): q_mu, then q_logvar.
        decoder: (z (..., Z), y (..., K)) -> the likelihood's parameters (..., D).
        likelihood: p(x | y, z). prior: p(z). n_classes: K.

    Source: Kingma, Rezende, Mohamed & Welling 2014, section 2.2.
    """

    def __init__(
        self,
        classifier: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: StandardNormal,
        *,
        n_classes: int,
    ) -> None:
        super().__init__(classifier, n_classes=n_classes)
        self.encoder, self.decoder, self.likelihood, self.prior = encoder, decoder, likelihood, prior

    @property
    def z_dim(self) -> int:
        """Number of latent dimensions Z."""
        return self.prior.z_dim

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of q(z | x, y); x (B, D), y (..., K) -> q_mu (..., Z), q_logvar (..., Z), the log *variance*."""
        q_mu, q_logvar = self.encoder(x, y).to(x.dtype).chunk(2, dim=-1)
        return q_mu, q_logvar

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Decoder output (logits or means, as the likelihood reads it); z (..., Z), y (..., K) -> (..., D)."""
        return self.decoder(z, y).to(z.dtype)

    def decode_mean(self, z: Tensor, y: Tensor) -> Tensor:
        """E[x | y, z], the picture to look at; z (..., Z), y (..., K) -> (..., D)."""
        return self.likelihood.mean(self.decode(z, y))

    def all_labels(self, x: Tensor) -> Tensor:
        """Every label as a one-hot vector, (K, 1, K): broadcast against x (B, D), it stands for all K B pairs."""
        return torch.eye(self.n_classes, dtype=x.dtype, device=x.device)[:, None]


class ADGM(M2):
    """M2 with an auxiliary variable a: q(a | x), q(y | a, x), q(z | a, x, y) and p(a | x, y, z).

    a belongs to the inference side only: integrating p(x, y, z) p(a | x, y, z) over a leaves M2's own
    p(x, y, z). It makes q(y, z | x) = E_q(a|x)[q(y | a, x) q(z | a, x, y)] a mixture, more flexible than M2's.

    Args:
        classifier, encoder: as `M2`, with the pair (x, a) concatenated, (B, D + A), in the place of x.
        decoder, likelihood, prior, n_classes: as `M2`.
        a_encoder: x (B, D) -> (B, 2A): mean and log variance of q(a | x).
        a_decoder: (x (B, D), y (..., K), z (..., Z)) -> (..., 2A): mean and log variance of p(a | x, y, z).

    Source: Maaløe, Sønderby, Sønderby & Winther 2016, section 2.
    """

    def __init__(
        self,
        classifier: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: StandardNormal,
        *,
        n_classes: int,
        a_encoder: nn.Module,
        a_decoder: nn.Module,
    ) -> None:
        super().__init__(classifier, encoder, decoder, likelihood, prior, n_classes=n_classes)
        self.a_encoder, self.a_decoder = a_encoder, a_decoder

    def encode_a(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of q(a | x); x (B, D) -> a_mu (B, A), a_logvar (B, A)."""
        a_mu, a_logvar = self.a_encoder(x).to(x.dtype).chunk(2, dim=-1)
        return a_mu, a_logvar

    def decode_a(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of p(a | x, y, z); x (B, D), y (..., K), z (..., Z) -> (..., A) each."""
        a_mu, a_logvar = self.a_decoder(x, y, z).to(x.dtype).chunk(2, dim=-1)
        return a_mu, a_logvar

    def with_auxiliary(self, x: Tensor, a: Tensor) -> Tensor:
        """What classifier and encoder read in the place of x: (B, D + A)."""
        return torch.cat([x, a], dim=-1)
