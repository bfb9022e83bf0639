"""Which latents to keep: the Non-Synergistic VAE's choice, and choices to compare it with; see the package."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Choice(Protocol):
    """From the batch means of the KLs, one a latent, to the latents to keep."""

    def __call__(self, kl: Tensor, *, omega: float) -> Tensor:
        """kl (Z,), nats -> (Z,) bool, True for the subset S; the complement W is what a penalty falls on."""


def greedy_subset(kl: Tensor, *, omega: float) -> Tensor:
    r"""The latents that a greedy scan keeps: the largest KL, then in index order each that adds enough.

    S begins with the latent of the largest KL. The others follow by index; i joins when
    :math:`\omega\,(\mathrm{KL}(S) + \mathrm{KL}_i) > \mathrm{KL}(S)`, so when it adds more than a share
    :math:`1/\omega - 1` of what S has (11 % at 0.9, 25 % at 0.8). S grows, and so does the share's size: the result
    depends on the order of the latents. With omega = 1 each latent joins whose KL is above 0
    (and not lost in rounding the sum).

    Args:
        kl: batch mean of KL[q(z_j|x) || p(z_j)], (Z,), nats. omega: 0 < omega <= 1.

    Returns:
        (Z,) bool, True in S. No gradient, no host synchronisation.

    Raises:
        ValueError: for an omega out of range, or a kl that is not (Z,).

    Source: Barrientos & Sootla 2019, the greedy policy of the Non-Synergistic VAE.
    """
    _check(kl, omega)
    return _scan(kl.detach(), omega)


def descending_subset(kl: Tensor, *, omega: float) -> Tensor:
    """`greedy_subset` with the latents scanned from the largest KL down, so that their order does not matter.

    Args:
        kl: (Z,), nats. omega: 0 < omega <= 1.

    Returns:
        (Z,) bool, True in S.

    Raises:
        ValueError: as `greedy_subset`.
    """
    _check(kl, omega)
    values, order = kl.detach().sort(descending=True)
    return _scan(values, omega)[order.argsort()]


def random_subset(kl: Tensor, *, omega: float) -> Tensor:
    """As many latents as `greedy_subset` keeps, drawn at random: what the choice itself is worth.

    Args:
        kl: (Z,), nats. omega: 0 < omega <= 1.

    Returns:
        (Z,) bool, True in S.

    Raises:
        ValueError: as `greedy_subset`.
    """
    n_kept = greedy_subset(kl, omega=omega).sum()
    return torch.rand(len(kl), device=kl.device).argsort().argsort() < n_kept


CHOICES: dict[str, Choice] = {"greedy": greedy_subset, "descending": descending_subset, "random": random_subset}


def _scan(kl: Tensor, omega: float) -> Tensor:
    """The largest, and in one pass by index each that adds enough, on the device."""
    first = torch.arange(len(kl), device=kl.device) == kl.argmax()
    total, joined = kl.max(), []
    for value in kl.masked_fill(first, 0.0).unbind():  # at 0 the first one cannot join again
        joined.append(omega * (total + value) > total)
        total = total + value * joined[-1]
    return first | torch.stack(joined)


def _check(kl: Tensor, omega: float) -> None:
    if not 0 < omega <= 1:
        raise ValueError(f"omega must be above 0 and at most 1, got {omega}")
    if kl.ndim != 1 or len(kl) == 0:
        raise ValueError(f"kl must be (Z,), one mean KL a latent, got shape {tuple(kl.shape)}")
