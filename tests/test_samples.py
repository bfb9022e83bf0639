"""Measures of conditional models on known answers: Frechet distance, samples, log p(x | y), and the judge."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vae_helpers.data import Images, LinearGaussian, load_mnist, to_grey
from vae_helpers.evaluation import (
    AggregatePosterior,
    accuracy,
    conditional_importance_log_px,
    conditional_samples,
    evaluate_terms,
    features_of,
    frechet_distance,
)
from vae_helpers.experiments import conditional, judge
from vae_helpers.experiments.conditional import measure_samples, measure_terms
from vae_helpers.likelihoods import Bernoulli, Gaussian
from vae_helpers.models import Classifier, ConditionalVAE
from vae_helpers.objectives import conditional_elbo
from vae_helpers.priors import StandardNormal
from vae_helpers.training import Budget

D, K, Z = 5, 3, 2  # of the small models below


class Call(nn.Module):
    """A net that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, *inputs):
        return self.function(*inputs)


def model_of(encode, decode, *, x_var=1.0, n_classes=K, z_dim=Z):
    likelihood, prior = Gaussian(x_var=x_var), StandardNormal(z_dim)
    return ConditionalVAE(Call(encode), Call(decode), likelihood, prior, n_classes=n_classes).eval()


# ---- Frechet distance


def gaussian_features(mean, covariance, *, n=50, seed=0):
    """(n, F) features whose sample mean and covariance are exactly these."""
    raw = torch.randn(n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    raw = raw - raw.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(raw.T.cov()), raw.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def random_covariance(n, seed):
    root = torch.randn(n, 2 * n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T / n


def square_root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T


def test_a_set_has_no_distance_to_itself_in_any_order():
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    # rounding of 1e-16 in the eigenvalues is 1e-8 after the root
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-6)


def test_shifted_and_scaled_sets_have_the_distance_in_closed_form():
    zero, sd = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    shift = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    plain = gaussian_features(zero, torch.eye(3, dtype=torch.float64))
    assert frechet_distance(plain, plain + shift) == pytest.approx(25, rel=1e-6)
    scaled = gaussian_features(shift, (sd**2).diag(), n=80, seed=1)  # of another size
    assert frechet_distance(plain, scaled) == pytest.approx(25 + 0 + 1 + 0.25, rel=1e-6)
    assert frechet_distance(plain, 3 * plain) == pytest.approx(3 * (3 - 1) ** 2, rel=1e-6)
    one = plain[:, :1]
    assert frechet_distance(one, 2 * one + 1) == pytest.approx(1 + 1, rel=1e-6)


def test_correlated_sets_have_the_distance_in_closed_form():
    a = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    # of a 2x2 matrix: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))
    root = math.sqrt((a @ b).trace() + 2 * math.sqrt(a.det() * b.det()))
    x, y = gaussian_features(0 * mean, a), gaussian_features(mean, b, n=70, seed=1)
    assert frechet_distance(x, y) == pytest.approx(5 + 3 + 4 - 2 * root, rel=1e-9)

    a, b = random_covariance(7, 0), random_covariance(7, 1)
    half = square_root(a)
    expected = a.trace() + b.trace() - 2 * square_root(half @ b @ half).trace()
    zero = torch.zeros(7, dtype=torch.float64)
    x, y = gaussian_features(zero, a), gaussian_features(zero, b, n=70, seed=1)
    assert frechet_distance(x, y) == pytest.approx(expected.item(), rel=1e-9)


def test_the_distance_is_symmetric_and_does_not_see_a_rotation_of_the_features():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 5, generator=generator), torch.rand(40, 5, generator=generator)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    found = frechet_distance(x, y)
    assert found > 1
    assert frechet_distance(y, x) == pytest.approx(found, rel=1e-9)
    assert frechet_distance(x @ rotation, y @ rotation) == pytest.approx(found, rel=1e-5)  # float32 features
    assert frechet_distance(2 * x, 2 * y) == pytest.approx(4 * found, rel=1e-6)


def test_a_rank_deficient_covariance_has_a_finite_distance():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 20, generator=generator)  # rank 3 of 20
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    constant = torch.full((5, 20), 2.0)
    assert frechet_distance(constant, constant) == 0
    # to a point: the variances and the squared distance
    expected = (x.double().mean(0) - 2).square().sum() + x.double().var(0).sum()
    assert frechet_distance(x, constant) == pytest.approx(expected.item(), rel=1e-6)
    line = torch.randn(50, 1, generator=generator)  # sets on two orthogonal lines
    along, across = F.pad(line, (0, 1)), F.pad(line, (1, 0))
    expected = 2 * line.double().mean() ** 2 + 2 * line.double().var()
    assert frechet_distance(along, across) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("a", "b"), [((5,), (5,)), ((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5, 3), (1, 3)), ((0, 3),) * 2]
)
def test_features_that_do_not_fit_raise(a, b):
    with pytest.raises(ValueError, match="N, M >= 2, got") as raised:
        frechet_distance(torch.zeros(a), torch.zeros(b))
    assert str(a) in str(raised.value)
    assert str(b) in str(raised.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_raise(value):
    good, bad = torch.zeros(4, 2), torch.zeros(4, 2)
    bad[2, 1] = value
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="finite"):
            frechet_distance(*pair)


# ---- samples and features


def shown(z, y):
    """A picture that shows its label (no label: zeros) and, beside it, z."""
    leading = torch.broadcast_shapes(z.shape[:-1], y.shape[:-1])
    return torch.cat([y.expand(*leading, -1), z.expand(*leading, -1) + 10 * y[..., :1]], -1)


def test_samples_come_label_by_label_with_the_same_codes_for_each():
    x, y = conditional_samples(model_of(None, shown), n_per_class=4)
    assert x.shape == (K * 4, K + Z)
    assert y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(x[:, :K], F.one_hot(y, K).float())
    z = x[4:8, K:]
    assert torch.equal(x[8:, K:], z)
    torch.testing.assert_close(x[:4, K:], z + 10)
    assert len(z.unique(dim=0)) == 4


def test_codes_are_standard_normal_and_fixed_by_the_seed_alone():
    model = model_of(None, shown)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = conditional_samples(model, n_per_class=3000, seed=1)[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(conditional_samples(model, n_per_class=3000, seed=1)[0], first)
    assert not torch.equal(conditional_samples(model, n_per_class=3000, seed=2)[0], first)
    z = first[-3000:, K:]
    assert (z.mean(0).abs() < 6 / 3000**0.5).all()
    assert ((z.var(0) - 1).abs() < 6 * (2 / 3000) ** 0.5).all()


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0, 4.0])
def test_guidance_enlarges_what_the_label_does_before_the_mean_is_taken(guidance):
    model = model_of(None, lambda z, y: torch.cat([y - 0.5, z], -1))
    model.likelihood = Bernoulli()
    x, y = conditional_samples(model, n_per_class=2, guidance=guidance)
    torch.testing.assert_close(x[:, :K], torch.sigmoid(guidance * F.one_hot(y, K) - 0.5))


@pytest.mark.parametrize("n", [0, -1])
def test_no_samples_raise(n):
    with pytest.raises(ValueError, match=f"n_per_class must be at least 1, got {n}"):
        conditional_samples(model_of(None, shown), n_per_class=n)


def test_features_are_taken_in_chunks_and_in_order():
    x, sizes = torch.arange(14.0).reshape(7, 2), []

    def hidden(chunk):
        sizes.append(len(chunk))
        return chunk.sum(-1, keepdim=True)

    assert torch.equal(features_of(hidden, x, batch_size=3), x.sum(-1, keepdim=True))
    assert sizes == [3, 3, 1]
    assert torch.equal(features_of(hidden, x), x.sum(-1, keepdim=True))


# ---- terms of pairs, active units


def test_terms_of_pairs_do_not_depend_on_the_batch_size_and_pair_each_x_with_its_y():
    x, y = torch.randn(23, 4, dtype=torch.float64), torch.arange(23)

    def objective(model, batch):
        images, labels = batch
        return {"loss": images[:, 0] * labels, "size": labels.double()}

    expected = {"loss": x[:, 0] * y, "size": y.double()}
    for batch_size in (1, 5, 23, 1000):
        found = evaluate_terms(nn.Identity().eval(), (x, y), objective, batch_size=batch_size)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].n == 23
            assert found[name].mean == pytest.approx(value.mean().item())
            assert found[name].standard_error == pytest.approx(value.std().item() / 23**0.5)
    alone = evaluate_terms(nn.Identity().eval(), x, lambda model, batch: {"loss": batch[:, 0]}, batch_size=5)
    assert alone["loss"].mean == pytest.approx(x[:, 0].mean().item())


@pytest.mark.parametrize("n", [4, 6, 9])
def test_pairs_of_different_lengths_and_a_model_in_training_raise(n):
    model, _, _, _ = linear()
    x, y = torch.zeros(5, D, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)
    for batch_size in (2, 1000):
        with pytest.raises(ValueError, match=rf"same number of examples, got \[5, {n}\]"):
            evaluate_terms(model, (x, y), lambda model, batch: conditional_elbo(model, *batch), batch_size=batch_size)
    with pytest.raises(ValueError, match="training mode"):
        evaluate_terms(model.train(), (x, y[:5]), lambda model, batch: conditional_elbo(model, *batch))


def test_active_units_are_those_whose_mean_moves_with_the_data():
    sd = torch.tensor([1.0, 0.5, 0.11, 0.09, 0.0])  # variances 1, 0.25, 0.0121, 0.0081, 0
    q_mu = gaussian_features(torch.arange(5.0).double(), torch.eye(5).double(), n=200) * sd
    for logvar in (-10.0, 0.0, 3.0):  # whatever the width of the posteriors
        moments = AggregatePosterior.of(q_mu, torch.full_like(q_mu, logvar))
        assert moments.active_units() == 3
        assert moments.active_units(threshold=0.1) == 2
        assert moments.active_units(threshold=0.001) == 4
        assert moments.active_units(threshold=2.0) == 0


# ---- against an exact log p(x | y)


class Linear:
    """p(x | y, z) = N(W z + b_y, x_var I) with its exact posterior, diagonal because W has orthogonal columns."""

    X_VAR = 0.3

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        columns = torch.linalg.qr(torch.randn(D, Z, generator=generator, dtype=torch.float64)).Q
        self.weight = columns * torch.tensor([1.5, 0.7], dtype=torch.float64)
        self.shift = 2 * torch.randn(K, D, generator=generator, dtype=torch.float64)
        self.exact = [LinearGaussian(self.weight, shift, self.X_VAR) for shift in self.shift]

    def decode(self, z, y):
        return z @ self.weight.T + y.double() @ self.shift

    def encode(self, x, y):
        cov = self.exact[0].posterior(x)[1]
        assert (cov - cov.diag().diag()).abs().max() < 1e-12
        q_mu = (x - y.double() @ self.shift) @ self.weight @ cov / self.X_VAR
        return torch.cat([q_mu, cov.diag().log().expand_as(q_mu)], -1)


def linear(encode=None):
    net = Linear()
    model = model_of(encode or net.encode, net.decode, x_var=Linear.X_VAR).double()
    model.likelihood.x_logvar = torch.tensor(math.log(Linear.X_VAR), dtype=torch.float64)  # not rounded to float32
    y = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0, 1, 2, 0])  # interleaved
    x = 2 * torch.randn(len(y), D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = torch.stack([net.exact[k].log_prob(row) for row, k in zip(x, y.tolist(), strict=True)])
    return model, x, y, exact


@pytest.mark.parametrize("n_samples", [1, 7])
def test_importance_sampling_from_the_exact_posterior_is_exact_for_every_label(n_samples):
    model, x, y, exact = linear()
    found = conditional_importance_log_px(model, x, y, n_samples=n_samples)
    torch.testing.assert_close(found.log_px, exact, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.ess, torch.full_like(exact, n_samples))
    assert (exact.max() - exact.min()) > 1  # an exchange of examples would show
    assert found.mean.mean == pytest.approx(exact.mean().item())
    swapped = conditional_importance_log_px(model, x, (y + 1) % K, n_samples=n_samples)
    assert (swapped.log_px - exact).abs().min() > 0.01


def test_importance_sampling_from_a_wide_posterior_and_the_bound_agree_with_the_exact_value():
    net = Linear()

    def wide(x, y):
        q_mu, q_logvar = net.encode(x, y).chunk(2, -1)
        return torch.cat([q_mu, q_logvar + math.log(2)], -1)

    torch.manual_seed(0)
    model, x, y, exact = linear(wide)
    found = conditional_importance_log_px(model, x, y, n_samples=4000)
    error = (1 / found.ess - 1 / 4000).clamp_min(0).sqrt()  # delta method
    assert ((found.log_px - exact).abs() < 6 * error).all()
    assert error.max() < 0.05
    for encode, gap in ((wide, Z * (2 - 1 - math.log(2)) / 2), (None, 0.0)):
        model = linear(encode)[0]
        n = 4000
        bounds = conditional_elbo(model, x.repeat(n, 1), y.repeat(n))["elbo_bound"].reshape(n, -1)
        # the gap is KL[q || posterior]: of variances twice as large, (2 - 1 - log 2) / 2 a latent
        assert ((bounds.mean(0) - exact + gap).abs() < 6 * bounds.std(0) / n**0.5).all()


def test_importance_sampling_needs_a_label_an_example_and_examples():
    model, x, y, _ = linear()
    with pytest.raises(ValueError, match=r"\(11,\); got shape \(10,\)"):
        conditional_importance_log_px(model, x, y[:10], n_samples=2)
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        conditional_importance_log_px(model, x, y, n_samples=0)
    with pytest.raises(ValueError, match="training mode"):
        conditional_importance_log_px(model.train(), x, y, n_samples=2)


@pytest.mark.parametrize("label", [K, -1])
def test_importance_sampling_refuses_labels_out_of_range(label):
    model, x, y, _ = linear()
    with pytest.raises((ValueError, IndexError)):
        conditional_importance_log_px(model, x, torch.cat([y[:-1], torch.tensor([label])]), n_samples=2)


def test_importance_sampling_of_no_examples_raises():
    model, x, y, _ = linear()
    with pytest.raises(ValueError, match="no examples"):
        conditional_importance_log_px(model.eval(), x[:0], y[:0], n_samples=2)


# ---- the measures of the study on models whose answers are known


def pictures(y):
    """Grey images (N, 784) that are black but for pixel y."""
    return F.one_hot(y, 784).float()


class Reader(nn.Module):
    """A judge's net that reads the pictures above."""

    def hidden(self, x):
        return 10 * x[..., :10]

    def forward(self, x):
        return self.hidden(x)


def reads_label(z, y):
    return F.pad(y.expand(*z.shape[:-1], -1), (0, 774))


def reads_code(z, y):
    return F.pad(z, (0, 774)) + 0 * y[..., :1]


def prior_code(x, y):
    return torch.zeros(len(x), 20)


def label_code(x, y):
    """The picture's own label in the code's mean, sd 0.1, whatever label it is given."""
    return torch.cat([10 * x[..., :10], torch.full_like(x[..., :10], 2 * math.log(0.1))], -1)


def told_code(x, y):
    """The label that is given in the mean, far below the noise."""
    return torch.cat([1e-3 * y.expand(len(x), -1), torch.zeros(len(x), 10)], -1)


def measured(monkeypatch, encode, decode, *, x_var=1e-4):
    monkeypatch.setattr(conditional, "released_judge", lambda: Classifier(Reader(), n_classes=10).eval())
    torch.manual_seed(0)
    y = torch.arange(100) % 10
    model = model_of(encode, decode, x_var=x_var, n_classes=10, z_dim=10)
    return measure_samples(model, pictures(y), y, budget=Budget.SMOKE, guided=True)


def test_a_model_that_shows_the_label_and_nothing_else_is_measured_as_that(monkeypatch):
    found = measured(monkeypatch, prior_code, reads_label)
    assert found["sample_accuracy_percent"] == 100
    assert found["sample_frechet"] == pytest.approx(0, abs=1e-4)  # ten of each, as in the data; features of size 10
    assert found["sample_accuracy_guided_2_percent"] == 100
    # pixel 2 in the place of 1: all ten means are 1 further, and the spread, which a factor 2 doubles, 10
    cov = 100 / 99 * 100 * (0.1 * torch.eye(10) - 0.01)
    assert found["sample_frechet_guided_2"] == pytest.approx(10 + cov.trace().item(), rel=1e-4)
    assert found["swap_label_percent"] == 100
    assert found["swap_source_percent"] == 0
    assert found["label_probe_percent"] < 40  # noise: 10 % of 50 codes, and 6 standard errors
    # every pixel is 0 or 1 and its mean is right: the outermost bins hold Phi(half a bin / 0.01); there is no KL
    p = 0.5 * (1 + math.erf(1 / 510 / 0.01 / math.sqrt(2)))
    for name in ("test_elbo_bits_per_dim", "test_bits_per_dim"):
        assert found[name] == pytest.approx(-math.log2(p), rel=1e-5)
    assert found["test_bits_per_dim_median_ess"] == pytest.approx(10, rel=1e-3)  # all weights are equal


def test_a_model_that_ignores_its_label_and_copies_the_code_is_measured_as_that(monkeypatch):
    found = measured(monkeypatch, label_code, reads_code)
    assert found["sample_accuracy_percent"] == pytest.approx(10)  # the same pictures for every label
    assert found["swap_label_percent"] == 0
    assert found["swap_source_percent"] == 100
    assert found["label_probe_percent"] == 100
    assert found["test_bits_per_dim"] > 0.79


def test_the_probe_reads_samples_of_the_code_not_their_mean(monkeypatch):
    assert measured(monkeypatch, told_code, reads_label)["label_probe_percent"] < 40


def lit(first, last, *, only_label=None):
    """A decoder whose pictures light pixels ``first`` to ``last``, of one label or of all."""

    def decode(z, y):
        picture = torch.zeros(*z.shape[:-1], 784)
        picture[..., first:last] = 0.5
        return picture if only_label is None else picture * y[..., only_label, None]

    return decode


@pytest.mark.parametrize("only_label", [None, 7])
@pytest.mark.parametrize(("first", "last", "dead", "dark"), [(0, 0, 1, 101), (0, 50, 0, 51), (600, 784, 0, 101)])
def test_dead_and_dark_pixels_are_counted_among_those_that_are_used(first, last, dead, dark, only_label):
    y = torch.arange(200) % 10
    x = torch.zeros(200, 784)
    x[:, :100] = 0.8
    x[:2, 100] = 1.0  # one image in a hundred: used
    x[:1, 101] = 1.0  # one in two hundred: not
    x[:, 102] = 0.09  # never lit
    x[:, 500] = 0.0
    model = model_of(prior_code, lit(first, last, only_label=only_label), n_classes=10, z_dim=10)
    found = measure_terms(model, x, y)
    assert found["dead"] == dead
    assert found["dark_pixels_percent"] == pytest.approx(100 * dark / 101)
    shown = torch.tensor([1.0 if only_label in (None, k) else 0.0 for k in y.tolist()])
    picture = torch.zeros(784)
    picture[first:last] = 0.5
    errors = (x - shown[:, None] * picture).square().sum(-1)
    assert found["test_squared_error"] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert found["test_log_px"] == pytest.approx(-errors.mean().item() / 2 - 392 * math.log(2 * math.pi), rel=1e-5)
    assert found["test_kl"] == 0
    assert found["test_elbo_bound"] == found["test_log_px"]
    assert found["active_units"] == 0
    assert found["found_x_var"] == 1


@pytest.mark.parametrize(("bias", "dead"), [(-100.0, 1.0), (0.5, 0.0)])
@pytest.mark.parametrize("output", ["relu", "sigmoid"])
def test_the_study_knows_a_dead_relu_from_a_live_one(bias, dead, output):
    torch.manual_seed(0)
    model = conditional.build(conditional.ConditionalConfig(z_dim=4, output=output)).eval()
    with torch.no_grad():
        model.decoder.net.deconv[-1].weight.mul_(1e-3)
        model.decoder.net.deconv[-1].bias.fill_(bias)
    x, y = torch.rand(20, 784), torch.arange(20) % 10
    found = measure_terms(model, x, y)
    assert found["dead"] == dead  # a sigmoid of -100 is as black as a ReLU
    assert found["dark_pixels_percent"] == 100 * dead


def test_active_units_of_the_study_are_those_of_its_encoder():
    y = torch.arange(100) % 10
    found = measure_terms(model_of(label_code, reads_code, n_classes=10, z_dim=10), pictures(y), y)
    assert found["active_units"] == 10
    assert found["test_squared_error"] == pytest.approx(81)  # the mean of the code is ten times the picture


# ---- the judge


def tiny_images(n_train=120, n_test=30):
    """Fake digits: a bright bar at a place of the label's."""
    y = torch.arange(n_train + n_test) % 10
    x = torch.zeros(n_train + n_test, 28, 28, dtype=torch.uint8)
    for i, label in enumerate(y.tolist()):
        x[i, 2 * label + 2 : 2 * label + 6, 6 + i % 3 : 22] = 255
    x = x.flatten(1)
    return Images("fake", "fake digits", (28, 28), x[:n_train], x[n_train:], y[:n_train], y[n_train:])


def run_judge(folder=None, *, seed=0, resume=False, **settings):
    config = judge.JudgeConfig(**({"filters": (4,), "h_dim": 16, "batch_size": 20} | settings))
    options = {"resume": resume, "checkpoint_every": 10, "progress": False}
    return judge.run(config, seed=seed, budget=Budget.SMOKE, images=tiny_images(), folder=folder, **options)


def test_the_judge_learns_and_is_measured(tmp_path):
    found = run_judge(tmp_path, lr=3e-3)
    assert set(found.metrics) == {"test_accuracy_percent", "test_accuracy_standard_error_percent"}
    assert found.metrics["test_accuracy_percent"] == 100  # bars at ten places
    assert found.steps == 40
    assert found.data == "fake digits; grey levels"
    saved = json.loads((tmp_path / "run.json").read_text())
    assert (saved["study"], saved["metrics"]) == ("judge", found.metrics)
    assert not found.model.training
    features = features_of(found.model.net.hidden, to_grey(tiny_images().x_test))
    assert features.shape == (30, 16)
    assert (features >= 0).all()
    with torch.inference_mode():
        logits = found.model.classify(to_grey(tiny_images().x_test))
        torch.testing.assert_close(found.model.net.head(features), logits)


def test_the_same_seed_gives_the_same_judge_and_a_resumed_one_is_the_whole(tmp_path):
    weights = []
    for i, seed in enumerate((1, 1, 2)):
        run_judge(tmp_path / str(i), seed=seed)
        weights.append((tmp_path / str(i) / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
    again = run_judge(tmp_path / "0", seed=1, resume=True)
    assert again.steps == 40
    assert (tmp_path / "0" / "weights.safetensors").read_bytes() == weights[0]


def test_a_judge_of_too_many_halvings_raises():
    with pytest.raises(ValueError, match="28x28 cannot be halved 5 times"):
        judge.build(judge.JudgeConfig(filters=(4,) * 5))


def test_the_released_judge_reads_real_digits_and_gives_64_features(tmp_path, capsys):
    found = judge.released_judge()
    assert not found.training
    images = load_mnist(tmp_path, download=False)
    x, y = to_grey(images.x_test), images.y_test
    assert accuracy(found, x, y).percent > 98  # it was trained on them
    features = features_of(found.net.hidden, x)
    assert features.shape == (1000, 64)
    halves = frechet_distance(features[::2], features[1::2])
    by_label = frechet_distance(features[y < 5], features[y >= 5])
    assert 0 < halves < 0.1 * by_label
