"""The training loop and its checkpoints: same seed same numbers, and nothing is lost when something breaks."""

import contextlib
import errno
import math
import os
import re
import signal

import numpy as np
import pytest
import torch

from vae_helpers import objectives
from vae_helpers.data import Batches, procedural_faces, to_grey
from vae_helpers.likelihoods import Bernoulli, Gaussian, GaussianOptimal
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import Budget, CheckpointError, GradientStep, History, NonFiniteLossError, fit, setup
from vae_helpers.training import checkpoint as checkpoints


def toy(*, h_dim=8, batch_size=16, seed=0, likelihood=None):
    """A small VAE and batches of 4-D points; everything comes from the seed."""
    torch.manual_seed(seed)
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(7))
    likelihood = likelihood or Gaussian(x_var=0.5, learned=True)
    model = VAE(MLP(4, [h_dim], 4), MLP(2, [h_dim], 4), likelihood, StandardNormal(2))
    return model, Batches(x, batch_size=batch_size, seed=seed)


def train(model, batches, objective=objectives.elbo, **settings):
    return fit(model, batches, objective, **{"steps": 30, "log_every": 10, "progress": False, **settings})


def weights(model):
    return torch.cat([value.detach().flatten() for value in model.state_dict().values()])


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def at_step(n, act):
    """The ELBO, with ``act(terms)`` at its n-th call."""
    calls = [0]

    def objective(model, x):
        calls[0] += 1
        terms = objectives.elbo(model, x)
        return act(terms) if calls[0] == n else terms

    return objective


def interrupt(terms):
    os.kill(os.getpid(), signal.SIGINT)
    return terms


def nan_kl(terms):
    return terms | {"kl": terms["kl"] * math.nan}


# ---- the loop


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_seed_gives_the_same_bits(bf16):
    found = []
    for seed in (0, 0, 1):
        model, batches = toy(seed=seed)
        history = train(model, batches, bf16=bf16)
        found.append((weights(model), without_seconds(history.rows)))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert not torch.equal(found[0][0], found[2][0])


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    x = (torch.rand(8, 16) > 0.5).float()
    model = Autoencoder(MLP(16, [64], 8), MLP(8, [64], 16), Bernoulli(), z_dim=8)
    history = train(model, Batches(x, batch_size=8, seed=0), objectives.reconstruction, steps=400, lr=1e-2)
    assert history["loss"][0] > 5  # 16 coin flips are 11 nats
    assert history["loss"][-1] < 0.1


def test_history_rows_are_means_over_windows_and_the_last_may_be_short():
    model, batches = toy()
    losses = []

    def objective(model, x):
        terms = objectives.elbo(model, x)
        losses.append(terms["loss"].mean().item())
        return terms

    history = train(model, batches, objective, steps=25)
    assert history.steps.tolist() == [10, 20, 25]
    assert history.names == ["loss", "log_px", "kl", "elbo_bound"]
    expected = [np.mean(losses[:10]), np.mean(losses[10:20]), np.mean(losses[20:])]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-6)  # float32 numbers, float64 means
    assert (np.diff(history["seconds"]) > 0).all()
    assert not history.interrupted
    assert not model.training


def test_an_unknown_term_raises_and_lists_the_recorded():
    history = History(rows=[{"step": 1.0, "seconds": 0.1, "loss": 2.0}])
    with pytest.raises(KeyError, match=r"'lost'.*loss"):
        history["lost"]


def test_one_step_is_adam_on_the_mean_loss():
    model, batches = toy()
    reference, _ = toy()
    index = Batches(batches.x, batch_size=16, seed=0).draw()
    state = torch.get_rng_state()
    train(model, batches, steps=1, log_every=1, lr=0.01)
    torch.set_rng_state(state)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    objectives.elbo(reference, batches.x[index])["loss"].mean().backward()
    optimizer.step()
    torch.testing.assert_close(weights(model), weights(reference))


def test_evaluation_runs_in_evaluation_mode_and_does_not_disturb_training():
    seen = []

    def evaluate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        torch.randn(1000)
        return {"random": torch.rand(()).item()}

    plain, batches = toy(likelihood=GaussianOptimal())
    first = train(plain, batches)
    watched, batches = toy(likelihood=GaussianOptimal())
    second = train(watched, batches, evaluate=evaluate, eval_every=10)
    assert torch.equal(weights(plain), weights(watched))
    assert without_seconds(first.rows) == without_seconds(second.rows)
    assert seen == [(False, False)] * 3
    assert second.evaluations("random")[0].tolist() == [10, 20, 30]
    assert first.evaluations("random")[0].tolist() == []


def test_evaluation_can_be_asked_for_at_steps_within_a_window_and_before_the_first():
    model, batches = toy()
    history = train(
        model, batches, steps=30, log_every=10, eval_every=20, eval_at=(0, 3, 7, 25), evaluate=lambda model: {"a": 1.0}
    )
    assert [row["step"] for row in history.evals] == [0, 3, 7, 20, 25, 30]
    assert history.steps.tolist() == [3, 7, 10, 20, 25, 30]
    plain, batches = toy()
    whole = train(plain, batches, steps=30, log_every=10)
    assert torch.equal(weights(plain), weights(model))
    means = np.array([row["loss"] for row in history.rows])
    torch.testing.assert_close(
        torch.tensor([(3 * means[0] + 4 * means[1] + 3 * means[2]) / 10, means[3], (means[4] + means[5]) / 2]),
        torch.tensor(whole["loss"]),
    )  # every step is in one row, once


def test_a_resumed_run_does_not_evaluate_at_the_start_again(tmp_path):
    settings = {"eval_at": (0, 5), "evaluate": lambda model: {"a": 1.0}, "checkpoint": tmp_path / "c.pt"}
    train(*toy(), steps=10, **settings)
    history = train(*toy(), steps=20, resume=True, **settings)
    assert [row["step"] for row in history.evals] == [0, 5, 10, 20]


@pytest.mark.parametrize(("eval_every", "expected"), [(10, [10, 20, 30, 35]), (20, [20, 35]), (15, [20, 30, 35])])
def test_evaluation_comes_at_the_end_of_a_window_and_at_the_end(eval_every, expected):
    model, batches = toy()
    history = train(model, batches, steps=35, evaluate=lambda model: {"one": 1.0}, eval_every=eval_every)
    assert history.evaluations("one")[0].tolist() == expected


def test_an_update_hook_does_the_whole_step_instead_of_the_objective(tmp_path):
    class TwoSteps:
        """Two optimisers and two batches a step, as semi-supervised and adversarial models need."""

        def __init__(self, model):
            self.model, self.calls = model, 0
            self.inner = GradientStep(model, objectives.elbo)

        def __call__(self, batch):
            self.calls += 1
            first = self.inner(batch)
            return {"first": first["loss"], "second": self.inner(batch)["loss"]}

        def state_dict(self):
            return self.inner.state_dict()

        def load_state_dict(self, state):
            self.inner.load_state_dict(state)

    model, batches = toy()
    update = TwoSteps(model)
    history = fit(model, batches, update=update, steps=20, log_every=10, progress=False)
    assert update.calls == 20
    assert history.names == ["first", "second"]

    half, batches = toy()
    path = tmp_path / "checkpoint.pt"
    fit(half, batches, update=TwoSteps(half), steps=10, log_every=10, progress=False, checkpoint=path)
    other, batches = toy(seed=3)
    update = TwoSteps(other)
    fit(other, batches, update=update, steps=20, log_every=10, progress=False, checkpoint=path, resume=True)
    assert update.calls == 10
    assert torch.equal(weights(other), weights(model))


def test_objective_and_update_exclude_each_other():
    model, batches = toy()
    with pytest.raises(ValueError, match="not both"):
        fit(model, batches, steps=1)
    with pytest.raises(ValueError, match="not both"):
        fit(model, batches, objectives.elbo, update=GradientStep(model, objectives.elbo), steps=1)


@pytest.mark.parametrize("name", ["steps", "log_every", "checkpoint_every", "eval_every"])
def test_a_count_below_one_raises(name):
    model, batches = toy()
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        train(model, batches, evaluate=lambda model: {}, **{name: 0})


@pytest.mark.parametrize("lr", [0.0, -1e-3, math.nan])
def test_a_step_size_that_is_not_positive_raises(lr):
    with pytest.raises(ValueError, match=f"lr.*{lr}"):
        GradientStep(toy()[0], objectives.elbo, lr=lr)


def test_an_objective_that_averages_over_the_batch_raises():
    model, batches = toy()
    with pytest.raises(ValueError, match=r"'loss' has shape \(\)"):
        train(model, batches, lambda m, x: {"loss": objectives.elbo(m, x)["loss"].mean()})


def test_pixels_out_of_range_stop_the_first_step():
    model, batches = toy(likelihood=Bernoulli())
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        train(model, batches)


def test_bfloat16_trains_the_products_and_keeps_densities_and_weights_in_float32():
    dtypes = set()

    def objective(model, x):
        dtypes.add(("product", model.encoder(x).dtype))
        terms = objectives.elbo(model, x)
        dtypes.update((name, value.dtype) for name, value in terms.items())
        return terms

    torch.manual_seed(0)
    images = procedural_faces(200, 10)
    model = VAE(MLP(560, [32], 4), MLP(2, [32], 560), GaussianOptimal(output="sigmoid"), StandardNormal(2))
    batches = Batches(images.x_train, batch_size=50, seed=0, transform=to_grey)
    history = train(model, batches, objective, steps=60, bf16=True)
    assert ("product", torch.bfloat16) in dtypes
    assert {dtype for name, dtype in dtypes if name != "product"} == {torch.float32}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


# ---- a loss that is not finite


@pytest.mark.parametrize("bad_step", [1, 14, 20, 23])
def test_nan_stops_the_run_and_names_step_term_and_last_good_checkpoint(tmp_path, bad_step):
    model, batches = toy()
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, batches, at_step(bad_step, nan_kl), checkpoint=path, checkpoint_every=10)
    message = str(caught.value)
    assert message.startswith(f"step {bad_step}:")
    assert "kl nan" in message
    good = (bad_step - 1) // 10 * 10
    if not good:
        assert "no checkpoint" in message
        assert not path.exists()
        return
    assert f"{path}, at step {good}" in message
    model, batches = toy(seed=5)
    history = train(model, batches, checkpoint=path, resume=True)
    whole, batches = toy()
    train(whole, batches)
    assert history.steps.tolist() == [10, 20, 30]
    assert torch.equal(weights(model), weights(whole))


def test_a_gradient_that_is_nan_under_a_finite_loss_does_not_reach_a_checkpoint(tmp_path):
    def poison(terms):  # sqrt has an infinite slope at 0, and 0 * inf is NaN
        return terms | {"loss": terms["loss"] + torch.sqrt(0 * terms["kl"])}

    model, batches = toy()
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(NonFiniteLossError):
        train(model, batches, at_step(20, poison), checkpoint=path, checkpoint_every=10)
    model, batches = toy()
    train(model, batches, steps=10, checkpoint=path, resume=True)
    assert weights(model).isfinite().all()


def test_nan_after_a_resume_names_the_checkpoint_it_resumed_from(tmp_path):
    path = tmp_path / "checkpoint.pt"
    model, batches = toy()
    train(model, batches, steps=15, checkpoint=path)  # ends inside a window of 10 steps
    model, batches = toy()
    with pytest.raises(NonFiniteLossError, match=r"step 18: .*at step 15"):
        train(model, batches, at_step(3, nan_kl), checkpoint=path, resume=True)


# ---- Ctrl-C


@pytest.mark.parametrize("stopped", [1, 10, 14])
def test_ctrl_c_leaves_model_history_and_a_checkpoint_to_go_on_from(tmp_path, stopped):
    path = tmp_path / "checkpoint.pt"
    handler = signal.getsignal(signal.SIGINT)
    model, batches = toy()
    history = train(model, batches, at_step(stopped, interrupt), checkpoint=path)
    assert history.interrupted
    assert history.steps[-1] == stopped
    assert not model.training
    assert weights(model).isfinite().all()
    assert signal.getsignal(signal.SIGINT) is handler
    resumed, batches = toy(seed=5)
    history = train(resumed, batches, checkpoint=path, resume=True)
    whole, batches = toy()
    train(whole, batches)
    assert torch.equal(weights(resumed), weights(whole))
    assert not history.interrupted
    assert history.steps[-1] == 30


def test_ctrl_c_during_an_evaluation_saves_the_step_it_stopped_at(tmp_path):
    path = tmp_path / "checkpoint.pt"
    model, batches = toy()
    evaluations = []

    def evaluate(model):
        if not evaluations:
            os.kill(os.getpid(), signal.SIGINT)
        evaluations.append(1)
        return {"one": 1.0}

    history = train(model, batches, evaluate=evaluate, eval_every=10, checkpoint=path)
    assert history.interrupted
    assert history.steps[-1] in (10, 11)  # the next step boundary may be the one just reached
    assert path.exists()
    resumed, batches = toy(seed=5)
    history = train(resumed, batches, checkpoint=path, resume=True)
    whole, batches = toy()
    train(whole, batches)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_second_ctrl_c_stops_at_once():
    def twice(terms):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return terms

    handler = signal.getsignal(signal.SIGINT)
    model, batches = toy()
    with pytest.raises(KeyboardInterrupt):
        train(model, batches, at_step(3, twice))
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_in_the_last_step_is_told_to_the_caller():
    model, batches = toy()
    history = train(model, batches, at_step(30, interrupt))
    assert history.interrupted
    assert history.steps[-1] == 30


def test_ctrl_c_in_the_last_evaluation_is_told_to_the_caller():
    def evaluate(model):
        os.kill(os.getpid(), signal.SIGINT)
        return {"value": 1.0}

    model, batches = toy()
    history = train(model, batches, evaluate=evaluate, eval_every=30)
    assert history.interrupted
    assert history.steps[-1] == 30


# ---- checkpoints


def saved_run(tmp_path, *, steps=20, **settings):
    """The path of a checkpoint of the toy run."""
    model, batches = toy()
    path = tmp_path / "checkpoint.pt"
    train(model, batches, steps=steps, checkpoint=path, config={"lr": 1, "z_dim": 2}, **settings)
    return path


def resume(path, *, h_dim=8, config=None, **settings):
    model, batches = toy(h_dim=h_dim, seed=4)
    config = {"lr": 1, "z_dim": 2} if config is None else config
    return model, train(model, batches, checkpoint=path, resume=True, config=config, **settings)


@pytest.mark.parametrize("steps", [10, 14, 20])
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path, steps):
    path = saved_run(tmp_path, steps=steps)
    resumed, _ = resume(path)
    whole, batches = toy()
    train(whole, batches)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("error", [MemoryError("no more"), torch.OutOfMemoryError("CUDA out of memory")])
@pytest.mark.parametrize("where", [(torch, "load"), (GradientStep, "load_state_dict")])
def test_a_checkpoint_is_not_blamed_for_a_lack_of_memory(tmp_path, monkeypatch, error, where):
    def load(*arguments, **options):
        raise error

    path = saved_run(tmp_path)
    monkeypatch.setattr(*where, load)
    with pytest.raises(type(error)):
        resume(path)


def test_a_checkpoint_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    path = saved_run(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory\). Check who may read it"):
        resume(path)


def test_the_optimal_variance_is_part_of_a_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    whole, batches = toy(likelihood=GaussianOptimal())
    history = train(whole, batches, evaluate=lambda m: {"x_logvar": m.likelihood.x_logvar.item()}, eval_every=10)
    model, batches = toy(likelihood=GaussianOptimal())
    train(model, batches, steps=20, checkpoint=path)
    model, batches = toy(likelihood=GaussianOptimal(), seed=3)
    train(model, batches, checkpoint=path, resume=True)
    assert model.likelihood.x_logvar.item() == history.evaluations("x_logvar")[1][-1]


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    path = saved_run(tmp_path)
    before = path.read_bytes()
    model, history = resume(path, steps=20)
    assert history.steps.tolist() == [10, 20]
    assert path.read_bytes() == before
    assert torch.equal(weights(model), weights(resume(path, steps=20)[0]))


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    model, history = resume(tmp_path / "none.pt")
    plain, batches = toy(seed=4)
    train(plain, batches)
    assert torch.equal(weights(model), weights(plain))
    assert history.steps.tolist() == [10, 20, 30]


def test_an_existing_checkpoint_is_not_overwritten_without_resume(tmp_path):
    path = saved_run(tmp_path)
    before = path.read_bytes()
    model, batches = toy()
    with pytest.raises(CheckpointError, match=f"{path} exists already.*--resume"):
        train(model, batches, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 1, 100, 0.3, 0.9, -1])
def test_a_checkpoint_cut_short_raises_and_is_named(tmp_path, keep):
    path = saved_run(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is no.*Delete it"):
        resume(path)


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed(tmp_path):
    """torch.load does not check the archive's checksums: a damaged weight would pass in silence."""
    path = saved_run(tmp_path)
    content = path.read_bytes()
    unnoticed = []
    for position in range(0, len(content), len(content) // 97):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            resume(path, steps=20)
        except CheckpointError as error:
            assert "checkpoint.pt" in str(error)  # noqa: PT017  (most positions raise, and each must name the file)
        else:
            unnoticed.append(position)
    assert not unnoticed


def test_a_checkpoint_of_another_model_raises_and_lists_the_differences(tmp_path):
    path = saved_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"another model.*decoder.0.weight: \[8, 2\] there, \[9, 2\] here"):
        resume(path, h_dim=9)


def test_a_checkpoint_of_another_configuration_raises_and_lists_the_differences(tmp_path):
    path = saved_run(tmp_path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        resume(path, config={"lr": 2, "beta": 4})
    for words in ("another configuration", "lr: 1 there, 2 here", "z_dim: 2 there, absent here", "beta: absent there"):
        assert words in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_is_no_checkpoint_raises(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is no"):
        resume(path)


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_checkpoint_is_unpickled(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoints.save(path, {"bomb": Payload(tmp_path / "ran")})
    with pytest.raises(CheckpointError):
        resume(path)
    assert not (tmp_path / "ran").exists()


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def files_of_at_most(n_bytes):
    """The system refuses to write more, in the middle of a file, as a full disk does."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_in_the_middle_of_a_checkpoint_keeps_the_last_good_one(tmp_path):
    path = saved_run(tmp_path)
    before = path.read_bytes()
    with files_of_at_most(len(before) // 2), pytest.raises(CheckpointError, match=r"cannot write.*untouched"):
        resume(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]  # no half-written file is left
    assert resume(path)[1].steps.tolist() == [10, 20, 30]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_last_moment_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, call):
    path = saved_run(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(CheckpointError, match=r"No space left.*untouched"):
        resume(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_first_save_on_a_full_disk_does_not_claim_that_there_is_a_last_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError) as caught:
        saved_run(tmp_path)
    assert "untouched" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_hold_a_checkpoint_is_found_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    steps = []

    def objective(model, x):
        steps.append(1)
        return objectives.elbo(model, x)

    model, batches = toy()
    with pytest.raises(CheckpointError, match="cannot write"):
        train(model, batches, objective, checkpoint=tmp_path / "file" / "checkpoint.pt")
    assert not steps


def test_the_rename_comes_after_the_sync(tmp_path, monkeypatch):
    order, sync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append("sync") or sync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("rename") or rename(*paths))
    checkpoints.atomic_write(tmp_path / "file", b"content")
    assert order[:2] == ["sync", "rename"]
    assert (tmp_path / "file").read_bytes() == b"content"


# ---- budget and set-up


@pytest.mark.parametrize("name", ["typo", "FULL", ""])
def test_an_unknown_budget_raises_and_lists_the_known(monkeypatch, name):
    monkeypatch.setenv("VAE_BUDGET", name)
    for call in (Budget.current, lambda: setup(0)):
        with pytest.raises(ValueError, match=f"VAE_BUDGET='{name}'.*smoke, quick, full"):
            call()


def test_the_default_budget_is_quick_and_picks_its_value(monkeypatch):
    monkeypatch.delenv("VAE_BUDGET", raising=False)
    assert Budget.current() is Budget.QUICK
    assert [budget.pick(smoke=1, quick=2, full=3) for budget in Budget] == [1, 2, 3]


def test_setup_seeds_and_says_what_the_numbers_depend_on(monkeypatch, capsys):
    monkeypatch.setenv("VAE_BUDGET", "smoke")
    setup(3)
    one = torch.rand(2)
    said = capsys.readouterr().out
    assert re.search(rf"budget smoke · seed 3 · .*torch {re.escape(torch.__version__)}.*data root", said)
    setup(3, verbose=False)
    assert torch.equal(torch.rand(2), one)
    assert capsys.readouterr().out == ""


def test_a_device_that_cannot_be_used_raises(monkeypatch):
    monkeypatch.setenv("VAE_DEVICE", "abacus")
    with pytest.raises(ValueError, match="VAE_DEVICE='abacus'"):
        setup(0)
