"""Images made of known factors: a grid of factor values, and what renders them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SCALED_MAX = 0.9  # of a factor's values when they are scaled to be a code
PROBE = 1024  # images that stand for all in a fingerprint


@dataclass(frozen=True)
class FactorGrid:
    """Every combination of some factors, each with finitely many values.

    An image is named by its *classes*, one integer a factor, or by its index in the grid, the last factor fastest.

    Args:
        names: of the factors. sizes: how many values each has, >= 1.

    Raises:
        ValueError: for no factors, sizes below 1, or not one name a size.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.sizes) or min(self.sizes) < 1:
            raise ValueError(
                f"a grid needs one name and one size >= 1 a factor, got names {self.names}, sizes {self.sizes}"
            )

    @property
    def n_images(self) -> int:
        """How many combinations there are."""
        return math.prod(self.sizes)

    @property
    def varying(self) -> tuple[int, ...]:
        """The factors with more than one value: those that a metric can count."""
        return tuple(j for j, size in enumerate(self.sizes) if size > 1)

    def classes_of(self, index: Tensor) -> Tensor:
        """Classes (N, F) int64 of grid positions ``index`` (N,) int64.

        Raises:
            ValueError: for a position outside the grid.
        """
        low, high = (int(index.min()), int(index.max())) if index.numel() else (0, 0)
        if low < 0 or high >= self.n_images:
            raise ValueError(f"positions must lie in 0..{self.n_images - 1}, found {low} to {high}")
        return self.unravel(index)

    def unravel(self, index: Tensor) -> Tensor:
        """`classes_of` without the check, which would wait for the device."""
        strides, sizes = _on(index.device, _strides(self.sizes)), _on(index.device, self.sizes)
        return index[:, None] // strides % sizes

    def index_of(self, classes: Tensor) -> Tensor:
        """Grid positions (N,) int64 of ``classes`` (N, F).

        Raises:
            ValueError: as `check`.
        """
        self.check(classes)
        return self.ravel(classes)

    def ravel(self, classes: Tensor) -> Tensor:
        """`index_of` without the check, which would wait for the device."""
        return (classes.long() * _on(classes.device, _strides(self.sizes))).sum(-1)

    def check(self, classes: Tensor) -> None:
        """Raise ValueError, naming the factor, if ``classes`` are no (N, F) integers on this grid."""
        whole = not classes.is_floating_point() and classes.dtype != torch.bool
        if classes.ndim != 2 or classes.shape[1] != len(self.sizes) or not whole:
            raise ValueError(
                f"classes must be integers of shape (N, {len(self.sizes)}), one column for each of "
                f"{', '.join(self.names)}; got {classes.dtype} {tuple(classes.shape)}"
            )
        if len(classes) == 0:
            return
        for name, size, low, high in zip(
            self.names, self.sizes, classes.amin(0).tolist(), classes.amax(0).tolist(), strict=True
        ):
            if low < 0 or high >= size:
                raise ValueError(f"{name} has the values 0..{size - 1}, found {low if low < 0 else high}")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` uniform draws of all factors, (n, F) int64; a factor with one value takes no random number."""
        drawn = torch.zeros(n, len(self.sizes), dtype=torch.int64)
        for f in self.varying:
            drawn[:, f] = torch.randint(self.sizes[f], (n,), generator=generator)
        return drawn

    def scaled(self, classes: Tensor) -> Tensor:
        """Factor values spread evenly over [-0.9, 0.9], 0 for a factor with one value; (N, F) -> (N, F) float32."""
        sizes = _on(classes.device, self.sizes)
        return torch.where(sizes == 1, 0.0, SCALED_MAX * (2.0 * classes / (sizes - 1).clamp_min(1) - 1))

    def unscaled(self, values: Tensor) -> Tensor:
        """The nearest classes to scaled values; (N, F) -> (N, F) int64."""
        last = _on(values.device, self.sizes) - 1
        return torch.minimum(((values / SCALED_MAX + 1) / 2 * last).round().long().clamp_min(0), last)


def _strides(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[j + 1 :]) for j in range(len(sizes)))


@cache
def _on(device: torch.device, values: tuple[int, ...]) -> Tensor:
    """Constants, kept on the device: a captured step must not copy them from the host."""
    return torch.tensor(values, device=device)


@dataclass(frozen=True)
class FactorImages:
    """A data set of images by their factors: rendered on demand, or read from a file.

    Args:
        name: of the data set. source: where the images come from, in words. shape: (C, H, W) of one image.
        grid: the factors. render: classes (N, F) int64 -> uint8 pixels (N, C*H*W) on the classes' device.
        white: the largest pixel value. identity: what the fingerprint stands for, for images made by a formula, whose
            last bit may differ between processors; empty for the pixels.
    """

    name: str
    source: str
    shape: tuple[int, int, int]
    grid: FactorGrid
    render: Callable[[Tensor], Tensor] = field(repr=False)
    white: int = 255
    identity: str = field(repr=False, default="")

    @property
    def x_dim(self) -> int:
        """Pixels per image, D."""
        return math.prod(self.shape)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the content, 64 hex digits: of the identity, or of name, shape, grid and a probe of the images.

        The probe is `PROBE` images spread evenly over the grid, or all of a smaller grid.
        """
        if self.identity:
            return hashlib.sha256(self.identity.encode()).hexdigest()
        text = f"{self.name}\n{tuple(self.shape)}\n{self.grid.names}\n{self.grid.sizes}\n{self.white}\n"
        index = torch.arange(min(PROBE, self.grid.n_images)) * self.grid.n_images // min(PROBE, self.grid.n_images)
        probe = self.render(self.grid.classes_of(index)).contiguous().numpy()
        return hashlib.sha256(text.encode() + probe.tobytes()).hexdigest()

    def pixels(self, classes: Tensor) -> Tensor:
        """Images as models take them: classes (N, F) -> (N, D) float32 in [0, 1].

        Raises:
            ValueError: for classes outside the grid, naming the factor.
        """
        self.grid.check(classes)
        return self.render(classes.long()).float() / self.white

    def chunks(
        self, *, batch_size: int = 1024, device: torch.device | str = "cpu", progress: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole grid in its order, piece by piece: (classes (B, F), pixels (B, D)), never all in memory at once.

        Args:
            batch_size: images a piece, >= 1. device: where they are made. progress: show a bar.

        Raises:
            ValueError: for a batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        from tqdm.auto import tqdm

        starts = range(0, self.grid.n_images, batch_size)
        for start in tqdm(starts, desc=self.name, unit="batch", disable=not progress):
            stop = min(start + batch_size, self.grid.n_images)
            classes = self.grid.classes_of(torch.arange(start, stop, device=device))
            yield classes, self.pixels(classes)


class WithFactors(NamedTuple):
    """A batch of images with their factors: x (B, D) float in [0, 1], classes (B, F) int64."""

    x: Tensor
    classes: Tensor


class FactorBatches:
    """An endless stream of images with independent, uniform factors, rendered on the device.

    Draw n comes from a generator seeded with (seed, n), so the whole position is one integer and a
    resumed stream goes on exactly where the other stopped.

    Args:
        images: the data set. batch_size: B, >= 1. seed: of the draws. device: where images are made.

    Raises:
        ValueError: for a batch size below 1.
    """

    def __init__(
        self,
        images: FactorImages,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.images, self.batch_size, self.seed, self.drawn = images, batch_size, seed, 0
        self._device = torch.device("cpu") if device is None else device

    @property
    def device(self) -> torch.device:
        """Where images are made."""
        return self._device

    def draw(self) -> Tensor:
        """Grid positions of the next batch, (B,) int64."""
        seed = int(np.random.SeedSequence([self.seed, self.drawn]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        self.drawn += 1
        return torch.randint(self.images.grid.n_images, (self.batch_size,), generator=generator).to(self._device)

    def take(self, index: Tensor) -> WithFactors:
        """The images at grid positions ``index`` (B,)."""
        classes = self.images.grid.unravel(index)
        return WithFactors(self.images.render(classes).float() / self.images.white, classes)

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return {"seed": self.seed, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position."""
        self.seed, self.drawn = state["seed"], state["drawn"]
