"""Faults of the machine around a command: a sentence, nothing lost, and the same command goes on when it is over."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cases import STUDIES, train
from harness import ENVIRONMENT, HERE, Command, How, contents, copy, refused, run, succeeds, tidy, whole

OF_A_RUN = ("run.json", "weights.safetensors", "split.json")


@pytest.fixture(scope="session")
def undisturbed(digits, tmp_path_factory):
    """The folder of a study's run from start to end."""

    @functools.cache
    def of(study):
        folder = tmp_path_factory.mktemp("undisturbed")
        succeeds(*train(study, digits, folder / "run"), folder=folder)
        return folder / "run"

    return of


def goes_on(study, undisturbed, folder, digits, **options):
    """When the fault is over, the same command ends where the undisturbed run ended."""
    if folder.exists():
        whole(folder)
    succeeds(*train(study, digits, folder), folder=folder.parent, **options)
    assert contents(folder, *OF_A_RUN) == contents(undisturbed(study), *OF_A_RUN)
    tidy(folder)


@pytest.mark.parametrize("n_bytes", [0, 10, 1000, 3000, 6000, 10_000, 20_000, 40_000])
@pytest.mark.parametrize("study", ["gaussians", "m1", "m2", "judge", "nonsyn"])
def test_no_room(study, n_bytes, digits, undisturbed, tmp_path):
    """no room for a file (0 to 40,000 bytes of it), then room again"""
    (tmp_path / "run").mkdir()
    how = How(limits={"FSIZE": n_bytes})
    # what is printed is a file too: it goes where there is room
    command = Command(*train(study, digits, tmp_path / "run"), folder=tmp_path, how=how)
    ended = command.end()
    if ended.code != 0 and n_bytes > 2000:  # below, the sentence itself has no room
        refused(ended, str(tmp_path / "run"))
    goes_on(study, undisturbed, tmp_path / "run", digits)


@pytest.mark.parametrize("n_bytes", [10, 1000, 3000, 20_000])
@pytest.mark.parametrize("command", ["measure", "release", "page", "data"])
def test_no_room_for(command, n_bytes, undisturbed, tmp_path):
    """no room for what `measure`, `release`, `page` and `data` write"""
    from PIL import Image

    copy(undisturbed("m1"), tmp_path / "run")
    (tmp_path / "pictures").mkdir()
    for k in range(60):
        Image.fromarray(np.full((40, 40), k, np.uint8)).save(tmp_path / "pictures" / f"{k}.png")
    words = {
        "measure": ("measure", "run"),
        "release": ("release", "study/name", "run", "--to", "to"),
        "page": ("page", "run", "--out", "page.html"),
        "data": ("data", "pictures"),
    }[command]
    ended = run(*words, folder=tmp_path, how=How(limits={"FSIZE": n_bytes}))
    if ended.code != 0 and n_bytes > 2000:
        refused(ended)
    assert not list((tmp_path / "to").rglob("*.json")) or ended.code == 0, "half of a result was released"
    whole(tmp_path / "run")
    succeeds(*words, folder=tmp_path)
    tidy(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kilobytes", [64, 200, 400, 800])
def test_a_full_disk(kilobytes, digits, undisturbed, tmp_path):
    """a disk that is full (a small tmpfs), then a larger one"""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = " ".join([sys.executable, "-m", "vae_helpers", *train("m1", digits, disk / "run")])
    script = f"mount -t tmpfs -o size={kilobytes}k none {disk} && cp -r {digits} {disk}/fill; {words}; " \
             f"echo code $?; rm -f {disk}/fill; mount -o remount,size=20M {disk}; {words}; echo code $?; " \
             f"cp -r {disk}/run {tmp_path}/run"  # fmt: skip
    environment = {**os.environ, **ENVIRONMENT, "VAE_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(HERE.parents[1]),
                   "HOME": str(tmp_path)}  # fmt: skip
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], env=environment, cwd=tmp_path, text=True, capture_output=True
    )
    if "Operation not permitted" in ended.stderr or "must be superuser" in ended.stderr:
        pytest.skip("no file system can be mounted here")
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said, said
    assert said.count("code 0") >= 1, said
    assert ended.stdout.rstrip().endswith("code 0"), said
    assert contents(tmp_path / "run", *OF_A_RUN) == contents(undisturbed("m1"), *OF_A_RUN)


@pytest.mark.parametrize("study", STUDIES)
def test_read_only(study, digits, tmp_path):
    """a run folder that cannot be written"""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    ended = run(*train(study, digits, locked / "run"), folder=tmp_path, how=How(without_rights=True))
    refused(ended, str(locked / "run"))


@pytest.mark.parametrize("what", ["release", "page", "measure", "sweep", "data", "card"])
def test_no_right(what, digits, undisturbed, tmp_path):
    """folders and files that may not be read or written, in every other command"""
    copy(undisturbed("m1"), tmp_path / "run")
    locked = tmp_path / "locked"
    locked.mkdir()
    if what == "card":
        (tmp_path / "run" / "run.json").chmod(0)
    if what == "measure":
        (tmp_path / "run").chmod(0o555)
    secret = tmp_path / "secret.npz"
    shutil.copy(digits, secret)
    secret.chmod(0)
    locked.chmod(0o555)
    words = {
        "release": ("release", "study/name", "run", "--to", locked),
        "page": ("page", "run", "--out", locked / "page.html"),
        "measure": ("measure", "run"),
        "sweep": ("sweep", "gaussians", "--seeds", "0", "--grid", "steps=5", "--out", locked / "t.csv"),
        "data": ("data", secret),
        "card": ("show", "run"),
    }[what]
    refused(run(*words, folder=tmp_path, how=How(without_rights=True)), "locked", "secret", "run")


@pytest.mark.parametrize("home", [None, "", "/nonexistent", "/dev/null"])
@pytest.mark.parametrize("words", [("list",), ("data", "mnist"), ("doctor",), ("train", "gaussians", "--steps", "5")])
def test_no_home(words, home, tmp_path):
    """no home folder, or one that is none"""
    environment = {"HOME": home, "VAE_DATA": None, "XDG_CACHE_HOME": None}
    ended = run(*words, folder=tmp_path, environment=environment)
    assert "Traceback" not in ended.output, ended.output
    assert ended.code == 0 or words == ("doctor",), ended.output


@pytest.mark.parametrize("study", STUDIES)
def test_two_processes(study, digits, undisturbed, tmp_path):
    """two processes in one run folder: the second is refused while the first lives, and not after a kill"""
    first, owner = Command(*train(study, digits, tmp_path / "run"), folder=tmp_path), tmp_path / "run" / ".in-use"
    first.wait_for(lambda: owner.exists() and str(first.pid) in owner.read_text())
    first.kill(signal.SIGSTOP)  # it lives and does not go on
    refused(run(*train(study, digits, tmp_path / "run"), folder=tmp_path), f"process {first.pid}")
    first.kill()
    first.end()
    goes_on(study, undisturbed, tmp_path / "run", digits)


@pytest.mark.parametrize("study", STUDIES)
def test_the_folder_deleted(study, digits, undisturbed, tmp_path):
    """the run folder is deleted while the run is trained"""
    command = Command(*train(study, digits, tmp_path / "run"), folder=tmp_path)
    command.wait_for(lambda: (tmp_path / "run" / "checkpoint.pt").exists())
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    ended = command.end()
    assert "Traceback" not in ended.output, ended.output
    assert ended.code in (0, 1), ended.output
    goes_on(study, undisturbed, tmp_path / "run", digits)


def back_in_time():
    """In a process: the clock goes back by a minute with each look."""
    true, looks = time.time, [0]

    def clock():
        looks[0] += 1
        return true() - 60 * looks[0]

    time.time = clock


def no_sync():
    """In a process: nothing can be synced, linked or locked, as on some network file systems."""
    import errno
    import fcntl

    def refuse(*arguments, **keywords):
        raise OSError(errno.EINVAL, "Invalid argument")

    os.fsync = os.link = fcntl.flock = fcntl.lockf = refuse
    os.posix_fallocate = refuse


def no_folder_sync():
    """In a process: folders cannot be opened to be synced."""
    before = os.open

    def opened(path, flags, *more, **keywords):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return before(path, flags, *more, **keywords)

    os.open = opened


@pytest.mark.parametrize("fault", [back_in_time, no_sync, no_folder_sync])
@pytest.mark.parametrize("study", ["gaussians", "m1", "m2", "supervised", "nonsyn"])
def test_odd_systems(study, fault, digits, undisturbed, tmp_path):
    """a clock that goes back; a file system without fsync, locks or hard links"""
    goes_on(study, undisturbed, tmp_path / "run", digits, how=How(disturb=fault))


@pytest.mark.parametrize("fault", [no_sync, no_folder_sync])
def test_packing_on_odd_systems(fault, tmp_path):
    """pictures packed on a file system without fsync, locks or hard links"""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for k in range(6):
        Image.fromarray(np.full((8, 8), k, np.uint8)).save(tmp_path / "pictures" / f"{k}.png")
    good = succeeds("data", tmp_path / "pictures", folder=tmp_path / "good")
    odd = succeeds("data", tmp_path / "pictures", folder=tmp_path / "odd", how=How(disturb=fault))
    assert odd.output.splitlines()[-1] == good.output.splitlines()[-1]


@pytest.mark.parametrize("limits", [{"NOFILE": 64}, {"NOFILE": 24}, {"AS": 3 * 2**30}, {"AS": 2**30}, {"NPROC": 1}])
@pytest.mark.parametrize("study", ["gaussians", "m1", "conditional", "nonsyn"])
def test_limits(study, limits, digits, undisturbed, tmp_path):
    """64 and 24 file descriptors, 1 and 3 GB of address space, no new processes"""
    goes_on(study, undisturbed, tmp_path / "run", digits, how=How(limits=limits))


@pytest.mark.parametrize("megabytes", [20, 60, 120])
@pytest.mark.parametrize("study", ["m1", "supervised", "nonsyn"])
def test_too_little_memory(study, megabytes, digits, undisturbed, tmp_path):
    """20 to 120 MB above the start: a sentence or the run, and the run with more"""
    ended = run(*train(study, digits, tmp_path / "run"), folder=tmp_path, how=How(limits={"AS": megabytes * 10**6}))
    if ended.code:
        refused(ended, "memory")
    goes_on(study, undisturbed, tmp_path / "run", digits)


@pytest.mark.parametrize("lr", ["1e30", "1e10"])
@pytest.mark.parametrize("study", ["gaussians", "m1", "m2", "gmvae", "conditional", "supervised", "nonsyn"])
def test_losses_that_are_not_finite(study, lr, digits, tmp_path):
    """losses that are not finite: the step is named, nothing is recorded as a result"""
    ended = run(*train(study, digits, tmp_path / "run", "--lr", lr), folder=tmp_path)
    if ended.code == 0:  # no infinity on the way
        metrics = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]
        assert all(np.isfinite(value) for value in metrics.values()), metrics
        return
    refused(ended, "finite", "step")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [("list",), ("data", "mnist", "--check"), ("doctor",), ("show", "m1/z20"),
                                   ("page", "m1/z20", "--out", "p.html"), ("measure", "run"),
                                   ("release", "study/name", "run", "--to", "to")], ids=lambda w: w[0])  # fmt: skip
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_interrupted(words, signum, delay, undisturbed, tmp_path):
    """Ctrl-C and SIGTERM in every command: one word, no traceback"""
    if words[0] in ("measure", "release"):
        copy(undisturbed("m1"), tmp_path / "run")
    command = Command(*words, folder=tmp_path)
    command.wait_for(lambda: os.path.exists(f"/proc/{command.pid}/cwd") and
                     os.readlink(f"/proc/{command.pid}/cwd") == str(tmp_path))  # fmt: skip
    time.sleep(0.05 + delay)
    if command.process.is_alive():
        command.kill(signum)
    ended = command.end()
    assert "Traceback" not in ended.output, ended.output
    assert ended.code in (0, 130, 143), ended.output
    tidy(tmp_path)
