"""How good samples are: does a classifier read the label that was asked for, and do they look like the data to it?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from vae_helpers.models import ConditionalVAE


@torch.inference_mode()
def conditional_samples(
    model: ConditionalVAE, *, n_per_class: int, guidance: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Means E[x | y, z] with z from the prior, the same z for every label.

    Args:
        model: in evaluation mode. n_per_class: n >= 1. seed: of z, drawn on the CPU.
        guidance: weight of the label, see `ConditionalVAE.decode_guided`; 1 is the model itself.

    Returns:
        x (K n, D) and the labels asked for, y (K n,) int64, label by label.

    Raises:
        ValueError: if ``n_per_class`` < 1.
    """
    if n_per_class < 1:
        raise ValueError(f"n_per_class must be at least 1, got {n_per_class}")
    weight = next(model.decoder.parameters())
    z = torch.randn(n_per_class, model.z_dim, generator=torch.Generator().manual_seed(seed)).to(weight)
    pictures = []
    labels = torch.arange(model.n_classes, device=weight.device)
    for label in model.one_hot(labels):
        y = label.expand(n_per_class, -1)
        out = model.decode(z, y) if guidance == 1 else model.decode_guided(z, y, weight=guidance)
        pictures.append(model.likelihood.mean(out))
    return torch.cat(pictures), labels.repeat_interleave(n_per_class)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""Squared Frechet distance of two Gaussians fitted to features.

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}\left[\Sigma_a + \Sigma_b - 2(\Sigma_a \Sigma_b)^{1/2}\right]

    Its size depends on the features, and for finite samples it is biased upwards: compare only values with the same
    features and numbers of examples. With Inception's features it is called FID; on digits those are out of place.

    Args:
        a: features of one set, (N, F), N >= 2. b: of the other, (M, F), M >= 2.

    Returns:
        >= 0, in squared units of the features.

    Raises:
        ValueError: for fewer than two examples, different numbers of features or features that are not finite.

    Source: Dowson & Landau 1982; Heusel et al. 2017, equation 6.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"need (N, F) and (M, F) with N, M >= 2, got {tuple(a.shape)} and {tuple(b.shape)}")
    x, y = (features.detach().double().cpu().numpy() for features in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features must be finite numbers")
    cov_x, cov_y = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    # the trace of the root needs only the eigenvalues of the product, which are real and >= 0 but for rounding
    eigenvalues = scipy.linalg.eigvals(cov_x @ cov_y).real.clip(0)
    distance = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y) - 2 * np.sqrt(eigenvalues).sum()
    return max(float(distance), 0.0)


@torch.inference_mode()
def features_of(hidden: Callable[[Tensor], Tensor], x: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Features of many images; hidden: (B, D) -> (B, F), such as `nets.ConvEncoder.hidden`; x (N, D) -> (N, F)."""
    return torch.cat([hidden(chunk) for chunk in x.split(batch_size)])
