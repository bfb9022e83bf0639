"""The VAE whose prior is a mixture, with the component as a discrete latent of its own."""

from __future__ import annotations

from torch import Tensor, nn

from vae_helpers.likelihoods import Likelihood
from vae_helpers.models.semi_supervised import M2
from vae_helpers.priors import DiagonalGaussian, Mixture


class GMVAE(M2):
    """p(y) p(z | y) p(x | z), y uniform over the components of a mixture, with q(y | x) and q(z | x, y).

    It is `M2` with the label in the prior in the place of the decoder, so every bound of an M2 without labels
    (`objectives.unlabelled` and its like) is one of a GMVAE, and q(y | x) assigns an image to a cluster.

    Args:
        classifier: x (B, D) -> y_logits (B, K). encoder: (x (B, D), y (..., K)) -> (..., 2Z).
        decoder: z (..., Z) -> the likelihood's parameters (..., D). likelihood: p(x | z).
        prior: a mixture of K >= 2 components with equal weights.

    Raises:
        ValueError: for fewer than two components, or weights that are trained or not equal.

    Source: Dilokthanakul et al. 2016; this form, with p(z | y) and q(z | x, y): Shu 2016 (a note on the web).
    """

    def __init__(
        self, classifier: nn.Module, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, prior: Mixture
    ) -> None:
        log_pi = prior.log_component_probs.detach()
        if isinstance(prior.weight_logits, nn.Parameter) or not log_pi.allclose(log_pi.mean()):
            raise ValueError("a GMVAE's y is uniform: its mixture needs equal weights that are not trained")
        super().__init__(classifier, encoder, decoder, likelihood, prior, n_classes=prior.n_components)
        self.prior: Mixture = prior

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decoder output; z (..., Z) -> (..., D). The label acts through z alone."""
        return self.decoder(z).to(z.dtype)

    def decode_mean(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x | z], the picture to look at; z (..., Z) -> (..., D)."""
        return self.likelihood.mean(self.decode(z))

    def prior_given(self, y: Tensor) -> DiagonalGaussian:
        """p(z | y), the label's component (of a relaxed label, means and log variances weighted); y (..., K)."""
        p_mu, p_logvar = ((y[..., None] * value).sum(-2) for value in self.prior.components())
        return DiagonalGaussian(p_mu, p_logvar)
