"""The GMVAE against loops over its components, a model whose posterior is known, and its study from end to end."""

import json
import math
import signal

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal, kl_divergence

from vae_helpers import objectives
from vae_helpers.data import TwoViews
from vae_helpers.evaluation import (
    class_probs,
    clustering,
    conditional_importance_log_px,
    importance_log_px,
    quadrature_log_px,
)
from vae_helpers.experiments import gmvae
from vae_helpers.experiments.gmvae import GMVAEConfig
from vae_helpers.likelihoods import Bernoulli, Gaussian
from vae_helpers.models import GMVAE, M2, VAE
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.priors import DiagonalGaussian, MixturePrior
from vae_helpers.training import Budget, CheckpointError

pytestmark = pytest.mark.usefixtures("on_the_cpu")
D, K = 6, 3  # pixels and components of the small models below
LOG_K = math.log(K)
SMOOTH = {"activation": "tanh"}


def build(*, z_dim=2, k=K, seed=0):
    """A small random GMVAE of binary data in double precision, its components apart and its nets not shy."""
    torch.manual_seed(seed)
    prior = MixturePrior(torch.randn(k, z_dim), 0.5 * torch.randn(k, z_dim))
    nets = (
        MLP(D, [8], k, **SMOOTH),
        JointMLP([D, k], [8], 2 * z_dim, **SMOOTH),
        MLP(z_dim, [8], D, **SMOOTH),
    )
    with torch.no_grad():
        for net in nets:
            for value in net.parameters():
                value.mul_(1.5)
    return GMVAE(*nets, Bernoulli(), prior).double().eval()


def binary(n, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, D, generator=generator) > 0.5).double()


def close_on_average(values, expected):
    """Whether the mean over the first axis is ``expected`` within 6 standard errors."""
    slack = 6 * values.std(0) / len(values) ** 0.5 + 1e-9
    return bool(((values.mean(0) - expected).abs() < slack).all())


def gaussian(mu, logvar):
    return Independent(Normal(mu, (0.5 * logvar).exp()), 1)


# ---- the model


def test_a_gmvae_is_an_m2_whose_label_is_in_the_prior_and_not_in_the_decoder():
    model = build()
    assert isinstance(model, M2)
    assert model.n_classes == K
    assert model.z_dim == 2
    z, y = torch.randn(5, 2, dtype=torch.float64), torch.eye(K, dtype=torch.float64)[[0, 1, 2, 0, 1]]
    assert torch.equal(model.decode(z, y), model.decoder(z))
    assert torch.equal(model.decode(z), model.decode(z, y.flip(-1)))
    torch.testing.assert_close(model.decode_mean(z, y), model.decoder(z).sigmoid())
    torch.testing.assert_close(model.decode_mean(z), model.decoder(z).sigmoid())
    names = set(model.state_dict())
    assert {"prior.p_mu", "prior.p_logvar", "prior.weight_logits"} < names
    assert len(names) == len({value.data_ptr() for value in model.state_dict().values()})  # each stored once


def test_the_prior_given_a_label_is_its_component():
    model = build()
    p_mu, p_logvar = model.prior.components()
    eye = torch.eye(K, dtype=torch.float64)
    for k in range(K):
        found = model.prior_given(eye[k])
        assert isinstance(found, DiagonalGaussian)
        assert torch.equal(found.p_mu, p_mu[k])
        assert torch.equal(found.p_logvar, p_logvar[k])
    several = model.prior_given(eye[[2, 0, 1, 2]])
    assert torch.equal(several.p_mu, p_mu[[2, 0, 1, 2]])
    every = model.prior_given(model.all_labels(binary(9)))
    assert torch.equal(every.p_mu, p_mu[:, None])
    assert torch.equal(every.p_logvar, p_logvar[:, None])
    relaxed = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64)
    found = model.prior_given(relaxed)
    torch.testing.assert_close(found.p_mu, relaxed @ p_mu)
    torch.testing.assert_close(found.p_logvar, relaxed @ p_logvar)
    found.log_prob(torch.zeros(2, 2, dtype=torch.float64)).sum().backward()
    assert (model.prior.p_mu.grad.abs() > 0).all()


def test_the_components_together_are_the_mixture():
    model, z = build(), torch.randn(9, 2, dtype=torch.float64)
    each = torch.stack([model.prior_given(y).log_prob(z) for y in torch.eye(K, dtype=torch.float64)])
    torch.testing.assert_close(each.logsumexp(0) - LOG_K, model.prior.log_prob(z))


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (lambda: MixturePrior.random(3, 2, learn_weights=True), "equal weights that are not trained"),
        (
            lambda: MixturePrior(torch.zeros(2, 2), torch.zeros(2, 2), weights=torch.tensor([0.3, 0.7])),
            "equal weights that are not trained",
        ),
        (lambda: MixturePrior.random(1, 2), "at least 2, got 1"),
    ],
    ids=["trained", "unequal", "one"],
)
def test_a_mixture_that_is_not_uniform_or_has_one_component_raises(prior, message):
    with pytest.raises(ValueError, match=message):
        GMVAE(MLP(D, [], 3), JointMLP([D, 3], [], 4), MLP(2, [], D), Bernoulli(), prior())


def test_equal_weights_may_be_given_as_numbers():
    prior = MixturePrior(torch.zeros(3, 2), torch.zeros(3, 2), weights=torch.full((3,), 1 / 3))
    model = GMVAE(MLP(D, [], 3), JointMLP([D, 3], [], 4), MLP(2, [], D), Bernoulli(), prior)
    assert model.n_classes == 3


# ---- bounds


def by_hand(model, x, y_logits, eps):
    """The unlabelled bound one component after another, with the distributions of torch: its terms, (B,) each."""
    log_qy = y_logits.log_softmax(-1)
    terms = dict.fromkeys(("log_px", "kl", "entropy", "unlabelled_bound"), torch.zeros(len(x), dtype=x.dtype))
    for k in range(K):
        y = torch.zeros(len(x), K, dtype=x.dtype)
        y[:, k] = 1
        q_mu, q_logvar = model.encoder(x, y).chunk(2, dim=-1)
        z = q_mu + (0.5 * q_logvar).exp() * eps[k]
        log_px = BernoulliDistribution(logits=model.decoder(z)).log_prob(x).sum(-1)
        component = gaussian(model.prior.p_mu[k].expand(len(x), -1), model.prior.p_logvar[k].expand(len(x), -1))
        kl = kl_divergence(gaussian(q_mu, q_logvar), component)
        q = log_qy[:, k].exp()
        terms["log_px"] = terms["log_px"] + q * log_px
        terms["kl"] = terms["kl"] + q * kl
        terms["entropy"] = terms["entropy"] - q * log_qy[:, k]
        terms["unlabelled_bound"] = terms["unlabelled_bound"] + q * (log_px - kl - LOG_K - log_qy[:, k])
    return terms


@pytest.mark.parametrize("shared", [True, False])
def test_the_bound_is_the_loop_over_the_components(shared):
    model, x = build(), binary(9)
    eps = torch.randn(*(() if shared else (K,)), 9, 2, dtype=torch.float64)
    found = objectives.unlabelled(model, x, eps=eps)
    expected = by_hand(model, x, model.net(x), eps.expand(K, 9, 2))
    assert set(found) == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=name)
    assert torch.equal(found["loss"], -found["unlabelled_bound"])
    objectives.check_terms(found, 9)
    parameters = list(model.parameters())
    gradients = (torch.autograd.grad(t["unlabelled_bound"].mean(), parameters) for t in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_a_view_changes_the_assignment_and_nothing_else():
    model, x, view = build(), binary(9), binary(9, seed=8)
    eps = torch.randn(9, 2, dtype=torch.float64)
    found = objectives.unlabelled(model, x, view=view, eps=eps)
    expected = by_hand(model, x, model.net(view), eps.expand(K, 9, 2))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=name)
    same = objectives.unlabelled(model, x, eps=eps)
    assert (found["entropy"] - same["entropy"]).abs().max() > 1e-3
    again = objectives.unlabelled(model, x, view=x, eps=eps)
    for name, value in same.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize("with_view", [False, True])
def test_the_bound_stays_below_log_px_by_quadrature(with_view):
    torch.manual_seed(0)
    model, x = build(z_dim=1), binary(8)
    view = binary(8, seed=9) if with_view else None
    plain = VAE(model.encoder, model.decoder, model.likelihood, model.prior).eval()
    exact = quadrature_log_px(plain, x, limit=15)
    n = 4000
    many = objectives.unlabelled(model, x.repeat(n, 1), view=None if view is None else view.repeat(n, 1))
    bound = many["unlabelled_bound"].detach().view(n, 8)
    assert (bound.mean(0) + 6 * bound.std(0) / n**0.5 < exact).all()  # a q so far off leaves a gap
    assert (bound.mean(0) > exact - 20).all()


class Affine(nn.Module):
    """x, y -> the exact posterior of a linear-Gaussian decoder and the component y: mean and log variance."""

    def __init__(self, weight, bias, x_var, prior):
        super().__init__()
        self.weight, self.bias, self.x_var, self.prior = weight, bias, x_var, (prior,)

    def forward(self, x, y):
        p_mu, p_logvar = (y @ value for value in self.prior[0].components())
        precision = (-p_logvar).exp() + (self.weight**2).sum(0) / self.x_var  # orthogonal columns: it is diagonal
        q_mu = (p_mu * (-p_logvar).exp() + (x - self.bias) @ self.weight / self.x_var) / precision
        return torch.cat([q_mu, -precision.log().expand_as(q_mu)], dim=-1)


class Posterior(nn.Module):
    """x -> log p(x | y) of every component, which are the logits of p(y | x)."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, x):
        return torch.stack([density.log_prob(x) for density in self.given], dim=-1)


def linear_gmvae(n=20):
    """A GMVAE with linear decoder whose q is the exact posterior, draws from it, and p(x | y) of every component."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.linalg.qr(torch.randn(D, 2, dtype=torch.float64, generator=generator)).Q
    weight = weight * torch.tensor([1.5, 0.7], dtype=torch.float64)
    bias = torch.randn(D, dtype=torch.float64, generator=generator)
    p_mu, p_logvar = torch.randn(2, K, 2, dtype=torch.float64, generator=generator)
    prior, x_var = MixturePrior(1.3 * p_mu, 0.7 * p_logvar).double(), 0.5
    decoder = MLP(2, [], D).double()
    likelihood = Gaussian(x_var=x_var).double()
    with torch.no_grad():
        likelihood.x_logvar.fill_(math.log(x_var))  # .double() widened a float32 logarithm
        decoder[0].weight.copy_(weight)
        decoder[0].bias.copy_(bias)
        given = [
            MultivariateNormal(weight @ mu + bias, weight @ lv.exp().diag() @ weight.T + x_var * torch.eye(D))
            for mu, lv in zip(*prior.components(), strict=True)
        ]
        torch.manual_seed(1)
        x = decoder(prior.sample(n)) + x_var**0.5 * torch.randn(n, D, dtype=torch.float64)
    return GMVAE(Posterior(given), Affine(weight, bias, x_var, prior), decoder, likelihood, prior).eval(), x, given


def over_the_noise(model, x, **options):
    """The bound averaged over z exactly: four points have the mean and covariance of N(0, I_2)."""
    points = 2**0.5 * torch.cat([torch.eye(2), -torch.eye(2)]).double()
    found = [objectives.unlabelled(model, x, eps=p.expand(len(x), 2), **options)["unlabelled_bound"] for p in points]
    return torch.stack(found).mean(0)


def test_the_bound_is_log_px_at_the_exact_posterior():
    model, x, given = linear_gmvae()
    log_px_given_y = torch.stack([density.log_prob(x) for density in given])
    assert 0.6 < log_px_given_y.softmax(0).amax(0).mean() < 0.99  # the components overlap
    expected = log_px_given_y.logsumexp(0) - LOG_K
    torch.testing.assert_close(over_the_noise(model, x), expected, rtol=0, atol=1e-9)  # float64


def test_a_view_costs_the_kl_between_the_assignments():
    model, x, _ = linear_gmvae()
    view = x.roll(1, 0)
    exact = over_the_noise(model, x)
    gap = kl_divergence(Categorical(logits=model.classify(view)), Categorical(logits=model.classify(x)))
    assert gap.mean() > 0.1
    torch.testing.assert_close(over_the_noise(model, x, view=view), exact - gap, rtol=0, atol=1e-9)


def test_a_given_component_makes_a_vae_with_its_own_prior():
    model, x, given = linear_gmvae()
    n = 4000
    for k, density in enumerate(given):
        one = model.given(model.one_hot(torch.tensor([k]))[0])
        exact = density.log_prob(x)
        found = importance_log_px(one, x, n_samples=10, bounds=(5,))
        # at the true posterior every weight is p(x | y)
        torch.testing.assert_close(found.log_px, exact, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.iwae_bounds[5], exact, rtol=0, atol=1e-9)
        torch.testing.assert_close(objectives.iwae(one, x, n_samples=3)["iwae_bound"], exact, rtol=0, atol=1e-9)
        torch.testing.assert_close(objectives.dreg(one, x, n_samples=3)["iwae_bound"], exact, rtol=0, atol=1e-9)
        torch.manual_seed(k)
        terms = objectives.elbo(one, x.repeat(n, 1))
        assert terms["kl"].min() >= 0
        assert close_on_average(terms["elbo_bound"].detach().view(n, -1), exact)
    y = torch.arange(len(x)) % K
    each = conditional_importance_log_px(model, x, y, n_samples=4).log_px
    exact = torch.stack([given[k].log_prob(row) for k, row in zip(y.tolist(), x, strict=True)])
    torch.testing.assert_close(each, exact, rtol=0, atol=1e-9)
    rows = objectives.iwae(model.given(model.one_hot(y)), x, n_samples=4)["iwae_bound"]  # a label for every example
    torch.testing.assert_close(rows, exact, rtol=0, atol=1e-9)


def test_the_bound_of_a_component_is_that_of_its_vae():
    model, x = build(), binary(9)
    y = torch.arange(9) % K
    torch.manual_seed(0)
    found = objectives.labelled(model, x, y)
    torch.manual_seed(0)
    expected = objectives.elbo(model.given(model.one_hot(y)), x)
    for name in ("log_px", "kl"):
        torch.testing.assert_close(found[name], expected[name])
    torch.testing.assert_close(found["labelled_bound"], expected["elbo_bound"] - LOG_K)


# ---- fewer labels than all


class Copies(nn.Module):
    """n copies of one example with parameters of their own, so that gradients have one row a copy."""

    def __init__(self, n, *, k=4):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        logits, shift = torch.randn(2, k, dtype=torch.float64, generator=generator)
        self.y_logits = nn.Parameter(logits.repeat(n, 1))
        self.view_logits = nn.Parameter(shift.repeat(n, 1))
        self.q_shift = nn.Parameter(torch.full((n, 1), 0.3, dtype=torch.float64))
        self.prior = MixturePrior(torch.arange(k)[:, None].double() - 1, torch.zeros(k, 1, dtype=torch.float64))
        self.weight = torch.randn(D, 1, dtype=torch.float64, generator=generator)

    def gmvae(self):
        """q(z | x, y) has its mean near the component's and hardly a width: nothing is random but the label."""

        def encoder(x, y):
            mean = 0.7 * (y @ self.prior.p_mu.detach()) + self.q_shift
            return torch.cat([mean, torch.full_like(mean, -60.0)], -1)

        def classifier(x):
            return self.y_logits + x[:, :1] * self.view_logits  # reads what it is given

        return GMVAE(classifier, encoder, lambda z: z @ self.weight.T, Gaussian(x_var=1.0), self.prior)

    def evaluate(self, objective, x, **options):
        """The bound of every copy, and its gradient by the copy's parameters."""
        n = len(self.y_logits)
        options = {name: v.expand(n, -1) if isinstance(v, torch.Tensor) else v for name, v in options.items()}
        bound = -objective(self.gmvae(), x.expand(n, -1), **options)["loss"]
        found = torch.autograd.grad(bound.sum(), [self.y_logits, self.view_logits, self.q_shift])
        return torch.cat([bound.detach()[:, None], *found], dim=1)


@pytest.mark.parametrize("with_view", [False, True])
@pytest.mark.parametrize("n_exact", [1, 2])
def test_the_bound_from_a_few_components_is_right_on_average_in_value_and_gradient(n_exact, with_view):
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, D, dtype=torch.float64)
    options = {"view": x.flip(0)} if with_view else {}
    draws = Copies(20_000).evaluate(objectives.unlabelled_top, x, n_exact=n_exact, **options)
    exact = Copies(1).evaluate(objectives.unlabelled, x, **options)[0]
    assert (draws.std(0) > 5e-4).all()  # the choice of the component does matter
    assert close_on_average(draws, exact)
    other = Copies(1).evaluate(objectives.unlabelled, x)[0]
    assert ((exact - other).abs().max() > 0.1) == with_view


def test_with_one_component_left_over_the_bound_from_a_few_is_exact():
    x = torch.linspace(-1, 1, D, dtype=torch.float64)
    found, expected = (
        Copies(5).evaluate(objective, x, view=x.flip(0), **options)
        for objective, options in ((objectives.unlabelled_top, {"n_exact": 3}), (objectives.unlabelled, {}))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_exact", [0, K])
def test_a_number_of_components_out_of_range_raises(n_exact):
    with pytest.raises(ValueError, match=f"between 1 and {K - 1}, got {n_exact}"):
        objectives.unlabelled_top(build(), binary(2), n_exact=n_exact)


# ---- the study

METRICS = {
    *("test_accuracy_percent", "test_nmi", "test_ari", "test_usage_entropy"),
    *("test_unlabelled_bound", "test_log_px", "test_kl", "test_entropy"),
}


def run(images, folder=None, *, seed=0, **settings):
    config = GMVAEConfig(**({"n_components": 4, "z_dim": 3, "h_dims": (16,), "batch_size": 16, "steps": 4} | settings))
    return gmvae.run(config, seed=seed, budget=Budget.SMOKE, images=images, folder=folder, progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"views": "moved"},
        {"labels": "top"},
        {"views": "moved", "labels": "top", "decay": True},
        {"n_components": 20, "label_scale": 3.0, "activation": "elu"},
        {"n_components": 2, "bf16": True},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())) or "default",
)
def test_every_setting_trains_and_is_measured(images, tmp_path, settings):
    found = run(images, tmp_path, **settings)
    assert set(found.metrics) == METRICS
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert found.steps == 4
    assert json.loads((tmp_path / "run.json").read_text())["metrics"] == found.metrics
    metrics, log_k = found.metrics, math.log(found.config.n_components)
    assert 10 <= metrics["test_accuracy_percent"] <= 100  # ten classes of four: any cluster matches one
    assert 0 <= metrics["test_nmi"] <= 1
    assert 0 <= metrics["test_usage_entropy"] <= log_k + 1e-6
    assert 0 <= metrics["test_entropy"] <= log_k + 1e-6
    total = metrics["test_log_px"] - metrics["test_kl"] - log_k + metrics["test_entropy"]
    assert metrics["test_unlabelled_bound"] == pytest.approx(total, rel=1e-5)  # float32
    clusters = class_probs(found.model, images.x_test.float() / 255).argmax(-1)
    again = clustering(clusters, images.y_test, n_clusters=found.config.n_components)
    assert again.accuracy_percent == metrics["test_accuracy_percent"]
    assert again.nmi == metrics["test_nmi"]


def test_the_same_seed_gives_the_same_weights_and_metrics(images, tmp_path):
    settings = {"views": "moved", "labels": "top"}
    found = [run(images, tmp_path / str(i), seed=seed, **settings).metrics for i, seed in enumerate((1, 1, 2))]
    weights = [(tmp_path / str(i) / "weights.safetensors").read_bytes() for i in range(3)]
    assert weights[0] == weights[1] != weights[2]
    assert found[0] == found[1] != found[2]


def test_the_smoke_budget_takes_its_steps_and_a_validation_set_the_place_of_the_test_set(images):
    found = run(images, steps=0, validation=20)
    assert found.steps == found.config.steps == 15
    assert "held out" in found.data
    assert run(images.validation(20), steps=15).metrics == found.metrics


def test_a_moved_view_goes_to_the_classifier_and_the_image_itself_is_explained(images):
    config = GMVAEConfig(views="moved", batch_size=8)
    batches = gmvae.batches(config, images, seed=0, device=torch.device("cpu"))
    batch = batches.take(batches.draw())
    assert isinstance(batch, TwoViews)
    assert batch.x.unique().tolist() == batch.view.unique().tolist() == [0, 1]
    assert not torch.equal(batch.x, batch.view)
    alone = gmvae.batches(GMVAEConfig(batch_size=8), images, seed=0, device=torch.device("cpu"))
    assert alone.take(alone.draw()).shape == (8, 784)
    seen = {}
    torch.manual_seed(0)
    model = gmvae.build(GMVAEConfig(n_components=4, z_dim=3, h_dims=(16,)))
    model.net.register_forward_pre_hook(lambda net, inputs: seen.update(classifier=inputs[0]))
    model.encoder.register_forward_pre_hook(lambda net, inputs: seen.update(encoder=inputs[0]))
    gmvae.update_for(config, model)(batch)
    assert torch.equal(seen["classifier"], batch.view)
    assert torch.equal(seen["encoder"], batch.x)


def test_a_start_from_codes_is_measured_stage_by_stage_and_repeats(images, tmp_path):
    settings = {"start": "codes", "views": "moved", "n_components": 10}
    found = [run(images, tmp_path / str(i), seed=seed, **settings).metrics for i, seed in enumerate((1, 1, 2))]
    assert set(found[0]) == METRICS | {"start_codes_accuracy_percent", "start_classifier_accuracy_percent"}
    assert found[0] == found[1] != found[2]


def test_the_start_teaches_the_classifier_the_mixture_of_codes_and_then_holds_it(images):
    torch.manual_seed(0)
    config = GMVAEConfig(start="codes", n_components=10, z_dim=3, h_dims=(32,), batch_size=16)
    model, x = gmvae.build(config), images.x_test.float() / 255
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stages = gmvae.start_from_codes(model, config, images, seed=0, budget=Budget.SMOKE, progress=False)
    name, codes = next(stages)
    assert name == "codes"
    assert codes(x).shape == (40,)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    name, _ = next(stages)
    assert name == "classifier"
    taught = {key: value.clone() for key, value in model.state_dict().items()}
    changed = {key.split(".")[0] for key in taught if not torch.equal(before[key], taught[key])}
    assert changed == {"net"}
    assert next(stages, None) is None
    after = model.state_dict()
    changed = {key.split(".")[0] for key in taught if not torch.equal(taught[key], after[key])}
    assert changed == {"encoder", "decoder", "prior"}
    assert all(value.requires_grad for value in model.parameters())


def test_ctrl_c_in_a_stage_of_the_start_ends_the_run(images, tmp_path, monkeypatch):
    def interrupt(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return imitation(*args, **options)

    imitation = gmvae.imitation
    monkeypatch.setattr(gmvae, "imitation", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a", start="codes", n_components=10)
    assert not (tmp_path / "a" / "run.json").exists()


def test_a_folder_with_a_run_is_refused_before_the_start(images, tmp_path, monkeypatch):
    run(images, tmp_path)
    monkeypatch.setattr(gmvae, "start_from_codes", lambda *args, **options: pytest.fail("it has started"))
    with pytest.raises(CheckpointError, match=r"exists already.*resume"):
        run(images, tmp_path, start="codes")


def test_imitation_is_the_cross_entropy_with_given_probabilities(images):
    torch.manual_seed(0)
    model = gmvae.build(GMVAEConfig(n_components=4, z_dim=3, h_dims=(16,)))
    x, y_probs = images.x_test.float() / 255, torch.rand(40, 4).softmax(-1)
    loss = gmvae.imitation(model, (x, y_probs))["loss"]
    expected = torch.nn.functional.cross_entropy(model.classify(x), y_probs, reduction="none")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "afresh"}, "unknown start 'afresh'; choose one of random, codes"),
        ({"views": "bent"}, "unknown views 'bent'; choose one of same, moved"),
        ({"labels": "few"}, "unknown labels 'few'; choose one of all, top"),
        ({"n_components": 1}, "at least 2, got 1"),
        ({"n_components": 0}, "at least"),
        ({"z_dim": 0}, "at least"),
        ({"activation": "step"}, "unknown activation 'step'"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"validation": 60}, "between 1 and 59 for fake, got 60"),
        ({"batch_size": 61}, "batch_size must be between 1 and the 60 examples"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_raise_one_sentence(images, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        run(images, **settings)
    assert "\n" not in str(raised.value)
