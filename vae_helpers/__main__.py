"""The command line: ``python -m vae_helpers {list,train,sweep,measure,show,page,release,data,doctor}``."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from vae_helpers.commands import (
    data,
    doctor,
    list_studies,
    measure,
    page,
    print_metrics,
    print_studies,
    release,
    show,
)
from vae_helpers.data import DataError
from vae_helpers.training import Budget, CheckpointError, NonFiniteLossError, TensorBoard, setup
from vae_helpers.training.memory import of_memory


def train(study_name: str, arguments: list[str]) -> None:
    """Train one study; its settings are typed flags."""
    from vae_helpers.experiments import study_of
    from vae_helpers.experiments.folders import run_folder

    study = study_of(study_name)
    default_budget = Budget.current()

    def main(
        config: Any,
        *,
        seed: int = 0,
        budget: Annotated[Budget, tyro.conf.EnumChoicesFromValues] = default_budget,
        out: Path | None = None,
        resume: bool = False,
        checkpoint_every: int = 1000,
        eval_every: int = 0,
        tensorboard: Path | None = None,
    ) -> None:
        """Train one model. Checkpoint, weights and record are written to a run folder.

        Args:
            config: settings of the study.
            seed: seed of the initial weights, the order of the examples and the noise.
            budget: how long to train, and with how many samples to measure.
            out: run folder; by default a folder in runs/ (or VAE_RUNS) with a name made of the settings.
            resume: continue from the checkpoint in the run folder.
            checkpoint_every: number of steps between checkpoints.
            eval_every: number of steps between evaluations; 0 makes about twenty evaluations per run.
            tensorboard: folder for TensorBoard events: terms of the loss, evaluations and, in some studies, a picture.
        """
        os.environ["VAE_BUDGET"] = str(budget)  # what setup reports
        setup(seed)
        folder = out or run_folder(study.name, config, seed, budget)
        print(f"run folder: {folder}")
        picture = study.picture(config) if tensorboard and study.picture else None
        watch = TensorBoard(tensorboard, picture=picture) if tensorboard else None
        run = study.run(
            config,
            seed=seed,
            budget=budget,
            folder=folder,
            resume=resume,
            checkpoint_every=checkpoint_every,
            eval_every=eval_every,
            watch=watch,
        )
        if run.history.interrupted and run.steps < run.config.steps:
            print(f"stopped at step {run.steps:,}; the same command with --resume goes on from there")
            raise SystemExit(130)
        if not run.metrics:
            print(f"trained and saved, but not measured to the end; python -m vae_helpers measure {folder} does that")
            raise SystemExit(130)
        print_metrics({key: {"mean": value} for key, value in run.metrics.items()})

    main.__annotations__["config"] = Annotated[study.config, tyro.conf.arg(name="")]
    main.__kwdefaults__ = {**(main.__kwdefaults__ or {}), "config": study.config()}
    tyro.cli(main, args=arguments, prog=f"python -m vae_helpers train {study_name}")


def sweep(
    study: Annotated[str, tyro.conf.Positional] = "",
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=A,B,C")] = (),
    seeds: str = "",
    plan: Path | None = None,
    budget: Annotated[Budget | None, tyro.conf.EnumChoicesFromValues] = None,
    workers: int | None = None,
    scheduler: str | None = None,
    minutes: float | None = None,
    pack: Path | None = None,
    mps: bool = False,
    out: Path | None = None,
) -> None:
    """Train each combination of settings and seeds as a Dask task. Finished runs are skipped.

    Args:
        study: name of a study (`python -m vae_helpers list` shows them), or the file of a study of your own.
        grid: one or more settings with their values, as in z_dim=2,20; a tuple is written 300x300.
        seeds: seeds of the runs, as 0..4 (0 to 4, which is the default) or 0,2,5.
        plan: a TOML file with a list of sweeps, the most wanted first; it replaces study, grid and seeds.
        budget: budget of each run; by default VAE_BUDGET, or quick.
        workers: number of processes on this machine, with one thread each; 0 trains in this process, one run after
            the other. By default one process per CPU, and 0 at the smoke budget.
        scheduler: address of a running Dask scheduler (tcp://host:8786), in place of processes on this machine.
        minutes: time limit; the same command continues the unfinished runs later.
        pack: folder for archives with the records and weights, of at most 15 MB each.
        mps: let the processes share one GPU through NVIDIA's multi-process service, if it is installed.
        out: CSV file for the table; by default STUDY/sweep.csv or PLAN.csv in runs/ (or VAE_RUNS).
    """
    from vae_helpers.experiments import grid as grids
    from vae_helpers.experiments import study_of
    from vae_helpers.experiments import sweep as sweeps
    from vae_helpers.experiments.folders import runs_root
    from vae_helpers.experiments.tasks import How

    how: How = {"workers": workers, "scheduler": scheduler, "minutes": minutes, "pack": pack, "mps": mps}
    if plan is not None:
        if study or grid or seeds:
            raise ValueError(
                "a plan names its studies, grids and seeds: give --plan, or STUDY --grid --seeds, not both"
            )
        how["out"] = path = out or runs_root() / f"{plan.stem}.csv"
        table = sweeps.sweep_plan(plan, budget=budget, **how)
        values: list[str] = []
    else:
        if not study:
            raise ValueError("name a study: python -m vae_helpers sweep STUDY, or a plan: --plan FILE")
        parsed = grids.parse_grid(study, grid)
        how["out"] = path = out or runs_root() / study_of(study).name / "sweep.csv"
        table = sweeps.sweep(study, parsed, seeds=grids.parse_seeds(seeds or "0..4"), budget=budget, **how)
        values = list(parsed)
    left = table["error"].isin([sweeps.STOPPED, sweeps.LATE])
    failed = table[(table["status"] == "failed") & ~left]
    metrics = [name for name in table if name.startswith("test_") and "standard_error" not in name]
    for metric in metrics if plan is None else ():
        print(f"{metric}, mean and sd over seeds")
        print(sweeps.summary(table, metric, by=values or ["study"]).dropna(subset="mean").round(3).to_string())
    print(f"{(table['status'] == 'finished').sum()} of {len(table)} runs finished; table: {path}")
    for _, row in failed.iterrows():
        settings = ", ".join(f"{key}={row[key]}" for key in [*values, "seed"])
        print(f"failed: {settings if plan is None else row['folder']}: {row['error']}")
    for words in (sweeps.LATE, sweeps.STOPPED):
        if (n := int((table["error"] == words).sum())) > 0:
            print(f"{n} runs: {words}")
    if (table["error"] == sweeps.STOPPED).any():
        raise SystemExit(130)
    if len(failed):
        raise SystemExit(1)


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_studies,
    "sweep": sweep,
    "measure": measure,
    "show": show,
    "page": page,
    "release": release,
    "data": data,
    "doctor": doctor,
}


ENDING = ("SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1")  # what clusters and terminals send before they kill


def _end_as_by_hand() -> list[int]:
    """Let the signals of a cluster end a command as Ctrl-C does; the list holds the one that came.

    One that comes within a second of another does not count: they often come twice, to a process and to its group.
    """
    came: list[int] = []
    last = -math.inf

    def end(signum: int, frame: Any) -> None:
        nonlocal last
        again, last = time.monotonic() - last < 1, time.monotonic()
        if again:
            return
        came.append(signum)
        by_hand = signal.getsignal(signal.SIGINT)
        (by_hand if callable(by_hand) else signal.default_int_handler)(signal.SIGINT, frame)

    for name in ENDING:
        number = getattr(signal, name, None)  # Windows knows SIGTERM only
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)
    return came


def _print_anywhere() -> None:
    """Let output that is closed, or in an encoding without some letter, end no command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for the whole process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main() -> None:
    """Run the command line; an expected failure is one sentence and exit code 1, a signal 128 and its number."""
    _print_anywhere()
    came = _end_as_by_hand() if threading.current_thread() is threading.main_thread() else []
    try:
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(128 + came[0] if came else 130) from None
    except SystemExit as ended:
        if ended.code == 130 and came:
            raise SystemExit(128 + came[0]) from None
        raise


def _run(arguments: list[str]) -> None:
    """One command."""
    try:
        _check_paths(arguments)
        if arguments[:1] == ["train"] and arguments[1:2] and not arguments[1].startswith("-"):
            train(arguments[1], arguments[2:])
        elif arguments in (["train", "-h"], ["train", "--help"]):
            print("usage: python -m vae_helpers train STUDY [settings]\n")
            print_studies()
        elif arguments[:1] == ["sweep"] and sum(word.split("=")[0] == "--grid" for word in arguments) > 1:
            raise ValueError("--grid is there twice; write all settings after one, as in --grid a=1,2 b=3")
        else:
            commands = {**COMMANDS, "train": _train_help}
            tyro.extras.subcommand_cli_from_dict(commands, prog="python -m vae_helpers", args=arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # of `| head`: whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        raise SystemExit(141) from None
    except (ValueError, KeyError, DataError, CheckpointError, NonFiniteLossError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        raise SystemExit(f"error: {_shortened(str(message))}") from None
    except SystemExit as ended:
        if ended.code == 2 and (empty := [word for word in arguments if re.fullmatch(r"--[\w-]+=", word)]):
            print(f"error: {', '.join(empty)} has no value; give one, or leave it out", file=sys.stderr)
        raise
    except OSError as error:
        where = str(error.filename or error.filename2 or "a file")[:200]
        raise SystemExit(
            f"error: {where} cannot be used ({error.strerror or error}). Check the name, and who may read and write it."
        ) from None
    except (MemoryError, RuntimeError) as error:
        if not of_memory(error):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else "no more can be had"
        raise SystemExit(
            f"error: not enough memory ({reason}). Make the model or the batches smaller, or use a machine with more."
        ) from None


PATHS = ("--out", "--tensorboard", "--to", "--pack", "--plan")


def _shortened(message: str) -> str:
    """A message in which no word is longer than a screen."""
    return re.sub(r"\S{500,}", lambda found: f"{found[0][:200]} ... {found[0][-60:]}", message)


def _check_paths(arguments: list[str]) -> None:
    """An empty path would be the working directory."""
    for flag, value in zip(arguments, [*arguments[1:], "-"], strict=True):
        if (flag in PATHS and not value) or flag in [f"{name}=" for name in PATHS]:
            raise ValueError(f"{flag.rstrip('=')} is empty: name a file or a folder, or leave it out")


def _train_help() -> None:
    """Train one model: train STUDY [settings]. `train STUDY --help` shows the settings of a study."""
    raise ValueError("name a study: python -m vae_helpers train STUDY (python -m vae_helpers list shows them)")


if __name__ == "__main__":
    main()
