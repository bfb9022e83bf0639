"""The guards taken away, one at a time, in the process that is tried: the checks of the other files then fail."""

import hashlib
import random
import signal
from types import SimpleNamespace

import malformed
import pytest
from cases import train
from harness import Command, How, copy, refused, run, succeeds, whole


def written_in_place():
    """In a process: a file is written under its final name at once."""
    from vae_helpers.training import checkpoint

    def write_at_once(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    checkpoint.atomic_write = write_at_once


def unchecked():
    """In a process: every hash of a checkpoint fits."""
    from vae_helpers.training import checkpoint

    class Fits(bytes):
        def __ne__(self, other):
            return False

        __hash__ = None

    digest = SimpleNamespace(digest=lambda: Fits(32))
    checkpoint.hashlib = SimpleNamespace(sha256=hashlib.sha256, file_digest=lambda file, name: digest)


def unlocked():
    """In a process: every lock is free."""
    from vae_helpers.data import writing

    writing._try = lambda file: True


def test_atomic_writing(digits, tmp_path):
    """without atomic writing, a file that is cut by a kill is found"""
    how = How(limits={"FSIZE": 5000}, default_signals=("SIGXFSZ",), disturb=written_in_place)
    Command(*train("gaussians", digits, tmp_path / "run"), folder=tmp_path, how=how).process.join()
    with pytest.raises(AssertionError, match="half written"):
        whole(tmp_path / "run")


def test_the_hash(digits, tmp_path):
    """without the hash, changed bits of a checkpoint go on, and that is found"""
    succeeds(*train("gaussians", digits, tmp_path / "run"), folder=tmp_path)
    accepted = 0
    for number in range(8):
        folder = copy(tmp_path / "run", tmp_path / str(number) / "run")
        (folder / "run.json").unlink()
        path = folder / "checkpoint.pt"
        path.write_bytes(malformed.flip(path.read_bytes(), random.Random(number)))
        words = train("gaussians", digits, folder, "--steps", 700)
        refused(run(*words, folder=folder.parent), "checkpoint.pt")
        try:
            refused(run(*words, folder=folder.parent, how=How(disturb=unchecked)), "checkpoint.pt")
        except AssertionError:
            accepted += 1
    assert accepted > 0


def test_the_lock(digits, tmp_path):
    """without the lock, two processes in one run folder are found"""
    first = Command(*train("gaussians", digits, tmp_path / "run"), folder=tmp_path, how=How(disturb=unlocked))
    first.wait_for(lambda: (tmp_path / "run" / ".in-use").exists())
    first.kill(signal.SIGSTOP)  # it lives and does not go on
    with pytest.raises(AssertionError):
        refused(
            run(*train("gaussians", digits, tmp_path / "run"), folder=tmp_path, how=How(disturb=unlocked)), first.pid
        )
    first.kill()
    first.end()
