"""The command line: what a person types, and one clear sentence when it cannot be done."""

import json
import os
import subprocess
import sys

import pytest

from vae_helpers.__main__ import main
from vae_helpers.experiments import STUDIES, released


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Type a command; returns the exit code (0, or the process's) and everything that was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_BUDGET", "smoke")  # the command sets it; this puts it back afterwards
    monkeypatch.setenv("VAE_OFFLINE", "1")
    monkeypatch.delenv("VAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("VAE_RUNS", raising=False)

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["vae_helpers", *map(str, words)])
        code, last_words = 0, ""
        try:
            main()
        except SystemExit as stop:  # a message as its code means: print it to stderr and exit with 1
            code, last_words = (1, stop.code) if isinstance(stop.code, str) else (stop.code or 0, "")
        said = capsys.readouterr()
        return code, said.out + said.err + last_words

    return type_in


def sentence(said):
    """The error, which must be one line and no traceback."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said.rstrip().endswith(lines[0].rstrip())
    assert "Traceback" not in said
    return lines[0]


TRAIN = ("train", "gaussians", "--budget", "smoke", "--steps", "20", "--h-dims", "4")


def test_list_names_every_study_and_release(run):
    code, said = run("list")
    assert code == 0
    for name in (*STUDIES, *released.released_names()):
        assert name in said


def test_train_writes_a_run_that_show_shows(run, tmp_path):
    code, said = run(*TRAIN, "--out", tmp_path / "run", "--beta", "0.5", "--learned", "--seed", "3")
    assert code == 0
    assert "budget smoke · seed 3" in said
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["config"]["beta"], record["config"]["learned"], record["config"]["h_dims"]) == (0.5, True, [4])
    code, shown = run("show", tmp_path / "run")
    assert code == 0
    for words in ("test_elbo_bound", f"{record['metrics']['test_elbo_bound']:.3f}", "smoke", record["hardware"]):
        assert words in shown
    assert f"{record['metrics']['test_elbo_bound']:.3f}" in said


def test_the_default_run_folder_is_named_after_what_is_not_default(run, tmp_path):
    assert run(*TRAIN, "--seed", "3")[0] == 0
    (folder,) = (tmp_path / "runs" / "gaussians").iterdir()
    assert folder.name == "h_dims=4_steps=20_smoke_seed=3"
    assert (folder / "weights.safetensors").exists()


def test_training_twice_into_one_folder_is_refused_and_resume_goes_on(run, tmp_path):
    flags = ("--out", tmp_path / "run")
    assert run(*TRAIN, *flags)[0] == 0
    code, said = run(*TRAIN, *flags)
    assert code == 1
    assert "exists already" in sentence(said)
    assert "--resume" in sentence(said)
    code, said = run(*TRAIN, *flags, "--steps", "30", "--resume")
    assert code == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 30
    code, said = run(*TRAIN, *flags, "--beta", "2", "--resume")
    assert code == 1
    assert "beta: 1.0 there, 2.0 here" in sentence(said)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "gausians"), ("'gausians'", "gaussians, m1")),
        (("train",), ("name a study",)),
        (("show", "m1/nothing"), ("'m1/nothing'",)),
        (("show", "no/such/folder"), ("no/such/folder",)),
        ((*TRAIN, "--steps", "-1"), ("steps", "-1")),
        ((*TRAIN, "--lr", "0"), ("lr", "0")),
        ((*TRAIN, "--x-var", "-2"), ("x_var", "-2")),
        ((*TRAIN, "--z-dim", "0"), ("z_dim", "0")),
        ((*TRAIN, "--batch-size", "9999"), ("batch_size", "9999")),
        ((*TRAIN, "--beta", "-1"), ("beta", "-1")),
        (("release", "m1/x", "no_such_folder"), ("no_such_folder",)),
    ],
    ids=lambda value: " ".join(value[-2:]),
)
def test_a_command_that_cannot_be_done_says_why_in_one_sentence(run, words, expected):
    code, said = run(*words)
    assert code == 1
    for part in expected:
        assert part in sentence(said)


def test_a_file_where_the_run_folder_should_be_is_one_sentence(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, said = run(*TRAIN, "--out", tmp_path / "file")
    assert code == 1
    assert str(tmp_path / "file") in sentence(said)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((*TRAIN, "--z-dim", "two"), "z-dim"),
        ((*TRAIN, "--budget", "huge"), "budget"),
        ((*TRAIN, "--bta", "2"), "bta"),
        (("train", "m1", "--likelihood", "poisson"), "likelihood"),
        (("data", "mnits"), "mnits"),
        (("lst",), "lst"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_flag_that_cannot_be_read_is_named(run, words, named):
    code, said = run(*words)
    assert code != 0
    assert named in said
    assert "Traceback" not in said


def test_help_shows_the_settings_of_a_study(run):
    code, said = run("train", "m1", "--help")
    assert code == 0
    for flag in ("--likelihood", "--z-dim", "--beta", "--budget", "--resume", "--seed"):
        assert flag in said


def test_a_budget_that_does_not_exist_is_one_sentence(run, monkeypatch):
    monkeypatch.setenv("VAE_BUDGET", "typo")
    code, said = run("train", "gaussians")
    assert code == 1
    assert "VAE_BUDGET='typo'" in sentence(said)


def test_a_loss_that_is_not_finite_is_one_sentence(run, tmp_path):
    code, said = run(*TRAIN, "--lr", "1e38", "--out", tmp_path / "run")
    assert code == 1
    assert "step " in sentence(said)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_data_describes_and_counts(run):
    code, said = run("data", "drawn-faces", "--check")
    assert code == 0
    assert "train: 1,800 images" in said
    assert "28x20" in said
    assert "train:" not in run("data", "drawn-faces")[1]


def test_dsprites_are_described_and_compared_with_what_is_there(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    monkeypatch.setenv("VAE_OFFLINE", "1")
    code, said = run("data", "dsprites")
    assert code == 0
    assert "737,280 images" in said
    assert "orientation 40" in said
    assert "no genuine image" not in said
    assert "no genuine image" in run("data", "dsprites", "--check")[1]
    code, said = run("data", "dsprites", "--official")
    assert code == 1
    assert "VAE_OFFLINE forbids downloads" in sentence(said)
    code, said = run("data", "mnist", "--official")
    assert code == 1
    assert "--official is for dsprites" in sentence(said)


def test_data_in_a_file_is_one_sentence(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VAE_DATA", str(tmp_path / "file"))
    code, said = run("data", "mnist")
    assert code == 1
    assert "is a file" in sentence(said)


def test_doctor_judges_every_line_and_fails_when_something_is_missing(run, monkeypatch):
    code, said = run("doctor")
    lines = said.splitlines()
    assert all(line.startswith(("ok", "note", "MISSING")) for line in lines)
    assert code == (1 if "MISSING" in said else 0)
    for word in ("Python", "torch", "jupyterlab", "device", "budget", "MNIST", "written"):
        assert word in said
    monkeypatch.setenv("VAE_BUDGET", "typo")
    code, said = run("doctor")
    assert code == 1
    assert "MISSING VAE_BUDGET='typo'" in said


def test_an_error_of_the_real_process_is_on_stderr_with_exit_code_1(tmp_path):
    words = [sys.executable, "-m", "vae_helpers", "train", "nothing"]
    found = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith("error: unknown study 'nothing'")
    assert found.stderr.count("\n") == 1


def test_a_grid_given_twice_is_refused_not_half_dropped(monkeypatch):
    words = ["sweep", "gaussians", "--grid", "beta=1", "--grid", "z_dim=1"]
    monkeypatch.setattr(sys, "argv", ["vae_helpers", *words])
    with pytest.raises(SystemExit, match="error: --grid is there twice"):
        main()
