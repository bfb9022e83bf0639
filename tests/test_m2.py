"""Study m2 from end to end at the smoke budget, and the measures of classification it reports."""

import dataclasses
import math
import re

import pytest
import torch
from torch import nn

from vae_helpers import objectives
from vae_helpers.data import DataError, draw_label_split, load_label_split, load_mnist
from vae_helpers.evaluation import accuracy, class_probs, probe_accuracy
from vae_helpers.experiments import m2
from vae_helpers.experiments.m1_features import View
from vae_helpers.experiments.released import released_names
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import ADGM, VAE, Classifier
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import Budget, CheckpointError

SMALL = {"z_dim": 4, "a_dim": 4, "h_dims": (32,)}
BOUNDS = {"test_unlabelled_bound", "test_log_px", "test_kl"}
ACCURACIES = {"test_accuracy_percent", "test_accuracy_standard_error_percent", "labelled_accuracy_percent"}
M1_NAMES = [name for name in ("m1/z20", "m1/z50") if name in released_names()]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The 5,000 real digits that come with the packages."""
    return load_mnist(tmp_path_factory.mktemp("data"), download=False)


def run(images, folder=None, *, seed=0, resume=False, checkpoint_every=1000, **settings):
    config = m2.M2Config(**(SMALL | settings))
    rules = {"resume": resume, "checkpoint_every": checkpoint_every, "progress": False}
    return m2.run(config, seed=seed, budget=Budget.SMOKE, images=images, folder=folder, **rules)


# ---- measures of classification


def identity(n_classes):
    return Classifier(nn.Identity(), n_classes=n_classes).eval()


def test_accuracy_of_a_perfect_a_constant_and_a_half_right_classifier():
    y = torch.arange(4).repeat(25)
    logits = torch.eye(4)[y]
    for x, percent in ((logits, 100), (torch.eye(4)[torch.zeros(100, dtype=torch.int64)], 25), (-logits, 0)):
        found = accuracy(identity(4), x, y)
        assert found.percent == percent
        assert found.standard_error == pytest.approx(100 * math.sqrt(percent / 100 * (1 - percent / 100) / 100))
        assert found.n == 100
    half = torch.cat([logits[:50], -logits[50:]])
    assert str(accuracy(identity(4), half, y)) == "50.00 ± 5.00 %"


def test_class_probabilities_are_those_of_the_logits_in_every_batch_size():
    torch.manual_seed(0)
    x = torch.randn(17, 3)
    expected = torch.distributions.Categorical(logits=x).probs
    for batch_size in (1, 5, 17, 2000):
        torch.testing.assert_close(class_probs(identity(3), x, batch_size=batch_size), expected)


class LogitsOfA(nn.Module):
    """y_logits from (x, a): a large multiple of a for one of two classes, so that a draw decides the class."""

    def forward(self, x_in):
        return torch.stack([1e9 * x_in[..., -1], torch.zeros_like(x_in[..., -1])], dim=-1)


def test_an_adgm_averages_probabilities_over_its_auxiliary_variable():
    constant = MLP(1, [], 2)
    with torch.no_grad():
        constant[0].weight.zero_()
        constant[0].bias.copy_(torch.tensor([1.0, math.log(4)]))  # a ~ N(1, 2^2)
    unused = nn.Identity()
    model = ADGM(LogitsOfA(), unused, unused, unused, unused, n_classes=2, a_encoder=constant, a_decoder=unused).eval()
    torch.manual_seed(0)
    x, p = torch.zeros(2000, 1), torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.5)).item()  # P(a > 0)
    for n_samples in (1, 25):
        probs = class_probs(model, x, n_samples=n_samples)[:, 0].double()
        sd = math.sqrt(p * (1 - p) / n_samples)
        assert probs.mean().item() == pytest.approx(p, abs=6 * sd / 2000**0.5)
        assert probs.std().item() == pytest.approx(sd, rel=0.2)
        torch.testing.assert_close(probs * n_samples, (probs * n_samples).round())  # every draw is for or against
    assert accuracy(model, x, torch.zeros(2000, dtype=torch.int64)).percent > 90  # a vote of 20; one draw has 69 %


def test_measures_need_evaluation_mode_examples_and_a_sample():
    x = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="training mode"):
        class_probs(identity(3).train(), x)
    with pytest.raises(ValueError, match="training mode"):
        accuracy(identity(3).train(), x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="got 0 and 20"):
        class_probs(identity(3), x[:0])
    with pytest.raises(ValueError, match="got 4 and 0"):
        class_probs(identity(3), x, n_samples=0)


@pytest.mark.parametrize("shape", [(4, 1), (1,), (5,)])
def test_labels_that_are_not_one_an_example_do_not_pass_for_an_accuracy(shape):
    with pytest.raises((ValueError, RuntimeError)):
        accuracy(identity(3), torch.zeros(4, 3), torch.zeros(shape, dtype=torch.int64))


def test_a_probe_reads_a_one_hot_code_rightly_and_noise_at_chance():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(4, (3000,), generator=generator)
    code, noise = torch.eye(4)[y], torch.randn(3000, 5, generator=generator)
    assert probe_accuracy(code, y, n_train=1000).percent == 100
    assert probe_accuracy(100 * code + 7, y, n_train=1000).percent == 100
    found = probe_accuracy(noise, y, n_train=1000)
    assert found.n == 2000
    assert found.percent == pytest.approx(25, abs=6 * 100 * math.sqrt(0.25 * 0.75 / 2000))
    wide = torch.randn(3000, 1000, generator=generator)  # a probe can learn 500 of these by heart, no others
    assert probe_accuracy(wide, y, n_train=500).percent < 50


def test_a_probe_learns_from_examples_all_over_the_data_set():
    y = torch.arange(3000) % 4
    code = torch.eye(4)[y]
    changed = torch.cat([code[:1000], code[1000:].roll(1, dims=1)])  # another code after the first 1,000
    for seed in (0, 1):  # the other code is the more frequent one, and the probe reads it
        assert probe_accuracy(changed, y, n_train=1000, seed=seed).percent == pytest.approx(200 / 3, abs=5)
    noise = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    first, again, other = (probe_accuracy(noise, y, n_train=100, seed=seed).percent for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("n_train", [0, -1, 8, 9])
def test_a_probe_without_examples_on_both_sides_raises(n_train):
    with pytest.raises(ValueError, match=f"between 1 and 7, got {n_train}"):
        probe_accuracy(torch.zeros(8, 2), torch.arange(8) % 2, n_train=n_train)


# ---- the study


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "classifier"},
        {"model": "m2"},
        {"model": "m2", "labels": "all"},
        {"model": "m2", "labels": "top", "n_exact": 2},
        {"model": "m2", "labels": "gumbel"},
        {"model": "m2", "scaling": "batch_sums", "alpha": 3.0},
        {"model": "adgm"},
        *({"model": model, "m1": name} for name in M1_NAMES for model in ("m1_m2", "m1_svm")),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_every_method_trains_and_is_measured_and_saves_its_split(images, tmp_path, settings):
    found = run(images, tmp_path, seed=2, **settings)
    extra = {"m1_svm": {"svm_C"}, "m2": BOUNDS, "adgm": BOUNDS}.get(settings["model"], set())
    assert set(found.metrics) == ACCURACIES | extra
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert 0 <= found.metrics["test_accuracy_percent"] <= 100
    if extra == BOUNDS:  # log p(x) <= 0 of binary pixels; 784 coins have 543 nats
        assert -543 < found.metrics["test_unlabelled_bound"] < 0
        assert found.metrics["test_kl"] > 0
    if settings["model"] != "m1_svm":
        assert found.steps == m2.STEPS[settings["model"]]["smoke"]
        assert (tmp_path / "weights.safetensors").exists()
    assert (tmp_path / "run.json").exists()
    split = load_label_split(tmp_path / "split.json", images.y_train)
    assert torch.equal(split.labelled, draw_label_split(images.y_train, n_labels=100, seed=2).labelled)


@pytest.mark.parametrize("scaling", ["counts", "batch_sums", "batch_means"])
def test_the_loss_weighs_the_terms_as_the_config_says(images, scaling):
    found = run(images, scaling=scaling, alpha=3.0, steps=4, batch_size=50)
    (row,) = found.history.rows  # means over the steps, and the loss is linear in the terms
    terms = [-row[name] for name in ("labelled_bound", "unlabelled_bound", "log_qy")]
    weights = {
        "counts": [100 / 4000, 3900 / 4000, 3.0],  # 100 and 3,900 examples, alpha in units of their number
        "batch_sums": [1 / 51, 50 / 51, 3 / 51],  # a mean, a sum over the batch of 50, alpha as it is; divided by 51
        "batch_means": [1 / 2, 1 / 2, 3 / 2],
    }[scaling]
    expected = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    assert row["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "objective", "options"),
    [
        ({"labels": "all"}, objectives.unlabelled, {}),
        ({"labels": "top", "n_exact": 2}, objectives.unlabelled_top, {"n_exact": 2}),
        ({"labels": "gumbel", "temperature": 0.3}, objectives.unlabelled_sampled, {"temperature": 0.3}),
    ],
    ids=["all", "top", "gumbel"],
)
def test_the_label_is_treated_as_the_config_says(images, settings, objective, options):
    torch.manual_seed(0)
    config = m2.M2Config(**SMALL, **settings)
    model, x = m2.build(config), (images.x_test[:20] > 127).float()
    step = m2.update_for(config, model, m2.label_split(config, images, seed=0))
    torch.manual_seed(1)
    found = step.objective(model, x)
    torch.manual_seed(1)
    expected = objective(model, x, **options)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_classifier_of_a_few_labels_fits_them_and_beats_chance(images):
    found = run(images, model="classifier", steps=150, lr=2e-3, decay=False)
    assert found.metrics["labelled_accuracy_percent"] > 95
    assert found.metrics["test_accuracy_percent"] > 40  # of 10 classes; one image in four still wrong is usual


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_support_vector_machine_on_features_of_an_m1_beats_chance(images, kernel):
    found = run(images, model="m1_svm", m1="m1/z20", svm_kernel=kernel)
    assert found.metrics["test_accuracy_percent"] > 50
    assert found.metrics["svm_C"] in (0.1, 1.0, 10.0, 100.0)


class Pixels(nn.Module):
    """The encoder of an M1 whose features are its pixels, known to ``sd``."""

    in_dim = 784

    def __init__(self, sd):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(784))
        self.q_logvar = 2 * math.log(sd)

    def forward(self, x):
        return torch.cat([x + self.offset, torch.full_like(x, self.q_logvar)], dim=-1)


@pytest.mark.parametrize("model", ["m2", "m1_m2"])
def test_training_sees_fresh_binary_pixels_and_measuring_sees_their_mean(images, monkeypatch, model):
    m1 = VAE(Pixels(1e-9), nn.Identity(), Bernoulli(), StandardNormal(784))
    monkeypatch.setattr(m2, "load_m1", lambda name, x_dim: m1)
    view, x, n = m2.view_of(m2.M2Config(model=model), torch.device("cpu")), images.x_test[:1], 2000
    grey = x[0] / 255
    torch.testing.assert_close(view.measured(x)[0], grey)
    torch.manual_seed(0)
    trained = view.trained(x.expand(n, -1))
    torch.testing.assert_close(trained, trained.round())
    assert ((trained.mean(0) - grey).abs() <= 6 * (grey * (1 - grey) / n).sqrt() + 1e-6).all()
    assert not trained.requires_grad  # an M1 is not trained along


def test_features_of_an_m1_are_sampled_in_training_and_their_mean_is_measured(images, monkeypatch):
    m1 = VAE(Pixels(2.0), nn.Identity(), Bernoulli(), StandardNormal(784))
    monkeypatch.setattr(m2, "load_m1", lambda name, x_dim: m1)
    view, x = m2.view_of(m2.M2Config(model="m1_m2"), torch.device("cpu")), torch.zeros(2000, 784, dtype=torch.uint8)
    assert torch.equal(view.measured(x), torch.zeros(2000, 784))
    torch.manual_seed(0)
    trained = view.trained(x)
    assert trained.std().item() == pytest.approx(2, rel=0.01)  # 1.6 million draws
    assert trained.mean(0).abs().max() < 6 * 2 / 2000**0.5


class Collapsed(Pixels):
    """Mean x, but for half of the latents, where it is nearly 0 and the standard deviation 1."""

    def forward(self, x):
        half = torch.arange(784) % 2 == 1
        return torch.cat([torch.where(half, 0.01 * x, x), torch.where(half, 0.0, self.q_logvar).expand_as(x)], dim=-1)


def test_m2_on_features_reads_the_active_latents_alone(images, monkeypatch):
    m1 = VAE(Collapsed(0.1), nn.Identity(), Bernoulli(), StandardNormal(784))
    monkeypatch.setattr(m2, "load_m1", lambda name, x_dim: m1)
    moving = (images.x_train[:10_000] / 255).var(0) > 0.01
    active = [j for j in range(784) if moving[j] and j % 2 == 0]
    config = m2.M2Config(model="m1_m2").resolved(Budget.SMOKE, images)
    assert list(config.m1_latents) == active
    x = images.x_test[:3]
    assert torch.equal(m2.view_of(config, torch.device("cpu")).measured(x), (x / 255)[:, active])
    assert m2.view_of(config, torch.device("cpu")).trained(x).shape == (3, len(active))
    assert m2.build(config).net.in_dim == len(active)
    chosen = m2.M2Config(model="m1_m2", m1_latents=(3, 0))
    assert chosen.resolved(Budget.SMOKE, images).m1_latents == (3, 0)
    assert m2.M2Config(model="m1_svm").resolved(Budget.SMOKE, images).m1_latents == ()


def test_no_active_latent_and_one_that_an_m1_has_not_raise(images, monkeypatch):
    m1 = VAE(Pixels(1.0), nn.Identity(), Bernoulli(), StandardNormal(784))
    monkeypatch.setattr(m2, "load_m1", lambda name, x_dim: m1)
    black = dataclasses.replace(images, x_train=torch.zeros_like(images.x_train))
    with pytest.raises(ValueError, match="all 784 latents of this M1 are collapsed"):
        m2.M2Config(model="m1_m2").resolved(Budget.SMOKE, black)
    with pytest.raises(ValueError, match="has latents 0 to 783; it has no 784, -1"):
        m2.view_of(m2.M2Config(model="m1_m2", m1_latents=(0, 784, -1)), torch.device("cpu"))


def test_the_record_names_the_weights_whose_features_were_used(images):
    words = run(images, model="m1_svm").record["data"]
    assert re.search(r"; features of an M1 whose weights have sha256 [0-9a-f]{16}$", words)
    assert "features" not in run(images, model="classifier").record["data"]


@pytest.mark.parametrize("name", ["m1/frey", "m1/z2_autoencoder", "gaussians/vae"])
def test_features_of_another_model_than_a_vae_of_these_images_raise(images, name):
    with pytest.raises(ValueError, match=f"m1='{name}' is no VAE of these images, 784 pixels each"):
        run(images, model="m1_svm", m1=name)


def test_features_of_an_unknown_model_raise_and_list_the_known(images):
    with pytest.raises(KeyError, match=r"m1/none.*m1/z20"):
        run(images, model="m1_m2", m1="m1/none")


def test_a_support_vector_machine_has_no_net_to_build():
    with pytest.raises(ValueError, match="m1_svm"):
        m2.build(m2.M2Config(model="m1_svm"))


def test_the_same_seed_gives_the_same_weights_and_metrics(images, tmp_path):
    found = [run(images, tmp_path / str(i), seed=seed).metrics for i, seed in enumerate((1, 1, 2))]
    weights = [(tmp_path / str(i) / "weights.safetensors").read_bytes() for i in range(3)]
    assert weights[0] == weights[1] != weights[2]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("model", ["m2", "adgm", "classifier"])
def test_a_study_killed_and_resumed_is_the_uninterrupted_one(images, tmp_path, monkeypatch, model):
    settings = {"model": model, "steps": 120, "checkpoint_every": 50, "batch_size": 20}
    whole = run(images, tmp_path / "whole", **settings)
    name = "classification" if model == "classifier" else "labelled"
    plain, calls = getattr(objectives, name), [0]

    def killed(*arguments):
        calls[0] += 1
        if calls[0] == 70:
            raise RuntimeError("killed")
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(objectives, name, killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(images, tmp_path / "killed", **settings)
    assert (tmp_path / "killed" / "split.json").read_bytes() == (tmp_path / "whole" / "split.json").read_bytes()
    resumed = run(images, tmp_path / "killed", resume=True, **settings)
    files = [tmp_path / folder / "weights.safetensors" for folder in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert resumed.metrics == whole.metrics
    assert resumed.history.steps.tolist() == [50, 100, 120]


def test_a_finished_folder_is_not_overwritten_by_another_run(images, tmp_path):
    run(images, tmp_path, seed=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for options in ({}, {"resume": True}):
        with pytest.raises(CheckpointError):
            run(images, tmp_path, seed=2, **options)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_split_file_takes_the_place_of_the_drawn_split(images, tmp_path):
    split = draw_label_split(images.y_train, n_labels=20, seed=9)
    split = dataclasses.replace(split, labelled=split.labelled[:-1])
    split.save(tmp_path / "mine.json")
    run(images, tmp_path / "run", split_file=str(tmp_path / "mine.json"), steps=2)
    found = load_label_split(tmp_path / "run" / "split.json", images.y_train)
    assert torch.equal(found.labelled, split.labelled)
    with pytest.raises(DataError, match="other data"):
        run(images, split_file=str(tmp_path / "mine.json"), validation=500)


def test_no_example_loses_or_keeps_its_label_wrongly(images):
    config = m2.M2Config(n_labels=50, batch_size=3950)
    split = m2.label_split(config, images, seed=4)
    view = View(lambda x: x.float(), lambda x: x.float())
    stream = m2.batches(config, images, split, view, seed=0)
    (x, y), x_unlabelled = stream.take(stream.draw())
    assert len(x) == config.labelled_batch_size < 50
    labelled = {row.numpy().tobytes(): int(label) for row, label in zip(x, y, strict=True)}
    known = zip(images.x_train[split.labelled].float(), images.y_train[split.labelled], strict=True)
    known = {row.numpy().tobytes(): int(label) for row, label in known}
    assert labelled.items() <= known.items()
    assert not known.keys() & {row.numpy().tobytes() for row in x_unlabelled}
    every = torch.cat([images.x_train[split.labelled], x_unlabelled.byte()])
    assert torch.equal(every.long().sum(0), images.x_train.long().sum(0))


def test_a_labelled_batch_is_never_larger_than_the_labels_there_are(images):
    config = m2.M2Config(n_labels=10, labelled_batch_size=64)
    view = m2.view_of(config, torch.device("cpu"))
    stream = m2.batches(config, images, m2.label_split(config, images, seed=0), view, seed=0)
    (x, y), _ = stream.take(stream.draw())
    assert sorted(y.tolist()) == list(range(10))
    assert set(x.unique().tolist()) == {0.0, 1.0}  # binarised


def test_validation_measures_on_held_out_training_digits(images):
    found = run(images, validation=300, steps=2)
    assert "held out" in found.data
    chosen = m2.label_split(m2.M2Config(), images.validation(300), seed=0).labelled
    assert chosen.max() < 3700
    smaller = images.validation(300)
    again = run(smaller, steps=2)
    assert again.metrics == found.metrics


def test_without_images_mnist_is_loaded(images, monkeypatch):
    monkeypatch.setattr(m2.M2Config, "load", lambda config: images)
    found = run(None, model="classifier", steps=2)
    assert found.data.startswith(images.source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_labels": 105}, "got 105"),
        ({"n_labels": 4000}, "can be balanced"),
        ({"alpha": -1.0}, "alpha.*-4000"),
        ({"labels": "top", "n_exact": 10}, "n_exact.*got 10"),
        ({"labels": "gumbel", "temperature": 0.0}, "temperature.*0.0"),
        ({"label_scale": 0.0}, "scales.*0.0"),
        ({"lr": 0.0}, "lr.*0.0"),
        ({"h_dims": (0,)}, "at least one unit"),
        ({"activation": "gelo"}, "gelo"),
        ({"labels": "some"}, "some"),
        ({"scaling": "some"}, "some"),
        ({"model": "some"}, "some"),
        ({"model": "m1_svm", "m1": "m1/z20", "n_labels": 10}, "members|n_labels"),
    ],
)
def test_settings_out_of_range_raise(images, settings, message):
    with pytest.raises(ValueError, match=message):
        run(images, **({"steps": 2} | settings))
