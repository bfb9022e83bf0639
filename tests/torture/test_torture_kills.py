"""Processes killed at any moment: the same command ends with the same bits, and nothing is left behind."""

import functools
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from cases import STUDIES, train
from harness import (
    ENVIRONMENT,
    HERE,
    Command,
    How,
    contents,
    copy,
    frugal,
    nobody_left,
    of_session,
    run,
    succeeds,
    tidy,
    whole,
)

OF_A_RUN = ("run.json", "weights.safetensors", "split.json")


@pytest.fixture(scope="session")
def undisturbed(digits, tmp_path_factory):
    """A study's run from start to end: its folder, how it ended, and how long it took."""

    @functools.cache
    def of(study):
        folder = tmp_path_factory.mktemp("undisturbed")
        began = time.monotonic()
        ended = succeeds(*train(study, digits, folder / "run"), folder=folder)
        return folder / "run", ended, time.monotonic() - began

    return of


def same_as(study, undisturbed, folder, digits, *, history=True):
    """The same command ends well, and where the undisturbed run ended."""
    whole(folder)
    succeeds(*train(study, digits, folder), folder=folder.parent)
    expected = contents(undisturbed(study)[0], *OF_A_RUN, history=history)
    assert contents(folder, *OF_A_RUN, history=history) == expected
    tidy(folder)


def killed(words, folder, delay, signum=signal.SIGKILL):
    """Start a command, send it a signal after so many seconds, and wait until it and all it started are gone."""
    command = Command(*words, folder=folder)
    command.wait_for(lambda: (folder / "run").exists() or "run folder" in command.output)
    time.sleep(delay)
    if command.process.is_alive():
        command.kill(signum)
    ended = command.end()
    nobody_left(command.pid)
    return ended


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("study", STUDIES)
def test_training(study, number, digits, undisturbed, tmp_path):
    """SIGKILL at a random moment of training or measuring, every study"""
    delay = random.uniform(0, 0.9 * undisturbed(study)[2])
    print(f"killed after {delay:.3f} s")
    ended = killed(train(study, digits, tmp_path / "run"), tmp_path, delay)
    assert ended.code in (-signal.SIGKILL, 0)
    same_as(study, undisturbed, tmp_path / "run", digits)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.5, 0.75, 0.95, 1.0])
@pytest.mark.parametrize("study", STUDIES)
def test_at_a_write(study, part, digits, undisturbed, tmp_path):
    """SIGKILL just before a file is opened, renamed or removed, every study"""
    number = max(1, round(part * undisturbed(study)[1].changes))
    ended = run(*train(study, digits, tmp_path / "run"), folder=tmp_path, how=How(kill_at=number))
    assert ended.code == -signal.SIGKILL
    same_as(study, undisturbed, tmp_path / "run", digits)


@pytest.mark.parametrize("n_bytes", [1, 100, 2000, 5000, 12_000, 30_000])
@pytest.mark.parametrize("study", ["gaussians", "m1", "m2", "nonsyn"])
def test_in_a_write(study, n_bytes, digits, undisturbed, tmp_path):
    """Killed in the middle of a file, at its byte 1 to 30,000"""
    how = How(limits={"FSIZE": n_bytes}, default_signals=("SIGXFSZ",))
    command = Command(*train(study, digits, tmp_path / "run"), folder=tmp_path, how=how)
    command.process.join()
    assert command.process.exitcode in (-signal.SIGXFSZ, 0)
    same_as(study, undisturbed, tmp_path / "run", digits)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("study", STUDIES)
def test_sigterm(study, number, digits, undisturbed, tmp_path):
    """SIGTERM at a random moment: exit code 143, complete to the last step"""
    began, seconds = time.monotonic(), undisturbed(study)[2]
    delay = random.uniform(0, 0.8 * seconds)
    print(f"ended after {delay:.3f} s")
    ended = killed(train(study, digits, tmp_path / "run"), tmp_path, delay, signal.SIGTERM)
    assert time.monotonic() - began < 60 + 5 * seconds
    assert "Traceback" not in ended.output, ended.output
    assert ended.code in (143, 0), ended.output
    if "stopped at step" in ended.output:
        at = int(ended.output.split("stopped at step ")[1].split(";")[0].replace(",", ""))
        assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == at
        assert (tmp_path / "run" / "checkpoint.pt").exists()
    same_as(study, undisturbed, tmp_path / "run", digits, history=False)


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("study", ["m1", "m2", "nonsyn"])
def test_measuring_and_releasing(study, part, digits, undisturbed, tmp_path):
    """SIGKILL in `measure`, `release` and `page`: the same command makes the same file"""
    source = undisturbed(study)[0]
    for name, words, made in (
        ("measure", ("measure", "run"), ("run/run.json",)),
        ("release", ("release", "study/name", "run", "--to", "released"), ("released/study/*",)),
        ("page", ("page", "run", "--out", "page.html"), ("page.html",)),
    ):
        for folder in ("whole", "broken"):
            copy(source, tmp_path / name / folder / "run")
        good = succeeds(*words, folder=tmp_path / name / "whole")
        broken = tmp_path / name / "broken"
        ended = run(*words, folder=broken, how=How(kill_at=max(1, round(part * good.changes))))
        assert ended.code == -signal.SIGKILL or not good.changes
        whole(broken)
        succeeds(*words, folder=broken)
        assert contents(broken, *made) == contents(tmp_path / name / "whole", *made)
        tidy(broken)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])
def test_packing_pictures(part, tmp_path):
    """SIGKILL while a folder of pictures is packed: the next command has the same pixels"""
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    generator = np.random.default_rng(0)
    for k in range(40):
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(pictures / f"{k}.png")
    words = ("data", pictures, "--check")
    good = succeeds(*words, folder=tmp_path / "whole")
    ended = run(*words, folder=tmp_path / "broken", how=How(kill_at=max(1, round(part * good.changes))))
    assert ended.code == -signal.SIGKILL
    again = succeeds(*words, folder=tmp_path / "broken")
    assert again.output.splitlines()[1:] == good.output.splitlines()[1:]  # but for the data root
    made = ("packed/*.npy", "packed/*.json")
    assert contents(tmp_path / "broken" / "data", *made) == contents(tmp_path / "whole" / "data", *made)
    tidy(tmp_path / "broken")


def from_a_mirror(folder, port):
    """In a process: MNIST's files are those of a folder, and a server on this machine has them."""
    import hashlib

    import torchvision.datasets

    from vae_helpers.data import mnist

    of_torchvision = torchvision.datasets.MNIST
    of_torchvision.mirrors = [f"http://127.0.0.1:{port}/"]
    of_torchvision.resources = [
        (path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(Path(folder).glob("*.gz"))
    ]
    for path in Path(folder).glob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        name = path.name.removesuffix(".gz")
        mnist.FILES[name] = (len(content), mnist.FILES[name][1], hashlib.sha256(content).hexdigest())


@pytest.fixture(scope="session")
def mirror(tmp_path_factory):
    """A folder with small files in MNIST's format, and the port at which it is served."""
    mirror = tmp_path_factory.mktemp("mirror")
    for split, n in (("train", 60), ("t10k", 20)):
        x = b"".join(v.to_bytes(4, "big") for v in (2051, n, 28, 28)) + bytes(range(196)) * 4 * n
        y = b"".join(v.to_bytes(4, "big") for v in (2049, n)) + bytes(k % 10 for k in range(n))
        (mirror / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(x))
        (mirror / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(y))
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(mirror))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(mirror), server.server_port
        server.shutdown()


@pytest.mark.parametrize("part", [0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
def test_downloading(part, mirror, tmp_path):
    """SIGKILL while MNIST is fetched: the next command fetches the rest"""
    online = {"VAE_OFFLINE": "0", "no_proxy": "127.0.0.1"}
    disturb = functools.partial(from_a_mirror, *mirror)
    good = succeeds("data", "mnist", folder=tmp_path / "whole", environment=online, how=How(disturb=disturb))
    assert "60,000 train and 10,000 test" in good.output  # the words for the full set
    how = How(disturb=disturb, kill_at=max(1, round(part * good.changes)))
    ended = run("data", "mnist", folder=tmp_path / "broken", environment=online, how=how)
    assert ended.code == -signal.SIGKILL
    succeeds("data", "mnist", folder=tmp_path / "broken", environment=online, how=How(disturb=disturb))
    raw = "MNIST/raw/*ubyte"
    assert contents(tmp_path / "broken" / "data", raw) == contents(tmp_path / "whole" / "data", raw)
    tidy(tmp_path / "broken")


GRID = ("sweep", "gaussians", "--grid", "z_dim=1,2", "steps=3000", "--seeds", "0..1", "--workers", "2")


def start_sweep(folder, *words):
    environment = {**os.environ, **ENVIRONMENT, "VAE_RUNS": str(folder / "runs"), "PYTHONPATH": str(HERE.parents[1])}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "vae_helpers", *words], cwd=folder, env=environment, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip


def of_sweep(folder):
    return contents(folder / "runs", "gaussians/*/run.json", "gaussians/*/weights.safetensors")


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    process = start_sweep(folder, *GRID)
    assert process.wait(240) == 0, (folder / "output").read_text()
    return of_sweep(folder)


@pytest.mark.long
@pytest.mark.parametrize("whom", ["parent", "worker", "nanny", "all", "terminated"])
def test_sweeping(whom, swept, tmp_path):
    """SIGKILL of a worker, of a sweep's parent or of all; SIGTERM; the same sweep ends with the same runs"""
    process = start_sweep(tmp_path, *GRID)
    began = time.monotonic()
    while process.poll() is None and not list(tmp_path.glob("runs/gaussians/*/.in-use")):
        assert time.monotonic() - began < 120, (tmp_path / "output").read_text()
        time.sleep(0.02)
    time.sleep(random.uniform(0, 2))
    others = [pid for pid in of_session(process.pid) if pid != process.pid]
    if whom == "terminated":
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) in (143, 0), (tmp_path / "output").read_text()
    elif whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif whom in ("worker", "nanny"):
        victim = max(others) if whom == "worker" else min(others)
        os.kill(victim, signal.SIGKILL)
        process.wait(240)
    else:
        process.kill()
    process.wait(120)
    nobody_left(process.pid)
    for folder in tmp_path.glob("runs/gaussians/*"):
        whole(folder)
    again = start_sweep(tmp_path, *GRID)
    assert again.wait(240) == 0, (tmp_path / "output").read_text()
    assert of_sweep(tmp_path) == swept
    nobody_left(again.pid)
    tidy(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("number", range(2))
def test_a_scheduler_lost(number, swept, tmp_path):
    """SIGKILL of the Dask scheduler that a sweep uses: the same sweep ends on this machine"""
    environment = {**os.environ, **ENVIRONMENT, "VAE_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(HERE.parents[1])}
    folder = Path(sys.executable).parent
    said = tmp_path / "scheduler.json"
    start = functools.partial(
        subprocess.Popen, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    scheduler = start([folder / "dask", "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", said])
    worker = start([folder / "dask", "worker", "--scheduler-file", said, "--nthreads", "1", "--no-dashboard",
                    "--death-timeout", "20"])  # fmt: skip
    try:
        began = time.monotonic()
        while not said.exists():
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        process = start_sweep(tmp_path, *GRID[:-2], "--scheduler", json.loads(said.read_text())["address"])
        while process.poll() is None and not list(tmp_path.glob("runs/gaussians/*/.in-use")):
            assert time.monotonic() - began < 180, (tmp_path / "output").read_text()
            time.sleep(0.02)
        time.sleep(random.uniform(0, 1))
        scheduler.kill()
        assert process.wait(180) in (0, 1)
        output = (tmp_path / "output").read_text()
        assert "of 4 runs finished" in output, output
    finally:
        for one in (scheduler, worker):
            one.kill()
            one.wait()
        for one in (scheduler, worker):
            for pid in of_session(one.pid):
                os.kill(pid, signal.SIGKILL)
    again = start_sweep(tmp_path, *GRID)
    assert again.wait(240) == 0, (tmp_path / "output").read_text()
    assert of_sweep(tmp_path) == swept


def test_a_kill_is_noticed(digits, undisturbed, tmp_path):
    """The comparison itself: a run with other bits, and a file that is cut, are found"""
    other = copy(undisturbed("gaussians")[0], tmp_path / "other")
    weights = bytearray((other / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "weights.safetensors").write_bytes(weights)
    assert contents(other, *OF_A_RUN) != contents(undisturbed("gaussians")[0], *OF_A_RUN)
    (other / "run.json").write_text((other / "run.json").read_text()[:-100])
    with pytest.raises(ValueError, match="Expecting"):
        whole(other)
    shutil.rmtree(other)
    frugal(undisturbed("gaussians")[1])
