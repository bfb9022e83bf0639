"""dSprites without a file: a formula for its 737,280 images, and the official file behind the same interface."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid, FactorImages
from vae_helpers.data.files import DataError, check_members, data_root, describe_root, make_writable, offline
from vae_helpers.data.packed import stored, unpack
from vae_helpers.data.writing import locked, temporary

SHAPE = (1, 64, 64)
GRID = FactorGrid(("colour", "shape", "scale", "orientation", "x", "y"), (1, 3, 6, 40, 32, 32))
SMALL_SHAPE = (1, 32, 32)
SMALL_GRID = FactorGrid(GRID.names, (1, 3, 3, 1, 16, 8))
TURNING_GRID = FactorGrid(GRID.names, (1, 3, 3, 20, 16, 8))
DRAWN = {  # source: name, its difference in words, shape, grid
    "rendered": ("dsprites", "", SHAPE, GRID),
    "small": ("small dsprites", ": 32x32 pixels, upright, y over half the range", SMALL_SHAPE, SMALL_GRID),
    "turning": ("turning dsprites", ": 32x32 pixels, y over half the range", SMALL_SHAPE, TURNING_GRID),
}
SHAPES = ("square", "ellipse", "heart")
TURN = 39  # steps of orientation in a full turn: values 0 and 39 are the same angle

# Fitted on every second frame of each shape, of 138 genuine ones; wrong pixels of 4,096 on the others: 0.0, 0.7, 0.2.
SQUARE_SIDE = 19.2  # pixels, at the largest scale; so are the numbers below
ELLIPSE_AXES, ELLIPSE_CORNERS = (12.82, 7.24), 32  # drawn as a polygon
# Right half of the heart, centre at (0, 0), y down: three cubic pieces from the notch over the lobe to the tip.
HEART = (
    ((0.0, -4.82), (0.24, -6.93), (2.17, -9.33), (4.51, -9.33)),
    ((4.51, -9.33), (7.89, -9.33), (9.60, -6.36), (9.60, -4.16)),
    ((9.60, -4.16), (9.60, 1.71), (1.12, 4.99), (0.0, 9.69)),
)
TABLE = 4096  # entries of a shape's table, over `REACH` pixels
REACH = 12.9
WINDOW = 30  # pixels around the centre that are looked at: twice the square's half diagonal, and both edges

OFFICIAL = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
OFFICIAL_MD5 = "7da33b31b13a06f4b04a70402ce90c2e"
OFFICIAL_URL = f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{OFFICIAL}"
PACKED = "dsprites_packed.npy"


def render(latents_classes: Tensor, device: torch.device | str | None = None) -> Tensor:
    r"""Draw dSprites frames from their factors.

    A pixel is lit when its centre, brought into the shape's own frame, falls inside the shape:

    .. math:: (u, v) = \frac1s R(\alpha)^{-1} (p - c), \quad s = 0.5 + 0.1\, i_{scale}, \quad
       \alpha = -2\pi\, i_{rot} / 39, \quad c = 16 + 32\, (i_x, i_y) / 31

    (y down). Every shape is its own mirror image and its vertical section at \|u\| is one interval, so "inside" is
    one look into a table of intervals.

    Args:
        latents_classes: (N, 6) integers: colour (0), shape (square, ellipse, heart), scale, orientation, x, y.
        device: where to draw; None for where the classes are.

    Returns:
        (N, 64, 64) uint8 in {0, 1}.

    Raises:
        ValueError: for classes outside the grid, naming the factor.

    Source: the values of the factors are those of Matthey et al. 2017, *dSprites*; the outlines are fitted.
    """
    classes = latents_classes if device is None else latents_classes.to(device)
    GRID.check(classes)
    return _render(classes.long()).view(-1, *SHAPE[1:])


def _render(classes: Tensor) -> Tensor:
    """`render` without the check, flat: (N, 6) -> (N, 4096)."""
    _, shape, scale, orientation, x, y = (factor[:, None, None] for factor in classes.unbind(1))
    size = 0.5 + 0.1 * scale
    angle = (-2 * math.pi / TURN) * (orientation % TURN)
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    centre_x, centre_y = 16 + 32 / 31 * x, 16 + 32 / 31 * y
    steps = torch.arange(WINDOW, device=classes.device)
    columns, rows = centre_x.long() - WINDOW // 2 + steps, centre_y.long() - WINDOW // 2 + steps[:, None]
    dx, dy = columns + 0.5 - centre_x, rows + 0.5 - centre_y
    u, v = cosine * dx + sine * dy, cosine * dy - sine * dx
    entry = (u.abs() * (TABLE / REACH)).long().clamp_max(TABLE - 1) + TABLE * shape
    top, bottom = _sections(classes.device)
    lit = ((v > top[entry]) & (v < bottom[entry])).to(torch.uint8)
    images = torch.zeros(len(classes), math.prod(SHAPE), dtype=torch.uint8, device=classes.device)
    return images.scatter_(1, (rows * SHAPE[2] + columns).flatten(1), lit.flatten(1))


def _render_small(classes: Tensor) -> Tensor:
    """Every second pixel of `_render`, at every second scale, orientation and place, y in the middle half."""
    colour, shape, scale, orientation, x, y = classes.unbind(1)
    images = _render(torch.stack([colour, shape, 2 * scale + 1, 2 * orientation, 2 * x, 2 * y + 8], dim=1))
    return images.view(-1, *SHAPE[1:])[:, ::2, ::2].flatten(1)


@cache
def _sections(device: torch.device) -> tuple[Tensor, Tensor]:
    """By shape and \\|u\\|, the top and bottom of the vertical section, (3 * TABLE,) each; empty beyond the shape."""
    u = (np.arange(TABLE) + 0.5) * REACH / TABLE
    corner = np.arange(ELLIPSE_CORNERS // 4 + 1) * 2 * np.pi / ELLIPSE_CORNERS
    across, down = ELLIPSE_AXES[0] * np.cos(corner)[::-1], ELLIPSE_AXES[1] * np.sin(corner)[::-1]
    half = SQUARE_SIDE / 2
    over, lobe, flank = (_bezier(np.array(piece)) for piece in HEART)
    upper, lower = np.concatenate([over, lobe[1:]]), flank[::-1]
    outlines = (  # (u, v) of the upper and the lower edge, u rising
        (np.array([[0, -half], [half, -half]]), np.array([[0, half], [half, half]])),
        (np.stack([across, -down], 1), np.stack([across, down], 1)),
        (upper, lower),
    )
    sections = [
        np.concatenate([np.interp(u, edges[side][:, 0], edges[side][:, 1], right=beyond) for edges in outlines])
        for side, beyond in ((0, np.inf), (1, -np.inf))
    ]
    top, bottom = (torch.from_numpy(values).float().to(device) for values in sections)
    return top, bottom


def outlines() -> tuple[Tensor, Tensor]:
    """By shape and distance from its middle axis, the top and the bottom of a shape, (3 * TABLE,) float32 each, y down;
    top above bottom beyond it. With `render`'s formula they say which pixels are lit."""
    return _sections(torch.device("cpu"))


def _bezier(points: np.ndarray) -> np.ndarray:
    """A cubic piece as 257 points; (4, 2) -> (257, 2)."""
    t = np.linspace(0, 1, 257)[:, None]
    weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
    return sum(weight * point for weight, point in zip(weights, points, strict=True))


def load_dsprites(
    source: Literal["rendered", "official", "small", "turning"] = "rendered", *, root: Path | None = None
) -> FactorImages:
    """dSprites, drawn by `render` or read from the official file; or small relatives for which a CPU is enough.

    The small one has 1,152 images of 32x32 pixels, no two alike: shape (3), scale (3), x (16 over the whole range) and
    y (8 over the middle half), all upright. Its x varies more than its y on purpose: a code can be turned by any angle
    between two directions of the same spread, and to find the axes takes many times the steps.

    The turning one has each of them at 20 orientations: 23,040 images. Turned by its symmetry, a square or an ellipse
    looks the same or nearly so.

    The official file (26 MB) is taken from ``root``, or fetched; once, its images are unpacked to one bit a pixel
    (``dsprites_packed.npy``, 377 MB, mapped into memory, not read). Its pickled metadata are never opened.

    Args:
        source: which. root: the data folder; None for `files.data_root`.

    Returns:
        `FactorImages` of shape (1, 64, 64), small and turning (1, 32, 32), flat pixels 0 or 1.

    Raises:
        ValueError: for an unknown source. DataError: if the official file is not there and cannot be fetched, or is
            not the official file.
    """
    if source in DRAWN:
        name, more, shape, grid = DRAWN[source]
        draw = _render if shape == SHAPE else _render_small
        words = f"{name.replace('ds', 'dS')}, drawn by a formula{more}"
        return FactorImages(name, words, shape, grid, draw, white=1, identity=f"formula: {name}, values {grid.sizes}")
    if source != "official":
        raise ValueError(f"unknown source {source!r}; choose rendered, official, small or turning")
    where = describe_root() if root is None else "the folder given"
    root = data_root() if root is None else root
    packed = root / PACKED
    if not packed.exists():
        path = root / OFFICIAL
        if not path.exists():
            _download(path)
        unpack(path, packed, grid=GRID, shape=SHAPE[1:], md5=OFFICIAL_MD5)
    words = f"dSprites, the official file ({where})"
    return stored(packed, name="dsprites", source=words, grid=GRID, shape=SHAPE)


def _download(path: Path) -> None:
    way_out = f"Fetch {OFFICIAL_URL} by hand and put it at {path}, or use the drawn images."
    if offline():
        raise DataError(f"{path} is not there, and VAE_OFFLINE forbids downloads. {way_out}")
    make_writable(path.parent)
    from torchvision.datasets.utils import download_url  # here, not above: its import takes two seconds

    with locked(path), temporary(path) as partial:
        if path.exists():  # another process has fetched it meanwhile
            return
        try:
            download_url(OFFICIAL_URL, str(path.parent), filename=partial.name, md5=OFFICIAL_MD5)
            partial.replace(path)
        except Exception as error:  # a server may answer anything
            reason = (str(error) or type(error).__name__).splitlines()[0][:80]
            raise DataError(f"dSprites cannot be downloaded ({reason}). {way_out}") from None


def load_frames(path: Path) -> tuple[Tensor, Tensor]:
    """Genuine frames with their classes, to compare the drawn ones with.

    Args:
        path: npz with ``images`` (N, 64, 64) uint8 in {0, 1} and ``latents_classes`` (N, 6).

    Returns:
        images (N, 64, 64) uint8, classes (N, 6) int64.

    Raises:
        DataError: if the file is something else.
    """
    try:
        check_members(path, ["images", "latents_classes"], at_most=2**30)
        with np.load(path, allow_pickle=False) as archive:
            images, classes = torch.from_numpy(archive["images"]), torch.from_numpy(archive["latents_classes"])
        GRID.check(classes)
        if images.shape != (len(classes), *SHAPE[1:]) or images.dtype != torch.uint8 or int(images.max()) > 1:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}")
    except Exception as error:  # numpy raises anything from KeyError to zipfile.BadZipFile here
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} holds no dSprites frames ({reason}). Replace or delete it.") from error
    return images, classes.long()


def wrong_pixels(images: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Pixels of 4,096 in which drawn frames differ from genuine ones, by shape.

    Args:
        images: (N, 64, 64) uint8. classes: (N, 6).

    Returns:
        shape's name -> (n,) int64, one number a frame of that shape.
    """
    pairs = zip(images.split(1000), classes.split(1000), strict=True)
    wrong = torch.cat([(render(part) != genuine).flatten(1).sum(1) for genuine, part in pairs])
    return {name: wrong[classes[:, 1] == k] for k, name in enumerate(SHAPES)}


def compare_dsprites(root: Path | None = None, *, n: int = 30_000) -> list[str]:
    """How the drawn images compare with genuine ones that are at hand, in sentences.

    Args:
        root: the data folder with ``dsprites_frames.npz`` or the official file; None for `files.data_root`.
        n: how many images of the official file to compare, drawn by a fixed seed.

    Raises:
        DataError: if a file is there and is not what it should be.
    """
    root = data_root() if root is None else root
    lines = []
    if (frames := root / "dsprites_frames.npz").exists():
        lines.append(_in_words(f"{frames.name}", *load_frames(frames)))
    if (root / PACKED).exists() or (root / OFFICIAL).exists():
        official = load_dsprites("official", root=root)
        classes = GRID.sample(n, generator=torch.Generator().manual_seed(0))
        genuine = torch.cat([official.render(part) for part in classes.split(1000)]).view(-1, *SHAPE[1:])
        lines.append(_in_words("the official file", genuine, classes))
    return lines or [f"no genuine image in {root} to compare with (dsprites_frames.npz, {OFFICIAL})"]


def _in_words(what: str, images: Tensor, classes: Tensor) -> str:
    found = wrong_pixels(images, classes)
    counts = ", ".join(f"{name} {wrong.double().mean():.2f} ({len(wrong):,})" for name, wrong in found.items())
    return f"drawn against {what}: wrong pixels of 4,096 an image, mean (images): {counts}"
