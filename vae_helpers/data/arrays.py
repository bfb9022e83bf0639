"""Images kept as arrays: .npy, .npz and idx files, never unpickled, their declared sizes checked before reading."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from vae_helpers.data.files import DataError

MEMBER_MAX = 2**31  # bytes of one member of an archive; a .npy file may be of any size, as it is mapped
LARGEST_RATIO = 300  # of a member's size to its packed size, from `SUSPECT` bytes on
SUSPECT = 2**28
LABEL_NAMES = ("labels", "label", "y", "targets", "target")
IMAGE_NAMES = ("images", "imgs", "x", "data", "pictures")
SPLIT_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
WAY_OUT = "Save images as (N, H, W), (N, H, W, 3) or (N, 3, H, W): uint8 from 0 to 255, floats from 0 to 1, or bool."


@dataclass(frozen=True)
class Stack:
    """Images in an array of any of the layouts, mapped or in memory; what they are called in messages."""

    array: Any
    what: str

    def __post_init__(self) -> None:
        if reason := unusable(self.array.shape, self.array.dtype):
            raise DataError(f"{self.what} {reason}. {WAY_OUT}")
        if self.array.dtype == np.uint8 and len(self) and self._largest(probe=True) == 1 == self._largest(probe=False):
            raise DataError(f"{self.what} holds only 0 and 1 as uint8, where 255 is white. Save it as bool. {WAY_OUT}")

    def __len__(self) -> int:
        return int(self.array.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        shape = self.array.shape
        return (shape[2], shape[3]) if self._first else (shape[1], shape[2])

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.array.ndim == 3 else int(self.array.shape[1 if self._first else 3])

    @property
    def _first(self) -> bool:
        return self.array.ndim == 4 and self.array.shape[1] in (1, 3)

    def take(self, index: np.ndarray) -> np.ndarray:
        """Images at ``index``, (n, H, W) or (n, 3, H, W) uint8.

        Raises:
            DataError: for fractions outside 0 to 1 or not a number, naming the image.
        """
        block = np.asarray(self.array[index])
        if block.dtype == np.bool_:
            block = block.astype(np.uint8) * np.uint8(255)
        elif block.dtype != np.uint8:
            good = (block >= 0) & (block <= 1)  # False for NaN
            if not good.all():
                row = int(np.argmin(good.reshape(len(block), -1).all(1)))
                value = block[row][~good[row]].flat[0]
                raise DataError(
                    f"{self.what} has the value {value:g} in image {int(index[row])}; floats must lie between 0 and 1: "
                    "divide by the largest value, or save bytes"
                )
            block = np.rint(block.astype(np.float64) * 255).astype(np.uint8)
        if block.ndim == 4:
            block = block if self._first else block.transpose(0, 3, 1, 2)
            block = block[:, 0] if block.shape[1] == 1 else block
        return block

    def _largest(self, *, probe: bool) -> int:
        step = max(1, len(self) // 1000) if probe else 1
        return max(int(self.array[i : i + step * 1000 : step].max()) for i in range(0, len(self), step * 1000))


def unusable(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why an array of this shape and type holds no images; an empty string if it may."""
    if dtype.hasobject:
        return "is pickled Python objects, which are not loaded"
    if dtype not in (np.uint8, np.bool_) and dtype.kind != "f":
        return f"is of type {dtype}"
    grey, colour = len(shape) == 3, len(shape) == 4
    first, last = colour and shape[1] in (1, 3), colour and shape[3] in (1, 3)
    if not grey and not first and not last:
        return f"is of shape {shape}"
    if first and last:
        return f"is of shape {shape}, where the channels may be the second or the last number"
    return f"is of shape {shape}, which has no pixel" if 0 in shape else ""


def load_npy(path: Path) -> Stack:
    """A .npy file, mapped: nothing of it is read yet.

    Raises:
        DataError: if it is no such file, is cut short, is pickled, or holds no images.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for damaged heads, TokenError and SyntaxError among them
        raise DataError(f"{path} cannot be read as .npy ({_short(error)}). Save it again with numpy.save.") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an .npz archive by its content. Give it a name that ends in .npz.")
    return Stack(array, str(path))


def load_npz(path: Path) -> tuple[Stack, Any, Stack | None, Any]:
    """The images and labels in an archive: training images, labels or None, and the same for testing or None.

    Members x_train, y_train, x_test and y_test (or train_images, train_labels, test_images and test_labels) are the
    splits. Otherwise the images are a member named images, x or data, or the only one of a possible shape and type;
    the labels are a member named labels, y or targets, or the only one of whole numbers or words, one an image.

    Raises:
        DataError: if it cannot be read, or it is not clear which member is meant.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            heads = {}
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        heads[info.filename.removesuffix(".npy")] = _head(member)
            chosen = _choose(heads, path)
            found = [None if name is None else _member(archive, name, *heads[name], path) for name in chosen]
    except Exception as error:  # as in `load_npy`
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as .npz ({_short(error)}). Save it again with numpy.savez.") from None
    train = Stack(found[0], f"{chosen[0]} in {path}")
    test = None if found[2] is None else Stack(found[2], f"{chosen[2]} in {path}")
    return train, found[1], test, found[3]


def _head(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(member)
    return shape, dtype, fortran_order


def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype, fortran: bool, path: Path
) -> np.ndarray:
    if dtype.hasobject:
        raise DataError(f"{name} in {path} is pickled Python objects, which are not loaded. Save it as plain numbers.")
    if min(shape, default=0) < 0:
        raise ValueError(f"{name} declares the shape {shape}")
    info = archive.getinfo(f"{name}.npy")
    n_bytes = dtype.itemsize
    for length in shape:
        n_bytes *= length
    packed = max(1, info.compress_size)
    if n_bytes > MEMBER_MAX or (n_bytes > SUSPECT and n_bytes / packed > LARGEST_RATIO):
        raise DataError(
            f"{name} in {path} would take {n_bytes:,} bytes of memory, packed {packed:,}. "
            "Save such an array as .npy, which is mapped and not read."
        )
    with archive.open(info) as member:
        _head(member)
        content = member.read(n_bytes)
        if len(content) != n_bytes or member.read(1):
            raise ValueError(f"{name} declares {shape} {dtype}, and has another number of bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _choose(heads: dict[str, tuple[tuple[int, ...], np.dtype, bool]], path: Path) -> list[str | None]:
    """Names of the training images, training labels, test images, test labels; None where there are none."""
    listed = ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype, _) in list(heads.items())[:12]) or "nothing"
    for x_train, y_train, x_test, y_test in SPLIT_NAMES:
        if (x_train in heads) != (x_test in heads):
            raise DataError(f"{path} has only one of {x_train} and {x_test}; it needs both. It holds {listed}.")
        if (y_train in heads) != (y_test in heads):
            raise DataError(f"{path} has only one of {y_train} and {y_test}; it needs both. It holds {listed}.")
        if x_train in heads:
            return [x_train, y_train if y_train in heads else None, x_test, y_test if y_test in heads else None]
    images = [name for name, (shape, dtype, _) in heads.items() if not unusable(shape, dtype)]
    named = [name for name in IMAGE_NAMES if name in heads]
    if len(named) == 1:
        images = named
    if len(images) != 1:
        many = "more than one member that may be the images" if images else "no member that may be the images"
        raise DataError(f"{path} holds {many}: {listed}. Name one of them images. {WAY_OUT}")
    n = heads[images[0]][0][:1]
    labels = [name for name in LABEL_NAMES if name in heads]
    if not labels:
        labels = [name for name, (shape, dtype, _) in heads.items() if dtype.kind in "iuU" and shape in (n, (*n, 1))]
    if len(labels) > 1:
        raise DataError(f"{path} holds more than one member that may be the labels: {listed}. Name one labels.")
    return [images[0], labels[0] if labels else None, None, None]


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
