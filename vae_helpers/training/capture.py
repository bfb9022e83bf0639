"""A training step recorded once as a CUDA graph and replayed: one launch a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class CapturedStep:
    """Runs ``step(index)`` eagerly a few times, then captures it and replays the capture.

    The eager calls are real training steps (they create the optimiser's state); capturing itself runs
    nothing, so every call is exactly one step. If capturing fails, one line says so and every later
    call is eager.

    Args:
        step: maps an index tensor (B,) on the device to a vector of terms; always the same shapes,
            no host synchronisation inside.
    """

    WARM_UP = 3

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self.step = step
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self._index: Tensor
        self._values: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        """One step on the batch at ``index``; returns its terms (overwritten by the next call)."""
        if self.graph is not None:
            self._index.copy_(index)
            self.graph.replay()
            return self._values
        self.calls += 1
        if self.calls != self.WARM_UP + 1:
            return self._eager(index)
        return self._capture(index)

    def _eager(self, index: Tensor) -> Tensor:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            values = self.step(index)
        torch.cuda.current_stream().wait_stream(stream)
        return values

    def _capture(self, index: Tensor) -> Tensor:
        self._index = index.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._values = self.step(self._index)
        except RuntimeError as error:
            torch.cuda.synchronize()
            print(f"this step cannot be captured as a CUDA graph ({str(error).splitlines()[0]}); running it eagerly")
            return self._eager(index)
        self.graph = graph
        graph.replay()
        return self._values
