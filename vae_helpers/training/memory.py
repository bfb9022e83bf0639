"""Errors that say that memory cannot be had."""

from __future__ import annotations

import torch

WORDS = (  # how torch says it
    "DefaultCPUAllocator",
    "Storage size calculation overflowed",
    "could not create a primitive",
)


def of_memory(error: BaseException) -> bool:
    """If an error says that memory cannot be had, or that a size is beyond all memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in WORDS):
        return True
    return isinstance(error.__context__, MemoryError)  # torch's writer of files says something else then
