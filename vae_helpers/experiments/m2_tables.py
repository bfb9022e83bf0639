"""Tables of study ``m2`` (notebook 03): accuracies of methods and of changed settings, on the same label draws."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import pandas as pd

from vae_helpers.experiments.m2 import NAMES
from vae_helpers.experiments.released import load_released
from vae_helpers.experiments.tables import paired_difference, spread_text

METRIC = "test_accuracy_percent"
BASELINE = "classifier"  # the classifier of M2 on pixels, trained on the labelled examples alone
Key = TypeVar("Key", bound=Hashable)
Accuracies = Mapping[tuple[str, int], pd.Series]


def accuracies(table: pd.DataFrame) -> dict[tuple[str, int], pd.Series]:
    """Test accuracies of a sweep, %, by (model, number of labels): one number per label draw, indexed by its seed."""
    groups = table.set_index("seed").groupby(["model", "n_labels"], sort=False)
    return {(str(model), int(n)): group[METRIC] for (model, n), group in groups}


def released_accuracies(cards: Mapping[Key, str]) -> dict[Key, pd.Series]:
    """The same of released cards, under the keys given.

    Args:
        cards: a key of your own -> a released name such as "m2/m2_n100".

    Raises:
        KeyError: for a name that is not released, listing those that are.
    """
    found = {}
    for key, name in cards.items():
        card = load_released(name).card
        found[key] = pd.Series(card["metrics"][METRIC]["values"], index=card["seeds"], name=name)
    return found


def accuracy_table(found: Accuracies, *, baseline: str = BASELINE) -> pd.DataFrame:
    """Rows methods, columns numbers of labels: mean ± sd (n draws), and the paired gain over a method, in points.

    Args:
        found: (model, number of labels) -> accuracy by seed, %. baseline: the model whose row has no gain.

    Returns:
        a table of texts; "not run" where there is none.
    """
    rows: dict[str, dict[str, str]] = {}
    for (model, n), values in found.items():
        cell = _spread(values)
        if model != baseline and (baseline, n) in found:
            cell += f"; {paired_difference(values, found[baseline, n]).mean:+.1f}"
        rows.setdefault(NAMES.get(model, model), {})[f"{n:,} labels"] = cell
    return pd.DataFrame.from_dict(rows, orient="index").fillna("not run")


def change_table(found: Mapping[str, pd.Series], *, reference: str) -> pd.DataFrame:
    """Rows changes of a setting: accuracy, %, and the paired difference to a reference with its 95 % interval.

    Args:
        found: what was changed -> accuracy by seed, %. reference: the row that the others are compared with, on the
            label draws that both have.

    Raises:
        KeyError: if the reference is no row.
    """
    base = found[reference]
    heading = f"difference to “{reference}” on shared draws, points"
    rows = {}
    for name, values in found.items():
        difference = "" if name == reference else f"{paired_difference(values, base):+.1f}"
        rows[name] = {"accuracy, %": _spread(values), heading: difference}
    return pd.DataFrame.from_dict(rows, orient="index")


def _spread(values: pd.Series) -> str:
    return f"{spread_text(values.mean(), values.std(), '.1f')} (n = {len(values)})"
