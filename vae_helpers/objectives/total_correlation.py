"""A weight on the total correlation of the code: beta-TCVAE and FactorVAE; see the package for the conventions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vae_helpers.distributions import log_aggregate_posterior, log_normal, log_standard_normal
from vae_helpers.models import VAE
from vae_helpers.objectives.bounds import Terms, check_standard_normal, check_weights, one_sample

Estimator = Literal["stratified", "weighted"]


def minibatch_log_weights(
    batch_size: int, *, n_data: int, estimator: Estimator = "stratified", device: torch.device | str = "cpu"
) -> Tensor:
    r"""Log weights of the batch's posteriors in an estimate of q(z) at the code of each of its examples.

    The aggregate posterior is :math:`q(z) = \frac1N \sum_n q(z|x_n)` over all N examples; a batch has B of them.

    - ``stratified``: 1/N for the example's own posterior and (N - 1) / (N (B - 1)) for each other one. Unbiased for
      q(z) if the batch has no example twice, and q(z) itself when the batch is the whole data set.
      (Chen et al. give one of the others a weight of its own; these weights are the mean of theirs over which one.)
    - ``weighted``: 1/(N B) for each. Its log q(z) is too small: by log B where no two posteriors overlap, and by log N
      where all are alike. So the mutual information comes out too large by as much, and the total correlation by about
      Z - 1 times as much, though a shift that hardly changes hardly touches the gradient.

    Args:
        batch_size: B, >= 2. n_data: N >= B, the number of examples in the data set.
        estimator: one of the two. device: where to make them.

    Returns:
        (B, B), row i for the code of example i.

    Raises:
        ValueError: for B < 2, N < B, or an unknown estimator.

    Source: Chen et al. 2018, appendix C.1 (weighted) and C.2 (stratified).
    """
    if not 2 <= batch_size <= n_data:
        raise ValueError(f"the batch needs 2 examples or more and at most n_data = {n_data}, got {batch_size}")
    if estimator == "weighted":
        return torch.full((batch_size, batch_size), -math.log(n_data * batch_size), device=device)
    if estimator != "stratified":
        raise ValueError(f"unknown estimator {estimator!r}; choose stratified or weighted")
    others = math.log((n_data - 1) / (n_data * (batch_size - 1)))
    return torch.full((batch_size, batch_size), others, device=device).fill_diagonal_(-math.log(n_data))


def beta_tcvae(
    model: VAE,
    x: Tensor,
    *,
    beta: float,
    n_data: int,
    alpha: float = 1.0,
    gamma: float = 1.0,
    estimator: Estimator = "stratified",
) -> Terms:
    r"""The ELBO with weights on the three parts of its KL, of which beta falls on the total correlation.

    .. math:: \log p(x|z) - \alpha \underbrace{\log\tfrac{q(z|x)}{q(z)}}_{I(x;z)}
              - \beta \underbrace{\log\tfrac{q(z)}{\prod_j q(z_j)}}_{TC}
              - \gamma \underbrace{\log\tfrac{\prod_j q(z_j)}{p(z)}}_{\text{dimension-wise KL}}

    Args:
        model: a `VAE` with prior N(0, I). x: a batch of different examples, (B, D). beta, alpha, gamma: weights, >= 0.
        n_data: N, the size of the data set. estimator: of q(z), see `minibatch_log_weights`.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl`` (closed form), ``elbo_bound``, the parts at one sample
        ``mutual_information`` (at most log N when stratified), ``total_correlation`` and ``dimension_wise_kl``, whose
        sum is log q(z|x) - log p(z), and ``loss`` = kl - log_px + (alpha - 1) I + (beta - 1) TC + (gamma - 1) D, which
        takes one whole KL in closed form: less noise, and weights of 1 are the ELBO. Single parts may be negative.

    Raises:
        ValueError: for a weight below 0, another prior, an unknown estimator, or a batch that does not fit ``n_data``.

    Source: Chen et al. 2018, equation 4.
    """
    check_weights(alpha=alpha, beta=beta, gamma=gamma)
    check_standard_normal(model)
    log_weights = minibatch_log_weights(len(x), n_data=n_data, estimator=estimator, device=x.device)
    q_mu, q_logvar, z, log_px, kl = one_sample(model, x)
    log_qz, log_qz_per_dim = log_aggregate_posterior(z, q_mu, q_logvar, log_weights)
    log_product = log_qz_per_dim.sum(-1)
    parts = {
        "mutual_information": log_normal(z, q_mu, q_logvar) - log_qz,
        "total_correlation": log_qz - log_product,
        "dimension_wise_kl": log_product - log_standard_normal(z),
    }
    extra = sum((w - 1) * part for w, part in zip((alpha, beta, gamma), parts.values(), strict=True))
    return {"loss": kl + extra - log_px, "log_px": log_px, "kl": kl, "elbo_bound": log_px - kl, **parts}


def factor_vae(model: VAE, discriminator: nn.Module, x: Tensor, *, gamma: float) -> Terms:
    r"""The ELBO less gamma times a total correlation that a discriminator estimates.

    The discriminator's logit is :math:`\log q(z) - \log \prod_j q(z_j)` once it has learned to tell codes from
    `permuted` ones. Descend this loss in the parameters of the model alone.

    Args:
        model: a `VAE`. discriminator: maps codes (B, Z) to one logit, (B, 1). x: a batch, (B, D). gamma: >= 0.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``elbo_bound``, ``total_correlation`` (the logit) and
        ``loss`` = kl - log_px + gamma total_correlation.

    Raises:
        ValueError: for gamma < 0, a discriminator of another shape, or an x that is no batch of flat examples.

    Source: Kim & Mnih 2018, equation 2 and algorithm 2.
    """
    check_weights(gamma=gamma)
    _, _, z, log_px, kl = one_sample(model, x)
    total = _logit(discriminator, z)
    return {
        "loss": kl - log_px + gamma * total,
        "log_px": log_px,
        "kl": kl,
        "elbo_bound": log_px - kl,
        "total_correlation": total,
    }


def discrimination(discriminator: nn.Module, z: Tensor, z_permuted: Tensor) -> Terms:
    r"""What the discriminator of `factor_vae` descends, :math:`-\tfrac12[\log D(z) + \log(1 - D(z'))]`.

    The codes are detached: no gradient reaches the encoder.

    Args:
        discriminator: as in `factor_vae`. z: codes, (B, Z). z_permuted: codes of other examples, `permuted`, (B, Z).

    Returns:
        dict of (B,), nats, not reduced: ``discriminator_loss`` and ``loss``, the same. log 2 is guessing.

    Raises:
        ValueError: for codes of two shapes or a discriminator of another shape.

    Source: Kim & Mnih 2018, algorithm 2.
    """
    if z.shape != z_permuted.shape:
        raise ValueError(f"both sets of codes must have one shape, got {tuple(z.shape)} and {tuple(z_permuted.shape)}")
    real, fake = (_logit(discriminator, codes.detach()) for codes in (z, z_permuted))
    loss = 0.5 * (nn.functional.softplus(-real) + nn.functional.softplus(fake))
    return {"loss": loss, "discriminator_loss": loss}


def permuted(z: Tensor) -> Tensor:
    """Each latent permuted over the batch by itself: draws of prod_j q(z_j); z (B, Z) -> (B, Z).

    Source: Kim & Mnih 2018, algorithm 1.
    """
    return z.gather(0, torch.rand(z.shape, device=z.device).argsort(0))


def _logit(discriminator: nn.Module, z: Tensor) -> Tensor:
    with torch.autocast(z.device.type, enabled=False):  # under bf16 the codes would be coarse
        logits = discriminator(z)
    if logits.shape != (len(z), 1):
        raise ValueError(f"the discriminator must give one logit a code, ({len(z)}, 1), got {tuple(logits.shape)}")
    return logits.squeeze(-1).to(z.dtype)
