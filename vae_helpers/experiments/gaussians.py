"""Study ``gaussians``: models small enough that log p(x) is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch

from vae_helpers import objectives
from vae_helpers.data import Batches, GaussianMixture, LinearGaussian, Points
from vae_helpers.evaluation import importance_log_px, quadrature_log_px, term_means
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import Settings, Study
from vae_helpers.likelihoods import Gaussian
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import GradientStep


@dataclass(frozen=True, kw_only=True)
class GaussiansConfig(Settings):
    """Settings of one run on data with a known density."""

    STUDY: ClassVar = "gaussians"
    STEPS: ClassVar = {"smoke": 200, "quick": 4000, "full": 20_000}

    data: Literal["two_clusters", "linear"] = "two_clusters"
    """two_clusters: two Gaussians in 2-D; linear: 10-D data from a linear-Gaussian model with 3 latents"""
    model: Literal["vae", "autoencoder"] = "vae"
    """a VAE, or a deterministic autoencoder with the same nets"""
    z_dim: int = 1
    """number of latents"""
    h_dims: tuple[int, ...] = (10,)
    """widths of the encoder's hidden layers, and of the decoder's in reverse; no width makes both linear"""
    x_var: float = 0.25
    """decoder variance in squared data units, or its first value if it is learned"""
    learned: bool = False
    """learn the decoder variance"""
    beta: float = 1.0
    """weight β of the KL in the loss"""
    batch_size: int = 256
    """number of points in a step"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 200, quick 4,000, full 20,000"""

    def load(self) -> Points:
        """5,000 points to train on and 5,000 others, the same for every seed."""
        source = f"{self.data}, 5,000 train and 5,000 test points (made by a formula)"
        return Points(source, sample(self, seed=0), sample(self, seed=1))


def truth(config: GaussiansConfig) -> GaussianMixture | LinearGaussian:
    """The distribution the data come from, with its exact log_prob."""
    if config.data == "two_clusters":
        return GaussianMixture.two_clusters()
    return LinearGaussian.random(10, 3, x_var=0.25, seed=0)


def build(config: GaussiansConfig) -> VAE | Autoencoder:
    """An untrained model; its weights come from torch's global generator."""
    x_dim = 2 if config.data == "two_clusters" else 10
    likelihood = Gaussian(x_var=config.x_var, learned=config.learned)
    prior = StandardNormal(config.z_dim)
    code_dim = 2 * config.z_dim if config.model == "vae" else config.z_dim
    encoder = MLP(x_dim, config.h_dims, code_dim, activation="relu")
    decoder = MLP(config.z_dim, config.h_dims[::-1], x_dim, activation="relu")
    if config.model == "autoencoder":
        return Autoencoder(encoder, decoder, likelihood, z_dim=config.z_dim)
    return VAE(encoder, decoder, likelihood, prior)


def run(config: GaussiansConfig, *, images: Points | None = None, **given: Unpack[Given]) -> Run:
    """Train on 5,000 points and measure on 5,000 others.

    Args:
        config: the settings. images: points already made. given: see `experiments.job.Given`.

    Returns:
        a `Run` with metrics, nats per example: ``test_elbo_bound``, ``test_log_px``, ``test_kl``,
        ``test_model_log_px`` (quadrature for one latent, else 1,000 importance samples) and
        ``test_data_log_px`` (the exact log-density of the data, which no model can beat on average).
    """
    job = prepare(config, images, given)
    config = job.config
    x_train, x_test = job.data.x_train.to(job.device), job.data.x_test.to(job.device)
    model = job.build(build)
    objective: Any = objectives.reconstruction
    if config.model == "vae":
        objective = partial(objectives.elbo, beta=config.beta)

    def measure(model: Any) -> dict[str, float]:
        metrics = term_means(model, x_test, objective)
        metrics["test_data_log_px"] = truth(config).log_prob(x_test.cpu()).mean().item()
        if config.model == "vae":
            exact = model.z_dim == 1
            log_px = (
                quadrature_log_px(model, x_test) if exact else importance_log_px(model, x_test, n_samples=1000).log_px
            )
            metrics["test_model_log_px"] = log_px.mean().item()
        return metrics

    batches = Batches(x_train, **job.stream)
    return job.train(model, batches, GradientStep(model, objective, **config.options), measure=measure)


def sample(config: GaussiansConfig, *, seed: int, n: int = 5000) -> torch.Tensor:
    """``n`` points of the study's data, (n, D) float32; seed 0 is the training set, 1 the test set."""
    distribution = truth(config)
    if isinstance(distribution, GaussianMixture):
        return distribution.sample(n // distribution.n_components, seed=seed)[0]
    return distribution.sample(n, seed=seed)


STUDY = Study(
    GaussiansConfig,
    "AE and VAE with a 1-D code on two Gaussians; linear-Gaussian VAEs (notebooks 01 and 11)",
    build,
    run,
)
