"""Small grey faces: the Frey video where it is at hand, drawn faces with known factors everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.files import DataError, check_members, data_root, describe_root
from vae_helpers.data.splits import Images

SHAPE = (28, 20)
BLOCK = 20  # neighbouring frames that stay together
MAX_BYTES = 2**26  # of its images; 1,965 of them take 1.1 MB
FACTORS = ("turn", "nod", "smile", "mouth_open", "brow")


def load_frey(root: Path | None = None) -> Images:
    """The Frey faces, 1,965 video frames of one face, or the drawn faces where they are not at hand.

    Reads ``root``/frey_faces.npz (array ``images``, uint8, (1965, 28, 20)), never unpickling. The test
    set is every tenth block of twenty frames: neighbouring frames are near copies, so single frames
    held out at random would not test anything.

    Args:
        root: the data folder; None for `files.data_root`.

    Returns:
        `Images` of shape (28, 20), no labels.

    Raises:
        DataError: if the file is there but is not those images.
    """
    where = describe_root() if root is None else "the folder given"
    path = (data_root() if root is None else root) / "frey_faces.npz"
    if not path.exists():
        print("Frey faces: no frey_faces.npz in the data root; using drawn faces of the same size.")
        return procedural_faces()
    try:
        check_members(path, ["images"], at_most=MAX_BYTES)
        with np.load(path, allow_pickle=False) as arrays:
            images = np.asarray(arrays["images"])  # a member without a head comes as bytes
    except Exception as error:  # numpy raises anything from KeyError to zipfile.BadZipFile here
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}). Replace or delete it.") from error
    if images.dtype != np.uint8 or images.shape[1:] != SHAPE:
        raise DataError(
            f"{path} holds {images.dtype} {images.shape}, expected uint8 (N, 28, 20). Replace or delete it."
        )
    x = torch.from_numpy(images).flatten(1)
    held_out = torch.arange(len(x)) // BLOCK % 10 == 9
    if not held_out.any():
        raise DataError(
            f"{path} holds {len(x)} images, too few: every tenth block of {BLOCK} is the test set, so at least "
            f"{9 * BLOCK + 1} are needed. Replace or delete it."
        )
    source = f"Frey faces, {int((~held_out).sum()):,} train and {int(held_out.sum())} test frames ({where})"
    return Images("frey", source, SHAPE, x[~held_out], x[held_out])


def procedural_faces(n_train: int = 1800, n_test: int = 200, *, seed: int = 0) -> Images:
    """Drawn faces with independent, uniform factors.

    Args:
        n_train, n_test: how many. seed: of the factors.

    Returns:
        `Images` of shape (28, 20), no labels.
    """
    generator = torch.Generator().manual_seed(seed)
    factors = torch.rand(n_train + n_test, len(FACTORS), generator=generator) * 2 - 1
    x = render_faces(factors)
    source = f"drawn faces, {n_train:,} train and {n_test} test images (made by a formula)"
    identity = f"formula: drawn faces, {n_train} train, {n_test} test, seed {seed}"
    return Images("drawn-faces", source, SHAPE, x[:n_train], x[n_train:], identity=identity)


def render_faces(factors: Tensor) -> Tensor:
    """Draw faces from their factors, each a soft-edged shape.

    Args:
        factors: (N, 5) in [-1, 1], in the order of `FACTORS`.

    Returns:
        (N, 560) uint8.

    Raises:
        ValueError: for another number of factors or values outside [-1, 1].
    """
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(f"factors must be (N, {len(FACTORS)}) in the order {FACTORS}, got {tuple(factors.shape)}")
    if factors.numel() and factors.abs().max() > 1:
        raise ValueError(f"factors must lie in [-1, 1], found {factors.abs().max().item():g}")
    turn, nod, smile, mouth, brow = (factors[:, i, None, None] for i in range(len(FACTORS)))
    rows, columns = (v.to(factors) for v in torch.meshgrid(torch.arange(28), torch.arange(20), indexing="ij"))
    u, v = columns - 9.5, rows - 13.5

    def ellipse(cx: Tensor | float, cy: Tensor | float, rx: Tensor | float, ry: Tensor | float) -> Tensor:
        distance = torch.sqrt(((u - cx) / rx) ** 2 + ((v - cy) / ry) ** 2 + 1e-6)
        return torch.sigmoid((1 - distance) * 3 * torch.as_tensor(torch.minimum(*map(torch.as_tensor, (rx, ry)))))

    cx, cy = 2.0 * turn, 1.5 * nod  # features slide over the head as it turns and nods
    image = 0.25 + 0 * turn + 0.5 * ellipse(0.4 * turn, 0.3 * nod, 8.2, 12.0)
    image = image + 0.12 * ellipse(cx, cy + 1.5, 1.0, 3.2)
    for side in (-1.0, 1.0):
        eye_x = cx + side * 3.4
        image = image - 0.45 * ellipse(eye_x, cy - 2.5, 1.5, 0.9)
        image = image - 0.3 * ellipse(eye_x, cy - 5.2 - 0.9 * brow, 2.1, 0.6)
    bend = 0.09 * smile * (u - cx) ** 2  # the mouth is an ellipse bent along a parabola
    mouth_y = cy + 6.5 + 0.6 * smile
    height = 0.9 + 0.7 * (mouth + 1) / 2 * 1.6
    distance = torch.sqrt(((u - cx) / 4.0) ** 2 + ((v - mouth_y + bend) / height) ** 2 + 1e-6)
    image = image - 0.45 * torch.sigmoid((1 - distance) * 3 * height)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).flatten(1)
