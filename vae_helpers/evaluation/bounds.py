"""Bounds on a data set, and log p(x) itself by importance sampling or quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_helpers.models import VAE, ConditionalVAE, GivenLabel
from vae_helpers.objectives import Terms, log_weights


@dataclass(frozen=True)
class Estimate:
    """A mean over examples with its standard error.

    Args:
        mean: nats per example. standard_error: sd / sqrt(n), from the spread over examples. n: examples.
    """

    mean: float
    standard_error: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """From one value per example, (N,)."""
        n = len(values)
        spread = values.double().std(unbiased=True).item() if n > 1 else math.nan
        return cls(values.double().mean().item(), spread / math.sqrt(n), n)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.standard_error:.2f}"


@torch.inference_mode()
def evaluate_terms(
    model: Any, x: Tensor | tuple[Tensor, ...], objective: Callable[[Any, Any], Terms], *, batch_size: int = 1000
) -> dict[str, Estimate]:
    """Every term of an objective, averaged over a data set; the result does not depend on ``batch_size``.

    Args:
        model: in evaluation mode. x: (N, D) float, already binarised or grey; or several tensors with the same
            first axis, such as (x, y). objective: as for `training.fit`, given x or the tuple. batch_size: at once.

    Returns:
        an `Estimate` per term, nats.

    Raises:
        ValueError: if the model is in training mode, x is empty, or several tensors differ in length.
    """
    together = (x,) if isinstance(x, Tensor) else tuple(x)
    _check(model, together[0])
    if len({len(tensor) for tensor in together}) > 1:
        raise ValueError(f"all tensors need the same number of examples, got {[len(tensor) for tensor in together]}")
    chunks = zip(*(tensor.split(batch_size) for tensor in together), strict=True)
    parts = [objective(model, chunk[0] if isinstance(x, Tensor) else chunk) for chunk in chunks]
    return {name: Estimate.of(torch.cat([part[name] for part in parts])) for name in parts[0]}


def term_means(
    model: Any, x: Tensor | tuple[Tensor, ...], objective: Callable[[Any, Any], Terms], *, split: str = "test"
) -> dict[str, float]:
    """The means of `evaluate_terms` as metrics, ``SPLIT_TERM``; without the loss, whose weights are those of training.

    Args:
        model, x, objective: as there. split: what x is called.
    """
    terms = evaluate_terms(model, x, objective)
    return {f"{split}_{name}": value.mean for name, value in terms.items() if name != "loss"}


@dataclass(frozen=True)
class ImportanceEstimate:
    r"""Importance-sampled log p(x) of each example.

    Args:
        log_px: :math:`\log\frac1S\sum_s w_s`, (N,), nats: the IWAE bound with S samples, a lower bound in expectation.
        ess: effective sample size :math:`(\sum w)^2 / \sum w^2`, (N,), from 1 to S.
        iwae_bounds: by m, the IWAE bound with m samples, (N,), from disjoint groups of the same weights.
        n_samples: S.
    """

    log_px: Tensor
    ess: Tensor
    iwae_bounds: dict[int, Tensor]
    n_samples: int

    @property
    def mean(self) -> Estimate:
        """The mean log p(x) with its standard error over examples."""
        return Estimate.of(self.log_px)

    @property
    def monte_carlo_error(self) -> float:
        r"""Standard error of the mean that comes from S being finite, nats.

        Delta method: each example adds :math:`1/\mathrm{ess} - 1/S`.
        """
        variances = (1 / self.ess.double() - 1 / self.n_samples).clamp_min(0)
        return variances.sum().sqrt().item() / len(self.ess)

    @property
    def median_ess(self) -> float:
        """Median effective sample size."""
        return self.ess.median().item()


@torch.inference_mode()
def importance_log_px(
    model: VAE | GivenLabel, x: Tensor, *, n_samples: int, bounds: Sequence[int] = (), memory_mb: float = 8.0
) -> ImportanceEstimate:
    r"""log p(x) by importance sampling from q(z|x), batched over examples and samples.

    .. math:: \log p(x) \approx \log \frac1S \sum_s \frac{p(x|z_s)\,p(z_s)}{q(z_s|x)}

    Args:
        model: a `VAE` (or a `GivenLabel`) in evaluation mode. x: (N, D) float.
        n_samples: S. bounds: also report the IWAE bound with m samples for these m, each dividing S.
        memory_mb: size of the largest decoder output (or density of a mixture's components) held at once, MB; a few
            such tensors live at a time. On a CPU 8 MB fits the caches and is twice as fast as 64 MB.

    Returns:
        an `ImportanceEstimate`.

    Raises:
        ValueError: for S < 1, an m that does not divide S, a bound too small for one example and one
            sample, a model in training mode or an empty x.

    Source: Burda et al. 2016, section 5; effective sample size: Kong 1992.
    """
    _check(model, x)
    for m in bounds:
        if m < 1 or n_samples % m:
            raise ValueError(
                f"each bound needs 1 <= m <= n_samples with m dividing it; got m={m}, n_samples={n_samples}"
            )
    n_outputs, n_components = x.shape[1] * model.likelihood.n_params, model.prior.n_components
    at_once = int(memory_mb * 2**20 / max(x.element_size() * n_outputs, 8 * n_components))  # a mixture is in float64
    if at_once < 1:
        raise ValueError(
            f"memory_mb={memory_mb:g} does not hold one sample: a decoder output of {n_outputs} values, or "
            f"{n_components} components of the prior; raise it"
        )
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    samples_at_once = min(n_samples, at_once)
    counts = [samples_at_once] * (n_samples // samples_at_once)
    if n_samples % samples_at_once:
        counts.append(n_samples % samples_at_once)
    # The results have their place beforehand: small tensors kept from every piece would sit in the holes
    # that the large ones leave in the heap, and the memory would grow by one piece after another.
    log_px, ess, *found = (torch.empty(len(x), dtype=torch.float64, device=x.device) for _ in range(2 + len(bounds)))
    at = 0
    for chunk in x.split(max(1, at_once // samples_at_once)):
        here = slice(at, at := at + len(chunk))
        log_w = torch.cat([log_weights(model, chunk, n_samples=count) for count in counts]).double()
        log_px[here] = torch.logsumexp(log_w, 0) - math.log(n_samples)
        ess[here] = torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))
        for m, values in zip(bounds, found, strict=True):
            groups = log_w.reshape(n_samples // m, m, -1)
            values[here] = (torch.logsumexp(groups, 1) - math.log(m)).mean(0)
    return ImportanceEstimate(log_px, ess, dict(zip(bounds, found, strict=True)), n_samples)


def importance_metrics(model: VAE, x: Tensor, n_samples: int) -> dict[str, float]:
    """Importance-sampled log p(x) and the IWAE bounds below it, as named metrics."""
    bounds = [m for m in (1, 10, 100, 1000) if n_samples % m == 0 and m < n_samples]
    result = importance_log_px(model, x, n_samples=n_samples, bounds=bounds)
    name = "test_importance_log_px"
    return {
        **{f"test_iwae_{m}": values.mean().item() for m, values in result.iwae_bounds.items()},
        name: result.mean.mean,
        f"{name}_standard_error": result.mean.standard_error,
        f"{name}_monte_carlo_error": result.monte_carlo_error,
        f"{name}_median_ess": result.median_ess,
        f"{name}_n_samples": n_samples,
        f"{name}_n_images": len(x),
    }


def conditional_importance_log_px(
    model: ConditionalVAE, x: Tensor, y: Tensor, *, n_samples: int, memory_mb: float = 8.0
) -> ImportanceEstimate:
    """log p(x | y) by importance sampling from q(z | x, y): `importance_log_px` label by label.

    Args:
        model: in evaluation mode. x: (N, D) float. y: their labels, (N,) int64. n_samples, memory_mb: as there.

    Returns:
        an `ImportanceEstimate`, in the order of x.

    Raises:
        ValueError: as `importance_log_px`, or for labels that are not one an example.
    """
    _check(model, x)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must hold one label an example, ({len(x)},); got shape {tuple(y.shape)}")
    log_px, ess = torch.empty(2, len(x), dtype=torch.float64, device=x.device)
    for label in y.unique():
        members = y == label
        given = model.given(model.one_hot(label[None])[0])
        found = importance_log_px(given, x[members], n_samples=n_samples, memory_mb=memory_mb)
        log_px[members], ess[members] = found.log_px, found.ess
    return ImportanceEstimate(log_px, ess, {}, n_samples)


@torch.inference_mode()
def quadrature_log_px(model: VAE, x: Tensor, *, limit: float = 8.0, n_points: int = 2001) -> Tensor:
    r"""Exact log p(x) of a model with one latent, :math:`\log\int p(x|z)\,p(z)\,dz`, by the trapezoid rule.

    Args:
        model: a `VAE` with z_dim = 1, in evaluation mode. x: (N, D) float.
        limit: the integral runs over [-limit, limit]; beyond 8 the prior holds 1e-15. n_points: grid points.

    Returns:
        (N,), nats, not reduced.

    Raises:
        ValueError: for a model with more than one latent or in training mode, or an empty x.
    """
    _check(model, x)
    if model.z_dim != 1:
        raise ValueError(f"quadrature needs one latent, this model has {model.z_dim}; use importance_log_px")
    z = torch.linspace(-limit, limit, n_points, dtype=x.dtype, device=x.device)[:, None]
    log_pz, out = model.prior.log_prob(z), model.decode(z)
    step = math.log(2 * limit / (n_points - 1))
    parts = []
    for chunk in x.split(500):
        log_px = model.likelihood.log_prob(
            chunk.expand(n_points, *chunk.shape), out[:, None].expand(-1, len(chunk), -1)
        )
        parts.append(torch.logsumexp(log_px + log_pz[:, None], 0) + step)
    return torch.cat(parts)


def _check(model: Any, x: Tensor) -> None:
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() before measuring it")
    if len(x) == 0:
        raise ValueError("x holds no examples")
