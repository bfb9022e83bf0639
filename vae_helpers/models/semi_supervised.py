"""Semi-supervised models: a label y beside the latent z, observed for a few examples and inferred for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_helpers.likelihoods import Likelihood
from vae_helpers.models.conditional import ConditionalVAE
from vae_helpers.priors import Prior


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


class M2(ConditionalVAE, Classifier):
    """A `ConditionalVAE` p(y) p(z) p(x | y, z), q(z | x, y), with q(y | x); y is uniform over K classes.

    Args:
        classifier: x (B, D) -> y_logits (B, K).
        encoder, decoder, likelihood, prior, n_classes: as `ConditionalVAE`.

    Source: Kingma, Rezende, Mohamed & Welling 2014, section 2.2.
    """

    def __init__(
        self,
        classifier: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: Prior,
        *,
        n_classes: int,
    ) -> None:
        ConditionalVAE.__init__(self, encoder, decoder, likelihood, prior, n_classes=n_classes)
        self.net = classifier


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
        prior: Prior,
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
