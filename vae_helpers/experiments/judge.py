"""Study ``judge``: the classifier that reads generated digits, and whose features compare them with real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from vae_helpers import objectives
from vae_helpers.data import Images, LabelledBatches, to_grey
from vae_helpers.evaluation import accuracy
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import ImageSettings, Study
from vae_helpers.models import Classifier
from vae_helpers.nets import ConvEncoder
from vae_helpers.training import GradientStep


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(ImageSettings):
    """Settings of one classifier of grey levels or colours."""

    STUDY: ClassVar = "judge"
    STEPS: ClassVar = {"smoke": 40, "quick": 500, "full": 4000}

    filters: tuple[int, ...] = (16, 32)
    """numbers of channels of the convolutions"""
    h_dim: int = 64
    """width of the last hidden layer, which gives the features"""
    decay: bool = True
    """lower the learning rate linearly to zero over the second half of the steps"""
    batch_size: int = 128
    """number of images in a step"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 40, quick 500, full 4,000"""


def build(config: JudgeConfig) -> Classifier:
    """An untrained classifier; its ``net.hidden`` gives the features.

    Raises:
        ValueError: for filters that halve the image too often, or images without labels.
    """
    net = ConvEncoder(config.shape, config.k, channels=config.filters, h_dim=config.h_dim)
    return Classifier(net, n_classes=config.k)


def released_judge() -> Classifier:
    """The released classifier, ``judge/mnist``."""
    from vae_helpers.experiments.released import load_released

    return load_released("judge/mnist").model


def run(config: JudgeConfig, *, images: Images | None = None, **given: Unpack[Given]) -> Run:
    """Train on grey levels (or colours) with all labels, and measure accuracy on the test set.

    Args:
        config: the settings. images: data already loaded; None loads what the config names.
        given: see `experiments.job.Given`.

    Returns:
        a `Run` with metrics ``test_accuracy_percent`` and ``test_accuracy_standard_error_percent``.
    """
    job = prepare(config, images, given)
    images, device = job.data, job.device
    model = job.build(build)
    x_test, y_test = to_grey(images.x_test).to(device), images.y_test.to(device)

    def measure(model: Any) -> dict[str, float]:
        found = accuracy(model, x_test, y_test)
        return {
            "test_accuracy_percent": found.percent,
            "test_accuracy_standard_error_percent": found.standard_error,
        }

    batches = LabelledBatches(images.x_train, images.y_train, transform=to_grey, **job.stream)
    update = GradientStep(model, lambda model, batch: objectives.classification(model, *batch), **job.config.options)
    return job.train(model, batches, update, measure=measure, evaluate=measure, pixels="grey levels")


STUDY = Study(JudgeConfig, "the classifier that reads generated images", build, run)
