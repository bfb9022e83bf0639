"""What a predictor reads from all latents together: R^2 of each factor's value, and explicitness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid
from vae_helpers.evaluation.disentanglement.codes import counted, split_point

Regressor = Literal["linear", "neighbours", "random_forest"]


@dataclass(frozen=True)
class FactorR2:
    """Held-out R^2 of the regressions of each factor on all latents.

    Args:
        r2: per factor, (F,), 1 at best, about 0 (ten neighbours: -0.1) for a code that knows nothing.
        standard_error: (F,), from the number of test examples, by the delta method on the quotient.
        rmse: root of the mean squared error, (F,), on the scale [-0.9, 0.9]. names: of the F factors counted.
    """

    r2: Tensor
    standard_error: Tensor
    rmse: Tensor
    names: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean R^2 over factors."""
        return self.r2.mean().item()


@dataclass(frozen=True)
class Explicitness:
    """How well logistic regression ranks each factor's values.

    Args:
        score: mean over factors of the mean area under the curve of each value against the rest; 1 at best, 0.5 by
        chance. per_factor: (F,). names: of the F factors counted.
    """

    score: float
    per_factor: Tensor
    names: tuple[str, ...]


def factor_r2(
    codes: Tensor,
    classes: Tensor,
    grid: FactorGrid,
    *,
    n_train: int = 10_000,
    regressor: Regressor = "linear",
    seed: int = 0,
) -> FactorR2:
    r"""Test R^2 of each factor's scaled value from all latents, :math:`1 - \sum(v - \hat v)^2 / \sum(v - \bar v)^2`.

    It tells how much of a factor the code holds in a form the regression can read. It cannot tell where it is held (any
    invertible linear mixing leaves the linear R^2), and it takes values as points on a line: a factor that comes full
    circle, or has no order, gets less than it should.

    Choices: "linear" is least squares; "neighbours" the mean of the 10 nearest codes with standardised latents;
    "random_forest" 50 trees with leaves of at least 5. The mean is that of the test examples.

    Args:
        codes: (N, Z). classes: (N, F) int64. grid: the factors; values scaled by `FactorGrid.scaled`.
        n_train: the first so many fit, the rest test. regressor: see above. seed: of the forest.

    Returns:
        a `FactorR2`.

    Raises:
        ValueError: as `counted`; for an unknown regressor, an ``n_train`` that leaves fewer than two examples on one
            side (or too few for ten neighbours), or a factor that shows one value only on one side.

    Source: Eastwood & Williams 2018, section 2 (informativeness, by regression).
    """
    sample = counted(codes, classes, grid)
    split_point(sample, n_train)
    values = FactorGrid(sample.names, sample.sizes).scaled(sample.classes).double()
    model = _regressor(regressor, seed, n_train)
    model.fit(sample.codes[:n_train].numpy(), values[:n_train].numpy())
    predicted = np.asarray(model.predict(sample.codes[n_train:].numpy())).reshape(-1, len(sample.names))
    truth = values[n_train:]
    squared = (truth - torch.from_numpy(predicted)) ** 2
    spread = (truth - truth.mean(0)) ** 2
    lost = squared.mean(0) / spread.mean(0)
    influence = (squared - lost * spread) / spread.mean(0)
    error = influence.std(0) / len(truth) ** 0.5
    return FactorR2(1 - lost, error, squared.mean(0).sqrt(), sample.names)


def explicitness(codes: Tensor, classes: Tensor, grid: FactorGrid, *, n_train: int = 10_000) -> Explicitness:
    r"""Explicitness, :math:`\frac1F\sum_f \frac1{K_f}\sum_k \mathrm{AUC}(p(v_f = k \mid z))` of a logistic regression.

    It tells whether every value of every factor can be picked out linearly. It cannot tell where it is held, and it is
    generous: values in the middle of an ordered line lower it, mixing of latents does not.

    Choices: as disentanglement_lib, latents standardised by the training examples, scikit-learn's default penalty (C
    = 1), plain areas from 0.5 to 1; with 1000 iterations allowed. Values missing among the test examples are left out.

    Args:
        codes: (N, Z). classes: (N, F) int64. grid: the factors. n_train: the first so many fit, the rest test.

    Returns:
        an `Explicitness`.

    Raises:
        ValueError: as `counted`; for an ``n_train`` that leaves fewer than two examples on one side, or a factor that
            shows one value only on one side.

    Source: Ridgeway & Mozer 2018 (explicitness).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    sample = counted(codes, classes, grid)
    split_point(sample, n_train)
    z, y = _standardised(sample.codes, n_train).numpy(), sample.classes.numpy()
    areas = []
    for f in range(y.shape[1]):
        model = LogisticRegression(max_iter=1000, random_state=0).fit(z[:n_train], y[:n_train, f])
        probs = np.atleast_2d(model.predict_proba(z[n_train:]))
        seen = [
            roc_auc_score(y[n_train:, f] == value, probs[:, k])
            for k, value in enumerate(model.classes_)
            if (y[n_train:, f] == value).any()
        ]
        areas.append(float(np.mean(seen)))
    return Explicitness(float(np.mean(areas)), torch.tensor(areas), sample.names)


def _standardised(codes: Tensor, n_train: int) -> Tensor:
    sd, mean = torch.std_mean(codes[:n_train], dim=0, correction=0)
    return (codes - mean) / sd.where(sd > 0, 1.0)


def _regressor(name: Regressor, seed: int, n_train: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "linear":
        return LinearRegression()
    if name == "neighbours":
        if n_train < 10:
            raise ValueError(f"ten neighbours need n_train of at least 10, got {n_train}")
        return make_pipeline(StandardScaler(), KNeighborsRegressor(10))
    if name == "random_forest":
        return RandomForestRegressor(50, min_samples_leaf=5, random_state=seed)
    raise ValueError(f"regressor must be one of {', '.join(get_args(Regressor))}; got {name!r}")
