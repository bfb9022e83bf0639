"""One size and one number of channels for all images of a set, and a split where it has none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vae_helpers.data.files import DataError

MAX_PIXELS = 50_000_000  # of one picture, height times width; more than any camera's, less than what fills a memory


def check_options(size: Any, channels: Any, test_share: Any, split_seed: Any) -> None:
    """Raise DataError, naming the setting, for values that no data set can be read with."""
    if size is not None:
        whole = isinstance(size, tuple | list) and len(size) == 2 and all(_is_whole(side) for side in size)
        if not whole or min(size) < 1 or math.prod(int(side) for side in size) > MAX_PIXELS:
            raise DataError(
                f"size must be two whole numbers (height, width) from 1 up, at most {MAX_PIXELS:,} pixels; got {size}"
            )
    if channels not in (None, 1, 3) or isinstance(channels, bool):
        raise DataError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    if isinstance(test_share, bool) or not isinstance(test_share, int | float) or not 0 < test_share < 1:
        raise DataError(f"test_share must lie between 0 and 1, the ends excluded, got {test_share}")
    if not _is_whole(split_seed) or split_seed < 0:
        raise DataError(f"split_seed must be a whole number from 0 up, got {split_seed}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def shape_of(size: tuple[int, int], channels: int) -> tuple[int, ...]:
    """The shape of `Images`: (H, W) for one channel, (3, H, W) for three."""
    return (int(size[0]), int(size[1])) if channels == 1 else (3, int(size[0]), int(size[1]))


def fit_picture(image: Any, size: tuple[int, int]) -> np.ndarray:
    """A Pillow picture, grey or RGB, as flat pixels of a given size.

    The picture is resized with antialiasing, its proportions kept, until it just covers the size; what then stands
    over on two sides is cut off in equal parts. A picture of that size stays as it is.

    Args:
        image: of mode L or RGB. size: (height, width).

    Returns:
        (H*W,) or (3*H*W,) uint8, channel by channel.
    """
    from PIL import Image

    height, width = size
    if (image.width, image.height) != (width, height):
        scale = max(height / image.height, width / image.width)
        larger = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        # the map from the old picture to the cut one, in one step: nothing is computed that is cut off
        left, top = (larger[0] - width) // 2, (larger[1] - height) // 2
        across, down = image.width / larger[0], image.height / larger[1]
        right, bottom = min(image.width, (left + width) * across), min(image.height, (top + height) * down)
        box = (left * across, top * down, right, bottom)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(image)
    return (pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)).reshape(-1)


def fit_block(pixels: np.ndarray, size: tuple[int, int], channels: int) -> np.ndarray:
    """Several images at once, by the rule of `fit_picture`; colour becomes grey by Pillow's weights.

    Args:
        pixels: (n, H, W) or (n, 3, H, W) uint8. size: (height, width). channels: 1 or 3.

    Returns:
        (n, D) uint8.
    """
    from PIL import Image

    if pixels.ndim == 4 and channels == 1:
        red, green, blue = (pixels[:, c].astype(np.uint32) for c in range(3))
        pixels = ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)
    if pixels.shape[-2:] != tuple(size):
        picture = pixels if pixels.ndim == 3 else pixels.transpose(0, 2, 3, 1)
        rows = [fit_picture(Image.fromarray(np.ascontiguousarray(one)), size) for one in picture]
        pixels = np.stack(rows).reshape(len(pixels), *([3] if pixels.ndim == 4 else []), *size)
    if pixels.ndim == 3 and channels == 3:
        pixels = np.repeat(pixels[:, None], 3, axis=1)
    return np.ascontiguousarray(pixels).reshape(len(pixels), -1)


def split_rows(
    n: int, y: np.ndarray | None, *, test_share: float, split_seed: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for testing: a permutation by the seed, and of each class the same share for testing.

    Args:
        n: images. y: their labels, (n,), or None. test_share: of each class, rounded; at least one image, but never
            the only one. split_seed: of the permutation. what: the data set, for the message.

    Returns:
        indices for training and for testing, both in the order of the permutation.

    Raises:
        DataError: if no image is left on one of the two sides.
    """
    order = np.random.default_rng(split_seed).permutation(n)
    groups = np.zeros(n, np.int64) if y is None else y
    held_out = np.zeros(n, bool)
    for label in np.unique(groups):
        members = order[groups[order] == label]
        k = min(max(1, round(test_share * len(members))), len(members) - 1)
        held_out[members[:k]] = True
    if n < 2 or not held_out.any():
        raise DataError(
            f"{what} has too few images to hold some out for a test: {n} in all, at most one of each class; "
            "add images, or give it a train and a test part"
        )
    return order[~held_out[order]], order[held_out[order]]
