"""Runs as tasks: each in this process, on a local Dask cluster, or on a running scheduler."""

from __future__ import annotations

import io
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TypedDict

import torch

from vae_helpers.data import DataError
from vae_helpers.experiments.cells import Cell
from vae_helpers.experiments.folders import plain
from vae_helpers.experiments.multi_process import multi_process_service
from vae_helpers.experiments.records import config_from
from vae_helpers.experiments.registry import study_of
from vae_helpers.training import Budget, History

CONNECT_S = 10
PATIENCE = {  # with a worker that died; the 15 s of dask are too short for importing torch on a busy machine
    "distributed.deploy.lost-worker-timeout": "5 minutes",  # then it is given up
    "distributed.scheduler.no-workers-timeout": "5 minutes",  # then the cells that wait have failed
}
ORDER = {"distributed.scheduler.worker-saturation": 1.0}  # no worker is given what another may begin earlier
MEMORY = {  # dask makes workers return memory at once; fetching it anew took a third of a training's time
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
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


def run_cell(study_name: str, values: dict[str, Any], until: float | None = None, **where: Any) -> dict[str, Any]:
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


def outcomes(
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
                found = run_cell(cell.study, plain(cell.config), until=until, **_where(cell))
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
        return client.submit(run_cell, cell.study, plain(cell.config), until=until, **_where(cell), **options)

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
