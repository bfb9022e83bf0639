"""``python -m benchmarks.gpu [--minutes M] [--workers N] [--plan FILE] [--out DIR]``: some minutes of a GPU.

Checks first (is every study's step captured, do runs repeat and resume bit for bit, does the CPU agree), then speeds,
then the plan until the time is over. The tables and the archives of the runs lie in DIR. Nothing is asserted; needs
no Jupyter. With ``VAE_DEVICE=cpu`` and the smoke budget it is a rehearsal.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.measure import Table, machine
from vae_helpers.experiments import STUDIES
from vae_helpers.experiments.sweep import sweep_plan
from vae_helpers.training import Budget, pick_device
from vae_helpers.training.capture import CapturedStep
from vae_helpers.training.determinism import reserve_workspace

CHECKED: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussians": ("gaussians", {}),
    "m1": ("m1", {}),
    "m1, iwae": ("m1", {"bound": "iwae"}),
    "m2": ("m2", {}),
    "adgm": ("m2", {"model": "adgm"}),
    "gmvae": ("gmvae", {}),
    "conditional": ("conditional", {"thorough": False}),
    "judge": ("judge", {}),
    "supervised": ("supervised", {}),
    "warm start": ("warm_start", {"start": "random"}),
    "vae, dSprites": ("nonsyn", {"method": "vae"}),
    "beta_tcvae": ("nonsyn", {"method": "beta_tcvae"}),
    "factor_vae": ("nonsyn", {"method": "factor_vae"}),
    "nonsyn": ("nonsyn", {"method": "nonsyn"}),
    "masked": ("nonsyn", {"method": "masked"}),
}


def checks(steps: int) -> Table:
    """For each study: captured, repeats, repeats if asked to, resumes; largest difference of codes from a CPU's."""
    table = Table("Checks", ["", "captured", "repeats", "deterministic", "resumes", "codes, against the CPU"])
    original = CapturedStep._capture
    for name, (study, settings) in CHECKED.items():
        done: list[bool] = []

        def watched(step: CapturedStep, index: Any, done: list[bool] = done) -> Any:
            values = original(step, index)
            done.append(step.graph is not None)
            return values

        try:
            with mock.patch.object(CapturedStep, "_capture", watched), tempfile.TemporaryDirectory() as folder:
                cut, config = Path(folder) / "cut", STUDIES[study].config(**settings, steps=steps, decay=False)
                weights = [_train(study, config) for _ in range(2)]
                sure = dataclasses.replace(config, deterministic=True)
                steady = [_train(study, sure) for _ in range(2)]
                _train(study, dataclasses.replace(sure, steps=steps // 2), folder=cut)
                resumed = _train(study, sure, folder=cut, resume=True)
        except (RuntimeError, ValueError) as error:
            table.rows.append((name, str(error).splitlines()[0][:90]))
            continue
        graph = "no GPU" if pick_device().type != "cuda" else "yes" if done and all(done) else "NO"
        words = ["yes" if _same(*pair) else "NO" for pair in (weights, steady, (steady[0], resumed))]
        table.rows.append((name, graph, *words, _difference(weights[0])))
    return table


def speeds(steps: int) -> Table:
    """Steps a second of each study at its full size, start and capture left out."""
    table = Table("Steps a second", ["", "steps/s", "bf16"])
    for name, (study, settings) in CHECKED.items():
        found = []
        for bf16 in (False, True):
            config = STUDIES[study].config(**settings, steps=steps, bf16=bf16, decay=False)
            run = STUDIES[study].run(config, seed=0, budget=Budget.SMOKE, progress=False)
            rows = run.history.rows
            half = rows[len(rows) // 2 - 1] if len(rows) > 1 else {"step": 0.0, "seconds": 0.0}
            found.append((rows[-1]["step"] - half["step"]) / max(rows[-1]["seconds"] - half["seconds"], 1e-9))
        table.rows.append((name, *found))
    return table


def _train(study: str, config: Any, **keeping: Any) -> Any:
    return STUDIES[study].run(config, seed=0, budget=Budget.SMOKE, progress=False, **keeping).model


def _same(first: Any, second: Any) -> bool:
    there = second.state_dict()
    return all(torch.equal(value, there[name]) for name, value in first.state_dict().items())


def _difference(model: Any) -> float | str:
    """Largest difference of the encoder's outputs for one input, here and on a CPU."""
    net = getattr(model, "encoder", None) or model.net
    width = getattr(net, "in_dim", 64 * 64)
    x = torch.rand(8, width, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            here = net(x.to(next(net.parameters()).device)).float().cpu()
            return float((here - net.cpu()(x)).abs().max())
    except (RuntimeError, TypeError, ValueError):
        return "-"  # a net of more than one input


def main() -> None:
    """Check, measure, train."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Check, measure and train on a GPU.")
    parser.add_argument("--minutes", type=float, default=9.0, help="for the plan")
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_name("full.toml"))
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-results")))
    arguments = parser.parse_args()
    reserve_workspace()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rehearsal = pick_device().type != "cuda"
    began = time.monotonic()
    with (arguments.out / "tables.txt").open("w") as file:
        for make in (machine, lambda: checks(8 if rehearsal else 200), lambda: speeds(6 if rehearsal else 2000)):
            words = str(make())
            print(words, file=file, flush=True)
            print(words, flush=True)
    print(f"checks and speeds: {time.monotonic() - began:.0f} s", flush=True)
    table = sweep_plan(
        arguments.plan, workers=arguments.workers, minutes=arguments.minutes, mps=not rehearsal, pack=arguments.out
    )
    print(table["status"].value_counts().to_string())


if __name__ == "__main__":
    main()
