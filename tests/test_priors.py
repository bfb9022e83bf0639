"""Priors and the bounds that use them, against torch.distributions, quadrature and exact models."""

import copy
import itertools
import math

import pytest
import safetensors.torch
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from vae_helpers import objectives
from vae_helpers.data import LinearGaussian
from vae_helpers.distributions import entropy_normal, log_normal
from vae_helpers.evaluation import importance_log_px
from vae_helpers.likelihoods import Bernoulli, Gaussian
from vae_helpers.models import VAE
from vae_helpers.nets import MLP
from vae_helpers.priors import (
    DiagonalGaussian,
    FactorMarginals,
    Mixture,
    MixturePrior,
    Prior,
    SmoothedUniform,
    StandardNormal,
    VampPrior,
)

K, Z = 4, 3  # components and latents of the mixtures below
WEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


def mixture(n_components=K, z_dim=Z, *, spread=1.5, **options):
    """A mixture in double precision, means and variances spread out, with the unequal weights above."""
    generator = torch.Generator().manual_seed(0)
    p_mu, p_logvar = torch.randn(2, n_components, z_dim, dtype=torch.float64, generator=generator)
    weights = WEIGHTS[:n_components] / WEIGHTS[:n_components].sum()
    return MixturePrior(spread * p_mu, 0.7 * p_logvar, **({"weights": weights} | options)).double()


def oracle(prior):
    p_mu, p_logvar = (value.detach().double() for value in prior.components())
    weights = prior.log_component_probs.detach().double()
    return MixtureSameFamily(Categorical(logits=weights), Independent(Normal(p_mu, (0.5 * p_logvar).exp()), 1))


def close_on_average(values, expected, *, n_errors=6):
    """Whether the mean over the first axis is ``expected`` within so many standard errors."""
    slack = n_errors * values.std(0) / len(values) ** 0.5 + 1e-12
    return bool(((values.mean(0) - expected).abs() < slack).all())


# ---- densities


@pytest.mark.parametrize("shape", [(Z,), (7, Z), (5, 7, Z), (2, 5, 7, Z)])
def test_a_mixture_is_that_of_torch_for_any_leading_axes(shape):
    torch.manual_seed(0)
    prior, z = mixture(), 2 * torch.randn(shape, dtype=torch.float64)
    found = prior.log_prob(z)
    assert found.shape == shape[:-1]
    torch.testing.assert_close(found, oracle(prior).log_prob(z), rtol=1e-10, atol=1e-10)  # float64


def test_a_mixture_is_the_sum_over_its_components_written_out():
    torch.manual_seed(0)
    prior, z = mixture(), torch.randn(6, 5, Z, dtype=torch.float64)
    total = torch.zeros(6, 5, dtype=torch.float64)
    joints = []
    for pi, mu, logvar in zip(WEIGHTS, prior.p_mu, prior.p_logvar, strict=True):
        density = torch.ones(6, 5, dtype=torch.float64)
        for d in range(Z):
            density = density * Normal(mu[d], (0.5 * logvar[d]).exp()).log_prob(z[..., d]).exp()
        joints.append(pi * density)
        total = total + pi * density
    torch.testing.assert_close(prior.log_prob(z), total.log(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(prior.log_joint(z), torch.stack(joints, -1).log(), rtol=1e-10, atol=1e-10)
    responsibilities = prior.component_probs(z)
    torch.testing.assert_close(responsibilities, torch.stack(joints, -1) / total[..., None])  # Bayes
    torch.testing.assert_close(responsibilities.sum(-1), torch.ones_like(total))
    equal = mixture(weights=None)
    assert torch.equal(equal.log_component_probs, torch.full_like(WEIGHTS, equal.log_component_probs[0].item()))
    torch.testing.assert_close(equal.log_prob(z), oracle(equal).log_prob(z))


@pytest.mark.parametrize("z_dim", [1, 2])
def test_the_density_of_a_mixture_integrates_to_one(z_dim):
    prior = mixture(3, z_dim)
    line = torch.linspace(-15, 15, 601, dtype=torch.float64)  # steps of 0.05, the narrowest sd is above 0.4
    z = torch.cartesian_prod(*[line] * z_dim).view(-1, z_dim)
    assert (0.5 * prior.p_logvar).exp().min() > 0.4
    assert prior.log_prob(z).exp().sum().item() * 0.05**z_dim == pytest.approx(1, abs=1e-9)


def test_a_mixture_of_one_is_a_gaussian():
    torch.manual_seed(0)
    z = torch.randn(9, Z, dtype=torch.float64)
    zeros = torch.zeros(1, Z, dtype=torch.float64)
    torch.testing.assert_close(MixturePrior(zeros, zeros).log_prob(z), StandardNormal(Z).log_prob(z))
    torch.testing.assert_close(
        MixturePrior(zeros + 2, zeros - 1).log_prob(z), log_normal(z, zeros[0] + 2, zeros[0] - 1)
    )


def test_narrow_components_far_from_zero_keep_their_digits_in_float32():
    torch.manual_seed(0)
    p_mu = 3 * torch.randn(50, 10).sign()
    prior = MixturePrior(p_mu, torch.full((50, 10), -12.0))
    z = p_mu + math.exp(-6) * torch.randn(50, 10)
    found, exact = prior.log_prob(z), oracle(prior).log_prob(z.double())
    assert found.dtype == torch.float32
    # of numbers near 40, float32 keeps 4e-6; expanded squares in float32 would be off by whole nats (1e7 * 6e-8)
    assert (found.double() - exact).abs().max() < 2e-5


def test_autocast_does_not_change_a_mixture():
    torch.manual_seed(0)
    prior, z = MixturePrior.random(8, Z, learn_weights=True), torch.randn(20, Z)
    plain = prior.log_prob(z), prior.component_probs(z)
    with torch.autocast("cpu", torch.bfloat16):
        found = prior.log_prob(z), prior.component_probs(z)
    for value, expected in zip(found, plain, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


def test_gradients_of_a_mixture_are_right():
    prior = mixture(learn_weights=True)
    torch.manual_seed(0)
    z = torch.randn(3, Z, dtype=torch.float64, requires_grad=True)

    def log_prob(z, p_mu, p_logvar, weight_logits):
        values = {"p_mu": p_mu, "p_logvar": p_logvar, "weight_logits": weight_logits}
        return torch.func.functional_call(prior, values, (z,))

    prior.forward = prior.log_prob
    inputs = [z, *(prior.get_parameter(name) for name in ("p_mu", "p_logvar", "weight_logits"))]
    assert torch.autograd.gradcheck(log_prob, inputs)


def test_diagonal_gaussian_is_that_of_torch():
    torch.manual_seed(0)
    p_mu, p_logvar, q_mu, q_logvar = torch.randn(4, 6, Z, dtype=torch.float64)
    z = torch.randn(5, 6, Z, dtype=torch.float64)
    p, q = (Independent(Normal(mu, (0.5 * lv).exp()), 1) for mu, lv in ((p_mu, p_logvar), (q_mu, q_logvar)))
    prior = DiagonalGaussian(p_mu, p_logvar)
    torch.testing.assert_close(prior.log_prob(z), p.log_prob(z))
    torch.testing.assert_close(prior.kl(q_mu, q_logvar, z), kl_divergence(q, p))
    many = q_mu.expand(4, 6, Z), q_logvar.expand(4, 6, Z)
    torch.testing.assert_close(prior.kl(*many, z), kl_divergence(q, p).expand(4, 6))
    each = DiagonalGaussian(p_mu[:4, None], p_logvar[:4, None]).kl(*many, z)  # (K, 1, Z) against (K, B, Z)
    for k in range(4):
        alone = Independent(Normal(p_mu[k], (0.5 * p_logvar[k]).exp()), 1)
        torch.testing.assert_close(each[k], kl_divergence(q, alone.expand([6])))
    draws = prior.sample(20_000)
    assert draws.shape == (20_000, 6, Z)
    assert close_on_average(draws, p_mu)
    assert close_on_average((draws - p_mu) ** 2, p_logvar.exp())


def test_entropy_is_that_of_torch():
    torch.manual_seed(0)
    logvar = 3 * torch.randn(7, Z, dtype=torch.float64)
    expected = Independent(Normal(torch.zeros_like(logvar), (0.5 * logvar).exp()), 1).entropy()
    torch.testing.assert_close(entropy_normal(logvar), expected)


# ---- samples


def test_samples_have_the_moments_of_the_mixture():
    torch.manual_seed(0)
    prior = mixture()
    z = prior.sample(40_000).detach()
    assert z.shape == (40_000, Z)
    truth = oracle(prior)
    assert close_on_average(z, truth.mean)
    assert close_on_average((z - truth.mean) ** 2, truth.variance)
    means = prior.p_mu.detach()  # a covariance across latents is due to the means alone
    between = (WEIGHTS[:, None, None] * (means[:, :, None] * means[:, None])).sum(0) - truth.mean[:, None] * truth.mean
    centred = z - truth.mean
    assert close_on_average(centred[:, 0] * centred[:, 1], between[0, 1])


def test_samples_come_from_components_in_proportion_to_their_weights():
    torch.manual_seed(0)
    prior = mixture(spread=1000.0)
    shares = torch.nn.functional.one_hot(prior.component_probs(prior.sample(10_000)).argmax(-1), K).double()
    assert close_on_average(shares, WEIGHTS)
    k = torch.tensor([0, 3, 3, 1]).repeat(5000)
    z = prior.sample_component(k).detach()
    assert torch.equal(prior.component_probs(z).argmax(-1), k)
    of_one = z[k == 1]
    assert close_on_average(of_one, prior.p_mu[1].detach())
    assert close_on_average((of_one - prior.p_mu[1].detach()) ** 2, prior.p_logvar[1].exp().detach())


def test_samples_of_a_mixture_carry_gradients_to_its_components():
    torch.manual_seed(0)
    prior = mixture()
    prior.sample_component(torch.tensor([1, 1])).sum().backward()
    assert torch.equal(prior.p_mu.grad, 2.0 * torch.eye(K, dtype=torch.float64)[1][:, None].expand(K, Z))


# ---- what is trained


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("learn_weights", [True, False])
def test_what_is_not_to_be_trained_has_no_gradient(trainable, learn_weights):
    torch.manual_seed(0)
    prior = mixture(trainable=trainable, learn_weights=learn_weights)
    z = torch.randn(9, Z, dtype=torch.float64, requires_grad=True)
    prior.log_prob(z).sum().backward()
    assert (z.grad.abs() > 0).all()
    found = {name: value.grad is not None for name, value in prior.named_parameters() if value.requires_grad}
    expected = dict.fromkeys(["p_mu", "p_logvar"] * trainable + ["weight_logits"] * learn_weights, True)
    assert found == expected
    assert {"p_mu", "p_logvar", "weight_logits"} == set(prior.state_dict())


def test_learned_weights_move_to_the_data_and_keep_summing_to_one():
    torch.manual_seed(0)
    prior = mixture(spread=20.0, trainable=False, learn_weights=True, weights=None)
    z = mixture(spread=20.0).sample(2000).detach()
    shares = prior.component_probs(z).mean(0)  # components far apart: the best weights are the shares
    optimizer = torch.optim.Adam([prior.weight_logits], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        (-prior.log_prob(z).mean()).backward()
        optimizer.step()
        assert prior.log_component_probs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(prior.log_component_probs.exp(), shares, rtol=0, atol=1e-3)  # where Adam has settled


def test_a_random_mixture_starts_near_the_origin():
    torch.manual_seed(0)
    prior = MixturePrior.random(100, 20)
    assert prior.n_components == 100
    assert prior.z_dim == 20
    # 2,000 draws with sd 1 / sqrt(2000); the relative error of their sd is 1 / sqrt(4000), allow five
    assert prior.p_mu.std().item() * 2000**0.5 == pytest.approx(1, rel=0.08)
    raw = prior.p_logvar.exp().expm1().log()  # the inverse of softplus
    assert raw.std().item() * 2000**0.5 == pytest.approx(1, rel=0.08)
    assert torch.equal(prior.log_component_probs, prior.log_component_probs[:1].expand(100))


# ---- KL by one sample


def test_the_mean_of_the_one_sample_kl_is_the_kl():
    torch.manual_seed(0)
    prior, n = mixture(3, 1), 40_000
    q_mu = torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.float64)
    q_logvar = torch.tensor([[-1.0], [0.5], [-4.0]], dtype=torch.float64)
    z = q_mu + (0.5 * q_logvar).exp() * torch.randn(n, 3, 1, dtype=torch.float64)
    kl = prior.kl(q_mu, q_logvar, z).detach()
    assert kl.shape == (n, 3)
    line = torch.linspace(-20, 20, 40_001, dtype=torch.float64)[:, None, None]
    q = Independent(Normal(q_mu, (0.5 * q_logvar).exp()), 1).log_prob(line.expand(-1, 3, 1))
    exact = (q.exp() * (q - prior.log_prob(line).detach())).sum(0) * 1e-3
    assert (exact > 0.05).all()
    assert close_on_average(kl, exact, n_errors=5)


def test_the_one_sample_kl_of_a_standard_normal_in_disguise_has_its_closed_form_as_mean():
    torch.manual_seed(0)
    zeros = torch.zeros(1, Z, dtype=torch.float64)
    prior, (q_mu, q_logvar) = MixturePrior(zeros, zeros), torch.randn(2, 5, Z, dtype=torch.float64)
    z = q_mu + (0.5 * q_logvar).exp() * torch.randn(40_000, 5, Z, dtype=torch.float64)
    closed = StandardNormal(Z).kl(q_mu, q_logvar, z)
    assert closed.shape == (5,)
    assert close_on_average(prior.kl(q_mu, q_logvar, z).detach(), closed)


def test_the_gradient_of_the_one_sample_kl_is_that_of_the_difference_of_logs_draw_by_draw():
    torch.manual_seed(0)
    prior = mixture()
    q = [value.requires_grad_() for value in torch.randn(2, 8, Z, dtype=torch.float64).unbind()]
    eps = torch.randn(8, Z, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(value(q[0] + (0.5 * q[1]).exp() * eps).sum(), [*q, prior.p_mu, prior.p_logvar])
        for value in (lambda z: prior.kl(*q, z), lambda z: log_normal(z, *q) - prior.log_prob(z))
    )
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-10)
    assert found[0].abs().min() > 0


# ---- the VampPrior


def vamp_vae(n_pseudo=4, **options):
    torch.manual_seed(0)
    encoder = MLP(6, [5], 2 * Z, activation="tanh")
    prior = VampPrior(encoder, torch.rand(n_pseudo, 6), Z, **options)
    return VAE(encoder, MLP(Z, [5], 6, activation="tanh"), Bernoulli(), prior).double()


def test_a_vampprior_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs():
    model = vamp_vae(weights=WEIGHTS)
    torch.manual_seed(1)
    z = torch.randn(5, 7, Z, dtype=torch.float64)
    same = MixturePrior(*model.encode(model.prior.pseudo_inputs), weights=WEIGHTS).double()
    torch.testing.assert_close(model.prior.log_prob(z), same.log_prob(z))
    torch.testing.assert_close(model.prior.component_probs(z), same.component_probs(z))
    torch.manual_seed(2)
    found = model.prior.sample(9)
    torch.manual_seed(2)
    torch.testing.assert_close(found, same.sample(9))
    assert model.prior.n_components == 4


def test_a_vampprior_reads_what_the_encoder_is_now():
    model, z = vamp_vae(), torch.zeros(1, Z, dtype=torch.float64)
    before = model.prior.log_prob(z).item()
    with torch.no_grad():
        model.encoder[0].bias.add_(0.5)
    assert abs(model.prior.log_prob(z).item() - before) > 1e-3
    same = MixturePrior(*model.encode(model.prior.pseudo_inputs)).double()
    torch.testing.assert_close(model.prior.log_prob(z), same.log_prob(z))


def test_the_encoder_of_a_vampprior_is_stored_once(tmp_path):
    model = vamp_vae()
    assert {name for name in model.state_dict() if name.startswith("prior.")} == {
        "prior.pseudo_inputs",
        "prior.weight_logits",
    }
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names)) == len(list(model.parameters()))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")  # refuses shared weights
    other = vamp_vae()
    with torch.no_grad():
        for value in other.parameters():
            value.add_(1)
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    z = torch.ones(2, Z, dtype=torch.float64)
    assert torch.equal(other.prior.log_prob(z), model.prior.log_prob(z))


def test_the_prior_s_gradient_reaches_pseudo_inputs_and_encoder_and_not_the_decoder():
    model = vamp_vae()
    model.prior.log_prob(torch.ones(2, Z, dtype=torch.float64)).sum().backward()
    assert (model.prior.pseudo_inputs.grad.abs() > 0).all()
    for value in model.encoder.parameters():
        assert value.grad.abs().max() > 0
    assert all(value.grad is None for value in model.decoder.parameters())


def test_a_copy_of_a_vae_keeps_its_prior_with_its_own_encoder():
    model = vamp_vae()
    twin = copy.deepcopy(model)
    z = torch.ones(1, Z, dtype=torch.float64)
    before = model.prior.log_prob(z).item()
    with torch.no_grad():
        twin.encoder[0].bias.add_(0.5)
    assert model.prior.log_prob(z).item() == before
    assert abs(twin.prior.log_prob(z).item() - before) > 1e-3


def test_pseudo_inputs_that_training_moved_out_of_range_are_cut():
    model, z = vamp_vae(), torch.ones(1, Z, dtype=torch.float64)
    with torch.no_grad():
        model.prior.pseudo_inputs[0, :3] = torch.tensor([-4.0, 7.0, 1.5])
        found = model.prior.components()
        expected = model.encode(model.prior.pseudo_inputs.clamp(0, 1))
        model.prior.pseudo_inputs[0, :3] = torch.tensor([0.0, 1.0, 1.0])
        at_the_edge = model.prior.log_prob(z)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(model.prior.log_prob(z), at_the_edge)


# ---- what must raise

SQUARE = torch.zeros(2, 2)


@pytest.mark.parametrize("base", [Prior, Mixture])
def test_a_prior_without_a_density_cannot_be_made(base):
    with pytest.raises(TypeError, match="abstract"):
        base(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StandardNormal(0), "z_dim must be at least 1, got 0"),
        (lambda: StandardNormal(-2), "z_dim must be at least 1, got -2"),
        (lambda: VampPrior(MLP(6, [], 4), torch.zeros(2, 6), 0), "z_dim must be at least 1, got 0"),
        (lambda: MixturePrior.random(0, 2), "at least 1, got 0 and 2"),
        (lambda: MixturePrior.random(2, 0), "at least 1, got 2 and 0"),
        (lambda: MixturePrior(torch.zeros(0, 2), torch.zeros(0, 2)), "at least one component, got n_components=0"),
        (lambda: MixturePrior(SQUARE, torch.zeros(2, 3)), r"\(K, Z\), got \(2, 2\), \(2, 3\)"),
        (lambda: MixturePrior(torch.zeros(2), torch.zeros(2)), r"\(K, Z\), got \(2,\), \(2,\)"),
        (lambda: MixturePrior(SQUARE, SQUARE, weights=torch.tensor([0.5, 0.6])), "sum to 1.1; divide them"),
        (lambda: MixturePrior(SQUARE, SQUARE, weights=torch.tensor([1.5, -0.5])), "2 positive numbers, got .*-0.5"),
        (lambda: MixturePrior(SQUARE, SQUARE, weights=torch.tensor([1.0, 0.0])), "2 positive numbers, got .*0.0"),
        (lambda: MixturePrior(SQUARE, SQUARE, weights=torch.tensor([1.0, math.nan])), "2 positive numbers, got .*nan"),
        (lambda: MixturePrior(SQUARE, SQUARE, weights=torch.ones(3) / 3), "2 positive numbers, got"),
        (lambda: MixturePrior(SQUARE, SQUARE, weights=torch.ones(2, 1) / 2), "2 positive numbers, got"),
        (lambda: DiagonalGaussian(torch.zeros(2, 3), torch.zeros(3)), r"p_mu \(2, 3\) and p_logvar \(3,\)"),
        (lambda: VampPrior(MLP(6, [], 4), torch.zeros(2, 1, 6), 2), r"flat images \(K, D\), got shape \(2, 1, 6\)"),
        (lambda: VampPrior(MLP(6, [], 4), torch.zeros(0, 6), 2), "at least one component, got n_components=0"),
        (lambda: VampPrior(MLP(6, [], 4), torch.full((2, 6), 255.0), 2), r"\[0, 1\]"),
        (lambda: VampPrior(MLP(6, [], 4), torch.full((2, 6), -0.5), 2), r"\[0, 1\]"),
        (lambda: mixture().log_prob(torch.zeros(5, Z + 1)), rf"has {Z} latents, got z of shape \(5, {Z + 1}\)"),
        (lambda: mixture().component_probs(torch.zeros(5, 1)), rf"has {Z} latents, got z of shape \(5, 1\)"),
        (lambda: mixture().kl(*torch.zeros(2, 5, Z), torch.zeros(4, Z)), r"shapes do not match: z \(4, 3\)"),
    ],
)
def test_what_is_out_of_range_raises_with_the_value(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


# ---- importance-weighted bounds: a linear-Gaussian decoder under a mixture has an exact log p(x)

X_VAR = 0.3


def linear_case(n=30, *, widen=0.7):
    """A VAE with a linear decoder and a mixture prior, draws from it, and its exact log p(x)."""
    generator = torch.Generator().manual_seed(0)
    weight = 1.5 * torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64, generator=generator)).Q
    truth = LinearGaussian(weight, torch.ones(6, dtype=torch.float64), x_var=X_VAR)  # with N(0, I) as prior
    prior = mixture(3, 2, spread=1.0, trainable=True)
    model = VAE(MLP(6, [], 4), MLP(2, [], 6), Gaussian(x_var=X_VAR), prior).double()
    at_0, covariance = truth.posterior(torch.zeros(1, 6, dtype=torch.float64))
    slope = truth.posterior(torch.eye(6, dtype=torch.float64))[0] - at_0
    with torch.no_grad():
        model.likelihood.x_logvar.fill_(math.log(X_VAR))  # .double() widened a float32 logarithm
        model.decoder[0].weight.copy_(weight)
        model.decoder[0].bias.copy_(truth.bias)
        model.encoder[0].weight.copy_(torch.cat([slope.mT, torch.zeros(2, 6)]))
        model.encoder[0].bias.copy_(torch.cat([at_0[0], covariance.diagonal().log() + widen]))
        torch.manual_seed(1)
        noise = torch.randn(n, 6, dtype=torch.float64)
        x = model.decode(prior.sample(n)) + X_VAR**0.5 * noise
        variances = prior.p_logvar.exp()
        covariances = torch.stack([weight @ v.diag() @ weight.mT for v in variances]) + X_VAR * torch.eye(6)
        means = prior.p_mu @ weight.mT + truth.bias
        exact = MixtureSameFamily(Categorical(logits=prior.weight_logits), MultivariateNormal(means, covariances))
        return model.eval(), x, exact.log_prob(x)


def test_the_bounds_rise_to_log_px_under_a_mixture_prior():
    torch.manual_seed(0)
    model, x, exact = linear_case(8000, widen=1.5)
    with torch.no_grad():
        bounds = [objectives.elbo(model, x)["elbo_bound"]]
        bounds += [objectives.iwae(model, x, n_samples=k)["iwae_bound"] for k in (5, 50)]
    for lower, higher in itertools.pairwise([*bounds, exact]):
        difference = higher - lower  # paired, so the spread over examples cancels
        assert difference.mean() > 3 * difference.std() / len(x) ** 0.5
    assert (exact - bounds[-1]).mean() < 0.1  # and gets near


def test_importance_sampling_under_a_mixture_prior_is_right_within_its_own_error():
    torch.manual_seed(0)
    model, x, exact = linear_case(40)
    found = importance_log_px(model, x, n_samples=4000, bounds=(1, 40))
    assert 0 < found.monte_carlo_error < 0.01
    assert abs(found.mean.mean - exact.mean().item()) < 5 * found.monte_carlo_error
    assert found.iwae_bounds[1].mean() < found.iwae_bounds[40].mean() < found.log_px.mean()


def test_pieces_of_the_importance_weights_fit_the_memory_and_change_nothing_but_noise(monkeypatch):
    model, x, exact = linear_case(7)
    held = []
    log_prob = model.prior.log_prob

    def recorded(z):
        held.append(z[..., 0].numel() * 3 * 8)  # bytes of the densities of three components in float64
        return log_prob(z)

    monkeypatch.setattr(model.prior, "log_prob", recorded)
    torch.manual_seed(0)
    found = importance_log_px(model, x, n_samples=3000, memory_mb=0.02)
    assert max(held) <= 0.02 * 2**20
    assert sum(held) == 7 * 3000 * 3 * 8
    assert abs(found.mean.mean - exact.mean().item()) < 5 * found.monte_carlo_error


@pytest.mark.parametrize(("n_components", "fits"), [(3, True), (2000, False)])
def test_the_memory_bound_counts_the_components_of_the_prior(n_components, fits):
    torch.manual_seed(0)
    prior = MixturePrior.random(n_components, 2)
    model = VAE(MLP(6, [], 4), MLP(2, [], 6), Bernoulli(), prior).eval()
    arguments = {"n_samples": 4, "memory_mb": 0.01}  # 10,486 bytes: 437 densities of 3 components, none of 2,000
    if fits:
        assert importance_log_px(model, torch.zeros(3, 6), **arguments).log_px.isfinite().all()
    else:
        with pytest.raises(ValueError, match=r"memory_mb=0.01 .*6 values, or 2000 components of the prior"):
            importance_log_px(model, torch.zeros(3, 6), **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 4, "memory_mb": 1e-6}, "memory_mb=1e-06 does not hold one sample: .* 6 values"),
        ({"n_samples": 4, "bounds": (0,)}, "1 <= m <= n_samples .*got m=0, n_samples=4"),
        ({"n_samples": 4, "bounds": (2, -2)}, "got m=-2, n_samples=4"),
        ({"n_samples": 4, "bounds": (3,)}, "got m=3, n_samples=4"),
        ({"n_samples": 4, "bounds": (8,)}, "got m=8, n_samples=4"),
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
    ],
)
def test_importance_sampling_refuses_what_is_out_of_range(options, message):
    model, x, _ = linear_case(3)
    with pytest.raises(ValueError, match=message):
        importance_log_px(model, x, **options)


@pytest.mark.parametrize("n_samples", [0, -3])
@pytest.mark.parametrize("bound", ["iwae", "dreg", "log_weights"])
def test_a_bound_needs_a_sample(bound, n_samples):
    model, x, _ = linear_case(3)
    with pytest.raises(ValueError, match=f"n_samples must be at least 1, got {n_samples}"):
        getattr(objectives, bound)(model, x, n_samples=n_samples)


def test_dreg_refuses_a_batch_that_is_not_flat():
    with pytest.raises(ValueError, match=r"flat examples, \(B, D\)"):
        objectives.dreg(linear_case(3)[0], torch.zeros(2, 1, 6, dtype=torch.float64), n_samples=2)


# ---- gradients of the importance-weighted bounds


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def gradient(model, objective, x, *, part=None, **options):
    """Of the mean loss, by the parameters of the model or of one of its parts."""
    parameters = list((getattr(model, part) if part else model).parameters())
    return flat(torch.autograd.grad(objective(model, x, **options)["loss"].mean(), parameters))


def by_hand(model, x, k, *, seed):
    """(log w, normalised weights, z, q_mu, q_logvar) from the same noise, log w with all its gradients."""
    q_mu, q_logvar = model.encode(x)
    torch.manual_seed(seed)
    eps = torch.randn(k, *q_mu.shape, dtype=x.dtype)
    z = q_mu + (0.5 * q_logvar).exp() * eps
    log_w = (
        Normal(model.decode(z), X_VAR**0.5).log_prob(x).sum(-1)
        + model.prior.log_prob(z)
        - Normal(q_mu, (0.5 * q_logvar).exp()).log_prob(z).sum(-1)
    )
    return log_w, log_w.detach().softmax(0), z, q_mu, q_logvar


@pytest.mark.parametrize("k", [1, 5])
def test_the_gradient_of_iwae_is_the_weighted_sum_of_those_of_the_log_weights(k):
    model, x, _ = linear_case(4)
    log_w, weights, *_ = by_hand(model, x, k, seed=3)
    expected = flat(torch.autograd.grad(-(weights * log_w).sum(0).mean(), list(model.parameters())))
    torch.manual_seed(3)
    found = gradient(model, objectives.iwae, x, n_samples=k)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    direction, step = torch.randn(len(found), dtype=torch.float64), 1e-5
    values = []
    for sign in (1, -1):
        moved, at = copy.deepcopy(model), 0
        with torch.no_grad():
            for value in moved.parameters():
                value.add_(sign * step * direction[at : at + value.numel()].view_as(value))
                at += value.numel()
        torch.manual_seed(3)
        values.append(objectives.iwae(moved, x, n_samples=k)["loss"].mean().item())
    # central differences: step^2 times a third derivative
    assert (values[0] - values[1]) / (2 * step) == pytest.approx((found @ direction).item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_the_gradient_of_dreg_is_its_formula(k):
    model, x, _ = linear_case(4)
    log_w, weights, z, q_mu, q_logvar = by_hand(model, x, k, seed=3)
    others = [*model.decoder.parameters(), *(p for p in model.prior.parameters() if p.requires_grad)]
    expected = flat(torch.autograd.grad((weights * log_w).sum(0).mean(), others, retain_graph=True))
    leaf = z.detach().requires_grad_()
    held = (
        Normal(model.decode(leaf), X_VAR**0.5).log_prob(x).sum(-1)
        + model.prior.log_prob(leaf)
        - Normal(q_mu.detach(), (0.5 * q_logvar.detach()).exp()).log_prob(leaf).sum(-1)
    )
    (slope,) = torch.autograd.grad(held.sum(), leaf)
    by_encoder = torch.autograd.grad(z, list(model.encoder.parameters()), weights[..., None] ** 2 * slope / len(x))
    torch.manual_seed(3)
    terms = objectives.dreg(model, x, n_samples=k)
    found = flat(torch.autograd.grad(terms["loss"].mean(), [*others, *model.encoder.parameters()]))
    torch.testing.assert_close(-found, torch.cat([expected, flat(by_encoder)]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_dreg_has_the_value_of_iwae(k):
    model, x, _ = linear_case(20)
    torch.manual_seed(0)
    expected = objectives.iwae(model, x, n_samples=k)
    torch.manual_seed(0)
    found = objectives.dreg(model, x, n_samples=k)
    assert set(found) == set(expected) == {"loss", "iwae_bound"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)
    assert not found["iwae_bound"].requires_grad
    objectives.check_terms(found, 20)
    with torch.inference_mode():
        torch.manual_seed(0)
        torch.testing.assert_close(objectives.dreg(model, x, n_samples=k)["loss"], expected["loss"])


def test_dreg_of_a_very_narrow_posterior_is_not_rounding_errors():
    torch.manual_seed(0)
    model = VAE(MLP(6, [], 4), MLP(2, [], 6), Gaussian(x_var=X_VAR), StandardNormal(2))
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.tensor([3.0, -3.0, -30.0, -30.0]))  # sd 3e-7 at 3, where float32 steps 2e-7
    x, found = torch.zeros(50, 6), []
    for objective in (objectives.iwae, objectives.dreg):
        torch.manual_seed(0)
        found.append(objective(model, x, n_samples=1)["iwae_bound"].detach())
    # log p(x|z) and log p(z) hardly vary over so narrow a q; of numbers near 60, float32 keeps 1e-5
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("k", [1, 5])
def test_dreg_and_iwae_have_one_mean_gradient_and_dreg_less_noise_in_the_encoder(k):
    model, x, _ = linear_case(2, widen=0.3)
    torch.manual_seed(0)
    n, many = 120, x.repeat(100, 1)
    for part in ("encoder", "decoder", "prior"):
        draws = {
            name: torch.stack(
                [gradient(model, getattr(objectives, name), many, part=part, n_samples=k) for _ in range(n)]
            )
            for name in ("iwae", "dreg")
        }
        variance = {name: values.var(0) for name, values in draws.items()}
        difference = draws["dreg"].mean(0) - draws["iwae"].mean(0)
        standard_error = ((variance["dreg"] + variance["iwae"]) / n).sqrt()
        assert (difference.abs() < 5 * standard_error + 1e-12).all(), part
        # enough draws to tell: the gradient itself is far from zero
        assert (draws["iwae"].mean(0).abs() > 10 * standard_error).double().mean() > 0.3, part
        if part == "encoder":
            assert variance["dreg"].sum() < 0.7 * variance["iwae"].sum()


@pytest.mark.parametrize("k", [1, 5])
def test_dreg_of_the_encoder_vanishes_in_every_draw_at_the_true_posterior(k):
    torch.manual_seed(0)
    model, x, _ = linear_case(6, widen=0.0)  # the encoder is the posterior under N(0, I)
    model.prior = StandardNormal(2)
    for _ in range(5):
        found = gradient(model, objectives.dreg, x, part="encoder", n_samples=k)
        assert found.abs().max() < 1e-10  # float64
        assert gradient(model, objectives.iwae, x, part="encoder", n_samples=k).abs().max() > 1e-2
        assert gradient(model, objectives.dreg, x, part="decoder", n_samples=k).abs().max() > 1e-2


@pytest.mark.parametrize("bound", ["iwae", "dreg"])
def test_a_bound_teaches_the_encoder_of_a_vampprior_as_a_prior_too(bound):
    model = vamp_vae()
    x = (torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    torch.manual_seed(0)
    getattr(objectives, bound)(model, x, n_samples=3)["loss"].mean().backward()
    tied = [p.grad.clone() for p in model.encoder.parameters()]
    assert (model.prior.pseudo_inputs.grad.abs() > 0).all()
    model.zero_grad()
    model.prior = MixturePrior(*(value.detach() for value in model.prior.components()))
    torch.manual_seed(0)
    getattr(objectives, bound)(model, x, n_samples=3)["loss"].mean().backward()
    through_q = [p.grad.clone() for p in model.encoder.parameters()]
    # components are functions of the encoder: the chain rule's second part comes by the fixed mixture's gradients
    components = vamp_vae().prior
    by_components = [model.prior.p_mu.grad, model.prior.p_logvar.grad]
    through_p = torch.autograd.grad(components.components(), list(components._shared[0].parameters()), by_components)
    for whole, one, other in zip(tied, through_q, through_p, strict=True):
        torch.testing.assert_close(whole, one + other, rtol=1e-9, atol=1e-10)


# ---- priors made of factors


def factor_marginals():
    circle = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])  # one value twice
    return FactorMarginals([torch.tensor([[-0.9], [0.0], [0.9]]), circle], [0.2, 0.3]).double()


def test_factor_marginals_are_a_product_of_torch_mixtures():
    torch.manual_seed(0)
    prior, z = factor_marginals(), torch.randn(4, 5, 3, dtype=torch.float64)
    line, circle = prior.codes_0, prior.codes_1
    expected = sum(
        MixtureSameFamily(
            Categorical(logits=torch.zeros(len(codes), dtype=torch.float64)), Independent(Normal(codes, sd), 1)
        ).log_prob(part)
        for codes, sd, part in ((line, 0.2, z[..., :1]), (circle, 0.3, z[..., 1:]))
    )
    torch.testing.assert_close(prior.log_prob(z), expected, rtol=1e-10, atol=1e-10)


def test_draws_of_factor_marginals_have_its_moments():
    torch.manual_seed(0)
    prior, n = factor_marginals(), 40_000
    z = prior.sample(n)
    assert z.shape == (n, 3)
    variance = torch.tensor([0.54 + 0.04, 0.75 - 0.0625 + 0.09, 0.25 - 0.0625 + 0.09], dtype=torch.float64)
    assert ((z.mean(0) - torch.tensor([0, 0.25, 0.25])).abs() < 6 * (variance / n).sqrt()).all()
    assert (z.var(0) / variance - 1).abs().max() < 0.05


def test_the_smoothed_uniform_is_a_density_uniform_inside_and_gaussian_at_its_ends():
    prior = SmoothedUniform(1, half_width=1.0, sd=0.05).double()
    z = torch.linspace(-2, 2, 40_001, dtype=torch.float64)[:, None]
    log_p = prior.log_prob(z)
    assert abs(torch.trapezoid(log_p.exp(), z[:, 0]).item() - 1) < 1e-6
    inside = z[:, 0].abs() < 0.7
    torch.testing.assert_close(log_p[inside], torch.full_like(log_p[inside], -math.log(2)), rtol=0, atol=1e-8)
    cdf = Normal(0.0, 0.05).cdf
    near = z[(z[:, 0].abs() > 0.8) & (z[:, 0].abs() < 1.2)]
    written = ((cdf(near + 1) - cdf(near - 1)) / 2).log()[:, 0]
    torch.testing.assert_close(prior.log_prob(near), written, rtol=1e-6, atol=1e-6)


def test_the_smoothed_uniform_pulls_back_what_is_far_outside_and_leaves_alone_what_is_inside():
    prior = SmoothedUniform(3, sd=0.01)
    z = torch.tensor([[0.5, -3.0, 3.0]], requires_grad=True)
    value = prior.log_prob(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert value.isfinite().all()
    assert gradient[0, 0] == 0
    torch.testing.assert_close(gradient[0, 1:], torch.tensor([2.0, -2.0]) / 0.01**2, rtol=1e-2, atol=0)


def test_the_kl_of_a_narrow_posterior_to_a_uniform_has_the_value_of_the_write_up():
    """9.583 nats a latent for sd 1e-4 / 3 on [-1, 1], wherever the mean is."""
    torch.manual_seed(0)
    prior = SmoothedUniform(5)
    q_mu, q_logvar = 0.9 * (2 * torch.rand(200, 5) - 1), torch.full((200, 5), 2 * math.log(1e-4 / 3))
    z = q_mu + torch.exp(0.5 * q_logvar) * torch.randn(200, 5)
    torch.testing.assert_close(prior.kl(q_mu, q_logvar, z), torch.full((200,), 5 * 9.583), rtol=0, atol=5e-3)


def test_draws_of_the_smoothed_uniform_have_its_moments():
    torch.manual_seed(0)
    z = SmoothedUniform(2, half_width=2.0, sd=0.5).sample(40_000)
    assert z.mean(0).abs().max() < 0.05
    assert (z.var(0) / (4 / 3 + 0.25) - 1).abs().max() < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmoothedUniform(0), "z_dim must be at least 1"),
        (lambda: SmoothedUniform(2, sd=0.0), "must be positive, got 1.0 and 0.0"),
        (lambda: SmoothedUniform(2, half_width=-1.0), "must be positive, got -1.0"),
        (lambda: SmoothedUniform(2).log_prob(torch.zeros(4, 3)), r"2 latents, got z of shape \(4, 3\)"),
        (lambda: FactorMarginals([], []), r"codes must be \(K, d\)"),
        (lambda: FactorMarginals([torch.zeros(3)], [1.0]), r"got \[\(3,\)\]"),
        (lambda: FactorMarginals([torch.zeros(3, 1)], [1.0, 1.0]), "sds must be 1 positive"),
        (lambda: FactorMarginals([torch.zeros(3, 1)], [0.0]), r"got \[0.0\]"),
        (lambda: FactorMarginals([torch.zeros(3, 1)], [1.0]).log_prob(torch.zeros(2, 2)), r"1 latents, got z of shape"),
    ],
)
def test_a_prior_of_factors_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
