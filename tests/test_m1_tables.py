"""Tables of notebook 02: scales of codes, broken runs, bounds with more samples, cards side by side."""

import numpy as np
import pytest
import torch

from vae_helpers.experiments import load_released, m1
from vae_helpers.experiments.m1 import M1Config
from vae_helpers.experiments.m1_tables import broken_table, code_table, is_broken, ladder_table
from vae_helpers.experiments.tables import card_table
from vae_helpers.training import Budget


def test_an_autoencoder_has_no_kl_and_no_noise_and_a_vae_has_both():
    settings = {"ae": M1Config(z_dim=2, model="autoencoder", steps=5), "vae": M1Config(z_dim=2, steps=5)}
    runs = {name: m1.run(setting, seed=0, budget=Budget.SMOKE, progress=False) for name, setting in settings.items()}
    x = torch.rand(50, 784)
    table = code_table(runs, x)
    with torch.inference_mode():
        q_mu, q_logvar = runs["vae"].model.encode(x)
        sd = runs["ae"].model.encode(x).std(0).mean()
    assert np.isnan(table.loc["ae", "KL"])
    assert table.loc["ae", "noise / sd"] == 0
    assert table.loc["ae", "sd of codes"] == pytest.approx(sd.item(), rel=1e-4)
    total = (q_mu.var(0) + q_logvar.exp().mean(0)).sqrt().mean()
    assert table.loc["vae", "sd of codes"] == pytest.approx(total.item(), rel=1e-4)
    assert table.loc["vae", "noise / sd"] == pytest.approx(
        (0.5 * q_logvar).exp().median().item() / total.item(), rel=1e-4
    )
    assert table.loc["vae", "ELBO"] == runs["vae"].metrics["test_elbo_bound"]


def test_a_run_is_broken_if_a_loss_is_not_finite_or_rises_above_the_first():
    assert not is_broken(np.array([3.0, 2.0, 2.5]))
    assert is_broken(np.array([3.0, 2.0, 3.5]))
    assert is_broken(np.array([3.0, np.nan]))
    assert is_broken(np.array([np.inf]))
    assert not is_broken(np.array([3.0]))
    table = broken_table({"a": [np.array([3.0, 1.0]), np.array([3.0, 4.0]), np.array([3.0, 2.0])]})
    assert table.loc["a"].tolist() == [1, 3, 2.0]


def test_the_ladder_rises_and_repeats():
    model = load_released("m1/z2").model
    x = (torch.rand(4, 784, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    ladder = ladder_table({"z = 2": model}, x, n_samples=200)
    bounds = ladder.filter(like="sample").drop(columns="± over samples").to_numpy()[0]
    assert len(bounds) == 4
    assert (np.diff(bounds) > 0).all()
    assert list(ladder)[:2] == ["1 sample", "10 samples"]
    assert ladder.equals(ladder_table({"z = 2": model}, x, n_samples=200))
    with pytest.raises(ValueError, match="n_samples = 99"):
        ladder_table({"z = 2": model}, x, n_samples=99)


def test_cards_side_by_side_have_the_cards_numbers_and_dashes():
    table = card_table({"AE": "m1/z2_autoencoder", "VAE": "m1/z2"}, {"KL": "test_kl"})
    assert table.loc["VAE", "KL"] == load_released("m1/z2").metric("test_kl")
    assert table.loc["AE", "KL"] == "–"
    assert table.loc["VAE", "steps"] == "20,000"
    with pytest.raises(KeyError, match="test_klx"):
        card_table({"VAE": "m1/z2"}, {"KL": "test_klx"})
    with pytest.raises(KeyError, match="m1/none"):
        card_table({"VAE": "m1/none"}, {"KL": "test_kl"})
