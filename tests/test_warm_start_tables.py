"""Tables of notebook 07 say what the card and the runs say."""

import pytest

from vae_helpers.experiments import load_released
from vae_helpers.experiments.tables import load_table
from vae_helpers.experiments.warm_start_tables import (
    METRICS,
    code_table,
    error_table,
    factor_table,
    gradient_table,
    metric_table,
    reconstruction_table,
    shape_table,
)


@pytest.fixture(scope="module")
def released():
    return load_released("supervised/line")


def test_the_table_of_codes_has_the_cards_numbers(released):
    table, metrics = code_table(released), released.card["metrics"]
    heart, sample = metrics["true_code_log_px_heart"], metrics["test_log_px"]
    assert table.loc["true code", "heart"] == f"{-heart['mean']:.0f} ± {heart['sd']:.0f}"
    assert table.loc["sample of q(z | x)", "all"] == f"{-sample['mean']:.0f} ± {sample['sd']:.0f}"
    assert table.loc["sample of q(z | x)", "heart"] == "–"


def test_gradients_have_their_spread():
    runs = load_table("warm_start/base")
    cosine, table = runs["gradient_agreement_encoder_end"], gradient_table(runs)
    assert table.loc["at the end"].iloc[1] == f"{cosine.mean():.2f} ± {cosine.std():.2f}"
    assert table.loc["at the start", "squared length"].startswith(f"{runs['gradient_encoder_start'].mean():.1e} ±")


def test_errors_have_their_spread(released):
    found, metric = error_table(released, ("shape", "x")), released.card["metrics"]["rmse_x"]
    assert found.loc["x"].item() == f"{metric['mean']:.4f} ± {metric['sd']:.4f}"


def test_settings_have_names_in_words_and_the_worst_latent():
    runs = load_table("warm_start/sd")
    table = reconstruction_table(runs, by={"sd": "σ"})
    worst = runs.query("sd == 'learned'")[[f"direct_r2_{name}" for name in ("shape", "scale", "x", "y")]].min(axis=1)
    assert table.loc["learned", "worst direct R²"] == f"{worst.mean():.2f} ± {worst.std():.2f}"
    assert "fixed, two grid steps" in table.index


def test_each_factor_has_its_direct_r2():
    runs = load_table("warm_start/sd")
    table, shape = factor_table(runs), runs.query("sd == 'learned'")["direct_r2_shape"]
    assert table.loc["learned", "shape"] == f"{shape.mean():.2f} ± {shape.std():.2f}"
    assert len(table) == 4
    assert {"scale", "orientation", "x", "y", "n"} <= set(table)


def test_shapes_have_their_loss_at_the_start():
    runs = {name: load_table(f"warm_start/{name}") for name in ("base", "circle")}
    table, heart = shape_table(runs), -runs["circle"]["start_mean_code_log_px_heart"]
    assert table.loc["circle", "heart"] == f"{heart.mean():.0f} ± {heart.std():.0f}"
    assert list(table) == ["square", "ellipse", "heart", "all", "n"]


def test_scores_stand_above_those_of_a_code():
    runs = load_table("warm_start/base")
    table = metric_table({"after": runs}, {"true code": {"mig": 0.9}})
    assert table.loc["after", "MIG"] == f"{runs['mig'].mean():.2f} ± {runs['mig'].std():.2f}"
    assert table.loc["true code", "MIG"] == "0.90"
    assert table.loc["true code", "SAP"] == "–"
    assert list(table)[:-1] == list(METRICS.values())
    assert table["n"].tolist() == [str(len(runs)), "–"]
