"""Probabilities of 8-bit levels: they sum to one and are integrals of the density; observation models by name."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vae_helpers.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    GaussianOptimal,
    GaussianPerPixel,
    Levels,
    Logistic,
    bits_per_dim,
    choose_likelihood,
    log_mass_continuous_bernoulli,
    log_mass_logistic,
    log_mass_normal,
)

X = torch.arange(256) / 255
SDS = (1e-4, 1e-3, 0.01, 0.1, 1.0, 3.0)
MEANS = (-0.5, 0.0, 1e-3, 0.3, 0.5, 1.0, 1.5)
LOGITS = (-60.0, -20.0, -1.0, -0.011, -1.1e-3, -1e-4, 0.0, 1e-6, 9e-4, 2e-3, 0.5, 5.0, 30.0, 60.0)


def optimal(x_var):
    """A GaussianOptimal whose running variance is ``x_var``, in evaluation mode."""
    likelihood = GaussianOptimal().train()
    likelihood.log_prob(torch.full((2, 3), math.sqrt(x_var)), torch.zeros(2, 3))
    return likelihood.eval()


def of_pairs(first, second):
    return torch.cartesian_prod(torch.tensor(first), torch.tensor(second))


PER_PIXEL = of_pairs(MEANS, [2 * math.log(sd) for sd in SDS])
ONE_PIXEL = {  # an observation model, and decoder outputs of one pixel, (P, n_params)
    **{f"gaussian-{sd}": (Gaussian(x_var=sd**2), torch.tensor(MEANS)[:, None]) for sd in SDS},
    "gaussian_sigmoid": (Gaussian(x_var=0.01, output="sigmoid"), torch.tensor(LOGITS)[:, None]),
    "gaussian_learned": (Gaussian(x_var=0.3, learned=True), torch.tensor(MEANS)[:, None]),
    "gaussian_optimal": (optimal(0.04), torch.tensor(MEANS)[:, None]),
    "gaussian_per_pixel": (GaussianPerPixel(), PER_PIXEL),
    "gaussian_per_pixel_floor": (GaussianPerPixel(min_x_var=0.01), PER_PIXEL),
    "continuous_bernoulli": (ContinuousBernoulli(), torch.tensor(LOGITS)[:, None]),
    "logistic": (Logistic(), of_pairs(LOGITS, [math.log(sd) for sd in SDS])),
    "levels_of_levels": (Levels(Levels(Logistic())), of_pairs(LOGITS, [-5.0, 0.0])),
}


@pytest.mark.parametrize("name", ONE_PIXEL)
def test_the_masses_of_the_256_levels_of_a_pixel_sum_to_one(name):
    likelihood, out = ONE_PIXEL[name]
    log_mass = likelihood.eval().log_mass(X[:, None, None].expand(-1, len(out), 1), out)
    assert log_mass.shape == (256, len(out))
    assert (log_mass <= 0).all()
    total = log_mass.detach().double().exp().sum(0)
    # an edge k/255 +- 1/510 near 1 has float32 error 6e-8 in a width of 4e-3
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-5)


# ---- against integrals in float64


def edges(x):
    """The bin of each level, the outermost ones without end, float64."""
    x = np.asarray(x, dtype=np.float64)
    return np.where(x < 1 / 510, -np.inf, x - 1 / 510), np.where(x > 1 - 1 / 510, np.inf, x + 1 / 510)


def log_integral(distribution, mu, scale, x):
    """log of the probability of each bin, from tails that scipy holds in logarithms."""
    a, b = ((edge - mu) / scale for edge in edges(x))
    right = a + b > 0
    high = np.where(right, distribution.logsf(a), distribution.logcdf(b))
    low = np.where(right, distribution.logsf(b), distribution.logcdf(a))
    return high + np.log(-np.expm1(low - high))


def log_integral_continuous_bernoulli(rate, x):
    """The density l exp(l x) / (exp(l) - 1) integrated by 20 Gauss-Legendre points a bin."""
    a, b = (edge.clip(0, 1) for edge in edges(x))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    t = (a + b)[..., None] / 2 + (b - a)[..., None] / 2 * nodes
    safe = np.where(rate == 0, 1.0, rate)
    log_c = np.where(rate == 0, 0.0, np.log(safe / np.expm1(safe)))
    return np.log((np.exp(rate[..., None] * t) * weights).sum(-1) * (b - a) / 2) + log_c


def example(name, dtype):
    """Levels x (5, 4), decoder output (3, 5, 4 n_params), the likelihood and the oracle's log mass (3, 5, 4)."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randint(256, (5, 4), generator=generator) / 255).to(dtype)
    x[0], x[1] = 0.0, 1.0
    a, b = 3 * torch.randn(2, 3, 5, 4, generator=generator, dtype=dtype)
    b = b.clamp_max(1)
    level = (x.double() * 255).round().numpy() / 255
    if name == "continuous_bernoulli":
        return x, a, ContinuousBernoulli(), log_integral_continuous_bernoulli(a.double().numpy(), level)
    mu, wide_b = a.double().numpy(), b.double().numpy()
    if name == "logistic":
        expected = log_integral(stats.logistic, 1 / (1 + np.exp(-mu)), np.exp(wide_b), level)
        return x, torch.cat([a, b], -1), Logistic(), expected
    if name == "gaussian":
        return x, a, Gaussian(x_var=0.09).to(dtype), log_integral(stats.norm, mu, 0.3, level)
    sd = np.sqrt(np.exp(wide_b) + 0.01)
    return x, torch.cat([a, b], -1), GaussianPerPixel(min_x_var=0.01), log_integral(stats.norm, mu, sd, level)


# float32: bins of 4e-3 between numbers near 1, and differences of logs of size 100; x_var = 0.09 is a float32 parameter
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-7, 1e-7), (torch.float32, 1e-4, 1e-3)])
@pytest.mark.parametrize("name", ["gaussian", "gaussian_per_pixel", "continuous_bernoulli", "logistic"])
def test_log_mass_is_the_integral_of_the_density_summed_over_the_data_dimensions_only(name, dtype, rtol, atol):
    x, out, likelihood, expected = example(name, dtype)
    found = likelihood.log_mass(x, out)
    assert found.shape == (3, 5)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected.sum(-1)), rtol=rtol, atol=atol)


@pytest.mark.parametrize("sd", SDS)
def test_masses_far_from_the_mean_are_right_in_their_logarithm(sd):
    mu = torch.tensor(MEANS)
    x = X[::15, None]
    for function, distribution, log_scale in (
        (log_mass_normal, stats.norm, 2 * math.log(sd)),
        (log_mass_logistic, stats.logistic, math.log(sd)),
    ):
        found = function(x[..., None].expand(-1, len(mu), 1), mu[:, None], torch.tensor(log_scale))
        expected = torch.from_numpy(log_integral(distribution, mu.double().numpy(), sd, x.double().numpy()))
        # down to -1e8 nats; an edge known to 6e-8 within 2e-3 of the mean moves a squared distance by 1e-4 of itself
        torch.testing.assert_close(found.double(), expected, rtol=3e-4, atol=1e-3)


def test_a_bin_of_a_wide_gaussian_has_the_density_times_its_width():
    x, out = X[1:-1], torch.linspace(-2, 2, 254)
    likelihood = Gaussian(x_var=9.0)
    expected = likelihood.log_prob(x, out).item() - 254 * math.log(255)
    # the density's curvature adds (1/255/3)^2 / 24 a bin; float32 gaps of 1e-3 are known to 1e-4, errors of either sign
    assert likelihood.log_mass(x, out).item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("logvar", [-20.0, -60.0, -100.0])
def test_a_mass_is_finite_and_at_most_one_where_the_density_has_no_bound(logvar):
    out = torch.tensor([[0.0, logvar], [128 / 255, logvar], [1.0, logvar], [0.3, logvar]])
    for level in (0.0, 128 / 255, 1.0):
        found = GaussianPerPixel().log_mass(torch.full((4, 1), level), out)
        assert found.isfinite().all()
        assert (found <= 0).all()
        assert found.max().item() == pytest.approx(0, abs=1e-6)  # the pixel is as good as certain
        logistic = log_mass_logistic(torch.full((4, 1), level), out[:, :1], out[:, 1:] / 2)
        assert logistic.isfinite().all()
        assert logistic.max().item() == pytest.approx(0, abs=1e-6)


# ---- gradients


def gradient(function, x, mu, log_scale):
    """d log mass / d mu for one pixel, and d / d log_scale."""
    mu, log_scale = torch.tensor([mu], requires_grad=True), torch.tensor([log_scale], requires_grad=True)
    function(torch.tensor([x]), mu, log_scale).backward()
    return mu.grad.item(), log_scale.grad.item()


@pytest.mark.parametrize("sd", SDS)
@pytest.mark.parametrize("kind", ["normal", "logistic"])
def test_gradients_are_finite_and_right_for_every_level_and_mean(kind, sd):
    """d/dmu log[F(b) - F(a)] = [f(a) - f(b)] / [F(b) - F(a)], f the density."""
    distribution, function = {
        "normal": (stats.norm, log_mass_normal),
        "logistic": (stats.logistic, log_mass_logistic),
    }[kind]
    log_scale = math.log(sd) * (2 if kind == "normal" else 1)
    for level in (0, 1, 128, 254, 255):
        for mean in (*MEANS, 0.1, 0.9, 0.999):
            a, b = edges(level / 255)
            log_p = log_integral(distribution, mean, sd, level / 255)
            at_a, at_b = (np.exp(distribution.logpdf(edge, mean, sd) - log_p) for edge in (a, b))
            by_mu, by_scale = gradient(function, level / 255, mean, log_scale)
            assert math.isfinite(by_mu), (level, mean)
            assert math.isfinite(by_scale), (level, mean)
            # two large numbers nearly cancel where the bin is small against the scale; the sum's size is 1 / sd
            assert by_mu == pytest.approx(at_a - at_b, rel=0.03, abs=0.03 / sd), (level, mean)


@pytest.mark.parametrize("logit", [-600.0, -60.0, -1.0, -1e-4, 0.0, 1e-6, 0.5, 60.0, 600.0])
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_the_gradient_of_a_continuous_bernoulli_mass_is_the_distance_of_two_means(level, logit):
    """d/dl log P(k) = E[t | bin] - E[t], both the means of an exponential exp(l t) cut off at both ends."""

    def mean(a, b):
        rate = logit * (b - a)
        return a + (b - a) * (0.5 + rate / 12 if abs(rate) < 0.01 else -1 / math.expm1(-rate) - 1 / rate)

    x_logits = torch.tensor([logit], requires_grad=True)
    log_mass_continuous_bernoulli(torch.tensor([level / 255]), x_logits).backward()
    a, b = (float(edge.clip(0, 1)) for edge in edges(level / 255))
    assert x_logits.grad.item() == pytest.approx(mean(a, b) - mean(0.0, 1.0), rel=1e-3, abs=1e-4)


# ---- what raises

FUNCTIONS = {
    "normal": lambda x, out: log_mass_normal(x, out, torch.zeros(())),
    "logistic": lambda x, out: log_mass_logistic(x, out, torch.zeros_like(out)),
    "continuous_bernoulli": log_mass_continuous_bernoulli,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_that_would_broadcast_silently_raise(name):
    for x_shape, out_shape in (((2, 4), (2, 8)), ((2, 4), (2, 1)), ((2, 1), (2, 4)), ((3, 1, 4), (3, 2, 4))):
        with pytest.raises(ValueError, match="shapes do not match"):
            FUNCTIONS[name](torch.zeros(x_shape), torch.zeros(out_shape))


@pytest.mark.parametrize("value", [-0.01, 1.01, 128.0, math.nan])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pixels_outside_the_unit_interval_raise(name, value):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        FUNCTIONS[name](torch.tensor([0.5, value]), torch.zeros(2))


def test_a_bernoulli_gives_grey_levels_no_probability():
    x = torch.zeros(2, 3)
    for call in (Bernoulli().log_mass, Levels(Bernoulli()).log_prob, Levels(Bernoulli()).log_mass):
        with pytest.raises(ValueError, match="Bernoulli gives grey levels no probability"):
            call(x, x)


# ---- Levels, Logistic


@pytest.mark.parametrize(
    "density", [Gaussian(x_var=0.02), GaussianPerPixel(min_x_var=0.1), ContinuousBernoulli(), Logistic()]
)
def test_levels_train_on_the_probabilities_of_their_density(density):
    likelihood = Levels(density)
    x, out = X[:60].reshape(5, 12), torch.linspace(-2, 2, 5 * 12 * density.n_params).reshape(5, -1)
    assert likelihood.n_params == density.n_params
    assert torch.equal(likelihood.log_prob(x, out), density.log_mass(x, out))
    assert torch.equal(likelihood.log_mass(x, out), density.log_mass(x, out))
    assert torch.equal(likelihood.mean(out), density.mean(out))
    assert not torch.equal(likelihood.log_prob(x, out), density.log_prob(x, out))


@pytest.mark.parametrize(
    ("density", "out"),
    [
        (Gaussian(x_var=0.01**2), [0.01]),  # a sixth of the mass in the first level
        (Gaussian(x_var=0.01**2), [0.995]),
        (Logistic(), [0.3, -5.0]),
        (ContinuousBernoulli(), [-60.0]),
    ],
)
def test_samples_of_levels_are_levels_as_frequent_as_their_masses(density, out):
    torch.manual_seed(0)
    n, likelihood, out = 20_000, Levels(density), torch.tensor(out)
    draws = likelihood.sample(out.expand(n, -1))
    levels = (draws * 255).round()
    assert torch.equal(draws, levels / 255)
    assert draws.min() >= 0
    assert draws.max() <= 1
    share = levels.long().flatten().bincount(minlength=256) / n
    mass = likelihood.log_mass(X[:, None], out.expand(256, -1)).exp()
    # 256 levels, 6 standard errors; a level that is expected less than once may be drawn a few times
    assert ((share - mass).abs() < 6 * (mass * (1 - mass) / n).sqrt() + 5 / n).all()
    assert mass.max() > 0.02


def test_logistic_density_mean_and_samples_are_those_of_scipy():
    torch.manual_seed(0)
    out = torch.tensor([[0.5, -2.0, -3.0, 0.5], [40.0, -40.0, -8.0, 2.0]])  # two pixels: mean logits, log scales
    mean, scale = torch.sigmoid(out[:, :2].double()).numpy(), out[:, 2:].double().exp().numpy()
    x = torch.tensor([[0.3, 0.9], [-20.0, 30.0]])
    expected = stats.logistic.logpdf(x.double().numpy(), mean, scale).sum(-1)
    likelihood = Logistic()
    torch.testing.assert_close(likelihood.log_prob(x, out).double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(likelihood.mean(out).double(), torch.from_numpy(mean))
    n = 50_000
    draws = likelihood.sample(out.expand(n, -1, -1)).double().numpy()
    sd = scale * math.pi / math.sqrt(3)
    assert (np.abs(draws.mean(0) - mean) < 6 * sd / n**0.5).all()
    # kurtosis 4.2: the standard error of a sample variance is sqrt(3.2 / n) of it; draws are cut off at 14 scales
    assert (np.abs(draws.var(0) / sd**2 - 1) < 6 * math.sqrt(3.2 / n) + 1e-3).all()


def test_the_mass_of_an_optimal_variance_is_that_of_the_running_one_and_leaves_it_alone():
    likelihood = optimal(0.04)
    x, out = torch.rand(6, 3), torch.rand(6, 3)
    torch.testing.assert_close(likelihood.log_mass(x, out), Gaussian(x_var=0.04).log_mass(x, out), rtol=1e-4, atol=1e-4)
    assert likelihood.x_logvar.exp().item() == pytest.approx(0.04, rel=1e-5)


# ---- bits


def test_bits_per_dim_of_the_uniform_distribution_over_256_levels_is_eight():
    assert bits_per_dim(784 * math.log(1 / 256), 784) == pytest.approx(8)
    assert bits_per_dim(0.0, 784) == 0
    # a flat density: 254 inner levels of 1/255 and two outer ones of half of that
    flat = log_mass_continuous_bernoulli(X, torch.zeros(256)).item()
    expected = (254 * math.log2(255) + 2 * math.log2(510)) / 256
    assert bits_per_dim(flat, 256) == pytest.approx(expected, rel=1e-5)


# ---- observation models by name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bernoulli", Bernoulli),
        ("continuous_bernoulli", ContinuousBernoulli),
        ("gaussian", Gaussian),
        ("gaussian_learned", Gaussian),
        ("gaussian_optimal", GaussianOptimal),
        ("gaussian_per_pixel", GaussianPerPixel),
        ("discretised_logistic", Levels),
    ],
)
def test_a_name_gives_its_observation_model_with_its_settings(name, kind):
    found = choose_likelihood(name, x_var=0.2, min_x_var=0.3, output="relu")
    assert type(found) is kind
    assert bool(list(found.parameters())) == (name == "gaussian_learned")
    if name in ("gaussian", "gaussian_learned"):
        assert found.x_logvar.exp().item() == pytest.approx(0.2)
    if name == "gaussian_per_pixel":
        assert found.min_x_var == 0.3
    if kind is Levels:
        assert type(found.density) is Logistic
    out = torch.linspace(-2, 2, 4 * found.n_params)
    if name.startswith("gaussian"):
        assert torch.equal(found.mean(out), out[:4].relu())


@pytest.mark.parametrize("output", ["identity", "sigmoid", "relu"])
@pytest.mark.parametrize("name", ["gaussian", "gaussian_learned", "gaussian_optimal", "gaussian_per_pixel"])
def test_a_gaussian_mean_goes_through_its_output(name, output):
    likelihood = choose_likelihood(name, output=output)
    out = torch.tensor([-2.0, 3.0, 0.7, 0.7][: 2 * likelihood.n_params], requires_grad=True)
    mean = {"identity": [-2, 3], "sigmoid": [1 / (1 + math.e**2), 1 / (1 + math.e**-3)], "relu": [0, 3]}[output]
    found = likelihood.mean(out)
    torch.testing.assert_close(found, torch.tensor(mean, dtype=torch.float32))
    found.sum().backward()
    assert (out.grad[0] == 0) == (output == "relu")
    assert out.grad[1] > 0


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "gaussian_per_pixel", "discretised_logistic"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x_var": 0.0}, "x_var must be a positive number, got 0.0"),
        ({"x_var": -1.0}, "x_var must be a positive number, got -1.0"),
        ({"x_var": math.nan}, "x_var must be a positive number, got nan"),
        ({"x_var": math.inf}, "x_var must be a positive number, got inf"),
        ({"output": "tanh"}, "unknown output 'tanh'; choose one of identity, sigmoid, relu"),
        ({"min_x_var": -1.0}, "min_x_var must be a finite number >= 0, got -1.0"),
    ],
)
def test_a_setting_out_of_range_raises_one_sentence_whether_it_is_used_or_not(name, settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        choose_likelihood(name, **settings)


def test_an_unknown_name_raises_and_lists_the_known():
    with pytest.raises(ValueError, match=r"^unknown likelihood 'gausian'; choose one of bernoulli, .*logistic$"):
        choose_likelihood("gausian")
