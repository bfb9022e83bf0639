"""One training step, operator by operator: milliseconds, share of the step, and the bound of its matrix products."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Table
from vae_helpers import objectives
from vae_helpers.data import Batches, binarise, load_mnist
from vae_helpers.experiments import m1, nonsyn
from vae_helpers.training import GradientStep

SIDE = 2048  # of the square matrices that give the rate
SMALLEST_SHARE = 1.5  # percent; rarer operators are added up


def m1_step(quick: bool) -> Table:
    """The step of m1 in float32, batch 100."""
    x = load_mnist().x_train
    batches = Batches(x, batch_size=100, seed=0, transform=binarise)
    return _table("m1, 784-300-300-20, batch 100, float32", m1.build(m1.M1Config(steps=1)), batches, quick, bf16=False)


def dsprites_step(quick: bool) -> Table:
    """The step of a VAE on dSprites in float32, batch 64."""
    return _dsprites(quick, bf16=False)


def dsprites_bf16_step(quick: bool) -> Table:
    """The same in bfloat16."""
    return _dsprites(quick, bf16=True)


def _dsprites(quick: bool, *, bf16: bool) -> Table:
    config = nonsyn.NonSynConfig(method="vae", steps=1)
    batches = nonsyn.ImageBatches(config.load(), batch_size=64, seed=0)
    words = f"dSprites VAE, 64x64, batch 64, {'bfloat16' if bf16 else 'float32'}"
    return _table(words, nonsyn.build(config), batches, quick, bf16=bf16)


def _table(title: str, model: Any, batches: Any, quick: bool, *, bf16: bool) -> Table:
    step = GradientStep(model, objectives.elbo, bf16=bf16)

    def one() -> None:
        step(batches.take(batches.draw()))

    rounds = 5 if quick else 20
    for _ in range(5):
        one()
    rate = _matmul_rate(torch.bfloat16 if bf16 else torch.float32)
    milliseconds = 1e3 * statistics.median(_seconds(one) for _ in range(3 * rounds))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        for _ in range(rounds):
            one()
    events = [event for event in found.key_averages(group_by_input_shape=True) if event.self_cpu_time_total > 0]
    total = sum(event.self_cpu_time_total for event in events)
    table = Table(
        f"One step of {title}: {milliseconds:.2f} ms, matmul rate {rate / 1e9:.0f} GFLOP/s",
        ["operator", "shapes", "ms", "share, %", "bound, ms"],
    )
    with FlopCounterMode(display=False) as counter:
        one()
    rest, bounds = 0.0, 1e3 * counter.get_total_flops() / rate
    for event in sorted(events, key=lambda event: -event.self_cpu_time_total):
        share = 100 * event.self_cpu_time_total / total
        itself = event.self_cpu_time_total > event.cpu_time_total / 2  # not a name under which another one works
        bound = 1e3 * event.count / rounds * flop(event.key, event.input_shapes) / rate if itself else 0.0
        if share < SMALLEST_SHARE:
            rest += share
            continue
        shapes = " ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
        row = (event.key.removeprefix("aten::"), shapes[:60], milliseconds * share / 100, share)
        table.rows.append((*row, bound if bound else ""))
    table.rows.append(("all others", "", milliseconds * rest / 100, rest, ""))
    table.rows.append(("step", "", milliseconds, 100.0, bounds))
    table.notes.append(f"The step takes {milliseconds / bounds:.1f} times as long as its matrix products at that rate.")
    return table


def flop(operator: str, shapes: list[list[int]]) -> float:
    """Floating-point operations of one call, for matrix products and for the nets' convolutions (4x4, stride 2).

    0 for ``convolution_backward``: its shapes do not tell if it makes one gradient or two.
    """
    match operator.removeprefix("aten::"):
        case "mm":
            return 2.0 * math.prod(shapes[0]) * shapes[1][1]
        case "addmm":
            return 2.0 * math.prod(shapes[1]) * shapes[2][1]
        case "mkldnn_convolution":  # half as many places on each side as x has
            return 2.0 * shapes[0][0] * math.prod(shapes[0][2:]) / 4 * math.prod(shapes[1])
        case "_convolution":  # a transposed one: at each place of x
            return 2.0 * shapes[0][0] * math.prod(shapes[0][2:]) * math.prod(shapes[1])
    return 0.0


def _matmul_rate(dtype: torch.dtype) -> float:
    a, b = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    return 2.0 * SIDE**3 / min(_seconds(lambda: a @ b) for _ in range(5))


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
