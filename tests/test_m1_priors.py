"""Study m1 with priors and bounds of every kind, and the average of log-densities that is no prior."""

import copy
import json
import math
from functools import partial

import pytest
import torch
from torch.distributions import Independent, Normal

from vae_helpers import objectives
from vae_helpers.data import to_grey
from vae_helpers.evaluation import evaluate_terms
from vae_helpers.experiments import m1
from vae_helpers.experiments.m1 import M1Config, MeanOfLogs, start_at_images
from vae_helpers.models import VAE
from vae_helpers.nets import MLP
from vae_helpers.priors import MixturePrior, StandardNormal, VampPrior
from vae_helpers.training import Budget

pytestmark = pytest.mark.usefixtures("on_the_cpu")
K, Z = 4, 3
WEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
TERMS = {
    *("test_elbo_bound", "test_log_px", "test_kl", "train_elbo_bound", "train_log_px", "train_kl", "active_units"),
    *("test_importance_log_px", "test_importance_log_px_standard_error", "test_importance_log_px_monte_carlo_error"),
    *("test_importance_log_px_median_ess", "test_importance_log_px_n_samples", "test_importance_log_px_n_images"),
    "test_iwae_1",
}


# ---- the average of log-densities


def mean_of_logs(seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    p_mu, p_logvar = torch.randn(2, K, Z, dtype=torch.float64, generator=generator)
    return MeanOfLogs(p_mu, p_logvar, **({"weights": WEIGHTS} | options)).double()


def test_the_average_of_log_densities_is_its_formula():
    torch.manual_seed(0)
    prior, z = mean_of_logs(), 2 * torch.randn(5, 7, Z, dtype=torch.float64)
    expected = sum(
        pi * Independent(Normal(mu, (0.5 * logvar).exp()), 1).log_prob(z)
        for pi, mu, logvar in zip(WEIGHTS, prior.p_mu, prior.p_logvar, strict=True)
    )
    torch.testing.assert_close(prior.log_prob(z), expected, rtol=1e-10, atol=1e-10)  # float64


def test_the_average_lies_below_the_mixture_everywhere():
    torch.manual_seed(0)
    z = 3 * torch.randn(2000, Z, dtype=torch.float64)
    for seed in range(5):
        prior = mean_of_logs(seed)
        gap = prior.mended().log_prob(z) - prior.log_prob(z)
        assert gap.min() > 0
        assert gap.max() > 1


def test_the_average_is_the_mixture_where_all_components_are_one():
    torch.manual_seed(0)
    z, (p_mu, p_logvar) = torch.randn(50, Z, dtype=torch.float64), torch.randn(2, 1, Z, dtype=torch.float64)
    prior = MeanOfLogs(p_mu.expand(K, Z), p_logvar.expand(K, Z), weights=WEIGHTS).double()
    one = Independent(Normal(p_mu[0], (0.5 * p_logvar[0]).exp()), 1).log_prob(z)
    torch.testing.assert_close(prior.log_prob(z), one)
    torch.testing.assert_close(prior.mended().log_prob(z), one)


def test_the_average_is_no_density():
    prior = MeanOfLogs(torch.tensor([[-2.0], [2.0]]), torch.zeros(2, 1)).double()
    z = torch.linspace(-15, 15, 3001, dtype=torch.float64)[:, None]
    # the mean of two parabolas at -2 and 2 is that of N(0, 1) less 2^2 / 2
    assert prior.log_prob(z).exp().sum().item() * 0.01 == pytest.approx(math.exp(-2), rel=1e-6)
    assert prior.mended().log_prob(z).exp().sum().item() * 0.01 == pytest.approx(1, rel=1e-6)


def test_mended_is_the_mixture_of_the_same_components_and_a_copy():
    prior, z = mean_of_logs(), torch.randn(9, Z, dtype=torch.float64)
    found = prior.mended()
    assert type(found) is MixturePrior
    expected = MixturePrior(prior.p_mu.detach(), prior.p_logvar.detach(), weights=WEIGHTS).double()
    torch.testing.assert_close(found.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(found.component_probs(z), prior.component_probs(z))
    with torch.no_grad():
        found.p_mu.add_(1)
    assert not torch.equal(found.p_mu, prior.p_mu)


def test_mended_takes_trained_weights_as_numbers():
    prior = mean_of_logs(learn_weights=True)
    with torch.no_grad():
        prior.weight_logits.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0]))
    found = prior.mended()
    torch.testing.assert_close(found.log_component_probs, prior.log_component_probs.detach())
    assert not found.log_component_probs.requires_grad
    copy.deepcopy(found)  # which torch refuses for a tensor that hangs on the graph of another


def test_mended_survives_a_component_that_training_has_emptied():
    prior = MeanOfLogs(torch.zeros(2, 1), torch.zeros(2, 1), learn_weights=True)
    with torch.no_grad():
        prior.weight_logits.copy_(torch.tensor([0.0, -200.0]))  # a weight of exactly 0 in float32
    assert torch.equal(prior.mended().log_prob(torch.zeros(3, 1)), StandardNormal(1).log_prob(torch.zeros(3, 1)))


# ---- pseudo-inputs start as images


def test_pseudo_inputs_start_as_different_images_drawn_by_the_seed():
    x = torch.randint(0, 256, (20, 6), generator=torch.Generator().manual_seed(0)).byte()
    found = []
    for seed in (0, 0, 1):
        prior = VampPrior(MLP(6, [], 4), torch.zeros(8, 6), 2)
        torch.manual_seed(seed)
        start_at_images(prior, x)
        found.append(prior.pseudo_inputs.detach().clone())
        assert prior.pseudo_inputs.requires_grad
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    known = {tuple(row.tolist()) for row in to_grey(x)}
    chosen = {tuple(row.tolist()) for row in found[0]}
    assert len(chosen) == 8
    assert chosen <= known
    every = VampPrior(MLP(6, [], 4), torch.zeros(20, 6), 2)
    start_at_images(every, x)  # as many as there are
    assert {tuple(row.tolist()) for row in every.pseudo_inputs} == known


def test_more_pseudo_inputs_than_images_raise():
    prior = VampPrior(MLP(6, [], 4), torch.zeros(8, 6), 2)
    with pytest.raises(ValueError, match=r"8 pseudo-inputs .* there are 7; lower n_components"):
        start_at_images(prior, torch.zeros(7, 6, dtype=torch.uint8))


# ---- the study


SMALL = {"z_dim": 3, "h_dims": (16,), "n_components": 5, "batch_size": 16, "steps": 4, "lr": 1e-2}


def run(images, folder=None, *, seed=0, **settings):
    config = M1Config(**(SMALL | settings))
    return m1.run(config, seed=seed, budget=Budget.SMOKE, images=images, folder=folder, progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"decay": True},
        {"bound": "iwae"},
        {"bound": "dreg", "n_samples": 3},
        {"prior": "mixture"},
        {"prior": "mixture", "learn_weights": True, "bound": "dreg", "n_samples": 2},
        {"prior": "vamp"},
        {"prior": "vamp", "learn_weights": True, "bound": "iwae", "bf16": True},
        {"prior": "mean_of_logs"},
        {"prior": "mean_of_logs", "learn_weights": True, "decay": True},
        {"prior": "mixture", "likelihood": "continuous_bernoulli", "pixels": "grey"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())) or "default",
)
def test_every_setting_trains_and_is_measured(images, tmp_path, settings):
    found = run(images, tmp_path, **settings)
    expected = TERMS | ({"test_mended_elbo_bound"} if settings.get("prior") == "mean_of_logs" else set())
    assert set(found.metrics) == expected
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert found.steps == 4
    assert json.loads((tmp_path / "run.json").read_text())["metrics"] == found.metrics
    for split in ("test", "train"):
        total = found.metrics[f"{split}_log_px"] - found.metrics[f"{split}_kl"]
        assert found.metrics[f"{split}_elbo_bound"] == pytest.approx(total, rel=1e-5)  # float32
    assert found.metrics["test_importance_log_px_n_samples"] == 10
    assert found.metrics["test_importance_log_px_n_images"] == 40
    kinds = {"standard": StandardNormal, "mixture": MixturePrior, "vamp": VampPrior, "mean_of_logs": MeanOfLogs}
    assert type(found.model.prior) is kinds[settings.get("prior", "standard")]
    names = set(torch.nn.Module.state_dict(found.model))
    assert not any("prior.encoder" in name or "_shared" in name for name in names)


def test_the_metrics_are_those_of_the_model_that_is_returned(images):
    found = run(images, prior="vamp")
    x, n = m1.fixed_pixels(images.x_test, "dynamic"), 100
    torch.manual_seed(1)
    with torch.no_grad():
        draws = objectives.elbo(found.model, x.repeat(n, 1))["elbo_bound"].view(n, 40).mean(1)
    # the metric is one draw of z for every image: one more of these means
    assert found.metrics["test_elbo_bound"] == pytest.approx(draws.mean().item(), abs=6 * draws.std().item())
    assert draws.std() < 2
    known = to_grey(images.x_train)
    distance = torch.cdist(found.model.prior.pseudo_inputs.detach(), known).amin(1)
    assert 0 < distance.max() < 28 * 4 * 1.05e-2  # four steps of Adam at 1e-2 move each of 784 pixels by 0.04 or less


def test_the_mended_bound_is_measured_with_the_nets_and_components_of_the_trained_model(images, monkeypatch):
    measured = []

    def recorded(model, x, objective, **options):
        measured.append(model)
        return evaluate_terms(model, x, objective, **options)

    monkeypatch.setattr(m1, "evaluate_terms", recorded)
    found = run(images, prior="mean_of_logs")
    mended = measured[-1]
    assert type(mended.prior) is MixturePrior
    assert mended.encoder is found.model.encoder
    assert mended.decoder is found.model.decoder
    for value, expected in zip(mended.prior.components(), found.model.prior.components(), strict=True):
        assert torch.equal(value, expected)
    x, bounds = m1.fixed_pixels(images.x_test, "dynamic").repeat(100, 1), []
    for model in (found.model, mended):
        torch.manual_seed(0)
        with torch.no_grad():
            bounds.append(objectives.elbo(model, x)["elbo_bound"])
    assert (bounds[0] < bounds[1] + 1e-3).all()  # Jensen, image by image; float32 keeps 1e-4 of 500 nats
    assert (bounds[1] - bounds[0]).mean() > 0.01
    noise = bounds[1].view(100, 40).mean(1).std().item()
    assert found.metrics["test_mended_elbo_bound"] == pytest.approx(bounds[1].mean().item(), abs=6 * noise)


def test_the_same_seed_gives_the_same_weights_and_metrics(images, tmp_path):
    settings = {"prior": "vamp", "bound": "dreg", "decay": True}
    found = [run(images, tmp_path / str(i), seed=seed, **settings).metrics for i, seed in enumerate((1, 1, 2))]
    weights = [(tmp_path / str(i) / "weights.safetensors").read_bytes() for i in range(3)]
    assert weights[0] == weights[1] != weights[2]
    assert found[0] == found[1] != found[2]


def test_validation_images_take_the_place_of_the_test_set_and_are_not_trained_on(images, monkeypatch):
    started = []

    def recorded(prior, x):
        started.append(x)
        start_at_images(prior, x)

    monkeypatch.setattr(m1, "start_at_images", recorded)
    found = run(images, validation=20, prior="vamp")
    assert "held out" in found.data
    assert torch.equal(started[0], images.x_train[:40])
    assert found.metrics["test_importance_log_px_n_images"] == 20
    assert run(images.validation(20), prior="vamp").metrics == found.metrics


@pytest.mark.parametrize(("n", "bounds"), [(0, {1}), (1, set()), (20, {1, 10}), (7, {1})])
def test_eval_samples_are_those_of_the_importance_sampling(images, n, bounds):
    found = run(images, steps=1, eval_samples=n)
    assert found.metrics["test_importance_log_px_n_samples"] == (n or 10)
    names = {name for name in found.metrics if name.startswith("test_iwae_")}
    assert names == {f"test_iwae_{m}" for m in bounds}


def test_decay_reaches_the_optimiser_with_the_number_of_steps(images, tmp_path):
    files = []
    for steps in (2, 4):
        for decay in (False, True):
            run(images, tmp_path / f"{steps}-{decay}", steps=steps, decay=decay)
            files.append((tmp_path / f"{steps}-{decay}" / "weights.safetensors").read_bytes())
    assert files[0] == files[1]  # of two steps both are taken before the second half is over
    assert files[2] != files[3]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"beta": 3.0}, partial(objectives.elbo, beta=3.0)),
        ({"bound": "iwae", "n_samples": 4}, partial(objectives.iwae, n_samples=4)),
        ({"bound": "dreg", "n_samples": 2}, partial(objectives.dreg, n_samples=2)),
    ],
    ids=["elbo", "iwae", "dreg"],
)
def test_the_objective_is_the_one_that_was_asked_for(settings, expected):
    found = m1.objective_of(M1Config(**settings))
    assert found.func is expected.func
    assert found.keywords == expected.keywords


def test_the_prior_is_the_one_that_was_asked_for():
    torch.manual_seed(0)
    for name, kind in (("mixture", MixturePrior), ("mean_of_logs", MeanOfLogs), ("vamp", VampPrior)):
        for learned in (False, True):
            model = m1.build(M1Config(**SMALL, prior=name, learn_weights=learned))
            assert isinstance(model, VAE)
            assert type(model.prior) is kind
            assert model.prior.n_components == 5
            assert ("prior.weight_logits" in dict(model.named_parameters())) == learned


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "autoencoder", "prior": "mixture"}, "prior='mixture' and bound='elbo' need model=vae"),
        ({"model": "autoencoder", "bound": "iwae"}, "prior='standard' and bound='iwae' need model=vae"),
        ({"prior": "vamp", "n_components": 61}, "61 pseudo-inputs .* there are 60; lower n_components"),
        ({"prior": "vamp", "n_components": 50, "validation": 20}, "50 pseudo-inputs .* there are 40"),
        ({"prior": "mixture", "n_components": 0}, "at least 1, got 0 and 3"),
        ({"prior": "mean_of_logs", "n_components": -1}, "at least 1, got -1 and 3"),
        ({"prior": "vamp", "n_components": 0}, "at least one component, got n_components=0"),
        ({"prior": "vamp", "n_components": -1}, "n_components.*-1"),
        ({"prior": "gaussian"}, "unknown prior 'gaussian'.*standard, mixture, mean_of_logs, vamp"),
        ({"bound": "aiwae"}, "unknown bound 'aiwae'.*elbo, iwae, dreg"),
        ({"bound": "iwae", "n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"bound": "dreg", "n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"eval_samples": -1}, "(eval|n)_samples must be .*got -1"),
        ({"validation": 60}, "between 1 and 59 for fake, got 60"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_raise_one_sentence_with_the_value(images, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        run(images, **settings)
    assert "\n" not in str(raised.value)
