"""Data sets that torchvision knows, from small files in its layouts that are made here; nothing is fetched."""

import bz2
import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets
from PIL import Image

from vae_helpers.data import DataError, known_spec, load_images, named
from vae_helpers.data.named import NAMED


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    monkeypatch.setenv("VAE_OFFLINE", "1")
    return tmp_path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_idx(path, array, *, kind=8, packed=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


IDX = {
    "fashion-mnist": ("FashionMNIST/raw", ("train", "t10k")),
    "kmnist": ("KMNIST/raw", ("train", "t10k")),
    "emnist": ("EMNIST/raw", ("emnist-balanced-train", "emnist-balanced-test")),
    "qmnist": ("QMNIST/raw", ("qmnist-train", "qmnist-test")),
}


def write_set(root, name, *, packed=False):
    folder, parts = IDX[name]
    written = []
    for i, part in enumerate(parts):
        n = (20, 10)[i]
        x, y = noise(n, 28, 28, seed=i), (np.arange(n) % known_spec(name)[1]).astype(np.uint8)
        write_idx(root / folder / f"{part}-images-idx3-ubyte", x, packed=packed)
        if name == "qmnist":
            full = np.zeros((n, 8), ">i4")
            full[:, 0] = y
            write_idx(root / folder / f"{part}-labels-idx2-int", full, kind=0x0C, packed=packed)
        else:
            write_idx(root / folder / f"{part}-labels-idx1-ubyte", y, packed=packed)
        written.append((x, y))
    return written


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", IDX)
def test_sets_of_idx_files(root, name, packed):
    (x, y), (x_test, _) = write_set(root, name, packed=packed)
    images = load_images(name)
    assert (images.name, (images.shape, images.n_classes)) == (name, known_spec(name))
    assert len(images.classes) == images.n_classes
    upright = x.transpose(0, 2, 1) if name == "emnist" else x
    assert torch.equal(images.x_train, torch.from_numpy(np.ascontiguousarray(upright)).flatten(1))
    assert torch.equal(images.y_train, torch.from_numpy(y.astype(np.int64)))
    assert len(images.x_test) == len(x_test)
    assert images.source.endswith("20 train and 10 test images (VAE_DATA)")
    images.x_train.zero_()  # may be written to


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "emnist", "qmnist"])
def test_the_files_are_where_torchvision_looks_for_them(root, name):
    write_set(root, name)
    kind = getattr(torchvision.datasets, IDX[name][0].split("/")[0])
    options = {"split": "balanced"} if name == "emnist" else {}
    theirs = kind(str(root), train=False, download=False, **options)
    ours = load_images(name)
    pixels = theirs.data.transpose(1, 2) if name == "emnist" else theirs.data
    assert torch.equal(ours.x_test, pixels.flatten(1))
    assert ours.y_test.tolist() == [theirs[i][1] for i in range(10)]


def test_class_names_are_torchvisions():
    assert NAMED["fashion-mnist"].classes == tuple(torchvision.datasets.FashionMNIST.classes)
    assert NAMED["kmnist"].classes == tuple(torchvision.datasets.KMNIST.classes)
    assert NAMED["emnist"].classes == tuple(torchvision.datasets.EMNIST.classes_split_dict["balanced"])


@pytest.mark.parametrize("name", NAMED)
def test_what_is_missing_is_explained_with_the_way_by_hand(root, name):
    with pytest.raises(DataError, match=r"VAE_OFFLINE forbids downloads\. By hand: put .* into .* \(http"):
        load_images(name)
    assert list(root.iterdir()) == []


def test_files_of_another_kind_are_refused(root):
    write_set(root, "kmnist")
    write_idx(root / "KMNIST/raw/t10k-images-idx3-ubyte", noise(10, 27, 28))
    with pytest.raises(DataError, match=r"hold images \(10, 27, 28\) .*expected \(28, 28\)"):
        load_images("kmnist")
    write_set(root, "kmnist")
    write_idx(root / "KMNIST/raw/t10k-labels-idx1-ubyte", np.full(10, 10, np.uint8))
    with pytest.raises(DataError, match="labels 0 to 9"):
        load_images("kmnist")
    (root / "KMNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"cut")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is no whole idx file"):
        load_images("kmnist")


def test_what_is_fetched_is_renamed_into_place(root, monkeypatch):
    monkeypatch.delenv("VAE_OFFLINE")
    folders = []

    def fetch(self):
        folders.append(self.raw_folder)
        write_set(Path(self.root), "fashion-mnist")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST.download", fetch)
    assert len(load_images("fashion-mnist").x_train) == 20
    assert len(load_images("fashion-mnist").x_train) == 20
    assert len(folders) == 1  # fetched once
    assert not os.path.exists(folders[0])
    assert [path.name for path in root.iterdir()] == ["FashionMNIST"]


def test_a_failed_fetch_says_why_and_leaves_nothing(root, monkeypatch):
    monkeypatch.delenv("VAE_OFFLINE")

    def fetch(self):
        write_set(Path(self.root), "kmnist")
        raise ConnectionResetError("the host hung up\nmore")

    monkeypatch.setattr("torchvision.datasets.KMNIST.download", fetch)
    with pytest.raises(DataError, match=r"KMNIST cannot be fetched \(the host hung up\)\. By hand: put KMNIST/raw/"):
        load_images("kmnist")
    assert list(root.iterdir()) == []


# ---- the other formats


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_usps(root, monkeypatch):
    (root / "USPS").mkdir()
    lists = {}
    for split, name, n in (("train", "usps.bz2", 20), ("test", "usps.t.bz2", 10)):
        values = np.linspace(-1, 1, 256)
        lines = [f"{i % 10 + 1} " + " ".join(f"{k + 1}:{v:.4f}" for k, v in enumerate(values)) for i in range(n)]
        (root / "USPS" / name).write_bytes(bz2.compress("\n".join(lines).encode()))
        lists[split] = ["http://nowhere", name, md5(root / "USPS" / name)]
    monkeypatch.setattr("torchvision.datasets.USPS.split_list", lists)


def test_usps(root, monkeypatch):
    write_usps(root, monkeypatch)
    images = load_images("usps")
    assert (images.shape, images.n_classes) == known_spec("usps")
    assert (len(images.x_train), len(images.x_test)) == (20, 10)
    assert images.y_test.tolist() == list(range(10))
    assert (images.x_train[0, 0].item(), images.x_train[0, -1].item()) == (0, 255)
    (root / "USPS" / "usps.bz2").write_bytes(bz2.compress(b"1 1:0"))
    with pytest.raises(DataError, match=r"usps\.bz2 is damaged or another file"):
        load_images("usps")


def test_svhn(root, monkeypatch):
    (root / "SVHN").mkdir()
    lists = {}
    for split, n in (("train", 20), ("test", 10)):
        path = root / "SVHN" / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": noise(32, 32, 3, n), "y": (np.arange(n) % 10 + 1).reshape(-1, 1).astype(np.uint8)})
        lists[split] = ["http://nowhere", path.name, md5(path)]
    monkeypatch.setattr("torchvision.datasets.SVHN.split_list", lists)
    images = load_images("svhn")
    assert (images.shape, images.n_classes) == known_spec("svhn")
    assert torch.equal(
        images.x_test, torch.from_numpy(noise(32, 32, 3, 10).transpose(3, 2, 0, 1).reshape(10, -1).copy())
    )
    assert images.y_test.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]  # their ten is a zero
    (root / "SVHN" / "test_32x32.mat").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"SVHN cannot be read \(Dataset not found or corrupted"):
        load_images("svhn")


def write_cifar(root, monkeypatch, content=None):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(exist_ok=True)
    lists = []
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        batch = {
            "data": noise(10, 3072, seed=i),
            "labels": list(range(10)),
            "batch_label": name,
            "filenames": ["a.png"],
        }
        (folder / name).write_bytes(pickle.dumps(batch if content is None else content, protocol=2))
        lists.append([name, md5(folder / name)])
    monkeypatch.setattr("torchvision.datasets.CIFAR10.train_list", lists[:5])
    monkeypatch.setattr("torchvision.datasets.CIFAR10.test_list", lists[5:])
    return folder


def test_cifar10(root, monkeypatch):
    folder = write_cifar(root, monkeypatch)
    images = load_images("cifar10")
    assert (images.shape, images.n_classes) == known_spec("cifar10")
    assert (len(images.x_train), len(images.x_test)) == (50, 10)
    assert torch.equal(images.x_test, torch.from_numpy(noise(10, 3072, seed=5)))
    assert images.classes[3] == "cat"
    grey = load_images("cifar10", channels=1, size=(16, 16))
    assert grey.shape == (16, 16)
    with (folder / "data_batch_2").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="data_batch_2 is damaged or another file: its md5 is not"):
        load_images("cifar10")


class Code:
    def __reduce__(self):
        return (print, ("code was run",))


@pytest.mark.parametrize(
    "content", [Code(), {"data": Code(), "labels": []}, [], {"labels": [1]}, {"data": 1, "labels": 2}]
)
def test_nothing_but_plain_arrays_is_made_of_pickled_files(root, monkeypatch, capsys, content):
    """Even if their md5 were right."""
    write_cifar(root, monkeypatch, content)
    with pytest.raises(DataError, match=r"data_batch_1 holds more than plain arrays .* and was not read"):
        load_images("cifar10")
    assert "code was run" not in capsys.readouterr().out


def write_omniglot(root):
    for half, alphabets in (("images_background", ("Greek", "Latin")), ("images_evaluation", ("Tibetan",))):
        for alphabet in alphabets:
            for character in ("character01", "character02"):
                for i in range(20):
                    pixels = np.full((105, 105), 255, np.uint8)
                    pixels[i : i + 5] = 0  # black strokes
                    path = root / "omniglot-py" / half / alphabet / character / f"{i:04}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).convert("1").save(path)


def test_omniglot_is_split_within_each_character(root):
    write_omniglot(root)
    images = load_images("omniglot")
    assert images.shape == known_spec("omniglot")[0]
    assert images.y_test.bincount().tolist() == [2] * 6
    assert images.y_train.bincount().tolist() == [18] * 6
    assert images.x_train.float().mean() < 20  # strokes are white here
    assert load_images("omniglot", split_seed=1).fingerprint != images.fingerprint
    assert load_images("omniglot").fingerprint == images.fingerprint


def test_omniglot_without_pictures_is_refused(root):
    write_omniglot(root)
    for path in (root / "omniglot-py/images_evaluation/Tibetan/character02").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="is not whole"):
        load_images("omniglot")


def test_known_specs_of_all_names():
    expected = {
        "fashion-mnist": ((28, 28), 10), "kmnist": ((28, 28), 10), "qmnist": ((28, 28), 10), "emnist": ((28, 28), 47),
        "usps": ((16, 16), 10), "cifar10": ((3, 32, 32), 10), "svhn": ((3, 32, 32), 10), "omniglot": ((105, 105), 1623),
    }  # fmt: skip
    assert {name: known_spec(name) for name in named.NAMED} == expected
