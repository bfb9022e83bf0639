"""Study ``nonsyn``: the Non-Synergistic VAE and its rivals on dSprites and faces."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import (
    Batches,
    FactorBatches,
    FactorImages,
    Images,
    Stream,
    load_celeba,
    load_dsprites,
    load_portraits,
    to_grey,
)
from vae_helpers.experiments import sprites
from vae_helpers.experiments.nonsyn_measures import measure_bound, rotation_share, sampled_r2
from vae_helpers.experiments.run import Keeping, Run, check_choices, train
from vae_helpers.likelihoods import Gaussian
from vae_helpers.models import VAE
from vae_helpers.nets import MLP, ConvDecoder, ConvEncoder
from vae_helpers.objectives.subsets import CHOICES
from vae_helpers.priors import StandardNormal
from vae_helpers.training import (
    Budget,
    CapacityStep,
    FactorVAEStep,
    GradientStep,
    NonSynergisticStep,
    pick_device,
)

Data = Literal["dsprites", "dsprites_official", "dsprites_small", "dsprites_turning", "portraits", "celeba"]
Method = Literal["nonsyn", "masked", "vae", "beta_vae", "factor_vae", "beta_tcvae", "capacity"]
DISCRIMINATOR = (1000,) * 6  # hidden widths, with leaky ReLUs of slope 0.2 (Kim & Mnih 2018, appendix A)
SMALL_DISCRIMINATOR = (256,) * 4  # for the small dSprites
SOURCES: dict[str, Any] = {  # of dSprites, by the setting's name
    "dsprites": "rendered",
    "dsprites_official": "official",
    "dsprites_small": "small",
    "dsprites_turning": "turning",
}
SMALL = ("dsprites_small", "dsprites_turning")  # of 32x32 pixels
NAMES = {  # of the methods in the tables, which leave out capacity
    "vae": "VAE",
    "beta_vae": "β-VAE",
    "factor_vae": "FactorVAE",
    "beta_tcvae": "β-TCVAE",
    "nonsyn": "Non-Synergistic VAE",
    "masked": "the same in one step",
}
COLOUR_SHAPE = (3, 64, 64)


@dataclass(frozen=True)
class NonSynConfig:
    """Settings of one model."""

    method: Method = "nonsyn"
    """the objective: Non-Synergistic (two steps), the same penalty in one step, or one of its rivals"""
    data: Data = "dsprites"
    """dSprites drawn by the formula or from the official file, or few and small ones with nets to match (see
    `load_dsprites`); drawn colour portraits; CelebA (see ``data celeba``)"""
    alpha: float = 5.0
    """nonsyn, masked: weight of the KL of the latents left out"""
    omega: float = 0.9
    """nonsyn, masked: a latent is kept if it adds more than 1 / omega - 1 of the KL kept so far"""
    choice: Literal["greedy", "descending", "random"] = "greedy"
    """nonsyn, masked: how the latents to keep are found"""
    beta: float = 4.0
    """beta_vae: weight of the KL; beta_tcvae: of the total correlation"""
    gamma: float = 35.0
    """factor_vae: weight of the total correlation; capacity: of the distance to the capacity (Burgess et al.: 1000)"""
    capacity: float = 25.0
    """capacity: the KL allowed at the end, nats, to which it rises in a line"""
    rising_steps: int = 0
    """capacity: until it is reached; 0 takes two thirds of the steps"""
    estimator: Literal["stratified", "weighted"] = "stratified"
    """beta_tcvae: how q(z) is estimated from a batch"""
    z_dim: int = 10
    """number of latents"""
    x_var: float = 0.5
    """decoder variance of the colour images, squared pixel values; at 0.5 log p(x|z) is a constant less the squared
    error"""
    lr: float = 1e-4
    """Adam's step size"""
    decay: bool = False
    """let the step size fall linearly to zero over the second half of the steps"""
    batch_size: int = 64
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 10, quick 1,000, full 150,000"""
    bf16: bool = False
    """convolutions in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def build(config: NonSynConfig) -> VAE:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for an unknown setting or fewer than two latents.
    """
    check_choices(config)
    if config.z_dim < 2:
        raise ValueError(f"z_dim must be at least 2 for latents to be told apart, got {config.z_dim}")
    prior = StandardNormal(config.z_dim)
    if config.data in SOURCES:
        return sprites.build_vae(prior, small=config.data in SMALL)
    likelihood = Gaussian(x_var=config.x_var, output="sigmoid")
    encoder = ConvEncoder(COLOUR_SHAPE, 2 * config.z_dim, h_dim=256)
    return VAE(encoder, ConvDecoder(config.z_dim, COLOUR_SHAPE, h_dim=256), likelihood, prior)


@cache
def images_of(data: Data) -> FactorImages | Images:
    """The images that a setting names, opened once; CelebA comes without factors.

    Raises:
        DataError: if a file is wanted that is not there and cannot be had.
    """
    match data:
        case "portraits":
            return load_portraits()
        case "celeba":
            return load_celeba()
        case _:
            return load_dsprites(SOURCES[data])


def update_of(config: NonSynConfig, model: VAE, *, n_data: int) -> GradientStep:
    """The update that a method stands for.

    Args:
        config: with its steps (and rising_steps) resolved. model: of `build`, on its device.
        n_data: size of the data set.

    Raises:
        ValueError: for a weight, an omega or a step size out of range.
    """
    options: dict[str, Any] = {
        "lr": config.lr,
        "bf16": config.bf16,
        "compiled": config.compiled,
        "decay_steps": config.steps if config.decay else 0,
    }
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
        case "beta_vae":
            return GradientStep(model, partial(objectives.elbo, beta=config.beta), **options)
        case "vae":
            return GradientStep(model, objectives.elbo, **options)


def images_a_step(config: NonSynConfig) -> int:
    """How many images a step draws: FactorVAE's discriminator learns from a batch of its own."""
    return config.batch_size * (2 if config.method == "factor_vae" else 1)


class ImageBatches(FactorBatches):
    """`FactorBatches` that keeps the factors to itself."""

    def take(self, index: Tensor) -> Tensor:  # type: ignore[override]
        """The images at grid positions ``index`` (B,)."""
        return super().take(index).x


def run(
    config: NonSynConfig,
    *,
    seed: int,
    budget: Budget | None = None,
    images: FactorImages | Images | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train one model on images alone, and measure it with their factors, if they have any.

    Args:
        config: the settings. seed: of weights, draws and noise. budget: None for `Budget.current`.
        images: data already opened; None opens what the config names. keeping: see `experiments.run.Keeping`.

    Returns:
        a `Run` with the metrics of `nonsyn_measures` and `sprites.measure_metrics`; of images without factors, those of
        `measure_bound` alone.

    Raises:
        ValueError: for a setting out of range. DataError: if the official file is wanted and cannot be had.
    """
    check_choices(config)
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=10, quick=1000, full=150_000))
    if config.method == "capacity" and not config.rising_steps:  # a longer run that goes on must say how long it rises
        config = dataclasses.replace(config, rising_steps=max(2 * config.steps // 3, 1))
    images = images_of(config.data) if images is None else images
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    n_measured, n_curve = budget.pick(smoke=100, quick=2000, full=10_000), budget.pick(smoke=50, quick=500, full=1000)
    stream: dict[str, Any] = {"batch_size": images_a_step(config), "seed": seed, "device": device}
    batches: Stream
    if isinstance(images, FactorImages):
        n_data, batches = images.grid.n_images, ImageBatches(images, **stream)
        factors = sprites.draw(images, n_measured, seed=seed, device=device)
        x = images.pixels(factors)
    else:
        n_data, batches = len(images.x_train), Batches(images.x_train, transform=to_grey, **stream)
        x = to_grey(images.x_test[:n_measured].to(device))
    update = update_of(config, model, n_data=n_data)

    def evaluate(model: Any) -> dict[str, float]:
        found = measure_bound(model, x[:n_curve], omega=config.omega)
        if not isinstance(images, FactorImages):
            return found
        return found | sprites.curve_metrics(model, images, factors[:n_curve], seed=seed)

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        found = measure_bound(model, x, omega=config.omega)
        if not isinstance(images, FactorImages):
            return found
        found |= sampled_r2(model, x, factors, images.grid) | rotation_share(model, x, images, seed=seed)
        return found | sprites.measure_metrics(model, images, seed=seed, budget=budget, device=device)

    return train(
        "nonsyn",
        config,
        model,
        batches,
        update=update,
        seed=seed,
        budget=budget,
        data=images.source,
        measure=measure,
        evaluate=evaluate,
        **keeping,
    )
