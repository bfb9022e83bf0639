"""Tables of study ``conditional`` about the decoder variance: notebook 04 (`x_var`, likelihoods) and 13 (dead runs)."""

from __future__ import annotations

import pandas as pd

from vae_helpers.experiments.tables import means

COLUMNS = {
    "test_squared_error": "‖x − x̂‖²:.1f",
    "test_kl": "KL, nats:.1f",
    "active_units": "active latents of 100:.0f",
    "test_bits_per_dim": "−log P(x | y), bits/dim:.3f",
    "sample_accuracy_percent": "samples with the right label, %:.1f",
    "sample_frechet": "Fréchet distance of samples:.0f",
}
LIKELIHOODS = {
    "gaussian": "Gaussian, x_var = 0.1",
    "gaussian_learned": "Gaussian, learned variance",
    "gaussian_optimal": "Gaussian, closed-form variance",
    "gaussian_per_pixel": "Gaussian, variance per pixel",
    "continuous_bernoulli": "continuous Bernoulli",
    "discretised_logistic": "discretised logistic",
}
OUTPUTS = {"relu": "ReLU", "sigmoid": "sigmoid", "identity": "identity"}


def variance_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per ``x_var``: squared error, KL, active latents, bits per dimension, and how good samples are.

    Args:
        table: runs of study ``conditional``, as a sweep or `load_table` gives them.

    Returns:
        texts, mean ± sd over seeds, with n.
    """
    return means(table, COLUMNS, by=["x_var"])


def likelihood_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per likelihood, by its name in words: the bits per dimension by importance sampling and by the ELBO, the
    variance that was found, the KL, the squared error and the labels of samples; mean ± sd over seeds, with n."""
    columns = {
        "test_bits_per_dim": COLUMNS["test_bits_per_dim"],
        "test_elbo_bits_per_dim": "−ELBO, bits/dim:.3f",
        "found_x_var": "variance found:.4f",
        "test_kl": "KL, nats:.0f",
        "test_squared_error": COLUMNS["test_squared_error"],
        "sample_accuracy_percent": COLUMNS["sample_accuracy_percent"],
    }
    return means(table, columns, by=["likelihood"]).rename(index=LIKELIHOODS)


def label_in_z_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per ``x_var``: how much of the label z holds, in %; mean ± sd over seeds, with n."""
    columns = {
        "label_probe_percent": "class read from z by a probe, %:.0f",
        "swap_source_percent": "digit stays under another label, %:.0f",
    }
    return means(table, columns, by=["x_var"])


def death_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per output activation: dead runs, of how many, empty pixels and KL (mean ± sd over seeds).

    A pixel is empty if it is at most 0.001 in every reconstruction. The percentage is of the pixels that digits use.
    A run is dead if all pixels of the image are empty.
    """
    dead = table.assign(dead=100 * table["dead"], output=table["output"].replace(OUTPUTS))
    share = dead.groupby("output", sort=False)["dead"].mean().map("{:.0f}".format)
    columns = {"dark_pixels_percent": "empty pixels, %:.0f", "test_kl": "KL, nats:.2f"}
    rest = means(dead, columns, by=["output"])
    return pd.concat([share.rename("dead runs, %"), rest], axis=1)


def death_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Dead runs in % of all runs: rows output activation and ``x_var``, columns Adam's learning rate."""
    rates = table.assign(share=100 * table["dead"], output=table["output"].replace(OUTPUTS)).pivot_table(
        index=["output", "x_var"], columns="lr", values="share", sort=False
    )
    rates.columns = [f"learning rate {lr:g}" for lr in rates.columns]
    return rates.round(0).astype(int).astype(str).add(" %")
