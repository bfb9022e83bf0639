"""A grid of runs as independent tasks on Dask: on this machine, or on any scheduler by its address."""

from __future__ import annotations

import io
import logging
import math
import multiprocessing
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pandas as pd
import torch

from vae_helpers.data import DataError
from vae_helpers.experiments.cells import Cell, cells
from vae_helpers.experiments.folders import plain, runs_root
from vae_helpers.experiments.multi_process import multi_process_service
from vae_helpers.experiments.packing import pack_runs
from vae_helpers.experiments.plan import read_plan
from vae_helpers.experiments.records import config_from
from vae_helpers.experiments.registry import study_of
from vae_helpers.training import Budget, History
from vae_helpers.training.checkpoint import atomic_write, check_writable
from vae_helpers.training.progress import Progress

CONNECT_S = 10
PATIENCE = {  # with a worker that died; the 15 s of dask are too short for importing torch on a busy machine
    "distributed.deploy.lost-worker-timeout": "5 minutes",  # then it is given up
    "distributed.scheduler.no-workers-timeout": "5 minutes",  # then the cells that wait have failed
}
ORDER = {"distributed.scheduler.worker-saturation": 1.0}  # no worker is given what another may begin earlier
MEMORY = {  # dask makes workers return memory at once; fetching it anew took a third of a training's time
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
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
GRACE_S = 60  # for what is being measured at the time limit; then the workers are ended
TOPIC = "vae_helpers"  # of Dask's events
_ALONE = threading.Lock()  # torch's generator and threads belong to the whole process


class How(TypedDict, total=False):
    """How cells are run: what `sweep` and `sweep_plan` take beside the cells."""

    workers: int | None
    """processes of a local cluster, one thread each; 0: none, the runs follow each other in this process. Default: the
    number of CPUs, and 0 at the smoke budget, whose runs are shorter than the start of a process"""
    scheduler: str | None
    """address of a running Dask scheduler (tcp://host:8786) in the place of a local cluster"""
    out: Path | None
    """CSV file for the table; default None writes none"""
    minutes: float | None
    """training stops then, each run at a step from which it goes on the next time; what is being measured has one
    minute more. Default None: no limit"""
    pack: Path | None
    """folder for archives of the runs, see `packing.pack_runs`; default None packs nothing"""
    mps: bool
    """let local workers share the GPU by NVIDIA's multi-process service, if it is there; default False"""
    progress: bool
    """show it; default True"""


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
            with closing(_outcomes(how, waiting, until, tell)) as outcomes:
                for cell, found in outcomes:
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


def _run_cell(study_name: str, values: dict[str, Any], until: float | None = None, **where: Any) -> dict[str, Any]:
    """What a worker does, one cell at a time whatever its threads; plain values, for a study in a file of its own.

    Returns:
        the record, without metrics if the time was over.
    """
    study = study_of(study_name)
    cell = Cell(study_name, config_from(study.config, values), **where)

    def watch(model: Any, history: History) -> None:
        at = int(history.rows[-1]["step"]) if history.rows else 0
        _say(f"{cell.study}/{cell.folder.name}: step {at:,} of {cell.config.steps:,}")

    with _ALONE:
        if until is not None and time.time() >= until:
            return {"metrics": {}}
        if (record := cell.finished()) is not None:  # by another sweep, or before the worker was lost
            return record
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        with redirect_stdout(io.StringIO()):  # what data sets announce is in the record, once a cell is enough
            data = cell.config.load()
            if data.fingerprint != cell.data.fingerprint:
                raise DataError(
                    f"the data are not those that the sweep began with: {data.source}, not {cell.data.source}"
                )
            keeping = {"folder": cell.folder, "resume": True, "progress": False, "until": until, "watch": watch}
            run = study.run(cell.config, seed=cell.seed, budget=cell.budget, images=data, **keeping)
        return run.record


def _say(words: str) -> None:
    """Tell whoever started the sweep; nobody, outside of a Dask worker."""
    from distributed import get_worker

    with suppress(ValueError):
        get_worker().log_event(TOPIC, words)


def _outcomes(
    how: How, waiting: Sequence[Cell], until: float | None, tell: Callable[[Any], None] | None
) -> Generator[tuple[Cell, dict[str, Any] | Exception], None, None]:
    """Each cell with its record or its exception, as they come: from workers, or made in this process."""
    workers = how.get("workers")
    if workers is None and all(cell.budget is Budget.SMOKE for cell in waiting):
        workers = 0
    if workers == 0 and how.get("scheduler") is None:
        yield from _results_here(waiting, until)
        return
    with _client(how, len(waiting)) as client:
        if tell is not None:
            client.subscribe_topic(TOPIC, tell)
        yield from _results(client, waiting, until)


def _results_here(waiting: Sequence[Cell], until: float | None) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
    """The cells one after the other; torch's generator and number of threads are put back after each."""
    threads = torch.get_num_threads()
    for cell in waiting:
        found: dict[str, Any] | Exception
        try:
            with torch.random.fork_rng():
                found = _run_cell(cell.study, plain(cell.config), until=until, **_where(cell))
        except Exception as error:
            found = error
        finally:
            torch.set_num_threads(threads)
        if isinstance(found, dict) and not found["metrics"] and (until is None or time.time() < until):
            raise KeyboardInterrupt  # which the training has taken for its own
        yield cell, found


def _where(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in ("seed", "budget", "folder", "data")}


@contextmanager
def _client(how: How, n_cells: int) -> Iterator[Any]:
    """A connected Dask client; a local cluster lives as long as it."""
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster
    from distributed.comm import resolve_address

    scheduler, workers = how.get("scheduler"), how.get("workers")
    if scheduler is None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker is importing the script
            raise RuntimeError(
                'call sweep under `if __name__ == "__main__":`; workers import the script that starts them'
            )
        options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": None}
        n_workers = min(workers or CPU_COUNT, n_cells)
        with (
            multi_process_service() if how.get("mps", False) else nullcontext(),
            dask.config.set(PATIENCE | MEMORY | ORDER),
            LocalCluster(n_workers=n_workers, silence_logs=logging.CRITICAL, **options) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        resolve_address(scheduler)  # a client for an address that cannot be read is hard to get rid of
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"no Dask scheduler answers at {scheduler!r} ({reason}). Start one with `dask scheduler` and workers with "
            "`dask worker ADDRESS --nworkers auto --nthreads 1`, or leave the address out for a local cluster."
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            print(f"the scheduler at {scheduler} has no workers yet; the cells wait for them")
        yield client


def _results(
    client: Any, waiting: Sequence[Cell], until: float | None
) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
    """Each cell with its record or its exception, as they come.

    Raises:
        TimeoutError: `GRACE_S` after the time limit.
    """
    from distributed import KilledWorker, as_completed

    def submit(cell: Cell, attempt: str = "", priority: int = 0) -> Any:
        key = f"{cell.study}-{cell.folder}{attempt}"  # one a folder: two sweeps on a scheduler share the run
        options = {"key": key, "priority": priority}
        return client.submit(_run_cell, cell.study, plain(cell.config), until=until, **_where(cell), **options)

    def outcome(future: Any) -> dict[str, Any] | Exception:
        try:
            return future.result()
        except Exception as error:  # of the cell, or of a scheduler that was lost
            return error

    futures = {submit(cell, priority=-number): cell for number, cell in enumerate(waiting)}
    lost = []
    timeout = None if until is None else max(until - time.time(), 0) + GRACE_S
    for future in as_completed(futures, loop=client.loop, timeout=timeout):
        found = outcome(future)
        if isinstance(found, KilledWorker):  # by this cell, or by another one on the same worker
            lost.append(futures[future])
        else:
            yield futures[future], found
    for cell in lost:  # each once more, alone
        yield cell, outcome(submit(cell, " alone"))


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
