"""Images of two values kept one bit a pixel, in a file that is mapped into memory; never unpickled."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid, FactorImages
from vae_helpers.data.files import DataError, make_writable
from vae_helpers.data.writing import allocate, locked, sync, temporary


def stored(path: Path, *, name: str, source: str, grid: FactorGrid, shape: tuple[int, int, int]) -> FactorImages:
    """Images that `unpack` wrote.

    Args:
        path: the file. name, source: as `FactorImages`. grid, shape: what it must hold.

    Raises:
        DataError: if it cannot be read or is of another shape.
    """
    try:
        rows = np.load(path, mmap_mode="c", allow_pickle=False)  # copy on write, which torch wants
    except Exception as error:  # numpy raises many kinds for damaged heads
        raise DataError(f"{path} cannot be read ({error}). Delete it to have it made again.") from None
    expected = (grid.n_images, math.prod(shape) // 8)
    if rows.shape != expected or rows.dtype != np.uint8:
        raise DataError(
            f"{path} holds {rows.dtype} {rows.shape}, expected uint8 {expected}. Delete it to have it made again."
        )

    if not rows[np.linspace(0, len(rows) - 1, 1024).astype(np.int64)].any():
        raise DataError(f"{path} holds nothing but zeros, as after a power cut. Delete it to have it made again.")

    packed = torch.from_numpy(rows)  # still mapped

    @cache
    def on(device: torch.device) -> tuple[Tensor, Tensor]:
        """The rows and the bits of a byte; a copy on another device, where a captured step cannot reach this one."""
        return packed.to(device), torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)

    def read(classes: Tensor) -> Tensor:
        rows, bits = on(classes.device)
        return (rows[grid.ravel(classes)][..., None] & bits).ne(0).flatten(1).to(torch.uint8)

    return FactorImages(name, source, shape, grid, read, white=1)


def unpack(path: Path, target: Path, *, grid: FactorGrid, shape: tuple[int, int], md5: str | None = None) -> None:
    """Write the images of an npz archive to ``target``, one bit a pixel, piece by piece.

    Args:
        path: npz with ``imgs`` (n_images, H, W) uint8 in {0, 1} and ``latents_classes`` (n_images, F) in grid order;
            any other member is left alone. target: npy of (n_images, H*W/8) uint8. grid: of the images.
        shape: (H, W). md5: of the archive; None for any.

    Raises:
        DataError: if the archive is damaged, has another hash, or holds something else; nothing is written then.
    """
    way_out = "Delete it to have it fetched again, or put a good copy there."
    if md5 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise DataError(f"{path} has md5 {found}, expected {md5}: damaged or another file. {way_out}")
    make_writable(target.parent)
    try:
        with locked(target), temporary(target) as partial:
            if not target.exists():  # or another process has made it meanwhile
                _unpack(path, partial, grid=grid, shape=shape)
                os.replace(partial, target)
    except OSError as error:
        raise DataError(
            f"{path} cannot be unpacked to {target}: {error}. Free some space, or set VAE_DATA to another folder."
        ) from None
    except Exception as error:  # zipfile and numpy raise many kinds for damaged archives
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise DataError(f"{path} is no archive of these images: {reason}. {way_out}") from None


def _unpack(path: Path, partial: Path, *, grid: FactorGrid, shape: tuple[int, int]) -> None:
    with zipfile.ZipFile(path) as archive:
        with archive.open("latents_classes.npy") as member:
            dtype, found_shape = _header(member, "latents_classes")
            if found_shape != (grid.n_images, len(grid.sizes)):
                raise ValueError(f"latents_classes is {found_shape}, expected {(grid.n_images, len(grid.sizes))}")
            n_bytes = grid.n_images * len(grid.sizes) * dtype.itemsize
            classes = np.frombuffer(member.read(n_bytes), dtype).reshape(found_shape)
        if not np.array_equal(classes, grid.classes_of(torch.arange(grid.n_images)).numpy()):
            raise ValueError("latents_classes is not in grid order (last factor fastest)")
        with archive.open("imgs.npy") as member, partial.open("wb") as file:
            dtype, found_shape = _header(member, "imgs")
            if found_shape != (grid.n_images, *shape) or dtype != np.uint8:
                raise ValueError(f"imgs is {dtype} {found_shape}, expected uint8 {(grid.n_images, *shape)}")
            allocate(file, grid.n_images * math.prod(shape) // 8)
            _pack(member, file, n_images=grid.n_images, n_pixels=math.prod(shape))
            sync(file)


def _header(member: IO[bytes], name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """dtype and shape of a npy member; the file stands at its data afterwards."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(member)
    if dtype.hasobject:
        raise ValueError(f"{name} is pickled Python objects, which are not loaded")
    if fortran_order:
        raise ValueError(f"{name} is in Fortran order")
    return dtype, shape


def _pack(member: IO[bytes], file: IO[bytes], *, n_images: int, n_pixels: int, at_once: int = 4096) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (n_images, n_pixels // 8)}
    )
    for start in range(0, n_images, at_once):
        n = min(at_once, n_images - start)
        content = member.read(n * n_pixels)
        if len(content) != n * n_pixels:
            raise ValueError(f"imgs ends after {start + len(content) // n_pixels} images")
        pixels = np.frombuffer(content, np.uint8).reshape(n, n_pixels)
        if pixels.max() > 1:
            raise ValueError(f"imgs has the pixel value {pixels.max()}, expected 0 and 1")
        file.write(np.packbits(pixels, axis=1).tobytes())
