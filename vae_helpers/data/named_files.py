"""The files of CIFAR-10, SVHN, USPS and Omniglot, below a data root: compared with their md5 before they are read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from vae_helpers.data.files import DataError
from vae_helpers.data.pictures import decode_all

Part = tuple[np.ndarray, np.ndarray]  # images (N, H, W) or (N, 3, H, W) uint8, labels (N,)


class _Plain(pickle.Unpickler):
    """Makes numbers, words, lists and numpy arrays, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 pickles bytes for older readers
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"the name {module}.{name}")


def read_cifar(root: Path) -> tuple[Part, Part | None]:
    """The five batches and the test batch, each compared with its md5 before it is opened."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    parts = []
    for listed in (CIFAR10.train_list, CIFAR10.test_list):
        x, y = [], []
        for file, md5 in listed:
            path = root / CIFAR10.base_folder / file
            if not check_integrity(str(path), md5):
                raise DataError(f"{path} is damaged or another file: its md5 is not {md5}. Fetch CIFAR-10 again.")
            try:
                with path.open("rb") as opened:
                    batch = _Plain(opened, encoding="latin1").load()
                x.append(np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32))
                y.append(np.asarray(batch["labels"], np.int64))
            except (pickle.UnpicklingError, KeyError, ValueError, TypeError, AttributeError) as error:
                raise DataError(f"{path} holds more than plain arrays ({error}), and was not read.") from None
        parts.append((np.concatenate(x), np.concatenate(y)))
    return parts[0], parts[1]


def read_svhn(root: Path) -> tuple[Part, Part | None]:
    """The cropped digits, by torchvision, which compares the md5."""
    from torchvision.datasets import SVHN

    try:
        train, test = (SVHN(str(root / "SVHN"), split=split) for split in ("train", "test"))
    except Exception as error:  # torchvision compares the md5; scipy raises many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise DataError(f"the files in {root / 'SVHN'} cannot be read ({reason}). Fetch SVHN again.") from None
    return (train.data, train.labels), (test.data, test.labels)


def read_usps(root: Path) -> tuple[Part, Part | None]:
    """The digits, by torchvision, after their md5 is compared."""
    from torchvision.datasets import USPS
    from torchvision.datasets.utils import check_integrity

    for _, file, md5 in USPS.split_list.values():
        if not check_integrity(str(root / "USPS" / file), md5):
            raise DataError(f"{root / 'USPS' / file} is damaged or another file: its md5 is not {md5}. Fetch it again.")
    train, test = (USPS(str(root / "USPS"), train=train) for train in (True, False))
    return (train.data, np.array(train.targets)), (test.data, np.array(test.targets))


def read_omniglot(root: Path) -> tuple[Part, Part | None]:
    """All characters of both sets of alphabets, in the order of their paths; no test part."""
    folders = [root / "omniglot-py" / half for half in ("images_background", "images_evaluation")]
    characters = [path for folder in folders for path in sorted(folder.glob("*/*")) if path.is_dir()]
    pictures = [sorted(character.glob("*.png")) for character in characters]
    if not pictures or not all(pictures):
        raise DataError(f"{root / 'omniglot-py'} is not whole: no picture of some character. Fetch Omniglot again.")
    x = decode_all([path for group in pictures for path in group], size=(105, 105), channels=1, as_it_is=True)
    np.subtract(255, x, out=x)
    y = np.repeat(np.arange(len(pictures)), [len(group) for group in pictures])
    return (x.reshape(-1, 105, 105), y), None
