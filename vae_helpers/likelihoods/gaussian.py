"""Real-valued pixels: Gaussians whose variance is given, learned, solved for or predicted."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vae_helpers.distributions import log_normal
from vae_helpers.likelihoods.base import Likelihood
from vae_helpers.likelihoods.levels import log_mass_normal

Output = Literal["identity", "sigmoid", "relu"]


class Gaussian(Likelihood):
    r"""Isotropic Gaussian, :math:`\log N(x; x_{mean}, x_{var} I)`, the variance fixed or one learned scalar.

    Args:
        x_var: decoder variance, > 0, in squared data units; the starting value if ``learned``.
        learned: make log x_var a parameter shared by all pixels and examples.
        output: from decoder output to mean: identity; sigmoid, for data in [0, 1]; or relu, whose gradient is zero
            wherever the output is negative, so that a net may stop learning for good (notebook 13).

    Raises:
        ValueError: if ``x_var`` is not a positive finite number, or ``output`` is unknown.

    Source: Kingma & Welling 2014, appendix C.2; the shared learned variance: Rybkin et al. 2021, section 4.1.
    """

    x_logvar: Tensor

    def __init__(self, *, x_var: float, learned: bool = False, output: Output = "identity") -> None:
        super().__init__()
        _check_output(output)
        if not (x_var > 0 and math.isfinite(x_var)):
            raise ValueError(f"x_var must be a positive number, got {x_var}")
        x_logvar = torch.tensor(math.log(x_var))
        if learned:
            self.x_logvar = nn.Parameter(x_logvar)
        else:
            self.register_buffer("x_logvar", x_logvar)
        self.output = output

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log N(x; mean(out), x_var I), with its constant; see `distributions.log_normal`."""
        return log_normal(x, self.mean(out), self.x_logvar)

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """See `levels.log_mass_normal`."""
        return log_mass_normal(x, self.mean(out), self.x_logvar)

    def mean(self, out: Tensor) -> Tensor:
        """The decoder output, through ``output``."""
        return _through(self.output, out)

    def sample(self, out: Tensor) -> Tensor:
        """mean + sqrt(x_var) * noise; real-valued, so it may leave [0, 1]."""
        mean = self.mean(out)
        return mean + torch.exp(0.5 * self.x_logvar) * torch.randn_like(mean)


class GaussianOptimal(Gaussian):
    r"""Isotropic Gaussian whose variance is the maximiser, :math:`x_{var}^* = \frac{1}{BD}\|x - x_{mean}\|^2`.

    While training, each batch uses its own optimum; a running average (momentum 0.99) is kept and is
    the variance in evaluation mode, where a density must not depend on the batch it is evaluated in.

    Args:
        output: as `Gaussian`.

    Raises:
        ValueError: if ``output`` is unknown.

    Source: Rybkin, Daniilidis & Levine 2021 (sigma-VAE), equation 6.
    """

    MOMENTUM = 0.99
    n_updates: Tensor
    FLOOR = 1e-6  # a batch reconstructed exactly would otherwise give variance 0 and an infinite density

    def __init__(self, *, output: Output = "identity") -> None:
        super().__init__(x_var=1.0, output=output)
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

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """As `Gaussian`, with the running variance; raises ValueError in training mode, where nothing updates it."""
        if self.training:
            raise ValueError("the optimal variance is solved for by log_prob; measure log_mass in evaluation mode")
        return super().log_mass(x, out)


class GaussianPerPixel(Likelihood):
    r"""Gaussian whose decoder also predicts every pixel's log variance: :math:`\log N(x; x_{mean}(z), x_{var}(z))`.

    Without a lower bound of the variance, the likelihood has no maximum: for a pixel that is always 0, the density
    goes to infinity as the variance goes to 0. ``min_x_var`` is such a lower bound. It is added to the predicted
    variance, so each pixel still has a variance of its own.

    Args:
        min_x_var: floor of the variance, >= 0, in squared data units; 0 shows the instability.
        output: as `Gaussian`, for the mean.

    Raises:
        ValueError: if ``min_x_var`` is negative or not finite, or ``output`` is unknown.

    Source: the failure: Mattei & Frellsen 2018; the floor: Rybkin et al. 2021, section 3.
    """

    n_params = 2

    def __init__(self, *, min_x_var: float = 0.0, output: Output = "identity") -> None:
        super().__init__()
        _check_output(output)
        if not (min_x_var >= 0 and math.isfinite(min_x_var)):
            raise ValueError(f"min_x_var must be a finite number >= 0, got {min_x_var}")
        self.min_x_var = min_x_var
        self.output = output

    def _mean_logvar(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, x_logvar = out.chunk(2, dim=-1)
        if self.min_x_var:
            x_logvar = torch.logaddexp(x_logvar, torch.full_like(x_logvar, math.log(self.min_x_var)))
        return _through(self.output, mean), x_logvar

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log N(x; x_mean, diag x_var), both halves of the decoder output."""
        return log_normal(x, *self._mean_logvar(out))

    def log_mass(self, x: Tensor, out: Tensor) -> Tensor:
        """See `levels.log_mass_normal`; at most 0 even where the density is infinite."""
        return log_mass_normal(x, *self._mean_logvar(out))

    def mean(self, out: Tensor) -> Tensor:
        """The first half of the decoder output."""
        return self._mean_logvar(out)[0]

    def sample(self, out: Tensor) -> Tensor:
        """mean + sqrt(x_var) * noise."""
        mean, x_logvar = self._mean_logvar(out)
        return mean + torch.exp(0.5 * x_logvar) * torch.randn_like(mean)


def _check_output(output: str) -> None:
    if output not in get_args(Output):
        raise ValueError(f"unknown output {output!r}; choose one of {', '.join(get_args(Output))}")


def _through(output: Output, out: Tensor) -> Tensor:
    match output:
        case "sigmoid":
            return torch.sigmoid(out)
        case "relu":
            return torch.relu(out)
        case _:
            return out
