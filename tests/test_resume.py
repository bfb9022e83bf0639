"""A training process killed at a random moment and resumed ends where the uninterrupted one ends, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

WORDS = ["gaussians", "--steps", "3000", "--checkpoint-every", "100"]  # tests/torture kills every study
PATIENCE_S = 120  # for a start on a busy machine; a run takes a few seconds

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")


def start(folder, *flags):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VAE_OFFLINE": "1", "VAE_DEVICE": "cpu"}
    words = [sys.executable, "-m", "vae_helpers", "train", *WORDS, "--budget", "smoke", "--out", str(folder)]
    return subprocess.Popen([*words, *flags], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process):
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said.decode()


def stamp(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def kill_after_a_checkpoint(process, path, delay):
    """SIGKILL ``delay`` seconds after the process wrote its first checkpoint."""
    before, began = stamp(path), time.monotonic()
    while stamp(path) == before and process.poll() is None:
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()


def result(folder):
    run = json.loads((folder / "run.json").read_text())
    for row in run["history"]["rows"]:
        del row["seconds"]
    return {key: run[key] for key in ("config", "seed", "steps", "metrics", "history")}


def test_a_run_killed_at_a_random_moment_equals_the_uninterrupted_one(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = start(whole)
    delay = random.uniform(0, 0.3)
    print(f"killed {delay:.3f} s after a checkpoint")  # shown if the test fails
    kill_after_a_checkpoint(start(broken), broken / "checkpoint.pt", delay)
    finish(start(broken, "--resume"))
    finish(undisturbed)
    assert (broken / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert result(broken) == result(whole)
