"""A run is saved before it is measured, and can be measured from what was saved, here or on another machine."""

import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from vae_helpers.__main__ import main
from vae_helpers.experiments import STUDIES, job, measure_run, measuring, sweep, tasks
from vae_helpers.experiments.folders import finished_record, plain, run_folder
from vae_helpers.training import Budget

pytestmark = pytest.mark.usefixtures("on_the_cpu", "offline")
SMOKE = {"seed": 3, "budget": Budget.SMOKE, "progress": False}
SMALL = {
    "gaussians": {"h_dims": (8,), "steps": 6},
    "m1": {"h_dims": (8,), "z_dim": 2, "steps": 4},
    "m2": {"h_dims": (8,), "z_dim": 2, "steps": 4},
    "gmvae": {"h_dims": (8,), "z_dim": 2, "n_components": 3, "steps": 4},
    "conditional": {"z_dim": 2, "steps": 3},
    "judge": {"steps": 2},
    "supervised": {"steps": 2, "batch_size": 4},
    "warm_start": {"steps": 2, "batch_size": 4, "start": "random"},
    "nonsyn": {"steps": 2, "batch_size": 4, "z_dim": 3},
}
TRAINING = ("config", "seed", "data", "data_sha256", "hardware", "versions", "commit", "seconds", "steps", "history")


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("VAE_OFFLINE", "1")


def small(study, **settings):
    return STUDIES[study].config(**{**SMALL[study], **settings})


def train(study, folder, **settings):
    given = {**SMOKE, **{key: settings.pop(key) for key in ("seed", "resume") if key in settings}}
    return STUDIES[study].run(small(study, **settings), folder=folder, **given)


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def unmeasured(folder):
    """Take the metrics from a record, as a run that was stopped before it was measured has none."""
    record = record_of(folder)
    (folder / "run.json").write_text(json.dumps({**record, "metrics": {}, "measured": None}))
    return record


def without_training(monkeypatch):
    def fit(*arguments, **options):
        raise AssertionError("it was trained")

    monkeypatch.setattr(job, "fit", fit)


@pytest.mark.parametrize("study", SMALL)
def test_measuring_from_the_folder_gives_the_metrics_of_the_run_to_the_last_digit(study, tmp_path, monkeypatch):
    made = train(study, tmp_path)
    record, weights = unmeasured(tmp_path), (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "checkpoint.pt").unlink()  # not needed for it
    without_training(monkeypatch)
    torch.manual_seed(999)  # whatever the caller drew before
    again = measure_run(tmp_path, progress=False)
    assert again.metrics == made.metrics
    now = record_of(tmp_path)
    assert {key: now[key] for key in (*TRAINING, "metrics")} == {key: record[key] for key in (*TRAINING, "metrics")}
    assert (tmp_path / "weights.safetensors").read_bytes() == weights


def test_a_record_names_the_machine_of_the_training_and_that_of_the_metrics(tmp_path, monkeypatch):
    train("gaussians", tmp_path)
    before = record_of(tmp_path)
    assert before["measured"] == {key: before[key] for key in ("hardware", "versions", "commit")}
    monkeypatch.setattr(job, "describe_device", lambda device: "another machine")
    measure_run(tmp_path)
    after = record_of(tmp_path)
    assert after["measured"]["hardware"] == "another machine"
    assert after["hardware"] == before["hardware"] != "another machine"


def stopped_while_measured(monkeypatch, error):
    """Let ``gaussians`` be stopped in the middle of its measuring; undone by the returned function."""

    def stopped(*arguments, **options):
        raise error

    from vae_helpers.experiments import gaussians

    original = gaussians.term_means
    monkeypatch.setattr(gaussians, "term_means", stopped)
    return lambda: monkeypatch.setattr(gaussians, "term_means", original)


def test_ctrl_c_while_a_run_is_measured_loses_nothing(tmp_path, monkeypatch):
    whole = train("gaussians", tmp_path / "whole")
    go_on = stopped_while_measured(monkeypatch, KeyboardInterrupt())
    made = train("gaussians", tmp_path / "stopped")
    assert made.metrics == {}
    assert not made.history.interrupted  # the training was not
    record = record_of(tmp_path / "stopped")
    assert (record["metrics"], record["measured"], record["steps"]) == ({}, None, 6)
    go_on()
    without_training(monkeypatch)
    resumed = train("gaussians", tmp_path / "stopped", resume=True)
    assert resumed.metrics == whole.metrics
    assert record_of(tmp_path / "stopped")["metrics"] == whole.metrics


def test_ctrl_c_in_the_last_step_begins_no_measuring(tmp_path, monkeypatch):
    whole = train("gaussians", tmp_path / "whole")
    from vae_helpers.experiments import job as jobs

    def fit(*arguments, **options):
        history = training_fit(*arguments, **options)
        history.interrupted = True  # as Ctrl-C in the last step makes it
        return history

    training_fit = jobs.fit
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "fit", fit)
        made = train("gaussians", tmp_path / "stopped")
    assert made.metrics == {}
    assert made.steps == 6
    without_training(monkeypatch)
    assert train("gaussians", tmp_path / "stopped", resume=True).metrics == whole.metrics


def test_an_error_while_a_run_is_measured_loses_nothing(tmp_path, monkeypatch):
    go_on = stopped_while_measured(monkeypatch, MemoryError("too many samples"))
    with pytest.raises(MemoryError):
        train("gaussians", tmp_path)
    go_on()
    without_training(monkeypatch)
    assert measure_run(tmp_path).metrics["test_kl"] > 0


def test_ctrl_c_while_a_run_is_measured_again_keeps_the_metrics_that_it_had(tmp_path, monkeypatch):
    train("gaussians", tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    stopped_while_measured(monkeypatch, KeyboardInterrupt())
    assert measure_run(tmp_path).metrics == {}
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_metric_with_the_name_of_a_setting_is_said_after_the_weights_are_saved(tmp_path, monkeypatch):
    from vae_helpers.experiments import gaussians

    monkeypatch.setattr(gaussians, "term_means", lambda *arguments: {"beta": 1.0})
    with pytest.raises(ValueError, match=r"settings and metrics of one name.*beta"):
        train("gaussians", tmp_path)
    assert (tmp_path / "weights.safetensors").exists()


def test_a_sweep_measures_what_was_trained_and_not_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_RUNS", str(tmp_path))
    config = small("gaussians")
    folder = run_folder("gaussians", config, 3, Budget.SMOKE)
    made = train("gaussians", folder)
    unmeasured(folder)
    (folder / "checkpoint.pt").unlink()
    data = config.load()
    resolved = config.resolved(Budget.SMOKE, data)
    assert finished_record(folder, resolved, data, 3, Budget.SMOKE) is None
    without_training(monkeypatch)
    (cell,) = sweep.cells("gaussians", {k: [v] for k, v in SMALL["gaussians"].items()}, seeds=[3], budget=Budget.SMOKE)
    where = {name: getattr(cell, name) for name in ("seed", "budget", "folder", "data")}
    assert tasks.run_cell("gaussians", plain(cell.config), **where)["metrics"] == made.metrics


def test_a_start_from_codes_is_not_gone_through_again(tmp_path, monkeypatch):
    settings = {"start": "codes", "views": "moved", "steps": 2}
    made = train("gmvae", tmp_path, **settings)
    assert made.metrics["start_codes_accuracy_percent"] > 0
    unmeasured(tmp_path)
    without_training(monkeypatch)
    monkeypatch.setattr("vae_helpers.experiments.gmvae.start_from_codes", None)
    assert measure_run(tmp_path, progress=False).metrics == made.metrics


def test_the_images_may_lie_elsewhere_if_they_are_the_same(tmp_path, run_command):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "here.npy", images)
    made = train("m1", tmp_path / "run", data=str(tmp_path / "here.npy"), batch_size=20)
    config = record_of(tmp_path / "run")["config"]
    shutil.move(tmp_path / "here.npy", tmp_path / "there.npy")
    np.save(tmp_path / "others.npy", images[::-1])
    code, said = run_command("measure", tmp_path / "run")
    assert (code, "here.npy" in said) == (1, True)
    code, said = run_command("measure", tmp_path / "run", "--data", tmp_path / "others.npy")
    assert (code, said.count("\n")) == (1, 1)
    assert "was trained on other data" in said
    code, said = run_command("measure", tmp_path / "run", "--data", tmp_path / "there.npy")
    assert code == 0, said
    assert f"{made.metrics['test_elbo_bound']:.3f}" in said
    assert record_of(tmp_path / "run")["config"] == config


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Type a command; returns its exit code and what it said last: its output, or its one line of error."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["vae_helpers", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            if isinstance(stop.code, str):
                capsys.readouterr()
                return 1, stop.code + "\n"
            return stop.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return command


def test_the_command_measures_several_folders(tmp_path, run_command):
    for seed in (0, 1):
        train("gaussians", tmp_path / str(seed), seed=seed)
        unmeasured(tmp_path / str(seed))
    code, said = run_command("measure", tmp_path / "0", tmp_path / "1")
    assert code == 0
    assert said.count("test_model_log_px") == 2
    assert all(record_of(tmp_path / str(seed))["metrics"] for seed in (0, 1))


def test_the_train_command_says_how_to_measure_what_it_saved(tmp_path, run_command, monkeypatch):
    stopped_while_measured(monkeypatch, KeyboardInterrupt())
    words = ("--steps", "6", "--budget", "smoke", "--out", tmp_path / "run")
    code, said = run_command("train", "gaussians", *words)
    assert code == 130
    assert said.endswith(f"python -m vae_helpers measure {tmp_path / 'run'} does that\n")
    code, said = run_command("measure", tmp_path / "run")
    assert (code, said.splitlines()[-1]) == (130, "stopped; the folder is as it was, and the same command measures it")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: shutil.rmtree(folder), "no folder of a finished run"),
        (lambda folder: (folder / "run.json").write_text("{"), "is not the record of a run"),
        (lambda folder: (folder / "run.json").write_text("[1]"), "is not the record of a run"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "has no weights to measure"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x" * 50), "cannot be read"),
        (lambda folder: stopped_at(folder, 2), "was stopped at step 2 of 6; .* --resume"),
    ],
    ids=["no folder", "cut record", "no record", "no weights", "damaged weights", "stopped"],
)
def test_a_folder_that_cannot_be_measured_is_refused_in_one_sentence(tmp_path, run_command, change, expected):
    folder = tmp_path / "run"
    train("gaussians", folder)
    change(folder)
    code, said = run_command("measure", folder)
    assert code == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(folder) in said
    assert re.search(expected, said), said


def stopped_at(folder, step):
    record = record_of(folder)
    (folder / "run.json").write_text(json.dumps({**record, "steps": step, "metrics": {}}))


def test_weights_of_another_model_are_not_measured(tmp_path):
    train("gaussians", tmp_path / "run")
    train("gaussians", tmp_path / "other", h_dims=(9,))
    shutil.copy(tmp_path / "other" / "weights.safetensors", tmp_path / "run" / "weights.safetensors")
    with pytest.raises(ValueError, match="of another model"):
        measure_run(tmp_path / "run")


def test_a_support_vector_machine_has_nothing_to_measure_again(tmp_path):
    config = replace(small("m2"), model="m1_svm", m1="m1/z20", steps=0)
    STUDIES["m2"].run(config, folder=tmp_path, **SMOKE)
    with pytest.raises(ValueError, match="has no weights to measure; train the run again"):
        measuring.measure_run(tmp_path)
