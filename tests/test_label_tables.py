"""Tables of notebook 05 say what their runs say, in words."""

from vae_helpers.experiments.label_tables import guidance_table, label_table
from vae_helpers.experiments.tables import load_table, spread_text


def test_placements_have_names_in_words_and_the_means_of_their_runs():
    runs = load_table("conditional/placement")
    table = label_table(runs, by={"placement": "label in"})
    right = runs.query("placement == 'decoder'")["sample_accuracy_percent"]
    assert set(table.index) == {"encoder and decoder", "decoder only", "encoder only", "neither"}
    assert table.index.name == "label in"
    assert table.loc["decoder only"].iloc[0] == spread_text(right.mean(), right.std(), ".1f")


def test_numbers_of_copies_stay_numbers():
    table = label_table(load_table("conditional/repeats"), by={"repeats": "copies"})
    assert list(table.index) == [1, 5, 10, 20]


def test_guidance_has_a_row_per_weight():
    runs = load_table("conditional/label_dropout").query("label_dropout > 0")
    table = guidance_table(runs)
    plain, guided = runs["sample_accuracy_percent"], runs["sample_frechet_guided_4"]
    assert table.loc[1].iloc[0] == spread_text(plain.mean(), plain.std(), ".1f")
    assert table.loc[4].iloc[1] == spread_text(guided.mean(), guided.std(), ".0f")
    assert table["n"].tolist() == [len(runs)] * 3
