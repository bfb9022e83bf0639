"""The command line: ``python -m vae_helpers {list,train,sweep,measure,show,release,data,doctor}``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from vae_helpers.data import DataError
from vae_helpers.training import Budget, CheckpointError, NonFiniteLossError, TensorBoard, setup


def list_studies() -> None:
    """List the studies and the released results."""
    from vae_helpers.experiments.released import read_card, released_names
    from vae_helpers.experiments.tables import load_table, released_tables

    print_studies()
    print("Released results (python -m vae_helpers show NAME):")
    for name in released_names():
        card = read_card(name)
        n_seeds = len(card["seeds"])
        seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}"
        print(f"  {name:<26} budget {card['budget']}, {seeds}, {card['steps']:,} steps")
    for name in released_tables():
        print(f"  {name:<26} table of {(n := len(load_table(name)))} run{'s' * (n > 1)}")


def print_studies() -> None:
    """A line for each study."""
    from vae_helpers.experiments import find_studies

    print("Studies (python -m vae_helpers train STUDY --help shows the settings):")
    for name, study in find_studies().items():
        print(f"  {name:<12} {study.summary}")


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
        if run.history.interrupted:
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
        workers: number of processes on this machine, with one thread each; by default one per CPU.
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

    how: sweeps.How = {"workers": workers, "scheduler": scheduler, "minutes": minutes, "pack": pack, "mps": mps}
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


def measure(folders: Annotated[tuple[Path, ...], tyro.conf.Positional], data: str = "") -> None:
    """Measure trained runs again from their weights, on any machine. The record names both machines.

    Args:
        folders: one or more run folders.
        data: path of the images, if they are no longer at the place in the records; they must be the same images.
    """
    from vae_helpers.experiments import measure_run

    if not folders:
        raise ValueError("name a run folder: python -m vae_helpers measure FOLDER ...")
    for folder in folders:
        print(f"run folder: {folder}")
        run = measure_run(folder, data=data)
        if not run.metrics:
            print("stopped; the folder is as it was, and the same command measures it")
            raise SystemExit(130)
        print_metrics({key: {"mean": value} for key, value in run.metrics.items()})


def show(name: Annotated[str, tyro.conf.Positional]) -> None:
    """Show a run folder or a released result: settings, metrics and the command that made it.

    Args:
        name: a run folder, or a released name such as m1/z20.
    """
    from vae_helpers.experiments.released import read_card
    from vae_helpers.experiments.tables import load_table, released_tables

    folder = Path(name)
    if name in released_tables():
        table = load_table(name)
        print(*(line for line in table.attrs.values() if line), table.to_string(index=False), sep="\n")
        return
    if (folder / "run.json").exists():
        card = json.loads((folder / "run.json").read_text())
        metrics = {key: {"mean": value} for key, value in card["metrics"].items()}
    else:
        card = read_card(name)
        metrics = card["metrics"]
    for key, value in card.items():
        if key not in ("metrics", "history") and value not in ("", None):
            print(f"{key:<10} {value}")
    print_metrics(metrics)


def print_metrics(metrics: dict[str, dict[str, Any]]) -> None:
    """A table of metrics: mean, and sd with n where there is more than one run."""
    for key, value in metrics.items():
        spread = f" ± {value['sd']:.3f}  (n = {value['n']})" if value.get("sd") is not None else ""
        print(f"  {key:<46} {value['mean']:>10.3f}{spread}")


def release(
    name: Annotated[str, tyro.conf.Positional],
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    note: str = "",
    weights: bool = True,
    curves: bool = False,
    to: Path | None = None,
) -> None:
    """Release a card and weights of finished runs that differ only in their seed, or the table of a sweep.

    Args:
        name: STUDY/NAME of the card or table.
        folders: run folders, or the one CSV file that a sweep wrote.
        note: a remark for readers, on one line.
        weights: for a card, also release the weights of the lowest seed.
        curves: for a table, also release the evaluations during training.
        to: folder for the released files; by default VAE_RELEASED, or the package's own folder in a clone.
    """
    from vae_helpers.experiments import released, tables

    if len(folders) == 1 and folders[0].suffix == ".csv":
        print(tables.release_table(name, folders[0], note=note, curves=curves, to=to))
        return
    print(released.release(name, folders, note=note, weights=weights, to=to))


def data(
    name: Annotated[str, tyro.conf.Positional],
    check: bool = False,
    official: bool = False,
    download: bool = False,
    size: str = "",
    channels: int = 0,
) -> None:
    """Load a data set or your own images, and print their source, sizes and classes.

    Args:
        name: mnist, frey, drawn-faces, dsprites, portraits, celeba, a data set of torchvision (fashion-mnist, kmnist,
            emnist, qmnist, usps, cifar10, svhn, omniglot), or the path of a folder of pictures, an .npy, .npz or idx
            file.
        check: also show mean, sd and classes; for dsprites, compare the drawn images with official ones, if present.
        official: for dsprites, use the official file in place of the drawn images.
        download: for celeba, download the missing files (1.4 GB); other data sets are downloaded without this flag.
        size: size HxW to which pictures are resized and cropped.
        channels: 1 makes pictures grey, 3 gives them colours; 0 keeps them as they are.
    """
    from vae_helpers.data import data_root, load_celeba, load_dsprites, load_images, load_portraits
    from vae_helpers.data.dsprites import compare_dsprites
    from vae_helpers.experiments.settings import parse_size

    print(f"data root: {data_root()}")
    if official and name != "dsprites":
        raise ValueError(f"--official is for dsprites; {name} has one source")
    if download and name != "celeba":
        raise ValueError(f"--download is for celeba; {name} is drawn, fetched without asking, or your own")
    if name in ("dsprites", "portraits"):
        drawn = load_portraits() if name == "portraits" else load_dsprites("official" if official else "rendered")
        factors = ", ".join(f"{n} {size}" for n, size in zip(drawn.grid.names, drawn.grid.sizes, strict=True))
        words = "x".join(map(str, drawn.shape))
        print(f"{drawn.name}: {drawn.source}; {drawn.grid.n_images:,} images {words}; values of {factors}")
        if check and name == "dsprites":
            print(*compare_dsprites(), sep="\n")
        return
    if download:
        load_celeba(download=True)
    images = load_images(name, size=parse_size(size) if size else None, channels=channels or None)
    classes = f"; {images.n_classes} classes: {', '.join(images.classes[:20])}" if images.classes else ""
    print(f"{images.name}: {images.source}; images {'x'.join(map(str, images.shape))}{classes}")
    print(f"sha256 of the content: {images.fingerprint}")
    if check:
        for split, x, y in (("train", images.x_train, images.y_train), ("test", images.x_test, images.y_test)):
            counts = sum(part.flatten().bincount(minlength=256) for part in x.split(10_000)).double() / x.numel()
            grey = torch.arange(256, dtype=torch.float64) / 255
            mean = (counts * grey).sum()
            sd = (counts * (grey - mean) ** 2).sum().sqrt()
            labels = f", per class {y.bincount().tolist()}" if len(y) else ""
            print(f"  {split}: {len(x):,} images, mean {mean:.4f}, sd {sd:.4f}{labels}")


def doctor() -> None:
    """Check this environment: Python, torch, Jupyter and its widgets, data, write access."""
    from vae_helpers.doctor import report

    lines, healthy = report()
    print("\n".join(lines))
    if not healthy:
        raise SystemExit(1)


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_studies,
    "sweep": sweep,
    "measure": measure,
    "show": show,
    "release": release,
    "data": data,
    "doctor": doctor,
}


def main() -> None:
    """Run the command line; an expected failure is one sentence and exit code 1."""
    arguments = sys.argv[1:]
    try:
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
        raise SystemExit(f"error: {message}") from None


def _train_help() -> None:
    """Train one model: train STUDY [settings]. `train STUDY --help` shows the settings of a study."""
    raise ValueError("name a study: python -m vae_helpers train STUDY (python -m vae_helpers list shows them)")


if __name__ == "__main__":
    main()
