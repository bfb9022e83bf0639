"""Tables of studies ``supervised`` and ``warm_start`` (notebook 07): errors of a code, the parts of a loss, scores."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
    rows = {name: _spread(released, f"rmse_{name}", ".4f") for name in latents}
    return pd.Series(rows, name="error of the mean").to_frame()


def code_table(released: Released) -> pd.DataFrame:
    """−log p(x | z) in nats per image of four codes of the same images, mean ± sd over seeds.

    Returns:
        texts: rows codes, columns shapes and all of them; a dash where it was not measured.
    """
    rows = {}
    for code, name in CODES.items():
        each = {shape: _spread(released, f"{code}_log_px_{shape}", ".0f", sign=-1) for shape in SHAPES}
        rows[name] = {**each, "all": _spread(released, f"{code}_log_px", ".0f", sign=-1)}
    rows["sample of q(z | x)"] = {"all": _spread(released, "test_log_px", ".0f", sign=-1)}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")


def gradient_table(table: pd.DataFrame) -> pd.DataFrame:
    """The encoder's gradient at the start and at the end of the training, mean ± sd over seeds, with n.

    Args:
        table: runs of study ``warm_start``.
    """
    rows = {}
    for name, at in (("at the start", "start"), ("at the end", "end")):
        squared, cosine = (table[f"gradient_{kind}encoder_{at}"] for kind in ("", "agreement_"))
        rows[name] = {
            "squared length": spread_text(squared.mean(), squared.std(), ".1e"),
            "cosine of two halves of the images": spread_text(cosine.mean(), cosine.std(), ".2f"),
            "n": len(table),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("gradient of the encoder")


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


def shape_table(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """−log p(x | z) of the mean code before the unsupervised training, in nats per image, by shape.

    Args:
        runs: heading of a row -> its runs of study ``warm_start``.

    Returns:
        texts, mean ± sd over seeds, with n.
    """
    columns = {f"start_mean_code_log_px_{shape}": shape for shape in SHAPES} | {"start_mean_code_log_px": "all"}
    rows = {}
    for name, table in runs.items():
        row = {heading: spread_text(-table[key].mean(), table[key].std(), ".0f") for key, heading in columns.items()}
        rows[name] = {**row, "n": len(table)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("−log p(x | z) at the start")


def factor_table(table: pd.DataFrame) -> pd.DataFrame:
    """Direct R² of each factor after the unsupervised training, a row per σ.

    Args:
        table: runs of study ``warm_start`` with the column ``sd``.

    Returns:
        texts, mean ± sd over seeds, with n.
    """
    factors = ("shape", "scale", "orientation", "x", "y")
    columns = {f"direct_r2_{name}": f"{name}:.2f" for name in factors}
    named = table[["sd", *columns]].replace(SIGMAS).rename(columns={"sd": "σ"})
    return means(named, columns, by=["σ"])


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
        rows[name] = {heading: f"{scores[key]:.2f}" for key, heading in METRICS.items() if key in scores}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")


def _spread(released: Released, metric: str, form: str, *, sign: int = 1) -> str:
    found = released.card["metrics"][metric]
    return spread_text(sign * found["mean"], math.nan if found["sd"] is None else found["sd"], form)
