"""Mixtures of Gaussians: free components, or those that the encoder gives to pseudo-inputs."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from vae_helpers.distributions import LOG_2PI, check_unit_interval
from vae_helpers.priors.base import Prior

SUM_TOLERANCE = 1e-4  # of weights that should sum to one


class Mixture(Prior):
    r"""A mixture of K diagonal Gaussians, :math:`p(z) = \sum_k \pi_k N(z; \mu_k, \mathrm{diag}\,e^{lv_k})`.

    What the mixtures below share; they differ in where `components` come from.

    Args:
        n_components: K, >= 1. z_dim: Z, >= 1.
        weights: (K,), positive, summing to one; None for 1/K each. learn_weights: train them.

    Raises:
        ValueError: for a count below 1, or weights that are not K positive numbers with sum one.
    """

    weight_logits: Tensor

    def __init__(
        self, n_components: int, z_dim: int, *, weights: Tensor | None = None, learn_weights: bool = False
    ) -> None:
        super().__init__(z_dim)
        if n_components < 1:
            raise ValueError(f"a mixture needs at least one component, got n_components={n_components}")
        self.n_components = n_components
        log_weights = torch.full((n_components,), -math.log(n_components))
        if weights is not None:
            _check_weights(weights, n_components)
            log_weights = (weights / weights.sum()).log().detach()
        if learn_weights:
            self.weight_logits = nn.Parameter(log_weights.clone())
        else:
            self.register_buffer("weight_logits", log_weights.clone())

    @abstractmethod
    def components(self) -> tuple[Tensor, Tensor]:
        """p_mu (K, Z) and p_logvar (K, Z), the log *variance*."""

    @property
    def log_component_probs(self) -> Tensor:
        """log pi, (K,); exp of it sums to one."""
        return self.weight_logits.log_softmax(-1)

    def log_joint(self, z: Tensor) -> Tensor:
        r"""log pi_k + log N(z; mu_k, exp(lv_k)) of every component; z (..., Z) -> (..., K), nats.

        The squares are expanded, :math:`z^2 - 2 z \mu + \mu^2`, so that the work is two matrix products and no
        (..., K, Z) tensor exists; in float64 (where the device has it), because narrow components cancel.
        """
        if z.shape[-1] != self.z_dim:
            raise ValueError(f"this prior has {self.z_dim} latents, got z of shape {tuple(z.shape)}")
        exact = z.dtype if z.device.type == "mps" else torch.float64
        p_mu, p_logvar = (value.to(exact) for value in self.components())
        with torch.autocast(z.device.type, enabled=False):
            wide = z.to(exact)
            precision = torch.exp(-p_logvar)
            constant = (p_logvar + p_mu**2 * precision).sum(-1) + self.z_dim * LOG_2PI
            squares = wide**2 @ precision.T - 2 * wide @ (p_mu * precision).T + constant
            return (self.log_component_probs - 0.5 * squares).to(z.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        r"""log p(z), :math:`\mathrm{logsumexp}_k [\log\pi_k + \sum_d \log N_{kd}(z_d)]`; z (..., Z) -> (...), nats."""
        return torch.logsumexp(self.log_joint(z), dim=-1)

    def component_probs(self, z: Tensor) -> Tensor:
        """p(k | z), the responsibilities; z (..., Z) -> (..., K), summing to one."""
        return self.log_joint(z).softmax(-1)

    def sample(self, n: int, *, device: torch.device | str = "cpu") -> Tensor:
        """``n`` draws, (n, Z)."""
        k = torch.multinomial(self.log_component_probs.exp(), n, replacement=True)
        return self.sample_component(k).to(device)

    def sample_component(self, k: Tensor) -> Tensor:
        """One draw of each of the components k (n,) int64 -> (n, Z)."""
        p_mu, p_logvar = self.components()
        return p_mu[k] + torch.exp(0.5 * p_logvar[k]) * torch.randn_like(p_mu[k])


class MixturePrior(Mixture):
    """A mixture whose means and variances are given, and trained or held fixed.

    Args:
        p_mu: (K, Z). p_logvar: (K, Z), log variance. trainable: train both.
        weights, learn_weights: as `Mixture`.

    Raises:
        ValueError: as `Mixture`, or if the two shapes differ.
    """

    def __init__(
        self,
        p_mu: Tensor,
        p_logvar: Tensor,
        *,
        trainable: bool = True,
        weights: Tensor | None = None,
        learn_weights: bool = False,
    ) -> None:
        if p_mu.ndim != 2 or p_mu.shape != p_logvar.shape:
            raise ValueError(f"p_mu and p_logvar must both be (K, Z), got {tuple(p_mu.shape)}, {tuple(p_logvar.shape)}")
        super().__init__(*p_mu.shape, weights=weights, learn_weights=learn_weights)
        self.p_mu = nn.Parameter(p_mu.clone(), requires_grad=trainable)
        self.p_logvar = nn.Parameter(p_logvar.clone(), requires_grad=trainable)

    @classmethod
    def random(cls, n_components: int, z_dim: int, *, learn_weights: bool = False) -> MixturePrior:
        r"""K components near the origin: means :math:`\varepsilon/\sqrt{KZ}`, variances softplus of another such draw.

        Raises:
            ValueError: for a count below 1.
        """
        if n_components < 1 or z_dim < 1:
            raise ValueError(f"n_components and z_dim must be at least 1, got {n_components} and {z_dim}")
        p_mu, raw = torch.randn(2, n_components, z_dim) / math.sqrt(n_components * z_dim)
        return cls(p_mu, nn.functional.softplus(raw).log(), learn_weights=learn_weights)

    def components(self) -> tuple[Tensor, Tensor]:
        """p_mu (K, Z) and p_logvar (K, Z), the log *variance*."""
        return self.p_mu, self.p_logvar


class VampPrior(Mixture):
    r"""The mixture of the posteriors of K learned pseudo-inputs, :math:`\sum_k \pi_k\, q(z \mid u_k)`.

    Args:
        encoder: maps (K, D) to (K, 2Z), and is the model's own: its weights are stored once, with the model.
        pseudo_inputs: u, (K, D) in [0, 1], to start from (training images, say); trained, and cut to [0, 1].
        z_dim: Z. weights, learn_weights: as `Mixture`.

    Raises:
        ValueError: as `Mixture`, or for pseudo-inputs that are no (K, D) in [0, 1].

    Source: Tomczak & Welling 2018, equation 9.
    """

    def __init__(
        self,
        encoder: nn.Module,
        pseudo_inputs: Tensor,
        z_dim: int,
        *,
        weights: Tensor | None = None,
        learn_weights: bool = False,
    ) -> None:
        if pseudo_inputs.ndim != 2:
            raise ValueError(f"pseudo-inputs must be flat images (K, D), got shape {tuple(pseudo_inputs.shape)}")
        check_unit_interval(pseudo_inputs, "pseudo_inputs")
        super().__init__(len(pseudo_inputs), z_dim, weights=weights, learn_weights=learn_weights)
        self._shared = (encoder,)  # a tuple, so that torch does not count the encoder's weights as the prior's
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())

    def components(self) -> tuple[Tensor, Tensor]:
        """p_mu (K, Z) and p_logvar (K, Z), the log *variance*: the encoder's answer to the pseudo-inputs."""
        u = self.pseudo_inputs.clamp(0, 1)
        p_mu, p_logvar = self._shared[0](u).to(u.dtype).chunk(2, dim=-1)
        return p_mu, p_logvar


def _check_weights(weights: Tensor, n_components: int) -> None:
    if tuple(weights.shape) != (n_components,) or not bool((weights > 0).all()):
        raise ValueError(f"weights must be {n_components} positive numbers, got {weights.tolist()}")
    total = weights.sum().item()
    if not abs(total - 1) <= SUM_TOLERANCE:
        raise ValueError(f"weights must sum to one, these sum to {total:.6g}; divide them by their sum")
