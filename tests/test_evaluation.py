"""Evaluation: importance sampling, quadrature and collapse against models whose answers are known."""

import math

import pytest
import torch

from vae_helpers import objectives
from vae_helpers.data import LinearGaussian
from vae_helpers.evaluation import (
    Estimate,
    active_units,
    aggregate_posterior,
    evaluate_terms,
    importance_log_px,
    quadrature_log_px,
)
from vae_helpers.likelihoods import Gaussian, GaussianPerPixel
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal


def linear_case(z_dim=2, *, widen=0.0, n=40):
    """A linear-Gaussian model, the VAE that equals it (posterior widened in log variance), data, and log p(x)."""
    generator = torch.Generator().manual_seed(0)
    orthogonal = torch.linalg.qr(torch.randn(6, z_dim, dtype=torch.float64, generator=generator)).Q
    truth = LinearGaussian(orthogonal * 1.5, torch.ones(6, dtype=torch.float64), x_var=0.3)
    model = VAE(MLP(6, [], 2 * z_dim), MLP(z_dim, [], 6), Gaussian(x_var=0.3), StandardNormal(z_dim)).double()
    mean_at_0, covariance = truth.posterior(torch.zeros(1, 6, dtype=torch.float64))
    slope = truth.posterior(torch.eye(6, dtype=torch.float64))[0] - mean_at_0
    with torch.no_grad():
        model.likelihood.x_logvar.fill_(math.log(0.3))
        model.decoder[0].weight.copy_(truth.weight)
        model.decoder[0].bias.copy_(truth.bias)
        model.encoder[0].weight.copy_(torch.cat([slope.mT, torch.zeros(z_dim, 6)]))
        model.encoder[0].bias.copy_(torch.cat([mean_at_0[0], covariance.diagonal().log() + widen]))
    return truth, model.eval(), _draw(truth, n)


def _draw(truth, n):
    generator = torch.Generator().manual_seed(1)
    z, noise = (torch.randn(n, d, dtype=torch.float64, generator=generator) for d in truth.weight.shape[::-1])
    return z @ truth.weight.mT + truth.bias + truth.x_var**0.5 * noise


def test_importance_sampling_at_the_true_posterior_is_exact_and_wastes_no_sample():
    truth, model, x = linear_case()
    found = importance_log_px(model, x, n_samples=12, bounds=(1, 3, 12))
    torch.testing.assert_close(found.log_px, truth.log_prob(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.ess, torch.full((40,), 12.0, dtype=torch.float64), rtol=1e-9, atol=0)
    for m in (1, 3, 12):
        torch.testing.assert_close(found.iwae_bounds[m], truth.log_prob(x), rtol=1e-9, atol=1e-9)
    assert found.monte_carlo_error < 1e-6
    assert found.median_ess == pytest.approx(12)


def test_importance_sampling_is_within_its_own_monte_carlo_error():
    torch.manual_seed(0)
    truth, model, x = linear_case(widen=0.7)
    found = importance_log_px(model, x, n_samples=2000)
    exact = truth.log_prob(x).mean().item()
    assert 0 < found.monte_carlo_error < 0.01
    assert abs(found.mean.mean - exact) < 5 * found.monte_carlo_error
    assert (found.ess > 1).all()
    assert (found.ess < 2000).all()


def test_monte_carlo_error_is_the_spread_of_repeated_estimates():
    torch.manual_seed(0)
    _, model, x = linear_case(widen=0.7, n=10)
    repeats = [importance_log_px(model, x, n_samples=500) for _ in range(100)]
    spread = torch.tensor([r.mean.mean for r in repeats]).std().item()
    # the sd of 100 values has relative standard error 1 / sqrt(200) = 7 %; allow 5 of them
    assert repeats[0].monte_carlo_error == pytest.approx(spread, rel=0.35)


def test_effective_sample_size_of_a_wide_proposal_is_the_known_fraction():
    torch.manual_seed(0)
    _, model, x = linear_case(z_dim=1, widen=math.log(2.0), n=20)
    found = importance_log_px(model, x, n_samples=20_000)
    # p = N(0, v), q = N(0, 2v): E_q[(p/q)^2] = 2 / sqrt(3), so ESS / S = sqrt(3) / 2
    torch.testing.assert_close(found.ess / 20_000, torch.full((20,), 3**0.5 / 2).double(), rtol=0.02, atol=0)


def test_iwae_bounds_from_groups_are_those_of_fresh_samples():
    torch.manual_seed(0)
    truth, model, x = linear_case(widen=0.7, n=500)
    found = importance_log_px(model, x, n_samples=100, bounds=(1, 10, 100))
    for m, more in ((1, 10), (10, 100)):  # of the same weights, so by Jensen's inequality for each example
        assert (found.iwae_bounds[m] < found.iwae_bounds[more]).all()
    torch.testing.assert_close(found.iwae_bounds[100], found.log_px)
    gap = 2 * 0.5 * (math.exp(0.7) - 1 - 0.7)  # KL to the true posterior, two latents
    difference = truth.log_prob(x) - found.iwae_bounds[1]
    assert (difference.mean() - gap).abs() < 6 * difference.std() / 500**0.5


@pytest.mark.parametrize("samples_at_once", [1, 7, 30, 100])
def test_memory_chunks_do_not_change_the_estimate(samples_at_once):
    torch.manual_seed(0)
    truth, model, x = linear_case(widen=0.7)
    memory_mb = samples_at_once * 6 * 8 / 2**20  # 6 float64 values an output
    found = importance_log_px(model, x, n_samples=30, bounds=(3,), memory_mb=memory_mb * 1.001)
    whole = importance_log_px(model, x, n_samples=30, bounds=(3,))
    assert found.log_px.shape == found.ess.shape == found.iwae_bounds[3].shape == (40,)
    error = math.hypot(found.monte_carlo_error, whole.monte_carlo_error)
    assert abs(found.mean.mean - whole.mean.mean) < 6 * error
    exact = linear_case()
    torch.testing.assert_close(
        importance_log_px(exact[1], x, n_samples=30, memory_mb=memory_mb * 1.001).log_px, truth.log_prob(x)
    )


def test_decoder_outputs_stay_within_the_memory_bound():
    _, model, x = linear_case()
    sizes = []
    model.decoder.register_forward_hook(lambda module, inputs, out: sizes.append(out.numel() * out.element_size()))
    for memory_mb in (1e-3, 1e-2):
        sizes.clear()
        importance_log_px(model, x, n_samples=50, memory_mb=memory_mb)
        assert memory_mb * 2**20 / 2 < max(sizes) <= memory_mb * 2**20


def test_a_memory_bound_below_one_output_raises():
    _, model, x = linear_case()
    with pytest.raises(ValueError, match="memory_mb=1e-05"):
        importance_log_px(model, x, n_samples=5, memory_mb=1e-5)
    wide = VAE(MLP(6, [], 4), MLP(2, [], 12), GaussianPerPixel(min_x_var=0.1), StandardNormal(2)).double().eval()
    one_mean = 6 * 8 * 1.5 / 2**20  # holds the mean, not the variance beside it
    with pytest.raises(ValueError, match="memory_mb"):
        importance_log_px(wide, x, n_samples=5, memory_mb=one_mean)


@pytest.mark.parametrize(("n_samples", "m"), [(10, 3), (10, 0), (10, 20), (10, -1)])
def test_a_bound_that_does_not_divide_the_samples_raises(n_samples, m):
    _, model, x = linear_case()
    with pytest.raises(ValueError, match=f"m={m}, n_samples={n_samples}"):
        importance_log_px(model, x, n_samples=n_samples, bounds=(m,))


@pytest.mark.parametrize("n_samples", [0, -5])
def test_importance_sampling_needs_a_sample(n_samples):
    _, model, x = linear_case()
    with pytest.raises(ValueError, match=f"got {n_samples}"):
        importance_log_px(model, x, n_samples=n_samples)


def test_quadrature_is_exact_for_one_latent():
    truth, model, x = linear_case(z_dim=1, n=600)  # more than one chunk
    torch.testing.assert_close(quadrature_log_px(model, x), truth.log_prob(x), rtol=1e-9, atol=1e-9)


def test_quadrature_refuses_more_than_one_latent():
    _, model, x = linear_case(z_dim=2)
    with pytest.raises(ValueError, match="importance_log_px"):
        quadrature_log_px(model, x)


def test_a_model_in_training_mode_or_no_data_raises():
    _, model, x = linear_case(z_dim=1)
    measures = (
        lambda m, v: evaluate_terms(m, v, objectives.elbo),
        lambda m, v: importance_log_px(m, v, n_samples=2),
        lambda m, v: quadrature_log_px(m, v),
    )
    for measure in measures:
        with pytest.raises(ValueError, match="no examples"):
            measure(model, x[:0])
        with pytest.raises(ValueError, match=r"model\.eval"):
            measure(model.train(), x)
        model.eval()


def test_estimate_has_the_standard_error_of_a_mean():
    found = Estimate.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert (found.mean, found.n) == (2.5, 4)
    assert found.standard_error == pytest.approx((5 / 3) ** 0.5 / 2)
    assert str(found) == "2.50 ± 0.65"
    assert math.isnan(Estimate.of(torch.ones(1)).standard_error)


def model_with_dead_latents():
    """Four latents: two follow x, one is the prior, one is off the prior but deaf to x."""
    model = VAE(MLP(3, [], 8), MLP(4, [], 3), Gaussian(x_var=1.0), StandardNormal(4)).eval()
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.zero_()
        model.encoder[0].weight[0, 0] = 1.0
        model.encoder[0].weight[1, 1] = 0.5
        model.encoder[0].bias[3] = 2.0
        model.encoder[0].bias[4:] = torch.tensor([-2.0, -1.0, 0.0, 0.0])
    return model


def test_active_units_are_those_whose_mean_follows_the_data():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    model = model_with_dead_latents()
    assert active_units(model, x) == 2
    assert active_units(model, x, threshold=0.5) == 1  # variances 1 and 1/4
    assert active_units(model, x, threshold=2.0) == 0


def test_aggregate_posterior_is_that_of_its_samples_and_its_kl_per_latent():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    model = model_with_dead_latents()
    found = aggregate_posterior(model, x, batch_size=77)
    variance = torch.tensor([-2.0, -1.0, 0.0, 0.0]).exp()
    moving = torch.stack([x[:, 0], 0.5 * x[:, 1], 0 * x[:, 0], 0 * x[:, 0] + 2], -1)
    torch.testing.assert_close(found.mean, moving.mean(0))
    torch.testing.assert_close(found.sd, (moving.var(0) + variance).sqrt())
    kl = 0.5 * ((moving**2).mean(0) + variance - 1 - variance.log())
    torch.testing.assert_close(found.kl, kl)
    assert found.kl[2] == 0
    assert found.kl[3] == pytest.approx(2)  # mean 2 and unit variance: 2^2 / 2


def test_a_traversal_moves_one_latent_at_a_time_in_standard_deviations():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    moments = aggregate_posterior(model_with_dead_latents(), x)
    start = torch.tensor([1.0, 2.0, 3.0, 4.0])
    rows = moments.traversal(start, [1, 3], torch.tensor([-2.0, 0.0, 2.0])).reshape(2, 3, 4)
    expected = start.repeat(2, 3, 1)
    for row, j in zip(expected, (1, 3), strict=True):
        row[:, j] = moments.mean[j] + torch.tensor([-2.0, 0.0, 2.0]) * moments.sd[j]
    torch.testing.assert_close(rows, expected)


def test_aggregate_posterior_of_an_autoencoder_has_no_width():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    model = Autoencoder(MLP(3, [], 2), MLP(2, [], 3), Gaussian(x_var=1.0), z_dim=2).eval()
    found = aggregate_posterior(model, x)
    torch.testing.assert_close(found.sd, model.encode(x).std(0).detach())
    assert torch.equal(found.kl, torch.zeros(2))
    with pytest.raises(ValueError, match="two examples, got 1"):
        aggregate_posterior(model, x[:1])
