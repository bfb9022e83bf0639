"""Study ``supervised``: encoder and decoder of dSprites taught apart by the true factors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import FactorBatches, FactorCode, FactorImages
from vae_helpers.experiments import sprites
from vae_helpers.experiments.run import Keeping, Run, check_choices, train
from vae_helpers.models import VAE
from vae_helpers.objectives import Terms
from vae_helpers.priors import SmoothedUniform
from vae_helpers.training import Budget, GradientStep, pick_device


@dataclass(frozen=True)
class SupervisedConfig:
    """Settings of one supervised model."""

    code: sprites.CodeName = "line"
    """orientation as one latent from -0.9 to 0.9, or as two on a circle"""
    source: sprites.Source = "rendered"
    """images drawn by the formula, or the official file"""
    lr: float = 1e-3
    """Adam's step size"""
    decay: bool = True
    """let the step size fall linearly to zero over the second half of the steps"""
    batch_size: int = 64
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 10, quick 800, full 20,000"""
    bf16: bool = False
    """convolutions in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def build(config: SupervisedConfig) -> VAE:
    """An untrained model; its weights come from torch's global generator.

    Its prior is the uniform of the scaled factors, which supervised learning does not use, and its posterior has the
    write-up's standard deviation of 1e-4 / 3.
    """
    check_choices(config)
    z_dim = sprites.CODES[config.code].z_dim
    return sprites.build_vae(SmoothedUniform(z_dim), torch.full((z_dim,), sprites.TINY_SD))


class WithCode(NamedTuple):
    """A batch of images with their true codes: x (B, D), z (B, Z)."""

    x: Tensor
    z: Tensor


class CodeBatches(FactorBatches):
    """`FactorBatches` whose factors come as codes."""

    def __init__(self, code: FactorCode, images: FactorImages, **options: Any) -> None:
        super().__init__(images, **options)
        self.code = code

    def take(self, index: Tensor) -> WithCode:  # type: ignore[override]
        """The images at grid positions ``index`` (B,), with their codes."""
        x, classes = super().take(index)
        return WithCode(x, self.code.of(classes))


def objective(model: VAE, batch: WithCode) -> Terms:
    """`objectives.supervised` of a batch."""
    return objectives.supervised(model, *batch)


def run(
    config: SupervisedConfig,
    *,
    seed: int,
    budget: Budget | None = None,
    images: FactorImages | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train one model on images of all factors, and measure it on independent draws of the same images.

    Args:
        config: the settings. seed: of weights and draws. budget: None for `Budget.current`.
        images: data already opened; None opens what the config names. keeping: see `experiments.run.Keeping`.

    Returns:
        a `Run` with the metrics of `sprites.measure_codes` and `sprites.measure_metrics`.

    Raises:
        ValueError: for a setting out of range. DataError: if the official file is wanted and cannot be had.
    """
    check_choices(config)
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=10, quick=800, full=20_000))
    images = sprites.images_of(config.source) if images is None else images
    code, device = sprites.CODES[config.code], pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    classes = sprites.draw(images, budget.pick(smoke=100, quick=2000, full=20_000), seed=seed, device=device)

    def measure(model: Any) -> dict[str, float]:
        metrics = sprites.measure_codes(model, code, images, classes)
        return metrics | sprites.measure_metrics(model, images, seed=seed, budget=budget, device=device)

    def evaluate(model: Any) -> dict[str, float]:
        return sprites.measure_codes(model, code, images, classes[: budget.pick(smoke=100, quick=500, full=2000)])

    return train(
        "supervised",
        config,
        model,
        CodeBatches(code, images, batch_size=config.batch_size, seed=seed, device=device),
        update=GradientStep(
            model,
            objective,
            lr=config.lr,
            bf16=config.bf16,
            compiled=config.compiled,
            decay_steps=config.steps if config.decay else 0,
        ),
        seed=seed,
        budget=budget,
        data=images.source,
        measure=measure,
        evaluate=evaluate,
        **keeping,
    )
