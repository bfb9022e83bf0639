"""What needs a fresh interpreter: rates, seconds to import, peak memory, and what torch's threads cost or bring."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.measure import Table, interleaved, paired_ratio

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import vae_helpers.training": ["-c", "import vae_helpers.training"],
    "import vae_helpers.experiments": ["-c", "import vae_helpers.experiments"],
    "import vae_helpers.explorer": ["-c", "import vae_helpers.explorer"],
    "python -m vae_helpers list": ["-m", "vae_helpers", "list"],
}
MEMORY = """
from benchmarks import peers
from benchmarks.processes import peak_mb
from vae_helpers.data import load_mnist
imported = peak_mb()
images = load_mnist()
loaded = peak_mb()
peers.ours(images)({steps})
print(imported, loaded, peak_mb())
"""
RATE = """
import contextlib, io, time
import torch
from {module} import CONTENDERS
from vae_helpers.data import load_mnist
torch.set_num_threads({n})
torch.set_flush_denormal(True)
with contextlib.redirect_stdout(io.StringIO()):
    contender, steps = CONTENDERS[{name!r}][1](load_mnist()), 0
contender(10)
began = time.perf_counter()
while time.perf_counter() < began + {seconds}:
    contender(10)
    steps += 10
print(steps / (time.perf_counter() - began))
"""


def rate(module: str, name: str, *, n: int, seconds: float, **environment: str) -> float:
    """Steps/s of one of a module's CONTENDERS with ``n`` torch threads, in a fresh process."""
    return float(_run("-c", RATE.format(module=module, name=name, n=n, seconds=seconds), **environment).split()[-1])


def rate_table(
    title: str, module: str, contenders: Mapping[str, tuple[str, Any]], *, ours: str, seconds: float, rounds: int
) -> tuple[Table, dict[str, list[float]]]:
    """Steps/s of every contender: the thread pools of several in one process would disturb each other.

    Args:
        module, contenders: where CONTENDERS is, and it: name -> (package it needs, ...). ours: the name compared with.

    Returns:
        the table, and the steps/s of each contender that runs here, one a round.
    """
    columns = ["way of training", "steps/s", "ms/step", f"{ours} is x times as fast"]
    table = Table(f"Steps/s, {title}: {rounds} interleaved rounds of {seconds} s", columns)
    rates: dict[str, list[float]] = {}
    for name, (package, *_) in contenders.items():
        if peers.installed(package):
            rates[name] = []
        else:
            table.notes.append(f"{name}: not installed (pip install {peers.PIP_NAMES[package]})")
    for _ in range(rounds):
        for name in list(rates):
            try:
                rates[name].append(rate(module, name, n=torch.get_num_threads(), seconds=seconds))
            except RuntimeError as error:  # an optional peer or compiler that does not work here must not end the run
                if name == ours:
                    raise
                table.notes.append(str(error))
                del rates[name]
    table.rows = [
        [name, statistics.median(v), 1e3 / statistics.median(v), paired_ratio(rates[ours], v)]
        for name, v in rates.items()
    ]
    return table, rates


def import_seconds(quick: bool) -> Table:
    """Wall time of a fresh interpreter, files already in the page cache."""
    rounds = 3
    commands = {
        name: command
        for name, command in COMMANDS.items()
        if not name.endswith(".explorer") or importlib.util.find_spec("vae_helpers.explorer")
    }
    seconds = interleaved({name: partial(_run, *command) for name, command in commands.items()}, rounds=rounds + 1)
    rows: list[Sequence[str | int | float]] = [
        [name, statistics.median(values[1:])]  # the first round filled the page cache
        for name, values in seconds.items()
    ]
    return Table(f"Start-up in a fresh interpreter, median of {rounds} interleaved rounds", ["command", "s"], rows)


def peak_memory(quick: bool) -> Table:
    """Peak resident memory of a process that trains (Unix only)."""
    steps = 100 if quick else 500
    table = Table(f"Peak resident memory of a process that trains {steps} steps", ["after", "MB"])
    if sys.platform == "win32":
        table.notes.append("Not measured on Windows.")
        return table
    values = [float(word) for word in _run("-c", MEMORY.format(steps=steps)).split()[-3:]]
    table.rows = list(zip(("imports", "load_mnist()", f"{steps} steps"), values, strict=True))
    return table


def peak_mb() -> float:
    """Peak resident memory of this process, MB; getrusage alone would report that of a larger parent on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def thread_rates(quick: bool) -> Table:
    """training.fit with one torch thread, with all, and with all but sleeping instead of spinning at barriers."""
    (rounds, seconds), n = (1, 3) if quick else (5, 4), os.cpu_count() or 1
    variants: dict[str, tuple[int, dict[str, str]]] = {
        "1 thread": (1, {}),
        f"{n} threads": (n, {}),
        f"{n} threads, OMP_WAIT_POLICY=passive": (n, {"OMP_WAIT_POLICY": "passive"}),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (threads, environment) in variants.items():
            rates[name].append(rate("benchmarks.training", "training.fit", n=threads, seconds=seconds, **environment))
    alone = rates["1 thread"]
    rows: list[Sequence[str | int | float]] = [
        [name, statistics.median(values), paired_ratio(values, alone)] for name, values in rates.items()
    ]
    return Table(
        f"Threads: training.fit for {seconds} s in a process each, {rounds} interleaved rounds",
        ["", "steps/s", "x one thread"],
        rows,
        ["Spinning threads that share a core with another job wait for each other's time slices."],
    )


def _run(*arguments: str, **environment: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])[:60]} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
