"""A second picture of the same thing, moved and bent a little."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def random_affine(
    x: Tensor,
    shape: tuple[int, ...],
    *,
    degrees: float = 15.0,
    scale: float = 0.15,
    shear: float = 0.2,
    shift: float = 2.0,
) -> Tensor:
    """Each image under an affine map of its own, drawn uniformly; what comes in from outside is 0.

    Args:
        x: uint8 images, (B, D). shape: (H, W), or (C, H, W) of one map for all channels.
        degrees: rotation, up to so much either way. scale: factors from 1 - scale to 1 + scale, in x and y alike.
        shear: of x by y, up to so much either way. shift: pixels, up to so much either way, in x and in y.

    Returns:
        uint8 (B, D), on the device of x.

    Raises:
        ValueError: if x is not uint8 of that shape, or a range is negative or a scale 1 or more.
    """
    height, width = shape[-2:]
    if x.dtype != torch.uint8 or x.ndim != 2 or x.shape[1] != math.prod(shape):
        raise ValueError(f"x must be uint8 of shape (B, {math.prod(shape)}), got {x.dtype} of shape {tuple(x.shape)}")
    if not all(value >= 0 for value in (degrees, scale, shear, shift)) or scale >= 1:
        raise ValueError(f"ranges must be >= 0 and scale < 1, got {degrees=}, {scale=}, {shear=}, {shift=}")
    turn, size, bend, right, down = (2 * torch.rand(5, len(x), device=x.device) - 1).unbind()
    angle, size, bend = turn * math.radians(degrees), 1 / (1 + size * scale), bend * shear
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    tall = height / width  # the map acts on coordinates from -1 to 1 in both directions
    across = [cos, (bend * cos - sin) * tall, right * 2 * shift / width]
    along = [sin / tall, bend * sin + cos, down * 2 * shift / height]
    grid = F.affine_grid(torch.stack(across + along, 1).view(-1, 2, 3), [len(x), 1, height, width], align_corners=False)
    moved = F.grid_sample(x.reshape(len(x), -1, height, width).float(), grid, align_corners=False)
    return moved.flatten(1).round().to(torch.uint8)


class TwoViews(NamedTuple):
    """Two pictures of the same things: x (B, D) and view (B, D), float."""

    x: Tensor
    view: Tensor


def two_views(as_is: Callable[[Tensor], Tensor], moved: Callable[[Tensor], Tensor]) -> Callable[[Tensor], TwoViews]:
    """A transform for `Batches`: every image through both transforms."""
    return lambda x: TwoViews(as_is(x), moved(x))
