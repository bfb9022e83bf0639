"""Bounds against an exact oracle: a linear-Gaussian model whose log p(x) and posterior are known."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from vae_helpers import objectives
from vae_helpers.data import Batches, LinearGaussian
from vae_helpers.evaluation import evaluate_terms
from vae_helpers.likelihoods import Bernoulli, Gaussian
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import fit

SCALES = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)


@pytest.fixture
def truth():
    """A linear-Gaussian model whose W has orthogonal columns, so that the exact posterior is diagonal."""
    generator = torch.Generator().manual_seed(0)
    orthogonal = torch.linalg.qr(torch.randn(6, 3, dtype=torch.float64, generator=generator)).Q
    bias = torch.randn(6, dtype=torch.float64, generator=generator)
    return LinearGaussian(orthogonal * SCALES, bias, x_var=0.3)


def linear_vae(truth, *, shift=0.0, widen=0.0):
    """The VAE that is ``truth``, its encoder the exact posterior, moved by ``shift`` and widened in log variance."""
    x_dim, z_dim = truth.weight.shape
    model = VAE(
        MLP(x_dim, [], 2 * z_dim), MLP(z_dim, [], x_dim), Gaussian(x_var=truth.x_var), StandardNormal(z_dim)
    ).double()
    mean_at_0, covariance = truth.posterior(torch.zeros(1, x_dim, dtype=torch.float64))
    slope = truth.posterior(torch.eye(x_dim, dtype=torch.float64))[0] - mean_at_0
    with torch.no_grad():
        model.likelihood.x_logvar.fill_(math.log(truth.x_var))  # .double() widened a float32 logarithm
        model.decoder[0].weight.copy_(truth.weight)
        model.decoder[0].bias.copy_(truth.bias)
        model.encoder[0].weight.copy_(torch.cat([slope.mT, torch.zeros(z_dim, x_dim)]))
        model.encoder[0].bias.copy_(torch.cat([mean_at_0[0] + shift, covariance.diagonal().log() + widen]))
    return model.eval()


def sample(truth, n):
    generator = torch.Generator().manual_seed(1)
    z, noise = (torch.randn(n, d, dtype=torch.float64, generator=generator) for d in truth.weight.shape[::-1])
    return z @ truth.weight.mT + truth.bias + truth.x_var**0.5 * noise


def test_log_weights_are_constant_and_exact_at_the_true_posterior(truth):
    x = sample(truth, 50)
    log_w = objectives.log_weights(linear_vae(truth), x, n_samples=20)
    assert log_w.shape == (20, 50)
    torch.testing.assert_close(log_w, truth.log_prob(x).expand(20, -1), rtol=1e-9, atol=1e-9)  # float64


def test_log_weights_of_a_very_narrow_posterior_are_not_rounding_errors():
    torch.manual_seed(0)
    model = VAE(MLP(6, [], 4), MLP(2, [], 6), Gaussian(x_var=0.3), StandardNormal(2)).eval()
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.tensor([3.0, -3.0, -40.0, -40.0]))  # sd 2e-9 at 3, where float32 steps 2e-7
        log_w = objectives.log_weights(model, torch.zeros(1, 6), n_samples=5000)[:, 0]
    # log p(x|z) and log p(z) do not vary over so narrow a q: what is left is eps^2 / 2 summed over two latents,
    # an exponential with mean and sd 1 (relative error of an sd of n draws: sqrt(8 / (4 n)) = 2 %)
    assert log_w.std().item() == pytest.approx(1, rel=0.12)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_iwae_is_exact_for_every_k_and_example_at_the_true_posterior(truth, k):
    x = sample(truth, 50)
    bound = objectives.iwae(linear_vae(truth), x, n_samples=k)["iwae_bound"]
    torch.testing.assert_close(bound, truth.log_prob(x), rtol=1e-9, atol=1e-9)


def test_elbo_is_exact_on_average_for_each_example_at_the_true_posterior(truth):
    torch.manual_seed(0)
    x, n = sample(truth, 8), 20_000
    bound = objectives.elbo(linear_vae(truth), x.repeat(n, 1))["elbo_bound"].view(n, 8)
    error = (bound.mean(0) - truth.log_prob(x)).abs()
    standard_error = bound.std(0) / n**0.5
    assert (standard_error < 0.02).all()
    assert (error < 6 * standard_error).all()


def test_elbo_misses_log_px_by_the_kl_to_the_true_posterior(truth):
    torch.manual_seed(0)
    x, n = sample(truth, 8), 20_000
    bound = objectives.elbo(linear_vae(truth, shift=0.5, widen=0.7), x.repeat(n, 1))["elbo_bound"].view(n, 8)
    exact_var = truth.posterior(x)[1].diagonal()
    gap = 0.5 * (math.exp(0.7) - 1 - 0.7 + 0.25 / exact_var).sum()  # KL of two Gaussians, closed form
    error = (truth.log_prob(x) - bound.mean(0) - gap).abs()
    assert gap > 1
    assert (error < 6 * bound.std(0) / n**0.5).all()


def test_iwae_rises_with_k_from_the_elbo_towards_log_px_at_a_wrong_posterior(truth):
    torch.manual_seed(0)
    model, x = linear_vae(truth, shift=0.3, widen=0.7), sample(truth, 4000)
    bounds = {"elbo": objectives.elbo(model, x)["elbo_bound"]}
    for k in (1, 2, 8, 64):
        bounds[k] = objectives.iwae(model, x, n_samples=k)["iwae_bound"]
    bounds["exact"] = truth.log_prob(x)
    ordered = [bounds[key] for key in ("elbo", 2, 8, 64, "exact")]
    for lower, higher in itertools.pairwise(ordered):
        difference = higher - lower  # paired, so the spread over examples cancels
        assert difference.mean() > 3 * difference.std() / len(x) ** 0.5
    same = bounds["elbo"] - bounds[1]  # k = 1 is the ELBO with its KL sampled
    assert same.mean().abs() < 6 * same.std() / len(x) ** 0.5


def test_terms_add_up_and_have_one_value_per_example(truth):
    model, x = linear_vae(truth, shift=0.3), sample(truth, 5)
    terms = objectives.elbo(model, x, beta=3.0)
    assert {name: tuple(value.shape) for name, value in terms.items()} == dict.fromkeys(
        ("loss", "log_px", "kl", "elbo_bound"), (5,)
    )
    torch.testing.assert_close(terms["elbo_bound"], terms["log_px"] - terms["kl"])
    torch.testing.assert_close(terms["loss"], 3 * terms["kl"] - terms["log_px"])
    terms = objectives.iwae(model, x, n_samples=3)
    assert terms["iwae_bound"].shape == (5,)
    assert torch.equal(terms["loss"], -terms["iwae_bound"])


def test_beta_changes_the_loss_and_nothing_else(truth):
    model, x = linear_vae(truth, shift=0.3), sample(truth, 5)
    found = []
    for beta in (0.0, 1.0, 4.0):
        torch.manual_seed(0)
        found.append(objectives.elbo(model, x, beta=beta))
    for terms in found[1:]:
        for name in ("log_px", "kl", "elbo_bound"):
            assert torch.equal(terms[name], found[0][name])
        assert (terms["loss"] > found[0]["loss"]).all()
    torch.testing.assert_close(found[0]["loss"], -found[0]["log_px"])


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_evaluated_bounds_do_not_change_with_the_batch_size(truth, batch_size):
    model, x = linear_vae(truth), sample(truth, 50)
    # at the true posterior IWAE does not depend on the noise, so any difference is the batching's fault
    found = evaluate_terms(model, x, partial(objectives.iwae, n_samples=3), batch_size=batch_size)
    expected = truth.log_prob(x)
    assert found["iwae_bound"].mean == pytest.approx(expected.mean().item(), rel=1e-9)
    assert found["iwae_bound"].standard_error == pytest.approx(expected.std().item() / 50**0.5, rel=1e-9)
    assert found["loss"].n == 50


def test_a_loss_is_the_same_alone_and_in_a_batch():
    torch.manual_seed(0)
    model = Autoencoder(MLP(6, [5], 2), MLP(2, [5], 6), Bernoulli(), z_dim=2).eval()
    x = (torch.rand(9, 6) > 0.5).float()
    alone = torch.cat([objectives.reconstruction(model, row[None])["loss"] for row in x])
    torch.testing.assert_close(objectives.reconstruction(model, x)["loss"], alone)


def test_reconstruction_is_the_log_density_at_the_code():
    torch.manual_seed(0)
    model = Autoencoder(MLP(6, [5], 2), MLP(2, [5], 6), Gaussian(x_var=0.3), z_dim=2)
    x = torch.randn(4, 6)
    terms = objectives.reconstruction(model, x)
    expected = torch.distributions.Normal(model.decode_mean(model.encode(x)), 0.3**0.5).log_prob(x).sum(-1)
    torch.testing.assert_close(terms["log_px"], expected)
    assert torch.equal(terms["loss"], -terms["log_px"])


def test_a_linear_vae_trains_to_the_optimum_of_probabilistic_pca():
    generator = torch.Generator().manual_seed(0)
    orthogonal = torch.linalg.qr(torch.randn(5, 2, generator=generator)).Q
    x = LinearGaussian(orthogonal * torch.tensor([2.0, 1.0]), torch.ones(5), x_var=0.3).sample(2000, seed=2)
    optimum = PCA(2).fit(x.numpy()).score(x.numpy())  # the highest mean log p(x) of any such model
    torch.manual_seed(0)
    model = VAE(MLP(5, [], 4), MLP(2, [], 5), Gaussian(x_var=1.0, learned=True), StandardNormal(2))
    batches = Batches(x, batch_size=500, seed=0)
    for steps, lr in ((1500, 2e-2), (500, 1e-3)):
        fit(model, batches, objectives.elbo, steps=steps, lr=lr, progress=False)
    with torch.no_grad():
        x_var = model.likelihood.x_logvar.exp().item()
        learned = LinearGaussian(model.decoder[0].weight, model.decoder[0].bias, x_var)
        log_px = learned.log_prob(x).mean().item()
        torch.manual_seed(0)
        bound = evaluate_terms(model, x.repeat(20, 1), objectives.elbo)["elbo_bound"].mean
    # the optimum is flat: parameters off by 1 part in 30 (Adam at 1e-3 with noisy gradients) cost 1e-3 nats each
    assert optimum - 0.02 < log_px < optimum + 1e-4
    assert optimum - 0.04 < bound < optimum + 0.02  # 40,000 draws with sd about 1.5: standard error 0.008
    assert x_var == pytest.approx(PCA(2).fit(x.numpy()).noise_variance_, rel=0.05)


@pytest.mark.parametrize("beta", [-1.0, math.nan, math.inf])
def test_a_beta_out_of_range_raises(truth, beta):
    with pytest.raises(ValueError, match=f"beta.*{beta}"):
        objectives.elbo(linear_vae(truth), sample(truth, 2), beta=beta)


@pytest.mark.parametrize("k", [0, -3])
def test_iwae_needs_a_sample(truth, k):
    with pytest.raises(ValueError, match=f"at least 1, got {k}"):
        objectives.iwae(linear_vae(truth), sample(truth, 2), n_samples=k)


@pytest.mark.parametrize("shape", [(6,), (2, 1, 6), (2, 3, 2)])
def test_a_batch_that_is_not_flat_raises(truth, shape):
    x, model = torch.zeros(shape, dtype=torch.float64), linear_vae(truth)
    deterministic = Autoencoder(MLP(6, [], 2), MLP(2, [], 6), Gaussian(x_var=1.0), z_dim=2).double()
    for call in (
        lambda: objectives.elbo(model, x),
        lambda: objectives.iwae(model, x, n_samples=2),
        lambda: objectives.reconstruction(deterministic, x),
    ):
        with pytest.raises(ValueError, match=r"flat examples, \(B, D\)"):
            call()


def test_pixels_of_0_to_255_raise_in_the_bound():
    model = VAE(MLP(6, [], 4), MLP(2, [], 6), Bernoulli(), StandardNormal(2))
    with pytest.raises(ValueError, match="255"):
        objectives.elbo(model, torch.full((2, 6), 255.0))


@pytest.mark.parametrize("bad", [torch.tensor(1.0), torch.zeros(1), torch.zeros(4, 4), torch.zeros(4, 1)])
def test_terms_that_are_not_one_value_per_example_raise(bad):
    good = {"loss": torch.zeros(4), "kl": torch.zeros(4)}
    objectives.check_terms(good, 4)
    with pytest.raises(ValueError, match=r"'kl'.*expected \(4,\)"):
        objectives.check_terms(good | {"kl": bad}, 4)


def test_terms_without_a_loss_raise():
    with pytest.raises(ValueError, match="'loss'"):
        objectives.check_terms({"elbo_bound": torch.zeros(4)}, 4)


def test_the_linear_gaussian_posterior_is_bayes_rule(truth):
    x = sample(truth, 1)
    mean, covariance = truth.posterior(x)
    posterior = torch.distributions.MultivariateNormal(mean[0], covariance)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 3)))
    joint = torch.distributions.Normal(z @ truth.weight.mT + truth.bias, truth.x_var**0.5).log_prob(x).sum(
        -1
    ) + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(joint - posterior.log_prob(z), truth.log_prob(x).expand(5))
