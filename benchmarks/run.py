"""``python -m benchmarks.run [--quick] [--only NAME] [--json FILE] [--threads N]``: every speed the README names.

Timed by `time.perf_counter` in interleaved rounds (A B C A B C ...), because on a shared machine only
ratios within one round mean anything and pytest-benchmark times one thing after the other. Nothing is
asserted. ``VAE_DATA`` names the data; without it the offline digits serve.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    conditional,
    convolutions,
    disentangling,
    explorer,
    own_images,
    priors,
    processes,
    profiles,
    semi_supervised,
    sprites,
    training,
)
from benchmarks.measure import Table, machine

SUBJECTS: dict[str, Callable[[bool], Table]] = {
    "steps": training.steps_per_second,
    "nelbo": training.equal_nelbo,
    "gmvae-nelbo": priors.equal_nelbo,
    "matmul": training.matmul_share,
    "m2-steps": semi_supervised.steps_per_second,
    "m2-accuracy": semi_supervised.time_to_accuracy,
    "m2-matmul": semi_supervised.matmul_share,
    "conv-steps": conditional.steps_per_second,
    "conv-ways": convolutions.ways,
    "sprites": sprites.rendering,
    "nonsyn-steps": disentangling.steps_per_second,
    "threads": processes.thread_rates,
    "import": processes.import_seconds,
    "slider": explorer.slider_frame,
    "memory": processes.peak_memory,
    "own-images": own_images.pictures,
    "m1-profile": profiles.m1_step,
    "dsprites-profile": profiles.dsprites_step,
    "dsprites-bf16-profile": profiles.dsprites_bf16_step,
}


def main() -> None:
    """Measure the chosen subjects and print a table each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Benchmarks; ratios within one run.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, easier targets: some minutes")
    parser.add_argument("--only", action="append", choices=SUBJECTS, metavar="NAME", help=f"{', '.join(SUBJECTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables there")
    parser.add_argument("--threads", type=int, metavar="N", help="torch threads; default: the cores idle at the start")
    arguments = parser.parse_args()
    os.environ["VAE_DEVICE"] = "cpu"  # what the peers and the hardware line speak of
    torch.set_num_threads(arguments.threads or idle_cores())
    torch.set_flush_denormal(True)  # as training.setup does; for the peers too
    hardware = machine()
    print(hardware)
    tables = {}
    for name in arguments.only or SUBJECTS:
        tables[name] = SUBJECTS[name](arguments.quick)
        print(tables[name], flush=True)
    if arguments.json:
        record = {"hardware": hardware, "quick": arguments.quick, **{n: table.as_dict() for n, table in tables.items()}}
        arguments.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def idle_cores() -> int:
    """Torch's own number of threads less the load of the last minute: threads that share a core stall each other."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - round(load)))


if __name__ == "__main__":
    main()
