"""Metrics by majority vote: which latent stands still, or moves, with which factor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_helpers.data.factors import FactorImages
from vae_helpers.evaluation.disentanglement.codes import (
    ENCODE_BATCH,
    Encoder,
    Score,
    at_least,
    encode_classes,
    varying_factors,
)

MIN_SD = 0.05  # of a latent over the data set that may vote, as in disentanglement_lib's studies


@dataclass(frozen=True)
class VoteScore(Score):
    """Accuracy of a majority vote on votes that did not train it.

    Args:
        score: share of test votes whose latent is matched with their factor, 0 to 1.
        standard_error: binomial, from the number of test votes; the spread over training votes is not in it.
        votes: training votes by latent and factor, (Z, F) int64. test_votes: likewise. names: of the F factors counted.
        match: the factor of each latent, an index into ``names``, (Z,) int64; -1 for a latent without a training vote.
        sd: of each latent over the data set, (Z,). kept: the latents that may vote, (Z,) bool.
        note: what a reader should know beside the score; empty if nothing.
    """

    votes: Tensor
    test_votes: Tensor
    names: tuple[str, ...]
    match: Tensor
    sd: Tensor
    kept: Tensor
    note: str = ""


def factor_vae(
    encoder: Encoder,
    images: FactorImages,
    *,
    seed: int,
    n_train: int = 10_000,
    n_test: int = 5_000,
    batch_size: int = 64,
    n_variance: int = 10_000,
    min_sd: float = MIN_SD,
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> VoteScore:
    r"""FactorVAE score: fix one factor, vote for :math:`\arg\min_j \mathrm{var}_{batch}(z_j)/\mathrm{var}_{data}(z_j)`.

    It tells whether a fixed factor makes a latent of its own stand still. It cannot tell a factor in one latent from a
    factor copied into several, nor axes from axes turned by less than 45 degrees: one latent still moves least.

    Choices: the variance of the data set comes from ``n_variance`` images of its own, never from the batch; variances
    are unbiased (divide by n - 1); the factor of each vote is drawn uniformly; ties go to the first latent or factor.
    disentanglement_lib drops latents below a standard deviation of 0.0 by default and 0.05 in its studies: here 0.05,
    and a constant latent never votes. Votes without information score about 1 / F.

    Args:
        encoder: pixels (B, D) -> code (B, Z). images: the data set. seed: of all draws.
        n_train, n_test: votes, >= 1. batch_size: images a vote, L >= 2. n_variance: images for the variances, >= 2.
        min_sd: latents with a smaller standard deviation over the data set do not vote.
        device: where images are made and encoded. encode_batch: images at once.

    Returns:
        a `VoteScore`; the score is 0, with a note, if no latent may vote.

    Raises:
        ValueError: for counts below their minimum, fewer than two varying factors, and as `encode_classes`.

    Source: Kim & Mnih 2018, section 4 and figure 2; sizes of Locatello et al. 2019.
    """
    return _vote(
        encoder, images, fixed=True, seed=seed, n_train=n_train, n_test=n_test, batch_size=batch_size,
        n_variance=n_variance, min_sd=min_sd, device=device, encode_batch=encode_batch,
    )  # fmt: skip


def one_factor_varied(
    encoder: Encoder,
    images: FactorImages,
    *,
    seed: int,
    n_train: int = 10_000,
    n_test: int = 5_000,
    batch_size: int = 64,
    n_variance: int = 10_000,
    min_sd: float = MIN_SD,
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> VoteScore:
    r"""Fix all factors but one, vote for :math:`\arg\max_j \mathrm{var}_{batch}(z_j)/\mathrm{var}_{data}(z_j)`.

    It tells whether the latent that moves most names the factor that moved. It cannot tell whether others move with it,
    and a latent that mixes all factors takes votes from a code that is otherwise perfect, since it moves with each.

    Choices, arguments, returns and errors: as `factor_vae`, of which it is the twin with the roles exchanged.

    Source: the second metric of minyoungkim21's dSprites study; Kim & Mnih 2018, section 4, for everything else.
    """
    return _vote(
        encoder, images, fixed=False, seed=seed, n_train=n_train, n_test=n_test, batch_size=batch_size,
        n_variance=n_variance, min_sd=min_sd, device=device, encode_batch=encode_batch,
    )  # fmt: skip


def own_factor(factor: Tensor, n_factors: int) -> Tensor:
    """Where a batch's own factor is, of ``factor`` (n,) int64: (n, 1, F) bool, to be used on classes (n, L, F)."""
    return F.one_hot(factor, n_factors).bool()[:, None]


def _vote(
    encoder: Encoder,
    images: FactorImages,
    *,
    fixed: bool,
    seed: int,
    n_train: int,
    n_test: int,
    batch_size: int,
    n_variance: int,
    min_sd: float,
    device: torch.device | str,
    encode_batch: int,
) -> VoteScore:
    """``fixed``: a batch fixes its own factor and the stillest latent votes; else it varies it, and the most moved."""
    for name, value, minimum in (
        ("n_train", n_train, 1), ("n_test", n_test, 1), ("batch_size", batch_size, 2), ("n_variance", n_variance, 2),
    ):  # fmt: skip
        at_least(name, value, minimum)
    grid = images.grid
    varying = torch.tensor(varying_factors(grid, at_least=2))
    names = tuple(grid.names[j] for j in varying.tolist())
    generator = torch.Generator().manual_seed(seed)

    def codes_of(classes: Tensor) -> Tensor:
        return encode_classes(encoder, images, classes, device=device, encode_batch=encode_batch).double()

    variance = codes_of(grid.sample(n_variance, generator=generator)).var(0)
    sd, z_dim = variance.sqrt(), len(variance)
    kept = (sd >= min_sd) & (variance > 0)

    def votes(n: int) -> Tensor:
        factor = torch.randint(len(varying), (n,), generator=generator)
        drawn = grid.sample(n * batch_size, generator=generator).view(n, batch_size, -1)
        own = own_factor(varying[factor], drawn.shape[2])
        classes = torch.where(own == fixed, drawn[:, :1], drawn)
        spread = codes_of(classes.flatten(0, 1)).view(n, batch_size, z_dim)[..., kept].var(1) / variance[kept]
        latent = kept.nonzero()[:, 0][spread.argmin(1) if fixed else spread.argmax(1)]
        return torch.bincount(latent * len(varying) + factor, minlength=z_dim * len(varying)).view(z_dim, -1)

    if not kept.any():
        nothing = torch.zeros(z_dim, len(varying), dtype=torch.int64)
        note = f"no latent has a standard deviation of at least {min_sd:g} (largest: {sd.max():.2g}): nothing can vote"
        return VoteScore(0.0, 0.0, nothing, nothing, names, torch.full((z_dim,), -1), sd, kept, note)
    train, test = votes(n_train), votes(n_test)
    majority = train.argmax(1)
    score = test[torch.arange(z_dim), majority].sum().item() / n_test
    match = torch.where(train.sum(1) > 0, majority, -1)
    return VoteScore(score, math.sqrt(score * (1 - score) / n_test), train, test, names, match, sd, kept)
