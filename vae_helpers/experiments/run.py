"""One finished run: what was trained, on what, for how long, and what came out."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

import safetensors.torch
import torch
from torch import nn

from vae_helpers.data import Stream
from vae_helpers.objectives import Terms
from vae_helpers.training import Budget, History, Update, Watch, fit
from vae_helpers.training.budget import describe_device
from vae_helpers.training.checkpoint import atomic_write


@dataclass(frozen=True)
class Run:
    """A trained model with everything needed to say where its numbers come from.

    Args:
        study: its name. config: the settings, steps resolved. seed, budget: as run.
        data: the data source in words. hardware: the device in words. seconds: training time.
        steps: reached. metrics: name -> value, nats unless the name says otherwise.
        model: in evaluation mode; its weights are saved if it is a torch module. history: of the training.
    """

    study: str
    config: Any
    seed: int
    budget: Budget
    data: str
    hardware: str
    seconds: float
    steps: int
    metrics: dict[str, float]
    model: Any = field(repr=False)
    history: History = field(repr=False)

    @property
    def record(self) -> dict[str, Any]:
        """All but the model and its history, as plain values."""
        return {
            "study": self.study,
            "config": dataclasses.asdict(self.config),
            "seed": self.seed,
            "budget": str(self.budget),
            "data": self.data,
            "hardware": self.hardware,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "commit": _commit(),
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            "metrics": self.metrics,
        }

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and then ``run.json`` into ``folder``, each atomically."""
        if isinstance(self.model, nn.Module):
            weights = safetensors.torch.save({k: v.contiguous() for k, v in self.model.state_dict().items()})
            atomic_write(folder / "weights.safetensors", lambda file: file.write(weights))
        text = json.dumps({**self.record, "history": self.history.state_dict()}, indent=1)
        atomic_write(folder / "run.json", lambda file: file.write(text.encode()))


class Keeping(TypedDict, total=False):
    """Where a run is kept and whether it is shown; every study's ``run`` hands it on to `train`."""

    folder: Path | None
    """where checkpoint, weights and record go; None, the default, keeps everything in memory"""
    resume: bool
    """go on from the folder's checkpoint; default False"""
    checkpoint_every: int
    """steps between checkpoints; default 1,000"""
    progress: bool
    """show progress; default True"""
    eval_every: int
    """steps between evaluations; default 0: twenty in a run"""
    watch: Watch | None
    """called with model and history at each evaluation; see `training.fit`"""


def train(
    study: str,
    config: Any,
    model: nn.Module,
    batches: Stream,
    objective: Callable[[Any, Any], Terms] | None = None,
    *,
    update: Update | None = None,
    seed: int,
    budget: Budget,
    data: str,
    measure: Callable[[Any], dict[str, float]],
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    eval_at: Collection[int] = (),
    folder: Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 1000,
    progress: bool = True,
    eval_every: int = 0,
    watch: Watch | None = None,
) -> Run:
    """Fit a study's model and measure it: the part that all studies share.

    Args:
        study, config, seed, budget, data: go into the record; config has ``steps``, ``lr``, ``bf16`` and ``compiled``.
        objective, update: one of the two, as for `training.fit`.
        measure: the finished model -> metrics. evaluate: numbers along the way, every ``eval_every`` steps and at the
            steps ``eval_at``.
        folder, resume, checkpoint_every, progress, eval_every, watch: see `Keeping`.

    Returns:
        a `Run`; its ``history.interrupted`` says if it was stopped by hand.

    Raises:
        ValueError: for a negative ``eval_every``, or a setting and a metric of one name.
    """
    if eval_every < 0:
        raise ValueError(f"eval_every must not be negative, got {eval_every}")
    history = fit(
        model,
        batches,
        objective,
        update=update,
        steps=config.steps,
        lr=config.lr,
        bf16=config.bf16,
        compiled=config.compiled,
        evaluate=evaluate,
        eval_every=eval_every or max(config.steps // 20, 1),
        eval_at=eval_at,
        watch=watch,
        log_every=min(50, config.steps),
        checkpoint=checkpoint_file(folder) if folder else None,
        checkpoint_every=checkpoint_every,
        resume=resume,
        config={"study": study, "seed": seed, **_without_steps(config)},
        progress=progress,
        title=study,
    )
    steps = int(history.steps[-1])
    metrics = {} if history.interrupted else measure(model)
    if taken := metrics.keys() & dataclasses.asdict(config).keys():
        raise ValueError(
            f"{study} has settings and metrics of one name, which a table would mix up: {', '.join(taken)}"
        )
    hardware = describe_device(batches.device)
    run = Run(study, config, seed, budget, data, hardware, history.seconds, steps, metrics, model, history)
    if folder is not None:
        run.save(folder)
    return run


def checkpoint_file(folder: Path) -> Path:
    """Where a run folder keeps its checkpoint."""
    return folder / "checkpoint.pt"


def finished_record(folder: Path, study: str, config: Any, seed: int, budget: Budget) -> dict[str, Any] | None:
    """The record of this run if ``folder`` holds it whole, with these settings; else None."""
    try:
        record = json.loads((folder / "run.json").read_text())
        made = record["study"], record["seed"], record["budget"]
        saved = record["config"]
        whole = bool(record["metrics"]) and record["steps"] >= saved["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    wanted = {**plain(config), "steps": config.steps or saved["steps"]}
    return record if whole and made == (study, seed, str(budget)) and saved == wanted else None


def plain(config: Any) -> dict[str, Any]:
    """Settings as a record keeps them: tuples as lists."""
    values = dataclasses.asdict(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def check_choices(config: Any) -> None:
    """Raise ValueError, listing the choices, if a setting with fixed choices has another value."""
    for name, hint in get_type_hints(type(config)).items():
        known, value = get_args(hint), getattr(config, name)
        if get_origin(hint) is Literal and value not in known:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")


def run_folder(study: str, config: Any, seed: int, budget: Budget) -> Path:
    """runs/STUDY/SETTINGS_budget_seed (VAE_RUNS in the place of runs), the settings that differ from the defaults."""
    defaults = dataclasses.asdict(type(config)())
    changed = {key: value for key, value in dataclasses.asdict(config).items() if value != defaults[key]}
    words = [f"{key}={_in_a_name(value)}" for key, value in changed.items()]
    return Path(os.environ.get("VAE_RUNS", "runs")) / study / "_".join([*words, str(budget), f"seed={seed}"])


def _in_a_name(value: Any) -> str:
    return ("x".join(map(str, value)) if isinstance(value, tuple) else str(value)).replace("/", "-")


def _without_steps(config: Any) -> Mapping[str, Any]:
    """The settings that a longer run of the same kind shares (tuples as lists, as a checkpoint keeps them).

    A step size that falls to zero at the last step depends on the number of steps: then a longer run is another run.
    """
    values = plain(config)
    if not values.get("decay"):
        values.pop("steps")
    return values


def _commit() -> str:
    """The commit the package stands at, with a plus if files of the package differ from it."""
    here = Path(__file__).resolve().parents[1]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "*.py"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
