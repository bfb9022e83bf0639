"""Tables of notebook 03: means, gains on the same draws, and what was not run."""

import pandas as pd
import pytest

from vae_helpers.experiments import load_released
from vae_helpers.experiments.m2_tables import accuracies, accuracy_table, change_table, released_accuracies

ALONE, M2 = pd.Series([70.0, 72.0, 74.0], index=[0, 1, 2]), pd.Series([90.0, 81.0, 82.0], index=[7, 0, 1])


def test_a_sweep_becomes_accuracies_by_method_labels_and_seed():
    runs = {"model": ["m2", "m2"], "n_labels": 100, "seed": [3, 5], "test_accuracy_percent": [80.0, 90.0]}
    table = pd.DataFrame(runs)
    assert accuracies(table)["m2", 100].to_dict() == {3: 80.0, 5: 90.0}


def test_gains_are_taken_on_the_draws_that_both_have():
    shown = accuracy_table({("classifier", 100): ALONE, ("m2", 100): M2})
    assert shown.loc["supervised-only", "100 labels"] == "72.0 ± 2.0 (n = 3)"
    assert shown.loc["M2", "100 labels"].endswith("; +10.5")  # of seeds 0 and 1: 11 and 10


def test_a_missing_cell_says_that_it_was_not_run():
    shown = accuracy_table({("classifier", 100): ALONE, ("classifier", 1000): ALONE, ("m2", 100): M2})
    assert shown.loc["M2", "1,000 labels"] == "not run"


def test_changes_are_compared_with_the_reference():
    shown = change_table({"as it is": M2, "without labels": ALONE}, reference="as it is")
    assert shown.loc["without labels"].iloc[1] == "-10.5 (-16.9 to -4.1)"  # t of one degree of freedom: 12.7 x 0.5
    assert shown.loc["as it is"].iloc[1] == ""
    assert shown.columns[1] == "difference to “as it is” on shared draws, points"
    with pytest.raises(KeyError):
        change_table({"a": M2}, reference="b")


def test_released_accuracies_are_the_cards_own():
    card = load_released("m2/m1_m2_n100").card
    found = released_accuracies({"M1 + M2": "m2/m1_m2_n100"})["M1 + M2"]
    assert found.to_dict() == dict(zip(card["seeds"], card["metrics"]["test_accuracy_percent"]["values"], strict=True))
    with pytest.raises(KeyError, match="m2/nothing"):
        released_accuracies({"x": "m2/nothing"})
