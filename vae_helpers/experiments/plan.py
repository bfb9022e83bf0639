"""A plan file: sweeps in the order of their importance.

.. code-block:: toml

    [[sweep]]
    study = "nonsyn"
    seeds = "0..2"
    budget = "full"
    grid = { method = ["vae", "factor_vae"], steps = 100_000 }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_helpers.experiments.grid import check_number, parse_seeds, study_defaults, typed_value
from vae_helpers.training import Budget

KEYS = ("study", "grid", "seeds", "budget")


@dataclass(frozen=True)
class Planned:
    """One sweep of a plan: as the arguments of `sweep.cells`, and where it stands, for messages."""

    study: str
    grid: dict[str, list[Any]]
    seeds: Sequence[int]
    budget: Budget
    place: str


def read_plan(path: Path, *, budget: Budget | None = None) -> list[Planned]:
    """The sweeps of a TOML file, most wanted first.

    Args:
        path: with a table ``[[sweep]]`` for each: ``study``; ``grid``, setting -> a value or a list of them, written
            as on the command line (a tuple is "300x300"); ``seeds``, "0..4" or a list; ``budget``.
        budget: of the sweeps that name none; None for `Budget.current`.

    Raises:
        ValueError: if the file cannot be read or names something that is not there, with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"the plan {path} cannot be read ({reason}): it must be a TOML file") from None
    sweeps = content.pop("sweep", [])
    if content or not isinstance(sweeps, list) or not all(isinstance(sweep, dict) for sweep in sweeps):
        unknown = next(iter(content), "sweep")
        raise ValueError(f"{path}, line {_line(text, 0, unknown)}: a plan has tables [[sweep]] only, not {unknown!r}")
    if not sweeps:
        raise ValueError(f"the plan {path} has no runs: write a table [[sweep]] for each sweep")
    return [_planned(path, text, number, sweep, budget) for number, sweep in enumerate(sweeps, 1)]


def _planned(path: Path, text: str, number: int, sweep: dict[str, Any], budget: Budget | None) -> Planned:
    def wrong(key: str, why: object) -> ValueError:
        return ValueError(f"{path}, line {_line(text, number, key)}: {str(why).removeprefix('--')}")

    for key in sweep:
        if key not in KEYS:
            raise wrong(key, f"a sweep has no {key!r}; it has {', '.join(KEYS)}")
    for key in ("study", "seeds"):
        if key not in sweep:
            raise wrong("", f"this sweep has no {key}; give it one, as in the first lines of benchmarks/full.toml")
    study, grid, seeds = sweep["study"], sweep.get("grid", {}), sweep["seeds"]
    try:
        study_defaults(str(study), ())
    except (ValueError, KeyError) as error:
        raise wrong("study", error.args[0]) from None
    if not isinstance(grid, dict):
        raise wrong("grid", f"grid must be a table, {{ setting = value }}, got {grid!r}")
    try:
        found = parse_seeds(",".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds))
        check_number([len(value) if isinstance(value, list) else 1 for value in grid.values()], len(found))
    except ValueError as error:
        raise wrong("seeds", error) from None
    values: dict[str, list[Any]] = {}
    for key, value in grid.items():
        words = value if isinstance(value, list) else [value]
        try:
            if not words:
                raise ValueError(f"{key} has no values; give it one or more")
            values[key] = [typed_value(study, key, str(word)) for word in words]
        except (ValueError, KeyError) as error:
            raise wrong(key, error.args[0]) from None
    try:
        chosen = Budget(sweep.get("budget") or budget or Budget.current())
    except ValueError:
        raise wrong("budget", f"budget must be smoke, quick or full, not {sweep['budget']!r}") from None
    return Planned(str(study), values, found, chosen, f"{path}, line {_line(text, number, '')}")


def _line(text: str, number: int, key: str) -> int:
    """The line of a key in the ``number``-th table [[sweep]] (0: before any), or of the table's head."""
    heads = [i for i, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*sweep\s*\]\]", line)]
    start = heads[number - 1] if 0 < number <= len(heads) else 1
    end = heads[number] if number < len(heads) else len(text.splitlines()) + 1
    for i, line in enumerate(text.splitlines()[start - 1 : end - 1], start):
        if key and re.search(rf"(^|[{{,.\s\[]){re.escape(key)}[\"']?\s*(=|\])", line):
            return i
    return start
