"""Features of a released M1: what a semi-supervised method sees in place of pixels, and a support vector machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_helpers.data import PIXELS, to_grey
from vae_helpers.distributions import sample_normal
from vae_helpers.evaluation import Accuracy
from vae_helpers.experiments.run import Run
from vae_helpers.models import VAE
from vae_helpers.training import Budget, History
from vae_helpers.training.budget import describe_device

X_DIM = 784


@dataclass(frozen=True)
class View:
    """What a method sees of uint8 pixels (B, 784): pixels or the features of an M1.

    Args:
        trained: for training, with fresh binarisation (and a fresh sample of the features).
        measured: for measuring accuracy, from grey levels (and the mean of the features).
    """

    trained: Callable[[Tensor], Tensor]
    measured: Callable[[Tensor], Tensor]

    @classmethod
    def of_pixels(cls) -> View:
        """The pixels themselves, (B, 784)."""
        return cls(PIXELS["dynamic"], to_grey)

    @classmethod
    def of_features(cls, m1: VAE) -> View:
        """The codes of an M1, (B, Z); its parameters are held from now on."""
        m1.requires_grad_(False)

        def trained(x: Tensor) -> Tensor:
            return sample_normal(*m1.encode(PIXELS["dynamic"](x)))

        def measured(x: Tensor) -> Tensor:
            return m1.encode(to_grey(x))[0]

        return cls(trained, measured)


def load_m1(name: str) -> VAE:
    """The released M1 whose features are used.

    Raises:
        KeyError: for an unknown name. ValueError: for a released result that is no VAE of MNIST, or has no weights.
    """
    from vae_helpers.experiments.released import load_released

    model = load_released(name).model
    if not isinstance(model, VAE) or not model.encoder.in_dim == X_DIM:
        raise ValueError(f"m1={name!r} is no VAE of MNIST digits with released weights")
    return model


def run_svm(
    config: Any,
    view: View,
    labelled: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    seed: int,
    budget: Budget,
    data: str,
    folder: Path | None,
) -> Run:
    """Fit a support vector machine to labelled images; C is chosen by cross-validation on them alone.

    Args:
        config: an `m2.M2Config`, whose ``svm_kernel`` is used. view: of the images. labelled, test: uint8 pixels
            (N, 784) and classes (N,). seed, budget, data: go into the record. folder: where it is kept, or None.

    Returns:
        a `Run` of study ``m2``.
    """
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    began = time.perf_counter()
    with torch.inference_mode():
        features = [view.measured(x).cpu().numpy() for x in (labelled[0], test[0])]
    y_labelled, y_test = (y.cpu().numpy() for y in (labelled[1], test[1]))
    model = GridSearchCV(SVC(kernel=config.svm_kernel), {"C": [0.1, 1.0, 10.0, 100.0]}, cv=5)
    model.fit(features[0], y_labelled)
    seconds = time.perf_counter() - began
    found = Accuracy.of(torch.from_numpy(model.predict(features[1]) == y_test))
    metrics = {
        "test_accuracy_percent": found.percent,
        "test_accuracy_standard_error_percent": found.standard_error,
        "labelled_accuracy_percent": 100 * float((model.predict(features[0]) == y_labelled).mean()),
        "svm_C": float(model.best_params_["C"]),
    }
    hardware = describe_device(torch.device("cpu"))
    run = Run("m2", config, seed, budget, data, hardware, seconds, 0, metrics, model, History())
    if folder is not None:
        run.save(folder)
    return run
