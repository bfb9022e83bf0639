"""Tables of study ``m1`` about priors (notebook 06), beside the numbers that others found by the same protocol."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vae_helpers.experiments.tables import means

NEGATIVE = {"test_elbo_bound": "NELBO", "test_log_px": "REC", "test_importance_log_px": "−log p(x)"}
HEADINGS = {
    "NELBO": "NELBO",
    "REC": "REC",
    "−log p(x)": "−log p(x), 100 samples",
    "active_units": "active latents:.0f",
}
SETTINGS = {"z_dim": "latents", "n_components": "components"}
PUBLISHED = {  # setting -> value -> NELBO and REC in nats per digit, of a blog on the homework of Stanford's CS236
    "z_dim": {
        10: (98.735, 79.388),
        20: (96.104, 71.958),
        50: (95.947, 70.720),
        100: (95.962, 70.753),
        1000: (100.170, 75.964),
    },
    "n_components": {
        1: (95.159, 71.105),
        10: (95.029, 71.681),
        100: (93.431, 70.782),
        250: (92.741, 69.881),
        500: (92.397, 69.786),
    },
}


def negative_terms(table: pd.DataFrame) -> pd.DataFrame:
    """Runs of study ``m1`` with the losses NELBO, REC and −log p(x) (nats per digit) in columns of their own."""
    return table.assign(**{new: -table[old] for old, new in NEGATIVE.items() if old in table})


def prior_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per prior: NELBO, REC and −log p(x), nats per digit; mean ± sd over seeds, with n.

    Args:
        tables: heading of a row -> the runs with that prior, a row each.
    """
    runs = pd.concat([negative_terms(table).assign(prior=name) for name, table in tables.items()])
    return means(runs, {name: HEADINGS[name] for name in NEGATIVE.values()}, by=["prior"])


def published_table(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    """One row per value of a setting: our NELBO, REC, −log p(x) and active latents, and the published NELBO and REC.

    Args:
        table: runs of study ``m1``. setting: ``"z_dim"`` or ``"n_components"``.

    Returns:
        texts, mean ± sd over seeds, with n; nats per digit.
    """
    shown = means(negative_terms(table).sort_values(setting), HEADINGS, by=[setting])
    pairs = [PUBLISHED[setting][value] for value in shown.index]
    for position, (name, values) in enumerate(zip(("NELBO", "REC"), zip(*pairs, strict=True), strict=True)):
        shown.insert(2 * position + 1, f"{name}, published", [f"{value:.2f}" for value in values])
    return shown.rename_axis(SETTINGS[setting])


def behind_published(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    """By how much our mean NELBO is above the published one, and our sd over seeds, per value of a setting; nats."""
    ours = negative_terms(table).groupby(setting)["NELBO"]
    published = pd.Series({value: nelbo for value, (nelbo, _) in PUBLISHED[setting].items()})
    return pd.DataFrame({"behind": ours.mean() - published, "sd": ours.std()}).loc[list(ours.groups)]
