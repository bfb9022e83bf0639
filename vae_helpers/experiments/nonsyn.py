"""Study ``nonsyn``: the Non-Synergistic VAE and its rivals on dSprites and faces."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar, Literal, Self, Unpack

from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import (
    Batches,
    FactorBatches,
    FactorImages,
    Images,
    Stream,
    load_dsprites,
    load_portraits,
    to_grey,
)
from vae_helpers.evaluation.latents import measure_bound, rotation_share, sampled_r2
from vae_helpers.experiments import sprites
from vae_helpers.experiments.job import Given, Job, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import LikelihoodSettings
from vae_helpers.likelihoods import Likelihood, Output, choose_likelihood
from vae_helpers.models import VAE
from vae_helpers.nets import MLP, ConvDecoder, ConvEncoder, conv_channels, he_init
from vae_helpers.objectives import choose_objective
from vae_helpers.objectives.subsets import CHOICES
from vae_helpers.priors import choose_prior
from vae_helpers.training import (
    Budget,
    CapacityStep,
    FactorVAEStep,
    GradientStep,
    NonSynergisticStep,
    WarmUpStep,
)

METHODS = ("nonsyn", "masked", "vae", "beta_vae", "factor_vae", "beta_tcvae", "capacity")
DISCRIMINATOR = (1000,) * 6  # hidden widths, with leaky ReLUs of slope 0.2 (Kim & Mnih 2018, appendix A)
SMALL_DISCRIMINATOR = (256,) * 4  # for the small dSprites
SOURCES: dict[str, Any] = {  # of dSprites, by the setting's name
    "dsprites": "rendered",
    "dsprites_official": "official",
    "dsprites_small": "small",
    "dsprites_turning": "turning",
}
DRAWN = (*SOURCES, "portraits")
SMALL = ("dsprites_small", "dsprites_turning")  # of 32x32 pixels
NAMES = {  # of the methods in the tables, which leave out capacity
    "vae": "VAE",
    "beta_vae": "β-VAE",
    "factor_vae": "FactorVAE",
    "beta_tcvae": "β-TCVAE",
    "nonsyn": "Non-Synergistic VAE",
    "masked": "the same in one step",
}


@dataclass(frozen=True, kw_only=True)
class NonSynConfig(LikelihoodSettings):
    """Settings of one model."""

    STUDY: ClassVar = "nonsyn"
    STEPS: ClassVar = {"smoke": 10, "quick": 1000, "full": 150_000}
    NAMES: ClassVar = {"prior": ("standard",), "method": METHODS}

    method: str = "nonsyn"
    """the objective: nonsyn (Non-Synergistic VAE, two steps); masked (the same penalty in one step); vae, beta_vae,
    factor_vae, beta_tcvae, capacity; or an objective of your own (docs/extend.md)"""
    data: str = "dsprites"
    """dsprites, drawn by the formula; dsprites_official, from the file; dsprites_small and dsprites_turning, few and
    small ones with nets to match (see `load_dsprites`); portraits, drawn in colour; celeba and the other names of
    images (see ``train m1 --help``); or the path of a folder of pictures, an .npy, .npz or idx file"""
    alpha: float = 5.0
    """for nonsyn and masked: weight of the KL of the latents that are left out"""
    omega: float = 0.9
    """for nonsyn and masked: a latent is kept if it adds more than 1 / omega - 1 of the KL kept so far"""
    choice: Literal["greedy", "descending", "random"] = "greedy"
    """for nonsyn and masked: how the latents to keep are found"""
    beta: float = 4.0
    """weight of the KL for beta_vae, of the total correlation for beta_tcvae"""
    gamma: float = 35.0
    """weight of the total correlation for factor_vae, of the distance to the capacity for capacity (Burgess et al.
    take 1000)"""
    capacity: float = 25.0
    """for capacity: the KL in nats at the end; it rises linearly from 0"""
    rising_steps: int = 0
    """number of steps in which β of a beta_vae rises linearly from 0 (0: it is constant), or the capacity of capacity
    (0: two thirds of the steps)"""
    estimator: Literal["stratified", "weighted"] = "stratified"
    """for beta_tcvae: how q(z) is estimated from a batch"""
    init: Literal["torch", "he"] = "torch"
    """initial weights: those of PyTorch, or He's, which keep the size of differences from layer to layer"""
    z_dim: int = 10
    """number of latents"""
    prior: str = "standard"
    """prior p(z): standard, which is N(0, I), or one of your own (docs/extend.md)"""
    likelihood: str = ""
    """p(x | z); empty takes bernoulli for dSprites, gaussian for the others; see ``train m1 --help``"""
    x_var: float = 0.5
    """decoder variance of ``gaussian``, in squared pixel units; at 0.5, −log p(x | z) is the squared error plus a
    constant"""
    lr: float = 1e-4
    """learning rate of Adam"""
    batch_size: int = 64
    """number of images in a step"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 10, quick 1,000, full 150,000"""

    def p_x(self, output: Output = "sigmoid") -> Likelihood:
        """`LikelihoodSettings.p_x`, with a default that depends on the images."""
        named = self.likelihood or ("bernoulli" if self.data in SOURCES else "gaussian")
        return choose_likelihood(named, x_var=self.x_var, min_x_var=self.min_x_var, output=output)

    def load(self) -> Any:
        """The images that the settings name, opened once if they are drawn.

        Raises:
            DataError: if a file is wanted that is not there and cannot be had.
        """
        if self.data not in DRAWN:
            return super().load()
        return images_of(self.data)

    def resolved(self, budget: Budget, data: Any) -> Self:
        """`ImageSettings.resolved`; a capacity that has no rising_steps rises over two thirds of the steps.

        So a longer run that goes on must say how long it rises.
        """
        found = super().resolved(budget, data)
        if found.method == "capacity" and not found.rising_steps:
            found = dataclasses.replace(found, rising_steps=max(2 * found.steps // 3, 1))
        return found


def build(config: NonSynConfig) -> VAE:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for an unknown setting or fewer than two latents.
    """
    if config.z_dim < 2:
        raise ValueError(f"z_dim must be at least 2 for latents to be told apart, got {config.z_dim}")
    prior = choose_prior(config.prior, z_dim=config.z_dim)
    likelihood = config.p_x()
    if config.data in SOURCES:
        model = sprites.build_vae(prior, small=config.data in SMALL, likelihood=likelihood)
    else:
        shape = config.shape
        options: dict[str, Any] = {"channels": conv_channels(shape), "h_dim": 256}
        encoder = ConvEncoder(shape, 2 * config.z_dim, **options)
        decoder = ConvDecoder(config.z_dim, shape, n_params=likelihood.n_params, **options)
        model = VAE(encoder, decoder, likelihood, prior)
    if config.init == "he":
        he_init(model.encoder)
        he_init(model.decoder)
    return model


@cache
def images_of(data: str) -> FactorImages:
    """The drawn images that a setting names, opened once."""
    return load_portraits() if data == "portraits" else load_dsprites(SOURCES[data])


def update_of(config: NonSynConfig, model: VAE, *, n_data: int) -> GradientStep:
    """The update that a method stands for.

    Args:
        config: with its steps (and rising_steps) resolved. model: of `build`, on its device.
        n_data: size of the data set.

    Raises:
        ValueError: for a weight, an omega or a step size out of range.
    """
    options = config.options
    penalty: dict[str, Any] = {"alpha": config.alpha, "omega": config.omega, "choice": CHOICES[config.choice]}
    match config.method:
        case "nonsyn":
            return NonSynergisticStep(model, **penalty, **options)
        case "masked":
            return GradientStep(model, partial(objectives.masked_elbo, **penalty), **options)
        case "factor_vae":
            device = next(model.parameters()).device
            widths = SMALL_DISCRIMINATOR if config.data in SMALL else DISCRIMINATOR
            discriminator = MLP(config.z_dim, widths, 1, activation="leaky_relu").to(device)
            return FactorVAEStep(model, discriminator, gamma=config.gamma, **options)
        case "beta_tcvae":
            objective = partial(objectives.beta_tcvae, beta=config.beta, n_data=n_data, estimator=config.estimator)
            return GradientStep(model, objective, **options)
        case "capacity":
            return CapacityStep(
                model, gamma=config.gamma, capacity=config.capacity, rising_steps=config.rising_steps, **options
            )
        case "beta_vae" if config.rising_steps:
            return WarmUpStep(model, beta=config.beta, rising_steps=config.rising_steps, **options)
        case "beta_vae":
            return GradientStep(model, partial(objectives.elbo, beta=config.beta), **options)
        case "vae":
            return GradientStep(model, objectives.elbo, **options)
        case _:
            return GradientStep(model, choose_objective(config.method), **options)


def images_a_step(config: NonSynConfig) -> int:
    """How many images a step draws: FactorVAE's discriminator learns from a batch of its own."""
    return config.batch_size * (2 if config.method == "factor_vae" else 1)


class ImageBatches(FactorBatches):
    """`FactorBatches` that keeps the factors to itself."""

    def take(self, index: Tensor) -> Tensor:  # type: ignore[override]
        """The images at grid positions ``index`` (B,)."""
        return super().take(index).x


def run(config: NonSynConfig, *, images: FactorImages | Images | None = None, **given: Unpack[Given]) -> Run:
    """Train one model on images alone, and measure it with their factors, if they have any.

    Args:
        config: the settings. images: data already opened; None opens what the config names.
        given: see `experiments.job.Given`.

    Returns:
        a `Run` with the metrics of `evaluation.latents` and `sprites.measure_metrics`; of images without factors,
        those of `measure_bound` alone.

    Raises:
        ValueError: for a setting out of range. DataError: if the official file is wanted and cannot be had.
    """
    job: Job[NonSynConfig, Any] = prepare(config, images, given)
    config, data, device = job.config, job.data, job.device
    model = job.build(build)
    n_measured, n_curve = job.pick(100, 2000, 10_000), job.pick(50, 500, 1000)
    stream = job.stream | {"batch_size": images_a_step(config)}
    batches: Stream
    if isinstance(data, FactorImages):
        n_data, batches = data.grid.n_images, ImageBatches(data, **stream)
        factors = sprites.draw(data, n_measured, seed=job.seed, device=device)
        x = data.pixels(factors)
    else:
        n_data, batches = len(data.x_train), Batches(data.x_train, transform=to_grey, **stream)
        x = to_grey(data.x_test[:n_measured].to(device))
    update = update_of(config, model, n_data=n_data)

    def evaluate(model: Any) -> dict[str, float]:
        found = measure_bound(model, x[:n_curve], omega=config.omega)
        if not isinstance(data, FactorImages):
            return found
        return found | sprites.curve_metrics(model, data, factors[:n_curve], seed=job.seed)

    def measure(model: Any) -> dict[str, float]:
        found = measure_bound(model, x, omega=config.omega)
        if not isinstance(data, FactorImages):
            return found
        n_draws = job.pick(smoke=5, quick=200, full=200)
        found |= sampled_r2(model, x, factors, data.grid)
        found |= rotation_share(model, x, data, seed=job.seed, n_draws=n_draws)
        return found | sprites.measure_metrics(model, data, seed=job.seed, budget=job.budget, device=device)

    return job.train(model, batches, update, measure=measure, evaluate=evaluate)
