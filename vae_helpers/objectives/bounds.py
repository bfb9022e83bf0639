"""Bounds of models without labels; see the package for the conventions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_helpers.distributions import check_suffix, log_standard_normal, sample_normal
from vae_helpers.models import VAE, Autoencoder, GivenLabel
from vae_helpers.priors import StandardNormal

Terms = dict[str, Tensor]


def elbo(model: VAE | GivenLabel, x: Tensor, *, beta: float | Tensor = 1.0) -> Terms:
    r"""One-sample evidence lower bound, :math:`E_q[\log p(x|z)] - \mathrm{KL}[q(z|x) \| p(z)]`.

    Args:
        model: a `VAE` (or a `GivenLabel`). x: a batch, (B, D), in the likelihood's range.
        beta: weight of the KL in ``loss`` only, >= 0, or one that rises in training, as a tensor; the reported bound
            is always the true one.

    Returns:
        dict of (B,), nats, not reduced: ``log_px`` the reconstruction term, ``kl`` >= 0 (closed form
        for a standard normal prior), ``elbo_bound`` = log_px - kl, ``loss`` = beta kl - log_px.

    Raises:
        ValueError: if a beta given as a number is below 0, or x is no batch of flat examples.

    Source: Kingma & Welling 2014, equation 7; beta: Higgins et al. 2017, equation 4.
    """
    if not isinstance(beta, Tensor):
        check_weights(beta=beta)
    *_, log_px, kl = one_sample(model, x)
    return {"loss": beta * kl - log_px, "log_px": log_px, "kl": kl, "elbo_bound": log_px - kl}


def capacity_elbo(model: VAE | GivenLabel, x: Tensor, *, gamma: float, capacity: float | Tensor) -> Terms:
    r"""The ELBO with its batch-mean KL held at a capacity, :math:`\log p(x|z) - \gamma\,|\mathrm{KL} - C|`.

    Args:
        model: a `VAE` (or a `GivenLabel`). x: a batch, (B, D). gamma: weight, >= 0.
        capacity: C, nats, >= 0; to be raised during training.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``elbo_bound`` = log_px - kl, and ``loss``, to which
        every example brings the same gamma abs(mean KL - C).

    Raises:
        ValueError: if gamma or a capacity given as a number is below 0, or x is no batch of flat examples.

    Source: Burgess et al. 2018, equation 8.
    """
    check_weights(gamma=gamma)
    if not isinstance(capacity, Tensor):
        check_weights(capacity=capacity)
    *_, log_px, kl = one_sample(model, x)
    loss = gamma * (kl.mean() - capacity).abs() - log_px
    return {"loss": loss, "log_px": log_px, "kl": kl, "elbo_bound": log_px - kl}


def one_sample(model: VAE | GivenLabel, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the one-sample objectives are made of: q_mu, q_logvar, z ~ q(z|x), log p(x|z), KL[q(z|x) || p(z)].

    Args:
        model: a `VAE` (or a `GivenLabel`). x: a batch, (B, D).

    Returns:
        (B, Z) three times, (B,) twice, nats, not reduced.

    Raises:
        ValueError: if x is no batch of flat examples.
    """
    check_batch(x)
    q_mu, q_logvar = model.encode(x)
    z = sample_normal(q_mu, q_logvar)
    log_px = model.likelihood.log_prob(x, model.decode(z))
    return q_mu, q_logvar, z, log_px, model.prior.kl(q_mu, q_logvar, z)


def log_weights(model: VAE | GivenLabel, x: Tensor, *, n_samples: int) -> Tensor:
    r"""Log importance weights, :math:`\log w_s = \log p(x|z_s) + \log p(z_s) - \log q(z_s|x)`, :math:`z_s \sim q`.

    Args:
        model: a `VAE` (or a `GivenLabel`). x: a batch, (B, D). n_samples: S >= 1.

    Returns:
        (S, B), nats, not reduced.

    Raises:
        ValueError: if ``n_samples`` < 1, or x is no batch of flat examples.

    Source: Burda, Grosse & Salakhutdinov 2016, equation 8.
    """
    _check_samples(x, n_samples)
    q_mu, q_logvar = model.encode(x)
    eps = torch.randn(n_samples, *q_mu.shape, dtype=q_mu.dtype, device=q_mu.device)
    z = q_mu + torch.exp(0.5 * q_logvar) * eps
    # log q from eps, not from (z - q_mu): that difference is all rounding once a posterior is very narrow
    log_qz = log_standard_normal(eps) - 0.5 * q_logvar.sum(-1)
    return model.likelihood.log_prob(x, model.decode(z)) + model.prior.log_prob(z) - log_qz


def iwae(model: VAE | GivenLabel, x: Tensor, *, n_samples: int) -> Terms:
    r"""Importance-weighted bound, :math:`E[\log \frac1k \sum_s w_s]` with k = ``n_samples``.

    Args:
        model: a `VAE` (or a `GivenLabel`). x: a batch, (B, D). n_samples: k >= 1; k = 1 is the ELBO with a sampled KL.

    Returns:
        dict of (B,), nats, not reduced: ``iwae_bound``, ``loss`` = -iwae_bound.

    Raises:
        ValueError: if ``n_samples`` < 1, or x is no batch of flat examples.

    Source: Burda et al. 2016, equation 8.
    """
    bound = torch.logsumexp(log_weights(model, x, n_samples=n_samples), dim=0) - math.log(n_samples)
    return {"loss": -bound, "iwae_bound": bound}


def dreg(model: VAE | GivenLabel, x: Tensor, *, n_samples: int) -> Terms:
    r"""The bound of `iwae` with a doubly reparameterised gradient for the encoder, less noisy as k grows.

    The encoder's gradient is :math:`\sum_s \tilde w_s^2\, \partial_z \log w_s\, \partial_\phi z_s`, with normalised
    weights :math:`\tilde w_s` and the parameters of :math:`\log q` held fixed; decoder and prior keep theirs,
    :math:`\sum_s \tilde w_s\, \partial_\theta \log w_s`. Both have the mean of `iwae`'s gradient. k = 1 is
    "sticking the landing": the noise vanishes where q is the true posterior.

    Args:
        model: a `VAE` (or a `GivenLabel`). x: a batch, (B, D). n_samples: k >= 1.

    Returns:
        dict of (B,), nats, not reduced: ``iwae_bound`` (no gradient) and ``loss``, whose value is -iwae_bound and
        whose gradient is the one above.

    Raises:
        ValueError: if ``n_samples`` < 1, or x is no batch of flat examples.

    Source: Tucker, Lawson, Gu & Maddison 2019, equation 9; k = 1: Roeder, Wu & Duvenaud 2017.
    """
    _check_samples(x, n_samples)
    q_mu, q_logvar = model.encode(x)
    eps = torch.randn(n_samples, *q_mu.shape, dtype=q_mu.dtype, device=q_mu.device)
    z = q_mu + torch.exp(0.5 * q_logvar) * eps
    # log q at fixed parameters: its value from eps, as in `log_weights`, its gradient through z
    moved = eps + (z - z.detach()) * torch.exp(-0.5 * q_logvar.detach())
    log_qz = log_standard_normal(moved) - 0.5 * q_logvar.detach().sum(-1)
    log_w = model.likelihood.log_prob(x, model.decode(z)) + model.prior.log_prob(z) - log_qz
    weights = log_w.detach().softmax(dim=0)
    if z.requires_grad:
        z.register_hook(lambda gradient: gradient * weights[..., None])
    bound = torch.logsumexp(log_w.detach(), dim=0) - math.log(n_samples)
    surrogate = (weights * log_w).sum(0)
    return {"loss": -(bound + surrogate - surrogate.detach()), "iwae_bound": bound}


def reconstruction(model: Autoencoder, x: Tensor) -> Terms:
    r"""The autoencoder's objective, :math:`\log p(x \mid z = \text{encode}(x))`; no bound on anything.

    Args:
        model: an `Autoencoder`. x: a batch, (B, D).

    Returns:
        dict of (B,), nats, not reduced: ``log_px`` and ``loss`` = -log_px.

    Raises:
        ValueError: if x is no batch of flat examples.
    """
    check_batch(x)
    log_px = model.likelihood.log_prob(x, model.decode(model.encode(x)))
    return {"loss": -log_px, "log_px": log_px}


def check_terms(terms: Terms, batch_size: int) -> None:
    """Raise unless every term is one number per example, which a silent mean or broadcast would break.

    Args:
        terms: what an objective returned. batch_size: B.

    Raises:
        ValueError: naming the first term whose shape is not (B,), or a missing ``loss``.
    """
    if "loss" not in terms:
        raise ValueError(f"an objective must return the key 'loss'; got {sorted(terms)}")
    for name, value in terms.items():
        if tuple(value.shape) != (batch_size,):
            raise ValueError(
                f"term {name!r} has shape {tuple(value.shape)}, expected ({batch_size},): one value per example. "
                "Sum over data or latent dimensions, never over the batch."
            )
    check_suffix(**terms)


def check_weights(**weights: float) -> None:
    """Raise ValueError unless each weight is a finite number >= 0, naming the first that is not."""
    for name, value in weights.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a finite number >= 0, got {value}")


def check_standard_normal(model: VAE) -> None:
    """Raise ValueError unless the prior is N(0, I), whose KL splits by latent."""
    if not isinstance(model.prior, StandardNormal):
        raise ValueError(f"this objective looks at single latents and needs the prior N(0, I), got {model.prior}")


def check_batch(x: Tensor) -> None:
    """Raise ValueError unless x is (B, D)."""
    if x.ndim != 2:
        raise ValueError(f"x must be a batch of flat examples, (B, D); got shape {tuple(x.shape)}. Use x.flatten(1).")


def _check_samples(x: Tensor, n_samples: int) -> None:
    check_batch(x)
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
