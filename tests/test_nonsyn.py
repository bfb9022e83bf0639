"""The study of the Non-Synergistic VAE and its rivals, and what TensorBoard gets to see of a run."""

import copy
import dataclasses
import math
from functools import cache

import pytest
import torch

from vae_helpers import __main__ as command_line
from vae_helpers import objectives
from vae_helpers.data import FactorGrid, FactorImages, Images, load_dsprites
from vae_helpers.evaluation import aggregate_posterior
from vae_helpers.evaluation.disentanglement import factor_r2
from vae_helpers.evaluation.latents import measure_bound, rotation_share, sampled_r2
from vae_helpers.experiments import Job, nonsyn, nonsyn_pictures
from vae_helpers.experiments.nonsyn import NonSynConfig
from vae_helpers.objectives import descending_subset, greedy_subset, random_subset
from vae_helpers.training import Budget, CheckpointError, FactorVAEStep, History, NonSynergisticStep, TensorBoard

METHODS = ("nonsyn", "masked", "vae", "beta_vae", "factor_vae", "beta_tcvae", "capacity")


@cache
def a_model(z_dim=4):
    torch.manual_seed(0)
    model = nonsyn.build(NonSynConfig(z_dim=z_dim)).eval()
    with torch.no_grad():
        model.encoder.head.weight[:z_dim] *= torch.arange(1.0, z_dim + 1)[:, None] * 20  # KLs of different sizes
    return model


@cache
def some_images(n=60):
    images = load_dsprites()
    classes = images.grid.sample(n, generator=torch.Generator().manual_seed(1))
    return images, classes, images.pixels(classes)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_descends_the_objective_it_is_named_after(method):
    weights = {"alpha": 3.0, "omega": 0.8, "beta": 7.0, "gamma": 11.0, "capacity": 9.0, "rising_steps": 30}
    config = NonSynConfig(method=method, z_dim=4, steps=90, estimator="weighted", **weights)
    _, _, x = some_images()
    torch.manual_seed(0)
    model = nonsyn.build(config)
    update = nonsyn.update_of(config, model, n_data=500)
    update.taken.fill_(10)
    expected = {
        "nonsyn": lambda: objectives.elbo(model, x),  # the first of its two steps
        "masked": lambda: objectives.masked_elbo(model, x, alpha=3.0, omega=0.8),
        "vae": lambda: objectives.elbo(model, x),
        "beta_vae": lambda: objectives.elbo(model, x, beta=7.0 / 3),  # a third of the way, as the capacity
        "factor_vae": lambda: objectives.factor_vae(model, update.discriminator, x, gamma=11.0),
        "beta_tcvae": lambda: objectives.beta_tcvae(model, x, beta=7.0, n_data=500, estimator="weighted"),
        "capacity": lambda: objectives.capacity_elbo(model, x, gamma=11.0, capacity=3.0),
    }[method]
    torch.manual_seed(1)
    found = update.means(x)["loss"]
    torch.manual_seed(1)
    torch.testing.assert_close(found, expected()["loss"].mean())


def test_beta_is_there_from_the_start_unless_it_is_to_rise():
    config = NonSynConfig(method="beta_vae", beta=7.0, steps=90)
    assert nonsyn.update_of(config, nonsyn.build(config), n_data=500).objective.keywords == {"beta": 7.0}


@pytest.mark.parametrize("data", ["dsprites", "portraits"])
def test_a_model_starts_with_the_weights_that_were_asked_for(data):
    built = {}
    for init in ("torch", "he"):
        torch.manual_seed(0)
        built[init] = nonsyn.build(NonSynConfig(data=data, init=init))
    pairs = [*zip(built["torch"].parameters(), built["he"].parameters(), strict=True)]
    same = [torch.equal(a, b) for a, b in pairs]
    ends = [name.startswith(("encoder.head", "decoder.deconv.6")) for name, _ in built["he"].named_parameters()]
    assert same == ends  # He's everywhere but in the last layer of each net


@pytest.mark.parametrize("choice", ["greedy", "descending", "random"])
def test_the_penalty_has_the_settings_it_was_given(choice):
    function = {"greedy": greedy_subset, "descending": descending_subset, "random": random_subset}[choice]
    expected = {"alpha": 3.0, "omega": 0.8, "choice": function}
    config = NonSynConfig(alpha=3.0, omega=0.8, choice=choice, steps=5)
    update = nonsyn.update_of(config, nonsyn.build(config), n_data=500)
    assert isinstance(update, NonSynergisticStep)
    assert update.penalty.keywords == expected
    config = dataclasses.replace(config, method="masked")
    assert nonsyn.update_of(config, nonsyn.build(config), n_data=500).objective.keywords == expected


def test_precision_and_decay_reach_the_update():
    for method in METHODS:
        config = NonSynConfig(method=method, steps=50, rising_steps=5, decay=True, bf16=True, lr=0.25)
        update = nonsyn.update_of(config, nonsyn.build(config), n_data=500)
        assert (update.bf16, update.decay_steps, update.lr) == (True, 50, 0.25)
        assert isinstance(update, FactorVAEStep) == (method == "factor_vae")


def test_a_capacity_run_that_goes_on_must_say_how_long_it_rises(tmp_path):
    config = NonSynConfig(method="capacity", z_dim=2, batch_size=2, steps=3)
    options = {"seed": 0, "budget": Budget.SMOKE, "folder": tmp_path, "progress": False}
    assert nonsyn.run(config, **options).config.rising_steps == 2
    with pytest.raises(CheckpointError, match="rising_steps"):
        nonsyn.run(dataclasses.replace(config, steps=6), **options, resume=True)
    longer = nonsyn.run(dataclasses.replace(config, steps=6, rising_steps=2), **options, resume=True)
    assert longer.steps == 6


@pytest.mark.parametrize("method", ["nonsyn", "factor_vae"])
def test_a_run_measures_what_it_says_and_is_repeatable(method):
    grid = FactorGrid(names=("left", "right"), sizes=(3, 4))

    def render(classes):
        pixels = torch.zeros(len(classes), 64, 64, dtype=torch.uint8)
        for k, column in enumerate((10, 40)):
            row = 10 * classes[:, k, None] + torch.arange(10)
            pixels[torch.arange(len(classes))[:, None], row, column] = 1
        return pixels.flatten(1)

    images = FactorImages("bars", "two bars", (1, 64, 64), grid, render, white=1)
    seen = []
    config = NonSynConfig(method=method, z_dim=3, batch_size=8, steps=4)

    def run():
        return nonsyn.run(
            config, seed=1, budget=Budget.SMOKE, images=images, progress=False, eval_every=2,
            watch=lambda model, history: seen.append((model.training, len(history.evals))),
        )  # fmt: skip

    first, second = run(), run()
    assert first.metrics == second.metrics
    assert seen[: len(seen) // 2] == [(False, 0), (False, 1)]  # four steps are one window of the log
    metrics = first.metrics
    names = {"test_elbo_bound", "kl_latent_3", "active_units", "gaussian_tc_mean", "factor_vae", "mig"}
    assert names | {"sampled_r2_left", "sampled_r2_right"} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["test_elbo_bound"] == pytest.approx(metrics["test_log_px"] - metrics["test_kl"])
    latents = [metrics[f"kl_latent_{j}"] for j in (1, 2, 3)]
    assert sum(latents) == pytest.approx(metrics["test_kl"])
    assert latents == sorted(latents, reverse=True)


@pytest.mark.parametrize(("omega", "n_kept"), [(0.9, 3), (0.6, 2), (0.5, 1)])
def test_the_synergy_is_measured_on_the_latents_that_the_greedy_choice_leaves_out(omega, n_kept):
    model = copy.deepcopy(a_model())
    with torch.no_grad():
        model.encoder.head.bias[:4] = torch.tensor([3.0, 0.1, 2.6, 1.5])  # KLs of about 4.5, 0, 3.4 and 1.1 nats
    _, _, x = some_images()
    kl = aggregate_posterior(model, x).kl
    found = measure_bound(model, x, omega=omega)
    keep = greedy_subset(kl, omega=omega)
    assert found["n_kept"] == keep.sum() == n_kept
    assert found["synergy_loss"] == pytest.approx(kl[~keep].sum().item(), rel=1e-5)


def test_a_factor_that_only_the_means_tell_does_not_come_through_the_noise():
    """Latent 1 tells the first factor with a noise share of a tenth, latent 2 the second with nearly all noise."""

    class Told:
        def encode(self, x):
            means = x * torch.tensor([0.9**0.5, 0.01])
            return means, torch.tensor([0.1, 0.9999]).log().expand_as(means)

    grid = FactorGrid(names=("loud", "faint"), sizes=(101, 101))
    classes = grid.sample(20_000, generator=torch.Generator().manual_seed(0))
    values = grid.scaled(classes)
    x = values / values.std(0)
    torch.manual_seed(0)
    found = sampled_r2(Told(), x, classes, grid)
    assert found["sampled_r2_loud"] == pytest.approx(0.9, abs=0.01)
    assert abs(found["sampled_r2_faint"]) < 0.01
    assert factor_r2(x * torch.tensor([0.9**0.5, 0.01]), classes, grid).r2.min() > 0.999


def test_rotation_is_looked_for_within_a_shape_and_in_active_latents():
    """Latent 1 reads the angle of the second shape alone, latent 2 the place, latent 3 every angle, in a whisper."""

    class Turned:
        def encode(self, x):
            shape, orientation, place = x.unbind(1)
            means = torch.stack([shape * orientation, place, 0.01 * orientation], dim=1)
            return means, torch.zeros_like(means)

    grid = FactorGrid(names=("shape", "orientation", "x"), sizes=(2, 4, 3))
    images = FactorImages("turned", "a test", (3, 1, 1), grid, lambda classes: classes.to(torch.uint8), white=1)
    x = images.pixels(grid.classes_of(torch.arange(24)).repeat(1000, 1))
    within, total = (0 + 1.25) / 2, 3.5 / 2 - 0.75**2  # of 0 and of 0 1 2 3, and of all eight
    found = rotation_share(Turned(), x, images, seed=0)
    assert found == {"rotation_share": pytest.approx(within / total, rel=1e-3)}
    grid = FactorGrid(names=("shape", "orientation", "x"), sizes=(2, 1, 3))
    upright = FactorImages("upright", "a test", (3, 1, 1), grid, lambda classes: classes.to(torch.uint8), white=1)
    assert rotation_share(Turned(), x, upright, seed=0) == {}


def test_the_small_dsprites_have_nets_of_their_own():
    config = NonSynConfig(data="dsprites_small", method="factor_vae", z_dim=3, steps=2, batch_size=4)
    model = nonsyn.build(config)
    x = nonsyn.images_of("dsprites_small").pixels(torch.zeros(4, 6, dtype=torch.int64))
    assert x.shape == (4, 1024)
    update = nonsyn.update_of(config, model, n_data=1152)
    assert update.discriminator[0].weight.shape == (256, 3)
    assert math.isfinite(update(x)["loss"])
    assert math.isfinite(nonsyn.run(config, seed=0, budget=Budget.SMOKE, progress=False).metrics["mig"])


def test_images_without_factors_are_measured_by_their_bound_alone(monkeypatch):
    pixels = torch.randint(256, (24, 3 * 64 * 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images("noise", "noise", (3, 64, 64), pixels[:14], pixels[14:])
    config = NonSynConfig(method="beta_tcvae", data="celeba", x_var=0.1, z_dim=3, batch_size=8, steps=3)
    run = nonsyn.run(config, seed=0, budget=Budget.SMOKE, images=images, progress=False)
    assert run.model.likelihood.x_logvar.exp().item() == pytest.approx(0.1)
    assert "kl_latent_3" in run.metrics
    assert "mig" not in run.metrics
    monkeypatch.setattr(NonSynConfig, "load", lambda config: images)
    drawn = nonsyn_pictures.picture(config)(run.model)
    assert drawn.shape == (5 * 65 - 1, 9 * 65 - 1, 3)
    first = images.x_test[0].view(3, 64, 64).permute(1, 2, 0) / 255
    torch.testing.assert_close(torch.from_numpy(drawn[:64, :64]), first)  # the study's own images


def test_portraits_have_factors():
    run = nonsyn.run(
        NonSynConfig(data="portraits", z_dim=3, batch_size=4, steps=2), seed=0, budget=Budget.SMOKE, progress=False
    )
    assert {"r2_smile", "factor_vae", "test_elbo_bound"} <= set(run.metrics)


def test_factor_vae_draws_images_for_its_discriminator_too(monkeypatch):
    sizes = []
    monkeypatch.setattr(Job, "train", lambda job, model, batches, *args, **kwargs: sizes.append(batches.batch_size))
    for method in ("vae", "factor_vae"):
        nonsyn.run(NonSynConfig(method=method, batch_size=8), seed=0, budget=Budget.SMOKE)
    assert sizes == [8, 16]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "gan"}, "unknown method 'gan'; choose one of nonsyn, masked"),
        ({"choice": "best"}, "unknown choice 'best'"),
        ({"z_dim": 1}, "z_dim must be at least 2"),
        ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1"),
        ({"omega": 1.5}, "omega must be above 0 and at most 1, got 1.5"),
        ({"omega": 0.0}, "omega must be above 0"),
        ({"method": "beta_vae", "beta": -2.0}, "beta must be a finite number >= 0"),
        ({"method": "factor_vae", "gamma": math.nan}, "gamma must be a finite number >= 0"),
        ({"method": "capacity", "capacity": -1.0}, "capacity must be a finite number >= 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
    ],
)
def test_bad_settings_stop_before_or_at_the_first_step(settings, message):
    with pytest.raises(ValueError, match=message):
        nonsyn.run(NonSynConfig(**{"batch_size": 4, **settings}), seed=0, budget=Budget.SMOKE, progress=False)


def test_traversals_show_images_reconstructions_and_the_latents_by_their_kl():
    model, (_, _, x) = a_model(), some_images()
    rows = nonsyn_pictures.traversals(model, x)
    assert rows.shape == (6, 9, 4096)
    torch.testing.assert_close(rows[0], x[:9])
    q_mu, _ = model.encode(x[:9])
    torch.testing.assert_close(rows[1], model.decode_mean(q_mu))
    moments = aggregate_posterior(model, x)
    for row, j in zip(rows[2:], moments.kl.argsort(descending=True), strict=True):
        z = q_mu[0].clone()
        z[j] = moments.mean[j] - 3 * moments.sd[j]
        torch.testing.assert_close(row[0], model.decode_mean(z[None])[0])
    torch.testing.assert_close(
        nonsyn_pictures.traversals(model, x, latents=[2])[2], rows[2:][moments.kl.argsort(descending=True) == 2][0]
    )
    assert nonsyn_pictures.picture(NonSynConfig())(model).shape == (6 * 65 - 1, 9 * 65 - 1)
    assert nonsyn_pictures.picture(NonSynConfig())(a_model(z_dim=14)).shape == (12 * 65 - 1, 9 * 65 - 1)


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_gets_each_row_once_also_when_a_run_goes_on(tmp_path):
    history, pictures = History(), []

    def picture(model):
        pictures.append(model)
        return torch.rand(8, 6).numpy()

    watch = TensorBoard(tmp_path, picture=picture)
    watch("a model", history)
    for step in (50, 100):
        history.rows.append({"step": step, "seconds": 1.0, "loss": float(step)})
        history.evals.append({"step": step, "mig": step / 1000})
        watch("a model", history)
    resumed = History(rows=history.rows[:1], evals=history.evals[:1])  # from the checkpoint at step 50
    again = TensorBoard(tmp_path, picture=picture)
    again("a model", resumed)
    for step in (100, 150):
        resumed.rows.append({"step": step, "seconds": 1.0, "loss": -float(step)})
        again("a model", resumed)
    found = events(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("terms/loss")] == [(50, 50.0), (100, -100.0), (150, -150.0)]
    assert [e.step for e in found.Scalars("evaluations/mig")] == [50]
    assert {"terms/seconds", "terms/step"}.isdisjoint(found.Tags()["scalars"])
    assert found.Images("picture")[-1].step == 150
    assert (found.Images("picture")[-1].height, found.Images("picture")[-1].width) == (8, 6)


def test_two_runs_do_not_mix_in_one_tensorboard_folder(tmp_path):
    TensorBoard(tmp_path)("a model", History())
    with pytest.raises(ValueError, match=r"has events of another run.*or go on from a checkpoint with --resume"):
        TensorBoard(tmp_path)("a model", History())


def test_a_tensorboard_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="TensorBoard events cannot be written to"):
        TensorBoard(tmp_path / "file")("a model", History())


def test_the_command_of_the_readme_trains_evaluates_and_writes_events(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAE_BUDGET", "smoke")
    words = [
        "--alpha",
        "5.0",
        "--omega",
        "0.9",
        "--steps",
        "100",
        "--eval-every",
        "50",
        "--batch-size",
        "2",
        "--z-dim",
        "3",
    ]
    folders = ["--out", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "events")]
    command_line.train("nonsyn", [*words, *folders])
    assert "factor_vae" in capsys.readouterr().out
    found = events(tmp_path / "events")
    assert [e.step for e in found.Scalars("evaluations/curve_mig")] == [50, 100]
    assert [e.step for e in found.Scalars("terms/synergy_loss")] == [50, 100]
    assert [e.step for e in found.Images("picture")] == [0, 50, 100]
