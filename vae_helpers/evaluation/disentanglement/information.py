"""Metrics by mutual information between binned latents and factors: MIG and modularity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid
from vae_helpers.evaluation.disentanglement.codes import Counted, Score, at_least, counted, mean_error

N_BINS = 20  # of each latent, of equal width from its smallest to its largest value


@dataclass(frozen=True)
class InformationGap(Score):
    """The mutual information gap.

    Args:
        score: mean gap over factors, 0 to 1. standard_error: from the number of examples, by the delta method on the
            binned estimate; the bias of binning is not in it, and where two latents tie it is only a guide.
        gaps: per factor, (F,), of its entropy. mutual_information: (Z, F), nats. entropy: of the factors, (F,), nats.
        best: the most informative latent of each factor, (F,) int64. names: of the F factors counted.
    """

    gaps: Tensor
    mutual_information: Tensor
    entropy: Tensor
    best: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Modularity:
    """How far each latent is about one factor only.

    Args:
        score: mean over latents, 0 to 1. per_latent: (Z,). mutual_information: (Z, F), nats.
        names: of the F factors counted.
    """

    score: float
    per_latent: Tensor
    mutual_information: Tensor
    names: tuple[str, ...]


def mig(codes: Tensor, classes: Tensor, grid: FactorGrid, *, n_bins: int = N_BINS) -> InformationGap:
    r"""Mutual information gap, :math:`\frac1F\sum_f \frac{1}{H(v_f)}\big(I(z_{(1)};v_f) - I(z_{(2)};v_f)\big)`.

    It tells whether each factor has one latent that knows it and no second one that does. It cannot tell whether that
    latent also knows other factors, and a factor with more values than bins cannot reach 1 (40 values, 20 bins: .81).

    Choices: the code as given (disentanglement_lib and here: the posterior's mean; Chen et al.: samples of q(z|x),
    without bins), 20 bins of equal width over each latent's range, the entropy that of the sample, 10,000 examples.
    Estimated informations are too large by about (bins - 1)(values - 1) / 2N nats each.

    Args:
        codes: (N, Z), Z >= 2. classes: (N, F) int64. grid: the factors. n_bins: >= 2.

    Returns:
        an `InformationGap`.

    Raises:
        ValueError: as `counted`, for n_bins < 2, or a factor that shows one value only.

    Source: Chen et al. 2018, section 4 (mutual information gap); binned as in Locatello et al. 2019.
    """
    sample = counted(codes, classes, grid, latents=2)
    bins = _binned(sample.codes, n_bins)
    information, pointwise = _mutual_information(sample, bins, n_bins)
    shares = [
        torch.bincount(column, minlength=size).double() / len(column)
        for column, size in zip(sample.classes.T, sample.sizes, strict=True)
    ]
    entropy = torch.stack([-torch.special.xlogy(p, p).sum() for p in shares])
    if (entropy <= 0).any():
        name = sample.names[int(entropy.argmin())]
        raise ValueError(f"all {len(sample.codes)} examples have the same {name}; draw more")
    (first, second), order = information.topk(2, dim=0)
    gaps = (first - second) / entropy
    surprise = torch.stack([-p.log()[column] for p, column in zip(shares, sample.classes.T, strict=True)], dim=1)
    factors = torch.arange(len(sample.names))
    difference = pointwise[:, order[0], factors] - pointwise[:, order[1], factors]
    influence = (difference - gaps * surprise) / entropy  # of each example on each gap, up to a constant
    return InformationGap(
        gaps.mean().item(), mean_error(influence.mean(1)), gaps, information, entropy, order[0], sample.names
    )


def modularity(codes: Tensor, classes: Tensor, grid: FactorGrid, *, n_bins: int = N_BINS) -> Modularity:
    r"""Modularity, :math:`\frac1Z\sum_j 1 - \frac{\sum_{f\ne f^*_j} I(z_j;v_f)^2}{(F-1)\,I(z_j;v_{f^*_j})^2}`.

    It tells whether a latent that knows a factor knows that one only. It cannot tell how much it knows: a latent of
    pure noise counts with a value of its own that means nothing, and a factor that no latent knows costs nothing.

    Choices: binned as `mig`; every latent counts alike; a latent without any information (constant) counts as 0, as in
    disentanglement_lib.

    Args:
        codes: (N, Z). classes: (N, F) int64. grid: the factors. n_bins: >= 2.

    Returns:
        a `Modularity`.

    Raises:
        ValueError: as `counted`, for n_bins < 2, or fewer than two varying factors.

    Source: Ridgeway & Mozer 2018 (modularity: the deviation from an ideal template).
    """
    sample = counted(codes, classes, grid, factors=2)
    information, _ = _mutual_information(sample, _binned(sample.codes, n_bins), n_bins)
    squares = information**2
    largest = squares.amax(1)
    others = (squares.sum(1) - largest) / (len(sample.names) - 1)
    per_latent = torch.where(largest > 0, 1 - others / largest.where(largest > 0, 1.0), 0.0)
    return Modularity(per_latent.mean().item(), per_latent, information, sample.names)


def _binned(codes: Tensor, n_bins: int) -> Tensor:
    """The bin of each value, (N, Z) int64; a latent that never moves is all in bin 0."""
    at_least("n_bins", n_bins, 2)
    low, high = codes.amin(0), codes.amax(0)
    width = torch.where(high > low, high - low, 1.0)
    return ((codes - low) / width * n_bins).long().clamp_max(n_bins - 1)


def _mutual_information(sample: Counted, bins: Tensor, n_bins: int) -> tuple[Tensor, Tensor]:
    """I(z_j; v_f) of the binned sample, (Z, F) nats, and its summands log p(b, c) / p(b) p(c), (N, Z, F)."""
    n, z_dim = bins.shape
    latents = torch.arange(z_dim)
    pointwise = []
    for column, size in zip(sample.classes.T, sample.sizes, strict=True):
        cells = (latents * n_bins + bins) * size + column[:, None]
        joint = torch.bincount(cells.flatten(), minlength=z_dim * n_bins * size).view(z_dim, n_bins, size).double() / n
        log_ratio = joint.log() - joint.sum(2, keepdim=True).log() - joint.sum(1, keepdim=True).log()
        pointwise.append(log_ratio.flatten()[cells])
    summands = torch.stack(pointwise, dim=2)
    information = summands.mean(0)
    # rounding leaves a few 1e-16 nats where there is nothing
    return information.where(information > 1e-12 * math.log(n_bins), 0.0), summands
