"""Observation models by name, for configurations."""

from __future__ import annotations

from typing import Literal, get_args

from vae_helpers.likelihoods.base import Likelihood
from vae_helpers.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from vae_helpers.likelihoods.discretised import Levels, Logistic
from vae_helpers.likelihoods.gaussian import Gaussian, GaussianOptimal, GaussianPerPixel, Output

LikelihoodName = Literal[
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "gaussian_learned",
    "gaussian_optimal",
    "gaussian_per_pixel",
    "discretised_logistic",
]


def choose_likelihood(
    name: LikelihoodName, *, x_var: float = 0.05, min_x_var: float = 0.0, output: Output = "sigmoid"
) -> Likelihood:
    """The observation model of a configuration.

    Args:
        name: which. x_var: variance of ``gaussian``, starting value of ``gaussian_learned``.
        min_x_var: floor of ``gaussian_per_pixel``. output: from decoder output to mean, of the Gaussians.

    Raises:
        ValueError: for an unknown name, or a variance or output out of range (whether or not it is used).
    """
    Gaussian(x_var=x_var, output=output)  # settings out of range are told, not ignored
    GaussianPerPixel(min_x_var=min_x_var)
    match name:
        case "bernoulli":
            return Bernoulli()
        case "continuous_bernoulli":
            return ContinuousBernoulli()
        case "gaussian":
            return Gaussian(x_var=x_var, output=output)
        case "gaussian_learned":
            return Gaussian(x_var=x_var, learned=True, output=output)
        case "gaussian_optimal":
            return GaussianOptimal(output=output)
        case "gaussian_per_pixel":
            return GaussianPerPixel(min_x_var=min_x_var, output=output)
        case "discretised_logistic":
            return Levels(Logistic())
    raise ValueError(f"unknown likelihood {name!r}; choose one of {', '.join(get_args(LikelihoodName))}")
