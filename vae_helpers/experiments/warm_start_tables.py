"""Tables of studies ``supervised`` and ``warm_start`` (notebook 07): errors of a code, the parts of a loss, scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vae_helpers.data.dsprites import SHAPES
from vae_helpers.experiments.released import Released
from vae_helpers.experiments.tables import means, spread_text

CODES = {
    "true_code": "true code",
    "mended_code": "mean with the true orientation",
    "mean_code": "mean of q(z | x)",
}
NEGATIVE = {
    "start_test_log_px": "at the start",
    "test_log_px": "after 2,000 steps",
    "true_code_log_px": "of true codes",
}
SIGMAS = {
    "tiny": "fixed, 0.0001 / 3",
    "mle": "fixed, errors of the supervised means",
    "two_steps": "fixed, two grid steps",
    "learned": "learned",
}
KEPT = ("shape", "scale", "x", "y")
METRICS = {
    "factor_vae": "FactorVAE score",
    "one_factor_varied": "one factor varied",
    "beta_vae": "BetaVAE score",
    "mig": "MIG",
    "modularity": "modularity",
    "sap": "SAP",
    "dci_disentanglement": "DCI disentanglement",
    "explicitness": "explicitness",
}


def error_table(released: Released, latents: tuple[str, ...]) -> pd.DataFrame:
    """The root mean squared error of each supervised latent, in units of the code, mean ± sd over seeds."""
    metrics = released.card["metrics"]
    rows = {name: spread_text(metrics[f"rmse_{name}"]["mean"], _sd(metrics[f"rmse_{name}"]), ".4f") for name in latents}
    return pd.Series(rows, name="error of the mean").to_frame()


def code_table(released: Released) -> pd.DataFrame:
    """−log p(x | z) in nats per image of four codes of the same images: rows codes, columns shapes and all of them."""
    metrics = released.card["metrics"]
    rows = {}
    for code, name in CODES.items():
        each = {shape: -metrics[f"{code}_log_px_{shape}"]["mean"] for shape in SHAPES}
        rows[name] = {**each, "all": -metrics[f"{code}_log_px"]["mean"]}
    rows["sample of q(z | x)"] = {"all": -metrics["test_log_px"]["mean"]}
    return pd.DataFrame.from_dict(rows, orient="index")


def reconstruction_table(table: pd.DataFrame, *, by: Mapping[str, str]) -> pd.DataFrame:
    """−log p(x | z) before and after the unsupervised training, KL, and the worst direct R² of shape, scale, x and y.

    Args:
        table: runs of study ``warm_start``. by: setting -> its heading.

    Returns:
        texts, mean ± sd over seeds, with n. Direct R² takes a latent as it is for its factor: 1 - mse / variance.
    """
    columns = {name: f"−log p(x | z) {heading}:.0f" for name, heading in NEGATIVE.items()}
    columns |= {"test_kl": "KL, nats:.0f", "worst": "worst direct R²:.2f", "mig": "MIG:.2f"}
    worst = table[[f"direct_r2_{name}" for name in KEPT]].min(axis=1)
    needed = table[[*by, *NEGATIVE, "test_kl", "mig"]].copy()
    turned = needed.assign(**{name: -needed[name] for name in NEGATIVE}, worst=worst).replace(SIGMAS)
    return means(turned.rename(columns=by), columns, by=list(by.values()))


def metric_table(runs: Mapping[str, pd.DataFrame], best: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Eight disentanglement scores of some runs, mean ± sd over seeds, above the scores of given codes.

    Args:
        runs: heading of a row -> its runs. best: heading of a row -> scores of a code; a dash where there is none.
    """
    rows = {}
    for name, table in runs.items():
        row = {heading: spread_text(table[key].mean(), table[key].std(), ".2f") for key, heading in METRICS.items()}
        rows[name] = {**row, "n": str(len(table))}
    for name, scores in best.items():
        rows[name] = {head: spread_text(scores.get(key, np.nan), np.nan, ".2f") for key, head in METRICS.items()} | {
            "n": "–"
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _sd(metric: Mapping[str, float | None]) -> float:
    return np.nan if metric["sd"] is None else float(metric["sd"])
