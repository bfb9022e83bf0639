"""Arrays of images made into a data set: labels checked, a split drawn, one size and number of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.arrays import Stack
from vae_helpers.data.files import DataError
from vae_helpers.data.fitting import fit_block, shape_of, split_rows
from vae_helpers.data.splits import Images
from vae_helpers.data.store import AT_ONCE, open_pack, pack, pack_path

IN_MEMORY = 2**28  # bytes of pixels up to which they are kept in memory, not in a file


def assemble(
    train: Stack,
    y_train: Any,
    test: Stack | None,
    y_test: Any,
    *,
    name: str,
    files: Sequence[Path],
    size: tuple[int, int] | None,
    channels: int | None,
    test_share: float,
    split_seed: int,
) -> Images:
    """`Images` of arrays: in memory, or kept in a mapped file if they are many.

    Args:
        train, y_train: images, and their labels, numbers or words (N,), or None. test, y_test: the same, or None
            to hold a share of the others out. name: of the set. files: it came from. The rest as `own.load_images`.

    Raises:
        DataError: if parts do not fit together, or a value is out of range.
    """
    parts = [(train, y_train)] if test is None else [(train, y_train), (test, y_test)]
    classes, labels = _labels(parts)
    if test is not None and (train.size, train.channels) != (test.size, test.channels) and None in (size, channels):
        raise DataError(
            f"{train.what} and {test.what} differ in size or channels: {train.size}, {train.channels} and {test.size}, "
            f"{test.channels}; choose both, size=(height, width) and channels (--size HxW --channels 1)"
        )
    stacks, size, channels = [stack for stack, _ in parts], size or train.size, channels or train.channels
    shape = shape_of(size, channels)
    if test is None:
        index = split_rows(len(train), labels[0], test_share=test_share, split_seed=split_seed, what=train.what)
        sources, labels = [train, train], [None if labels[0] is None else labels[0][rows] for rows in index]
    else:
        index, sources = (np.arange(len(train)), np.arange(len(test))), stacks

    def rows(start: int, stop: int) -> np.ndarray:
        """Images start to stop of both splits after each other."""
        n = len(index[0])
        picked = (index[0][start:stop], index[1][max(0, start - n) : max(0, stop - n)])
        blocks = [
            fit_block(source.take(part), size, channels)
            for source, part in zip(sources, picked, strict=True)
            if len(part)
        ]
        return np.concatenate(blocks)

    n_train, n_test = len(index[0]), len(index[1])
    x_train, x_test, hashes = _made(rows, n_train, n_test, shape, name, files, [split_seed, test_share, test is None])
    y = [torch.empty(0, dtype=torch.int64) if part is None else torch.from_numpy(part) for part in labels]
    source = f"{n_train:,} train and {n_test:,} test images of {', '.join(path.name for path in files)}"
    images = Images(name, source, shape, x_train, x_test, y[0], y[1], classes)
    return images.with_pixel_hashes(*hashes) if hashes else images


def _made(
    rows: Callable[[int, int], np.ndarray],
    n_train: int,
    n_test: int,
    shape: tuple[int, ...],
    name: str,
    files: Sequence[Path],
    settings: list[Any],
) -> tuple[Tensor, Tensor, tuple[str, str] | None]:
    n, n_pixels = n_train + n_test, int(np.prod(shape))
    if n * n_pixels <= IN_MEMORY:
        pixels = np.empty((n, n_pixels), np.uint8)
        for start in range(0, n, AT_ONCE):
            pixels[start : start + AT_ONCE] = rows(start, min(start + AT_ONCE, n))
        x = torch.from_numpy(pixels)
        return x[:n_train], x[n_train:], None
    stats = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    target = pack_path(name, [stats, list(shape), *settings])
    kept = open_pack(target) or pack(target, shape=shape, n_train=n_train, n_test=n_test, rows=rows, name=name)
    return kept.x_train, kept.x_test, kept.hashes


def _labels(parts: Sequence[tuple[Stack, Any]]) -> tuple[tuple[str, ...], list[np.ndarray | None]]:
    """Class names in order, and labels 0 to K - 1 of every part."""
    if parts[0][1] is None:
        return (), [None] * len(parts)
    flat = []
    for stack, y in parts:
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1 or len(y) != len(stack):
            raise DataError(
                f"{stack.what}: {len(stack):,} images, but the labels are of shape {y.shape}; give each image one"
            )
        if y.dtype.kind not in "iubU":
            raise DataError(f"the labels of {stack.what} are of type {y.dtype}; they must be whole numbers or words")
        flat.append(y)
    names, number = np.unique(np.concatenate(flat), return_inverse=True)
    split = np.split(number.astype(np.int64).reshape(-1), [len(flat[0])])
    return tuple(str(name) for name in names), list(split[: len(parts)])
