"""Interleaved timing, the hardware line and the printed tables."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class Table:
    """One subject's result: a title, column names, rows of printable values and remarks."""

    title: str
    columns: list[str]
    rows: list[Sequence[str | int | float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        cells = [self.columns, *([_text(value) for value in row] for row in self.rows)]
        cells = [row + [""] * (len(self.columns) - len(row)) for row in cells]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        lines.insert(1, "-" * sum(widths, 2 * len(widths) - 2))
        return "\n".join([f"\n{self.title}", *(line.rstrip() for line in lines), *(f"  {note}" for note in self.notes)])

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return dataclasses.asdict(self)


def interleaved(runs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round, in the order A B C A B C ...: what disturbs the machine disturbs all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def paired_ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of slow / fast, each ratio taken within one round."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def machine() -> str:
    """The day, processor, cores, threads, load and versions in one line."""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{datetime.date.today()} · {_processor()}, {os.cpu_count()} logical cores, "
        f"{torch.get_num_threads()} torch threads{load} · "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _text(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    return str(value)
