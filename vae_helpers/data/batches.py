"""Shuffled minibatches of data that live on the device: a batch is an index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class Batches:
    """An endless stream of minibatches, each pass over the data in a new order.

    Pass e is permuted by a generator seeded with (seed, e), so the whole position is one integer and
    a resumed stream goes on exactly where the other stopped. A pass whose end does not fill a batch
    drops its last few examples; the next pass has another order.

    Args:
        x: all examples, (N, D): uint8 pixels or floats.
        batch_size: B, 1 <= B <= N.
        seed: of the order.
        transform: applied to each batch on the device (`pixels.binarise`, `pixels.to_grey`); None for none.
        device: where the data live; None leaves them where they are.

    Raises:
        ValueError: for data that are no (N, D) matrix, uint8 data without a transform, or a batch size out of range.
    """

    def __init__(
        self,
        x: Tensor,
        *,
        batch_size: int,
        seed: int,
        transform: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | None = None,
    ) -> None:
        if x.ndim != 2:
            raise ValueError(f"x must be (N, D), one flat example a row; got shape {tuple(x.shape)}. Use x.flatten(1).")
        if not 1 <= batch_size <= len(x):
            raise ValueError(f"batch_size must be between 1 and the {len(x)} examples there are, got {batch_size}")
        if x.dtype == torch.uint8 and transform is None:
            raise ValueError("uint8 pixels need a transform: data.binarise or data.to_grey")
        self.x = x if device is None else x.to(device)
        self.batch_size, self.seed, self.transform = batch_size, seed, transform
        self.drawn = 0
        self._order_of: int | None = None
        self._order: Tensor

    def draw(self) -> Tensor:
        """The indices of the next batch, (B,) int64 on the data's device."""
        per_pass = len(self.x) // self.batch_size
        epoch, position = divmod(self.drawn, per_pass)
        if self._order_of != epoch:
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
            order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(seed))
            self._order, self._order_of = order.to(self.x.device), epoch
        self.drawn += 1
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]

    def take(self, index: Tensor) -> Tensor:
        """The batch at ``index`` (B,), transformed: (B, D) float."""
        x = self.x[index]
        return x if self.transform is None else self.transform(x)

    def state_dict(self) -> dict[str, int]:
        """The position: seed and number of batches drawn."""
        return {"seed": self.seed, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved position."""
        self.seed, self.drawn = state["seed"], state["drawn"]
        self._order_of = None
