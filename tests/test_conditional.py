"""The conditional VAE: where and how the label enters, its bound, and the study from end to end."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Normal, kl_divergence

from vae_helpers.experiments import conditional, m2
from vae_helpers.experiments.conditional import ConditionalConfig, build
from vae_helpers.likelihoods import Bernoulli, Gaussian
from vae_helpers.models import M2, Classifier, ConditionalVAE
from vae_helpers.nets import MLP, ConvFeatures, CropDecoder, FiLM, LabelEmbedding, NoLabel, RepeatedOneHot, WithLabel
from vae_helpers.objectives import check_terms, conditional_elbo
from vae_helpers.priors import StandardNormal
from vae_helpers.training import Budget

D, K, Z = 5, 3, 2  # of the small models below
JOINS = {
    "one_hot": lambda n: RepeatedOneHot(n, K, repeats=2),
    "embedding": lambda n: LabelEmbedding(n, K, dim=4),
    "film": lambda n: FiLM(n, K),
    "neither": NoLabel,
}


def small(join="one_hot", *, quiet=False, seed=0, likelihood=None):
    """A small random model in double precision; ``quiet``: q(z | x, y) so narrow (sd 1e-13) that z is its mean."""
    torch.manual_seed(seed)
    joins = [JOINS[join](n) for n in (D, Z)]
    head = MLP(joins[0].out_dim, [8], 2 * Z, activation="tanh")
    decoder = WithLabel(nn.Identity(), joins[1], MLP(joins[1].out_dim, [8], D, activation="tanh"))
    if quiet:
        with torch.no_grad():
            head[-1].weight[Z:] = 0
            head[-1].bias[Z:] = -60
    encoder = WithLabel(nn.Identity(), joins[0], head)
    return ConditionalVAE(encoder, decoder, likelihood or Bernoulli(), StandardNormal(Z), n_classes=K).double()


def binary(n, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, D, generator=generator) > 0.5).double(), torch.randint(K, (n,), generator=generator)


def one_hot(y, n_classes=K):
    return F.one_hot(y, n_classes).double()


# ---- how a label enters a net


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_the_one_hot_vector_is_appended_so_many_times(repeats):
    h, join = torch.randn(4, 6), RepeatedOneHot(6, K, repeats=repeats)
    y = torch.tensor([0, 1, 2, 1])
    found = join(h, F.one_hot(y, K).float())
    assert found.shape == (4, join.out_dim) == (4, 6 + K * repeats)
    assert torch.equal(found[:, :6], h)
    label = found[:, 6:]
    assert torch.equal(label.sum(-1), torch.full((4,), float(repeats)))  # r ones a row, at places of their own
    assert torch.equal((label @ label.T) > 0, y[:, None] == y)
    assert torch.equal(join(h, torch.zeros(4, K))[:, 6:], torch.zeros(4, K * repeats))


def test_an_embedding_appends_the_row_of_the_label_and_nothing_for_no_label():
    h, join = torch.randn(4, 6), LabelEmbedding(6, K, dim=5)
    y = torch.tensor([2, 0, 1, 2])
    found = join(h, F.one_hot(y, K).float())
    assert found.shape == (4, join.out_dim)
    torch.testing.assert_close(found, torch.cat([h, join.table[y]], -1))
    torch.testing.assert_close(join(h, torch.zeros(4, K)), torch.cat([h, torch.zeros(4, 5)], -1))
    relaxed = join(h[:1], torch.tensor([[0.25, 0.75, 0.0]]))[0, 6:]
    torch.testing.assert_close(relaxed, 0.25 * join.table[0] + 0.75 * join.table[1])


def test_film_scales_and_shifts_by_the_label_and_is_the_identity_without_one():
    h, join = torch.randn(4, 6), FiLM(6, K)
    y = torch.tensor([2, 0, 1, 2])
    expected = torch.stack([row * (1 + join.scale[k]) + join.shift[k] for row, k in zip(h, y, strict=True)])
    torch.testing.assert_close(join(h, F.one_hot(y, K).float()), expected)
    assert not torch.allclose(expected, h)
    assert torch.equal(join(h, torch.zeros(4, K)), h)


@pytest.mark.parametrize("name", JOINS)
def test_leading_axes_stand_for_every_pair(name):
    model, (x, y) = small(name), binary(7)
    q_mu, q_logvar = model.encode(x, model.all_labels(x))
    assert q_mu.shape == q_logvar.shape == (K, 7, Z)
    z = torch.randn(4, 7, Z, dtype=torch.float64)
    out = model.decode(z, one_hot(y))
    assert out.shape == (4, 7, D)
    for k in range(K):
        expected = model.encode(x, one_hot(torch.full((7,), k)))
        torch.testing.assert_close(torch.stack([q_mu[k], q_logvar[k]]), torch.stack(expected))
    for s in range(4):
        torch.testing.assert_close(out[s], model.decode(z[s], one_hot(y)))
    torch.testing.assert_close(model.decode(z[0, 0], one_hot(y)), model.decode(z[0, :1].expand(7, -1), one_hot(y)))


@pytest.mark.parametrize("name", ["one_hot", "embedding", "film"])
def test_labels_of_another_number_of_classes_raise(name):
    with pytest.raises(ValueError, match=rf"{K} values on the last axis.*\(2, 1\)"):
        JOINS[name](6)(torch.zeros(2, 6), torch.zeros(2, 1))


@pytest.mark.parametrize("size", [0, -1])
def test_no_copies_and_embeddings_without_dimensions_raise(size):
    with pytest.raises(ValueError, match=f"repeats must be at least 1, got {size}"):
        RepeatedOneHot(6, K, repeats=size)
    with pytest.raises(ValueError, match=f"at least one dimension, got {size}"):
        LabelEmbedding(6, K, dim=size)


# ---- convolutions of flat images


def test_conv_features_read_channels_rows_and_columns_in_that_order():
    net = ConvFeatures((2, 4, 6), channels=(3,))
    x = torch.rand(5, 48)
    with torch.no_grad():
        net.layers[0].weight.zero_()
        net.layers[0].bias.zero_()
        net.layers[0].weight[2, 1, 1, 2] = 1  # third feature: pixel (2i, 2j + 1) of the second channel
    found = net(x)
    assert found.shape == (5, net.out_dim) == (5, 3 * 2 * 3)
    expected = torch.stack([x[:, 24 + 6 * (2 * i) + 2 * j + 1] for i in range(2) for j in range(3)], -1)
    torch.testing.assert_close(found, torch.cat([torch.zeros(5, 12), expected], -1))
    with pytest.raises(ValueError, match=r"48 values.*\(5, 24\)"):
        net(x[:, :24])
    with pytest.raises(ValueError, match="1x28 cannot be halved 1 times"):
        ConvFeatures((1, 1, 28), channels=(3,))


def test_the_crop_decoder_gives_the_upper_left_of_its_29_by_29_image_channel_by_channel():
    torch.manual_seed(0)
    decoder, h = CropDecoder(6, n_params=2, h_channels=3), torch.randn(4, 5, 6)
    first, second = decoder.deconv[0], decoder.deconv[2]
    linear = decoder.stem[0]
    grid = torch.empty(20, 64, 12, 12)
    flat = F.relu(h.reshape(20, 6) @ linear.weight.T + linear.bias)
    for row in range(12):
        for column in range(12):
            at = (12 * row + column) * 64  # 64 features a place
            grid[:, :, row, column] = flat[:, at : at + 64]
    hidden = F.relu(F.conv_transpose2d(grid, first.weight, first.bias, stride=2))
    image = F.conv_transpose2d(hidden, second.weight, second.bias)
    assert image.shape == (20, 2, 29, 29)
    found = decoder(h)
    assert found.shape == (4, 5, 2 * 784)
    expected = image[:, :, :28, :28].reshape(4, 5, 2, 784)
    torch.testing.assert_close(found[..., :784], expected[:, :, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[..., 784:], expected[:, :, 1], rtol=1e-4, atol=1e-6)


# ---- the model


@pytest.mark.parametrize("label", ["one_hot", "embedding", "film"])
@pytest.mark.parametrize("placement", ["both", "decoder", "encoder", "neither"])
def test_the_label_is_heard_exactly_where_it_is_placed(placement, label):
    torch.manual_seed(0)
    model = build(ConditionalConfig(placement=placement, label=label, z_dim=4, embedding_dim=3))
    x, z = torch.rand(2, 784), torch.randn(2, 4)
    labels = torch.cat([model.all_labels(x), torch.zeros(1, 1, 10)])  # and no label
    with torch.no_grad():
        results = {"encoder": torch.cat(model.encode(x, labels), -1), "decoder": model.decode(z, labels)}
    for where, found in results.items():
        assert found.shape[:2] == (11, 2)
        for i in range(11):
            for j in range(i):
                heard = not torch.equal(found[i], found[j])
                assert heard == (placement in ("both", where)), (where, i, j)


def test_a_model_with_its_label_fixed_is_the_model_at_that_label():
    model, (x, y) = small().eval(), binary(6)
    z = torch.randn(4, 6, Z, dtype=torch.float64)
    for label in (one_hot(y), one_hot(torch.tensor(1))):
        given = model.given(label)
        assert torch.equal(torch.cat(given.encode(x)), torch.cat(model.encode(x, label)))
        assert torch.equal(given.decode(z), model.decode(z, label))
        torch.testing.assert_close(given.decode_mean(z), torch.sigmoid(model.decode(z, label)))
        assert given.z_dim == Z
        assert given.likelihood is model.likelihood
        assert given.prior is model.prior
        assert not given.training
    assert model.given(one_hot(y)).conditional.train().training


def test_guidance_is_a_line_through_no_label_at_zero_and_the_label_at_one():
    model, (_, y) = small(), binary(6)
    z, label = torch.randn(4, 6, Z, dtype=torch.float64), one_hot(y)
    without, plain = model.decode(z, torch.zeros(6, K).double()), model.decode(z, label)
    assert (without - plain).abs().max() > 0.01
    for weight in (-1.0, 0.0, 0.5, 1.0, 4.0):
        expected = (1 - weight) * without + weight * plain
        torch.testing.assert_close(model.decode_guided(z, label, weight=weight), expected)


def test_labels_become_one_hot_vectors_or_raise():
    model = small()
    assert torch.equal(model.one_hot(torch.tensor([2, 0])), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    for label in (K, -1):
        with pytest.raises((ValueError, IndexError)):
            model.one_hot(torch.tensor([0, label]))
    with pytest.raises(ValueError, match="n_classes must be at least 2, got 1"):
        ConditionalVAE(nn.Identity(), nn.Identity(), Bernoulli(), StandardNormal(1), n_classes=1)


def test_m2_is_a_conditional_vae_and_a_classifier_with_the_weights_it_always_had():
    model = m2.build(m2.M2Config(z_dim=4, h_dims=(32,)))
    assert isinstance(model, M2)
    assert isinstance(model, ConditionalVAE)
    assert isinstance(model, Classifier)
    nets = {"net": model.net, "encoder": model.encoder, "decoder": model.decoder}
    expected = {f"{name}.{key}" for name, net in nets.items() for key in net.state_dict()}
    assert set(model.state_dict()) == expected
    assert expected >= {"net.0.weight", "encoder.inputs.0.weight", "encoder.inputs.1.weight", "decoder.inputs.0.bias"}
    x, y = torch.rand(3, 784), torch.tensor([1, 2, 3])
    assert model.classify(x).shape == (3, 10)
    check_terms(conditional_elbo(model, x.round(), y), 3)


# ---- the bound


def by_hand(model, x, label, eps):
    """log_px and kl, (B,), with torch.distributions."""
    q_mu, q_logvar = model.encode(x, label)
    q = Normal(q_mu, (0.5 * q_logvar).exp())
    log_px = BernoulliDistribution(logits=model.decode(q.mean + q.stddev * eps, label)).log_prob(x).sum(-1)
    return log_px, kl_divergence(q, Normal(0.0, 1.0)).sum(-1)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("join", JOINS)
def test_the_bound_is_the_one_written_by_hand(join, beta):
    model, (x, y) = small(join), binary(9)
    torch.manual_seed(3)
    terms = conditional_elbo(model, x, y, beta=beta)
    torch.manual_seed(3)
    log_px, kl = by_hand(model, x, one_hot(y), torch.randn(9, Z, dtype=torch.float64))
    expected = {"loss": beta * kl - log_px, "log_px": log_px, "kl": kl, "elbo_bound": log_px - kl}
    assert terms.keys() == expected.keys()
    check_terms(terms, 9)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


@pytest.mark.parametrize("join", ["one_hot", "embedding", "film"])
def test_label_dropout_leaves_out_the_label_of_so_many_examples_in_both_nets(join):
    n, model = 2000, small(join, quiet=True)
    x, y = binary(n)
    eps = torch.zeros(n, Z, dtype=torch.float64)
    with torch.no_grad():
        kept, gone = (torch.stack(by_hand(model, x, one_hot(y) * weight, eps)) for weight in (1, 0))
        assert ((kept - gone).abs() > 1e-6).all()  # both terms of every example tell
        for dropout in (0.0, 0.2, 0.5, 1.0):
            terms = conditional_elbo(model, x, y, label_dropout=dropout)
            found = torch.stack([terms["log_px"], terms["kl"]])
            is_kept, is_gone = ((found - other).abs() < 1e-9 for other in (kept, gone))  # z is known to 1e-12
            assert (is_kept != is_gone).all()
            assert torch.equal(is_gone[0], is_gone[1])
            share, sd = is_gone[0].double().mean().item(), math.sqrt(dropout * (1 - dropout) / n)
            assert abs(share - dropout) <= 6 * sd


def test_the_mean_terms_do_not_depend_on_the_batch_size():
    model, (x, y) = small(quiet=True), binary(12)
    whole = conditional_elbo(model, x, y)
    for size in (1, 3, 4):
        parts = [conditional_elbo(model, *pair) for pair in zip(x.split(size), y.split(size), strict=True)]
        for name, value in whole.items():
            mean = torch.stack([part[name].mean() for part in parts]).mean()
            torch.testing.assert_close(mean, value.mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, math.nan])
def test_a_label_dropout_that_is_no_probability_raises(dropout):
    with pytest.raises(ValueError, match=f"0 to 1, got {dropout}"):
        conditional_elbo(small(), *binary(4), label_dropout=dropout)


def test_batches_and_labels_that_do_not_fit_raise():
    model, (x, y) = small(), binary(4)
    for labels, message in (
        (torch.tensor([0, 1, 2, 3]), r"0\.\.2, found 0 to 3"),
        (torch.tensor([0, 1, 2, -1]), r"0\.\.2, found -1 to 2"),
        (y[:3], r"\(4,\).*\(3,\)"),
        (y[:, None], r"\(4,\).*\(4, 1\)"),
        (y.float(), "float32"),
    ):
        with pytest.raises(ValueError, match=message):
            conditional_elbo(model, x, labels)
    with pytest.raises(ValueError, match="x must be a batch"):
        conditional_elbo(model, x[:, None], y)
    with pytest.raises(ValueError, match=r"beta.*-1"):
        conditional_elbo(model, x, y, beta=-1.0)


# ---- variance and weight of the KL; a decoder that is dead


def gradients(model, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("v", [0.05, 4.0])
def test_a_decoder_variance_is_a_weight_of_the_kl_and_a_step_size(v):
    """||x - m||^2 / 2v + KL is 1/v times ||x - m||^2 / 2 + v KL, but for a constant."""
    found = []
    for x_var, beta in ((v, 1.0), (1.0, v)):
        model, (x, y) = small(likelihood=Gaussian(x_var=x_var)), binary(8)
        torch.manual_seed(1)
        found.append(gradients(model, conditional_elbo(model, x, y, beta=beta)["loss"].mean()))
    assert F.cosine_similarity(*found, dim=0).item() > 1 - 1e-12
    assert (found[0].norm() / found[1].norm()).item() == pytest.approx(1 / v, rel=1e-6)  # log x_var is float32


def dead_model(**settings):
    """A study's model whose decoder outputs are all negative, before a ReLU."""
    torch.manual_seed(0)
    model = build(ConditionalConfig(**({"z_dim": 4, "output": "relu", "x_var": 1.0} | settings)))
    with torch.no_grad():
        model.decoder.net.deconv[-1].bias.fill_(-100.0)
    return model


def test_a_dead_relu_decoder_has_a_known_density_and_no_gradient_and_its_code_goes_to_the_prior():
    model, generator = dead_model(), torch.Generator().manual_seed(0)
    x, y = torch.rand(8, 784, generator=generator), torch.arange(8)
    with torch.no_grad():
        model.encoder.net[-1].bias.fill_(1.0)  # q_mu = q_logvar = 1: the KL starts at 4 x 0.86
    before = {key: value.clone() for key, value in model.decoder.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    kl = []
    for _ in range(60):
        terms = conditional_elbo(model, x, y)
        optimiser.zero_grad()
        terms["loss"].mean().backward()
        assert all(not p.grad.any() for p in model.decoder.parameters())
        optimiser.step()
        kl.append(terms["kl"].mean().item())
    exact = -0.5 * x.double().square().sum(-1) - 392 * math.log(2 * math.pi)
    torch.testing.assert_close(terms["log_px"].double(), exact, rtol=1e-6, atol=0)  # float32
    assert kl[0] > 2
    assert kl[-1] < 0.02 * kl[0]
    assert all(torch.equal(value, before[key]) for key, value in model.decoder.state_dict().items())


# ---- the study

TERMS = {
    *("test_elbo_bound", "test_log_px", "test_kl", "test_squared_error"),
    *("active_units", "dead", "dark_pixels_percent"),
}
SAMPLES = {
    *("sample_accuracy_percent", "sample_frechet"),
    *("label_probe_percent", "swap_label_percent", "swap_source_percent", "judge_accuracy_percent"),
}
GUIDED = {
    *("sample_accuracy_guided_2_percent", "sample_accuracy_guided_4_percent"),
    *("sample_frechet_guided_2", "sample_frechet_guided_4"),
}
BITS = {
    *("test_elbo_bits_per_dim", "test_bits_per_dim"),
    *("test_bits_per_dim_standard_error", "test_bits_per_dim_median_ess"),
}


def run(images, folder=None, *, seed=0, resume=False, checkpoint_every=1000, **settings):
    config = ConditionalConfig(**({"z_dim": 3, "batch_size": 16, "steps": 3} | settings))
    rules = {"resume": resume, "checkpoint_every": checkpoint_every, "progress": False}
    return conditional.run(config, seed=seed, budget=Budget.SMOKE, images=images, folder=folder, **rules)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, TERMS | SAMPLES | BITS | {"found_x_var"}),
        ({"thorough": False}, TERMS | {"found_x_var"}),
        ({"label_dropout": 0.3}, TERMS | SAMPLES | GUIDED | BITS | {"found_x_var"}),
        ({"likelihood": "bernoulli", "label": "film"}, TERMS | SAMPLES),
        ({"likelihood": "continuous_bernoulli", "label": "embedding"}, TERMS | SAMPLES | BITS),
        ({"likelihood": "gaussian_learned", "placement": "decoder"}, TERMS | SAMPLES | BITS | {"found_x_var"}),
        ({"likelihood": "gaussian_optimal", "placement": "encoder"}, TERMS | SAMPLES | BITS | {"found_x_var"}),
        ({"likelihood": "gaussian_per_pixel", "placement": "neither"}, TERMS | SAMPLES | BITS),
        ({"likelihood": "discretised_logistic"}, TERMS | SAMPLES | BITS),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())) if isinstance(settings, dict) else "",
)
def test_every_setting_trains_and_is_measured(images, tmp_path, settings, expected):
    found = run(images, tmp_path, **settings)
    assert set(found.metrics) == expected
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert found.steps == 3
    assert not found.model.training
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["metrics"] == found.metrics
    assert saved["study"] == "conditional"
    for name in expected & {*SAMPLES, *GUIDED, "dark_pixels_percent"}:
        assert found.metrics[name] >= 0
        assert "percent" not in name or found.metrics[name] <= 100
    assert found.metrics["dead"] == 0
    if expected >= BITS:
        # no model codes noise of 40 levels in fewer bits, on average over the 7,840 pixels of ten images
        assert math.log2(40) - 0.05 < found.metrics["test_bits_per_dim"]
        assert found.metrics["test_bits_per_dim"] < found.metrics["test_elbo_bits_per_dim"] + 0.1
    if settings.get("likelihood") == "discretised_logistic":  # trained on the very probabilities
        bits = -found.metrics["test_elbo_bound"] / 784 / math.log(2)
        assert found.metrics["test_elbo_bits_per_dim"] == pytest.approx(bits, rel=0.05)  # another draw of z
    if settings.get("likelihood", "gaussian") == "gaussian" and "found_x_var" in expected:
        assert found.metrics["found_x_var"] == pytest.approx(0.1)


def test_the_smoke_budget_takes_ten_steps_and_a_validation_set_the_place_of_the_test_set(images):
    found = run(images, steps=0, validation=20, thorough=False)
    assert found.steps == found.config.steps == 10
    assert "held out" in found.data
    assert run(images.validation(20), steps=10, thorough=False).metrics == found.metrics


def test_the_same_seed_gives_the_same_weights_and_metrics(images, tmp_path):
    settings = {"label_dropout": 0.2}
    found = [run(images, tmp_path / str(i), seed=seed, **settings).metrics for i, seed in enumerate((1, 1, 2))]
    weights = [(tmp_path / str(i) / "weights.safetensors").read_bytes() for i in range(3)]
    assert weights[0] == weights[1] != weights[2]
    assert found[0] == found[1] != found[2]


def test_a_study_killed_and_resumed_is_the_uninterrupted_one(images, tmp_path, monkeypatch):
    settings = {"steps": 12, "checkpoint_every": 5, "label_dropout": 0.3, "thorough": False}
    whole = run(images, tmp_path / "whole", **settings)
    calls = [0]

    def killed(model, *arguments, **options):
        calls[0] += model.training
        if calls[0] == 8:
            raise RuntimeError("killed")
        return conditional_elbo(model, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(conditional, "conditional_elbo", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(images, tmp_path / "killed", **settings)
    resumed = run(images, tmp_path / "killed", resume=True, **settings)
    files = [tmp_path / folder / "weights.safetensors" for folder in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert resumed.metrics == whole.metrics
    assert resumed.history.steps.tolist() == whole.history.steps.tolist()


def test_the_loss_of_the_study_has_its_weight_and_its_dropout(images, monkeypatch):
    seen = []

    def recorded(model, x, y, **options):
        seen.append(options)
        return conditional_elbo(model, x, y, **options)

    monkeypatch.setattr(conditional, "conditional_elbo", recorded)
    found = run(images, steps=2, beta=7.0, label_dropout=0.25, thorough=False)
    assert seen.count({"beta": 7.0, "label_dropout": 0.25}) == 2  # the steps; all else is measured with the label
    assert {tuple(sorted(options)) for options in seen} == {(), ("beta", "label_dropout")}
    (row,) = found.history.rows
    assert row["loss"] == pytest.approx(7 * row["kl"] - row["log_px"], rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"placement": "both_nets"}, "unknown placement 'both_nets'; choose one of both, decoder, encoder, neither"),
        ({"label": "hot"}, "unknown label 'hot'; choose one of one_hot, embedding, film"),
        ({"likelihood": "normal"}, "unknown likelihood 'normal'; choose one of bernoulli, "),
        ({"output": "tanh"}, "unknown output 'tanh'; choose one of "),
        ({"repeats": 0}, "repeats must be at least 1, got 0; "),
        ({"repeats": -1, "placement": "neither"}, "repeats must be at least 1, got -1; "),
        ({"embedding_dim": 0, "label": "embedding"}, "an embedding needs at least one dimension, got 0"),
        ({"x_var": 0.0}, "x_var must be a positive number, got 0.0"),
        ({"x_var": -0.1}, "x_var must be a positive number, got -0.1"),
        ({"x_var": math.nan}, "x_var must be a positive number, got nan"),
        ({"label_dropout": 1.5}, "label_dropout must be a probability, 0 to 1, got 1.5"),
        ({"beta": -1.0}, "beta must be a finite number >= 0, got -1.0"),
        ({"lr": 0.0}, "lr.*0.0"),
        ({"validation": 60}, "between 1 and 59 for fake, got 60"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_raise_one_sentence_with_the_value(images, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        run(images, **settings)
    assert "\n" not in str(raised.value)
    assert str(raised.value).count(". ") <= 1


def test_a_metric_named_like_a_setting_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr(conditional, "measure_terms", lambda model, x, y: {"x_var": 1.0})
    with pytest.raises(ValueError, match=r"settings and metrics of one name.*x_var"):
        run(images, tmp_path, thorough=False)
    assert json.loads((tmp_path / "run.json").read_text())["metrics"] == {}  # trained and saved, and not measured
