"""Released tables: the runs of a sweep, one row each, as CSV beside the cards; their means and differences."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vae_helpers.experiments import released
from vae_helpers.experiments.records import read_record
from vae_helpers.training.checkpoint import atomic_write

DROPPED = ("data_sha256", "folder", "error")  # of the machine that ran it
DIGITS = 6  # significant
CURVES = ".curves.csv"


def released_tables() -> list[str]:
    """The names `load_table` knows."""
    return released.released_names(".csv")


def load_table(name: str) -> pd.DataFrame:
    """One row a run, as `sweep.sweep` returns it; ``.attrs`` has the ``command`` that makes it again and a ``note``.

    Raises:
        KeyError: for an unknown name, listing the known ones. ValueError: for a damaged file.
    """
    if name not in released_tables():
        raise KeyError(f"no table is released under {name[:80]!r}; there are {', '.join(released_tables())}")
    path = released.released_file(name, ".csv")
    assert path is not None
    table, head = _read_table(path)
    table.attrs = {"command": head[0] if head else "", "note": head[1] if len(head) > 1 else ""}
    return table


def _read_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The runs of a table's file, and its remarks.

    Raises:
        ValueError: if it is not there, or no table of a sweep, with what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if "\0" in text:
            raise ValueError("it holds NUL bytes")
        lines = text.splitlines(keepends=True)
        head = list(itertools.takewhile(lambda line: line.startswith("# "), lines))
        table = pd.read_csv(io.StringIO("".join(lines[len(head) :])))
        columns = list(table.columns)
        missing = [name for name in ("study", "seed", "budget", "status") if name not in columns]
        if missing or table.empty:
            raise ValueError(f"it has no {', '.join(missing) or 'row'}")
        if table[["study", "seed", "budget", "status"]].isna().any(axis=None):
            raise ValueError("a row has no study, seed, budget or status")
        if words := _not_numbers(table):
            raise ValueError(f"{', '.join(words)} must be numbers")
    except (OSError, ValueError, RecursionError) as error:  # of pandas: ParserError, EmptyDataError
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise ValueError(
            f"{path} is no table of a sweep ({reason}). Check it out again, or run the sweep again."
        ) from None
    return table, [line[2:].rstrip("\r\n") for line in head]


def _not_numbers(table: pd.DataFrame) -> list[str]:
    """Columns that must hold numbers and do not: the seeds, and what the finished runs measured."""
    finished = table[table["status"] == "finished"]
    if finished.empty:
        measured: list[str] = []
    elif "seconds" not in table:
        raise ValueError("it has no seconds")
    else:
        columns = list(table.columns)
        measured = columns[columns.index("status") + 1 : columns.index("seconds") + 1]
    return [name for name in ("seed", *measured) if not pd.api.types.is_numeric_dtype(table[name])]


def load_curves(name: str) -> pd.DataFrame:
    """What the runs of a table measured along the way: its settings, seed, ``step`` and each evaluated number.

    Raises:
        KeyError: for an unknown table, listing the known ones, or one released without curves.
    """
    load_table(name)
    path = released.released_file(name, CURVES)
    if path is None:
        raise KeyError(f"the table {name!r} was released without its curves")
    try:
        curves = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no curves ({error}). Check it out again.") from None
    return curves


def release_table(name: str, source: Path, *, note: str = "", curves: bool = False, to: Path | None = None) -> Path:
    """Release the CSV that a sweep wrote.

    Args:
        name: "study/table". source: the CSV; every run in it must have finished. note: a remark for readers, one line.
        curves: release what the runs evaluated along the way too, from their folders (`load_curves`).
        to: see `released.folder_to_write`.

    Returns:
        the released file's path.

    Raises:
        ValueError: if the file is no such table, a run failed or has a metric that is not finite, or its folder is gone
            and curves are wanted.
    """
    target = released.folder_to_write(to, name)
    table, _ = _read_table(source)
    failed = table[table["status"] != "finished"]
    if len(failed):
        raise ValueError(f"{source}: {len(failed)} of {len(table)} runs did not finish; run the sweep again first")
    try:
        command = sweep_command(table)
    except ValueError as error:
        raise ValueError(f"{source}: {error}; run the whole sweep again") from None
    _check_one_source(table, source)
    with_folders = table
    table = table.drop(columns=[column for column in DROPPED if column in table])
    infinite = [c for c in table.select_dtypes("number") if not table[c].dropna().map(math.isfinite).all()]
    if infinite:
        raise ValueError(f"{source} has values that are not finite in {', '.join(infinite)}")
    if curves:
        along = _curves(with_folders).to_csv(index=False, float_format=f"%.{DIGITS}g")
        atomic_write(target / f"{name}{CURVES}", along.encode())
    rows = table.to_csv(index=False, float_format=f"%.{DIGITS}g")
    head = "".join(f"# {line}\n" for line in (command, note) if line)
    path = target / f"{name}.csv"
    atomic_write(path, (head + rows).encode())
    return path


def _check_one_source(table: pd.DataFrame, source: Path) -> None:
    """Runs with the same settings of their data must have had the same data."""
    settings = [name for name in ("data", "source", "size", "channels", "test_share", "split_seed") if name in table]
    groups = table.groupby(settings) if settings else [("", table)]
    for _, rows in groups:
        for column in ("data_source", "data_sha256"):
            if column in rows and len(found := rows[column].dropna().unique()) > 1:
                raise ValueError(f"{source} mixes runs on different data: {' | '.join(map(str, found))}")


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """One row an evaluation of a run, read from the run folders."""
    columns = list(table.columns)
    keys = [*columns[columns.index("study") + 1 : columns.index("seed")], "seed"]
    rows = []
    for _, run in table.iterrows():
        try:
            record = read_record(Path(str(run["folder"])))
        except ValueError as error:
            raise ValueError(f"no curves without the records of the runs ({error}); run the sweep again") from None
        rows += [{**run[keys], **evaluation} for evaluation in record.get("history", {}).get("evals", [])]
    if not rows:
        raise ValueError("the runs were not evaluated along the way: there are no curves; release the table alone")
    return pd.DataFrame(rows).astype({"step": int})


def means(table: pd.DataFrame, metrics: Mapping[str, str], *, by: Sequence[str]) -> pd.DataFrame:
    """``mean ± sd`` of metrics over seeds, and n, one row a combination of settings, ready to be shown.

    Args:
        table: of finished runs. metrics: column -> heading, which may end in a format such as ``:.1f`` (else ``:.2f``).
        by: settings.

    Returns:
        a table of texts; a single run has no sd.
    """
    groups = table.groupby(list(by), sort=False)
    columns = {}
    for metric, heading in metrics.items():
        name, _, form = heading.partition(":")
        mean, sd = groups[metric].mean(), groups[metric].std()
        columns[name] = [spread_text(m, s, form or ".2f") for m, s in zip(mean, sd, strict=True)]
    shown = pd.DataFrame(columns, index=groups.size().index)
    shown["n"] = groups.size().to_numpy()
    return shown


def card_table(cards: Mapping[str, str], metrics: Mapping[str, str]) -> pd.DataFrame:
    """Released cards side by side: ``mean ± sd (n = ...)`` of their metrics, and their steps of training.

    Args:
        cards: heading of a row -> released name. metrics: heading of a column -> metric of the cards.

    Returns:
        a table of texts and steps; a dash where a card lacks the metric.

    Raises:
        KeyError: for a name that is not released, or a metric that no card has.
    """
    found = {heading: released.load_released(name) for heading, name in cards.items()}
    measured = {metric for result in found.values() for metric in result.card["metrics"]}
    if unknown := set(metrics.values()) - measured:
        raise KeyError(f"none of {', '.join(cards.values())} has the metric {', '.join(sorted(unknown))}")
    rows = {}
    for heading, result in found.items():
        has = result.card["metrics"]
        row = {column: result.metric(metric) if metric in has else "–" for column, metric in metrics.items()}
        rows[heading] = {**row, "steps": f"{result.card['steps']:,}"}
    return pd.DataFrame.from_dict(rows, orient="index")


def spread_text(mean: float, sd: float, form: str) -> str:
    """As "91.0 ± 3.1" in the format given; without the sd if there is none, a dash if there is no mean."""
    if math.isnan(mean):
        return "–"
    return f"{mean:{form}}" + ("" if math.isnan(sd) else f" ± {sd:{form}}")


class Difference(NamedTuple):
    """A mean paired difference with its 95 % interval; a format such as ``:+.1f`` is applied to all three."""

    mean: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """As "-0.19 (-0.36 to -0.02)"."""
        form = form or "+.2f"
        return f"{self.mean:{form}} ({self.low:{form}} to {self.high:{form}})"

    def in_words(self, form: str = "+.2f") -> str:
        """As "-0.19 (95 % interval -0.36 to -0.02)"."""
        return f"{self.mean:{form}} (95 % interval {self.low:{form}} to {self.high:{form}})"


def paired_difference(arm: pd.Series, base: pd.Series) -> Difference:
    r"""What one arm has more than another, over the seeds that both have.

    .. math:: \bar d \pm t_{0.975,\, n - 1}\, s_d / \sqrt n, \qquad d_i = \text{arm}_i - \text{base}_i

    Where a seed moves both arms alike, by the data that it draws, their difference varies less than either.

    Args:
        arm, base: one number a run, indexed by seed.

    Raises:
        ValueError: for a seed that comes twice, or fewer than two in common, of which no interval can be had.
    """
    from scipy.stats import ttest_rel  # a second to import

    for name, values in (("arm", arm), ("base", base)):
        if not values.index.is_unique:
            raise ValueError(f"a seed comes twice in {name}: {sorted(values.index)}; choose one setting first")
    arm, base = arm.align(base, join="inner")
    if len(arm) < 2:
        raise ValueError(f"an interval takes two seeds in common, found {len(arm)}: {list(arm.index)}")
    interval = ttest_rel(arm, base).confidence_interval(0.95)
    return Difference(float((arm - base).mean()), float(interval.low), float(interval.high))


def sweep_command(table: pd.DataFrame) -> str:
    """The command line that makes a table again: its settings are the columns between study and seed.

    Raises:
        ValueError: if the rows are not all combinations of their settings and seeds, each once.
    """
    columns = list(table.columns)
    settings = columns[columns.index("study") + 1 : columns.index("seed")]
    values = {name: list(dict.fromkeys(table[name])) for name in [*settings, "seed", "study", "budget"]}
    expected = math.prod(len(v) for v in values.values())
    if len(table.drop_duplicates([*settings, "seed"])) != len(table) or expected != len(table):
        raise ValueError(f"the {len(table)} rows are not all {expected} combinations of {', '.join(settings)} and seed")
    grid = [f"{name}={','.join(_word(v) for v in values[name])}" for name in settings]
    seeds = values["seed"]
    seeds_word = f"{seeds[0]}..{seeds[-1]}" if seeds == list(range(seeds[0], seeds[-1] + 1)) else _join(seeds)
    start = f"python -m vae_helpers sweep {values['study'][0]} --budget {values['budget'][0]} --seeds {seeds_word}"
    return f"{start} --grid {' '.join(grid)}" if grid else start


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, (bool,)) or str(value) in ("True", "False") else str(value)


def _join(values: list[Any]) -> str:
    return ",".join(map(str, values))
