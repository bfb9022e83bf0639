"""Tables of notebooks 09 and 14 say what their runs say; curves carry their names."""

import math
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from vae_helpers.data.portraits import FACTORS
from vae_helpers.experiments.faces_tables import ARMS, arms, factor_r2, reason_table, score_table, squared_error
from vae_helpers.experiments.tables import load_curves, load_table
from vae_helpers.likelihoods import Gaussian
from vae_helpers.plotting import plot_labelled_curves


@pytest.mark.parametrize("x_var", [0.5, 0.05])
def test_the_squared_error_is_that_of_the_likelihood(x_var):
    x, x_mean = torch.rand(3, 10), torch.rand(3, 10)
    log_px = Gaussian(x_var=x_var, output="identity").log_prob(x, x_mean)
    found = squared_error(pd.Series(log_px.numpy()), x_var=x_var, x_dim=10)
    assert found.tolist() == pytest.approx(((x - x_mean) ** 2).sum(1).tolist(), rel=1e-4)


def test_arms_are_told_apart_by_method_and_omega():
    table = arms(load_table)
    assert set(table["arm"]) == set(ARMS)
    assert (table.query("arm == 'control'")["omega"] == 1.0).all()
    assert "squared_error" in table
    assert set(arms(load_curves)["arm"]) == set(ARMS)


def test_tables_have_names_in_words_and_the_means_of_their_runs():
    table = arms(load_table)
    vae = table.query("arm == 'vae'")
    assert score_table(table).loc["VAE", "MIG"] == f"{vae['mig'].mean():.2f} ± {vae['mig'].std():.2f}"
    assert list(factor_r2(vae)) == [name.replace("_", " ") for name in FACTORS]
    found = reason_table({"as above": (vae, 0.5)}, ["hair length", "smile"])
    r2, error = vae["sampled_r2_hair_length"], vae["squared_error"]
    assert found.loc["as above", "hair length"] == f"{r2.mean():.2f} ± {r2.std():.2f}"
    assert found.loc["as above", "squared error"] == f"{error.mean():.1f} ± {error.std():.1f}"


def test_curves_carry_their_names_apart_from_each_other():
    ax = plot_labelled_curves([0, 1], {"a": [0, 1], "b": [0, 1], "c": [0, 0.1], "d": [0, 0.2]}, grey=("c", "d"))
    texts = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert set(texts) == {"a", "b", "2 others"}
    low, high = ax.get_ylim()
    assert abs(texts["a"] - texts["b"]) > 0.05 * (high - low)
    assert texts["2 others"] < min(texts["a"], texts["b"])
    assert len({line.get_color() for line in ax.lines}) == 3
    assert not math.isnan(sum(texts.values()))
    plt.close("all")


def test_names_stand_in_the_order_of_the_ends_within_the_axes_and_are_joined_to_them():
    ends = {"a": 0.99, "b": 0.95, "c": 1.0, "d": 0.97, "e": 0.2, "f": 0.0}
    ax = plot_labelled_curves([5, 10], {name: [0, end] for name, end in ends.items()}, ylim=(0, 1))
    heights = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert sorted(heights, key=heights.get) == sorted(ends, key=ends.get)
    assert {text.get_text(): text.xy for text in ax.texts} == {name: (10, end) for name, end in ends.items()}
    assert all(text.arrow_patch is not None for text in ax.texts)
    apart = sorted(heights.values())
    assert min(b - a for a, b in pairwise(apart)) > 0.05
    assert 0 <= apart[0] < apart[-1] <= 1
    assert heights["e"] == pytest.approx(0.2)  # there is space, so it stands at its end
    assert ax.get_xlim()[1] == 10
    plt.close("all")


def test_more_lines_than_colours_are_refused():
    with pytest.raises(ValueError, match="11 coloured lines"):
        plot_labelled_curves([0], {str(i): [i] for i in range(11)})
