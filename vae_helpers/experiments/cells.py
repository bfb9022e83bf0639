"""The runs of a sweep: every combination of settings with every seed, each with its folder."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_helpers.experiments.folders import finished_record, run_folder
from vae_helpers.experiments.grid import check_number, study_defaults
from vae_helpers.training import Budget
from vae_helpers.training.budget import check_seed


@dataclass(frozen=True)
class Facts:
    """What a sweep knows of the data, loaded once: as `data.Images` without its pixels."""

    source: str
    fingerprint: str


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: settings (resolved), seed, the folder it goes to and the data it is to be made of."""

    study: str
    config: Any
    seed: int
    budget: Budget
    folder: Path
    data: Facts
    named: tuple[tuple[str, Any], ...] = ()  # the settings of the grid as it names them, for the table

    def finished(self) -> dict[str, Any] | None:
        """The record of this run if its folder holds it whole, with these settings and data; else None."""
        return finished_record(self.folder, self.config, self.data, self.seed, self.budget)


def cells(study: str, grid: Mapping[str, Sequence[Any]], *, seeds: Sequence[int], budget: Budget) -> list[Cell]:
    """All combinations, each with its run folder.

    Raises:
        ValueError: for an unknown study or setting, a setting without a list of values, no seeds, or a run named twice.
    """
    defaults = study_defaults(study, grid)
    for key, values in grid.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise ValueError(f"{key!r} needs a list of values ({key}=a,b,c), got {values!r}")
    if not len(seeds):
        raise ValueError("a sweep needs at least one seed; write --seeds 0..4 or 0,2,5")
    check_number([len(values) for values in grid.values()], len(seeds))
    found: dict[Path, Cell] = {}
    loaded: dict[tuple[Any, ...], Any] = {}
    for combination in itertools.product(*grid.values()):
        named = dict(zip(grid, combination, strict=True))
        config = dataclasses.replace(defaults, **named)
        named = {name: getattr(config, name) for name in named}
        which = tuple(getattr(config, name) for name in config.DATA)
        if which not in loaded:
            loaded[which] = config.load()
        resolved, facts = config.resolved(budget, loaded[which]), facts_of(loaded[which])
        for seed in map(check_seed, seeds):
            folder = run_folder(config.STUDY, config, seed, budget).resolve()
            if folder in found:
                raise ValueError(f"the run {folder.name} is named twice; give every value and every seed once")
            found[folder] = Cell(config.STUDY, resolved, seed, budget, folder, facts, tuple(named.items()))
    return list(found.values())


def facts_of(data: Any) -> Facts:
    """What is to be remembered of data that were loaded."""
    return Facts(data.source, data.fingerprint)
