"""Study ``judge``: the classifier that reads generated digits, and whose features compare them with real ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Unpack

import torch

from vae_helpers import objectives
from vae_helpers.data import Images, LabelledBatches, load_mnist, to_grey
from vae_helpers.evaluation import accuracy
from vae_helpers.experiments.run import Keeping, Run, train
from vae_helpers.models import Classifier
from vae_helpers.nets import ConvEncoder
from vae_helpers.training import Budget, GradientStep, pick_device


@dataclass(frozen=True)
class JudgeConfig:
    """Settings of one classifier of grey digits."""

    channels: tuple[int, ...] = (16, 32)
    """of the convolutions"""
    h_dim: int = 64
    """features: width of the last hidden layer"""
    lr: float = 1e-3
    """Adam's step size"""
    decay: bool = True
    """let the step size fall linearly to zero over the second half of the steps"""
    batch_size: int = 128
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 40, quick 500, full 4,000"""
    bf16: bool = False
    """matrix products in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def build(config: JudgeConfig) -> Classifier:
    """An untrained classifier; its ``net.hidden`` gives the features.

    Raises:
        ValueError: for channels that halve the image too often.
    """
    return Classifier(ConvEncoder((1, 28, 28), 10, channels=config.channels, h_dim=config.h_dim), n_classes=10)


def released_judge() -> Classifier:
    """The released classifier, ``judge/mnist``."""
    from vae_helpers.experiments.released import load_released

    return load_released("judge/mnist").model


def run(
    config: JudgeConfig,
    *,
    seed: int,
    budget: Budget | None = None,
    images: Images | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train on grey digits with all their labels, and measure accuracy on the test set.

    Args:
        config: the settings. seed: of weights and order. budget: None for `Budget.current`.
        images: data already loaded; None loads MNIST. keeping: see `experiments.run.Keeping`.

    Returns:
        a `Run` with metrics ``test_accuracy_percent`` and ``test_accuracy_standard_error_percent``.
    """
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=40, quick=500, full=4000))
    images = load_mnist() if images is None else images
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    x_test, y_test = to_grey(images.x_test).to(device), images.y_test.to(device)

    def measure(model: Any) -> dict[str, float]:
        found = accuracy(model, x_test, y_test)
        return {
            "test_accuracy_percent": found.percent,
            "test_accuracy_standard_error_percent": found.standard_error,
        }

    options: dict[str, Any] = {"seed": seed, "transform": to_grey, "device": device}
    update = GradientStep(
        model,
        lambda model, batch: objectives.classification(model, *batch),
        lr=config.lr,
        bf16=config.bf16,
        compiled=config.compiled,
        decay_steps=config.steps if config.decay else 0,
    )
    return train(
        "judge",
        config,
        model,
        LabelledBatches(images.x_train, images.y_train, batch_size=config.batch_size, **options),
        update=update,
        seed=seed,
        budget=budget,
        data=f"{images.source}; grey levels",
        measure=measure,
        evaluate=measure,
        **keeping,
    )
