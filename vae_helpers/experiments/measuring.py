"""A trained run measured again, or for the first time, from its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vae_helpers.experiments.folders import trained_record, weights_file
from vae_helpers.experiments.records import config_of, read_record, study_of_record
from vae_helpers.experiments.run import Run
from vae_helpers.training import Budget


def measure_run(folder: Path | str, *, data: str = "", images: Any = None, progress: bool = True) -> Run:
    """Measure a run whose training has ended, on any machine.

    Args:
        folder: with ``run.json`` and ``weights.safetensors``.
        data: where the images are, if not where the record says; they must be the same ones.
        images: the data, already loaded. progress: show it, where a study shows any.

    Returns:
        a `Run`, saved in the folder: what its training left as it was, the metrics and ``measured`` new.

    Raises:
        ValueError: if the folder holds no such run, or the data are not those that it was trained on.
        DataError: for data that cannot be had.
    """
    folder = Path(folder)
    record = read_record(folder)
    study, config = study_of_record(record, folder), config_of(record, folder / "run.json")
    seed, steps = record["seed"], record["steps"]
    if record["budget"] not in list(Budget):
        raise ValueError(
            f"{folder / 'run.json'} is of a budget {record['budget'][:60]!r}, which is unknown; there are "
            f"{', '.join(Budget)}. Train the run again."
        )
    budget = Budget(record["budget"])
    if not weights_file(folder).exists():
        raise ValueError(f"{folder} has no weights to measure; train the run again")
    if steps < config.steps:
        raise ValueError(
            f"the run in {folder} was stopped at step {steps:,} of {config.steps:,}; "
            "the command that started it goes on with --resume"
        )
    if images is None:
        there: dict[str, Any] = {"data": data} if data else {}
        images = dataclasses.replace(config, **there).load()
    if trained_record(folder, config.resolved(budget, images), images, seed, budget) is None:
        raise ValueError(f"the run in {folder} was trained on other data ({record['data']}) than {images.source}")
    return study.run(config, seed=seed, budget=budget, images=images, folder=folder, resume=True, progress=progress)
