"""Priors p(z): a log-density, a sampler and the KL of a diagonal Gaussian to it."""

from vae_helpers.priors.base import Prior
from vae_helpers.priors.choice import choose_prior, register_prior
from vae_helpers.priors.factors import FactorMarginals, SmoothedUniform
from vae_helpers.priors.gaussian import DiagonalGaussian, StandardNormal
from vae_helpers.priors.mixtures import Mixture, MixturePrior, VampPrior

__all__ = [
    "DiagonalGaussian",
    "FactorMarginals",
    "Mixture",
    "MixturePrior",
    "Prior",
    "SmoothedUniform",
    "StandardNormal",
    "VampPrior",
    "choose_prior",
    "register_prior",
]
