"""Released results: a JSON card per study and run, and weights whose hash the card holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from vae_helpers.training.checkpoint import atomic_write

FOLDER = Path(__file__).resolve().parents[1] / "released"


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


def released_names() -> list[str]:
    """The names `load_released` knows."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.json"))


def read_card(name: str) -> dict[str, Any]:
    """The card of one released result, without its weights.

    Raises:
        KeyError: for an unknown name, listing the known ones.
    """
    if name not in released_names():
        raise KeyError(f"nothing is released under {name!r}; there are {', '.join(released_names())}")
    return json.loads((FOLDER / f"{name}.json").read_text())


def load_released(name: str, *, device: torch.device | str = "cpu") -> Released:
    """Load a released model and verify its weights.

    Args:
        name: "study/run", one of `released_names`. device: where the model goes.

    Returns:
        a `Released`; the weights were stored as float16 and are float32 again.

    Raises:
        KeyError: for an unknown name. ValueError: if the weights are not the ones of the card.
    """
    from vae_helpers.experiments import STUDIES

    card = read_card(name)
    study = STUDIES[card["study"]]
    config = config_from(study.config, card["config"])
    if card["weights_sha256"] is None:
        return Released(name, card, None, config)
    path = FOLDER / f"{name}.safetensors"
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card["weights_sha256"]:
        raise ValueError(
            f"{path.name} has sha256 {found[:16]}…, its card says {card['weights_sha256'][:16]}…: "
            "the weights are damaged or of another run; check the repository out again."
        )
    weights = {key: value.float() for key, value in safetensors.torch.load(content).items()}
    model: nn.Module = study.build(config)
    model.load_state_dict(weights)
    return Released(name, card, model.to(device).eval(), config)


def config_from(config_class: type, values: dict[str, Any]) -> Any:
    """A frozen config from JSON values (lists back to tuples)."""
    return config_class(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def release(name: str, folders: Sequence[Path], *, note: str = "", weights: bool = True) -> Path:
    """Make a card from finished runs that differ in their seed only, with the weights of the lowest seed.

    Args:
        name: "study/run". folders: run folders written by ``train`` or ``sweep``. note: a remark for readers of the
            card. weights: False releases the card alone.

    Returns:
        the card's path.

    Raises:
        ValueError: if the runs differ in more than seed, a seed occurs twice, or a run has no metrics.
    """
    missing = [str(folder) for folder in folders if not (folder / "run.json").exists()]
    if missing or not folders:
        raise ValueError(
            f"no finished run in {', '.join(missing) or 'no folder'}: each needs the run.json that train writes"
        )
    runs = [json.loads((folder / "run.json").read_text()) | {"folder": folder} for folder in folders]
    runs.sort(key=lambda run: run["seed"])
    for key in ("study", "config", "budget", "data", "steps"):
        if any(run[key] != runs[0][key] for run in runs):
            raise ValueError(f"the runs differ in {key!r}; a card holds runs that differ in their seed only")
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"a seed occurs twice: {seeds}")
    if not all(run["metrics"] for run in runs):
        raise ValueError("a run has no metrics: it was interrupted; finish it with --resume")
    for run in runs:
        bad = [key for key, value in run["metrics"].items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"seed {run['seed']} has metrics that are not finite: {', '.join(bad)}")
    first = runs[0]
    seconds = [run["seconds"] for run in runs]
    card = {
        **{key: first[key] for key in ("study", "config", "budget", "steps", "data", "hardware", "versions", "commit")},
        "seeds": seeds,
        "seconds": {"mean": round(statistics.mean(seconds), 1), "values": seconds},
        "metrics": {key: _spread([run["metrics"][key] for run in runs]) for key in first["metrics"]},
        "command": command(first["study"], first["config"], first["budget"]),
        "weights_sha256": None,
        "weights": "not released",
        "note": note,
    }
    path = FOLDER / f"{name}.json"
    if weights:
        trained = safetensors.torch.load((first["folder"] / "weights.safetensors").read_bytes())
        halves = safetensors.torch.save({key: value.half() for key, value in trained.items()})
        card |= {"weights_sha256": hashlib.sha256(halves).hexdigest(), "weights": f"seed {seeds[0]}, float16"}
        atomic_write(FOLDER / f"{name}.safetensors", lambda file: file.write(halves))
    atomic_write(path, lambda file: file.write((json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode()))
    return path


def command(study: str, values: dict[str, Any], budget: str) -> str:
    """The command line that trains this configuration again (seed by seed)."""
    from vae_helpers.experiments import STUDIES

    defaults = dataclasses.asdict(STUDIES[study].config())
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


def _spread(values: list[float]) -> dict[str, Any]:
    sd = statistics.stdev(values) if len(values) > 1 else math.nan
    return {"mean": statistics.mean(values), "sd": None if math.isnan(sd) else sd, "n": len(values), "values": values}
