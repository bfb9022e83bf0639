"""A run that a cluster ends, and two processes in one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vae_helpers.__main__ import ENDING, _end_as_by_hand, main
from vae_helpers.data.writing import claimed
from vae_helpers.experiments import gaussians, m2
from vae_helpers.experiments.gaussians import GaussiansConfig
from vae_helpers.experiments.m2 import M2Config
from vae_helpers.training import Budget

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
ROOT = Path(__file__).resolve().parents[1]


def command(folder, *more, steps=100_000):
    words = ["train", "gaussians", "--steps", str(steps), "--checkpoint-every", "100000", "--out", str(folder), *more]
    return [sys.executable, "-m", "vae_helpers", *words]


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "VAE_BUDGET": "smoke", "VAE_OFFLINE": "1", "VAE_DEVICE": "cpu", "OMP_NUM_THREADS": "1",
            "VAE_RUNS": str(tmp_path / "runs"), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}  # fmt: skip


def start(words, environment):
    """A command that has begun to train."""
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if "run folder" in line:
            break
    folder = Path(words[words.index("--out") + 1])
    deadline = time.monotonic() + 60
    while not (folder / ".in-use").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    return process


def test_sigterm_loses_no_step(tmp_path, environment, monkeypatch):
    process = start(command(tmp_path / "run"), environment)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # to the process and to its group
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert "Traceback" not in output
    at = json.loads((tmp_path / "run" / "run.json").read_text())["steps"]
    assert 0 < at < 100_000
    assert f"stopped at step {at:,}; the same command with --resume goes on from there" in output
    given = {"seed": 0, "budget": Budget.SMOKE, "progress": False}
    config = GaussiansConfig(steps=at + 50)
    monkeypatch.setenv("VAE_DEVICE", "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process had: sums depend on their number
    resumed = gaussians.run(config, folder=tmp_path / "run", resume=True, **given).model.state_dict()
    whole = gaussians.run(config, **given).model.state_dict()
    torch.set_num_threads(threads)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize("name", ENDING)
def test_every_ending_signal_interrupts_once(name, monkeypatch):
    number = getattr(signal, name)
    before = {other: signal.getsignal(getattr(signal, other)) for other in ENDING}
    monkeypatch.setattr(
        signal, "getsignal", lambda n, known=signal.getsignal: signal.SIG_DFL if n == number else known(n)
    )
    try:
        came = _end_as_by_hand()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # again within a second: it was sent to the process and to its group
        assert came == [number]
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        for other, handler in before.items():
            signal.signal(getattr(signal, other), handler)


def test_a_second_process_in_a_run_folder_is_refused_while_the_first_one_lives(tmp_path, environment):
    first = start(command(tmp_path / "run"), environment)
    given = {"budget": Budget.SMOKE, "progress": False, "folder": tmp_path / "run"}
    words = rf"{tmp_path / 'run'} is in use by process {first.pid}; wait until it has ended"
    try:
        with pytest.raises(ValueError, match=words):
            gaussians.run(GaussiansConfig(steps=20), seed=1, **given)
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    gaussians.run(GaussiansConfig(steps=20), seed=1, **given)  # a claim ends with its process
    assert json.loads((tmp_path / "run" / "run.json").read_text())["seed"] == 1


def test_a_claim_ends_with_its_block_and_holds_in_one_process(tmp_path):
    again = claimed(tmp_path / "new")
    with claimed(tmp_path / "new"), pytest.raises(ValueError, match=f"in use by process {os.getpid()}"), again:
        pass
    with claimed(tmp_path / "new"):
        pass
    assert (tmp_path / "new" / ".in-use").read_bytes() == b""


@pytest.mark.parametrize("model", ["m1_svm", "m2"])
def test_nothing_is_written_into_a_folder_that_another_run_holds(tmp_path, monkeypatch, model):
    monkeypatch.setenv("VAE_OFFLINE", "1")
    given = {"seed": 0, "budget": Budget.SMOKE, "progress": False, "folder": tmp_path / "run"}
    with claimed(tmp_path / "run"), pytest.raises(ValueError, match="is in use by process"):
        m2.run(M2Config(model=model, n_labels=20), **given)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".in-use"]


def test_output_that_is_closed_takes_every_letter(tmp_path, environment):
    ascii_only = environment | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    words = [sys.executable, "-c", "import os, sys; os.close(1); os.execv(sys.executable, sys.argv[1:])"]
    ended = subprocess.run(
        [*words, *command(tmp_path / "run", steps=5)], env=ascii_only, capture_output=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


def test_ctrl_c_outside_of_training_is_one_word(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vae_helpers.__main__._run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"
