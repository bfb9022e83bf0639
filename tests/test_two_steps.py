"""Updates of two optimiser steps: what each moves, against steps written out by hand."""

import copy

import pytest
import torch

from vae_helpers import objectives
from vae_helpers.data import Batches
from vae_helpers.distributions import sample_normal
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import VAE
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import CapacityStep, FactorVAEStep, GradientStep, NonSynergisticStep, WarmUpStep, fit

X = torch.bernoulli(torch.full((64, 12), 0.4), generator=torch.Generator().manual_seed(0))
LR = 1e-2


def small_vae():
    torch.manual_seed(0)
    model = VAE(MLP(12, (8,), 6), MLP(3, (8,), 12), Bernoulli(), StandardNormal(3))
    with torch.no_grad():
        model.encoder[-1].weight.mul_(3)
        model.encoder[-1].weight.view(2, 3, -1)[:, 1] *= 0.1  # one latent that knows little
    return model


def critic():
    torch.manual_seed(1)
    return MLP(3, (8,), 1)


def parameters(net):
    return [p.detach().clone() for p in net.parameters()]


def moved(before, after):
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def step(update, x, seed=5):
    torch.manual_seed(seed)
    return update(x)


def test_the_non_synergistic_step_is_adam_on_the_elbo_and_then_on_the_synergy():
    model = small_vae()
    by_hand = copy.deepcopy(model)
    update = NonSynergisticStep(model, alpha=5.0, omega=0.7, lr=LR)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=LR)
    for seed in (5, 6):
        terms = step(update, X, seed)
        torch.manual_seed(seed)
        for objective in (objectives.elbo, lambda m, x: objectives.synergy(m, x, alpha=5.0, omega=0.7)):
            optimizer.zero_grad(set_to_none=True)
            expected = objective(by_hand, X)
            expected["loss"].mean().backward()
            optimizer.step()
        assert 0 < terms["synergy_loss"].item() == pytest.approx(expected["synergy_loss"].mean().item(), rel=1e-4)
        assert terms["n_kept"].item() == 2
    torch.testing.assert_close(parameters(model), parameters(by_hand))


def test_the_second_step_moves_the_encoder_and_not_the_decoder():
    alone, both = small_vae(), small_vae()
    step(GradientStep(alone, objectives.elbo, lr=LR), X)
    step(NonSynergisticStep(both, alpha=5.0, omega=0.7, lr=LR), X)
    torch.testing.assert_close(parameters(both.decoder), parameters(alone.decoder), rtol=0, atol=0)
    assert moved(parameters(both.encoder), parameters(alone.encoder))


def test_without_a_penalty_the_second_step_still_moves_the_encoder_by_momentum():
    nets = []
    for settings in ({"alpha": 0.0, "omega": 0.7}, {"alpha": 5.0, "omega": 1.0}):
        model = small_vae()
        update = NonSynergisticStep(model, **settings, lr=LR)
        for seed in range(5):
            step(update, X, seed)
        nets.append(model)
    alone = small_vae()
    update = GradientStep(alone, objectives.elbo, lr=LR)
    for seed in range(5):
        step(update, X, seed)
    torch.testing.assert_close(parameters(nets[0]), parameters(nets[1]), rtol=0, atol=0)
    start = small_vae()
    paths = [
        sum((a - b).abs().sum() for a, b in zip(parameters(net.encoder), parameters(start.encoder), strict=True))
        for net in (nets[0], alone)
    ]
    assert 1.2 < paths[0] / paths[1] < 1.6  # sqrt(2) for a steady gradient


def test_a_discriminator_is_not_left_frozen_by_a_step_that_fails():
    discriminator = critic()
    with pytest.raises(ValueError, match="gamma"):
        FactorVAEStep(small_vae(), discriminator, gamma=-1.0)(X)
    assert all(p.requires_grad for p in discriminator.parameters())


@pytest.mark.parametrize("name", ["non_synergistic", "factor_vae", "capacity"])
def test_updates_run_in_bfloat16_and_keep_weights_in_float32(name):
    make = {
        "non_synergistic": lambda model: NonSynergisticStep(model, alpha=5.0, omega=0.7, lr=LR, bf16=True),
        "factor_vae": lambda model: FactorVAEStep(model, critic(), gamma=5.0, lr=LR, bf16=True),
        "capacity": lambda model: CapacityStep(model, gamma=10.0, capacity=5.0, rising_steps=15, lr=LR, bf16=True),
    }[name]
    model = small_vae()
    before = parameters(model)
    terms = step(make(model), X)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in terms.values())
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert moved(before, parameters(model))


def test_the_penalty_closes_the_latents_that_know_little():
    kls = []
    for alpha in (0.0, 20.0):
        model = small_vae()
        update = NonSynergisticStep(model, alpha=alpha, omega=0.7, lr=LR)
        fit(model, Batches(X, batch_size=32, seed=0), update=update, steps=60, progress=False)
        kls.append(objectives.synergy(model, X, alpha=1.0, omega=0.7)["synergy_loss"].mean().item())
    assert kls[1] < 0.2 * kls[0]


def test_factor_vae_moves_the_model_as_if_the_discriminator_were_fixed():
    model, discriminator = small_vae(), critic()
    alone = copy.deepcopy(model)
    update = FactorVAEStep(model, discriminator, gamma=30.0, discriminator_lr=LR, lr=LR)
    step(update, X)
    fixed = critic()

    def objective(m, x):
        return objectives.factor_vae(m, fixed, x, gamma=30.0)

    step(GradientStep(alone, objective, lr=LR), X[:32])
    torch.testing.assert_close(parameters(model), parameters(alone), rtol=0, atol=0)
    plain = small_vae()
    step(GradientStep(plain, objectives.elbo, lr=LR), X[:32])
    assert moved(parameters(model.encoder), parameters(plain.encoder))  # the discriminator had its say
    torch.testing.assert_close(parameters(model.decoder), parameters(plain.decoder))  # but not in the decoder


def test_factor_vae_moves_the_discriminator_by_its_own_loss_only():
    model, discriminator = small_vae(), critic()
    by_hand, optimizer_of = critic(), torch.optim.Adam
    optimizer = optimizer_of(by_hand.parameters(), lr=LR, betas=(0.5, 0.9))
    update = FactorVAEStep(model, discriminator, gamma=30.0, discriminator_lr=LR, lr=LR)
    terms = step(update, X)
    torch.manual_seed(5)
    torch.randn(32, 3)  # what the model's step drew
    with torch.no_grad():
        z, others = sample_normal(*model.encode(X)).chunk(2)
    found = objectives.discrimination(by_hand, z, objectives.permuted(others))
    found["loss"].mean().backward()
    optimizer.step()
    torch.testing.assert_close(parameters(discriminator), parameters(by_hand))
    assert terms["discriminator_loss"].item() == pytest.approx(found["loss"].mean().item())
    assert all(p.requires_grad for p in discriminator.parameters())


def test_the_discriminator_learns_to_tell_codes_that_depend_on_each_other():
    model = small_vae()
    with torch.no_grad():  # two latents that say the same
        head = model.encoder[-1].weight.view(2, 3, -1)
        head[0, 2] = head[0, 0]
        head[1] = 0
        model.encoder[-1].bias[3:] = -4
    update = FactorVAEStep(model, MLP(3, (64, 64), 1, activation="relu"), gamma=0.0, discriminator_lr=3e-3, lr=1e-9)
    torch.manual_seed(0)
    losses = [update(X)["discriminator_loss"].item() for _ in range(300)]
    assert sum(losses[:10]) / 10 > 0.65  # log 2 is guessing
    assert sum(losses[-50:]) / 50 < 0.6


def test_the_capacity_rises_in_a_line_and_stays():
    model = small_vae()
    update = CapacityStep(model, gamma=10.0, capacity=8.0, rising_steps=4, lr=1e-9)
    for capacity in (0.0, 2.0, 4.0, 6.0, 8.0, 8.0):
        terms = step(update, X)
        torch.manual_seed(5)
        expected = objectives.capacity_elbo(model, X, gamma=10.0, capacity=capacity)["loss"].mean()
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_beta_rises_in_a_line_and_stays():
    model = small_vae()
    update = WarmUpStep(model, beta=8.0, rising_steps=4, lr=1e-9)
    for beta in (0.0, 2.0, 4.0, 6.0, 8.0, 8.0):
        terms = step(update, X)
        torch.manual_seed(5)
        expected = objectives.elbo(model, X, beta=beta)["loss"].mean()
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


UPDATES = {
    "non_synergistic": lambda model: NonSynergisticStep(model, alpha=5.0, omega=0.9, lr=LR),
    "factor_vae": lambda model: FactorVAEStep(model, critic(), gamma=5.0, lr=LR),
    "capacity": lambda model: CapacityStep(model, gamma=10.0, capacity=5.0, rising_steps=15, lr=LR),
    "warm_up": lambda model: WarmUpStep(model, beta=4.0, rising_steps=15, lr=LR),
}


@pytest.mark.parametrize("make", UPDATES.values(), ids=UPDATES)
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path, make):
    def run(steps, path, resume=False):
        model = small_vae()
        torch.manual_seed(2)
        update = make(model)
        options = {"checkpoint": path, "resume": resume, "log_every": 5, "progress": False}
        history = fit(model, Batches(X, batch_size=16, seed=0), update=update, steps=steps, **options)
        return update.state_dict(), history

    whole, history = run(20, tmp_path / "whole.pt")
    run(10, tmp_path / "cut.pt")
    resumed, history_resumed = run(20, tmp_path / "cut.pt", resume=True)
    for part in whole:
        flat, again = (torch.utils._pytree.tree_leaves(state[part]) for state in (whole, resumed))
        for a, b in zip(flat, again, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    for row, again in zip(history.rows, history_resumed.rows, strict=True):
        assert {**row, "seconds": 0} == {**again, "seconds": 0}


def test_settings_out_of_range_are_refused():
    model = small_vae()
    with pytest.raises(ValueError, match="even number of examples, got 7"):
        FactorVAEStep(model, critic(), gamma=1.0)(X[:7])
    with pytest.raises(ValueError, match="discriminator_lr must be positive, got 0"):
        FactorVAEStep(model, critic(), gamma=1.0, discriminator_lr=0)
    with pytest.raises(ValueError, match="gamma must be a finite number >= 0, got -1"):
        FactorVAEStep(model, critic(), gamma=-1.0)(X)
    with pytest.raises(ValueError, match="alpha must be a finite number >= 0, got -1"):
        NonSynergisticStep(model, alpha=-1.0, omega=0.9)
    with pytest.raises(ValueError, match="omega must be above 0 and at most 1, got 2"):
        NonSynergisticStep(model, alpha=1.0, omega=2.0)
    with pytest.raises(ValueError, match="rising_steps must be at least 1, got 0"):
        CapacityStep(model, gamma=1.0, capacity=5.0, rising_steps=0)
    with pytest.raises(ValueError, match="rising_steps must be at least 1, got -3"):
        WarmUpStep(model, beta=1.0, rising_steps=-3)
    with pytest.raises(ValueError, match="beta must be a finite number >= 0, got -1"):
        WarmUpStep(model, beta=-1.0, rising_steps=3)
    with pytest.raises(ValueError, match="capacity must be a finite number >= 0, got -5"):
        CapacityStep(model, gamma=1.0, capacity=-5.0, rising_steps=10)
