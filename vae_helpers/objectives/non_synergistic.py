"""The Non-Synergistic VAE's penalty, and the same penalty inside one loss; see the package for the conventions."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers.distributions import kl_diag_gaussians_per_dim
from vae_helpers.models import VAE
from vae_helpers.objectives.bounds import Terms, check_batch, check_standard_normal, check_weights, one_sample
from vae_helpers.objectives.subsets import Choice, greedy_subset


def synergy(model: VAE, x: Tensor, *, alpha: float, omega: float, choice: Choice = greedy_subset) -> Terms:
    r"""The penalty of the second step, :math:`\alpha \sum_{j \in W} \mathrm{KL}[q(z_j|x) \| p(z_j)]`.

    W are the latents that ``choice`` leaves out: those of low KL. Only the encoder has a part in it.

    Args:
        model: a `VAE` with prior N(0, I). x: a batch, (B, D). alpha: weight, >= 0. omega: of the choice, 0 to 1.
        choice: from the batch's mean KLs to the latents to keep.

    Returns:
        dict of (B,), nats, not reduced: ``synergy_loss`` = KL of the latents in W, ``n_kept`` how many are not in W,
        ``loss`` = alpha synergy_loss.

    Raises:
        ValueError: for an alpha or omega out of range, another prior, or an x that is no batch of flat examples.

    Source: Barrientos & Sootla 2019, the second term of the objective.
    """
    check_weights(alpha=alpha)
    check_standard_normal(model)
    check_batch(x)
    return _penalty(kl_diag_gaussians_per_dim(*model.encode(x)), alpha, omega, choice)


def masked_elbo(model: VAE, x: Tensor, *, alpha: float, omega: float, choice: Choice = greedy_subset) -> Terms:
    r"""The ELBO and `synergy` in one loss: a beta-VAE with weight 1 + alpha on the latents in W, and 1 on the others.

    Args:
        model, x, alpha, omega, choice: as `synergy`.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``elbo_bound``, ``synergy_loss``, ``n_kept`` and
        ``loss`` = kl - log_px + alpha synergy_loss.

    Raises:
        ValueError: as `synergy`.
    """
    check_weights(alpha=alpha)
    check_standard_normal(model)
    q_mu, q_logvar, _, log_px, kl = one_sample(model, x)
    penalty = _penalty(kl_diag_gaussians_per_dim(q_mu, q_logvar), alpha, omega, choice)
    terms = {"log_px": log_px, "kl": kl, "elbo_bound": log_px - kl}
    return {**penalty, **terms, "loss": kl - log_px + penalty["loss"]}


def _penalty(kl_per_dim: Tensor, alpha: float, omega: float, choice: Choice) -> Terms:
    keep = choice(kl_per_dim.detach().mean(0), omega=omega)
    rest = torch.where(keep, 0.0, kl_per_dim).sum(-1)
    return {"loss": alpha * rest, "synergy_loss": rest, "n_kept": keep.sum().to(rest).expand_as(rest)}
