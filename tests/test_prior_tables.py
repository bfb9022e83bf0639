"""Tables of notebooks 06, 11 and 12: the released numbers, in the right rows, beside the published ones."""

import pandas as pd
import pytest
import torch

from vae_helpers.experiments import gmvae
from vae_helpers.experiments.bound_tables import BURDA, SHEET, hidden_nats, sheet_table, trained_table
from vae_helpers.experiments.cluster_tables import cluster_table, digits_in_clusters, stage_table
from vae_helpers.experiments.gmvae import GMVAEConfig
from vae_helpers.experiments.prior_tables import (
    PUBLISHED,
    behind_published,
    negative_terms,
    prior_table,
    published_table,
)
from vae_helpers.experiments.tables import load_table


def test_losses_are_the_terms_with_the_other_sign():
    table = load_table("m1/by_k")
    losses = negative_terms(table)
    assert (losses["NELBO"] == -table["test_elbo_bound"]).all()
    assert (losses["REC"] == -table["test_log_px"]).all()
    assert (losses["−log p(x)"] == -table["test_importance_log_px"]).all()
    without = negative_terms(table.drop(columns="test_importance_log_px"))
    assert "−log p(x)" not in without


def test_a_row_per_prior_has_the_mean_over_its_seeds():
    tables = {"one": load_table("m1/by_k").query("n_components == 1"), "vamp": load_table("m1/vamp")}
    table = prior_table(tables)
    assert list(table.index) == ["one", "vamp"]
    for name, runs in tables.items():
        assert table.loc[name, "NELBO"].startswith(f"{-runs['test_elbo_bound'].mean():.2f} ± ")
        assert table.loc[name, "n"] == len(runs)


@pytest.mark.parametrize(("name", "setting"), [("m1/by_z", "z_dim"), ("m1/by_k", "n_components")])
def test_published_numbers_stand_in_the_row_of_their_setting(name, setting):
    runs = load_table(name).sample(frac=1, random_state=0)  # the order of the runs does not matter
    table = published_table(runs, setting)
    assert list(table.index) == sorted(PUBLISHED[setting])
    assert list(table)[:4] == ["NELBO", "NELBO, published", "REC", "REC, published"]
    behind = behind_published(runs, setting)
    for value, (nelbo, rec) in PUBLISHED[setting].items():
        assert table.loc[value, "NELBO, published"] == f"{nelbo:.2f}"
        assert table.loc[value, "REC, published"] == f"{rec:.2f}"
        ours = -runs[runs[setting] == value]["test_elbo_bound"].mean()
        assert behind.loc[value, "behind"] == pytest.approx(ours - nelbo)


def test_the_homework_sheet_stands_below_our_rows_of_the_same_prior():
    runs = load_table("m1/bounds_z10")
    table = sheet_table(runs)
    assert table.loc[("500 Gaussians", "homework sheet"), "1,000 samples"] == f"{SHEET['mixture'][-1]:.2f}"
    ours = -runs.query("prior == 'standard'")["test_iwae_10"].mean()
    assert table.loc[("N(0, I)", "ours"), "10 samples"].startswith(f"{ours:.2f} ± ")
    hidden = runs["test_importance_log_px"] - runs["test_iwae_1"]
    assert hidden_nats(runs)["N(0, I)"] == pytest.approx(hidden[runs["prior"] == "standard"].mean())


def test_models_trained_with_several_samples_stand_beside_those_of_burda():
    runs = pd.concat([load_table("m1/iwae"), load_table("m1/iwae_50")])
    table = trained_table(runs)
    assert [k for k, _ in table.index] == [1, 5, 50]
    for (k, _), row in table.iterrows():
        assert row["Burda et al., 3,280 passes"] == f"{BURDA[k][0]:.2f}, {BURDA[k][1]} active"
        ours = -runs[runs["n_samples"] == k]["test_elbo_bound"].mean()
        assert float(row["NELBO (1 sample)"].split(" ± ")[0]) == pytest.approx(ours, abs=0.006)


def test_recipes_of_clusters_are_named_in_words():
    random, codes = load_table("gmvae/from_random"), load_table("gmvae/from_codes")
    table = cluster_table(pd.concat([random.assign(views="same"), codes]))
    assert table.loc[("random weights", "the image itself"), "accuracy, %"].startswith(
        f"{random['test_accuracy_percent'].mean():.1f} ± "
    )
    assert len(table) == 3
    stages = stage_table(pd.concat([random, codes]))  # a run from random weights has no stages
    assert len(stages) == 2
    assert stages.index.str.startswith("codes of a VAE").all()


def test_the_table_of_digits_and_clusters_is_sorted_by_digit_and_its_columns_sum_to_one():
    model = gmvae.build(GMVAEConfig(n_components=12)).eval()
    y = torch.arange(10).repeat(20)
    with torch.no_grad():  # a classifier that reads one pixel: digit d has cluster 11 - d
        model.net = torch.nn.Linear(784, 12, bias=False)
        model.net.weight.zero_()
        for digit in range(10):
            model.net.weight[11 - digit, digit] = 1
    table = digits_in_clusters(model, torch.eye(784)[y], y)
    assert list(table.index[:10]) == [f"k = {11 - digit}: named {digit}" for digit in range(10)]
    assert sorted(table.index[10:]) == ["k = 0: empty", "k = 1: empty"]
    assert table.to_numpy()[:10].diagonal().tolist() == [1.0] * 10
    assert table.sum().tolist() == [1.0] * 10


def test_a_cluster_whose_name_is_not_its_most_frequent_digit_says_both():
    model = gmvae.build(GMVAEConfig()).eval()
    with torch.no_grad():  # a classifier that reads one pixel: image d has cluster d
        model.net = torch.nn.Linear(784, 10, bias=False)
        model.net.weight.copy_(torch.eye(784)[:10])
    image = torch.tensor([0] * 9 + [1] * 6 + [9])  # two clusters hold ones; the second is left with the name 9
    y = torch.tensor([1] * 9 + [1] * 5 + [9] + [0])
    table = digits_in_clusters(model, torch.eye(784)[image], y)
    assert {"k = 0: named 1", "k = 1: named 9, mostly 1", "k = 9: named 0"} <= set(table.index)
