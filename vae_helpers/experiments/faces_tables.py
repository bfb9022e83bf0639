"""Tables of study ``nonsyn`` on drawn portraits (notebooks 09 and 14): which factors of a face a code holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pandas as pd

from vae_helpers.data.portraits import FACTORS
from vae_helpers.experiments.tables import means, spread_text

X_DIM = 64 * 64 * 3
ARMS = {"vae": "VAE", "nonsyn": "Non-Synergistic VAE", "control": "two steps, no penalty"}
SCORES = {
    "squared_error": "squared error:.1f",
    "test_kl": "KL, nats:.1f",
    "n_kept": "latents kept:.1f",
    "factor_vae": "FactorVAE score:.2f",
    "mig": "MIG:.2f",
    "dci_disentanglement": "DCI disentanglement:.2f",
}


def words(name: str) -> str:
    """A factor's name as it is read: "hair length"."""
    return name.replace("_", " ")


def squared_error(log_px: pd.Series, *, x_var: float, x_dim: int = X_DIM) -> pd.Series:
    r"""The squared error in a Gaussian's log p(x | z), :math:`-2\sigma_x^2 (\log p + \frac D2 \log 2\pi\sigma_x^2)`.

    Args:
        log_px: nats per image. x_var: decoder variance > 0, squared pixel units. x_dim: D.

    Returns:
        summed over pixels, squared pixel units, per image.
    """
    return -2 * x_var * (log_px + 0.5 * x_dim * math.log(2 * math.pi * x_var))


def factor_r2(runs: pd.DataFrame, *, prefix: str = "sampled_r2") -> pd.DataFrame:
    """R² of each factor, one row per run: by a linear regression from a sample of the code (or another prefix).

    Args:
        runs: of study ``nonsyn`` on portraits. prefix: "sampled_r2", "r2" (from the means) or "curve_r2" (in training).

    Returns:
        columns with the factors' names in words.
    """
    return runs[[f"{prefix}_{name}" for name in FACTORS]].set_axis([words(name) for name in FACTORS], axis=1)


def arms(load: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """The released runs with and without the penalty as one table, with the column ``arm`` (keys of `ARMS`).

    Args:
        load: `load_table`, or `load_curves` for what they measured along the way.
    """
    table = pd.concat([load("nonsyn/faces"), load("nonsyn/faces_control")])
    table = table.assign(arm=table["method"].where(table["omega"] != 1.0, "control"))
    if "test_log_px" not in table:
        return table
    return table.assign(squared_error=squared_error(table["test_log_px"], x_var=0.5))


def score_table(table: pd.DataFrame) -> pd.DataFrame:
    """Squared error, KL, latents kept and disentanglement scores per arm, mean ± sd over seeds, with n."""
    named = table.assign(arm=pd.Categorical(table["arm"].map(ARMS), list(ARMS.values())))
    return means(named, SCORES, by=["arm"])


def reason_table(runs: Mapping[str, tuple[pd.DataFrame, float]], factors: list[str]) -> pd.DataFrame:
    """One row per change of the training: R² of some factors, KL and squared error, mean ± sd over seeds, with n.

    Args:
        runs: heading of a row -> (its runs, their decoder variance). factors: names in words.
    """
    rows = {}
    for name, (table, x_var) in runs.items():
        shown = factor_r2(table)[factors]
        shown["KL, nats"] = table["test_kl"]
        shown["squared error"] = squared_error(table["test_log_px"], x_var=x_var)
        forms = {"KL, nats": ".1f", "squared error": ".1f"}
        row = {key: spread_text(column.mean(), column.std(), forms.get(key, ".2f")) for key, column in shown.items()}
        rows[name] = {**row, "n": len(table)}
    return pd.DataFrame.from_dict(rows, orient="index")
