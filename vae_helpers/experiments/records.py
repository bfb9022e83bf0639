"""Records of runs, cards of released results and weights, as files: checked before they are believed."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from vae_helpers.experiments.settings import Settings, Study

Config = dict[str, bool | int | float | str | list[int] | list[str] | list[float] | None]
Kind = TypeVar("Kind")


class Rows(TypedDict):
    """A history: what was measured along the way."""

    rows: list[dict[str, float]]
    evals: list[dict[str, float]]


class Record(TypedDict):
    """What a ``run.json`` holds; a record may hold more (see `run.Run.record`)."""

    study: str
    config: Config
    seed: int
    budget: str
    data: str
    data_sha256: NotRequired[str]
    seconds: float
    steps: int
    metrics: dict[str, float]
    history: NotRequired[Rows]
    before: NotRequired[dict[str, float]]


class Spread(TypedDict):
    """A metric over seeds."""

    mean: float
    sd: float | None
    n: int
    values: list[float]


class Seconds(TypedDict):
    """Training time of each seed."""

    mean: float
    values: list[float]


class Card(TypedDict):
    """What the card of a released result holds; it may hold more (see `released.release`)."""

    study: str
    config: Config
    seeds: list[int]
    budget: str
    data: str
    seconds: Seconds
    steps: int
    metrics: dict[str, Spread]
    weights_sha256: str | None


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a run folder, whose metrics and history may hold numbers that are not finite.

    Raises:
        ValueError: if it is not there, or no record, with its file and what is wrong.
    """
    if not (folder / "run.json").exists():
        raise ValueError(f"{folder} is no folder of a finished run: it has no run.json; train and sweep make them")
    return _read(folder / "run.json", Record, "the record of a run", "Train the run again, in another folder.")


def read_card_file(path: Path) -> dict[str, Any]:
    """The card of a released result.

    Raises:
        ValueError: if it is not there, or no card, with its file and what is wrong.
    """
    way_out = "Check the repository out again, or release it again."
    card = _read(path, Card, "the card of a released result", way_out)
    for name, metric in card["metrics"].items():
        if not all(map(math.isfinite, [metric["mean"], metric["sd"] or 0, *metric["values"]])):
            raise ValueError(f"{path} has a number that is not finite in {name}. {way_out}")
    return card


def _read(path: Path, kind: type[Kind], words: str, way_out: str) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not a table")
        needed = {key: content[key] for key in kind.__annotations__ if key in content}
        check_type(needed, kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except (OSError, ValueError, RecursionError, TypeCheckError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0].replace("dict", "it", 1)
        raise ValueError(f"{path} is not {words} ({reason}). {way_out}") from None
    return content


def study_of_record(record: Mapping[str, Any], where: object) -> Study:
    """The study that a record or a card names: one that is known by its name, never a file to run.

    Raises:
        ValueError: for an unknown one.
    """
    from vae_helpers.experiments.registry import find_studies

    studies, name = find_studies(), record["study"]
    if name not in studies:
        raise ValueError(
            f"{where} is of a study {name[:60]!r}, which is unknown here; there are {', '.join(studies)}. Name the "
            "file of a study of your own in VAE_EXTENSIONS."
        )
    return studies[name]


def config_of(record: Mapping[str, Any], where: object) -> Settings:
    """The settings of a record or a card; those that it does not have yet are the defaults.

    Raises:
        ValueError: for a setting that the study does not have, or a value that it cannot take.
    """
    config_class = study_of_record(record, where).config
    try:
        return config_from(config_class, record["config"])
    except (TypeError, ValueError) as error:
        reason = str(error).replace(f"{config_class.__name__}.__init__() got an", "an")
        raise ValueError(
            f"{where} has settings that {record['study']} cannot take ({reason}). It was changed, or made by another "
            "version: train the run again."
        ) from None


def config_from(config_class: type, values: Mapping[str, Any]) -> Any:
    """A frozen config from JSON values (lists back to tuples)."""
    return config_class(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def read_weights(path: Path, content: bytes | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file: float16, float32 or float64, and whole numbers of 64 bits for counts.

    Args:
        path: the file. content: of the file, if it was read already.

    Raises:
        ValueError: if it is not there, damaged, or holds other types or numbers that are not finite.
    """
    try:
        weights = safetensors.torch.load(path.read_bytes() if content is None else content)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RuntimeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the weights {path} cannot be read ({reason}). Put a good copy there.") from None
    for name, value in weights.items():
        if not (value.dtype in (torch.float16, torch.float32, torch.float64) or name.endswith("num_batches_tracked")):
            raise ValueError(
                f"the weights {path} hold {name} as {value.dtype}, not as fractions. Put a good copy there."
            )
        if not value.isfinite().all():
            raise ValueError(f"the weights {path} hold numbers in {name} that are not finite. Put a good copy there.")
    return weights


def build_with(weights: Mapping[str, Tensor], study: Study, config: Any, path: Path) -> nn.Module:
    """A model of a study with these weights.

    Its shapes are compared with theirs before memory is taken for it, if the study can build without memory (on
    torch's device "meta"; one that computes while it builds cannot).

    Raises:
        ValueError: if they are of another model, or the settings are those of none.
    """
    skeleton = None
    with contextlib.suppress(Exception), torch.device("meta"):
        skeleton = study.build(config)
    if skeleton is not None:
        _check_fit(skeleton, weights, path)
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, only to be thrown away
            model = study.build(config)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"no model can be built by the settings that belong to {path} ({reason}). Train the run again."
        ) from None
    fit_weights(model, weights, path)
    return model


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a model whose tensors have their names and shapes.

    Raises:
        ValueError: if they are of another model, with the first difference.
    """
    _check_fit(model, weights, path)
    model.load_state_dict(weights)


def _check_fit(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted({*wanted, *found}):
        if (here := wanted.get(name, "absent")) != (there := found.get(name, "absent")):
            raise ValueError(
                f"the weights {path} are of another model ({name}: {there} there, {here} by the settings). "
                "Put back those that belong to the settings, or train the run again."
            )
