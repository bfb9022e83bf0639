"""Pixels made once and kept in a file that is mapped into memory; where it was cut short, the next call goes on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.files import DataError, data_root, make_writable, user_cache
from vae_helpers.data.writing import allocate, locked, sync, write_whole

FORMAT = 1
AT_ONCE = 256  # images made at a time
SAVE_EVERY = 2048  # images after which a killed process can go on
BAR_FROM = 2000  # images from which a progress bar is shown


@dataclass(frozen=True)
class Pack:
    """Kept pixels: shape of one image, rows of both splits (N, D) uint8, mapped, and the sha256 of each."""

    shape: tuple[int, ...]
    x_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    hashes: tuple[str, str] = field(repr=False)


def pack_path(name: str, what: Any) -> Path:
    """Where the pixels are kept that are determined by ``what`` (plain values): ``data_root()``/packed.

    A data root that cannot be written, as one that a class shares, is left alone: then the user's cache has them.
    """
    root = data_root()
    if root.is_dir() and not os.access(root, os.W_OK | os.X_OK):
        root = user_cache() / "vae_helpers"
    key = hashlib.sha256(json.dumps([FORMAT, what]).encode()).hexdigest()[:24]
    word = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:40] or "images"
    return root / "packed" / f"{word}-{key}.npy"


def open_pack(path: Path) -> Pack | None:
    """The pixels kept at ``path``, or None if they are not there or not whole. Nothing is read but a few bytes."""
    try:
        record_path = path.with_suffix(".json")
        if record_path.stat().st_size > 10_000:
            return None
        record = json.loads(record_path.read_text())
        shape, n_train, n_test = tuple(record["shape"]), record["n_train"], record["n_test"]
        train, test = record["sha256"]
        rows: Any = np.load(path, mmap_mode="c", allow_pickle=False)  # copy on write, which torch wants
        whole = (
            rows.dtype == np.uint8
            and rows.shape == (n_train + n_test, math.prod(shape))
            and rows.offset + rows.nbytes == path.stat().st_size
            and min(n_train, n_test) > 0
            and len(bytes.fromhex(train)) == len(bytes.fromhex(test)) == hashlib.sha256().digest_size
        )
    except Exception:  # numpy and json raise many kinds for damaged files, TokenError and RecursionError among them
        return None
    if not whole:
        return None
    pixels = torch.from_numpy(rows)  # still mapped
    return Pack(shape, pixels[:n_train], pixels[n_train:], (train, test))


def pack(
    path: Path,
    *,
    shape: tuple[int, ...],
    n_train: int,
    n_test: int,
    rows: Callable[[int, int], np.ndarray],
    name: str,
) -> Pack:
    """Make the pixels and keep them, one process at a time; go on where a killed process stopped.

    Args:
        path: of `pack_path`. shape: of one image. n_train, n_test: how many.
        rows: makes images start to stop, those for training first, (stop - start, D) uint8; the same at every call.
        name: of the data set, for the progress bar.

    Raises:
        DataError: if the file cannot be written. What ``rows`` raises; nothing half made is kept then.
    """
    make_writable(path.parent)
    try:
        with locked(path):
            found = open_pack(path)  # another process may have made it meanwhile
            if found is None:
                _make(path, shape=shape, n_train=n_train, n_test=n_test, rows=rows, name=name)
                found = open_pack(path)
    except OSError as error:
        n_bytes = (n_train + n_test) * math.prod(shape)
        raise DataError(
            f"the {n_bytes / 1e6:,.0f} MB of pixels of {name} cannot be kept in {path.parent} "
            f"({error.strerror or error}). Free some space, or set VAE_DATA to another folder."
        ) from None
    if found is None:
        raise DataError(f"{path} was changed while it was made. Delete it and try again.")
    return found


class _Digests:
    """The sha256 of the rows for training and of those for testing, as they come."""

    def __init__(self, n_train: int) -> None:
        self.n_train, self.done = n_train, 0
        self.train, self.test = hashlib.sha256(), hashlib.sha256()

    def update(self, block: np.ndarray) -> None:
        left = max(0, min(len(block), self.n_train - self.done))
        self.train.update(np.ascontiguousarray(block[:left]).data)
        self.test.update(np.ascontiguousarray(block[left:]).data)
        self.done += len(block)

    def both(self) -> list[str]:
        return [self.train.hexdigest(), self.test.hexdigest()]


def _make(
    path: Path,
    *,
    shape: tuple[int, ...],
    n_train: int,
    n_test: int,
    rows: Callable[[int, int], np.ndarray],
    name: str,
) -> None:
    from tqdm.auto import tqdm

    n, n_pixels = n_train + n_test, math.prod(shape)
    partial, counter = path.with_suffix(".partial"), path.with_suffix(".partial.json")
    header = _header(n, n_pixels)
    digests = _resumed(partial, counter, header, n_train=n_train, n=n, n_pixels=n_pixels)
    try:
        with partial.open("r+b" if digests.done else "w+b") as file:
            if not digests.done:
                allocate(file, len(header) + n * n_pixels)
                file.write(header)
            file.seek(len(header) + digests.done * n_pixels)
            saved = digests.done
            with tqdm(total=n, initial=saved, desc=name, unit="image", disable=n - saved < BAR_FROM) as bar:
                while digests.done < n:
                    start, stop = digests.done, min(digests.done + AT_ONCE, n)
                    block = rows(start, stop)
                    file.write(np.ascontiguousarray(block).data)
                    digests.update(block)
                    bar.update(stop - start)
                    if digests.done - saved >= SAVE_EVERY:
                        sync(file)
                        write_whole(counter, json.dumps({"done": digests.done, "sha256": digests.both()}).encode())
                        saved = digests.done
            sync(file)
        record = {"shape": list(shape), "n_train": n_train, "n_test": n_test, "sha256": digests.both()}
        write_whole(path.with_suffix(".json"), json.dumps(record).encode() + b"\n")
        os.replace(partial, path)
        counter.unlink(missing_ok=True)
    except Exception:  # not Ctrl-C, after which the next call goes on
        for left in (partial, counter):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        raise


def _header(n: int, n_pixels: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (n, n_pixels)})
    return buffer.getvalue()


def _resumed(partial: Path, counter: Path, header: bytes, *, n_train: int, n: int, n_pixels: int) -> _Digests:
    """What a killed process had made, read back and compared with its sha256; nothing if anything is not right."""
    try:
        if counter.stat().st_size > 10_000:
            raise ValueError("no counter")
        saved = json.loads(counter.read_text())
        digests = _Digests(n_train)
        with partial.open("rb") as file:
            if partial.stat().st_size != len(header) + n * n_pixels or file.read(len(header)) != header:
                raise ValueError("of another set")
            while digests.done < int(saved["done"]):
                k = min(AT_ONCE, int(saved["done"]) - digests.done)
                digests.update(np.frombuffer(file.read(k * n_pixels), np.uint8).reshape(k, n_pixels))
        if digests.both() != saved["sha256"]:
            raise ValueError("other pixels than those that were counted")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _Digests(n_train)
    return digests
