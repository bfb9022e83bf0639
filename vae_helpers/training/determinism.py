"""The same bits from the same seed, on a GPU too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def reserve_workspace() -> None:
    """Have cuBLAS repeat itself; it reads this when it is first used, so call it before anything runs on a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_algorithms(on: bool = True) -> Iterator[None]:
    """Let torch use only algorithms that repeat bit for bit; an operation that has none raises a RuntimeError.

    What needs it are convolutions on a GPU: their gradients are added up in any order else.

    Args:
        on: False changes nothing.

    Source: PyTorch's notes on reproducibility.
    """
    if not on:
        yield
        return
    reserve_workspace()
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # no value is read before it is written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        memory.fill_uninitialized_memory = filled
