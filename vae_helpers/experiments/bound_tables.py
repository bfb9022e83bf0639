"""Tables of study ``m1`` about bounds with several samples (notebook 11), beside published numbers."""

from __future__ import annotations

import pandas as pd

from vae_helpers.experiments.prior_tables import negative_terms
from vae_helpers.experiments.tables import means

BOUNDS = {1: "test_iwae_1", 10: "test_iwae_10", 100: "test_iwae_100", 1000: "test_importance_log_px"}
PRIORS = {"standard": "N(0, I)", "mixture": "500 Gaussians"}
SHEET = {  # negative bounds with 1, 10, 100, 1,000 samples, 10 latents: the homework sheet of Stanford's CS236
    "standard": (99.83, 97.13, 96.10, 95.62),
    "mixture": (97.22, 94.74, 93.80, 93.38),
}
BURDA = {1: (86.76, 19), 5: (85.54, 22), 50: (84.78, 25)}  # trained with k samples: −log p(x), active units


def sheet_table(table: pd.DataFrame) -> pd.DataFrame:
    """Negative bounds with 1, 10, 100 and 1,000 samples of two priors, ours and the homework sheet's; nats per digit.

    Args:
        table: runs of study ``m1`` with priors ``standard`` and ``mixture``.

    Returns:
        texts, mean ± sd over seeds, with n.
    """
    columns = {f"{k:,} sample{'s' * (k > 1)}": column for k, column in BOUNDS.items()}
    negative = table.assign(**{heading: -table[column] for heading, column in columns.items()})
    ours = means(negative, {heading: heading for heading in columns}, by=["prior"])
    rows = {}
    for prior, name in PRIORS.items():
        rows[name, "ours"] = ours.loc[prior].to_dict()
        rows[name, "homework sheet"] = dict(zip(columns, map("{:.2f}".format, SHEET[prior]), strict=True)) | {"n": 1}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["prior", "who"])


def hidden_nats(table: pd.DataFrame) -> pd.Series:
    """By how many nats the bound with 1,000 samples is above the ELBO, mean over seeds, per prior."""
    gain = (table[BOUNDS[1000]] - table[BOUNDS[1]]).groupby(table["prior"]).mean()
    return gain.rename(index=PRIORS)


def trained_table(table: pd.DataFrame) -> pd.DataFrame:
    """Models trained with k samples: NELBO, −log p(x) and active latents, beside those of Burda et al. (2016, table 1).

    Args:
        table: runs of study ``m1`` with ``n_samples`` 1, 5 or 50.

    Returns:
        texts, one row per k and number of steps; mean ± sd over seeds, with n. Published numbers stand once per k.
    """
    columns = {
        "NELBO": "NELBO (1 sample)",
        "−log p(x)": "−log p(x), 1,000 samples",
        "active_units": "active latents:.0f",
    }
    runs = negative_terms(table).assign(steps=table["steps"].map("{:,}".format))
    shown = means(runs, columns, by=["n_samples", "steps"]).rename_axis(["samples in training", "steps"])
    published = {k: f"{nats:.2f}, {active} active" for k, (nats, active) in BURDA.items()}
    shown["Burda et al., 3,280 passes"] = [published.pop(k, "") for k, _ in shown.index]  # trained far longer than ours
    return shown
