"""Study ``m1``: autoencoders and VAEs on small images, with every likelihood."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import IMAGE_SETS, PIXELS, Batches, Images
from vae_helpers.evaluation import active_units, evaluate_terms, importance_log_px
from vae_helpers.experiments.run import Keeping, Run, train
from vae_helpers.likelihoods import LikelihoodName, choose_likelihood
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import Budget, pick_device


@dataclass(frozen=True)
class M1Config:
    """Settings of one M1 run."""

    data: Literal["mnist", "frey", "drawn-faces"] = "mnist"
    """which images"""
    pixels: Literal["dynamic", "grey"] = "dynamic"
    """dynamic binarisation, or grey levels in [0, 1]"""
    model: Literal["vae", "autoencoder"] = "vae"
    """a VAE, or the deterministic autoencoder of the same nets"""
    likelihood: LikelihoodName = "bernoulli"
    """p(x | z)"""
    x_var: float = 0.05
    """decoder variance of ``gaussian``, starting value of ``gaussian_learned``; squared pixel units"""
    min_x_var: float = 0.0
    """floor of the variance of ``gaussian_per_pixel``; squared pixel units"""
    z_dim: int = 20
    """latent dimensions"""
    h_dims: tuple[int, ...] = (300, 300)
    """hidden layers of the encoder; the decoder mirrors them"""
    activation: str = "elu"
    """elu, relu, softplus or tanh"""
    beta: float = 1.0
    """weight of the KL in the loss"""
    lr: float = 1e-3
    """Adam's step size"""
    batch_size: int = 100
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 60, quick 3,000, full 20,000"""
    bf16: bool = False
    """matrix products in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def load(config: M1Config) -> Images:
    """The images a configuration names."""
    return IMAGE_SETS[config.data]()


def build(config: M1Config) -> VAE | Autoencoder:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for a width, variance or activation out of range (from the parts).
    """
    likelihood = choose_likelihood(config.likelihood, x_var=config.x_var, min_x_var=config.min_x_var)
    x_dim = 784 if config.data == "mnist" else 560
    code_dim = 2 * config.z_dim if config.model == "vae" else config.z_dim
    prior = StandardNormal(config.z_dim)
    encoder = MLP(x_dim, config.h_dims, code_dim, activation=config.activation)
    decoder = MLP(config.z_dim, config.h_dims[::-1], x_dim * likelihood.n_params, activation=config.activation)
    if config.model == "autoencoder":
        return Autoencoder(encoder, decoder, likelihood, z_dim=config.z_dim)
    return VAE(encoder, decoder, likelihood, prior)


def run(
    config: M1Config,
    *,
    seed: int,
    budget: Budget | None = None,
    images: Images | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train one model and measure it on the test set.

    Args:
        config: the settings. seed: of weights, order and noise. budget: None for `Budget.current`.
        images: data already loaded; None loads what the config names.
        keeping: see `experiments.run.Keeping`.

    Returns:
        a `Run` with metrics, nats per example, maximised: ``test_elbo_bound``, ``test_log_px`` (the
        reconstruction term), ``test_kl``, ``train_*`` likewise, ``test_iwae_{m}`` and
        ``test_importance_log_px`` with ``..._standard_error``, ``..._monte_carlo_error`` and
        ``..._median_ess``; ``active_units``. A deterministic autoencoder has the reconstruction terms only.
    """
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=60, quick=3000, full=20_000))
    images = load(config) if images is None else images
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    batches = Batches(
        images.x_train, batch_size=config.batch_size, seed=seed, transform=PIXELS[config.pixels], device=device
    )
    objective = objective_of(config)
    x_test, x_train = (fixed_pixels(x, config.pixels).to(device) for x in (images.x_test, images.x_train))
    if budget is Budget.SMOKE:
        x_test, x_train = x_test[:200], x_train[:200]

    x_curve = x_test[: budget.pick(smoke=200, quick=2000, full=10_000)]

    def evaluate(model: Any) -> dict[str, float]:
        return {f"test_{name}": value.mean for name, value in evaluate_terms(model, x_curve, objective).items()}

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        metrics = {
            f"{split}_{name}": value.mean
            for split, x in (("test", x_test), ("train", x_train))
            for name, value in evaluate_terms(model, x, objective).items()
            if name != "loss"
        }
        metrics["active_units"] = active_units(model, x_test)
        if config.model == "vae":
            n_samples = budget.pick(smoke=10, quick=200, full=1000)
            metrics.update(
                importance_metrics(model, x_test[: budget.pick(smoke=50, quick=1000, full=10_000)], n_samples)
            )
        return metrics

    return train(
        "m1",
        config,
        model,
        batches,
        objective,
        seed=seed,
        budget=budget,
        data=f"{images.source}; {PIXELS_IN_WORDS[config.pixels]}",
        measure=measure,
        evaluate=evaluate,
        **keeping,
    )


PIXELS_IN_WORDS = {"dynamic": "dynamic binarisation, test set binarised once by seed 0", "grey": "grey levels"}


def objective_of(config: M1Config) -> Any:
    """The objective a configuration trains."""
    if config.model == "autoencoder":
        return objectives.reconstruction
    return partial(objectives.elbo, beta=config.beta)


def fixed_pixels(x: Tensor, pixels: str) -> Tensor:
    """Test pixels: grey, or binarised once by seed 0 without touching the global random state; uint8 -> float."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PIXELS[pixels](x)


def importance_metrics(model: VAE, x: Tensor, n_samples: int) -> dict[str, float]:
    """Importance-sampled log p(x) and the IWAE bounds below it, as named metrics."""
    bounds = [m for m in (1, 10, 100) if n_samples % m == 0 and m < n_samples]
    result = importance_log_px(model, x, n_samples=n_samples, bounds=bounds)
    name = "test_importance_log_px"
    return {
        **{f"test_iwae_{m}": values.mean().item() for m, values in result.iwae_bounds.items()},
        name: result.mean.mean,
        f"{name}_standard_error": result.mean.standard_error,
        f"{name}_monte_carlo_error": result.monte_carlo_error,
        f"{name}_median_ess": result.median_ess,
        f"{name}_n_samples": n_samples,
        f"{name}_n_images": len(x),
    }
