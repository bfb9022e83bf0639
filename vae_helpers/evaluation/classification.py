"""How well a model classifies, and what a classifier can read from its code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_helpers.distributions import sample_normal
from vae_helpers.models import ADGM, Classifier


@dataclass(frozen=True)
class Accuracy:
    """Share of examples classified rightly.

    Args:
        percent: 0 to 100. standard_error: of ``percent``, binomial, from n being finite. n: examples.
    """

    percent: float
    standard_error: float
    n: int

    @classmethod
    def of(cls, right: Tensor) -> Accuracy:
        """From one boolean per example, (N,)."""
        n, share = len(right), right.double().mean().item()
        return cls(100 * share, 100 * math.sqrt(share * (1 - share) / n), n)

    def __str__(self) -> str:
        return f"{self.percent:.2f} ± {self.standard_error:.2f} %"


@torch.inference_mode()
def class_probs(model: Classifier, x: Tensor, *, n_samples: int = 20, batch_size: int = 2000) -> Tensor:
    """q(y | x); for an `ADGM` the mean of q(y | a, x) over draws of a.

    Args:
        model: in evaluation mode. x: (N, D) float. n_samples: draws of a, >= 1. batch_size: examples at once.

    Returns:
        (N, K), rows sum to 1.

    Raises:
        ValueError: if the model is in training mode, x is empty or ``n_samples`` < 1.
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() before measuring it")
    if len(x) == 0 or n_samples < 1:
        raise ValueError(f"class_probs needs examples and at least one sample, got {len(x)} and {n_samples}")
    return torch.cat([_probs(model, chunk, n_samples) for chunk in x.split(batch_size)])


def _probs(model: Classifier, x: Tensor, n_samples: int) -> Tensor:
    if not isinstance(model, ADGM):
        return model.classify(x).softmax(-1)
    a_mu, a_logvar = model.encode_a(x)
    total = x.new_zeros(len(x), model.n_classes)
    for _ in range(n_samples):
        a = sample_normal(a_mu, a_logvar)
        total += model.classify(model.with_auxiliary(x, a)).softmax(-1)
    return total / n_samples


def accuracy(model: Classifier, x: Tensor, y: Tensor) -> Accuracy:
    """Share of examples whose most probable class is the label.

    Args:
        model: in evaluation mode. x: (N, D) float. y: (N,) int64.

    Returns:
        an `Accuracy`.

    Raises:
        ValueError: as `class_probs`, or for labels that are not one an example.
    """
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must hold one label an example, ({len(x)},); got shape {tuple(y.shape)}")
    return Accuracy.of(class_probs(model, x).argmax(-1) == y.to(x.device))


def probe_accuracy(code: Tensor, y: Tensor, *, n_train: int, seed: int = 0) -> Accuracy:
    """Accuracy of a linear classifier (logistic regression) that reads labels from codes.

    Args:
        code: (N, Z). y: labels, (N,) int64. n_train: so many examples fit the probe, the rest measure it. seed: of the
            draw of these examples: data sets have an order (the halves of MNIST's test set are by other writers).

    Returns:
        an `Accuracy` on the N - n_train others.

    Raises:
        ValueError: if ``n_train`` leaves no example on one of the two sides.

    Source: Alain & Bengio 2017 (linear probes).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not 0 < n_train < len(code):
        raise ValueError(f"n_train must be between 1 and {len(code) - 1}, got {n_train}")
    order = torch.randperm(len(code), generator=torch.Generator().manual_seed(seed))
    features, labels = code.detach().cpu()[order].numpy(), y.cpu()[order].numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(features[:n_train], labels[:n_train])
    return Accuracy.of(torch.from_numpy(probe.predict(features[n_train:]) == labels[n_train:]))
