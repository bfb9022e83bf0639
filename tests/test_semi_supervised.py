"""Bounds with labels, against loops over the classes, integrals on a grid and exact posteriors."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Categorical, Normal, kl_divergence

from vae_helpers import objectives
from vae_helpers.data import LinearGaussian
from vae_helpers.evaluation import class_probs
from vae_helpers.likelihoods import Bernoulli, Gaussian
from vae_helpers.models import ADGM, M2, Classifier
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.priors import StandardNormal

D, K = 6, 3  # pixels and classes of the small models below
LOG_K = math.log(K)


def build(kind, *, z_dim=2, a_dim=2, seed=0, dtype=torch.float64):
    """A small random M2 or ADGM of binary data, its weights large enough for classes and latents to matter."""
    torch.manual_seed(seed)
    x_dim, smooth = D + a_dim * (kind == "adgm"), {"activation": "tanh"}
    shared = (
        MLP(x_dim, [8], K, **smooth),
        JointMLP([x_dim, K], [8], 2 * z_dim, **smooth),
        JointMLP([z_dim, K], [8], D, **smooth),
        Bernoulli(),
        StandardNormal(z_dim),
    )
    auxiliary = {
        "a_encoder": MLP(D, [8], 2 * a_dim, **smooth),
        "a_decoder": JointMLP([D, K, z_dim], [8], 2 * a_dim, **smooth),
    }
    model = ADGM(*shared, n_classes=K, **auxiliary) if kind == "adgm" else M2(*shared, n_classes=K)
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1.5)
    return model.to(dtype)


def quiet(model):
    """The model with a q(z | x, y) so narrow (sd 1e-13) that z is its mean: bounds without noise from z."""
    last = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight[model.z_dim :] = 0
        last.bias[model.z_dim :] = -60
    return model


def binary(n, *, seed=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, D, generator=generator) > 0.5).to(dtype), torch.randint(K, (n,), generator=generator)


def gradients(model, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def close_on_average(values, expected):
    """Whether the mean over the first axis is ``expected`` within 6 standard errors."""
    slack = 6 * values.std(0) / len(values) ** 0.5 + 1e-9
    return bool(((values.mean(0) - expected).abs() < slack).all())


# ---- the net of several inputs


@pytest.mark.parametrize("h_dims", [[], [5], [5, 4]])
def test_joint_mlp_is_the_mlp_of_the_concatenated_inputs(h_dims):
    torch.manual_seed(0)
    joint, mlp = JointMLP([4, 3, 2], h_dims, 6).double(), MLP(9, h_dims, 6).double()
    weight, *rest = mlp.parameters()
    bias = joint.inputs[0].bias
    with torch.no_grad():
        weight.copy_(torch.cat([layer.weight for layer in joint.inputs], dim=1))
        for target, source in zip(rest, [bias, *joint.tail.parameters()], strict=True):
            target.copy_(source)
    assert sum(p.numel() for p in joint.parameters()) == sum(p.numel() for p in mlp.parameters())
    a, b, c = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 4), (5, 1, 3), (6, 5, 1, 2)))
    whole = torch.cat([v.expand(6, 5, 7, -1) for v in (a, b, c)], dim=-1)
    torch.testing.assert_close(joint(a, b, c), mlp(whole))


def test_scales_multiply_the_initial_weights_of_their_input_only():
    nets = []
    for scales in (None, [1.0, 3.0]):
        torch.manual_seed(0)
        nets.append(JointMLP([4, 3], [5], 2, scales=scales))
    plain, scaled = (dict(net.named_parameters()) for net in nets)
    for name, value in plain.items():
        torch.testing.assert_close(scaled[name], value * (3 if name == "inputs.1.weight" else 1))


def test_joint_mlp_refuses_other_widths_and_numbers_of_inputs():
    net = JointMLP([4, 3], [5], 2)
    with pytest.raises(ValueError, match=r"3 values.*\(7, 2\)"):
        net(torch.zeros(7, 4), torch.zeros(7, 2))
    for inputs in ([torch.zeros(7, 4)], [torch.zeros(7, 4), torch.zeros(7, 3), torch.zeros(7, 3)]):
        with pytest.raises(ValueError, match=f"2 inputs, got {len(inputs)}"):
            net(*inputs)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], [5], 2), {}, r"in_dims \[\]"),
        (([4, 0], [5], 2), {}, r"in_dims \[4, 0\]"),
        (([4], [0], 2), {}, "0"),
        (([4], [5], 0), {}, "0"),
        (([4], [], 0), {}, "0"),
        (([4], [5], 2), {"activation": "gelo"}, r"'gelo'.*relu"),
        (([4], [], 2), {"activation": "gelo"}, r"'gelo'.*relu"),
        (([4, 3], [5], 2), {"scales": [1.0]}, r"2 positive.*\[1.0\]"),
        (([4, 3], [5], 2), {"scales": [1.0, 0.0]}, r"2 positive.*\[1.0, 0.0\]"),
    ],
)
def test_a_joint_mlp_that_cannot_be_built_raises(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        JointMLP(*arguments, **options)


def test_a_classifier_needs_two_classes():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Classifier(MLP(4, [], 1), n_classes=1)


# ---- one batched pass against a loop over the classes


def bound_given_label(model, x, x_in, a, log_qa, y, eps):
    """L(x, y), (B,), with the densities of torch.distributions."""
    q_mu, q_logvar = model.encode(x_in, y)
    q, prior = Normal(q_mu, (0.5 * q_logvar).exp()), Normal(0.0, 1.0)
    z = q.mean + q.stddev * eps
    bound = BernoulliDistribution(logits=model.decode(z, y)).log_prob(x).sum(-1) - kl_divergence(q, prior).sum(-1)
    if a is not None:
        a_mu, a_logvar = model.decode_a(x, y, z)
        bound = bound + Normal(a_mu, (0.5 * a_logvar).exp()).log_prob(a).sum(-1) - log_qa
    return bound - LOG_K


def looped(model, x, eps):
    """U(x), (B,), one class after the other."""
    x_in, a, log_qa = x, None, 0.0
    if isinstance(model, ADGM):
        a_mu, a_logvar = model.encode_a(x)
        q_a = Normal(a_mu, (0.5 * a_logvar).exp())
        a = q_a.mean + q_a.stddev * torch.randn_like(a_mu)
        x_in, log_qa = torch.cat([x, a], -1), q_a.log_prob(a).sum(-1)
    q_y = Categorical(logits=model.classify(x_in))
    bound = q_y.entropy()
    for k in range(K):
        y = F.one_hot(torch.full((len(x),), k), K).to(x.dtype)
        noise = eps[k] if eps.ndim == 3 else eps
        bound = bound + q_y.probs[:, k] * bound_given_label(model, x, x_in, a, log_qa, y, noise)
    return bound


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("own_noise", [False, True])
@pytest.mark.parametrize("kind", ["m2", "adgm"])
def test_all_labels_at_once_equal_a_loop_over_them_in_value_and_gradient(kind, own_noise, dtype, tolerance):
    model, (x, _) = build(kind, dtype=dtype), binary(9, dtype=dtype)
    eps = torch.randn((K, 9, 2) if own_noise else (9, 2), dtype=dtype, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)  # a is drawn the same in both
    terms = objectives.unlabelled(model, x, eps=eps)
    torch.manual_seed(2)
    expected = looped(model, x, eps)
    torch.testing.assert_close(terms["unlabelled_bound"], expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(terms["loss"], -terms["unlabelled_bound"])
    found, expected = gradients(model, terms["loss"].mean()), gradients(model, -expected.mean())
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_terms_are_one_value_per_example_and_add_up():
    model, (x, y) = build("m2"), binary(5)
    names = {
        objectives.classification: ["loss", "log_qy"],
        objectives.labelled: ["loss", "log_px", "kl", "labelled_bound", "log_qy"],
        objectives.unlabelled: ["loss", "log_px", "kl", "entropy", "unlabelled_bound"],
        objectives.unlabelled_top: ["loss", "log_px", "kl", "entropy", "unlabelled_bound"],
        objectives.unlabelled_sampled: ["loss", "log_px", "kl", "entropy", "relaxed_objective"],
    }
    for objective, expected in names.items():
        arguments = (x, y) if objective in (objectives.classification, objectives.labelled) else (x,)
        options = {"temperature": 0.5} if objective is objectives.unlabelled_sampled else {}
        terms = objective(model, *arguments, **options)
        assert {name: tuple(value.shape) for name, value in terms.items()} == dict.fromkeys(expected, (5,))
        assert torch.equal(terms["loss"], -terms[expected[-1 if objective is not objectives.labelled else 3]])
        if objective in (objectives.unlabelled, objectives.unlabelled_sampled):
            total = terms["log_px"] - terms["kl"] - LOG_K + terms["entropy"]
            torch.testing.assert_close(terms[expected[-1]], total)
    terms = objectives.labelled(model, x, y)
    torch.testing.assert_close(terms["labelled_bound"], terms["log_px"] - terms["kl"] - LOG_K)
    torch.testing.assert_close(terms["log_qy"], -F.cross_entropy(model.classify(x), y, reduction="none"))
    torch.testing.assert_close(objectives.classification(model, x, y)["loss"], -terms["log_qy"])


def test_bounds_of_an_example_are_the_same_alone_and_in_a_batch():
    model, (x, y) = quiet(build("m2")), binary(7)
    all_but_one = K - 1  # then nothing is left to chance
    for name, objective in {
        "labelled": lambda i: objectives.labelled(model, x[i], y[i]),
        "classification": lambda i: objectives.classification(model, x[i], y[i]),
        "unlabelled": lambda i: objectives.unlabelled(model, x[i]),
        "top": lambda i: objectives.unlabelled_top(model, x[i], n_exact=all_but_one),
    }.items():
        alone = torch.cat([objective([i])["loss"] for i in range(7)])
        torch.testing.assert_close(objective(slice(None))["loss"], alone, msg=name)


# ---- any model with z and a in one dimension: the same integrals on a grid


def grid(reach, step):
    """Points and the log of their spacing; for smooth nets the trapezoid rule is exact once it is wide and fine."""
    return torch.arange(-reach, reach + step / 2, step, dtype=torch.float64), math.log(step)


def integrates_to_one(log_density, log_step):
    total = (log_density + log_step).exp().sum(0)
    return bool(((total - 1).abs() < 1e-9).all())


def log_joint(model, x, z):
    """log p(x, y, z) for z (..., 1, 1, 1): (..., K, B)."""
    log_px = BernoulliDistribution(logits=model.decode(z, model.all_labels(x))).log_prob(x).sum(-1)
    return log_px + Normal(0.0, 1.0).log_prob(z).sum(-1) - LOG_K


def log_px_by_quadrature(model, x):
    z, log_step = grid(40, 0.02)
    return (log_joint(model, x, z[:, None, None, None]) + log_step).flatten(0, 1).logsumexp(0)


def test_the_m2_bound_is_the_integral_it_stands_for_and_below_log_px():
    model, (x, y) = build("m2", z_dim=1), binary(5)
    z, log_step = grid(40, 0.02)
    z = z[:, None, None, None]
    q_mu, q_logvar = model.encode(x, model.all_labels(x))
    log_qz = Normal(q_mu, (0.5 * q_logvar).exp()).log_prob(z).sum(-1)
    log_qy = model.classify(x).log_softmax(-1).T
    assert integrates_to_one(log_qz, log_step)
    surplus = log_joint(model, x, z) - log_qz  # (grid, K, B)
    given_y = ((log_qz + log_step).exp() * surplus).sum(0)  # L(x, y) for every y
    expected = (log_qy.exp() * (given_y - log_qy)).sum(0)
    log_pxy = (log_joint(model, x, z) + log_step).logsumexp(0).gather(0, y[None])[0]
    assert (expected < log_px_by_quadrature(model, x)).all()

    eps, log_step = grid(9, 0.05)
    found = objectives.unlabelled(model, x.repeat(len(eps), 1), eps=eps.repeat_interleave(5)[:, None])
    weights = (Normal(0.0, 1.0).log_prob(eps) + log_step).exp()
    mean = weights @ found["unlabelled_bound"].view(-1, 5)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-8)

    torch.manual_seed(0)
    n = 20_000
    draws = objectives.labelled(model, x.repeat(n, 1), y.repeat(n))["labelled_bound"].view(n, 5)
    expected = given_y.gather(0, y[None])[0]
    assert close_on_average(draws, expected)
    assert (expected < log_pxy).all()


def test_the_adgm_bounds_are_the_integrals_they_stand_for_and_below_log_px():
    model, (x, y) = build("adgm", z_dim=1, a_dim=1), binary(2)
    points, log_step = grid(20, 0.1)
    a, z = points[:, None, None], points[:, None, None, None, None]  # (Ga, 1, 1) and (Gz, 1, 1, 1, 1)
    labels = model.all_labels(x)

    def log_normal(value, moments):
        return Normal(moments[0], (0.5 * moments[1]).exp()).log_prob(value).sum(-1)

    x_in = model.with_auxiliary(x.expand(len(a), -1, -1), a.expand(-1, 2, -1))
    log_qa = log_normal(a, model.encode_a(x))  # (Ga, B)
    log_qy = model.classify(x_in).log_softmax(-1).movedim(-1, 1)  # (Ga, K, B)
    log_qz = log_normal(z, model.encode(x_in[:, None], labels))  # (Gz, Ga, K, B)
    log_pa = log_normal(a[:, None], model.decode_a(x, labels, z))
    surplus = log_joint(model, x, z) + log_pa - log_qz - log_qa[:, None]
    given_a = ((log_qz + log_step).exp() * surplus).sum(0)  # (Ga, K, B)
    weights = (log_qa + log_step).exp()
    assert integrates_to_one(log_qa, log_step)
    assert integrates_to_one(log_qz, log_step)
    bound_xy = (weights[:, None] * given_a).sum(0).gather(0, y[None])[0]
    bound_x = (weights * (log_qy.exp() * (given_a - log_qy)).sum(1)).sum(0)
    mean_log_qy = (weights[:, None] * log_qy).sum(0).gather(0, y[None])[0]
    assert (bound_x < log_px_by_quadrature(model, x)).all()

    torch.manual_seed(0)
    n = 20_000
    many, labels = x.repeat(n, 1), y.repeat(n)
    labelled = objectives.labelled(model, many, labels)
    assert close_on_average(labelled["labelled_bound"].view(n, 2), bound_xy)
    assert close_on_average(labelled["log_qy"].view(n, 2), mean_log_qy)
    assert close_on_average(objectives.classification(model, many, labels)["log_qy"].view(n, 2), mean_log_qy)
    assert close_on_average(objectives.unlabelled(model, many)["unlabelled_bound"].view(n, 2), bound_x)
    top = objectives.unlabelled_top(model, many, n_exact=1)
    assert close_on_average(top["unlabelled_bound"].view(n, 2), bound_x)
    sampled = objectives.unlabelled_sampled(model, many, temperature=1e-5)
    assert close_on_average(sampled["relaxed_objective"].view(n, 2), bound_x)
    y_probs = (weights[:, None] * log_qy.exp()).sum(0).mT
    assert close_on_average(class_probs(model.eval(), many, n_samples=1).view(n, 2, K), y_probs)


class IgnoringA(nn.Module):
    """A net of (x, a, ...) that reads x and the rest."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x_in, *rest):
        return self.net(x_in[..., :D], *rest)


class OfXAlone(IgnoringA):
    """A net of (x, y, z) that reads x."""

    def forward(self, x, *rest):
        return self.net(x)


@pytest.mark.parametrize("objective", ["labelled", "unlabelled", "unlabelled_top", "unlabelled_sampled"])
def test_an_adgm_whose_auxiliary_is_useless_and_explained_has_the_bound_of_its_m2(objective):
    m2, a_encoder, (x, y) = quiet(build("m2")), MLP(D, [8], 4).double(), binary(9)
    adgm = ADGM(
        IgnoringA(m2.net),
        IgnoringA(m2.encoder),
        m2.decoder,
        m2.likelihood,
        m2.prior,
        n_classes=K,
        a_encoder=a_encoder,
        a_decoder=OfXAlone(a_encoder),
    )
    arguments, options = {
        "labelled": ((x, y), {}),
        "unlabelled": ((x,), {}),
        "unlabelled_top": ((x,), {"n_exact": K - 1}),
        "unlabelled_sampled": ((x,), {"temperature": 1e9}),  # so hot that the label is (1/K, ..., 1/K) in every draw
    }[objective]
    found, expected = (getattr(objectives, objective)(model, *arguments, **options) for model in (adgm, m2))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7, msg=name)


# ---- a model whose posterior is known: a linear-Gaussian decoder for every class


class AffineByClass(nn.Module):
    """v -> W_y v + b_y for inputs v (..., n) and one-hot y (..., K); W (K, m, n), b (K, m)."""

    def __init__(self, weights, biases):
        super().__init__()
        self.weights, self.biases = weights, biases

    def forward(self, v, y):
        return (y[..., None] * (torch.einsum("kmn,...n->...km", self.weights, v) + self.biases)).sum(-2)


class ExactLogits(nn.Module):
    """log p(x | y) for every y, which are the logits of p(y | x), times ``sharpness``."""

    def __init__(self, truths, sharpness):
        super().__init__()
        self.truths, self.sharpness = truths, sharpness

    def forward(self, x):
        return self.sharpness * torch.stack([truth.log_prob(x) for truth in self.truths], dim=-1)


@pytest.fixture
def truths():
    """A linear-Gaussian model for each class, with orthogonal columns so that posteriors are diagonal; it overlaps."""
    generator = torch.Generator().manual_seed(0)

    def one():
        orthogonal = torch.linalg.qr(torch.randn(D, 2, dtype=torch.float64, generator=generator)).Q
        bias = 0.5 * torch.randn(D, dtype=torch.float64, generator=generator)
        return LinearGaussian(orthogonal * torch.tensor([1.5, 0.7], dtype=torch.float64), bias, x_var=0.5)

    return [one() for _ in range(K)]


def linear_m2(truths, *, shift=0.0, widen=0.0, sharpness=1.0):
    """The M2 of these classes, its q the exact posterior, moved, widened in log variance, sharpened in y."""
    zero, unit = torch.zeros(1, D, dtype=torch.float64), torch.eye(D, dtype=torch.float64)
    slopes, intercepts = [], []
    for truth in truths:
        at_0, covariance = truth.posterior(zero)
        slopes.append(torch.cat([(truth.posterior(unit)[0] - at_0).mT, torch.zeros(2, D)]))
        intercepts.append(torch.cat([at_0[0] + shift, covariance.diagonal().log() + widen]))
    likelihood = Gaussian(x_var=0.5).double()
    likelihood.x_logvar.fill_(math.log(0.5))  # .double() widened a float32 logarithm
    return M2(
        ExactLogits(truths, sharpness),
        AffineByClass(torch.stack(slopes), torch.stack(intercepts)),
        AffineByClass(torch.stack([t.weight for t in truths]), torch.stack([t.bias for t in truths])),
        likelihood,
        StandardNormal(2),
        n_classes=K,
    )


def linear_data(truths, n_per_class=3):
    generator = torch.Generator().manual_seed(1)
    x = [
        torch.randn(n_per_class, 2, dtype=torch.float64, generator=generator) @ t.weight.mT
        + t.bias
        + 0.5**0.5 * torch.randn(n_per_class, D, dtype=torch.float64, generator=generator)
        for t in truths
    ]
    return torch.cat(x), torch.arange(K).repeat_interleave(n_per_class)


def over_the_noise(model, x):
    """The unlabelled bound averaged over z exactly: four points have the mean and covariance of N(0, I_2)."""
    points = 2**0.5 * torch.cat([torch.eye(2), -torch.eye(2)]).double()
    found = [objectives.unlabelled(model, x, eps=p.expand(len(x), 2))["unlabelled_bound"] for p in points]
    return torch.stack(found).mean(0)


def test_the_unlabelled_bound_is_log_px_at_the_exact_posterior(truths):
    x, _ = linear_data(truths)
    log_px_given_y = torch.stack([truth.log_prob(x) for truth in truths])
    expected = log_px_given_y.logsumexp(0) - LOG_K
    assert log_px_given_y.softmax(0).amax(0).min() < 0.9  # the classes overlap, so the sum over them matters
    torch.testing.assert_close(over_the_noise(linear_m2(truths), x), expected, rtol=0, atol=1e-9)


def test_the_unlabelled_bound_misses_log_px_by_the_kl_to_the_exact_posterior(truths):
    x, _ = linear_data(truths)
    log_px_given_y = torch.stack([truth.log_prob(x) for truth in truths], dim=-1)
    p_y, q_y = Categorical(logits=log_px_given_y), Categorical(logits=0.3 * log_px_given_y)
    kl_z = [0.5 * (math.exp(0.7) - 1.7 + 0.4**2 / t.posterior(x)[1].diagonal()).sum() for t in truths]
    gap = kl_divergence(q_y, p_y) + (q_y.probs * torch.stack(kl_z)).sum(-1)
    assert gap.min() > 0.5
    bound = over_the_noise(linear_m2(truths, shift=0.4, widen=0.7, sharpness=0.3), x)
    torch.testing.assert_close(bound, log_px_given_y.logsumexp(-1) - LOG_K - gap, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shift", "widen"), [(0.0, 0.0), (0.4, 0.7)])
def test_the_labelled_bound_misses_log_pxy_by_the_kl_to_the_exact_posterior(truths, shift, widen):
    x, y = linear_data(truths, 1)
    n = 20_000
    torch.manual_seed(0)
    draws = objectives.labelled(linear_m2(truths, shift=shift, widen=widen), x.repeat(n, 1), y.repeat(n))
    variances = torch.stack([t.posterior(x)[1].diagonal() for t in truths])
    gap = 0.5 * (math.exp(widen) - 1 - widen + shift**2 / variances).sum(-1)
    log_pxy = torch.stack([t.log_prob(row) for t, row in zip(truths, x, strict=True)]) - LOG_K
    assert close_on_average(draws["labelled_bound"].view(n, K), log_pxy - gap)


# ---- fewer labels than all


class Copies(nn.Module):
    """n copies of one example and nothing random but the label: the parameters have one row a copy, so do gradients."""

    def __init__(self, y_logits, n, means):
        super().__init__()
        self.y_logits = nn.Parameter(y_logits.repeat(n, 1))
        self.shift = nn.Parameter(torch.zeros(n, means.shape[1], dtype=torch.float64))
        self.means = means

    def m2(self):
        """q(z | x, y) is the prior, and x ~ N(mean_y + shift, I) does not depend on z."""
        nets = (
            lambda x: self.y_logits,
            lambda x, y: y.new_zeros(*y.shape[:-1], 2),
            lambda z, y: y @ self.means + self.shift,
        )
        return M2(*nets, Gaussian(x_var=1.0), StandardNormal(1), n_classes=self.y_logits.shape[1])

    def evaluate(self, objective, x, **options):
        """The bound of every copy, and its gradient by the copy's logits and shift."""
        bound = -objective(self.m2(), x.expand(len(self.shift), -1), **options)["loss"]
        found = torch.autograd.grad(bound.sum(), [self.y_logits, self.shift])
        return torch.cat([bound.detach()[:, None], *found], dim=1)


def copies(n, *, sharpness=1.0):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5, D, dtype=torch.float64, generator=generator)
    logits = sharpness * torch.tensor([0.3, 1.0, -0.5, 0.0, 0.6], dtype=torch.float64)
    return Copies(logits, n, means), means[1] + 0.5


@pytest.mark.parametrize("n_exact", [1, 2, 3])
def test_the_bound_from_a_few_labels_is_right_on_average_in_value_and_gradient(n_exact):
    torch.manual_seed(0)
    model, x = copies(40_000)
    draws = model.evaluate(objectives.unlabelled_top, x, n_exact=n_exact)
    exact = copies(1)[0].evaluate(objectives.unlabelled, x)[0]
    assert (draws.std(0)[:6] > 0.01).all()  # the choice of the label does matter
    assert close_on_average(draws, exact)


def test_with_one_label_left_over_the_bound_from_a_few_labels_is_exact():
    model, (x, _) = quiet(build("m2")), binary(20)
    found, expected = objectives.unlabelled_top(model, x, n_exact=K - 1), objectives.unlabelled(model, x)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-8, msg=name)
    found, expected = (gradients(model, terms["loss"].mean()) for terms in (found, expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("sharpness", [30.0, 1000.0])
def test_a_sure_classifier_leaves_nothing_to_chance(sharpness):
    torch.manual_seed(0)
    draws = copies(200, sharpness=sharpness)[0].evaluate(objectives.unlabelled_top, copies(1)[1], n_exact=1)
    exact = copies(1, sharpness=sharpness)[0].evaluate(objectives.unlabelled, copies(1)[1])
    assert draws.isfinite().all()
    torch.testing.assert_close(draws, exact.expand(200, -1), rtol=1e-3, atol=1e-3)  # the rest has probability < 1e-5


@pytest.mark.parametrize("n_exact", [0, -1, K, K + 1])
def test_a_number_of_labels_out_of_range_raises(n_exact):
    with pytest.raises(ValueError, match=f"between 1 and {K - 1}, got {n_exact}"):
        objectives.unlabelled_top(build("m2"), binary(2)[0], n_exact=n_exact)


def test_a_sampled_label_at_a_low_temperature_has_the_exact_bound_as_mean():
    torch.manual_seed(0)
    model, x = copies(40_000)
    draws = model.evaluate(objectives.unlabelled_sampled, x, temperature=1e-5)[:, 0]
    exact = copies(1)[0].evaluate(objectives.unlabelled, x)[0, 0]
    assert draws.std() > 0.5
    assert close_on_average(draws, exact)


def test_a_sampled_label_of_a_sure_classifier_is_the_exact_bound():
    torch.manual_seed(0)
    draws = copies(50, sharpness=1000.0)[0].evaluate(objectives.unlabelled_sampled, copies(1)[1], temperature=1e-3)
    exact = copies(1, sharpness=1000.0)[0].evaluate(objectives.unlabelled, copies(1)[1])
    torch.testing.assert_close(draws[:, 0], exact[:, 0].expand(50), rtol=0, atol=1e-9)


def test_a_sampled_label_at_a_high_temperature_is_all_labels_alike():
    model, (x, _) = quiet(build("m2")), binary(9)
    found = objectives.unlabelled_sampled(model, x, temperature=1e9)["relaxed_objective"]
    alike = torch.full((9, K), 1 / K, dtype=torch.float64)
    eps = torch.zeros(9, 2, dtype=torch.float64)
    expected = bound_given_label(model, x, x, None, None, alike, eps) + Categorical(logits=model.classify(x)).entropy()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_the_gradient_of_a_sampled_label_reaches_the_classifier_through_the_label():
    torch.manual_seed(0)
    model, x = copies(2000)
    found = model.evaluate(objectives.unlabelled_sampled, x, temperature=1.0)[:, 1:6]
    entropy_alone = torch.autograd.grad(Categorical(logits=model.y_logits).entropy().sum(), model.y_logits)[0]
    assert ((found - entropy_alone).abs().amax(1) > 1e-3).double().mean() > 0.9  # in all but a few draws


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_raises(temperature):
    with pytest.raises(ValueError, match=f"positive, got {temperature}"):
        objectives.unlabelled_sampled(build("m2"), binary(2)[0], temperature=temperature)


# ---- labels and batches that must raise


@pytest.mark.parametrize("objective", [objectives.classification, objectives.labelled])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, K]), f"0..{K - 1}, found 0 to {K}"),
        (torch.tensor([-1, 1, 2]), "found -1 to 2"),
        (torch.tensor([0, 1]), r"\(3,\).*\(2,\)"),
        (torch.tensor([[0], [1], [2]]), r"\(3, 1\)"),
        (torch.eye(K, dtype=torch.int64), r"\(3, 3\)"),
        (torch.tensor([0.0, 1.0, 2.0]), "float32"),
        (torch.tensor([0, 1, 2], dtype=torch.int32), "int32"),
    ],
)
def test_labels_of_another_range_shape_or_type_raise(objective, y, message):
    with pytest.raises(ValueError, match=message):
        objective(build("m2"), binary(3)[0], y)


def test_all_labels_in_range_pass():
    objectives.check_labels(torch.arange(K), batch_size=K, n_classes=K)
    objectives.check_labels(torch.arange(0), batch_size=0, n_classes=K)


def test_a_batch_that_is_not_flat_raises_in_every_objective():
    model, x, y = build("m2"), torch.zeros(2, 1, D, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    for call in (
        lambda: objectives.classification(model, x, y),
        lambda: objectives.labelled(model, x, y),
        lambda: objectives.unlabelled(model, x),
        lambda: objectives.unlabelled_top(model, x),
        lambda: objectives.unlabelled_sampled(model, x, temperature=1.0),
    ):
        with pytest.raises(ValueError, match=r"flat examples, \(B, D\)"):
            call()
