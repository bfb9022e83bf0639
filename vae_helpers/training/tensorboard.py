"""Terms, evaluations and pictures of a run as TensorBoard events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vae_helpers.training.history import History


class TensorBoard:
    """A ``watch`` of `fit` that writes what is new since its last call.

    Scalars ``terms/NAME`` (means over windows of steps) and ``evaluations/NAME``; images ``picture``. A resumed run
    goes on in the same folder: events after its checkpoint are marked as overwritten.

    Args:
        folder: of the events; made if need be. picture: model -> (H, W) or (H, W, 3), 0 to 1, written with each call.

    Raises:
        ValueError: at the first call, if the folder has events of another run or cannot be written.
    """

    def __init__(self, folder: Path, *, picture: Callable[[Any], np.ndarray] | None = None) -> None:
        self.folder, self.picture = folder, picture
        self._writer: Any = None
        self._n_rows = self._n_evals = 0

    def __call__(self, model: Any, history: History) -> None:
        """Write the new rows and evaluations, and a picture of the model as it is."""
        if self._writer is None:
            self._open(history)
        for kind, rows, first in (
            ("terms", history.rows, self._n_rows),
            ("evaluations", history.evals, self._n_evals),
        ):
            for row in rows[first:]:
                for name, value in row.items():
                    if name not in ("step", "seconds"):
                        self._writer.add_scalar(f"{kind}/{name}", value, int(row["step"]))
        self._n_rows, self._n_evals = len(history.rows), len(history.evals)
        if self.picture is not None:
            pixels = self.picture(model)
            layout = "HW" if pixels.ndim == 2 else "HWC"
            self._writer.add_image("picture", pixels, _reached(history), dataformats=layout)
        self._writer.flush()

    def _open(self, history: History) -> None:
        from torch.utils.tensorboard import SummaryWriter

        reached = _reached(history)
        goes_on = any(self.folder.glob("events.out.tfevents.*"))
        if goes_on and not reached:
            raise ValueError(
                f"{self.folder} has events of another run, which this one would mix with; "
                "choose another folder, delete it, or go on from a checkpoint with --resume"
            )
        if goes_on:
            self._n_rows, self._n_evals = len(history.rows), len(history.evals)
        try:
            self._writer = SummaryWriter(str(self.folder), purge_step=reached + 1 if goes_on else None)
        except OSError as error:
            raise ValueError(
                f"TensorBoard events cannot be written to {self.folder} ({error.strerror}). Choose another folder."
            ) from None


def _reached(history: History) -> int:
    steps = [row["step"] for rows in (history.rows, history.evals) for row in rows[-1:]]
    return int(max(steps, default=0))
