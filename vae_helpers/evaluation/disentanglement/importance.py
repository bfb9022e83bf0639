"""Disentanglement, completeness and informativeness (DCI), from what predictors of the factors look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid
from vae_helpers.evaluation.disentanglement.codes import counted, mean_error, split_point

Predictor = Literal["boosted_trees", "random_forest"]


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness.

    Args:
        disentanglement: mean over latents, weighted by their importance, 0 to 1. completeness: mean over factors,
        likewise. informativeness: mean test accuracy of the predictors, 0 to 1. standard_error: of
            ``informativeness``, from the number of test examples; the other two have none without drawing again.
        importance: of each latent for each factor, (Z, F), >= 0, columns sum to 1 (or 0 where nothing helps).
        per_latent: disentanglement of each latent, (Z,). per_factor: completeness of each factor, (F,).
        accuracy: per factor, (F,). names: of the F factors counted.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    standard_error: float
    importance: Tensor
    per_latent: Tensor
    per_factor: Tensor
    accuracy: Tensor
    names: tuple[str, ...]


def dci(
    codes: Tensor,
    classes: Tensor,
    grid: FactorGrid,
    *,
    seed: int,
    n_train: int = 10_000,
    predictor: Predictor = "boosted_trees",
) -> DCI:
    r"""DCI of importances R: :math:`D = \sum_j \rho_j (1 - H_F(R_{j\cdot}/\sum_f R_{jf}))`, C likewise on columns.

    D tells whether a latent matters for one factor only, C whether a factor needs one latent only, I whether the
    factors can be read at all. It cannot tell a latent that knows nothing from one that knows what another knows
    better, since a predictor looks at the best.

    Choices: as disentanglement_lib, gradient boosted trees with scikit-learn's defaults, one classifier a factor,
    their impurity importances, entropies to the base F and Z, factors in C weighted by the sum of their column,
    accuracy on test examples for I. Eastwood & Williams use lasso and random forests and a regression error.
    "random_forest" (50 trees that see all latents, leaves of at least 5) is ten to thirty times faster and gives noise
    more of the importance: never compare the two.

    Args:
        codes: (N, Z), Z >= 2. classes: (N, F) int64. grid: the factors. seed: of the trees. n_train: the first so many
            fit, the rest test. predictor: see above.

    Returns:
        a `DCI`.

    Raises:
        ValueError: as `counted`; for fewer than two varying factors, an unknown predictor, an ``n_train`` that leaves
            fewer than two examples on one side, or a factor that shows one value only on one side.

    Source: Eastwood & Williams 2018, section 2; details of Locatello et al. 2019.
    """
    sample = counted(codes, classes, grid, factors=2, latents=2)
    split_point(sample, n_train)
    z, y = sample.codes.numpy(), sample.classes.numpy()
    importance, right = [], []
    for f in range(y.shape[1]):
        model = _predictor(predictor, seed).fit(z[:n_train], y[:n_train, f])
        importance.append(torch.from_numpy(model.feature_importances_))
        right.append(torch.from_numpy(model.predict(z[n_train:]) == y[n_train:, f]).double())
    return dci_of(torch.stack(importance, dim=1), torch.stack(right, dim=1), sample.names)


def dci_of(importance: Tensor, right: Tensor, names: tuple[str, ...]) -> DCI:
    """DCI of an importance matrix (Z, F) >= 0, with ``right`` (N, F): which test predictions were right."""
    per_latent, per_factor = _concentration(importance), _concentration(importance.T)
    total = importance.sum()
    share = importance / total if total > 0 else torch.zeros_like(importance)
    return DCI(
        disentanglement=(share.sum(1) * per_latent).sum().item(),
        completeness=(share.sum(0) * per_factor).sum().item(),
        informativeness=right.mean().item(),
        standard_error=mean_error(right.mean(1)),
        importance=importance,
        per_latent=per_latent,
        per_factor=per_factor,
        accuracy=right.mean(0),
        names=names,
    )


def _concentration(weights: Tensor) -> Tensor:
    """1 - entropy of each row to the base of its length: 1 on one entry, 0 when even; 0 for a row of zeros."""
    total = weights.sum(1, keepdim=True)
    share = torch.where(total > 0, weights / total.where(total > 0, 1.0), 1 / weights.shape[1])
    entropy = -torch.special.xlogy(share, share).sum(1)
    return (1 - entropy / math.log(weights.shape[1])).clamp(0, 1)


def _predictor(name: Predictor, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

    if name == "boosted_trees":
        return GradientBoostingClassifier(random_state=seed)
    if name == "random_forest":
        return RandomForestClassifier(50, max_features=None, min_samples_leaf=5, random_state=seed)
    raise ValueError(f"predictor must be one of {', '.join(get_args(Predictor))}; got {name!r}")
