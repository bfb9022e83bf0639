"""Study ``supervised``: encoder and decoder of dSprites taught apart by the true factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import FactorBatches, FactorCode, FactorImages
from vae_helpers.experiments import sprites
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import Study
from vae_helpers.models import VAE
from vae_helpers.objectives import Terms
from vae_helpers.priors import SmoothedUniform
from vae_helpers.training import GradientStep


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(sprites.CodeSettings):
    """Settings of one supervised model."""

    STUDY: ClassVar = "supervised"
    STEPS: ClassVar = {"smoke": 10, "quick": 800, "full": 20_000}

    decay: bool = True
    """lower the learning rate linearly to zero over the second half of the steps"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 10, quick 800, full 20,000"""


def build(config: SupervisedConfig) -> VAE:
    """An untrained model; its weights come from torch's global generator.

    Its prior is the uniform of the scaled factors, which supervised learning does not use, and its posterior has the
    write-up's standard deviation of 1e-4 / 3.
    """
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


def run(config: SupervisedConfig, *, images: FactorImages | None = None, **given: Unpack[Given]) -> Run:
    """Train one model on images of all factors, and measure it on independent draws of the same images.

    Args:
        config: the settings. images: data already opened; None opens what the config names.
        given: see `experiments.job.Given`.

    Returns:
        a `Run` with the metrics of `sprites.measure_codes` and `sprites.measure_metrics`.

    Raises:
        ValueError: for a setting out of range. DataError: if the official file is wanted and cannot be had.
    """
    job = prepare(config, images, given)
    images, device, code = job.data, job.device, sprites.CODES[config.code]
    model = job.build(build)
    classes = sprites.draw(images, job.pick(100, 2000, 20_000), seed=job.seed, device=device)

    def measure(model: Any) -> dict[str, float]:
        metrics = sprites.measure_codes(model, code, images, classes)
        return metrics | sprites.measure_metrics(model, images, seed=job.seed, budget=job.budget, device=device)

    def evaluate(model: Any) -> dict[str, float]:
        return sprites.measure_codes(model, code, images, classes[: job.pick(100, 500, 2000)])

    update = GradientStep(model, objective, **job.config.options)
    return job.train(
        model,
        CodeBatches(code, images, **job.stream),
        update,
        measure=measure,
        evaluate=evaluate,
    )


STUDY = Study(
    SupervisedConfig, "dSprites: encoder and decoder taught apart by the true factors (notebook 07)", build, run
)
