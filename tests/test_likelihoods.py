"""Observation models against torch.distributions: log_prob, mean and sample describe one distribution."""

import math

import pytest
import torch
from torch import distributions as oracle

from vae_helpers.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, GaussianOptimal, GaussianPerPixel

ALL = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": lambda: Gaussian(x_var=0.3),
    "gaussian_sigmoid": lambda: Gaussian(x_var=0.3, output="sigmoid"),
    "gaussian_learned": lambda: Gaussian(x_var=0.3, learned=True),
    "gaussian_per_pixel": lambda: GaussianPerPixel(min_x_var=0.1),
}


def torch_distribution(name, out):
    """The same distribution, written with torch.distributions."""
    if name == "bernoulli":
        return oracle.Bernoulli(logits=out)
    if name == "continuous_bernoulli":
        return oracle.ContinuousBernoulli(logits=out)
    if name == "gaussian_per_pixel":
        mean, logvar = out.chunk(2, -1)
        return oracle.Normal(mean, (logvar.exp() + 0.1).sqrt())
    return oracle.Normal(torch.sigmoid(out) if name == "gaussian_sigmoid" else out, math.sqrt(0.3))


def decoder_output(likelihood, *leading):
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(*leading, 4 * likelihood.n_params, generator=generator)


@pytest.mark.parametrize("name", ALL)
def test_log_prob_is_the_density_summed_over_the_data_dimensions_only(name):
    likelihood = ALL[name]()
    out = decoder_output(likelihood, 3, 5)
    x = (torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    found = likelihood.log_prob(x, out)
    assert found.shape == (3, 5)
    # float32: a sum of 4 terms of size 10
    torch.testing.assert_close(found, torch_distribution(name, out).log_prob(x).sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_mean_and_samples_have_the_moments_of_the_density(name):
    torch.manual_seed(0)
    likelihood = ALL[name]()
    out = decoder_output(likelihood)
    expected = torch_distribution(name, out)
    n = 50_000
    draws = likelihood.sample(out.expand(n, -1)).detach()
    torch.testing.assert_close(likelihood.mean(out), expected.mean, rtol=1e-5, atol=1e-5)
    assert ((draws.mean(0) - expected.mean).abs() < 6 * (expected.variance / n).sqrt()).all()  # 6 standard errors
    # a sample variance has relative standard error sqrt((kurtosis - 1) / n); the Bernoulli's at logits up to 5
    # has kurtosis 1/var - 3 + ... < 1 / var
    slack = 6 * ((3 + 1 / expected.variance) / n).sqrt()
    assert ((draws.var(0) / expected.variance - 1).abs() < slack).all()


@pytest.mark.parametrize("logit", [-100.0, -20.0, -12.0, 0.0, 1e-3, 12.0, 20.0, 100.0])
def test_continuous_bernoulli_mean_holds_for_saturated_logits(logit):
    """E[x] = 1 / (1 - exp(-l)) - 1 / l; the background of a digit sits at logits below -20."""
    wide = torch.tensor(logit, dtype=torch.float64)
    exact = 0.5 + wide / 12 if abs(logit) < 0.01 else 1 / -torch.expm1(-wide) - 1 / wide
    found = ContinuousBernoulli().mean(torch.tensor([logit]))
    assert found.item() == pytest.approx(exact.item(), abs=1e-3)


def test_continuous_bernoulli_samples_hold_for_saturated_logits():
    torch.manual_seed(0)
    draws = ContinuousBernoulli().sample(torch.full((20_000,), -50.0))  # exponential with mean 1/50, all but cut at 1
    assert draws.mean().item() == pytest.approx(0.02, abs=6 * 0.02 / 20_000**0.5)


@pytest.mark.parametrize("x_var", [0.0, -1.0, math.nan, math.inf])
def test_a_variance_that_is_not_positive_and_finite_raises(x_var):
    with pytest.raises(ValueError, match=f"x_var.*{x_var}"):
        Gaussian(x_var=x_var)
    with pytest.raises(ValueError, match="x_var"):
        Gaussian(x_var=x_var, learned=True)


def test_a_learned_variance_is_a_parameter_and_gets_a_gradient():
    likelihood = Gaussian(x_var=0.5, learned=True)
    x, out = torch.ones(2, 3), torch.zeros(2, 3)
    likelihood.log_prob(x, out).sum().backward()
    # d/dlogvar of -0.5 (logvar + 1/var) over 6 numbers, at var = 0.5: -0.5 * 6 * (1 - 2)
    assert likelihood.x_logvar.grad.item() == pytest.approx(3)
    assert not list(Gaussian(x_var=0.5).parameters())


def test_optimal_variance_is_the_maximiser():
    torch.manual_seed(0)
    x, out = torch.rand(16, 5), torch.randn(16, 5)
    likelihood = GaussianOptimal().train()
    best = likelihood.log_prob(x, out).sum().item()
    x_var = ((x - out) ** 2).mean().item()
    assert best == pytest.approx(Gaussian(x_var=x_var).log_prob(x, out).sum().item(), rel=1e-5)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert Gaussian(x_var=factor * x_var).log_prob(x, out).sum().item() < best


def test_optimal_variance_is_kept_as_a_running_average_that_starts_at_the_first_batch():
    likelihood = GaussianOptimal().train()
    out = torch.zeros(8, 5)
    likelihood.log_prob(out + 0.1, out)
    assert likelihood.x_logvar.exp().item() == pytest.approx(0.01, rel=1e-5)
    likelihood.log_prob(out + 1.0, out)
    assert likelihood.x_logvar.item() == pytest.approx(0.99 * math.log(0.01), rel=1e-5)


def test_optimal_variance_does_not_depend_on_the_batch_in_evaluation_mode():
    torch.manual_seed(0)
    likelihood = GaussianOptimal().train()
    x, out = torch.rand(16, 5), torch.randn(16, 5)
    likelihood.log_prob(x, out)
    before = likelihood.x_logvar.clone()
    likelihood.eval()
    whole = likelihood.log_prob(x, out)
    parts = torch.cat([likelihood.log_prob(x[i : i + 3], out[i : i + 3]) for i in range(0, 16, 3)])
    torch.testing.assert_close(whole, parts)
    assert torch.equal(likelihood.x_logvar, before)


def test_optimal_variance_is_finite_for_a_perfect_reconstruction():
    x = torch.zeros(4, 3)
    assert GaussianOptimal().train().log_prob(x, x).isfinite().all()


def test_per_pixel_variance_collapses_without_a_floor_and_is_bounded_with_it():
    x = torch.zeros(1, 3)

    def density(min_x_var, logvar):
        out = torch.cat([torch.zeros(1, 3), torch.full((1, 3), logvar)], -1)
        return GaussianPerPixel(min_x_var=min_x_var).log_prob(x, out).item()

    assert density(0.0, -60.0) > 80  # 3 pixels, 30 nats each, and no limit
    at_the_floor = Gaussian(x_var=0.01).log_prob(x, torch.zeros(1, 3)).item()
    assert density(0.01, -60.0) == pytest.approx(at_the_floor, rel=1e-5)
    assert density(0.01, math.log(0.01)) == pytest.approx(Gaussian(x_var=0.02).log_prob(x, x).item(), rel=1e-5)


@pytest.mark.parametrize("min_x_var", [-0.1, math.nan])
def test_a_negative_floor_raises(min_x_var):
    with pytest.raises(ValueError, match="min_x_var"):
        GaussianPerPixel(min_x_var=min_x_var)


def test_a_decoder_of_the_wrong_width_raises():
    with pytest.raises(ValueError, match="shapes do not match"):
        GaussianPerPixel().log_prob(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="shapes do not match"):
        Gaussian(x_var=1.0).log_prob(torch.zeros(2, 4), torch.zeros(2, 8))
