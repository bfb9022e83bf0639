"""One finished run: what was trained, on what, for how long, and what came out."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

import vae_helpers
from vae_helpers.experiments.folders import (
    weights_file,
)
from vae_helpers.training import Budget, History
from vae_helpers.training.checkpoint import atomic_write

PROVENANCE = ("hardware", "versions", "commit")


@dataclass(frozen=True)
class Run:
    """A trained model with everything needed to say where its numbers come from.

    Args:
        study: its name. config: the settings, steps resolved. seed, budget: as run.
        data: the data source in words. fingerprint: of the data.
        provenance: of the weights, see `provenance`. measured: of the metrics; None for a run that is not measured.
        seconds: training time.
        steps: reached. metrics: name -> value, nats unless the name says otherwise.
        model: in evaluation mode; its weights are saved if it is a torch module. history: of the training.
        before: metrics of what came before the first step.
    """

    study: str
    config: Any
    seed: int
    budget: Budget
    data: str
    fingerprint: str
    provenance: dict[str, Any]
    measured: dict[str, Any] | None
    seconds: float
    steps: int
    metrics: dict[str, float]
    model: Any = field(repr=False)
    history: History = field(repr=False)
    before: dict[str, float] = field(default_factory=dict)

    @property
    def hardware(self) -> str:
        """What it was trained on, in words."""
        return str(self.provenance["hardware"])

    @property
    def record(self) -> dict[str, Any]:
        """All but the model and its history, as plain values."""
        return {
            "study": self.study,
            "config": dataclasses.asdict(self.config),
            "seed": self.seed,
            "budget": str(self.budget),
            "data": self.data,
            "data_sha256": self.fingerprint,
            **self.provenance,
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            **({"before": self.before} if self.before else {}),
            "measured": self.measured,
            "metrics": self.metrics,
        }

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and then ``run.json`` into ``folder``, each atomically."""
        if isinstance(self.model, nn.Module):
            weights = safetensors.torch.save({k: v.contiguous() for k, v in self.model.state_dict().items()})
            atomic_write(weights_file(folder), weights)
        text = json.dumps({**self.record, "history": self.history.state_dict()}, indent=1)
        atomic_write(folder / "run.json", text.encode())


def provenance(hardware: str) -> dict[str, Any]:
    """Where weights or metrics come from: hardware, versions and the package's commit (`PROVENANCE`)."""
    versions = {
        "vae_helpers": vae_helpers.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return {"hardware": hardware, "versions": versions, "commit": _commit()}


def _commit() -> str:
    """The commit that keeps the package, with a plus if its files differ from it; empty if it is installed elsewhere.

    A package in a virtual environment inside somebody's project is not part of that project's commit.
    """
    here = Path(vae_helpers.__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
