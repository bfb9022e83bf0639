"""An image data set with its splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Images as flat uint8 rows, split for training and testing.

    Args:
        name: of the data set. source: where these files came from, in words.
        shape: (H, W) of one grey image, (3, H, W) of one in colour.
        x_train, x_test: (N, D) uint8. y_train, y_test: (N,) int64 labels, or empty when there are none.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    x_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_train: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, dtype=torch.int64))
    y_test: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @property
    def x_dim(self) -> int:
        """Pixels per image, D."""
        return math.prod(self.shape)

    def validation(self, n: int) -> Images:
        """The same data with the last ``n`` training images as test set: for choosing settings.

        Raises:
            ValueError: if ``n`` leaves no image on one of the two sides.
        """
        if not 0 < n < len(self.x_train):
            raise ValueError(f"n must be between 1 and {len(self.x_train) - 1} for {self.name}, got {n}")
        y_train, y_test = (self.y_train[:-n], self.y_train[-n:]) if len(self.y_train) else (self.y_train, self.y_train)
        source = f"{self.source}; last {n:,} training images held out for validation"
        return replace(
            self, source=source, x_train=self.x_train[:-n], x_test=self.x_train[-n:], y_train=y_train, y_test=y_test
        )
