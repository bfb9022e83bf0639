"""What every observation model offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Likelihood(nn.Module, ABC):
    """Base class; ``n_params`` is the number of decoder outputs per data dimension."""

    n_params = 1

    @abstractmethod
    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log p(x | z) from decoder output ``out`` (..., n_params*D); x (..., D) -> (...), nats, not reduced."""

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """log P(8-bit level of x | z), the density integrated over the level's bin: see `likelihoods.levels`.

        Args:
            x: grey levels k / 255, (..., D). out: as `log_prob`.

        Returns:
            (...), nats, <= 0, not reduced.

        Raises:
            ValueError: for an observation model that is no density of grey levels.
        """
        raise ValueError(f"{type(self).__name__} gives grey levels no probability; its value is not comparable")

    @property
    def has_log_mass(self) -> bool:
        """True if `log_mass` gives 8-bit levels a probability."""
        return type(self).log_mass is not Likelihood.log_mass

    @abstractmethod
    def mean(self, out: Tensor) -> Tensor:
        """E[x | z], (..., D)."""

    @abstractmethod
    def sample(self, out: Tensor) -> Tensor:
        """One draw of x given z, (..., D)."""
