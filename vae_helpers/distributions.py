"""Log-densities and divergences: pure functions, one value per example, in nats.

Every function sums over the last axis (the event: D data or Z latent dimensions) and over no
other; nothing here averages. Parameters and values may differ only by *leading* axes (samples S,
batch B): the shorter shape must be a suffix of the longer one. ``(B, D)`` against ``(S, B, D)`` is
fine; ``(B, 28, 28)`` against ``(B, 1, 28, 28)``, which PyTorch would silently broadcast to
``(B, B, 28, 28)``, raises.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def check_suffix(**tensors: Tensor) -> None:
    """Raise unless each shape is a suffix of the longest one (so broadcasting only adds leading axes).

    Args:
        **tensors: the tensors to combine, by the name the error should use; any shapes.

    Raises:
        ValueError: showing every shape, when two of them would broadcast other than by leading axes.
    """
    longest = max((tensor.shape for tensor in tensors.values()), key=len)
    for tensor in tensors.values():
        shape = tensor.shape
        if len(shape) and shape != longest[len(longest) - len(shape) :]:
            shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
            raise ValueError(
                f"shapes do not match: {shapes}. Tensors may differ only by leading axes (samples, batch); "
                "anything else would broadcast silently. Reshape so that the trailing axes agree."
            )


def check_unit_interval(x: Tensor, name: str = "x") -> None:
    """Raise unless every value of ``x`` lies in [0, 1].

    Skipped while a CUDA graph is captured or code is compiled, where values cannot be read; the first
    steps of `training.fit` run eagerly on every device, so their batches are always checked.

    Args:
        x: any shape.
        name: what the error calls it.

    Raises:
        ValueError: showing the smallest and largest value found.
    """
    if torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing()) or x.numel() == 0:
        return
    low, high = (v.item() for v in x.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} must lie in [0, 1], found values from {low:g} to {high:g}. "
            "Divide uint8 pixels by 255 (data.Batches does), or use a Gaussian likelihood for other data."
        )


def log_normal(x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    r"""Diagonal Gaussian, :math:`\log N(x; \mu, \mathrm{diag}\,e^{\text{logvar}})`.

    .. math:: -\tfrac12 \sum_d \left[\log 2\pi + \text{logvar}_d + (x_d-\mu_d)^2 e^{-\text{logvar}_d}\right]

    Args:
        x: value, (..., D), real.
        mu: mean, (..., D).
        logvar: log *variance* (not log standard deviation), (..., D), (D,) or scalar.

    Returns:
        (...), nats, not reduced over the batch.

    Raises:
        ValueError: if the shapes agree other than by leading axes.

    Source: Kingma & Welling 2014, appendix C.2.
    """
    check_suffix(x=x, mu=mu, logvar=logvar)
    return -0.5 * (LOG_2PI + logvar + (x - mu) ** 2 * torch.exp(-logvar)).sum(-1)


def log_standard_normal(x: Tensor) -> Tensor:
    r"""Standard Gaussian, :math:`\log N(x; 0, I)`, summed over the last axis.

    Args:
        x: value, (..., D), real.

    Returns:
        (...), nats, not reduced over the batch.

    Source: Kingma & Welling 2014, section 3.
    """
    return -0.5 * (x**2 + LOG_2PI).sum(-1)


def log_bernoulli_with_logits(x: Tensor, x_logits: Tensor) -> Tensor:
    r"""Product of Bernoullis, :math:`\sum_d x_d \log \pi_d + (1-x_d)\log(1-\pi_d)`, :math:`\pi=\sigma(\text{logits})`.

    A log-probability only for binary x. For grey x in (0, 1) it is (minus) a cross-entropy with no
    normalising constant: see `log_continuous_bernoulli_with_logits`.

    Args:
        x: value, (..., D), in [0, 1].
        x_logits: log-odds, (..., D), real.

    Returns:
        (...), nats, not reduced over the batch.

    Raises:
        ValueError: if x leaves [0, 1] or the shapes do not match.

    Source: Kingma & Welling 2014, appendix C.1.
    """
    check_suffix(x=x, x_logits=x_logits)
    check_unit_interval(x)
    # x * l - softplus(l) is the same number as the two-log form, without an epsilon inside a log.
    return (x * x_logits - F.softplus(x_logits)).sum(-1)


def log_continuous_bernoulli_with_logits(x: Tensor, x_logits: Tensor) -> Tensor:
    r"""Continuous Bernoulli on [0, 1], the Bernoulli form plus its log normaliser.

    .. math:: \sum_d x_d \log\lambda_d + (1-x_d)\log(1-\lambda_d) + \log C(\lambda_d),\qquad
              C(\lambda) = \frac{2\tanh^{-1}(1-2\lambda)}{1-2\lambda} = \frac{l}{\tanh(l/2)}

    with l the log-odds; C tends to 2 at l = 0, where a Taylor series replaces the quotient.

    Args:
        x: grey value, (..., D), in [0, 1].
        x_logits: log-odds of lambda, (..., D), real.

    Returns:
        (...), nats (a log *density*: it may be positive), not reduced over the batch.

    Raises:
        ValueError: if x leaves [0, 1] or the shapes do not match.

    Source: Loaiza-Ganem & Cunningham 2019, equation 5.
    """
    near_zero = x_logits.abs() < 1e-2
    safe = torch.where(near_zero, torch.ones_like(x_logits), x_logits)
    log_c = torch.where(
        near_zero,
        math.log(2) + x_logits**2 / 12 - 7 * x_logits**4 / 1440,
        torch.log(safe.abs()) - torch.log(torch.tanh(safe.abs() / 2)),
    )
    return log_bernoulli_with_logits(x, x_logits) + log_c.sum(-1)


def kl_diag_gaussians(
    q_mu: Tensor, q_logvar: Tensor, p_mu: Tensor | None = None, p_logvar: Tensor | None = None
) -> Tensor:
    r"""Closed-form :math:`\mathrm{KL}[N(q_\mu, q_{\sigma^2}) \| N(p_\mu, p_{\sigma^2})]` of diagonal Gaussians.

    .. math:: \tfrac12 \sum_j \left[p_{lv}-q_{lv} + e^{q_{lv}-p_{lv}} + (q_\mu-p_\mu)^2 e^{-p_{lv}} - 1\right]

    Args:
        q_mu: (..., Z). q_logvar: (..., Z), log variance.
        p_mu: (..., Z) or None for 0. p_logvar: (..., Z) or None for 0 (unit variance).

    Returns:
        (...), nats, >= 0, not reduced over the batch.

    Raises:
        ValueError: if the shapes agree other than by leading axes.

    Source: Kingma & Welling 2014, appendix B (standard normal p).
    """
    return kl_diag_gaussians_per_dim(q_mu, q_logvar, p_mu, p_logvar).sum(-1)


def kl_diag_gaussians_per_dim(
    q_mu: Tensor, q_logvar: Tensor, p_mu: Tensor | None = None, p_logvar: Tensor | None = None
) -> Tensor:
    """The summands of `kl_diag_gaussians`, one per latent dimension.

    Args:
        q_mu: (..., Z). q_logvar: (..., Z), log variance.
        p_mu: (..., Z) or None for 0. p_logvar: (..., Z) or None for 0 (unit variance).

    Returns:
        (..., Z), nats per dimension, >= 0, not reduced.

    Raises:
        ValueError: if the shapes agree other than by leading axes.

    Source: Kingma & Welling 2014, appendix B.
    """
    if p_mu is None and p_logvar is None:
        check_suffix(q_mu=q_mu, q_logvar=q_logvar)
        return 0.5 * (q_mu**2 + q_logvar.exp() - 1 - q_logvar)
    p_mu = torch.zeros_like(q_mu) if p_mu is None else p_mu
    p_logvar = torch.zeros_like(q_mu) if p_logvar is None else p_logvar
    check_suffix(q_mu=q_mu, q_logvar=q_logvar, p_mu=p_mu, p_logvar=p_logvar)
    return 0.5 * (p_logvar - q_logvar + torch.exp(q_logvar - p_logvar) + (q_mu - p_mu) ** 2 * torch.exp(-p_logvar) - 1)


def log_aggregate_posterior(
    z: Tensor, q_mu: Tensor, q_logvar: Tensor, log_weights: Tensor | float
) -> tuple[Tensor, Tensor]:
    r"""Log of the mixture :math:`q(z) = \sum_n w_n q(z|x_n)`, of the whole code and of each latent by itself.

    Args:
        z: (S, Z). q_mu: (N, Z). q_logvar: (N, Z), log variance. log_weights: log w_n, (S, N) or one number for all,
            such as -log N.

    Returns:
        log q(z), (S,), and log q(z_j), (S, Z), nats. Memory grows as S N Z.

    Raises:
        ValueError: for parameters that are not (N, Z) alike, or codes of another width.

    Source: Hoffman & Johnson 2016 (the aggregate posterior); Chen et al. 2018, section 3.1.
    """
    if q_mu.ndim != 2 or q_mu.shape != q_logvar.shape or z.shape[1:] != q_mu.shape[1:]:
        raise ValueError(
            "z must be (S, Z), q_mu and q_logvar (N, Z), got "
            f"{tuple(z.shape)}, {tuple(q_mu.shape)}, {tuple(q_logvar.shape)}"
        )
    log_density = -0.5 * (LOG_2PI + q_logvar + (z[:, None] - q_mu) ** 2 * torch.exp(-q_logvar))
    weights = log_weights if isinstance(log_weights, Tensor) else z.new_full((len(z), len(q_mu)), log_weights)
    return (log_density.sum(2) + weights).logsumexp(1), (log_density + weights[:, :, None]).logsumexp(1)


def entropy_normal(logvar: Tensor) -> Tensor:
    r"""Entropy of a diagonal Gaussian, :math:`\tfrac12 \sum_d [\log 2\pi + 1 + \text{logvar}_d]`.

    Args:
        logvar: log variance, (..., D).

    Returns:
        (...), nats (a differential entropy: it may be negative), not reduced over the batch.

    Source: Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (LOG_2PI + 1 + logvar).sum(-1)


def sample_normal(mu: Tensor, logvar: Tensor, n_samples: int | None = None) -> Tensor:
    r"""Reparameterised sample :math:`z = \mu + e^{\text{logvar}/2}\,\varepsilon`, :math:`\varepsilon\sim N(0, I)`.

    Args:
        mu: (..., Z). logvar: log variance, same shape or a suffix of it.
        n_samples: None for one sample without a sample axis, else S >= 1.

    Returns:
        (..., Z), or (S, ..., Z) if ``n_samples`` is given; differentiable in mu and logvar.

    Raises:
        ValueError: if ``n_samples`` < 1 or the shapes do not match.

    Source: Kingma & Welling 2014, section 2.4.
    """
    check_suffix(mu=mu, logvar=logvar)
    if n_samples is None:
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    return mu + torch.exp(0.5 * logvar) * torch.randn(n_samples, *mu.shape, dtype=mu.dtype, device=mu.device)
