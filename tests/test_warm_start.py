"""dSprites studies: supervised learning by the true factors, and unsupervised learning that begins there."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from vae_helpers import objectives
from vae_helpers.data import FactorImages
from vae_helpers.distributions import sample_normal
from vae_helpers.experiments import sprites, supervised, warm_start
from vae_helpers.experiments.folders import run_folder
from vae_helpers.experiments.sprites import CODES, measure_codes
from vae_helpers.experiments.supervised import SupervisedConfig
from vae_helpers.experiments.warm_start import WarmStartConfig
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import VAE
from vae_helpers.nets import MLP, FixedVariance
from vae_helpers.priors import SmoothedUniform, StandardNormal
from vae_helpers.training import Budget

pytestmark = pytest.mark.usefixtures("on_the_cpu")
SMOKE = {"seed": 0, "budget": Budget.SMOKE, "progress": False}


def weights(module):
    return torch.cat([value.detach().flatten() for value in module.state_dict().values()])


class Oracle(nn.Module):
    """Codes written in the first pixels: a perfect encoder of images made by `told`."""

    def __init__(self, z_dim):
        super().__init__()
        self.z_dim = z_dim

    def forward(self, x):
        return 2 * x[:, : self.z_dim] - 1


def told(code):
    """Images whose first pixels are the code, on [0, 1]."""

    def render(classes):
        x = torch.zeros(len(classes), 20)
        x[:, : code.z_dim] = (code.of(classes) + 1) / 2
        return x

    return FactorImages("told", "a test", (1, 4, 5), code.grid, render, white=1)


# ---- parts


def test_a_fixed_variance_is_the_same_for_every_input_and_saved():
    torch.manual_seed(0)
    net, sd = MLP(4, (), 3), torch.tensor([0.1, 1.0, 2.0])
    encoder = FixedVariance(net, sd)
    x = torch.randn(5, 4)
    q_mu, q_logvar = encoder(x).chunk(2, dim=-1)
    assert torch.equal(q_mu, net(x))
    torch.testing.assert_close(q_logvar.mul(0.5).exp(), sd.expand(5, 3))
    assert "q_logvar" in encoder.state_dict()
    assert not encoder.q_logvar.requires_grad
    for bad in (torch.tensor([0.1, 0.0]), torch.tensor(0.1), torch.tensor([-1.0])):
        with pytest.raises(ValueError, match="positive numbers"):
            FixedVariance(net, bad)


def test_the_supervised_objective_is_two_log_likelihoods_that_do_not_meet():
    torch.manual_seed(0)
    sd = torch.tensor([0.5, 0.2])
    model = VAE(FixedVariance(MLP(6, (4,), 2), sd), MLP(2, (4,), 6), Bernoulli(), StandardNormal(2))
    x, z = torch.bernoulli(torch.full((7, 6), 0.5)), torch.randn(7, 2)
    terms = objectives.supervised(model, x, z)
    pixels = torch.distributions.Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
    codes = torch.distributions.Normal(model.encode(x)[0], sd).log_prob(z).sum(-1)
    torch.testing.assert_close(terms["log_px"], pixels)
    torch.testing.assert_close(terms["log_qz"], codes)
    torch.testing.assert_close(terms["loss"], -(pixels + codes))
    for term, (mine, other) in {
        "log_px": (model.decoder, model.encoder),
        "log_qz": (model.encoder, model.decoder),
    }.items():
        model.zero_grad()
        terms[term].sum().backward(retain_graph=True)
        assert all(p.grad.abs().sum() > 0 for p in mine.parameters())
        assert all(p.grad is None or p.grad.abs().sum() == 0 for p in other.parameters())
    for bad in (z[:5], torch.randn(7, 3)):
        with pytest.raises(ValueError, match=r"z must be \(7, 2\)"):
            objectives.supervised(model, x, bad)


# ---- what a code does to the pictures


@pytest.mark.parametrize("name", ["line", "circle"])
def test_a_perfect_encoder_has_no_error_and_all_codes_are_one(name):
    code = CODES[name]
    images = told(code)
    torch.manual_seed(0)
    encoder = FixedVariance(Oracle(code.z_dim), torch.full((code.z_dim,), 1e-6))
    model = VAE(encoder, MLP(code.z_dim, (8,), 20), Bernoulli(), SmoothedUniform(code.z_dim)).eval()
    found = measure_codes(model, code, images, code.grid.sample(300))
    for latent in code.latents:
        assert found[f"rmse_{latent}"] < 1e-6
        assert found[f"direct_r2_{latent}"] > 0.9999
    for other in ("mean", "mended"):
        assert abs(found[f"{other}_code_log_px"] - found["true_code_log_px"]) < 1e-3
    assert abs(found["test_log_px"] - found["true_code_log_px"]) < 1e-3
    assert abs(found["test_elbo_bound"] - (found["test_log_px"] - found["test_kl"])) < 1e-6


def test_an_error_of_orientation_is_found_there_and_mended():
    """The encoder always answers orientation 0: its error is the sd of the factor, and only that is mended."""
    code = CODES["line"]

    class Upright(Oracle):
        def forward(self, x):
            z = super().forward(x).clone()
            z[:, 2] = 0
            return z

    torch.manual_seed(0)
    decoder = MLP(5, (), 20)
    with torch.no_grad():
        decoder[0].weight.normal_(std=3)
    encoder = FixedVariance(Upright(5), torch.full((5,), 1e-6))
    model = VAE(encoder, decoder, Bernoulli(), SmoothedUniform(5)).eval()
    classes = code.grid.sample(4000)
    found = measure_codes(model, code, told(code), classes)
    sd = code.of(classes)[:, 2].std(unbiased=False).item()
    turned = (code.of(classes)[:, 2] ** 2).mean().sqrt().item()
    assert abs(found["rmse_orientation"] - turned) < 1e-4
    assert abs(turned - sd) < 0.02
    assert abs(found["direct_r2_orientation"]) < 0.01
    assert found["direct_r2_x"] > 0.9999
    assert abs(found["mended_code_log_px"] - found["true_code_log_px"]) < 1e-3
    assert abs(found["mean_code_log_px"] - found["true_code_log_px"]) > 0.1
    shapes = classes[:, 1].bincount() / len(classes)
    for metric in ("mean_code_log_px", "true_code_log_px"):
        by_shape = torch.tensor([found[f"{metric}_{shape}"] for shape in ("square", "ellipse", "heart")])
        assert abs((shapes * by_shape).sum().item() - found[metric]) < 1e-4
    squares = torch.tensor([found[f"rmse_orientation_{shape}"] ** 2 for shape in ("square", "ellipse", "heart")])
    assert abs((shapes * squares).sum().sqrt().item() - found["rmse_orientation"]) < 1e-4


# ---- studies


@pytest.mark.parametrize("code", ["line", "circle"])
def test_supervised_learning_runs_and_can_be_built_again(code):
    run = supervised.run(SupervisedConfig(code=code, steps=12, batch_size=16), **SMOKE)
    assert run.steps == 12
    assert run.model.z_dim == CODES[code].z_dim
    again = supervised.build(run.config)
    again.load_state_dict(run.model.state_dict())
    classes = CODES[code].grid.sample(20)
    x = sprites.images_of("rendered").pixels(classes)
    assert torch.equal(again.eval().encode(x)[0], run.model.encode(x)[0])
    first, last = run.history["log_px"][0], run.metrics["true_code_log_px"]
    assert last > first + 50  # one window of history, and the model after it: it learns


@pytest.fixture(scope="module")
def taught():
    torch.manual_seed(0)
    return supervised.build(SupervisedConfig()).eval()


def pictures(n):
    return sprites.images_of("rendered").pixels(CODES["line"].grid.sample(n))


@pytest.mark.parametrize(
    ("sd", "prior"),
    [("tiny", "uniform"), ("tiny", "marginals"), ("tiny", "mixture"), ("tiny", "standard"), ("mle", "standard"),
     ("two_steps", "standard"), ("learned", "standard"), ("learned", "mixture")],
)  # fmt: skip
def test_every_setting_of_a_warm_start_has_a_gradient_and_a_kl_of_some_nats_at_the_true_codes(taught, sd, prior):
    torch.manual_seed(0)
    model = warm_start.build(WarmStartConfig(sd=sd, prior=prior))
    warm_start.begin_at(model, taught, torch.full((5,), 0.1) if sd in ("mle", "learned") else None)
    objectives.elbo(model, pictures(4))["loss"].mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    z = CODES["line"].of(CODES["line"].grid.sample(500))
    with torch.no_grad():
        q_logvar = model.encode(pictures(500))[1]
        kl = model.prior.kl(z, q_logvar, sample_normal(z, q_logvar))
    assert 0 < kl.mean() < 80
    assert kl.std() < 20


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="sd='mle' is that of a supervised encoder"):
        warm_start.build(WarmStartConfig(start="random", sd="mle"))
    with pytest.raises(ValueError, match="unknown prior 'flat'; choose one of uniform, marginals, mixture, standard"):
        warm_start.run(WarmStartConfig(prior="flat"), **SMOKE)
    for act in (supervised.build, partial(supervised.run, **SMOKE)):
        with pytest.raises(ValueError, match="unknown code 'square'; choose one of line, circle"):
            act(SupervisedConfig(code="square"))


@pytest.mark.parametrize("sd", ["tiny", "mle", "two_steps", "learned"])
def test_a_warm_start_begins_as_the_supervised_model(taught, sd):
    x = pictures(10)
    model = warm_start.build(WarmStartConfig(sd=sd))
    given = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]) if sd in ("mle", "learned") else None
    warm_start.begin_at(model, taught, given)
    q_mu, q_logvar = model.eval().encode(x)
    torch.testing.assert_close(q_mu, taught.encode(x)[0])
    two_steps = torch.tensor([0.3, 0.3, 3.6 / 39, 3.6 / 31, 3.6 / 31])
    expected = {"tiny": torch.full((5,), 1e-4 / 3), "two_steps": two_steps}.get(sd, given)
    torch.testing.assert_close(q_logvar.mul(0.5).exp(), expected.expand(10, 5))
    assert torch.equal(weights(model.decoder), weights(taught.decoder))


def test_the_line_ends_at_both_models_and_the_history_holds_the_snapshots(taught):
    config = WarmStartConfig(steps=36, lr=1e-3, batch_size=8)
    run = warm_start.run(config, supervised_model=taught, **SMOKE)
    at = [row["step"] for row in run.history.evals]
    assert at[0] == 0
    assert 35 in at
    assert {"curve_factor_vae", "curve_mig", "curve_r2_x"} <= run.history.evals[0].keys()
    classes = sprites.draw(sprites.images_of("rendered"), 100, seed=0, device=torch.device("cpu"))
    x = sprites.images_of("rendered").pixels(classes[:50])
    begin = warm_start.build(config)
    warm_start.begin_at(begin, taught, None)
    for name, model in (("line_0", begin.eval()), ("line_1", run.model)):
        assert run.metrics[name] == pytest.approx(warm_start.negative_bound(model, x, seed=0), rel=1e-5)
    assert run.metrics["line_0"] > run.metrics["line_0.01"] > run.metrics["line_0.5"] > run.metrics["line_1"]
    start = measure_codes(begin, CODES["line"], sprites.images_of("rendered"), classes)
    assert run.metrics["start_true_code_log_px"] == pytest.approx(start["true_code_log_px"], rel=1e-5)
    gradients = warm_start.squared_gradients(begin, x, seed=0)
    assert run.metrics["gradient_decoder_start"] == pytest.approx(gradients["gradient_decoder"], rel=1e-4)


def linear(n=400):
    """A model, and images it can be exact on: one parameter's gradient is known."""
    torch.manual_seed(0)
    encoder = FixedVariance(MLP(6, (4,), 2), torch.tensor([1e-6, 1e-6]))
    model = VAE(encoder, MLP(2, (4,), 6), Bernoulli(), StandardNormal(2))
    return model, torch.bernoulli(torch.full((n, 6), 0.5))


def test_the_squared_gradient_is_the_inner_product_of_two_halves():
    model, x = linear()
    model.decoder.requires_grad_(False)  # measured all the same, and left so
    found = warm_start.squared_gradients(model, x, seed=0)
    assert [p.requires_grad for p in model.decoder.parameters()] == [False] * 4
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(True)
    torch.manual_seed(0)
    for name, module in (("encoder", model.encoder), ("decoder", model.decoder)):
        halves = []
        for half in x.chunk(2):
            gradients = torch.autograd.grad(objectives.elbo(model, half)["loss"].mean(), list(module.parameters()))
            halves.append(torch.cat([g.flatten() for g in gradients]))
        first, second = halves
        assert found[f"gradient_{name}"] == pytest.approx((first @ second).item(), rel=1e-3)
        cosine = (first @ second / first.norm() / second.norm()).item()
        assert found[f"gradient_agreement_{name}"] == pytest.approx(cosine, abs=1e-3)
        pieces = warm_start.squared_gradients(model, x, seed=0, batch_size=37)[f"gradient_{name}"]
        assert pieces == pytest.approx(found[f"gradient_{name}"], rel=1e-3)  # codes have next to no noise here


def test_at_an_optimum_the_squared_gradient_is_zero_within_its_noise_where_a_single_gradient_is_not():
    """A decoder of biases only, at the means of the pixels: nothing to gain, and every batch says otherwise."""
    torch.manual_seed(0)
    model, x = linear(4000)
    with torch.no_grad():
        for module in (model.encoder.net[0], model.encoder.net[2], model.decoder[0], model.decoder[2]):
            module.weight.zero_()
            module.bias.zero_()
    model.prior = SmoothedUniform(2)
    found = torch.tensor(
        [warm_start.squared_gradients(model, part, seed=0)["gradient_decoder"] for part in x.split(80)]
    )
    single = torch.tensor([6 * 0.25 / 40] * len(found))  # variance of a half's six biases
    assert abs(found.mean().item()) < 4 * found.std().item() / len(found) ** 0.5 + 1e-3
    assert found.mean().abs() < 0.3 * single.mean()


def test_a_supervised_run_is_found_by_its_settings_and_asked_for_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_RUNS", str(tmp_path))
    config = WarmStartConfig(start="supervised", steps=2, batch_size=4)
    with pytest.raises(ValueError, match="make it first: python -m vae_helpers train supervised --code line --source"):
        warm_start.run(config, **SMOKE)
    short = partial(SupervisedConfig, steps=2, batch_size=4)
    monkeypatch.setattr(warm_start, "SupervisedConfig", short)
    folder = run_folder("supervised", short(), 0, Budget.SMOKE)
    made = supervised.run(short(), folder=folder, **SMOKE).model
    found = warm_start.starting_model(config, seed=0, budget=Budget.SMOKE)
    assert torch.equal(weights(found), weights(made))
    monkeypatch.setattr(warm_start, "SupervisedConfig", partial(short, lr=0.5))  # settings of another day
    (folder.parent / run_folder("supervised", short(lr=0.5), 0, Budget.SMOKE).name).symlink_to(folder)
    with pytest.raises(ValueError, match="needs a finished run"):
        warm_start.starting_model(config, seed=0, budget=Budget.SMOKE)


def test_the_default_start_is_the_released_supervised_model():
    """Its card holds: true codes cost little, the encoder's mean over twenty times that, and orientation is why."""
    start = warm_start.starting_model(WarmStartConfig(), seed=0, budget=Budget.SMOKE)
    code, images = CODES["line"], sprites.images_of("rendered")
    found = measure_codes(start, code, images, code.grid.sample(400, generator=torch.Generator().manual_seed(0)))
    assert -60 < found["true_code_log_px"] < -10
    assert found["mean_code_log_px"] < 20 * found["true_code_log_px"]
    assert found["mended_code_log_px"] > 2 * found["true_code_log_px"]
    with pytest.raises(KeyError, match="nothing is released under 'supervised/circle'"):
        warm_start.starting_model(WarmStartConfig(code="circle"), seed=0, budget=Budget.SMOKE)


@pytest.mark.parametrize("trained", ["encoder", "decoder"])
def test_one_net_alone_is_trained(taught, trained):
    run = warm_start.run(
        WarmStartConfig(trained=trained, sd="mle", steps=2, batch_size=4), supervised_model=taught, **SMOKE
    )
    same = {
        "encoder": torch.equal(weights(run.model.encoder.net), weights(taught.encoder.net)),
        "decoder": torch.equal(weights(run.model.decoder), weights(taught.decoder)),
    }
    assert same == {"encoder": trained == "decoder", "decoder": trained == "encoder"}
    given = torch.tensor([run.metrics[f"start_rmse_{latent}"] for latent in CODES["line"].latents])
    torch.testing.assert_close(run.model.encoder.q_logvar.mul(0.5).exp(), given)


def test_going_on_with_supervision_is_that_and_nothing_else(taught):
    config = WarmStartConfig(objective="supervised", steps=2, batch_size=4)
    run = warm_start.run(config, supervised_model=taught, **SMOKE)
    assert set(run.history.names) == {"loss", "log_px", "log_qz"}


def test_a_random_start_asks_for_no_supervised_run_and_its_metrics_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_RUNS", str(tmp_path))
    run = warm_start.run(WarmStartConfig(start="random", steps=2, batch_size=4), **SMOKE)
    assert not (tmp_path / "supervised").exists()
    assert not run.metrics.keys() & {field.name for field in dataclasses.fields(WarmStartConfig)}
