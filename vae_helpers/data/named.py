"""Data sets that torchvision knows, by name: read from the data root, or fetched once."""

from __future__ import annotations

import os
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vae_helpers.data.arrays import Stack
from vae_helpers.data.files import DataError, data_root, describe_root, make_writable, offline
from vae_helpers.data.fitting import split_rows
from vae_helpers.data.idx import read_idx
from vae_helpers.data.mnist import host_timeout
from vae_helpers.data.named_files import Part, read_cifar, read_omniglot, read_svhn, read_usps
from vae_helpers.data.splits import Images
from vae_helpers.data.writing import locked, temporary

DIGITS = tuple(string.digits)


@dataclass(frozen=True)
class Named:
    """What is known of a set without reading it.

    Args:
        title: in words. shape: of `Images`. n_classes: K. classes: their names, if they are not in the files.
        files: that are needed, below the data root. page: where they are described.
        fetch: has torchvision fetch them below a folder. read: them, training then test; a test part of None is drawn.
    """

    title: str
    shape: tuple[int, ...]
    n_classes: int
    classes: tuple[str, ...]
    files: tuple[str, ...]
    page: str
    fetch: Callable[[Path], None]
    read: Callable[[Path], tuple[Part, Part | None]]


def load_named(name: str, root: Path | None = None, *, test_share: float = 0.1, split_seed: int = 0) -> Images:
    """One of torchvision's data sets as `Images`, from the data root, where it is fetched to if it is not there.

    EMNIST is its balanced part, 47 classes, turned upright. QMNIST's test set are its 60,000 test digits. Omniglot is
    both of its sets of alphabets, 1,623 characters with 20 pictures each, strokes white as those of the digits; as its
    own two sets share no character, a share of each character is held out for the test. Idx files are read by this
    package, checked against the size that they declare. CIFAR-10's files are pickled: their md5 is compared with
    torchvision's first, and nothing but plain arrays, numbers and words is made of them.

    Args:
        name: one of `NAMED`. root: the data folder; None for `files.data_root`. test_share, split_seed: of Omniglot.

    Returns:
        `Images` with labels.

    Raises:
        DataError: if the files are neither there nor can be fetched, with the way by hand; or are damaged.
    """
    where = describe_root() if root is None else "the folder given"
    root = data_root() if root is None else root
    kind = NAMED[name]
    if not _there(kind, root):
        _fetch(kind, root)
    train, test = kind.read(root)
    if test is None:
        rows = split_rows(len(train[0]), train[1], test_share=test_share, split_seed=split_seed, what=kind.title)
        train, test = ((train[0][index], train[1][index]) for index in rows)
    for pixels, y in (train, test):
        fits = pixels.shape[1:] == kind.shape and len(y) == len(pixels) > 0 and 0 <= y.min() <= y.max() < kind.n_classes
        if not fits:
            raise DataError(
                f"the files of {kind.title} in {root} hold images {pixels.shape} and labels {y.shape}, expected "
                f"{kind.shape} an image and labels 0 to {kind.n_classes - 1}. {_by_hand(kind, root)}"
            )
    x_train, x_test = (
        torch.from_numpy(np.require(x.reshape(len(x), -1), np.uint8, ["C", "W"])) for x, _ in (train, test)
    )
    y_train, y_test = (torch.from_numpy(y.astype(np.int64)) for _, y in (train, test))
    source = f"{kind.title}, {len(x_train):,} train and {len(x_test):,} test images ({where})"
    return Images(name, source, kind.shape, x_train, x_test, y_train, y_test, kind.classes)


def _there(kind: Named, root: Path) -> bool:
    return all((root / file).exists() or (root / f"{file}.gz").exists() for file in kind.files)


def _by_hand(kind: Named, root: Path) -> str:
    return f"By hand: put {', '.join(kind.files)} into {root} ({kind.page})."


def _fetch(kind: Named, root: Path) -> None:
    """Have torchvision fetch the files into a folder of their own, then rename them into place, whole."""
    if offline():
        raise DataError(
            f"{kind.title} is not in the data root, and VAE_OFFLINE forbids downloads. {_by_hand(kind, root)}"
        )
    make_writable(root)
    with locked(root / kind.title), temporary(root / kind.title) as part:
        if _there(kind, root):  # another process has fetched them meanwhile
            return
        try:
            with host_timeout():
                kind.fetch(part)
            for file in kind.files:
                if not (root / file).exists():
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(part / file, root / file)
        except Exception as error:  # a server may answer anything
            reason = (str(error) or type(error).__name__).splitlines()[0][:100]
            raise DataError(f"{kind.title} cannot be fetched ({reason}). {_by_hand(kind, root)}") from None


def _idx(title: str, folder: str, parts: tuple[str, str], labels: str = "idx1-ubyte", **kinds: Any) -> Named:
    """A set of four idx files, of torchvision's class ``folder``."""
    heads = [f"{folder}/raw/{part}" for part in parts]
    turned, options = kinds.pop("turned", False), kinds.pop("options", ({},))

    def fetch(part: Path) -> None:
        from torchvision import datasets  # here, not above: its import takes two seconds

        for option in options:
            getattr(datasets, folder)(str(part), download=True, **option)

    def read(root: Path) -> tuple[Part, Part | None]:
        found = []
        for head in heads:
            images, y = (
                read_idx(path if path.exists() else path.with_name(f"{path.name}.gz"), ndim=ndim)
                for path, ndim in (
                    (root / f"{head}-images-idx3-ubyte", 3),
                    (root / f"{head}-labels-{labels}", 2 if "idx2" in labels else 1),
                )
            )
            images = Stack(images, f"{root / head}-images-idx3-ubyte").take(np.arange(len(images)))
            found.append((images.transpose(0, 2, 1) if turned else images, y[:, 0] if y.ndim == 2 else y))
        return found[0], found[1]

    files = tuple(f"{head}-{tail}" for head in heads for tail in ("images-idx3-ubyte", f"labels-{labels}"))
    return Named(title, (28, 28), files=files, fetch=fetch, read=read, **kinds)


def _torchvision(folder: str, below: str, *options: dict[str, Any]) -> Callable[[Path], None]:
    def fetch(part: Path) -> None:
        from torchvision import datasets

        (part / below).mkdir(parents=True, exist_ok=True)
        for option in options:
            getattr(datasets, folder)(str(part / below), download=True, **option)

    return fetch


MERGED = set("cijklmopsuvwxyz")  # lower-case letters that EMNIST counts as their capitals
BALANCED = tuple(sorted(set(string.digits + string.ascii_letters) - MERGED))
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = tuple(f"cifar-10-batches-py/{name}" for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"])

NAMED: dict[str, Named] = {
    "fashion-mnist": _idx(
        "Fashion-MNIST", "FashionMNIST", ("train", "t10k"), n_classes=10, classes=FASHION,
        page="https://github.com/zalandoresearch/fashion-mnist",
    ),
    "kmnist": _idx(
        "KMNIST", "KMNIST", ("train", "t10k"), n_classes=10, classes=KUZUSHIJI,
        page="https://github.com/rois-codh/kmnist",
    ),
    "emnist": _idx(
        "EMNIST balanced", "EMNIST", ("emnist-balanced-train", "emnist-balanced-test"), n_classes=47, classes=BALANCED,
        page="https://www.nist.gov/itl/products-and-services/emnist-dataset", turned=True,
        options=({"split": "balanced"},),
    ),
    "qmnist": _idx(
        "QMNIST", "QMNIST", ("qmnist-train", "qmnist-test"), "idx2-int", n_classes=10, classes=DIGITS,
        page="https://github.com/facebookresearch/qmnist", options=({"what": "train"}, {"what": "test"}),
    ),
    "usps": Named(
        "USPS", (16, 16), 10, DIGITS, ("USPS/usps.bz2", "USPS/usps.t.bz2"),
        "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps",
        _torchvision("USPS", "USPS", {"train": True}, {"train": False}), read_usps,
    ),
    "cifar10": Named(
        "CIFAR-10", (3, 32, 32), 10, OBJECTS, BATCHES, "https://www.cs.toronto.edu/~kriz/cifar.html",
        _torchvision("CIFAR10", "", {}), read_cifar,
    ),
    "svhn": Named(
        "SVHN", (3, 32, 32), 10, DIGITS, ("SVHN/train_32x32.mat", "SVHN/test_32x32.mat"),
        "http://ufldl.stanford.edu/housenumbers",
        _torchvision("SVHN", "SVHN", {"split": "train"}, {"split": "test"}), read_svhn,
    ),
    "omniglot": Named(
        "Omniglot", (105, 105), 1623, (), ("omniglot-py/images_background", "omniglot-py/images_evaluation"),
        "https://github.com/brendenlake/omniglot",
        _torchvision("Omniglot", "", {"background": True}, {"background": False}), read_omniglot,
    ),
}  # fmt: skip
