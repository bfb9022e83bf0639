"""Observation models p(x | z): what a decoder's output means, and its log-density.

A likelihood turns decoder outputs (..., D) into a log-density per example, a mean and a sample. It
is a module of the model because it may own a parameter (a learned decoder variance). Each class
says which data it is a density for; numbers of different data kinds are never comparable:

==================== ======================================= ==============================
class                data                                    decoder output
==================== ======================================= ==============================
Bernoulli            binary {0, 1} (grey: a cross-entropy)   x_logits
ContinuousBernoulli  grey levels [0, 1]                      x_logits
Gaussian             real numbers; variance fixed or learned x_mean
GaussianOptimal      real numbers; variance in closed form   x_mean
GaussianPerPixel     real numbers; variance from the decoder x_mean and x_logvar, 2D outputs
==================== ======================================= ==============================
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_helpers.distributions import log_bernoulli_with_logits, log_continuous_bernoulli_with_logits, log_normal


class Likelihood(nn.Module):
    """Base class; ``n_params`` is the number of decoder outputs per data dimension."""

    n_params = 1

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log p(x | z) from decoder output ``out`` (..., n_params*D); x (..., D) -> (...), nats, not reduced."""
        raise NotImplementedError

    def mean(self, out: Tensor) -> Tensor:
        """E[x | z], (..., D)."""
        raise NotImplementedError

    def sample(self, out: Tensor) -> Tensor:
        """One draw of x given z, (..., D)."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels; on grey pixels its value is a cross-entropy, not a likelihood.

    Source: Kingma & Welling 2014, appendix C.1.
    """

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """See `distributions.log_bernoulli_with_logits`."""
        return log_bernoulli_with_logits(x, out)

    def mean(self, out: Tensor) -> Tensor:
        """sigmoid(x_logits)."""
        return torch.sigmoid(out)

    def sample(self, out: Tensor) -> Tensor:
        """Binary pixels."""
        return torch.bernoulli(torch.sigmoid(out))


class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoulli pixels on [0, 1]: a density for grey levels.

    Source: Loaiza-Ganem & Cunningham 2019.
    """

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """See `distributions.log_continuous_bernoulli_with_logits`."""
        return log_continuous_bernoulli_with_logits(x, out)

    def mean(self, out: Tensor) -> Tensor:
        """E[x] of the continuous Bernoulli, which is *not* its parameter lambda."""
        # torch.distributions clamps lambda to 1 - 1e-7 in float32, which puts a floor of 0.06 under the mean
        near_zero = out.abs() < 1e-2
        safe = torch.where(near_zero, torch.ones_like(out), out)
        return torch.where(near_zero, 0.5 + out / 12, -1 / torch.expm1(-safe) - 1 / safe)

    def sample(self, out: Tensor) -> Tensor:
        """Grey pixels in [0, 1]."""
        u, rate = torch.rand_like(out), out.abs().clamp_min(1e-4)  # an exponential cut off at 1, by its inverse CDF
        y = (-torch.log1p(u * torch.expm1(-rate)) / rate).clamp(0, 1)
        return torch.where(out < 0, y, 1 - y)


class Gaussian(Likelihood):
    r"""Isotropic Gaussian, :math:`\log N(x; x_{mean}, x_{var} I)`, the variance fixed or one learned scalar.

    Args:
        x_var: decoder variance, > 0, in squared data units; the starting value if ``learned``.
        learned: make log x_var a parameter shared by all pixels and examples.
        bounded: pass the decoder output through a sigmoid, for data in [0, 1].

    Raises:
        ValueError: if ``x_var`` is not a positive finite number.

    Source: Kingma & Welling 2014, appendix C.2; the shared learned variance: Rybkin et al. 2021, section 4.1.
    """

    x_logvar: Tensor

    def __init__(self, *, x_var: float, learned: bool = False, bounded: bool = False) -> None:
        super().__init__()
        if not (x_var > 0 and math.isfinite(x_var)):
            raise ValueError(f"x_var must be a positive number, got {x_var}")
        x_logvar = torch.tensor(math.log(x_var))
        if learned:
            self.x_logvar = nn.Parameter(x_logvar)
        else:
            self.register_buffer("x_logvar", x_logvar)
        self.bounded = bounded

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log N(x; mean(out), x_var I), with its constant; see `distributions.log_normal`."""
        return log_normal(x, self.mean(out), self.x_logvar)

    def mean(self, out: Tensor) -> Tensor:
        """The decoder output, through a sigmoid if ``bounded``."""
        return torch.sigmoid(out) if self.bounded else out

    def sample(self, out: Tensor) -> Tensor:
        """mean + sqrt(x_var) * noise; real-valued, so it may leave [0, 1]."""
        mean = self.mean(out)
        return mean + torch.exp(0.5 * self.x_logvar) * torch.randn_like(mean)


class GaussianOptimal(Gaussian):
    r"""Isotropic Gaussian whose variance is the maximiser, :math:`x_{var}^* = \frac{1}{BD}\|x - x_{mean}\|^2`.

    While training, each batch uses its own optimum; a running average (momentum 0.99) is kept and is
    the variance in evaluation mode, where a density must not depend on the batch it is evaluated in.

    Args:
        bounded: as `Gaussian`.

    Source: Rybkin, Daniilidis & Levine 2021 (sigma-VAE), equation 6.
    """

    MOMENTUM = 0.99
    n_updates: Tensor
    FLOOR = 1e-6  # a batch reconstructed exactly would otherwise give variance 0 and an infinite density

    def __init__(self, *, bounded: bool = False) -> None:
        super().__init__(x_var=1.0, bounded=bounded)
        self.register_buffer("n_updates", torch.zeros(()))

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log N(x; mean(out), x_var* I), x_var* of this batch (training) or the running one (evaluation)."""
        mean = self.mean(out)
        if not self.training:
            return log_normal(x, mean, self.x_logvar)
        x_logvar = ((x - mean) ** 2).mean().clamp_min(self.FLOOR).log()
        with torch.no_grad():
            momentum = torch.where(self.n_updates == 0, 0.0, self.MOMENTUM)
            self.x_logvar.copy_(momentum * self.x_logvar + (1 - momentum) * x_logvar)
            self.n_updates.add_(1)
        return log_normal(x, mean, x_logvar)


class GaussianPerPixel(Likelihood):
    r"""Gaussian whose decoder also predicts every pixel's log variance: :math:`\log N(x; x_{mean}(z), x_{var}(z))`.

    Unbounded, its likelihood has no maximum: a pixel that is always 0 is best explained by a variance
    that goes to 0 and a density that goes to infinity. ``min_x_var`` is the cure that keeps the
    heteroscedastic model: a floor, added to the predicted variance.

    Args:
        min_x_var: floor of the variance, >= 0, in squared data units; 0 shows the instability.
        bounded: as `Gaussian`, for the mean.

    Raises:
        ValueError: if ``min_x_var`` is negative.

    Source: the failure: Mattei & Frellsen 2018; the floor: Rybkin et al. 2021, section 3.
    """

    n_params = 2

    def __init__(self, *, min_x_var: float = 0.0, bounded: bool = False) -> None:
        super().__init__()
        if not min_x_var >= 0:
            raise ValueError(f"min_x_var must not be negative, got {min_x_var}")
        self.min_x_var = min_x_var
        self.bounded = bounded

    def _mean_logvar(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, x_logvar = out.chunk(2, dim=-1)
        if self.min_x_var:
            x_logvar = torch.logaddexp(x_logvar, torch.full_like(x_logvar, math.log(self.min_x_var)))
        return (torch.sigmoid(mean) if self.bounded else mean), x_logvar

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log N(x; x_mean, diag x_var), both halves of the decoder output."""
        return log_normal(x, *self._mean_logvar(out))

    def mean(self, out: Tensor) -> Tensor:
        """The first half of the decoder output."""
        return self._mean_logvar(out)[0]

    def sample(self, out: Tensor) -> Tensor:
        """mean + sqrt(x_var) * noise."""
        mean, x_logvar = self._mean_logvar(out)
        return mean + torch.exp(0.5 * x_logvar) * torch.randn_like(mean)
