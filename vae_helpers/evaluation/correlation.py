"""Total correlation of codes, and what the mean KL to the prior is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_helpers.distributions import LOG_2PI, log_aggregate_posterior
from vae_helpers.evaluation.bounds import Estimate


@dataclass(frozen=True)
class KLTerms:
    """The parts of the mean KL[q(z|x) || N(0, I)] over a data set of N images, nats per example.

    Args:
        mutual_information: I(x; z) under q, 0 to log N. total_correlation: KL[q(z) || prod_j q(z_j)], >= 0.
        dimension_wise_kl: sum_j KL[q(z_j) || N(0, 1)], >= 0. kl: of the same samples, the sum of the three.
        kl_per_dim: the summands KL[q(z_j) || N(0, 1)] of ``dimension_wise_kl``, (Z,).
        n_posteriors: N. All `Estimate` s are over the samples of z, so that chance may take a small one below 0.
    """

    mutual_information: Estimate
    total_correlation: Estimate
    dimension_wise_kl: Estimate
    kl: Estimate
    kl_per_dim: Tensor
    n_posteriors: int


@torch.inference_mode()
def kl_terms(q_mu: Tensor, q_logvar: Tensor, *, seed: int, n_samples: int = 10_000, memory_mb: float = 64.0) -> KLTerms:
    r"""Mean KL to N(0, I) = mutual information + total correlation + dimension-wise KL, each by Monte Carlo.

    .. math:: E_{x,z}\Big[\underbrace{\log\tfrac{q(z|x)}{q(z)}}_{I(x;z)} +
              \underbrace{\log\tfrac{q(z)}{\prod_j q(z_j)}}_{TC} + \sum_j \log\tfrac{q(z_j)}{N(z_j;0,1)}\Big],\qquad
              q(z) = \tfrac1N \sum_n q(z|x_n)

    x is uniform over the N images and z ~ q(z|x). The mixture q(z) is the whole one: exact for this set, no minibatch
    weights. It says nothing on images outside the set, and I(x; z) near log N only says that N is too small to tell.

    Args:
        q_mu, q_logvar: posterior means and log variances of the data set, (N, Z) each.
        seed: of the samples. n_samples: of z, S >= 2. memory_mb: size of the largest tensor held at once, MB, or one
            float64 copy of q_mu if that is more; a few such live at a time; the result does not depend on it. Time
            grows as S N Z.

    Returns:
        `KLTerms`.

    Raises:
        ValueError: for shapes that are not (N, Z) alike, no posteriors, parameters that are not finite, or S < 2.

    Source: Chen et al. 2018, equation 2; Hoffman & Johnson 2016.
    """
    if q_mu.ndim != 2 or q_mu.shape != q_logvar.shape or q_mu.numel() == 0:
        raise ValueError(
            f"q_mu and q_logvar must both be (N, Z) with N, Z >= 1, got {tuple(q_mu.shape)}, {tuple(q_logvar.shape)}"
        )
    if not (q_mu.isfinite().all() and q_logvar.isfinite().all()):
        raise ValueError("q_mu and q_logvar must be finite")
    if n_samples < 2:
        raise ValueError(f"n_samples must be at least 2, got {n_samples}")
    n, z_dim = q_mu.shape
    at_once = max(1, int(memory_mb * 2**20 / (8 * n * z_dim)))  # samples against all posteriors, in float64
    mu, logvar = q_mu.double(), q_logvar.double()
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(n, (n_samples,), generator=generator).to(mu.device)
    eps = torch.randn(n_samples, z_dim, dtype=torch.float64, generator=generator).to(mu.device)
    z = mu[index] + (0.5 * logvar[index]).exp() * eps
    log_q_given_x = -0.5 * (LOG_2PI + logvar[index] + eps**2).sum(1)
    parts = [log_aggregate_posterior(chunk, mu, logvar, -math.log(n)) for chunk in z.split(at_once)]
    log_q, log_q_per_dim = (torch.cat(values) for values in zip(*parts, strict=True))
    kl_per_dim = log_q_per_dim + 0.5 * (LOG_2PI + z**2)
    mutual, total = log_q_given_x - log_q, log_q - log_q_per_dim.sum(1)
    dimension_wise = kl_per_dim.sum(1)
    return KLTerms(
        mutual_information=Estimate.of(mutual),
        total_correlation=Estimate.of(total),
        dimension_wise_kl=Estimate.of(dimension_wise),
        kl=Estimate.of(mutual + total + dimension_wise),
        kl_per_dim=kl_per_dim.mean(0),
        n_posteriors=n,
    )


def gaussian_total_correlation(codes: Tensor) -> float:
    r"""Total correlation of the Gaussian with these codes' covariance, :math:`-\tfrac12 \log\det \mathrm{corr}(z)`.

    It tells of linear dependence only, and of no other. A latent that never moves is independent of all others and
    adds nothing; latents that determine each other linearly give infinity.

    Args:
        codes: (N, Z), float, with more rows than columns.

    Returns:
        nats, >= 0.

    Raises:
        ValueError: for codes that are not (N, Z) with N > Z, or not finite.

    Source: Watanabe 1960 (total correlation); Locatello et al. 2019 (as a score of mean codes).
    """
    if codes.ndim != 2 or len(codes) <= codes.shape[1]:
        raise ValueError(f"codes must be (N, Z) with more codes than latents, got shape {tuple(codes.shape)}")
    if not codes.isfinite().all():
        raise ValueError(f"{int((~codes.isfinite()).any(1).sum())} of {len(codes)} codes are not finite")
    z = codes.detach().double()
    z = z[:, z.amax(0) > z.amin(0)]
    if z.shape[1] < 2:
        return 0.0
    z = (z - z.mean(0)) / z.std(0, correction=0)
    eigenvalues = torch.linalg.eigvalsh(z.mT @ z / len(z))
    if eigenvalues[0] < len(eigenvalues) * torch.finfo(z.dtype).eps * eigenvalues[-1]:
        return math.inf
    return max(0.0, -0.5 * eigenvalues.log().sum().item())
