"""Released results: a JSON card per study and run, and weights whose hash the card holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

import vae_helpers
from vae_helpers.experiments.folders import plain, weights_file
from vae_helpers.experiments.records import (
    build_with,
    config_of,
    converted,
    read_card_file,
    read_record,
    read_weights,
    study_of_record,
)
from vae_helpers.experiments.registry import study_of
from vae_helpers.training.checkpoint import atomic_write

FOLDER = Path(__file__).resolve().parents[1] / "released"
KEPT = (
    "study",
    "config",
    "budget",
    "steps",
    "data",
    "data_sha256",
    "hardware",
    "versions",
    "commit",
    "measured",
)  # of a record


@dataclass(frozen=True)
class Released:
    """One released result.

    Args:
        name: "study/run". card: config, budget, seeds, metrics (mean, sd, n, values), data, hardware,
            seconds, commit, command, hash. model: with the released weights, in evaluation mode; None where
            only the card is released.
        config: the settings as the study's dataclass.
    """

    name: str
    card: dict[str, Any]
    model: Any = field(repr=False)
    config: Any

    def metric(self, name: str) -> str:
        """``mean ± sd (n = ...)`` of one metric.

        Raises:
            KeyError: listing the metrics there are.
        """
        metrics = self.card["metrics"]
        if name not in metrics:
            raise KeyError(f"{self.name} has no metric {name!r}; it has {', '.join(metrics)}")
        value = metrics[name]
        spread = "" if value["sd"] is None else f" ± {value['sd']:.2f}"
        return f"{value['mean']:.2f}{spread} (n = {value['n']})"


def released_folders() -> list[Path]:
    """Where released results are looked for: the folder VAE_RELEASED, if set, and the package's own."""
    own = os.environ.get("VAE_RELEASED")
    return [Path(own), FOLDER] if own else [FOLDER]


def released_file(name: str, suffix: str) -> Path | None:
    """The file of a released result, in the first folder that has it; None if there is none."""
    found = (folder / f"{name}{suffix}" for folder in released_folders())
    return next((path for path in found if path.is_file()), None)


def released_names(suffix: str = ".json") -> list[str]:
    """The names `load_released` knows (or, with ``.csv``, those that `tables.load_table` knows)."""
    paths = [path for folder in released_folders() for path in folder.glob(f"*/*{suffix}")]
    return sorted({f"{path.parent.name}/{path.stem}" for path in paths if "." not in path.stem})


def folder_to_write(to: Path | None, name: str) -> Path:
    """Where a result is released to.

    Args:
        to: as asked; None for VAE_RELEASED, or the package's own folder if it is a checkout of the project.
            name: STUDY/NAME.

    Raises:
        ValueError: for another form of name, or an installed package's folder.
    """
    if not re.fullmatch(r"\w[\w-]*/\w[\w-]*", name):
        raise ValueError(f"name a released result STUDY/NAME, of letters, digits, _ and -; got {name!r}")
    if (
        to is None
        and not (Path(vae_helpers.__file__).resolve().parents[1] / "pyproject.toml").exists()
        and "VAE_RELEASED" not in os.environ
    ):
        raise ValueError("say where to release to: --to FOLDER, or VAE_RELEASED, where it is found again")
    return released_folders()[0] if to is None else to


def read_card(name: str) -> dict[str, Any]:
    """The card of one released result, without its weights.

    Raises:
        KeyError: for an unknown name, listing the known ones. ValueError: for a damaged card.
    """
    return read_card_file(_released_file(name, ".json"))


def _released_file(name: str, suffix: str) -> Path:
    """`released_file`, or a KeyError that lists what there is."""
    path = released_file(name, suffix) if name in released_names(suffix) else None
    if path is None:
        raise KeyError(f"nothing is released under {name[:80]!r}; there are {', '.join(released_names(suffix))}")
    return path


def load_released(name: str, *, device: torch.device | str = "cpu") -> Released:
    """Load a released model and verify its weights.

    Args:
        name: "study/run", one of `released_names`. device: where the model goes.

    Returns:
        a `Released`; the weights were stored as float16 and are float32 again.

    Raises:
        KeyError: for an unknown name. ValueError: if the weights are not the ones of the card.
    """
    file = _released_file(name, ".json")
    card = read_card_file(file)
    if card["weights_sha256"] is None:
        return Released(name, card, None, config_of(card, file))
    path = released_file(name, ".safetensors")
    if path is None:
        raise ValueError(f"the weights of {name} are missing beside its card; check the repository out again")
    try:
        with path.open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Check who may read it.") from None
    if found != card["weights_sha256"]:
        raise ValueError(
            f"{path.name} has sha256 {found[:16]}…, its card says {card['weights_sha256'][:16]}…: "
            "the weights are damaged or of another run; check the repository out again."
        )
    return _with_model(name, card, read_weights(path, fractions=[torch.float16]), path, file, device)


def load_run(folder: Path | str, *, device: torch.device | str = "cpu") -> Released:
    """Load the model of one's own finished run.

    Args:
        folder: a run folder, with run.json and weights.safetensors. device: where the model goes.

    Returns:
        a `Released` whose card is the run's record, each metric of one seed.

    Raises:
        ValueError: if it is no folder of a finished run with weights.
    """
    folder = Path(folder)
    card = read_record(folder)
    card["metrics"] = {key: spread([value]) for key, value in card["metrics"].items()}
    path = weights_file(folder)
    return _with_model(str(folder), card, read_weights(path), path, folder / "run.json", device)


def load_any(name: Path | str, *, device: torch.device | str = "cpu") -> Released:
    """`load_run` of a run folder, `load_released` of a released name."""
    if (Path(name) / "run.json").exists():
        return load_run(name, device=device)
    return load_released(str(name), device=device)


def _with_model(
    name: str, card: dict[str, Any], weights: dict[str, Tensor], path: Path, file: Path, device: torch.device | str
) -> Released:
    config = config_of(card, file)
    model = build_with(converted(weights, torch.float32), study_of_record(card, file), config, path)
    return Released(name, card, model.to(device).eval(), config)


def release(
    name: str, folders: Sequence[Path], *, note: str = "", weights: bool = True, to: Path | None = None
) -> Path:
    """Make a card from finished runs that differ in their seed only, with the weights of the lowest seed.

    Args:
        name: "study/run". folders: run folders written by ``train`` or ``sweep``. note: a remark for readers of the
            card. weights: False releases the card alone. to: see `folder_to_write`.

    Returns:
        the card's path.

    Raises:
        ValueError: if the runs differ in more than seed, a seed occurs twice, or a run has no metrics.
    """
    target = folder_to_write(to, name)
    if not folders:
        raise ValueError("name the folders of finished runs, which train and sweep make")
    runs = [read_record(folder) | {"folder": folder} for folder in folders]
    runs.sort(key=lambda run: run["seed"])
    _check_same(runs, ("study",))
    for run in runs:  # a record older than a setting was made with its default
        run["config"] = plain(config_of(run, run["folder"] / "run.json"))
    _check_same(runs, ("config", "budget", "data", "data_sha256", "steps"))
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"a seed occurs twice: {seeds}")
    if not all(run["metrics"] for run in runs):
        raise ValueError("a run has no metrics: it was interrupted; finish it with --resume")
    for run in runs:
        bad = [key for key, value in run["metrics"].items() if not math.isfinite(value)]
        if not 0 <= run["seconds"] < math.inf:
            bad.append("seconds")
        if bad:
            raise ValueError(
                f"{run['folder']}, seed {run['seed']}, has numbers that are not finite ({', '.join(bad)}); train the "
                "run again, with a smaller learning rate"
            )
    first = runs[0]
    seconds = [run["seconds"] for run in runs]
    card = {
        **{key: first[key] for key in KEPT if key in first},
        "seeds": seeds,
        "seconds": {"mean": round(statistics.mean(seconds), 1), "values": seconds},
        "metrics": {key: spread([run["metrics"][key] for run in runs]) for key in first["metrics"]},
        "command": command(first["study"], first["config"], first["budget"]),
        "weights_sha256": None,
        "weights": "not released",
        "note": note,
    }
    path = target / f"{name}.json"
    if weights:
        halved = converted(read_weights(weights_file(first["folder"])), torch.float16)
        if large := [name for name, value in halved.items() if not value.isfinite().all()]:
            raise ValueError(
                f"{weights_file(first['folder'])} has weights beyond 65,504, which float16 cannot hold, in "
                f"{', '.join(large)}; release the card alone with --no-weights"
            )
        halves = safetensors.torch.save(halved)
        card |= {"weights_sha256": hashlib.sha256(halves).hexdigest(), "weights": f"seed {seeds[0]}, float16"}
        atomic_write(target / f"{name}.safetensors", halves)
    atomic_write(path, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def _check_same(runs: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    for key in keys:
        if any(run.get(key) != runs[0].get(key) for run in runs):
            raise ValueError(f"the runs differ in {key!r}; a card holds runs that differ in their seed only")


def command(study: str, values: dict[str, Any], budget: str) -> str:
    """The command line that trains this configuration again (seed by seed)."""
    defaults = dataclasses.asdict(study_of(study).config())
    words = ["python -m vae_helpers train", study, f"--budget {budget}", "--seed SEED"]
    for key, value in values.items():
        default = list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]
        if value == default:
            continue
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words.append(f"{flag} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(words)


def spread(values: list[float]) -> dict[str, Any]:
    sd = statistics.stdev(values) if len(values) > 1 else math.nan
    return {"mean": statistics.mean(values), "sd": None if math.isnan(sd) else sd, "n": len(values), "values": values}
