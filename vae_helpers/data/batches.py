"""Shuffled minibatches of data that live on the device: a batch is an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Data(Protocol):
    """What a study trains on: `Images`, `FactorImages` or `Points`."""

    @property
    def source(self) -> str:
        """Where it came from, in words."""

    @property
    def fingerprint(self) -> str:
        """sha256 of its content, or of the formula that makes it."""


class Stream(Protocol):
    """What `training.fit` draws from: a batch is an index tensor, and what `take` makes of it."""

    @property
    def device(self) -> torch.device:
        """Where the data live."""

    def draw(self) -> Tensor:
        """The indices of the next batch, always of the same length."""

    def take(self, index: Tensor) -> Any:
        """The batch at ``index``, as the update expects it."""

    def state_dict(self) -> dict[str, Any]:
        """The position."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position."""


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

    @property
    def device(self) -> torch.device:
        """Where the data live."""
        return self.x.device

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


class Labelled(NamedTuple):
    """A batch with labels: x (B, D) float, y (B,) int64."""

    x: Tensor
    y: Tensor


class LabelledBatches(Batches):
    """`Batches` whose examples come with their labels.

    Args:
        x, batch_size, seed, transform, device: as `Batches`. y: one label an example, (N,) int64.

    Raises:
        ValueError: as `Batches`, or if x and y differ in length.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int,
        seed: int,
        transform: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | None = None,
    ) -> None:
        if y.shape != x.shape[:1]:
            raise ValueError(f"x and y must agree in length, got {tuple(x.shape)} and {tuple(y.shape)}")
        super().__init__(x, batch_size=batch_size, seed=seed, transform=transform, device=device)
        self.y = y.to(self.x.device)

    def take(self, index: Tensor) -> Labelled:  # type: ignore[override]
        """The batch at ``index`` (B,), transformed, with its labels."""
        return Labelled(super().take(index), self.y[index])


class TwoBatches(NamedTuple):
    """A labelled and an unlabelled batch; their sizes may differ."""

    labelled: Labelled
    x_unlabelled: Tensor


class TwoStreams:
    """A labelled and an unlabelled batch at every draw, each set passed through in its own order.

    Args:
        labelled, unlabelled: the two sets, on one device.
    """

    def __init__(self, labelled: LabelledBatches, unlabelled: Batches) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    @property
    def device(self) -> torch.device:
        """Where the data live."""
        return self.unlabelled.device

    def draw(self) -> Tensor:
        """The indices of both batches, the labelled ones first, (B_l + B_u,) int64."""
        return torch.cat([self.labelled.draw(), self.unlabelled.draw()])

    def take(self, index: Tensor) -> TwoBatches:
        """The two batches at ``index``."""
        n = self.labelled.batch_size
        return TwoBatches(self.labelled.take(index[:n]), self.unlabelled.take(index[n:]))

    def state_dict(self) -> dict[str, Any]:
        """Both positions."""
        return {"labelled": self.labelled.state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved positions."""
        self.labelled.load_state_dict(state["labelled"])
        self.unlabelled.load_state_dict(state["unlabelled"])
