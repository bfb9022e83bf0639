"""The SAP score: how much better the best latent alone predicts a factor than the second best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid
from vae_helpers.evaluation.disentanglement.codes import Counted, Score, counted, mean_error, split_point


@dataclass(frozen=True)
class Separation(Score):
    """The separated attribute predictability.

    Args:
        score: mean gap over factors. standard_error: of ``score``, from the number of test examples with the
            classifiers as they are; not in it is the choice of the two best latents, made on the same examples.
        gaps: per factor, (F,). scores: of each latent alone, (Z, F): test accuracy, or R^2 if ordered.
        best: the best latent of each factor, (F,) int64. names: of the F factors counted.
    """

    gaps: Tensor
    scores: Tensor
    best: Tensor
    names: tuple[str, ...]


def sap(
    codes: Tensor, classes: Tensor, grid: FactorGrid, *, n_train: int = 10_000, ordered: bool = False
) -> Separation:
    r"""SAP, :math:`\frac1F\sum_f S_{(1)f} - S_{(2)f}`, with :math:`S_{jf}` how well latent j alone predicts factor f.

    It tells whether one latent predicts a factor and no second one does. It cannot reach 1 with classifiers: the second
    best never falls below chance, and a line through one latent finds few of many ordered values, so the score depends
    on the code's units and stays small (a perfect dSprites code: about .25).

    Choices: as disentanglement_lib, a linear SVM, one class against the rest, with C = 0.01 and balanced class
    weights, on each latent as it is. ``ordered`` takes the squared correlation with the factor's value instead (its
    option for continuous factors, there on the training examples), which knows no units; a latent that never moves
    scores 0.

    Args:
        codes: (N, Z), Z >= 2. classes: (N, F) int64. grid: the factors. n_train: the first so many fit, the rest test.
        ordered: score by the squared correlation on the test examples.

    Returns:
        a `Separation`.

    Raises:
        ValueError: as `counted`; for an ``n_train`` that leaves fewer than two examples on one side, or a factor that
            shows one value only on one side.

    Source: Kumar, Sattigeri & Balakrishnan 2018, section 3 (SAP score); details of Locatello et al. 2019.
    """
    sample = counted(codes, classes, grid, latents=2)
    split_point(sample, n_train)
    summands = _explained(sample, n_train) if ordered else _right(sample, n_train)
    scores = summands.mean(0)
    (first, second), order = scores.topk(2, dim=0)
    factors = torch.arange(len(sample.names))
    difference = summands[:, order[0], factors] - summands[:, order[1], factors]
    gaps = first - second
    return Separation(gaps.mean().item(), mean_error(difference.mean(1)), gaps, scores, order[0], sample.names)


def _right(sample: Counted, n_train: int) -> Tensor:
    """Whether latent j's own classifier is right about factor f of a test example, (N_test, Z, F) float64."""
    from sklearn.svm import LinearSVC

    z, y = sample.codes.numpy(), sample.classes.numpy()
    right = torch.empty(len(z) - n_train, z.shape[1], y.shape[1], dtype=torch.float64)
    for f in range(y.shape[1]):
        for j in range(z.shape[1]):
            # in the primal form there is nothing random; a seed keeps scikit-learn off numpy's global state
            svm = LinearSVC(C=0.01, class_weight="balanced", dual=False, random_state=0)
            svm.fit(z[:n_train, j : j + 1], y[:n_train, f])
            right[:, j, f] = torch.from_numpy(svm.predict(z[n_train:, j : j + 1]) == y[n_train:, f])
    return right


def _explained(sample: Counted, n_train: int) -> Tensor:
    """Summands whose mean over test examples is the squared correlation, (N_test, Z, F) float64.

    They are its value plus the influence of each example, :math:`2 r\\,uv - r^2 (u^2 + v^2)` for standardised u and v.
    """
    z, y = sample.codes[n_train:], sample.classes[n_train:].double()
    moves = (z.amax(0) > z.amin(0))[:, None]
    u = (z - z.mean(0)) / z.std(0, correction=0).where(moves[:, 0], 1.0)
    v = (y - y.mean(0)) / y.std(0, correction=0)
    u, v = u[:, :, None], v[:, None]
    r = (u * v).mean(0)
    return torch.where(moves, r**2 + 2 * r * u * v - r**2 * (u**2 + v**2), 0.0)
