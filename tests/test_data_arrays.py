"""Images in .npy, .npz and idx files: layouts, types, labels, splits, and files that cannot be used."""

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae_helpers.data import DataError, FactorGrid, arrays, assembly, load_images, store
from vae_helpers.data.idx import read_idx
from vae_helpers.data.packed import stored


@pytest.fixture(autouse=True)
def data_root(tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("root")
    monkeypatch.setenv("VAE_DATA", str(root))
    monkeypatch.setenv("VAE_OFFLINE", "1")
    return root


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path, array):
    np.save(path, array)
    return path


def archive(path, **members):
    np.savez(path, **members)
    return path


def rows_of(images):
    """Both splits as a set of rows: what is there, whatever the order."""
    return {tuple(row) for row in torch.cat([images.x_train, images.x_test]).tolist()}


def refused(path, match, **options):
    with pytest.raises(DataError, match=match) as error:
        load_images(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- npy


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (noise(20, 6, 5), (6, 5)),
        (noise(20, 6, 5, 1), (6, 5)),
        (noise(20, 1, 6, 5), (6, 5)),
        (noise(20, 6, 5, 3), (3, 6, 5)),
        (noise(20, 3, 6, 5), (3, 6, 5)),
        (np.asfortranarray(noise(20, 6, 5)), (6, 5)),
    ],
    ids=["NHW", "NHW1", "N1HW", "NHW3", "N3HW", "Fortran"],
)
def test_every_layout_gives_the_same_rows(tmp_path, array, shape):
    images = load_images(saved(tmp_path / "set.npy", array))
    assert (images.name, images.shape, len(images.x_train), len(images.x_test)) == ("set", shape, 18, 2)
    planar = array.transpose(0, 3, 1, 2) if array.shape[1:] == (6, 5, 3) else array
    assert rows_of(images) == {tuple(row) for row in planar.reshape(20, -1).tolist()}
    assert images.source == "18 train and 2 test images of set.npy"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_fractions_become_bytes(tmp_path, dtype):
    array = noise(20, 4, 4)
    images = load_images(saved(tmp_path / "set.npy", (array / 255).astype(dtype)))
    assert rows_of(images) == {tuple(row) for row in array.reshape(20, -1).tolist()}


def test_truth_values_are_black_and_white(tmp_path):
    images = load_images(saved(tmp_path / "set.npy", noise(20, 4, 4) > 127))
    assert images.x_train.unique().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (noise(4, 5), r"is of shape \(4, 5\)"),
        (noise(4, 5, 5, 2), r"is of shape \(4, 5, 5, 2\)"),
        (noise(4, 3, 5, 3), "the channels may be the second or the last"),
        (noise(4, 5, 0), "which has no pixel"),
        (noise(4, 2, 2, 2, 2), "is of shape"),
        (noise(4, 5, 5).astype(np.int64), "is of type int64"),
        (noise(4, 5, 5).astype(complex), "is of type complex128"),
        (np.array(["word"] * 4), "is of type <U4"),
        (noise(4, 5, 5) // 255 | 1, "holds only 0 and 1 as uint8"),
        (np.full((4, 5, 5), 1.5), r"has the value 1.5 in image \d; floats must lie between 0 and 1"),
        (np.full((4, 5, 5), -0.1), "has the value -0.1"),
        (np.full((4, 5, 5), np.nan), "has the value nan"),
        (np.full((4, 5, 5), np.inf), "has the value inf"),
        (np.full((4, 5, 5), 200.0), "divide by the largest value"),
        (noise(1, 5, 5), "too few images to hold some out for a test: 1 in all"),
        (noise(0, 5, 5), "set.npy"),
    ],
    ids=str,
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, message):
    assert "set.npy" in refused(saved(tmp_path / "set.npy", array), message)


def test_the_image_with_the_wrong_value_is_named(tmp_path):
    array = np.zeros((300, 2, 2))
    array[217, 1, 0] = np.nan
    refused(saved(tmp_path / "set.npy", array), "has the value nan in image 217")


def test_pickled_arrays_are_never_unpickled(tmp_path):
    class Bad:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    np.save(tmp_path / "set.npy", np.array([Bad()], dtype=object), allow_pickle=True)
    refused(tmp_path / "set.npy", r"cannot be read as \.npy")
    archive(tmp_path / "set.npz", images=np.array([Bad()], dtype=object))
    refused(tmp_path / "set.npz", "pickled Python objects, which are not loaded")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "more claimed", "head"])
def test_damaged_files_are_refused_unread(tmp_path, damage):
    path = saved(tmp_path / "set.npy", noise(40, 5, 5))
    content = path.read_bytes()
    claimed = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        claimed, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000)}
    )
    damaged = {
        "cut": content[:300],
        "empty": b"",
        "text": b"no array",
        "head": content.replace(b"(40,", b"<40,"),
        "more claimed": claimed.getvalue(),
    }
    path.write_bytes(damaged[damage])
    refused(path, r"set\.npy cannot be read as \.npy")


def test_arrays_are_resized_and_recoloured_as_pictures_are(tmp_path):
    array = noise(20, 12, 16, 3)
    path = saved(tmp_path / "set.npy", array)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(array[i]).save(folder / f"{i}.png")
    for options in ({}, {"size": (6, 4)}, {"size": (30, 30)}, {"channels": 1}, {"size": (5, 9), "channels": 1}):
        one, other = load_images(path, **options), load_images(folder, **options)
        assert one.shape == other.shape
        assert one.fingerprint == other.fingerprint


def test_large_arrays_are_kept_in_a_mapped_file_with_the_same_content(tmp_path, monkeypatch, data_root):
    path = saved(tmp_path / "set.npy", noise(700, 6, 5) / 255)
    small = load_images(path)
    assert not (data_root / "packed").exists()
    monkeypatch.setattr(assembly, "IN_MEMORY", 1000)
    large = load_images(path)
    assert large.fingerprint == small.fingerprint
    assert torch.equal(large.x_train, small.x_train)
    monkeypatch.setattr(arrays.Stack, "take", lambda self, index: pytest.fail("read again"))
    again = load_images(path)
    assert again.fingerprint == small.fingerprint
    assert torch.equal(again.x_test, small.x_test)


def test_a_wrong_value_in_a_large_array_leaves_nothing(tmp_path, monkeypatch, data_root):
    monkeypatch.setattr(assembly, "IN_MEMORY", 1000)
    refused(saved(tmp_path / "set.npy", np.full((700, 6, 5), 2.0)), "has the value 2")
    assert list((data_root / "packed").iterdir()) == []


# ---- npz


def test_labels_are_found_and_split_by_class(tmp_path):
    y = np.repeat([3, 7], [40, 10])
    x = noise(50, 4, 4)
    x[:, 0, 0] = y
    images = load_images(archive(tmp_path / "set.npz", pictures=x, kinds=y))
    assert images.classes == ("3", "7")
    assert images.y_test.bincount().tolist() == [4, 1]
    assert torch.equal(images.x_train[:, 0] == 7, images.y_train == 1)


def test_labels_may_be_words_or_a_column(tmp_path):
    x = noise(6, 4, 4)
    words = load_images(archive(tmp_path / "a.npz", images=x, labels=np.array(["dog", "cat"] * 3)))
    assert words.classes == ("cat", "dog")
    column = load_images(archive(tmp_path / "b.npz", images=x, labels=np.array([[1], [0]] * 3)))
    assert torch.equal(column.y_train, words.y_train)


@pytest.mark.parametrize("names", arrays.SPLIT_NAMES)
def test_a_split_in_the_archive_is_kept(tmp_path, names):
    x, y = noise(30, 4, 4), np.arange(30) % 10
    parts = dict(zip(names, (x[:20], y[:20], x[20:], y[20:]), strict=True))
    images = load_images(archive(tmp_path / "set.npz", **parts, val_images=x[:5]))
    assert torch.equal(images.x_train, torch.from_numpy(x[:20].reshape(20, 16)))
    assert torch.equal(images.y_test, torch.arange(10))
    assert images.n_classes == 10


def test_other_members_do_no_harm(tmp_path):
    x = noise(20, 4, 4)
    images = load_images(archive(tmp_path / "set.npz", images=x, mask=x[:3] > 3, names=np.array([{}], dtype=object)))
    assert len(images.x_train) == 18
    assert images.n_classes == 0


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": noise(4, 5, 5), "b": noise(4, 5, 5)}, "more than one member .*: a uint8 .*, b uint8 .* Name one"),
        ({"a": noise(4, 5)}, r"no member that may be the images: a uint8 \(4, 5\)"),
        ({}, "no member that may be the images: nothing"),
        ({"images": noise(9, 5, 5), "labels": np.arange(8)}, r"9 images, but the labels are of shape \(8,\)"),
        ({"images": noise(9, 5, 5), "labels": np.ones((9, 10), int)}, r"the labels are of shape \(9, 10\)"),
        ({"images": noise(9, 5, 5), "labels": np.ones(9)}, "are of type float64"),
        ({"images": noise(9, 5, 5), "a": np.arange(9), "b": np.arange(9)}, "more than one .* be the labels"),
        ({"images": noise(9, 5, 5), "y": np.arange(9), "labels": np.arange(9)}, "more than one .* the labels"),
        ({"x_train": noise(9, 5, 5)}, "only one of x_train and x_test"),
        ({"x_train": noise(9, 5, 5), "x_test": noise(2, 5, 5), "y_test": np.arange(2)}, "only one of y_train and"),
        ({"x_train": noise(9, 5, 5), "x_test": noise(2, 5, 4)}, "differ in size or channels"),
        ({"x_train": noise(9, 5, 5), "x_test": noise(0, 5, 5)}, "no pixel"),
        ({"images": noise(9, 5, 5, 2)}, r"is of shape \(9, 5, 5, 2\)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_archives_that_are_not_clear_are_refused(tmp_path, members, message):
    assert "set.npz" in refused(archive(tmp_path / "set.npz", **members), message)


def bomb(path, *, declared, content, repeat=1):
    """An archive whose member declares a shape and holds other bytes, well packed."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": declared})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(head.getvalue())
        for _ in range(repeat):
            member.write(content)
    return path


def test_zip_bombs_are_refused_unread(tmp_path, monkeypatch):
    path = bomb(tmp_path / "set.npz", declared=(320, 1000, 1000), content=bytes(10**7), repeat=32)
    assert path.stat().st_size < 10**6
    read = zipfile.ZipExtFile.read
    most = []
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: most.append(n) or read(self, n))
    refused(path, r"would take 320,000,000 bytes of memory, packed [\d,]+\. Save such an array as \.npy")
    assert 0 <= min(most) <= max(most) < 10_000


@pytest.mark.parametrize("declared", [(10**9, 10**6, 10**6), (5, 5, 5), (2, 5, 5), (-3, 5, 5)])
def test_a_member_that_declares_another_size_is_refused(tmp_path, declared):
    refused(bomb(tmp_path / "set.npz", declared=declared, content=bytes(100)), "images .*")


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5])
def test_damaged_archives_are_refused(tmp_path, keep):
    path = archive(tmp_path / "set.npz", images=noise(40, 8, 8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else keep])
    refused(path, r"set\.npz cannot be read as \.npz")


def test_a_flipped_bit_in_an_archive_is_found(tmp_path):
    path = archive(tmp_path / "set.npz", images=noise(40, 8, 8))
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    refused(path, r"cannot be read as \.npz \(Bad CRC")


# ---- idx


def idx(array, *, kind=8, shape=None):
    shape = array.shape if shape is None else shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + array.tobytes()


def write_idx(folder, *, packed=False, n=(30, 10), prefix="", names=("train", "t10k")):
    folder.mkdir(exist_ok=True)
    x, y = noise(sum(n), 6, 5), (np.arange(sum(n)) % 4).astype(np.uint8)
    for part, name in ((slice(0, n[0]), names[0]), (slice(n[0], None), names[1])):
        for tail, content in (("images-idx3", idx(x[part])), ("labels-idx1", idx(y[part]))):
            path = folder / f"{prefix}{name}-{tail}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return x, y


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("prefix", "names"), [("", ("train", "t10k")), ("emnist-digits-", ("train", "test"))])
def test_a_folder_of_idx_files_is_a_set_with_its_split(tmp_path, packed, prefix, names):
    x, y = write_idx(tmp_path / "set", packed=packed, prefix=prefix, names=names)
    images = load_images(tmp_path / "set")
    assert images.shape == (6, 5)
    assert torch.equal(images.x_train, torch.from_numpy(x[:30].reshape(30, 30)))
    assert torch.equal(images.y_test, torch.from_numpy(y[30:].astype(np.int64)))
    assert images.classes == ("0", "1", "2", "3")
    same = archive(tmp_path / "same.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    assert images.fingerprint == load_images(same).fingerprint


def test_one_file_of_images_takes_the_labels_beside_it(tmp_path):
    write_idx(tmp_path / "set")
    images = load_images(tmp_path / "set" / "train-images-idx3-ubyte")
    assert (len(images.x_train), len(images.x_test), images.n_classes) == (26, 4, 4)
    (tmp_path / "set" / "train-labels-idx1-ubyte").unlink()
    assert load_images(tmp_path / "set" / "train-images-idx3-ubyte").n_classes == 0
    refused(tmp_path / "set", "labels of only one of its two splits")


def test_a_folder_with_training_files_alone_holds_a_share_out(tmp_path):
    write_idx(tmp_path / "set")
    for path in (tmp_path / "set").glob("t10k*"):
        path.unlink()
    assert len(load_images(tmp_path / "set").x_test) == 4


def test_it_must_be_clear_which_idx_files_are_meant(tmp_path):
    write_idx(tmp_path / "set", prefix="a-")
    write_idx(tmp_path / "set", prefix="b-")
    refused(tmp_path / "set", "found a-t10k-images-idx3-ubyte, .*Name one file")
    assert load_images(tmp_path / "set" / "a-train-images-idx3-ubyte").shape == (6, 5)
    refused(tmp_path / "set" / "a-train-labels-idx1-ubyte", "holds no images by its name")


BAD_IDX = {
    "magic": b"\1" + idx(noise(4, 5, 5))[1:],
    "type": idx(noise(4, 5, 5), kind=0x0D),
    "dimensions": idx(noise(4, 25)),
    "more declared": idx(noise(4, 5, 5), shape=(5, 5, 5)),
    "fewer declared": idx(noise(4, 5, 5), shape=(3, 5, 5)),
    "vast": idx(noise(4, 5, 5), shape=(2**32 - 1, 2**32 - 1, 2**32 - 1)),
    "cut": idx(noise(4, 5, 5))[:9],
    "empty": b"",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", BAD_IDX)
def test_damaged_idx_files_are_named(tmp_path, damage, packed):
    path = tmp_path / f"a-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(BAD_IDX[damage]) if packed else BAD_IDX[damage])
    refused(path, rf"{path.name} is no whole idx file: it (starts with|declares)")


def test_damaged_gzip_files_are_named(tmp_path):
    path = tmp_path / "a-images-idx3-ubyte.gz"
    whole = gzip.compress(idx(noise(4, 5, 5)))
    for content in (b"", b"no gzip", whole[:40], whole[:-6] + b"wrong!"):
        path.write_bytes(content)
        refused(path, r"is no whole idx file: ")


def test_a_packed_file_that_declares_more_than_it_can_hold_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(noise(1, 1, 1), shape=(1000, 1000, 1000))))
    read = gzip.GzipFile.read
    most = []
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n=-1: most.append(n) or read(self, n))
    refused(path, "it declares 1000 x 1000 x 1000 values")
    assert max(most) <= 12


def test_four_byte_numbers_are_read_as_qmnist_writes_them(tmp_path):
    y = np.array([[7, 1], [300, -5]], ">i4")
    path = tmp_path / "qmnist-test-labels-idx2-int"
    path.write_bytes(idx(y, kind=0x0C))
    assert read_idx(path, ndim=2).tolist() == y.tolist()


def test_another_length_of_labels_is_refused(tmp_path):
    write_idx(tmp_path / "set")
    (tmp_path / "set" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(9, np.uint8)))
    refused(tmp_path / "set", r"t10k-images-idx3-ubyte: 10 images, but the labels are of shape \(9,\)")


# ---- kept pixels


def pack(path, n=(700, 20), *, rows=None, shape=(4, 5)):
    pixels = noise(sum(n), 20)
    return pixels, store.pack(
        path, shape=shape, n_train=n[0], n_test=n[1], rows=rows or (lambda start, stop: pixels[start:stop]), name="test"
    )


def test_kept_pixels_are_mapped_and_hashed(tmp_path):
    path = tmp_path / "kept.npy"
    pixels, kept = pack(path)
    assert torch.equal(torch.cat([kept.x_train, kept.x_test]), torch.from_numpy(pixels))
    assert kept.hashes == tuple(
        store.hashlib.sha256(part.tobytes()).hexdigest() for part in (pixels[:700], pixels[700:])
    )
    assert sorted(found.name for found in tmp_path.iterdir()) == ["kept.json", "kept.npy"]
    found = store.open_pack(path)
    assert found.hashes == kept.hashes
    assert found.shape == (4, 5)


@pytest.mark.parametrize(
    "damage",
    ["cut", "longer", "no record", "half a record", "a list", "another shape", "no numbers", "no hash", "text"],
)
def test_damaged_kept_pixels_are_made_again(tmp_path, damage):
    path = tmp_path / "kept.npy"
    pixels, _ = pack(path)
    record, content = path.with_suffix(".json"), path.read_bytes()
    values = json.loads(record.read_text())
    change = {
        "cut": lambda: path.write_bytes(content[:-1]),
        "longer": lambda: path.write_bytes(content + b"x"),
        "text": lambda: path.write_bytes(b"text"),
        "no record": record.unlink,
        "half a record": lambda: record.write_text(record.read_text()[:20]),
        "a list": lambda: record.write_text("[]"),
        "another shape": lambda: record.write_text(json.dumps(values | {"shape": [5, 5]})),
        "no numbers": lambda: record.write_text(json.dumps(values | {"n_train": "700"})),
        "no hash": lambda: record.write_text(json.dumps(values | {"sha256": ["a", "b"]})),
    }
    change[damage]()
    assert store.open_pack(path) is None
    _, again = pack(path)
    assert torch.equal(again.x_train, torch.from_numpy(pixels[:700]))


@pytest.mark.parametrize("stop_at", [100, 300, 710])
def test_a_killed_process_is_gone_on_from(tmp_path, monkeypatch, stop_at):
    """The pixels, their hashes and the record are those of a process that was not killed."""
    monkeypatch.setattr(store, "AT_ONCE", 16)
    monkeypatch.setattr(store, "SAVE_EVERY", 64)
    whole = pack(tmp_path / "whole.npy")[1]
    pixels, made = noise(720, 20), []

    def killed(start, stop):
        if stop > stop_at:
            raise KeyboardInterrupt
        return pixels[start:stop]

    path = tmp_path / "kept.npy"
    with pytest.raises(KeyboardInterrupt):
        pack(path, rows=killed)
    assert not path.exists()
    _, kept = pack(path, rows=lambda start, stop: made.append(start) or pixels[start:stop])
    assert made[0] == stop_at // 64 * 64
    assert kept.hashes == whole.hashes
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert path.with_suffix(".json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["pixels", "counter", "cut", "too many", "list"])
def test_a_part_that_is_not_as_it_was_is_begun_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(store, "AT_ONCE", 16)
    monkeypatch.setattr(store, "SAVE_EVERY", 64)
    pixels, made = noise(720, 20), []

    def killed(start, stop):
        if stop > 500:
            raise KeyboardInterrupt
        return pixels[start:stop]

    path = tmp_path / "kept.npy"
    with pytest.raises(KeyboardInterrupt):
        pack(path, rows=killed)
    partial, counter = path.with_suffix(".partial"), path.with_suffix(".partial.json")
    content = bytearray(partial.read_bytes())
    saved_counter = json.loads(counter.read_text())
    if damage == "pixels":
        content[1000] ^= 1
        partial.write_bytes(content)
    elif damage == "cut":
        partial.write_bytes(content[:-1])
    elif damage == "counter":
        counter.write_text("{")
    elif damage == "list":
        counter.write_text("[1]")
    else:
        counter.write_text(json.dumps(saved_counter | {"done": 10**6}))
    _, kept = pack(path, rows=lambda start, stop: made.append(start) or pixels[start:stop])
    assert made[0] == 0
    assert torch.equal(torch.cat([kept.x_train, kept.x_test]), torch.from_numpy(pixels))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(file, n_bytes):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "allocate", full)
    with pytest.raises(DataError, match=r"the 0 MB of pixels of test cannot be kept in .*No space left.*set VAE_DATA"):
        pack(tmp_path / "kept.npy")
    assert list(tmp_path.iterdir()) == []


def test_names_of_kept_files_are_plain(data_root):
    path = store.pack_path("мои / ..\\картинки *?", [1])
    assert path.parent == data_root / "packed"
    assert path.name.isascii()
    assert path != store.pack_path("мои / ..\\картинки *?", [2])


def test_packed_dsprites_of_nothing_but_zeros_are_refused(tmp_path):
    """As a power cut leaves a file that was not synced."""
    grid = FactorGrid(("a", "b"), (2, 3))
    np.save(tmp_path / "packed.npy", np.zeros((6, 2), np.uint8))
    with pytest.raises(DataError, match=r"packed\.npy holds nothing but zeros"):
        stored(tmp_path / "packed.npy", name="small", source="a test", grid=grid, shape=(1, 4, 4))
    np.save(tmp_path / "packed.npy", np.ones((6, 2), np.uint8))
    images = stored(tmp_path / "packed.npy", name="small", source="a test", grid=grid, shape=(1, 4, 4))
    assert len(bytes.fromhex(images.fingerprint)) == 32


def test_several_processes_unpack_one_archive_at_once(tmp_path):
    grid = FactorGrid(("a", "b"), (200, 30))
    imgs = noise(6000, 8, 8) & 1
    classes = grid.classes_of(torch.arange(6000)).numpy()
    np.savez_compressed(tmp_path / "a.npz", imgs=imgs, latents_classes=classes)
    code = (
        "import sys; from pathlib import Path; from vae_helpers.data import FactorGrid\n"
        "from vae_helpers.data.packed import unpack\n"
        "folder = Path(sys.argv[1])\n"
        "unpack(folder / 'a.npz', folder / 'p.npy', grid=FactorGrid(('a', 'b'), (200, 30)), shape=(8, 8))"
    )
    here = Path(__file__).parents[1]
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=here) for _ in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "p.npy"]
    assert np.array_equal(np.load(tmp_path / "p.npy"), np.packbits(imgs.reshape(6000, 64), axis=1))


def test_two_processes_pack_one_folder_at_once(tmp_path, data_root):
    for i in range(300):
        Image.fromarray(noise(9, 9, seed=i)).save(tmp_path / f"{i}.png")
    code = "import sys; from vae_helpers.data import load_images; print(load_images(sys.argv[1]).fingerprint)"
    here = Path(__file__).parents[1]
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=here, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {child.communicate(timeout=120)[0].strip() for child in children}
    assert said == {load_images(tmp_path).fingerprint}
    assert len(list((data_root / "packed").iterdir())) == 2
