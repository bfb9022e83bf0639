"""Data whose exact log-density is known: a mixture of Gaussians, and a linear-Gaussian model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily, MultivariateNormal


class GaussianMixture:
    """A mixture of full-covariance Gaussians with equal weights and its exact log p(x).

    Args:
        means: K means of length D. covariances: K matrices (D, D), symmetric positive definite.

    Raises:
        ValueError: from torch.distributions, for a covariance that is not positive definite.
    """

    def __init__(self, means: Sequence[Sequence[float]], covariances: Sequence[Sequence[Sequence[float]]]) -> None:
        components = MultivariateNormal(torch.tensor(means), torch.tensor(covariances))
        self.n_components = len(means)
        self.components = components
        self.mixture = MixtureSameFamily(Categorical(torch.ones(self.n_components)), components)

    @classmethod
    def two_clusters(cls) -> GaussianMixture:
        """The collection's 2-D toy: means (-4, 0) and (2, 0), covariances of opposite tilt."""
        return cls([[-4.0, 0.0], [2.0, 0.0]], [[[0.5, 0.5], [0.5, 0.8]], [[1.0, -0.8], [-0.8, 1.0]]])

    def sample(self, n_per_component: int, *, seed: int) -> tuple[Tensor, Tensor]:
        """The same number of points from each component.

        Returns:
            x (K*n, D) float32 and the component y (K*n,) int64, ordered by component.
        """
        generator = torch.Generator().manual_seed(seed)
        scale = self.components.scale_tril
        noise = torch.randn(self.n_components, n_per_component, scale.shape[-1], generator=generator)
        x = self.components.mean[:, None] + noise @ scale.mT
        y = torch.arange(self.n_components).repeat_interleave(n_per_component)
        return x.flatten(0, 1), y

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x); x (..., D) -> (...), nats, not reduced."""
        return self.mixture.log_prob(x)


class LinearGaussian:
    r"""Probabilistic PCA: z ~ N(0, I), x | z ~ N(W z + b, x_var I), so p(x) = N(b, W W^T + x_var I) exactly.

    Args:
        weight: W, (D, Z). bias: b, (D,). x_var: > 0.

    Source: Tipping & Bishop 1999, equation 4.
    """

    def __init__(self, weight: Tensor, bias: Tensor, x_var: float) -> None:
        self.weight, self.bias, self.x_var = weight, bias, x_var
        self.marginal = LowRankMultivariateNormal(bias, weight, torch.full_like(bias, x_var))

    @classmethod
    def random(cls, x_dim: int, z_dim: int, *, x_var: float, seed: int) -> LinearGaussian:
        """One with standard normal W and b."""
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(x_dim, z_dim, generator=generator)
        return cls(weight, torch.randn(x_dim, generator=generator), x_var)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """``n`` draws, (n, D) float32."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.weight.shape[1], generator=generator)
        noise = torch.randn(n, len(self.bias), generator=generator)
        return z @ self.weight.mT + self.bias + self.x_var**0.5 * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x); x (..., D) -> (...), nats, not reduced."""
        return self.marginal.log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Exact p(z | x) = N(mean, cov), with :math:`M = W^T W + x_{var} I`, mean :math:`M^{-1} W^T (x-b)`.

        Returns:
            mean (..., Z) and the covariance :math:`x_{var} M^{-1}` (Z, Z), the same for every x.

        Source: Tipping & Bishop 1999, equation 7.
        """
        m = self.weight.mT @ self.weight + self.x_var * torch.eye(self.weight.shape[1]).to(self.weight)
        return torch.linalg.solve(m, self.weight.mT @ (x - self.bias).mT).mT, self.x_var * torch.linalg.inv(m)


@dataclass(frozen=True)
class Points:
    """Points with a known density, (N, D) float32 each.

    Args:
        source: where they come from, in words; the fingerprint is its sha256, since a formula makes them.
    """

    source: str
    x_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """sha256 of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()
