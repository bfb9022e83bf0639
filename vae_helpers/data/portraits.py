"""Portraits without a file: a formula for 64 x 64 colour faces with a dozen known factors."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from vae_helpers.data.factors import FactorGrid, FactorImages


class Face(NamedTuple):
    """The factors of faces, each (N, 1, 1) float32 in [-1, 1]; left and right are those of the picture."""

    turn: Tensor  # of the head, left to right
    width: Tensor  # of the head, narrow to wide
    skin: Tensor  # pale to dark
    hair_colour: Tensor  # black over wine and copper to gold
    hair_length: Tensor  # to the ears, to the chest
    eye_size: Tensor  # small to large
    eye_spacing: Tensor  # close to wide apart
    brow: Tensor  # inner ends down (angry) to up (worried)
    smile: Tensor  # corners of the mouth down to up
    mouth_open: Tensor  # closed to open
    light: Tensor  # from the left to from the right
    background: Tensor  # green over blue to pink


FACTORS = Face._fields
VALUES = 11  # of every factor, spread evenly over [-1, 1]
SHAPE = (3, 64, 64)
GRID = FactorGrid(FACTORS, (VALUES,) * len(FACTORS))

Colour = tuple[float, float, float]  # red, green, blue in [0, 255]
SKIN: tuple[Colour, ...] = ((244, 208, 184), (208, 150, 112), (126, 84, 62))
HAIR: tuple[Colour, ...] = ((26, 22, 30), (112, 18, 48), (204, 76, 34), (246, 206, 96))
BACKGROUND: tuple[Colour, ...] = ((128, 186, 130), (104, 178, 208), (132, 138, 216), (218, 152, 206))
SHIRT, BROW, LASHES = (236, 238, 240), (32, 18, 20), (36, 24, 26)
EYE_WHITE, IRIS, PUPIL = (250, 250, 248), (58, 112, 128), (14, 14, 18)
LIPS, THROAT, TEETH = (204, 62, 82), (66, 10, 22), (248, 246, 240)

MIDDLE = 29.5  # row of the head's centre; lengths below are pixels from there, x to the right, y down
TOP, CHIN = 18.5, 20.5  # of the head
TURN = 0.38  # sine of the largest turn


def render_portraits(factors: Tensor) -> Tensor:
    """Draw portraits from their factors, soft-edged layers from back to front.

    Turning slides a feature at x over a head of half width a, to x cos + sqrt(a^2 - x^2) sin of the angle. Turning
    the head and the light the other way mirrors the picture.

    Args:
        factors: (N, 12) in [-1, 1], in the order of `FACTORS`.

    Returns:
        (N, 12288) uint8, channels first, on the device of the factors.

    Raises:
        ValueError: for another number of factors, or values outside [-1, 1], naming the factor.
    """
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(f"factors must be (N, {len(FACTORS)}) in the order {FACTORS}, got {tuple(factors.shape)}")
    outside = ~(factors.abs() <= 1)  # also NaN
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        raise ValueError(f"{FACTORS[column]} must lie in [-1, 1], found {factors[row, column].item():g} in row {row}")
    return _draw(factors)


def load_portraits() -> FactorImages:
    """Portraits drawn by `render_portraits`, every factor at 11 values: `FactorImages` of shape (3, 64, 64)."""
    return FactorImages(
        "portraits",
        "drawn portraits (made by a formula)",
        SHAPE,
        GRID,
        _render,
        identity=f"formula: portraits, values {GRID.sizes}",
    )


def _render(classes: Tensor) -> Tensor:
    return _draw(2 * classes / (VALUES - 1) - 1)


@torch.no_grad()
def _draw(factors: Tensor) -> Tensor:
    """`render_portraits` without the check, which would wait for the device.

    Only sums, products, quotients and roots, which are rounded alike wherever in a batch a face stands.
    """
    face = Face(*(column[:, None, None] for column in factors.float().unbind(1)))
    a = 16 + 2.2 * face.width
    sine = TURN * face.turn
    cosine = (1 - sine * sine).sqrt()
    skin = _between(SKIN, face.skin)
    _, y = _coordinates(factors.device)
    image = (_between(BACKGROUND, face.background) * (1 - 0.004 * y)[:, None]).repeat(1, 1, 1, SHAPE[2])
    _hair_and_bust(image, face, a, sine, cosine, skin)
    _features(image, face, a, sine, cosine, skin)
    return image.clamp_(0, 255).round_().to(torch.uint8).flatten(1)


def _hair_and_bust(image: Tensor, face: Face, a: Tensor, sine: Tensor, cosine: Tensor, skin: Tensor) -> None:
    """Shirt, hair, neck, ears, head and fringe."""
    part, x, y = _window(image, 50, 64, 0, 64)
    _over(part, _ellipse(x, y - 37, 26, 13), SHIRT, 1 + 0.006 * face.light * x - 0.01 * (y - 27))

    hair_colour = _between(HAIR, face.hair_colour)
    part, x, y = _window(image, 6, 64, 6, 58)
    length = 14 + 11 * face.hair_length
    down = y + 1
    hair = _ellipse(x + 0.35 * a * sine, down - down.clamp_min(0).minimum(length), a + 3, _halves(down, 20.5, 8))
    _over(part, hair, hair_colour, 0.86 + 0.26 * face.light * (x / a) - 0.006 * y)

    part, x, y = _window(image, 40, 60, 22, 42)
    neck = _ellipse(x, y - 14 - (y - 14).clamp(0, 10), 6.5, 5)
    _over(part, neck, skin, 0.78 + 0.025 * face.light * x)

    part, x, y = _window(image, 26, 42, 6, 58)
    left, right = (_ellipse(x - side * (a + 0.6) + 5 * sine, y - 3, 2.4, 4.4) for side in (-1, 1))
    _over(part, left.maximum(right), skin, 0.88 + 0.26 * face.light * (x / a))

    part, x, y = _window(image, 9, 52, 12, 52)
    across, along = x / a, y / 20
    shade = 0.98 - 0.1 * across * across + 0.31 * face.light * across - (0.08 + 0.06 * along) * along
    _over(part, _ellipse(x, y, a, _halves(y, TOP, CHIN)), skin, shade)

    part, x, y = _window(image, 6, 32, 6, 58)
    within = x.minimum(a).maximum(-a)
    forward = ((a * a - within * within).sqrt() * cosine + within * sine) / a  # 1 at the forehead, 0 at an ear
    fringe = hair[:, : 32 - 6] * (3 - 13.2 * forward - y).clamp(0, 1)
    gloss = 0.3 * (1 - 0.4 * (y + 15.5 - 0.02 * x * x).abs()).clamp_min(0)
    _over(part, fringe, hair_colour, gloss + (0.98 + 0.26 * face.light * (x / a)) + 0.008 * (y + 12))


def _features(image: Tensor, face: Face, a: Tensor, sine: Tensor, cosine: Tensor, skin: Tensor) -> None:
    """Nose, mouth, eyes and brows, on a head of half width a."""
    part, x, y = _window(image, 26, 42, 16, 48)
    nose = 1.15 * a * sine
    _over(part, 0.7 * _ellipse(x - nose + 1.1 * face.light, y - 4, 1.5, 4.5), skin, 0.8)
    _over(part, _ellipse(x - nose, y - 7.6, 2.6, 1.3), skin, 0.68)

    part, x, y = _window(image, 32, 54, 14, 50)
    q = (x - a * sine) / (7.0 * cosine)
    rest = (1 - q * q).clamp_min(0)  # 0 at the corners
    opening = 1 + face.mouth_open
    line = 12.4 + face.smile * (4.4 * rest - 3.2)
    y = y - line - 0.55 * opening * rest
    gap = (1.35 * opening * rest).expand_as(y)
    ends = (4 * rest).clamp_max(1)
    _over(part, _band(y, gap + 0.5 + 1.2 * rest) * ends, LIPS)
    inside = _band(y, gap) * (0.4 + gap).clamp_max(1) * ends
    _over(part, inside, THROAT)
    _over(part, inside * (0.1 - 0.35 * gap - y).clamp(0, 1) * (gap - 0.8).clamp(0, 1), TEETH)

    part, x, y = _window(image, 14, 40, 12, 52)
    spacing = 6.4 + 1.2 * face.eye_spacing
    depth = (a * a - spacing * spacing).sqrt()
    sides = []
    for side in (-1, 1):
        u = x - side * spacing * cosine - depth * sine
        sides.append(_eye_and_brow(u, y, face, side, (depth * cosine - side * spacing * sine) / a))
    lashes, white, iris, pupil, brow = (left.maximum(right) for left, right in zip(*sides, strict=True))
    _over(part, lashes, LASHES)
    _over(part, white, EYE_WHITE)
    _over(part, iris * white, IRIS)
    _over(part, pupil * white, PUPIL)
    _over(part, brow, BROW)


def _eye_and_brow(x: Tensor, y: Tensor, face: Face, side: int, narrow: Tensor) -> tuple[Tensor, ...]:
    """Masks of lashes, white, iris, pupil and brow of the eye at x = 0; ``side`` -1 or 1, ``narrow`` by turning."""
    size = 3.2 + 0.8 * face.eye_size
    x, y = x / narrow, y - 1.2
    ridge = y + 6.2 - 0.5 * side * face.brow * x + 0.03 * x * x
    return (
        _ellipse(x, y + 0.5, size + 0.6, 0.68 * size + 0.5),
        _ellipse(x, y, size, 0.62 * size),
        _ellipse(x, y, 0.56 * size, 0.56 * size),
        _ellipse(x, y, 0.28 * size, 0.28 * size),
        _band(ridge, 1.0) * (4.7 - x.abs()).clamp(0, 1),
    )


def _window(image: Tensor, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor, Tensor]:
    """A view of some rows and columns, and their coordinates x (1, 1, W), y (1, H, 1)."""
    x, y = _coordinates(image.device)
    return image[:, :, top:bottom, left:right], x[:, :, left:right], y[:, top:bottom]


@cache
def _coordinates(device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres of pixels from the middle of the head, x (1, 1, 64), y (1, 64, 1), kept on the device."""
    steps = torch.arange(64, device=device, dtype=torch.float32)
    return (steps - 31.5)[None, None], (steps - MIDDLE)[None, :, None]


@cache
def _colours(device: torch.device, path: tuple[Colour, ...]) -> Tensor:
    """Colours (K, 3, 1, 1), kept on the device: a captured step must not copy them from the host."""
    return torch.tensor(path, device=device, dtype=torch.float32)[:, :, None, None]


def _between(path: tuple[Colour, ...], value: Tensor) -> Tensor:
    """The colour at ``value`` (N, 1, 1) in [-1, 1] of a path of straight pieces, (N, 3, 1, 1)."""
    at = (value[:, None] + 1) * ((len(path) - 1) / 2)
    colours = _colours(value.device, path)
    colour = torch.zeros_like(colours[0])
    for k in range(len(path)):
        colour = colour + (1 - (at - k).abs()).clamp_min(0) * colours[k]
    return colour


def _halves(y: Tensor, above: float, below: float) -> Tensor:
    """Half heights of an egg: one above its middle, another below."""
    return (y < 0) * (above - below) + below


def _ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    r"""How far pixels lie in an ellipse, (N, H, W) in [0, 1]: its distance, to first order, over an edge of a pixel.

    .. math:: k = (x / r_x)^2 + (y / r_y)^2, \qquad d = (1 - k) / \lVert \nabla k \rVert
    """
    u, v = x / rx, y / ry
    u_slope, v_slope = u / rx, v / ry
    slope = (u_slope * u_slope + v_slope * v_slope).sqrt_()
    return (1 - u * u - v * v).div_(slope).mul_(0.5).add_(0.5).clamp_(0, 1)


def _band(y: Tensor, half: Tensor | float) -> Tensor:
    """How far pixels lie within ``half`` above or below a line at y = 0, (N, H, W) in [0, 1]."""
    return (half + 0.5 - y.abs()).clamp_(0, 1)


def _over(image: Tensor, mask: Tensor, colour: Tensor | Colour, shade: Tensor | float = 1.0) -> None:
    """Lay a shaded colour over an image (N, 3, H, W) where the mask (N, H, W) says, in place."""
    if isinstance(colour, tuple):
        colour = _colours(image.device, (colour,))
    image.mul_((1 - mask)[:, None]).add_(colour * (mask * shade)[:, None])
