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
Logistic             real numbers; scale from the decoder    x_mean and log scale, 2D outputs
Levels(...)          8-bit levels; any but the Bernoulli     that of the density inside
==================== ======================================= ==============================

`Likelihood.log_mass` (and so `Levels`) makes all but the Bernoulli comparable on 8-bit images.
"""

from vae_helpers.likelihoods.base import Likelihood
from vae_helpers.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from vae_helpers.likelihoods.choice import LikelihoodName, choose_likelihood, register_likelihood
from vae_helpers.likelihoods.discretised import Levels, Logistic
from vae_helpers.likelihoods.gaussian import Gaussian, GaussianOptimal, GaussianPerPixel, Output
from vae_helpers.likelihoods.levels import (
    bits_per_dim,
    log_mass_continuous_bernoulli,
    log_mass_logistic,
    log_mass_normal,
)

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "Gaussian",
    "GaussianOptimal",
    "GaussianPerPixel",
    "Levels",
    "Likelihood",
    "LikelihoodName",
    "Logistic",
    "Output",
    "bits_per_dim",
    "choose_likelihood",
    "log_mass_continuous_bernoulli",
    "log_mass_logistic",
    "log_mass_normal",
    "register_likelihood",
]
