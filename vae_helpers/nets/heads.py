"""Encoders whose posterior variance is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FixedVariance(nn.Module):
    """An encoder of means with given variances: x -> (net(x), q_logvar).

    Args:
        net: maps (B, D) to the means, (B, Z). sd: standard deviations of q(z | x), (Z,), > 0; saved with the weights.

    Raises:
        ValueError: for standard deviations that are no vector of positive numbers.
    """

    q_logvar: Tensor

    def __init__(self, net: nn.Module, sd: Tensor) -> None:
        super().__init__()
        if sd.ndim != 1 or not bool((sd > 0).all()):
            raise ValueError(f"sd must be (Z,) positive numbers, got {sd.tolist()}")
        self.net = net
        self.register_buffer("q_logvar", 2 * sd.float().log())

    def forward(self, x: Tensor) -> Tensor:
        """x (B, D) -> q_mu, then q_logvar, (B, 2Z)."""
        q_mu = self.net(x)
        return torch.cat([q_mu, self.q_logvar.to(q_mu).expand_as(q_mu)], dim=-1)
