"""Images from one call: a known data set by its name, or one's own by the path of a folder or a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.arrays import Stack, load_npy, load_npz
from vae_helpers.data.assembly import assemble
from vae_helpers.data.celeba import load_celeba
from vae_helpers.data.faces import load_frey, procedural_faces
from vae_helpers.data.files import DataError
from vae_helpers.data.fitting import check_options, fit_block, shape_of
from vae_helpers.data.folders import load_folder
from vae_helpers.data.idx import is_idx, load_idx
from vae_helpers.data.mnist import load_mnist
from vae_helpers.data.named import NAMED, load_named
from vae_helpers.data.pictures import SUFFIXES
from vae_helpers.data.splits import Images

IMAGE_SETS: dict[str, Callable[[], Images]] = {
    "mnist": load_mnist,
    "frey": load_frey,
    "drawn-faces": procedural_faces,
}
KINDS = "a folder of pictures, a .npy or .npz file, or idx files (their folder, or one file of images)"
FORMULAS = {  # sets of known factors, which `load_images` does not load
    "dsprites": (1, 64, 64),
    "dsprites_official": (1, 64, 64),
    "dsprites_small": (1, 32, 32),
    "dsprites_turning": (1, 32, 32),
    "portraits": (3, 64, 64),
}
SPECS: dict[str, tuple[tuple[int, ...], int]] = {
    "mnist": ((28, 28), 10),
    "frey": ((28, 20), 0),
    "drawn-faces": ((28, 20), 0),
    "celeba": ((3, 64, 64), 0),
    **{name: (kind.shape, kind.n_classes) for name, kind in NAMED.items()},
    **{name: (shape, 0) for name, shape in FORMULAS.items()},
}


def known_spec(data: str) -> tuple[tuple[int, ...], int] | None:
    """Shape and number of classes of a data set that is known by name; nothing is loaded.

    Args:
        data: a name, or a path.

    Returns:
        (shape, n_classes): (H, W) for grey `Images`, (3, H, W) for colour, (C, H, W) for `FactorImages`; 0 classes
        for a set without labels. None for a path or an unknown word.
    """
    return SPECS.get(data)


def load_images(
    data: str | Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    test_share: float = 0.1,
    split_seed: int = 0,
) -> Images:
    """A known data set by its name, or one's own images by their path.

    Names: mnist, frey, drawn-faces, celeba, and by torchvision, from the data root or fetched, fashion-mnist, kmnist,
    emnist (balanced), qmnist, usps, cifar10, svhn and omniglot (`named.load_named` says more). A folder that bears one
    of these names is written with a separator: ``./mnist``.

    Paths:

    - A folder of pictures: PNG, JPEG, WebP, BMP, TIFF, and of a GIF the first frame. Folders in it are classes, in the
      order of their names (by number if all are numbers), with pictures at any depth. Folders ``train`` and ``test``
      at the top, both or neither, are the split. Pictures are turned upright by their EXIF orientation, put on black
      where they are transparent, and reduced to 8 bits. If all files of a split have different numbers as names,
      these are their order; else it is that of the paths. Other files are ignored, and named in ``source``.
    - A ``.npy`` file: (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, uint8, bool, or floats from 0 to 1.
    - A ``.npz`` file: images, and labels if there are any, by the names that `arrays.load_npz` lists.
    - Idx files, ``.gz`` too: a folder with train-images-idx3-ubyte and so on, or one file of images.

    Pictures are decoded once: their pixels are kept in the data root, in ``packed``, and mapped into memory from
    then on, until a file of the folder changes. If decoding is cut short, the next call goes on from there. The
    folder ``packed`` may be deleted at any time.

    Args:
        data: the name or the path.
        size: (height, width) in pixels for all images: each is resized with antialiasing until it just covers
            them, and its middle is cut out. None for their own size, which they must have in common.
        channels: 1 for grey, 3 for colour; None for grey if all images are grey, else colour.
        test_share: of each class, held out for testing where the data have no split of their own, 0 < test_share < 1;
            at least one image of each class with two.
        split_seed: of that split, and of the order of the training images.

    Returns:
        `Images`, flat uint8 rows; labels 0 to K - 1 and their names where there are any.

    Raises:
        DataError: for anything that cannot be read as images, naming the file and the way out, and for settings out
            of range.
    """
    check_options(size, channels, test_share, split_seed)
    size = None if size is None else (int(size[0]), int(size[1]))
    word = data if isinstance(data, str) else ""
    if word in IMAGE_SETS or word == "celeba":
        return _fitted(load_celeba() if word == "celeba" else IMAGE_SETS[word](), size, channels)
    if word in NAMED:
        return _fitted(load_named(word, test_share=test_share, split_seed=split_seed), size, channels)
    path = Path(data).expanduser()
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{str(data)[:300]!r} cannot be used ({reason}). Check its name, and who may read it."
        ) from None
    if not exists:
        if word and not _looks_like_a_path(word):
            kinds = ", ".join([*IMAGE_SETS, "celeba", *NAMED])
            more = " (load_dsprites and load_portraits make the sets of known factors)" if word in FORMULAS else ""
            raise DataError(f"unknown data {word!r}{more}: give a name ({kinds}) or a path ({KINDS})")
        raise DataError(f"{path} does not exist. Give the path of {KINDS}.")
    chosen = {"size": size, "channels": channels, "test_share": test_share, "split_seed": split_seed}
    if is_folder and not _holds_idx(path):
        return load_folder(path, **chosen)  # type: ignore[arg-type]
    suffix = path.suffix.lower()
    if is_folder or is_idx(path):
        *parts, files = load_idx(path)
    elif suffix == ".npy":
        parts, files = [load_npy(path), None, None, None], [path]
    elif suffix == ".npz":
        parts, files = [*load_npz(path)], [path]
    else:
        one = " (one picture is no data set)" if suffix in SUFFIXES else ""
        raise DataError(f"{path} is no file of images that can be read{one}. Give the path of {KINDS}.")
    return assemble(*parts, name=path.resolve().stem, files=files, **chosen)  # type: ignore[arg-type]


def images_of_arrays(
    x: Any, y: Any = None, *, name: str = "array", test_share: float = 0.1, split_seed: int = 0
) -> Images:
    """`Images` of arrays in memory, as if they were an .npz file.

    Args:
        x: (N, H, W), (N, H, W, 3) or (N, 3, H, W): uint8, bool, or floats from 0 to 1. y: labels (N,), or None.
        name: of the set. test_share, split_seed: as `load_images`.

    Raises:
        DataError: for anything else, naming it.
    """
    check_options(None, None, test_share, split_seed)
    labels = None if y is None else np.asarray(y)
    return assemble(
        Stack(np.asarray(x), name),
        labels,
        None,
        None,
        name=name,
        files=[Path(name)],
        size=None,
        channels=None,
        test_share=test_share,
        split_seed=split_seed,
    )


def _looks_like_a_path(word: str) -> bool:
    separators = [mark for mark in (os.sep, os.altsep) if mark]
    return any(mark in word for mark in separators) or word.startswith("~") or word.lower().endswith(
        (".npy", ".npz", ".gz", "-ubyte")
    )  # fmt: skip


def _holds_idx(folder: Path) -> bool:
    try:
        return any(is_idx(path) for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}). Check who may read it.") from None


def _fitted(images: Images, size: tuple[int, int] | None, channels: int | None) -> Images:
    """A named set at another size or in other colours; as it is if nothing is asked for or it has them already."""
    own = images.shape if len(images.shape) == 2 else images.shape[1:]
    had = 1 if len(images.shape) == 2 else 3
    shape = shape_of(size or (own[0], own[1]), channels or had)
    if shape == tuple(images.shape):
        return images

    def fitted(x: Tensor) -> Tensor:
        made = np.empty((len(x), int(np.prod(shape))), np.uint8)
        for start in range(0, len(x), 1024):
            block = x[start : start + 1024].numpy().reshape(-1, *images.shape)
            made[start : start + 1024] = fit_block(block, (shape[-2], shape[-1]), channels or had)
        return torch.from_numpy(made)

    return dataclasses.replace(
        images,
        source=f"{images.source}; made {'x'.join(map(str, shape))}",
        shape=shape,
        x_train=fitted(images.x_train),
        x_test=fitted(images.x_test),
        identity=images.identity and f"{images.identity}; made {shape}",
    )
