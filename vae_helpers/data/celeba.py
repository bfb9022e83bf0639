"""CelebA, cropped to 64 x 64, by torchvision's loader: from a folder that is there, or fetched."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.files import DataError, data_root, describe_root, make_writable, offline
from vae_helpers.data.splits import Images, sha256_of
from vae_helpers.data.writing import allocate, locked, sync, temporary, write_whole

SHAPE = (3, 64, 64)
MAX_PIXELS = 2**20
IMAGES = "img_align_celeba"
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


LISTS = (
    "list_attr_celeba.txt",
    "identity_CelebA.txt",
    "list_bbox_celeba.txt",
    "list_landmarks_align_celeba.txt",
    "list_eval_partition.txt",
)


def load_celeba(root: Path | None = None, *, download: bool = False, progress: bool = True) -> Images:
    """The 202,599 aligned faces of CelebA, resized to 64 x 78 and cropped to 64 x 64.

    The cropped pixels are kept in ``root``/celeba/64x64 (2.5 GB), so that only the first call reads the JPEGs.

    Args:
        root: the data folder, with torchvision's layout in ``root``/celeba; None for `files.data_root`.
        download: fetch what is missing from Google Drive (1.4 GB; needs the package gdown).
        progress: show a bar while the images are cropped.

    Returns:
        `Images` of shape (3, 64, 64), no labels: for training the official training and validation sets, in this
        order, so that ``validation(19867)`` holds out the official validation set.

    Raises:
        DataError: if something is missing and may not or cannot be fetched, or an image or a list cannot be read; with
            the route by hand.

    Source: Liu, Luo, Wang & Tang 2015; the crop of the notebook's write-up.
    """
    where = describe_root() if root is None else "the folder given"
    root = data_root() if root is None else root
    folder = root / "celeba"
    kept = {part: folder / "64x64" / f"{part}.npy" for part in ("train", "test")}
    if not all(path.exists() for path in kept.values()):
        if download:
            _fetch(root)
        _check_layout(folder)
        make_writable(folder / "64x64")
        with locked(folder / "64x64"):
            for splits, path in ((("train", "valid"), kept["train"]), (("test",), kept["test"])):
                if not path.exists():  # or another process has cropped it meanwhile
                    _crop(root, splits, path, progress=progress)
    x_train, x_test = (_read(path) for path in kept.values())
    source = f"CelebA, {len(x_train):,} train and {len(x_test):,} test images ({where})"
    hashes = _hashes(folder / "64x64.json", kept, (x_train, x_test))
    return Images("celeba", source, SHAPE, x_train, x_test).with_pixel_hashes(*hashes)


def _hashes(path: Path, kept: dict[str, Path], parts: tuple[Tensor, Tensor]) -> tuple[str, str]:
    """sha256 of the pixels of both parts, computed once and kept beside them."""
    stats = [path.stat() for path in kept.values()]
    state = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        if path.stat().st_size < 10_000 and (found := json.loads(path.read_text()))["files"] == state:
            train, test = found["sha256"]
            if len(bytes.fromhex(train)) == len(bytes.fromhex(test)) == hashlib.sha256().digest_size:
                return train, test
    train, test = (sha256_of(part) for part in parts)
    with contextlib.suppress(OSError):  # a folder that cannot be written: the hashes are computed again next time
        write_whole(path, json.dumps({"files": state, "sha256": [train, test]}).encode() + b"\n")
    return train, test


def _fetch(root: Path) -> None:
    if offline():
        raise DataError(f"VAE_OFFLINE forbids fetching CelebA. {_by_hand(root / 'celeba')}")
    make_writable(root)
    from torchvision.datasets import CelebA  # here, not above: its import takes two seconds

    try:
        CelebA(str(root), download=True)
    except Exception as error:  # gdown and torchvision raise many kinds here, a refused quota among them
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"CelebA could not be fetched ({why}). "
            f"Google Drive refuses it once too many people have asked in a day. {_by_hand(root / 'celeba')}"
        ) from error


def _check_layout(folder: Path) -> None:
    missing = [name for name in LISTS if not (folder / name).is_file()]
    if not (folder / IMAGES).is_dir():
        missing.append(f"{IMAGES}/")
    if missing:
        raise DataError(f"CelebA is not whole in {folder}: no {', '.join(missing)}. {_by_hand(folder)}")


def _by_hand(folder: Path) -> str:
    return (
        f"By hand: from {PAGE} take img_align_celeba.zip, unpacked, and {', '.join(LISTS)}, and put them into {folder} "
        f"(so that there is {folder / IMAGES / '000001.jpg'}). Or use the drawn portraits, which need no file."
    )


def _crop(root: Path, splits: tuple[str, ...], path: Path, *, progress: bool) -> None:
    """Write the pixels of these splits, (N, 12288) uint8, under a temporary name first."""
    from torchvision.datasets import CelebA
    from tqdm.auto import tqdm

    class Folder(CelebA):
        """Its text files need only be there: torchvision would refuse any but the full set's by their hashes."""

        file_list = [(key, None, name) for key, _, name in CelebA.file_list]  # noqa: RUF012

    try:
        lines = (root / "celeba" / LISTS[-1]).read_text().splitlines()
        if strange := [line for line in lines if line.split()[-1:] not in ([], ["0"], ["1"], ["2"])]:
            raise ValueError(f"{LISTS[-1]} has the line {strange[0][:60]!r}, but splits are 0, 1 and 2")
        parts = [Folder(str(root), split=split, target_type=[]) for split in splits]
    except (ValueError, IndexError, TypeError, RuntimeError, OSError, csv.Error) as error:  # also for one image alone
        raise DataError(
            f"the lists in {root / 'celeba'} cannot be read ({error}). {_by_hand(root / 'celeba')}"
        ) from None
    names = [name for part in parts for name in part.filename]
    if not names:
        raise DataError(f"the lists in {root / 'celeba'} name no image of {' and '.join(splits)}.")
    for name in names:
        if name != Path(name).name or "\\" in name or name in ("", ".", ".."):
            raise DataError(f"the lists in {root / 'celeba'} name {name!r}, which is no plain file name.")
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), math.prod(SHAPE))}
    try:
        with temporary(path) as part, part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            allocate(file, file.tell() + len(names) * math.prod(SHAPE))
            for name in tqdm(names, desc=f"CelebA, {path.stem}", unit="image", disable=not progress):
                file.write(_pixels(root / "celeba" / IMAGES / name).numpy().tobytes())
            sync(file)
            file.close()  # an open file cannot be renamed on Windows
            os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}). Free some space or set VAE_DATA.") from error


def _pixels(path: Path) -> Tensor:
    """One image, resized to 64 x 78 and cropped to its middle, (12288,) uint8."""
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:  # no format that starts another program
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path} has {image.width} x {image.height} pixels; CelebA's have 178 x 218.")
            picture: Any = image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path} is missing, though the lists name it. Unpack img_align_celeba.zip again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read ({error}). Unpack img_align_celeba.zip again.") from None
    from torchvision.transforms.v2 import functional

    return functional.center_crop(functional.resize(functional.pil_to_tensor(picture), [78, 64]), [64, 64]).flatten()


def _read(path: Path) -> Tensor:
    try:
        pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for damaged heads
        raise DataError(f"{path} cannot be read ({error}). Delete it to have it made again.") from None
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (math.prod(SHAPE),) or not len(pixels):
        raise DataError(f"{path} holds {pixels.dtype} {pixels.shape}, expected uint8 (N, 12288). Delete it.")
    return torch.from_numpy(pixels)
