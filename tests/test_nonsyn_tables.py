"""Tables and the figure of notebook 08 say what their runs say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vae_helpers.experiments.nonsyn_tables import REST, SCORES, TURNING, change_table, method_table, released_arms
from vae_helpers.experiments.tables import load_table, paired_difference
from vae_helpers.plotting import plot_mean_activations


def test_methods_have_names_and_the_means_of_their_runs():
    runs = load_table("nonsyn/methods")
    table = method_table(runs, SCORES)
    mig = runs.query("method == 'nonsyn'")["mig"]
    assert table.loc["Non-Synergistic VAE", "MIG"] == f"{mig.mean():.2f} ± {mig.std():.2f}"
    assert table.index[0] == "VAE"
    assert len(method_table(runs, REST)) == len(table) == 6
    assert len(method_table(load_table("nonsyn/turning"), TURNING)) == 3


def test_arms_are_compared_with_their_base_seed_by_seed():
    arms = released_arms()
    control = arms["two steps, nothing penalised (ω = 1)"][0]
    arm, base = arms["α = 1"]
    assert base is control
    assert (control["omega"] == 1.0).all()
    assert (arms["in one step"][1]["method"] == "vae").all()
    table = change_table(arms)
    assert table.loc["α = 1", "change of MIG"] == f"{paired_difference(arm['mig'], control['mig']):+.2f}"
    assert (table["n"] == 5).all()
    latents = paired_difference(arm["active_units"], control["active_units"])
    assert table.loc["α = 1", "change of active latents"] == f"{latents:+.2f}"


@pytest.mark.filterwarnings("error")
def test_a_change_that_is_the_same_for_every_seed_has_no_interval():
    table = change_table(released_arms())
    assert table.loc["ω = 0.8", "change of active latents"] == "-2.00 (every seed)"


def test_mean_activations_have_a_row_per_latent_and_blank_axes_for_missing_ones():
    rng = np.random.default_rng(0)
    grids = {
        "a": (["z1", "z2"], rng.normal(size=(2, 3, 4, 5, 6, 2))),
        "b": (["z3"], rng.normal(size=(2, 3, 4, 5, 6, 1))),
    }
    names = {"shapes": ["square", "heart"], "scales": [0.5, 0.8, 1.0], "angles": [0, 90, 180, 270]}
    figure = plot_mean_activations(grids, **names)
    axes = np.array(figure.axes[:12]).reshape(2, 6)
    assert axes[0, 0].get_ylabel() == "z1"
    assert not axes[1, 3].axison
    np.testing.assert_allclose(axes[0, 0].images[0].get_array(), grids["a"][1][..., 0].mean((0, 1, 2)))
    np.testing.assert_allclose(axes[0, 1].lines[1].get_ydata(), grids["a"][1][1, ..., 0].mean((1, 2, 3)))
    with pytest.raises(ValueError, match="mean codes must be"):
        plot_mean_activations(grids, **{**names, "angles": [0]})
    plt.close("all")
