"""Tables of notebooks 04 and 13 say what their runs say."""

import pandas as pd
import pytest

from vae_helpers.experiments.tables import load_table, spread_text
from vae_helpers.experiments.variance_tables import (
    LIKELIHOODS,
    death_rates,
    death_table,
    label_in_z_table,
    likelihood_table,
    variance_table,
)


def test_one_row_per_variance_with_mean_spread_and_n():
    runs = load_table("conditional/x_var")
    table = variance_table(runs)
    error = runs.query("x_var == 0.1")["test_squared_error"]
    assert table.loc[0.1, "‖x − x̂‖²"] == spread_text(error.mean(), error.std(), ".1f")
    assert table["n"].tolist() == runs.groupby("x_var", sort=False).size().tolist()


def test_likelihoods_have_names_in_words():
    table = likelihood_table(load_table("conditional/likelihood"))
    assert "Gaussian, learned variance" in table.index
    assert set(table.index) <= set(LIKELIHOODS.values())


def test_death_rates_are_shares_of_runs():
    rows = [
        {
            "output": output,
            "x_var": 1.0,
            "lr": lr,
            "seed": seed,
            "dead": float(output == "relu" and lr == 0.01 and seed),
        }
        for output in ("relu", "sigmoid")
        for lr in (0.001, 0.01)
        for seed in range(2)
    ]
    table = death_rates(pd.DataFrame(rows))
    assert table.loc[("ReLU", 1.0)].tolist() == ["0 %", "50 %"]
    assert table.loc[("sigmoid", 1.0)].tolist() == ["0 %", "0 %"]
    assert list(table) == ["learning rate 0.001", "learning rate 0.01"]


def test_a_probe_has_its_spread():
    runs = load_table("conditional/x_var")
    probe = runs.query("x_var == 0.01")["label_probe_percent"]
    assert label_in_z_table(runs).loc[0.01].iloc[0] == f"{probe.mean():.0f} ± {probe.std():.0f}"


def test_dead_runs_are_counted_per_activation():
    runs = load_table("conditional/death").query("lr == 0.01")
    table, relu = death_table(runs), runs.query("output == 'relu'")
    assert table.loc["ReLU", "dead runs, %"] == f"{100 * relu['dead'].mean():.0f}"
    assert table.loc["sigmoid", "dead runs, %"] == "0"
    assert table.loc["ReLU", "n"] == len(relu)
    empty = relu["dark_pixels_percent"]
    assert table.loc["ReLU", "empty pixels, %"] == spread_text(empty.mean(), empty.std(), ".0f")


def test_a_table_without_the_columns_says_which():
    with pytest.raises(KeyError, match="test_squared_error"):
        variance_table(pd.DataFrame({"x_var": [1.0]}))
