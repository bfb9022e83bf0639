"""The training loop: one for every model of the collection."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vae_helpers.data import Stream
from vae_helpers.training import checkpoint as checkpoints
from vae_helpers.training.capture import CapturedStep
from vae_helpers.training.history import History
from vae_helpers.training.memory import of_memory
from vae_helpers.training.progress import Progress
from vae_helpers.training.updates import GradientStep, Objective, Update

Watch = Callable[[Any, History], None]


class NonFiniteLossError(RuntimeError):
    """A term became NaN or infinite; the message names the step, the terms and the last good checkpoint."""


def fit(
    model: nn.Module,
    batches: Stream,
    objective: Objective | None = None,
    *,
    steps: int,
    lr: float | None = None,
    bf16: bool | None = None,
    compiled: bool | None = None,
    update: Update | None = None,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    eval_every: int = 1000,
    eval_at: Collection[int] = (),
    watch: Watch | None = None,
    log_every: int = 50,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    newer: Mapping[str, Any] | None = None,
    data: str = "",
    until: float | None = None,
    progress: bool = True,
    title: str = "",
) -> History:
    """Train ``model`` for ``steps`` optimiser steps and return what was measured.

    Ctrl-C ends the run at the next step boundary: history, model and checkpoint are complete up to
    there, and a second Ctrl-C stops at once. On CUDA the whole step is captured into a graph.

    Args:
        model: trained in place, left in evaluation mode.
        batches: where batches come from (`data.Batches`, `data.TwoStreams`).
        objective: (model, batch) -> per-example terms; trained by a `GradientStep` with
            ``lr``, ``bf16`` and ``compiled``; None for its defaults.
        steps: the step to train to, counted from the very start also when resuming.
        update: instead of ``objective``: a hook that does a whole step itself.
        evaluate: called with the model every ``eval_every`` steps and at the end, in evaluation mode,
            without gradients and with the random state put back; returns numbers by name.
        eval_at: further steps after which it is called; 0 is before the first step.
        watch: called with the model and the history at the start and after each evaluation (or where one would be),
            likewise; for live views and logs.
        log_every: steps a row of the history averages over; also how often losses are checked.
        checkpoint: file to write every ``checkpoint_every`` steps (at a multiple of ``log_every``) and at the end.
        resume: go on from ``checkpoint`` if it exists. config: saved in it and compared on resuming. newer: what
            settings that an older checkpoint does not have yet are taken to be there.
        data: fingerprint of the data, saved and compared likewise; a checkpoint without one is not compared.
        until: a moment (of `time.time`) at which the run ends as by Ctrl-C, but without a last evaluation.
        progress: show progress. title: its first words.

    Returns:
        a `History`.

    Raises:
        ValueError: if not exactly one of ``objective`` and ``update`` is given, a setting of the step beside an
            ``update``, which has its own, or a count below 1.
        CheckpointError: if ``checkpoint`` exists and ``resume`` is False, or cannot be read, used or written.
        NonFiniteLossError: at the first step with a term that is not finite.
    """
    if (objective is None) == (update is None):
        raise ValueError("give either an objective or an update, not both")
    options = {name: value for name, value in (("lr", lr), ("bf16", bf16), ("compiled", compiled)) if value is not None}
    if update is not None and options:
        raise ValueError(f"an update has its own {', '.join(options)}: set them there, not in fit")
    steps, log_every, eval_every, checkpoint_every = map(int, (steps, log_every, eval_every, checkpoint_every))
    counts = {"steps": steps, "log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if update is None:
        assert objective is not None
        update = GradientStep(model, objective, **options)  # type: ignore[arg-type]
    run = _Run(update, batches, History(), checkpoint, dict(config or {}), data)
    if checkpoint is not None:
        checkpoints.check_usable(checkpoint, resume=resume)
        if checkpoint.exists():
            run.load(dict(newer or {}))
    if watch is not None:
        run.watch = watch
    device = next(model.parameters()).device
    step_fn = CapturedStep(run.step) if device.type == "cuda" else run.step
    bar = Progress(steps, start=run.at, enabled=progress, title=title)
    ring: Tensor | None = None
    seconds, flushed_at = run.history.seconds, run.at
    if run.at == 0 and 0 in eval_at:
        run.evaluate(evaluate)
    run.show()
    began = time.perf_counter()
    model.train()
    with _interrupt_at_step_boundary() as interrupt:
        stopping = False  # read once a step, so that a Ctrl-C during an evaluation ends the run one whole step later
        while run.at < steps and not stopping:
            values = step_fn(batches.draw())
            if ring is None:
                ring = torch.zeros(log_every, len(values), device=device)
            ring[run.at % log_every].copy_(values)
            run.at += 1
            late = until is not None and time.time() >= until
            stopping = interrupt.is_set() or late
            done = run.at == steps or stopping
            if run.at % log_every and not done and run.at not in eval_at:
                continue
            n = (run.at - 1) % log_every + 1
            first = max(run.at - n, flushed_at) - (run.at - n)  # a row may start inside a window
            flushed_at = run.at
            run.flush(ring[first:n], seconds + time.perf_counter() - began)
            whole = run.at % log_every == 0
            saving = checkpoint is not None and (done or (whole and _crossed(run.at, checkpoint_every, log_every)))
            evaluating = (done and not late) or run.at in eval_at or (whole and _crossed(run.at, eval_every, log_every))
            if saving or evaluating:
                paused = time.perf_counter()
                if evaluating:
                    run.evaluate(evaluate)
                if saving:
                    run.save()
                if evaluating:
                    run.show()
                began += time.perf_counter() - paused
            bar.update(run.at, run.last_terms())
    unfinished = run.at < steps
    run.history.interrupted = interrupt.is_set() or (stopping and unfinished)
    why = "by hand" if until is None or time.time() < until else "at the time limit"
    note = f"stopped {why} at step {run.at:,} of {steps:,}" if run.history.interrupted and unfinished else ""
    bar.update(run.at, run.last_terms(), final=True, note=note)
    model.eval()
    return run.history


class _Run:
    """The state of one call of `fit`: what a checkpoint holds."""

    def __init__(
        self,
        update: Update,
        batches: Stream,
        history: History,
        path: Path | None,
        config: dict[str, Any],
        data: str,
    ) -> None:
        self.update, self.batches, self.history, self.path, self.config = update, batches, history, path, config
        self.data = data
        self.at = 0
        self.names: list[str] = []
        self.last_good = 0
        self.watch: Watch | None = None

    def step(self, index: Tensor) -> Tensor:
        """One update on the batch at ``index``; the terms as one vector."""
        means = self.update(self.batches.take(index))
        self.names = list(means)
        return torch.stack(list(means.values()))

    def flush(self, window: Tensor, seconds: float) -> None:
        """Move a window of terms to the host, check it and append its mean to the history."""
        values = window.double().cpu()
        bad = (~values.isfinite()).any(dim=1).nonzero()
        if len(bad):
            row = int(bad[0])
            terms = ", ".join(
                f"{name} {value:.4g}" for name, value in zip(self.names, values[row].tolist(), strict=True)
            )
            raise NonFiniteLossError(
                f"step {self.at - len(values) + row + 1:,}: {terms}. {self._last_good()} "
                "Usual causes: a learned variance without a floor, a learning rate too high, data out of range."
            )
        means = dict(zip(self.names, values.mean(0).tolist(), strict=True))
        self.history.rows.append({"step": float(self.at), "seconds": seconds, **means})

    def _last_good(self) -> str:
        if self.path is not None and self.path.exists():
            return f"The last good checkpoint is {self.path}, at step {self.last_good:,}."
        return "There is no checkpoint; pass checkpoint= to keep one."

    def last_terms(self) -> dict[str, float]:
        """The newest row's terms."""
        return {name: self.history.rows[-1][name] for name in self.history.names} if self.history.rows else {}

    def evaluate(self, evaluate: Callable[[Any], dict[str, float]] | None) -> None:
        """Evaluate, if there is something to, without leaving a trace in the random state."""
        if evaluate is None:
            return
        if self.history.evals and self.history.evals[-1]["step"] == self.at:
            return
        self.update.model.eval()
        with torch.random.fork_rng(), torch.no_grad():
            self.history.evals.append({"step": float(self.at), **evaluate(self.update.model)})
        self.update.model.train()

    def show(self) -> None:
        """Call ``watch``, as carefully."""
        if self.watch is None:
            return
        self.update.model.eval()
        with torch.random.fork_rng(), torch.no_grad():
            self.watch(self.update.model, self.history)
        self.update.model.train()

    def save(self) -> None:
        """Write everything that is needed to go on."""
        assert self.path is not None
        bad = [name for name, value in self.update.model.state_dict().items() if not value.isfinite().all()]
        if bad:
            raise NonFiniteLossError(f"after step {self.at:,}: {bad[0]} is not finite. {self._last_good()}")
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        state = {
            "step": self.at,
            "update": self.update.state_dict(),
            "batches": self.batches.state_dict(),
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "history": self.history.state_dict(),
            "config": self.config,
            "data": self.data,
            "shapes": self._shapes(),
        }
        checkpoints.save(self.path, state)
        self.last_good = self.at

    def load(self, newer: dict[str, Any]) -> None:
        """Go on from the checkpoint."""
        assert self.path is not None
        state = checkpoints.load(self.path, config=self.config, newer=newer, data=self.data, shapes=self._shapes())
        try:
            self.update.load_state_dict(state["update"])
            self.batches.load_state_dict(state["batches"])
            self.history.load_state_dict(state["history"])
            torch.set_rng_state(state["rng"]["cpu"])
            for device, of_device in zip(range(torch.cuda.device_count()), state["rng"]["cuda"], strict=False):
                torch.cuda.set_rng_state(of_device, device)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            if of_memory(error):
                raise
            reason = str(error).splitlines()[0][:120] if str(error) else ""
            raise checkpoints.unusable(self.path, f"{type(error).__name__}: {reason}") from error
        self.at = self.last_good = state["step"]

    def _shapes(self) -> dict[str, list[int]]:
        return {name: list(value.shape) for name, value in self.update.model.state_dict().items()}


def _crossed(at: int, every: int, log_every: int) -> bool:
    """True at the first multiple of ``log_every`` at or past each multiple of ``every``."""
    return at % every < log_every and at >= every


@contextmanager
def _interrupt_at_step_boundary() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; the second one interrupts at once, as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals belong to the main thread
        return
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(signum: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
