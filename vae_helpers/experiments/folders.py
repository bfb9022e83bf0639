"""Run folders: where a run goes, and what its folder holds."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from vae_helpers.data import Data
from vae_helpers.experiments.records import fit_weights, read_record, read_weights
from vae_helpers.experiments.settings import Settings
from vae_helpers.training import Budget


def runs_root() -> Path:
    """The folder of all runs: VAE_RUNS, or ``runs`` in the working directory."""
    return Path(os.environ.get("VAE_RUNS", "runs"))


def run_folder(study: str, config: Any, seed: int, budget: Budget) -> Path:
    """runs/STUDY/SETTINGS_budget_seed (VAE_RUNS in the place of runs), the settings that differ from the defaults.

    A folder that is there with the same settings in another order, as an older version wrote it, is the one.
    """
    defaults = dataclasses.asdict(type(config)())
    changed = {key: value for key, value in dataclasses.asdict(config).items() if value != defaults[key]}
    words = "_".join(f"{key}={_in_a_name(value)}" for key, value in changed.items())
    if len(words) > 150:  # a file's name has a limit, and a path of images can be long
        words = f"{words[:120]}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    folder, end = runs_root() / study, f"{budget}_seed={seed}"
    name, between = "_".join(filter(None, [words, end])), re.compile(f"_(?=(?:{'|'.join(defaults)})=|{end}$)")
    alike = (old for old in folder.glob(f"*_{end}") if sorted(between.split(old.name)) == sorted(between.split(name)))
    return next(alike, folder / name)


def _in_a_name(value: Any) -> str:
    word = ("x".join(map(str, value)) if isinstance(value, tuple) else str(value)).replace("/", "-")
    return re.sub(r'[\\:*?"<>|]', "-", word) if os.name == "nt" else word  # Windows forbids them in names


def weights_file(folder: Path) -> Path:
    """Where a run folder keeps its weights."""
    return folder / "weights.safetensors"


def checkpoint_file(folder: Path) -> Path:
    """Where a run folder keeps its checkpoint."""
    return folder / "checkpoint.pt"


def load_weights(model: nn.Module, folder: Path) -> None:
    """Put the weights of a run folder into a model of its settings.

    Raises:
        ValueError: if they cannot be read, or are of another model.
    """
    path = weights_file(folder)
    way_out = "Put a good copy there, or delete them to train on or anew."
    fit_weights(model, read_weights(path, way_out=way_out), path)


def finished_record(folder: Path, config: Settings, data: Data, seed: int, budget: Budget) -> dict[str, Any] | None:
    """The record of this run if ``folder`` holds it whole, trained and measured; else None. See `trained_record`."""
    record = trained_record(folder, config, data, seed, budget, weights=False)
    return record if record is not None and record["metrics"] else None


def trained_record(
    folder: Path, config: Settings, data: Data, seed: int, budget: Budget, *, weights: bool = True
) -> dict[str, Any] | None:
    """The record of this run if ``folder`` holds it to its last step, with these settings and these data; else None.

    With ``weights``, its weights must be there too, and its history, so that it can be measured.

    Settings newer than the record count as their defaults were used; a record older than fingerprints is compared by
    its data source in words.
    """
    try:
        record = read_record(folder)
    except ValueError:
        return None
    made = record["study"], record["seed"], record["budget"]
    saved = {**newer_than_records(config), **record["config"]}
    same = made == (config.STUDY, seed, str(budget)) and saved == plain(config)
    whole = same and record["steps"] >= config.steps
    if weights:
        whole = whole and bool(record.get("history", {}).get("rows")) and weights_file(folder).exists()
    sha256 = record.get("data_sha256")
    same_data = record["data"].startswith(data.source) if sha256 is None else sha256 == data.fingerprint
    return record if whole and same_data else None


def newer_than_records(config: Settings) -> dict[str, Any]:
    """What a setting is taken to be in a record or a checkpoint that is older than it: its default.

    What the data decide (size, channels, classes) is taken from them: their fingerprint says if they are the same.
    """
    decided = {name: getattr(config, name) for name in ("size", "channels", "n_classes") if hasattr(config, name)}
    return {**plain(type(config)()), **decided}


def plain(config: Settings) -> dict[str, Any]:
    """Settings as a record keeps them: tuples as lists."""
    return {key: _lists(value) for key, value in dataclasses.asdict(config).items()}


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, tuple) else value
