"""Densities and divergences against torch.distributions, in float64."""

import pytest
import torch
from torch import distributions as oracle

from vae_helpers import distributions
from vae_helpers.priors import StandardNormal

LOGITS = torch.tensor([0.0, 1e-9, -1e-4, 9.9e-3, -1.01e-2, 0.05, 0.5, -3.0, 20.0, -20.0], dtype=torch.float64)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)  # float64, sums of a few terms


def test_log_normal_takes_a_log_variance_and_sums_the_event_only():
    x, mu, logvar = randn(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
    close(distributions.log_normal(x, mu, logvar), oracle.Normal(mu, (logvar / 2).exp()).log_prob(x).sum(-1))


def test_log_normal_takes_sample_axes_a_shared_and_a_scalar_variance():
    x, mu, logvar = randn(5, 4, 3), randn(4, 3, seed=1), randn(3, seed=2)
    close(distributions.log_normal(x, mu, logvar), oracle.Normal(mu, (logvar / 2).exp()).log_prob(x).sum(-1))
    shared = torch.tensor(0.7, dtype=torch.float64)
    close(distributions.log_normal(x, mu, shared), oracle.Normal(mu, (shared / 2).exp()).log_prob(x).sum(-1))


def test_log_standard_normal():
    z = randn(5, 4, 3)
    close(distributions.log_standard_normal(z), oracle.Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_log_bernoulli_from_moderate_to_extreme_logits():
    for x in (torch.zeros(1, 10), torch.ones(1, 10)):
        expected = oracle.Bernoulli(logits=LOGITS).log_prob(x.double()).sum(-1)
        close(distributions.log_bernoulli_with_logits(x.double(), LOGITS), expected)


def test_log_bernoulli_stays_finite_where_a_probability_would_round_to_0_or_1():
    x_logits = torch.tensor([[200.0, -200.0]])
    assert distributions.log_bernoulli_with_logits(torch.tensor([[0.0, 1.0]]), x_logits).item() == -400


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_log_continuous_bernoulli_near_zero_and_at_extreme_logits(value):
    x = torch.full((10, 1), value, dtype=torch.float64)
    expected = oracle.ContinuousBernoulli(logits=LOGITS[:, None]).log_prob(x).sum(-1)
    found = distributions.log_continuous_bernoulli_with_logits(x, LOGITS[:, None])
    # torch's own series near 0 is cut after the 4th order in lambda - 1/2 <= 1e-3: far below 1e-9
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_continuous_bernoulli_is_a_density_and_the_bernoulli_form_is_not():
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None]
    for logit in LOGITS:
        mass = torch.trapezoid(
            distributions.log_continuous_bernoulli_with_logits(x, logit.expand(1)).exp(), x[:, 0]
        ).item()
        assert mass == pytest.approx(1, abs=1e-6)  # trapezoid rule: h^2/12 * max f' = 2e-10 * 400
        assert torch.trapezoid(distributions.log_bernoulli_with_logits(x, logit.expand(1)).exp(), x[:, 0]) < 0.9


def test_continuous_bernoulli_gradients_match_finite_differences_also_near_zero():
    x = torch.rand(len(LOGITS), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # 19, not 20: F.softplus turns linear at 20, 2e-9 off, and a difference taken across that kink shows it
    x_logits = LOGITS[:, None].clamp(-19, 19).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: distributions.log_continuous_bernoulli_with_logits(x, v), x_logits)


def test_continuous_bernoulli_gradient_in_float32_has_no_jump_where_the_series_takes_over():
    x_logits = torch.tensor([[0.0], [9.9e-3], [1.01e-2], [0.1]], requires_grad=True)
    distributions.log_continuous_bernoulli_with_logits(torch.full((4, 1), 0.5), x_logits).sum().backward()
    # d/dl [l/2 - softplus(l) + log C] = -l/12 + O(l^3/120): at most 1e-5 off at 0.1; float32 adds about 1e-7 / l
    torch.testing.assert_close(x_logits.grad, -x_logits.detach() / 12, rtol=0, atol=3e-5)


@pytest.mark.parametrize("with_p", [False, True])
def test_kl_of_diagonal_gaussians(with_p):
    q_mu, q_logvar = randn(6, 3), randn(6, 3, seed=1)
    p_mu, p_logvar = (randn(6, 3, seed=2), randn(6, 3, seed=3)) if with_p else (None, None)
    zero = torch.zeros_like(q_mu)
    p = oracle.Normal(zero if p_mu is None else p_mu, (zero if p_logvar is None else p_logvar / 2).exp())
    expected = oracle.kl_divergence(oracle.Normal(q_mu, (q_logvar / 2).exp()), p)
    close(distributions.kl_diag_gaussians_per_dim(q_mu, q_logvar, p_mu, p_logvar), expected)
    close(distributions.kl_diag_gaussians(q_mu, q_logvar, p_mu, p_logvar), expected.sum(-1))
    if with_p:
        half = oracle.Normal(p_mu, torch.ones_like(p_mu))
        expected = oracle.kl_divergence(oracle.Normal(q_mu, (q_logvar / 2).exp()), half).sum(-1)
        close(distributions.kl_diag_gaussians(q_mu, q_logvar, p_mu=p_mu), expected)


def test_kl_is_zero_exactly_at_the_prior():
    zero = torch.zeros(2, 3)
    assert torch.equal(distributions.kl_diag_gaussians(zero, zero), torch.zeros(2))
    assert torch.equal(StandardNormal(3).kl(zero, zero, zero), torch.zeros(2))


def test_gradients_of_the_densities_and_the_kl():
    x, mu, logvar = (randn(2, 3, seed=s).requires_grad_() for s in range(3))
    assert torch.autograd.gradcheck(distributions.log_normal, (x, mu, logvar))
    assert torch.autograd.gradcheck(distributions.kl_diag_gaussians, (mu, logvar))
    assert torch.autograd.gradcheck(distributions.kl_diag_gaussians, (mu, logvar, x, logvar.detach() * 0.5))
    binary = (randn(2, 3, seed=4) > 0).double()
    assert torch.autograd.gradcheck(lambda v: distributions.log_bernoulli_with_logits(binary, v), mu)


def test_the_classic_broadcast_of_images_raises():
    x, x_logits = torch.rand(4, 28, 28), torch.zeros(4, 1, 28, 28)
    for density in (distributions.log_bernoulli_with_logits, distributions.log_continuous_bernoulli_with_logits):
        with pytest.raises(ValueError, match=r"\(4, 28, 28\).*\(4, 1, 28, 28\)"):
            density(x, x_logits)
    with pytest.raises(ValueError, match="shapes do not match"):
        distributions.log_normal(x, x_logits, x_logits)


@pytest.mark.parametrize(
    ("one", "two"), [((4, 3), (1, 3)), ((4, 3), (4, 1)), ((4,), (4, 3)), ((2, 4, 3), (2, 1, 3)), ((4, 3), (5, 3))]
)
def test_shapes_that_would_broadcast_other_than_by_leading_axes_raise(one, two):
    for a, b in ((one, two), (two, one)):
        with pytest.raises(ValueError, match="shapes do not match"):
            distributions.log_normal(torch.zeros(a), torch.zeros(b), torch.zeros(b))
        with pytest.raises(ValueError, match="shapes do not match"):
            distributions.kl_diag_gaussians(torch.zeros(a), torch.zeros(b))
        with pytest.raises(ValueError, match="shapes do not match"):
            distributions.sample_normal(torch.zeros(a), torch.zeros(b))


@pytest.mark.parametrize("value", [-0.1, 1.1, 255.0, float("nan"), float("inf")])
def test_pixels_out_of_range_raise_and_show_the_value(value):
    x = torch.tensor([[0.5, value]])
    for density in (distributions.log_bernoulli_with_logits, distributions.log_continuous_bernoulli_with_logits):
        with pytest.raises(ValueError, match=rf"\[0, 1\].*{value:g}"):
            density(x, torch.zeros(1, 2))


@pytest.mark.parametrize("n_samples", [0, -1])
def test_fewer_than_one_sample_raises(n_samples):
    with pytest.raises(ValueError, match=f"got {n_samples}"):
        distributions.sample_normal(torch.zeros(2, 3), torch.zeros(2, 3), n_samples)


def test_samples_have_the_moments_asked_for():
    torch.manual_seed(0)
    mu, logvar = torch.tensor([1.0, -2.0]), torch.tensor([2.0, -1.0])
    z = distributions.sample_normal(mu, logvar, 100_000)
    sd = (logvar / 2).exp()
    assert z.shape == (100_000, 2)
    # 6 standard errors: of the mean sd / sqrt(n), of the sd sd / sqrt(2 n)
    assert ((z.mean(0) - mu).abs() < 6 * sd / 100_000**0.5).all()
    assert ((z.std(0) - sd).abs() < 6 * sd / 200_000**0.5).all()


def test_samples_are_differentiable_in_mean_and_log_variance():
    mu, logvar = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    z = distributions.sample_normal(mu, logvar)
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones(4, 3))
    torch.testing.assert_close(logvar.grad, 0.5 * z.detach())  # d/dlogvar exp(logvar/2) eps at logvar = 0
