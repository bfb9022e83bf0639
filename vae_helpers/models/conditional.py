"""The conditional VAE: every density is given a label y."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vae_helpers.likelihoods import Likelihood
from vae_helpers.priors import Prior


class ConditionalVAE(nn.Module):
    """p(z) p(x | y, z) with q(z | x, y): a VAE of x for each of K labels, which share their nets.

    Labels are one-hot (or relaxed) vectors, (..., K); the zero vector stands for no label. Encoder and
    decoder may have leading axes that the other input has not: see `all_labels`.

    Args:
        encoder: (x (B, D), y (..., K)) -> (..., 2Z): q_mu, then q_logvar.
        decoder: (z (..., Z), y (..., K)) -> the likelihood's parameters (..., D).
        likelihood: p(x | y, z). prior: p(z), the same for every label. n_classes: K, >= 2.

    Raises:
        ValueError: if ``n_classes`` < 2.

    Source: Sohn, Lee & Yan 2015, section 4.1 (with a prior that does not depend on the label).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: Prior,
        *,
        n_classes: int,
    ) -> None:
        nn.Module.__init__(self)  # not super(): M2 is a Classifier too, with arguments of its own
        if n_classes < 2:
            raise ValueError(f"n_classes must be at least 2, got {n_classes}")
        self.encoder, self.decoder, self.likelihood, self.prior = encoder, decoder, likelihood, prior
        self.n_classes = n_classes

    @property
    def z_dim(self) -> int:
        """Number of latent dimensions Z."""
        return self.prior.z_dim

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of q(z | x, y); x (B, D), y (..., K) -> q_mu (..., Z), q_logvar (..., Z), the log *variance*."""
        q_mu, q_logvar = self.encoder(x, y).to(x.dtype).chunk(2, dim=-1)  # float32 again under bf16
        return q_mu, q_logvar

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Decoder output (logits or means, as the likelihood reads it); z (..., Z), y (..., K) -> (..., D)."""
        return self.decoder(z, y).to(z.dtype)

    def decode_mean(self, z: Tensor, y: Tensor) -> Tensor:
        """E[x | y, z], the picture to look at; z (..., Z), y (..., K) -> (..., D)."""
        return self.likelihood.mean(self.decode(z, y))

    def decode_guided(self, z: Tensor, y: Tensor, *, weight: float) -> Tensor:
        r"""Decoder output with the label's effect enlarged, :math:`o(z, 0) + w\,[o(z, y) - o(z, 0)]`.

        Args:
            z: (..., Z). y: (..., K). weight: w; 1 is `decode`, 0 leaves the label out, more than 1 exaggerates it.
                Only a model trained with label dropout knows what no label means.

        Returns:
            (..., D), as `decode`.

        Source: the classifier-free guidance of Ho & Salimans 2022, equation 6 (their w is ours less 1), applied to
            the decoder's output in the place of a score.
        """
        without = self.decode(z, torch.zeros_like(y))
        return without + weight * (self.decode(z, y) - without)

    def prior_given(self, y: Tensor) -> Prior:
        """p(z | y); y (..., K). Here p(z), whatever the label."""
        return self.prior

    def all_labels(self, x: Tensor) -> Tensor:
        """Every label as a one-hot vector, (K, 1, K): broadcast against x (B, D), it stands for all K B pairs."""
        return torch.eye(self.n_classes, dtype=x.dtype, device=x.device)[:, None]

    def one_hot(self, y: Tensor) -> Tensor:
        """Labels (N,) int64 as one-hot vectors (N, K) of the weights' type; one outside 0..K-1 raises."""
        kind = next(self.decoder.parameters()).dtype
        return torch.eye(self.n_classes, dtype=kind, device=y.device).index_select(0, y)

    def given(self, y: Tensor) -> GivenLabel:
        """This model with its label fixed: everything that takes a `VAE` takes it.

        Args:
            y: one-hot, (B, K) for a batch of B, or (K,) for one label.
        """
        return GivenLabel(self, y)


@dataclass(frozen=True)
class GivenLabel:
    """p(z) p(x | y, z) of one y, with the interface of a `VAE`.

    Args:
        conditional: the model. y: one-hot, (B, K) or (K,).
    """

    conditional: ConditionalVAE
    y: Tensor

    @property
    def likelihood(self) -> Likelihood:
        """p(x | y, z)."""
        return self.conditional.likelihood

    @property
    def prior(self) -> Prior:
        """p(z | y)."""
        return self.conditional.prior_given(self.y)

    @property
    def z_dim(self) -> int:
        """Number of latent dimensions Z."""
        return self.conditional.z_dim

    @property
    def training(self) -> bool:
        """True in training mode."""
        return self.conditional.training

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `ConditionalVAE.encode`."""
        return self.conditional.encode(x, self.y)

    def decode(self, z: Tensor) -> Tensor:
        """See `ConditionalVAE.decode`."""
        return self.conditional.decode(z, self.y)

    def decode_mean(self, z: Tensor) -> Tensor:
        """See `ConditionalVAE.decode_mean`."""
        return self.conditional.decode_mean(z, self.y)
