"""A grid of runs as independent tasks on Dask: on this machine, or on any scheduler by its address."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vae_helpers.experiments.run import run_folder
from vae_helpers.training import Budget
from vae_helpers.training.checkpoint import atomic_write
from vae_helpers.training.progress import Progress

CONNECT_S = 10


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: settings, seed and the folder it goes to."""

    study: str
    config: Any
    seed: int
    budget: Budget
    folder: Path

    def finished(self) -> dict[str, Any] | None:
        """The record of this run if its folder holds it whole, with these settings; else None."""
        try:
            record = json.loads((self.folder / "run.json").read_text())
        except (OSError, ValueError):
            return None
        saved = {**record["config"], "steps": self.config.steps or record["config"]["steps"]}
        wanted = {**_plain(self.config), "steps": saved["steps"]}
        whole = bool(record["metrics"]) and record["steps"] >= record["config"]["steps"]
        return record if whole and saved == wanted and record["config"]["steps"] == saved["steps"] else None


def sweep(
    study: str,
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int],
    budget: Budget | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    out: Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every combination of settings with every seed; finished cells are not run again.

    Each cell is a Dask task that trains in its run folder (`run.run_folder`) with one thread. A cell that was
    cut off goes on from its checkpoint; one that fails leaves the others alone. With a scheduler on other
    machines, the run folders must lie on a file system they share, and the package must be installed there.

    Args:
        study: one of `STUDIES`. grid: setting -> values; settings not named keep their defaults. seeds: of each cell.
        budget: None for `Budget.current`. workers: processes of a local cluster; None for the number of CPUs.
        scheduler: address of a running Dask scheduler (tcp://host:8786) in the place of a local cluster.
        out: CSV file for the table; None writes none. progress: show it.

    Returns:
        one row a cell: the settings of the grid, seed, ``status`` (finished or failed), the metrics, ``seconds``,
        ``steps``, ``data``, ``hardware``, ``commit``, ``folder`` and ``error``.

    Raises:
        ValueError: for an unknown study or setting, an empty grid or no seeds, both workers and scheduler, or a
            scheduler that does not answer.
    """
    budget = Budget.current() if budget is None else budget
    if workers is not None and scheduler is not None:
        raise ValueError("give workers for a local cluster or scheduler for a running one, not both")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    wanted = cells(study, grid, seeds=seeds, budget=budget)
    records = {cell: record for cell in wanted if (record := cell.finished()) is not None}
    waiting = [cell for cell in wanted if cell not in records]
    errors: dict[Cell, str] = {}
    bar = Progress(len(wanted), start=len(records), enabled=progress, title=f"sweep {study}", unit="cell")
    if waiting:
        with _client(scheduler, min(workers or os.cpu_count() or 1, len(waiting))) as client:
            for cell, found in _results(client, waiting):
                if isinstance(found, dict):
                    records[cell] = found
                else:
                    errors[cell] = f"{type(found).__name__}: {found}"
                bar.update(len(records) + len(errors), {"failed": len(errors)})
    bar.update(len(wanted), {"failed": len(errors)}, final=True)
    table = pd.DataFrame([_row(cell, list(grid), records.get(cell), errors.get(cell, "")) for cell in wanted])
    if out is not None:
        atomic_write(out, lambda file: file.write(table.to_csv(index=False).encode()))
    return table


def cells(study: str, grid: Mapping[str, Sequence[Any]], *, seeds: Sequence[int], budget: Budget) -> list[Cell]:
    """All combinations, each with its run folder.

    Raises:
        ValueError: for an unknown study or setting, a setting without values, or no seeds.
    """
    from vae_helpers.experiments import STUDIES

    if study not in STUDIES:
        raise ValueError(f"unknown study {study!r}; choose one of {', '.join(STUDIES)}")
    config_class = STUDIES[study].config
    known = [field.name for field in dataclasses.fields(config_class)]
    for key, values in grid.items():
        if key not in known:
            raise ValueError(f"{study} has no setting {key!r}; it has {', '.join(known)}")
        if not len(values):
            raise ValueError(f"no values for {key!r}; write {key}=a,b,c")
    if not len(seeds):
        raise ValueError("a sweep needs at least one seed; write --seeds 0..4 or 0,2,5")
    found = []
    for combination in itertools.product(*grid.values()):
        config = config_class(**dict(zip(grid, combination, strict=True)))
        for seed in seeds:
            folder = run_folder(study, config, seed, budget).resolve()
            found.append(Cell(study, config, seed, budget, folder))
    return found


def parse_grid(study: str, words: Sequence[str]) -> dict[str, list[Any]]:
    """``["key=a,b", ...]`` -> typed values; a tuple is written 300x300.

    Raises:
        ValueError: for an unknown study or setting, a word without "=" or a value that the setting cannot take.
    """
    grid: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key in grid:
            raise ValueError(f"--grid {word!r}: write each setting once, as key=a,b,c")
        cells(study, {key: [None]}, seeds=[0], budget=Budget.SMOKE)  # an unknown name is reported as such
        grid[key] = [_typed(study, key, value.strip()) for value in text.split(",") if value.strip()]
    return grid


def parse_seeds(text: str) -> list[int]:
    """``0..4`` (both ends) or ``0,2,5`` -> seeds.

    Raises:
        ValueError: for anything else, or an empty range.
    """
    try:
        if ".." in text:
            first, last = (int(end) for end in text.split(".."))
            seeds = list(range(first, last + 1))
        else:
            seeds = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {text!r}: write 0..4 (both ends included) or 0,2,5") from None
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r} names no seeds, or one of them twice")
    return seeds


def summary(table: pd.DataFrame, metric: str, *, by: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation over seeds and n of one metric for each combination of settings.

    Raises:
        KeyError: listing the numeric columns, if the metric is none of them.
    """
    if metric not in table:
        raise KeyError(f"no metric {metric!r} in this table; it has {', '.join(table.select_dtypes('number').columns)}")
    finished = table[table["status"] == "finished"]
    return finished.groupby(list(by), sort=False)[metric].agg(mean="mean", sd="std", n="count")


def _typed(study: str, key: str, text: str) -> Any:
    import tyro

    from vae_helpers.experiments import STUDIES

    config_class = STUDIES[study].config
    default = getattr(config_class(), key)
    flag = f"--{key.replace('_', '-')}"
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"--grid {key}={text}: write true or false")
        return text.lower() == "true"
    words = text.split("x") if isinstance(default, tuple) else [text]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return getattr(tyro.cli(config_class, args=[flag, *words]), key)
    except SystemExit:
        kind = next(field.type for field in dataclasses.fields(config_class) if field.name == key)
        raise ValueError(f"--grid {key}={text}: {text!r} is no value of {key}, which is {kind}") from None


def _run_cell(cell: Cell) -> dict[str, Any]:
    """What a worker does."""
    from vae_helpers.experiments import STUDIES

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    run = STUDIES[cell.study].run(
        cell.config, seed=cell.seed, budget=cell.budget, folder=cell.folder, resume=True, progress=False
    )
    return run.record


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A connected Dask client; a local cluster lives as long as it."""
    from distributed import Client, LocalCluster

    if scheduler is None:
        options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
        with (
            LocalCluster(n_workers=workers, silence_logs=logging.CRITICAL, **options) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"no Dask scheduler answers at {scheduler!r} ({reason}). Start one with `dask scheduler` and workers with "
            "`dask worker ADDRESS`, or leave the address out for a local cluster."
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            print(f"the scheduler at {scheduler} has no workers yet; the cells wait for them")
        yield client


def _results(client: Any, waiting: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any] | BaseException]]:
    """Each cell with its record or its exception, as they come."""
    from distributed import as_completed

    futures = {client.submit(_run_cell, cell, pure=False): cell for cell in waiting}
    try:
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], future.result() if error is None else error
    finally:
        client.cancel(list(futures))  # nothing to do after the last one; after Ctrl-C, the rest


def _row(cell: Cell, keys: Sequence[str], record: dict[str, Any] | None, error: str) -> dict[str, Any]:
    settings = {key: _as_text(getattr(cell.config, key)) for key in keys}
    row = {"study": cell.study, **settings, "seed": cell.seed, "budget": str(cell.budget)}
    row["status"] = "finished" if record else "failed"
    if record:
        row |= record["metrics"]
        row |= {key: record[key] for key in ("seconds", "steps", "data", "hardware", "commit")}
    return {**row, "folder": str(cell.folder), "error": error}


def _as_text(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def _plain(config: Any) -> dict[str, Any]:
    """Settings as JSON keeps them."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
