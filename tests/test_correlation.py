"""Total correlation and the parts of the KL, where they are known in closed form or by quadrature."""

import math
import random

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_helpers.distributions import kl_diag_gaussians, log_normal, log_standard_normal
from vae_helpers.evaluation.correlation import gaussian_total_correlation, kl_terms

THREE = torch.tensor([[-1.0, 0.5], [0.8, 1.0], [0.3, -0.7]]), torch.tensor([[-1.0, -0.5], [-1.5, -2.0], [0.0, -1.0]])


def parts(terms):
    return terms.mutual_information, terms.total_correlation, terms.dimension_wise_kl


def test_terms_are_those_of_quadrature():
    mu, logvar = (values.double() for values in THREE)
    line = torch.linspace(-8, 8, 801, dtype=torch.float64)
    step = (line[1] - line[0]).item()
    z = torch.cartesian_prod(line, line)
    log_each = log_normal(z[:, None].expand(-1, 3, -1), mu, logvar)  # (z, n)
    log_q = log_each.logsumexp(1) - math.log(3)
    q = log_q.exp()
    marginals = q.view(801, 801).sum(1) * step, q.view(801, 801).sum(0) * step
    log_product = torch.cartesian_prod(*(m.log() for m in marginals)).sum(1)
    exact = {
        "mutual_information": (log_each.exp() / 3 * (log_each - log_q[:, None])).sum().item() * step**2,
        "total_correlation": (q * (log_q - log_product)).sum().item() * step**2,
        "dimension_wise_kl": (q * (log_product - log_standard_normal(z))).sum().item() * step**2,
    }
    assert min(exact.values()) > 0.05  # each of them is there to be missed
    found = kl_terms(*THREE, seed=0, n_samples=100_000)
    for name, value in exact.items():
        estimate = getattr(found, name)
        assert estimate.standard_error < 0.005, name
        assert abs(estimate.mean - value) < 4 * estimate.standard_error, name
    for j in range(2):
        kl = (marginals[j] * (marginals[j].log() - log_standard_normal(line[:, None]))).sum().item() * step
        assert found.kl_per_dim[j].item() == pytest.approx(kl, abs=0.015)


def test_a_linear_gaussian_set_has_the_closed_form():
    generator = torch.Generator().manual_seed(3)
    n, q_logvar = 3000, torch.tensor([-1.0, -0.5])
    mix = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    mu = torch.randn(n, 2, generator=generator)
    mu = (mu - mu.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(mu.T.cov())).T @ mix.T
    covariance = mix @ mix.T + q_logvar.exp().diag()
    found = kl_terms(mu, q_logvar.expand(n, 2), seed=0, n_samples=4000)
    mutual = 0.5 * (covariance.logdet() - q_logvar.sum()).item()
    total = 0.5 * (covariance.diag().log().sum() - covariance.logdet()).item()
    dimension_wise = 0.5 * (covariance.diag() - 1 - covariance.diag().log()).sum().item()
    assert total > 0.1
    # beside the Monte Carlo error, 3000 posteriors are a lumpy Gaussian: an aggregate that overfits its own centres
    for estimate, exact in zip(parts(found), (mutual, total, dimension_wise), strict=True):
        assert abs(estimate.mean - exact) < 4 * estimate.standard_error + 0.015


def test_the_three_sum_to_the_sampled_kl_and_that_is_the_closed_one_within_its_error():
    found = kl_terms(*THREE, seed=1, n_samples=20_000)
    assert sum(part.mean for part in parts(found)) == pytest.approx(found.kl.mean, abs=1e-12)
    exact = kl_diag_gaussians(*THREE).mean().item()
    assert 0 < abs(found.kl.mean - exact) < 4 * found.kl.standard_error
    assert found.kl_per_dim.sum().item() == pytest.approx(found.dimension_wise_kl.mean)
    assert found.n_posteriors == 3


def test_posteriors_far_apart_name_their_image():
    n = 32
    along = 100.0 * torch.arange(n)[:, None].float()
    found = kl_terms(torch.cat([along, along], 1), torch.zeros(n, 2), seed=0, n_samples=500)
    assert found.mutual_information.mean == pytest.approx(math.log(n), abs=1e-9)
    assert found.total_correlation.mean == pytest.approx(math.log(n), abs=1e-9)  # one latent tells the other
    product = torch.cartesian_prod(100.0 * torch.arange(4), 100.0 * torch.arange(8))
    found = kl_terms(product, torch.zeros(n, 2), seed=0, n_samples=500)
    assert found.mutual_information.mean == pytest.approx(math.log(n), abs=1e-9)
    assert found.total_correlation.mean == pytest.approx(0, abs=1e-9)


def test_mutual_information_never_passes_log_n():
    generator = torch.Generator().manual_seed(0)
    for n, width in ((1, 0.0), (7, -8.0), (50, -20.0)):
        found = kl_terms(torch.randn(n, 5, generator=generator), torch.full((n, 5), width), seed=0, n_samples=300)
        assert found.mutual_information.mean <= math.log(n) + 1e-9
        assert found.mutual_information.mean > 0.8 * math.log(n) - 1e-9


def test_posteriors_that_are_all_one_tell_nothing():
    mu, logvar = torch.tensor([0.7, -0.2]).expand(20, 2), torch.tensor([-1.0, 0.3]).expand(20, 2)
    found = kl_terms(mu, logvar, seed=0, n_samples=20_000)
    assert found.mutual_information.mean == pytest.approx(0, abs=1e-9)
    assert found.total_correlation.mean == pytest.approx(0, abs=1e-9)
    exact = kl_diag_gaussians(mu, logvar)[0].item()
    assert abs(found.dimension_wise_kl.mean - exact) < 4 * found.dimension_wise_kl.standard_error


def test_standard_errors_are_the_spread_of_repeated_estimates():
    repeats = [kl_terms(*THREE, seed=seed, n_samples=400) for seed in range(100)]
    for k in range(3):
        spread = torch.tensor([parts(r)[k].mean for r in repeats]).std().item()
        # the sd of 100 values has relative standard error 7 %
        assert parts(repeats[0])[k].standard_error == pytest.approx(spread, rel=0.35)


class LargestTensor(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.size = max(self.size, out.numel() * out.element_size())
        return out


@pytest.mark.parametrize("pairs_at_once", [3, 60, 400, 1000])
def test_memory_blocks_do_not_change_the_terms_and_bound_the_tensors(pairs_at_once):
    generator = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 50, 2, generator=generator)
    whole = kl_terms(mu, logvar, seed=0, n_samples=90)
    memory_mb = pairs_at_once * 16.001 / 2**20
    with LargestTensor() as largest:
        found = kl_terms(mu, logvar, seed=0, n_samples=90, memory_mb=memory_mb)
    for one, other in zip(parts(found), parts(whole), strict=True):
        assert one.mean == pytest.approx(other.mean, abs=1e-10)
        assert one.standard_error == pytest.approx(other.standard_error, abs=1e-10)
    assert largest.size <= max(memory_mb * 2**20, 90 * 2 * 8)  # the samples themselves are 90 x 2; all pairs, 4500 x 2


def test_the_seed_decides_and_the_global_state_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    one, same, other = (kl_terms(*THREE, seed=seed, n_samples=50) for seed in (3, 3, 4))
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()[1:3]  # noqa: NPY002
    assert (before[1][0] == after[0]).all()
    assert before[1][1] == after[1]
    assert before[2] == random.getstate()
    assert one.kl == same.kl
    assert one.kl != other.kl


@pytest.mark.parametrize(
    ("mu", "logvar", "arguments", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 1), {}, r"\(3, 2\), \(3, 1\)"),
        (torch.zeros(3), torch.zeros(3), {}, r"\(3,\), \(3,\)"),
        (torch.zeros(0, 2), torch.zeros(0, 2), {}, r"\(0, 2\), \(0, 2\)"),
        (torch.full((3, 2), math.nan), torch.zeros(3, 2), {}, "finite"),
        (torch.zeros(3, 2), torch.full((3, 2), math.inf), {}, "finite"),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"n_samples": 1}, "n_samples must be at least 2, got 1"),
    ],
)
def test_what_is_no_set_of_posteriors_raises(mu, logvar, arguments, message):
    with pytest.raises(ValueError, match=message):
        kl_terms(mu, logvar, seed=0, **arguments)


def with_correlation(matrix, n=200):
    """Codes whose sample correlation is exactly this matrix."""
    z = torch.randn(n, len(matrix), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = z - z.mean(0)
    white = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / n)).T
    return white @ torch.linalg.cholesky(torch.as_tensor(matrix, dtype=torch.float64)).T


def test_gaussian_total_correlation_is_the_closed_form():
    for rho in (0.0, 0.3, -0.9):
        found = gaussian_total_correlation(with_correlation([[1.0, rho], [rho, 1.0]]))
        assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-9)
    matrix = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]])
    codes = with_correlation(matrix.tolist())
    expected = -0.5 * matrix.det().log().item()
    assert gaussian_total_correlation(codes) == pytest.approx(expected, abs=1e-6)
    moved = codes * torch.tensor([1e-3, -50.0, 7.0]) + torch.tensor([5.0, 0.0, -2.0])
    assert gaussian_total_correlation(moved[:, [2, 0, 1]]) == pytest.approx(expected, abs=1e-6)


def test_a_still_latent_adds_nothing_and_a_copied_one_adds_infinity():
    codes = with_correlation([[1.0, 0.6], [0.6, 1.0]])
    still = torch.full((200, 1), 0.1, dtype=torch.float64)
    expected = gaussian_total_correlation(codes)
    assert gaussian_total_correlation(torch.cat([codes, still], 1)) == pytest.approx(expected)
    assert gaussian_total_correlation(torch.cat([codes, -3 * codes[:, :1] + 1], 1)) == math.inf
    assert gaussian_total_correlation(codes[:, :1]) == 0
    assert gaussian_total_correlation(still.expand(-1, 3)) == 0


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(3, 3), r"more codes than latents, got shape \(3, 3\)"),
        (torch.zeros(5), r"got shape \(5,\)"),
        (torch.tensor([[0.0], [math.nan], [math.inf]]), "2 of 3 codes are not finite"),
    ],
)
def test_what_has_no_covariance_raises(codes, message):
    with pytest.raises(ValueError, match=message):
        gaussian_total_correlation(codes)
