"""A grid of runs as independent tasks on Dask: on this machine, or on any scheduler by its address."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from vae_helpers.data import DataError
from vae_helpers.experiments.cells import Cell, cells
from vae_helpers.experiments.folders import runs_root
from vae_helpers.experiments.packing import pack_runs
from vae_helpers.experiments.plan import read_plan
from vae_helpers.experiments.tasks import How, outcomes
from vae_helpers.training import Budget
from vae_helpers.training.checkpoint import atomic_write, check_writable
from vae_helpers.training.progress import Progress

LAST = (
    "seconds",
    "steps_done",
    "data_source",
    "data_sha256",
    "hardware",
    "commit",
    "folder",
    "error",
)  # columns of the table
STOPPED = "stopped by hand; the same sweep goes on from the last checkpoint"
LATE = "stopped at the time limit; the same sweep goes on from there"


def sweep(
    study: str,
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int],
    budget: Budget | None = None,
    **how: Unpack[How],
) -> pd.DataFrame:
    """Run every combination of settings with every seed; finished cells are not run again.

    Each cell trains in its run folder (`run.run_folder`) with one thread, as a Dask task or in this process. A cell
    that was cut off goes on from its checkpoint; one that fails leaves the others alone. After Ctrl-C the table has
    what was finished (workers of a running scheduler still end the cells that they are in). With a scheduler on other
    machines, it and its workers need the package, and the run folders must lie on a file system they share.
    A script that is not a notebook calls this under ``if __name__ == "__main__":``.

    Args:
        study: one of `STUDIES`. grid: setting -> values; settings not named keep their defaults. seeds: of each cell.
        budget: None for `Budget.current`. how: see `How`.

    Returns:
        one row a cell: the settings of the grid, seed, ``status`` (finished or failed), the metrics, ``seconds``,
        ``steps_done``, ``data_source``, ``hardware``, ``commit``, ``folder`` and ``error``.

    Raises:
        ValueError: for an unknown study or setting, a setting without values, no seeds, a run named twice, both
            workers and scheduler, a scheduler that does not answer, or a number out of range.
        CheckpointError: if ``out`` or ``pack`` cannot be written.
    """
    _check(how)
    budget = Budget.current() if budget is None else Budget(budget)
    return _run(cells(study, grid, seeds=seeds, budget=budget), f"sweep {study}", how)


def sweep_plan(plan: Path, *, budget: Budget | None = None, **how: Unpack[How]) -> pd.DataFrame:
    """Run the sweeps of a plan file (`plan.read_plan`), those that stand first before the others.

    Args:
        plan: the file. budget: of the sweeps that name none; None for `Budget.current`. how: see `How`.

    Returns:
        as `sweep`, for all of them.

    Raises:
        ValueError, CheckpointError: as `sweep`; or a plan that cannot be read, with the line.
    """
    _check(how)
    wanted: dict[Path, Cell] = {}
    for planned in read_plan(plan, budget=budget):
        try:
            found = cells(planned.study, planned.grid, seeds=planned.seeds, budget=planned.budget)
        except (ValueError, DataError) as error:
            raise ValueError(f"{planned.place}: {error}") from None
        wanted |= {cell.folder: cell for cell in found if cell.folder not in wanted}  # named again: the same run
    return _run(list(wanted.values()), f"plan {plan.stem}", how, each=True)


def _check(how: How) -> None:
    workers, scheduler, minutes, out = how.get("workers"), how.get("scheduler"), how.get("minutes"), how.get("out")
    if workers is not None and scheduler is not None:
        raise ValueError(
            f"give workers ({workers}) for a local cluster or scheduler ({scheduler}) for a running one, not both"
        )
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 1, or 0 for none beside this process; got {workers}")
    if minutes is not None and not (0 < minutes < math.inf):
        raise ValueError(f"the time limit must be a number of minutes above 0, got {minutes}")
    if out is not None and out.is_dir():
        raise ValueError(f"cannot write the table to {out}, which is a folder; name a file")
    if (pack := how.get("pack")) is not None:
        if pack.exists() and not pack.is_dir():
            raise ValueError(f"cannot write archives to {pack}, which is a file; name a folder")
        check_writable(pack / "runs-01.tar.gz")


def _run(wanted: list[Cell], title: str, how: How, *, each: bool = False) -> pd.DataFrame:
    """Run the cells, the first ones first, and make the table; ``each``: say how far each one is."""
    out, minutes, pack, progress = how.get("out"), how.get("minutes"), how.get("pack"), how.get("progress", True)
    if out is not None:
        check_writable(out)
    until = None if minutes is None else time.time() + 60 * minutes
    records = {cell: record for cell in wanted if (record := cell.finished()) is not None}
    waiting = [cell for cell in wanted if cell not in records]
    errors: dict[Cell, str] = {}
    bar = Progress(len(wanted), start=len(records), enabled=progress, title=title, unit="cell")
    note = ""
    try:
        if waiting:
            tell = (lambda event: bar.write(event[1])) if each and progress else None
            with closing(outcomes(how, waiting, until, tell)) as ended:
                for cell, found in ended:
                    if not isinstance(found, dict):
                        errors[cell] = " ".join(f"{type(found).__name__}: {found}".split())
                    elif found["metrics"]:
                        records[cell] = found
                    bar.update(len(records) + len(errors), {"failed": len(errors)})
    except KeyboardInterrupt:
        note = STOPPED
    except TimeoutError:
        note = LATE
    left = LATE if until is not None and time.time() >= until else STOPPED
    records |= {cell: record for cell in waiting if cell not in records and (record := cell.finished()) is not None}
    bar.update(len(records) + len(errors), {"failed": len(errors)}, final=True, note=note)
    settings = dict.fromkeys(name for cell in wanted for name, _ in cell.named)
    table = _table([_row(cell, records.get(cell), errors.get(cell, left)) for cell in wanted], settings)
    if out is not None:
        atomic_write(out, table.to_csv(index=False).encode())
    if pack is not None:
        archives, too_large = pack_runs([cell.folder for cell in wanted], runs_root().resolve(), pack)
        if progress:
            print(f"packed into {len(archives)} archives in {pack}")
            for path in too_large:
                print(f"left out, larger than an archive: {path}")
    return table


def summary(table: pd.DataFrame, metric: str, *, by: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation over seeds and n of one metric for each combination of settings.

    Raises:
        KeyError: listing the numeric columns, if the metric is none of them.
    """
    numbers = table.select_dtypes("number").columns
    if metric not in numbers:
        raise KeyError(f"no metric {metric!r} in this table; it has {', '.join(numbers)}")
    finished = table[table["status"] == "finished"]
    return finished.groupby(list(by), sort=False)[metric].agg(mean="mean", sd="std", n="count")


def _table(rows: list[dict[str, Any]], settings: Collection[str]) -> pd.DataFrame:
    """The rows, their columns in one order whichever of them failed: study, settings, what was run and found."""
    first = ["study", *settings]
    table = pd.DataFrame(rows)
    return table[sorted(table, key=lambda name: (name not in first, LAST.index(name) if name in LAST else -1))]


def _row(cell: Cell, record: dict[str, Any] | None, error: str) -> dict[str, Any]:
    row: dict[str, Any] = {"study": cell.study, **{name: _as_text(value) for name, value in cell.named}}
    row |= {"seed": cell.seed, "budget": str(cell.budget), "status": "finished" if record else "failed"}
    if record:
        row |= record["metrics"] | {key: record[key] for key in ("seconds", "hardware", "commit")}
        row |= {"steps_done": record["steps"], "data_source": record["data"]}
        row |= {"data_sha256": record.get("data_sha256", "")[:12]}
    return {**row, "folder": str(cell.folder), "error": "" if record else error}


def _as_text(value: Any) -> Any:
    return ("x".join(map(str, value)) or "()") if isinstance(value, tuple) else value
