"""Conditional models: the bound, what reconstructions and codes look like, bits per dimension."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vae_helpers.evaluation.bounds import conditional_importance_log_px, evaluate_terms, term_means
from vae_helpers.evaluation.collapse import AggregatePosterior
from vae_helpers.likelihoods import Levels, bits_per_dim
from vae_helpers.models import ConditionalVAE
from vae_helpers.objectives import Terms, conditional_elbo


def _bound(model: Any, batch: tuple[Tensor, Tensor]) -> Terms:
    return conditional_elbo(model, *batch)


@torch.inference_mode()
def measure_terms(model: ConditionalVAE, x: Tensor, y: Tensor) -> dict[str, float]:
    """The bound's terms, and what the reconstructions and codes look like.

    Args:
        model: in evaluation mode. x: grey levels, (N, D). y: labels, (N,) int64.

    Returns:
        ``test_elbo_bound``, ``test_log_px``, ``test_kl``, nats per image of the model's own density;
        ``test_squared_error`` per image; ``active_units``; ``dead``, 1 if every reconstruction is black and 0 if
        not; ``dark_pixels_percent``, of the pixels that are lit in at least one image of a hundred those that no
        reconstruction lights; ``found_x_var`` of a Gaussian with one variance, given or found.
    """
    metrics = term_means(model, (x, y), _bound)
    q_mu, q_logvar = encoded(model, x, y)
    moments = AggregatePosterior.of(q_mu, q_logvar)
    x_mean = decoded(model, q_mu, y)
    used = (x > 0.1).float().mean(0) >= 0.01
    dark = x_mean.amax(0) <= 1e-3
    metrics |= {
        "test_squared_error": ((x - x_mean) ** 2).sum(-1).mean().item(),
        "active_units": moments.active_units(),
        "dead": float(dark.all()),
        "dark_pixels_percent": 100 * (dark & used).sum().item() / max(used.sum().item(), 1),
    }
    if isinstance(x_logvar := getattr(model.likelihood, "x_logvar", None), Tensor):
        metrics["found_x_var"] = x_logvar.exp().item()
    return metrics


def measure_bits(model: ConditionalVAE, x: Tensor, y: Tensor, *, n_images: int, n_samples: int) -> dict[str, float]:
    """Bits per dimension, -log P(8-bit x | y) / (D log 2), by the bound and by importance sampling.

    Args:
        model: in evaluation mode. x: grey levels, (N, D). y: labels, (N,) int64. n_images: of importance sampling, the
            first ones. n_samples: of each.

    Returns:
        ``test_elbo_bits_per_dim`` of all images; ``test_bits_per_dim`` of some, with ``..._standard_error`` and
        ``..._median_ess``; nothing for a likelihood that gives 8-bit pixels no probability.
    """
    if not model.likelihood.has_log_mass:
        return {}
    levels = ConditionalVAE(
        model.encoder, model.decoder, Levels(model.likelihood), model.prior, n_classes=model.n_classes
    ).eval()
    bound = evaluate_terms(levels, (x, y), _bound)["elbo_bound"].mean
    found = conditional_importance_log_px(levels, x[:n_images], y[:n_images], n_samples=n_samples)
    return {
        "test_elbo_bits_per_dim": bits_per_dim(bound, x.shape[1]),
        "test_bits_per_dim": bits_per_dim(found.mean.mean, x.shape[1]),
        "test_bits_per_dim_standard_error": found.mean.standard_error / (x.shape[1] * math.log(2)),
        "test_bits_per_dim_median_ess": found.median_ess,
    }


@torch.inference_mode()
def encoded(model: ConditionalVAE, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """q_mu and q_logvar, (N, Z) each, of images x (N, D) with labels y (N,)."""
    parts = [model.encode(*pair) for pair in _in_chunks(x, model.one_hot(y))]
    return torch.cat([q_mu for q_mu, _ in parts]), torch.cat([q_logvar for _, q_logvar in parts])


@torch.inference_mode()
def decoded(model: ConditionalVAE, z: Tensor, y: Tensor) -> Tensor:
    """E[x | y, z], (N, D), of codes z (N, Z) with labels y (N,)."""
    return torch.cat([model.decode_mean(*pair) for pair in _in_chunks(z, model.one_hot(y))])


def _in_chunks(*tensors: Tensor, size: int = 1000) -> Any:
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)
