"""Observation models by name, for configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from vae_helpers.likelihoods.base import Likelihood
from vae_helpers.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from vae_helpers.likelihoods.discretised import Levels, Logistic
from vae_helpers.likelihoods.gaussian import Gaussian, GaussianOptimal, GaussianPerPixel, Output
from vae_helpers.registry import Registry

LikelihoodName = Literal[
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "gaussian_learned",
    "gaussian_optimal",
    "gaussian_per_pixel",
    "discretised_logistic",
]


_LIKELIHOODS = Registry("likelihood")


def register_likelihood(name: str, maker: Callable[..., Likelihood]) -> None:
    """Let ``--likelihood NAME`` and ``--likelihood NAME:key=value`` make an observation model of one's own.

    Args:
        name: of letters, digits, _ and -. maker: (**settings) -> a `Likelihood`; its class, say.

    Raises:
        ValueError: for a name that is taken, or another form of name.
    """
    if name in get_args(LikelihoodName):
        raise ValueError(f"a likelihood named {name!r} is there already; choose another name")
    _LIKELIHOODS.register(name, maker)


def choose_likelihood(
    name: str, *, x_var: float = 0.05, min_x_var: float = 0.0, output: Output = "sigmoid"
) -> Likelihood:
    """The observation model of a configuration.

    Args:
        name: one of `LikelihoodName`, or a registered one with its settings, ``name:key=value``.
        x_var: variance of ``gaussian``, starting value of ``gaussian_learned``.
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
    return _LIKELIHOODS.make(name, also=get_args(LikelihoodName))
