"""Idx files, the format of MNIST, as they are or packed by gzip; the size they declare is checked before reading."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from vae_helpers.data.arrays import MEMBER_MAX, Stack
from vae_helpers.data.files import DataError

NAME = re.compile(r"(?P<head>.*)-(?P<kind>images|labels)[-.]idx\d-(ubyte|int)(\.gz)?", re.IGNORECASE)
TYPES = {0x08: ">u1", 0x0C: ">i4"}  # bytes, and the four-byte numbers of QMNIST's labels
TEST_HEADS = ("t10k", "test")


def is_idx(path: Path) -> bool:
    """True if the name is that of an idx file."""
    return NAME.fullmatch(path.name) is not None


def read_idx(path: Path, *, ndim: int) -> np.ndarray:
    """The array in an idx file.

    Args:
        path: the file, .gz if packed. ndim: how many dimensions it must have.

    Returns:
        the array, of bytes, or int32.

    Raises:
        DataError: if the magic number or the size is not right, before memory is taken.
    """
    packed = path.suffix.lower() == ".gz"
    try:
        on_disk = path.stat().st_size
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or head[3] != ndim:
                raise ValueError(f"it starts with {head.hex(' ')}, not with 00 00 08 {ndim:02x}, the idx magic number")
            sizes = file.read(4 * ndim)
            if len(sizes) < 4 * ndim:
                raise ValueError("it declares no size")
            shape = tuple(int.from_bytes(sizes[4 * i : 4 * i + 4], "big") for i in range(ndim))
            dtype = np.dtype(TYPES[head[2]])
            n_bytes, start = math.prod(shape) * dtype.itemsize, 4 + 4 * ndim
            largest = on_disk * 1032 if packed else on_disk - start  # gzip packs no better than that
            if n_bytes > MEMBER_MAX or n_bytes > largest or (not packed and n_bytes != largest):
                raise ValueError(f"it declares {' x '.join(map(str, shape))} values, but has {on_disk:,} bytes")
            content = file.read(n_bytes)
            if len(content) != n_bytes or file.read(1):
                raise ValueError(f"it declares {' x '.join(map(str, shape))} values, and holds another number")
    except (OSError, ValueError, EOFError, zlib.error, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is no whole idx file: {reason}. Put a good copy there.") from None
    array = np.frombuffer(content, dtype).reshape(shape)
    return array if dtype.itemsize == 1 else array.astype(np.int32)


def load_idx(path: Path) -> tuple[Stack, np.ndarray | None, Stack | None, np.ndarray | None, list[Path]]:
    """A folder of idx files, or one file of images: training images, labels, test images, labels, files read.

    In a folder, train-images-idx3-ubyte are for training, t10k-images-idx3-ubyte or test-images-idx3-ubyte, where they
    are there, for testing. The labels stand beside them under the standard name, or there are none.

    Raises:
        DataError: if it is not clear which files are meant, or one cannot be read.
    """
    if not path.is_dir():
        if (match := NAME.fullmatch(path.name)) is None or match["kind"].lower() != "images":
            raise DataError(f"{path} holds no images by its name. Name the file ...-images-idx3-ubyte or its folder.")
        heads = [path]
    else:
        images: dict[str, Path] = {}
        for found in sorted(path.iterdir(), reverse=True):  # unpacked files last, so that they win
            match = NAME.fullmatch(found.name)
            if match and match["kind"].lower() == "images" and found.is_file():
                images[match["head"]] = found
        train = [head for head in images if head.endswith("train")]
        test = [head for head in images if head.endswith(TEST_HEADS)]
        if len(train) != 1 or len(test) > 1:
            raise DataError(
                f"{path} must hold one train-images-idx3-ubyte and at most one t10k-images-idx3-ubyte or "
                f"test-images-idx3-ubyte, found {', '.join(sorted(p.name for p in images.values()))}. Name one file."
            )
        heads = [images[head] for head in (*train, *test)]
    parts = [(Stack(read_idx(file, ndim=3), str(file)), labels_of(file)) for file in heads]
    labels = [None if beside is None else read_idx(beside, ndim=1) for _, beside in parts]
    if len(parts) == 2 and (labels[0] is None) != (labels[1] is None):
        raise DataError(
            f"{path} has the labels of only one of its two splits. Put the other file there, or remove both."
        )
    files = [file for file in (*heads, *(beside for _, beside in parts)) if file is not None]
    if len(parts) == 1:
        return parts[0][0], labels[0], None, None, files
    return parts[0][0], labels[0], parts[1][0], labels[1], files


def labels_of(images: Path) -> Path | None:
    """The file of labels that belongs to a file of images, or None."""
    for joint in ("-", "."):
        name = re.sub(r"images[-.]idx3-ubyte(\.gz)?$", f"labels{joint}idx1-ubyte", images.name, flags=re.IGNORECASE)
        for beside in (images.with_name(name), images.with_name(f"{name}.gz")):
            if beside.is_file():
                return beside
    return None
