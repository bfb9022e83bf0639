"""What a study's ``run`` does around its model: load and resolve, fit, save, measure, save again."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Required, TypedDict, TypeVar

import torch
from torch import nn

from vae_helpers.data import Data, Stream
from vae_helpers.data.writing import claimed
from vae_helpers.experiments.folders import (
    checkpoint_file,
    load_weights,
    newer_than_records,
    plain,
    trained_record,
)
from vae_helpers.experiments.run import PROVENANCE, Run, provenance
from vae_helpers.experiments.settings import Settings
from vae_helpers.training import Budget, History, Update, Watch, fit, pick_device
from vae_helpers.training.budget import check_seed, describe_device, whole_number
from vae_helpers.training.determinism import deterministic_algorithms, reserve_workspace

C = TypeVar("C", bound=Settings)
D = TypeVar("D", bound=Data)
M = TypeVar("M", bound=nn.Module)


class Given(TypedDict, total=False):
    """What every study's ``run`` takes beside its settings and images, and hands to `prepare`."""

    seed: Required[int]
    """of weights, order and noise"""
    budget: Budget | None
    """how long to train, and how thoroughly to measure; default `Budget.current`"""
    folder: Path | None
    """where checkpoint, weights and record go; None, the default, keeps everything in memory"""
    resume: bool
    """go on from what the folder holds, a checkpoint or a trained model that is to be measured; default False"""
    checkpoint_every: int
    """steps between checkpoints; default 1,000"""
    progress: bool
    """show progress; default True"""
    eval_every: int
    """steps between evaluations; default 0: twenty in a run"""
    until: float | None
    """a moment (of `time.time`) after which nothing is trained or measured any more; the run can be resumed"""
    watch: Watch | None
    """called with model and history at each evaluation; see `training.fit`"""


@dataclass(frozen=True)
class Job(Generic[C, D]):
    """What is known before a run starts: made by `prepare`, the first line of every study's ``run``.

    Args:
        config: the settings, resolved. data: what it trains on. given: as the study's ``run`` got it. budget: how long.
        device: where it trains. fingerprint: of the data as they were loaded, before any were held out.
        trained: the record of this run, if it is resumed and its folder holds it with its training ended.
    """

    config: C
    data: D
    given: Given
    budget: Budget
    device: torch.device
    fingerprint: str
    trained: dict[str, Any] | None

    @property
    def seed(self) -> int:
        """Of weights, order and noise."""
        return int(self.given["seed"])

    @property
    def stream(self) -> dict[str, Any]:
        """The keywords of `data.Batches`: batch size, seed and device."""
        return {"batch_size": self.config.batch_size, "seed": self.seed, "device": self.device}

    def pick(self, smoke: int, quick: int, full: int) -> int:
        """The number for this budget."""
        return self.budget.pick(smoke=smoke, quick=quick, full=full)

    def build(self, build: Callable[[C], M]) -> M:
        """An untrained model on the device, its weights and all noise after it drawn by the seed."""
        torch.manual_seed(self.seed)
        return build(self.config).to(self.device)

    def claim(self) -> contextlib.AbstractContextManager[None]:
        """Keep the run folder, if there is one, for this process; see `data.writing.claimed`."""
        folder = self.given.get("folder")
        return contextlib.nullcontext() if folder is None else claimed(Path(folder))

    def finished(self, steps: int, metrics: dict[str, float], model: Any, history: History, **said: Any) -> Run:
        """The `Run` of this job; ``said``: data, seconds, provenance and measured. It is saved if there is a folder."""
        made: dict[str, Any] = {"seed": self.seed, "budget": self.budget, "fingerprint": self.fingerprint, **said}
        run = Run(self.config.STUDY, self.config, steps=steps, metrics=metrics, model=model, history=history, **made)
        folder = self.given.get("folder")
        if folder is not None and (metrics or self.trained is None):  # what is saved and measured is not taken back
            run.save(folder)
        return run

    def train(
        self,
        model: nn.Module,
        batches: Stream,
        update: Update,
        *,
        measure: Callable[[Any], dict[str, float]],
        evaluate: Callable[[Any], dict[str, float]] | None = None,
        eval_at: Collection[int] = (),
        pixels: str = "",
        before: dict[str, float] | None = None,
    ) -> Run:
        """Fit a model, save it, measure it and save it again; a resumed one whose training had ended is measured only.

        Args:
            model, batches, update: as for `training.fit`.
            measure: the finished model -> metrics, from one state of torch's generator whoever calls.
            evaluate: numbers along the way, every ``eval_every`` steps and at the steps ``eval_at``.
            pixels: what was made of them, in words, for the record.
            before: metrics of what came before the first step, which measuring again does not go through.

        Returns:
            a `Run`. It has no metrics if it was stopped by hand or by ``until``: ``history.interrupted`` while it was
            trained, or else before it was measured.

        Raises:
            ValueError: for a negative ``eval_every``, a setting and a metric of one name, or a folder in which another
                process works.
            CheckpointError: if the folder's checkpoint is of other data or settings, or cannot be used.
        """
        with self.claim():
            return self._train(model, batches, update, measure, evaluate, eval_at, pixels, before)

    def _train(
        self,
        model: nn.Module,
        batches: Stream,
        update: Update,
        measure: Callable[[Any], dict[str, float]],
        evaluate: Callable[[Any], dict[str, float]] | None,
        eval_at: Collection[int],
        pixels: str,
        before: dict[str, float] | None,
    ) -> Run:
        """`train`, with the folder claimed."""
        words = "; ".join(filter(None, (self.data.source, pixels)))
        hardware = describe_device(batches.device)
        before = before or {}
        if (record := self.trained) is not None:
            load_weights(model, self.given["folder"])  # type: ignore[arg-type]  # trained: there is a folder
            model.eval()
            history = History()
            history.load_state_dict(record["history"])
            said = {"provenance": {key: record.get(key, "") for key in PROVENANCE}, "seconds": record["seconds"]}
            before = record.get("before", {})
        else:
            said = {"provenance": provenance(hardware)}  # before: a long training may outlive its commit
            history = self._fit(model, batches, update, evaluate, eval_at)
            said["seconds"] = history.seconds
        steps = int(history.steps[-1])
        made: dict[str, Any] = {"data": words, "before": before, **said}
        run = self.finished(steps, {}, model, history, measured=None, **made)
        if history.interrupted or time.time() >= (self.given.get("until") or math.inf):
            return run
        torch.manual_seed(self.seed)
        try:
            metrics = {**measure(model), **before}
        except KeyboardInterrupt:
            return run
        if taken := metrics.keys() & dataclasses.asdict(self.config).keys():
            raise ValueError(
                f"{self.config.STUDY} has settings and metrics of one name, which a table would mix up: "
                f"{', '.join(taken)}"
            )
        return self.finished(steps, metrics, model, history, measured=provenance(hardware), **made)

    def _fit(
        self, model: nn.Module, batches: Stream, update: Update, evaluate: Any, eval_at: Collection[int]
    ) -> History:
        config, given, folder = self.config, self.given, self.given.get("folder")
        if (eval_every := given.get("eval_every", 0)) < 0:
            raise ValueError(f"eval_every must not be negative, got {eval_every}")
        with deterministic_algorithms(config.deterministic):
            return fit(
                model,
                batches,
                update=update,
                steps=config.steps,
                evaluate=evaluate,
                eval_every=eval_every or max(config.steps // 20, 1),
                eval_at=eval_at,
                watch=given.get("watch"),
                log_every=min(50, config.steps),
                checkpoint=checkpoint_file(folder) if folder else None,
                checkpoint_every=given.get("checkpoint_every", 1000),
                resume=given.get("resume", False),
                config={"study": config.STUDY, "seed": self.seed, **_without_steps(config)},
                newer=newer_than_records(config),
                data=self.fingerprint,
                until=given.get("until"),
                progress=given.get("progress", True),
                title=config.STUDY,
            )


def prepare(config: C, data: D | None, given: Given) -> Job[C, D]:
    """Load what is to be trained on, and resolve the settings by it and by the budget.

    Args:
        config: as given. data: already loaded; None loads what the settings name. given: as the study's ``run`` got it.

    Raises:
        TypeError: for a keyword that no run takes, or no seed.
        ValueError, DataError: for settings that do not fit the data, or data that cannot be had.
    """
    if (unknown := given.keys() - Given.__annotations__.keys()) or "seed" not in given:
        raise TypeError(
            f"a run takes {', '.join(Given.__annotations__)}, and seed always; got {', '.join(unknown or given)}"
        )
    given = {**given, "seed": check_seed(given["seed"])}
    for name in ("eval_every", "checkpoint_every"):
        if name in given:
            if (number := whole_number(given[name])) is None:
                raise ValueError(f"{name} must be a whole number, got {given[name]!r}")
            given[name] = number
    if torch.get_default_dtype() != torch.float32:
        raise ValueError(
            f"models are trained in float32, and torch's default dtype is {torch.get_default_dtype()}; "
            "call torch.set_default_dtype(torch.float32) first"
        )
    budget = Budget(given.get("budget") or Budget.current())
    if config.deterministic:
        reserve_workspace()
    found: Any = config.load() if data is None else data
    config, fingerprint = config.resolved(budget, found), found.fingerprint
    trained = None
    if (folder := given.get("folder")) is not None and given.get("resume", False):
        trained = trained_record(folder, config, found, given["seed"], budget)
    if n := getattr(config, "validation", 0):
        found = found.validation(n)
    return Job(config, found, given, budget, pick_device(), fingerprint, trained)


def _without_steps(config: Settings) -> dict[str, Any]:
    """The settings that a longer run of the same kind shares (tuples as lists, as a checkpoint keeps them).

    A step size that falls to zero at the last step depends on the number of steps: then a longer run is another run.
    """
    return {key: value for key, value in plain(config).items() if config.decay or key != "steps"}
