"""An image data set with its splits."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

AT_ONCE = 2**24  # bytes that are hashed at a time, so that mapped pixels are never all in memory


@dataclass(frozen=True)
class Images:
    """Images as flat uint8 rows, split for training and testing.

    Args:
        name: of the data set. source: where these files came from, in words.
        shape: (H, W) of one grey image, (3, H, W) of one in colour.
        x_train, x_test: (N, D) uint8. y_train, y_test: (N,) int64 labels, or empty when there are none.
        classes: names of the labels 0 to K - 1, or empty.
        identity: what the fingerprint stands for if it is not the pixels: for images made by a formula, whose
            last bit may differ between processors. Empty for none.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    x_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_train: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, dtype=torch.int64))
    y_test: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, dtype=torch.int64))
    classes: tuple[str, ...] = field(repr=False, default=())
    identity: str = field(repr=False, default="")
    _hashes: tuple[str, str] | None = field(repr=False, default=None, init=False)  # so that `replace` forgets it

    @property
    def x_dim(self) -> int:
        """Pixels per image, D."""
        return math.prod(self.shape)

    @property
    def n_classes(self) -> int:
        """K: the number of class names, or the largest label + 1, or 0 without labels."""
        if self.classes:
            return len(self.classes)
        return max((int(y.max()) + 1 for y in (self.y_train, self.y_test) if len(y)), default=0)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the content, 64 hex digits: of the shape, and of pixels and labels of both splits in order.

        The same content has the same fingerprint, whatever kind of file it was read from. Names do not count. With
        an ``identity``, it is the sha256 of that text.
        """
        if self.identity:
            return hashlib.sha256(self.identity.encode()).hexdigest()
        pixels = self._hashes or (sha256_of(self.x_train), sha256_of(self.x_test))
        labels = (
            hashlib.sha256(y.cpu().numpy().astype("<i8").tobytes()).hexdigest() for y in (self.y_train, self.y_test)
        )
        return hashlib.sha256("\n".join([repr(tuple(self.shape)), *pixels, *labels]).encode()).hexdigest()

    def with_pixel_hashes(self, train: str, test: str) -> Images:
        """These images, whose sha256 of x_train and of x_test is known, so that large files are not read again."""
        known = replace(self)
        object.__setattr__(known, "_hashes", (train, test))
        return known

    def validation(self, n: int) -> Images:
        """The same data with the last ``n`` training images as test set: for choosing settings.

        Its fingerprint is made of this one's and of ``n``.

        Raises:
            ValueError: if ``n`` leaves no image on one of the two sides.
        """
        if not 0 < n < len(self.x_train):
            raise ValueError(f"n must be between 1 and {len(self.x_train) - 1} for {self.name}, got {n}")
        y_train, y_test = (self.y_train[:-n], self.y_train[-n:]) if len(self.y_train) else (self.y_train, self.y_train)
        return replace(
            self,
            source=f"{self.source}; last {n:,} training images held out for validation",
            x_train=self.x_train[:-n],
            x_test=self.x_train[-n:],
            y_train=y_train,
            y_test=y_test,
            identity=f"{self.fingerprint}: the last {n} training images held out",
        )


def sha256_of(x: Tensor) -> str:
    """sha256 of the bytes of ``x`` (N, D) uint8, row by row, 64 hex digits."""
    digest = hashlib.sha256()
    for part in x.split(max(1, AT_ONCE // max(1, x[:1].numel()))):
        digest.update(part.cpu().contiguous().numpy())
    return digest.hexdigest()
