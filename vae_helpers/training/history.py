"""What a run measured along the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class History:
    """Means of every term over windows of steps, and the results of the evaluations in between.

    Args:
        rows: one dict a window: ``step`` (its last step), ``seconds`` and each term's mean, nats.
        evals: one dict an evaluation: ``step`` and what the evaluation returned.
        interrupted: True if the run was stopped by hand, be it in its last step, or by a time limit before that.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    evals: list[dict[str, float]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def steps(self) -> np.ndarray:
        """The last step of each window."""
        return self["step"].astype(int)

    @property
    def names(self) -> list[str]:
        """The terms recorded, in order."""
        return [name for name in (self.rows[0] if self.rows else {}) if name not in ("step", "seconds")]

    @property
    def seconds(self) -> float:
        """Training time so far, evaluations and saving left out."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def __getitem__(self, name: str) -> np.ndarray:
        if self.rows and name not in self.rows[0]:
            raise KeyError(f"no term {name!r} was recorded; there are {', '.join(self.names)}")
        return np.array([row[name] for row in self.rows])

    def evaluations(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one evaluated number."""
        found = [(row["step"], row[name]) for row in self.evals if name in row]
        steps, values = zip(*found, strict=True) if found else ((), ())
        return np.array(steps, dtype=int), np.array(values)

    def state_dict(self) -> dict[str, Any]:
        """Plain lists and dicts, for a checkpoint."""
        return {"rows": [dict(row) for row in self.rows], "evals": [dict(row) for row in self.evals]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.rows, self.evals = list(state["rows"]), list(state["evals"])
