"""Tables of study ``conditional`` about the label (notebook 05): which nets read it, how, and guidance."""

from __future__ import annotations

import pandas as pd

from vae_helpers.experiments.tables import means, spread_text

COLUMNS = {
    "sample_accuracy_percent": "samples with the right label, %:.1f",
    "test_elbo_bound": "ELBO, nats:.1f",
    "test_kl": "KL, nats:.1f",
    "label_probe_percent": "label read from z by a probe, %:.1f",
    "swap_source_percent": "digit stays under another label, %:.1f",
}
PLACEMENTS = {"both": "encoder and decoder", "decoder": "decoder only", "encoder": "encoder only", "neither": "neither"}
WAYS = {"one_hot": "one-hot, 5 copies", "embedding": "embedding", "film": "FiLM"}
GUIDANCE = {1: "", 2: "_guided_2", 4: "_guided_4"}  # weight -> end of the metrics' names


def label_table(table: pd.DataFrame, *, by: dict[str, str]) -> pd.DataFrame:
    """One row per setting of the label: labels of samples, ELBO, KL, and how much of the label z holds.

    Args:
        table: runs of study ``conditional``. by: settings -> their headings, such as {"repeats": "copies"}.

    Returns:
        texts, mean ± sd over seeds, with n; placements and ways by their names in words.
    """
    words = {**PLACEMENTS, **WAYS}
    named = table.assign(**{key: table[key].replace(words) for key in by if table[key].dtype.kind not in "if"})
    return means(named.rename(columns=by), COLUMNS, by=list(by.values()))


def guidance_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per weight of the guidance: samples with the right label, and their Fréchet distance; mean ± sd, n.

    Args:
        table: runs of study ``conditional`` with ``label_dropout`` above 0.
    """
    rows = {}
    for weight, end in GUIDANCE.items():
        right, distance = table[f"sample_accuracy{end}_percent"], table[f"sample_frechet{end}"]
        rows[weight] = {
            "samples with the right label, %": spread_text(right.mean(), right.std(), ".1f"),
            "Fréchet distance": spread_text(distance.mean(), distance.std(), ".0f"),
            "n": len(table),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("guidance weight")
