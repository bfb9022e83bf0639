"""Records of runs, cards of released results and weights, as files: checked before they are believed."""

from __future__ import annotations

import contextlib
import json
import math
import re
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from vae_helpers.experiments.settings import Settings, Study

Config = dict[str, Any]  # checked by the study's own types, see `config_of`
Kind = TypeVar("Kind")
MAX_BYTES = 2**26  # of a record or a card: 3,000 rows of history with twelve terms each make 1.4 MB


class Rows(TypedDict):
    """A history: what was measured along the way."""

    rows: list[dict[str, Any]]  # of numbers, see `_check_history`
    evals: list[dict[str, Any]]


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
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"it has {size:,} bytes, and at most {MAX_BYTES:,} are read")
        content = json.loads(path.read_text(encoding="utf-8"), parse_int=_whole_number)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not a table")
        check_type(_known(content, kind), kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        for name in Rows.__annotations__:
            _check_history(content.get("history", {}).get(name, []), name)
    except (OSError, ValueError, RecursionError, TypeCheckError) as error:
        text = re.sub(r"\bdict\b", "it", str(error), count=1)
        reason = error.strerror if isinstance(error, OSError) else text.splitlines()[0]
        raise ValueError(f"{path} is not {words} ({reason}). {way_out}") from None
    return content


def _whole_number(text: str) -> int:
    if abs(number := int(text)) >= 2**63:
        raise ValueError(f"the number {text[:30]}... is larger than 2^63")
    return number


def _known(value: Any, kind: Any) -> Any:
    """A value without the keys that its type does not name: a later version may write more."""
    if not isinstance(value, dict):
        return value
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is NotRequired else kind
    if typing.is_typeddict(kind):
        kinds = typing.get_type_hints(kind, include_extras=True)
        return {key: _known(value[key], kinds[key]) for key in kinds if key in value}
    if typing.get_origin(kind) is dict:
        return {key: _known(item, typing.get_args(kind)[1]) for key, item in value.items()}
    return value


def _check_history(rows: list[dict[str, Any]], name: str) -> None:
    """Numbers only: by a loop, since typeguard takes ten times as long for thousands of rows."""
    for row in rows:
        for key, value in row.items():
            if type(value) not in (int, float):
                raise ValueError(f"{key} of a row of {name} is {type(value).__name__}, not a number")


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
            "version: train the run again, or check the repository out again if it is a released one."
        ) from None


def config_from(config_class: type, values: Mapping[str, Any]) -> Any:
    """A frozen config from JSON values (lists back to tuples)."""
    return config_class(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


FRACTIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_weights(
    path: Path, *, fractions: Collection[torch.dtype] = FRACTIONS, way_out: str = "Put a good copy there."
) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Args:
        path: the file. fractions: the types that its fractions may have. way_out: what to do if they are not good.

    Raises:
        ValueError: if it is not there, damaged, of another type of fractions, or holds numbers that are not finite.
    """
    try:
        weights = safetensors.torch.load_file(path)  # it compares the file's length with its head before it reads on
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RuntimeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the weights {path} cannot be read ({reason}). {way_out}") from None
    for name, value in weights.items():
        if value.dtype not in FRACTIONS:
            continue
        if value.dtype not in fractions:
            raise ValueError(
                f"the weights {path} hold {name} as {value.dtype}, not {', '.join(map(str, fractions))}. {way_out}"
            )
        if not value.isfinite().all():
            raise ValueError(f"the weights {path} hold numbers in {name} that are not finite. {way_out}")
    return weights


def converted(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights with their fractions as another type; counts and switches stay as they are."""
    return {name: value.to(dtype) if value.dtype in FRACTIONS else value for name, value in weights.items()}


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
    """Put weights into a model whose tensors have their names, shapes and types (one fraction is as good as another).

    Raises:
        ValueError: if they are of another model, with the first difference.
    """
    _check_fit(model, weights, path)
    model.load_state_dict(weights)


def _check_fit(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: _form(value) for name, value in model.state_dict().items()}
    found = {name: _form(value) for name, value in weights.items()}
    for name in sorted({*wanted, *found}):
        if (here := wanted.get(name, "absent")) != (there := found.get(name, "absent")):
            raise ValueError(
                f"the weights {path} are of another model ({name}: {there} there, {here} by the settings). "
                "Put back those that belong to the settings, or train the run again."
            )


def _form(value: Tensor) -> str:
    kind = "fractions" if value.dtype in FRACTIONS else str(value.dtype)
    return f"{tuple(value.shape)} of {kind}"
