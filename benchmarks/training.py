"""Training speed: steps a second, time to an equal NELBO, and the share of the machine's own matmul rate."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers, processes
from benchmarks.measure import Table, interleaved, paired_ratio
from vae_helpers import objectives
from vae_helpers.data import Images, load_mnist
from vae_helpers.evaluation import evaluate_terms
from vae_helpers.experiments import m1

TARGET_NELBO, EASY_NELBO = 96.1, 110.0
OURS = "training.fit"
CONTENDERS: dict[str, tuple[str, Callable[[Images], peers.Contender]]] = {
    OURS: ("", peers.ours),
    f"{OURS}, bf16": ("", partial(peers.ours, bf16=True)),
    f"{OURS}, compiled": ("", partial(peers.ours, compiled=True)),
    f"{OURS}, bf16, compiled": ("", partial(peers.ours, bf16=True, compiled=True)),
    "plain loop over a float tensor": ("", peers.plain_loop),
    "DataLoader + ToTensor loop": ("", peers.data_loader),
    "pythae, BaseTrainer": ("pythae", peers.pythae),
    "Pyro, SVI": ("pyro", peers.pyro_svi),
    "Pyro, SVI, jit": ("pyro", partial(peers.pyro_svi, jit=True)),
}
PEERS = ["DataLoader + ToTensor loop", "pythae, BaseTrainer", "Pyro, SVI", "Pyro, SVI, jit"]


def steps_per_second(quick: bool) -> Table:
    """Every contender's rate, and how far ours is ahead of the best peer."""
    seconds, rounds = (2, 2) if quick else (4, 5)
    title = f"MLP VAE 784-300-300-20, batch {peers.BATCH}"
    table, rates = processes.rate_table(title, __name__, CONTENDERS, ours=OURS, seconds=seconds, rounds=rounds)
    rivals = [name for name in rates if name in PEERS]
    for name in (name for name in rates if name.startswith(OURS)):
        ratio, rival = min((paired_ratio(rates[name], rates[rival]), rival) for rival in rivals)
        table.notes.append(f"{name} is {ratio:.2f} times as fast as the best peer, {rival} (aim: 1.8).")
    return table


def equal_nelbo(quick: bool) -> Table:
    """Seconds of training until the test NELBO is reached; the usual loop walks the same steps alongside."""
    images = load_mnist()
    contenders = {
        OURS: peers.ours(images),
        f"{OURS}, bf16, compiled": peers.ours(images, bf16=True, compiled=True),
        "DataLoader + ToTensor loop": peers.data_loader(images),
    }
    return nelbo_table("at z = 20", contenders, images, ours=OURS, target=EASY_NELBO if quick else TARGET_NELBO)


def nelbo_table(
    title: str, contenders: Mapping[str, peers.Contender], images: Images, *, ours: str, target: float
) -> Table:
    """Seconds of training until a test NELBO is reached, all walking the same steps in turn."""
    easy, full_data = target >= EASY_NELBO, images.name == "mnist"
    slice_steps = 250 if easy else 500
    x_test = m1.fixed_pixels(images.x_test, "dynamic")
    at, laps = race(
        contenders,
        lambda model: _nelbo(model, x_test),
        lambda value: value <= target,
        max_steps=(3_000 if easy else 30_000) if full_data else 1_000,
        slice_steps=slice_steps,
    )
    columns = ["way of training", "reached at step", "after s", f"s for {at:,} steps", f"NELBO at {at:,}"]
    table = Table(
        f"Time to test NELBO {target} nats {title}, interleaved every {slice_steps} steps, evaluations not counted",
        [*columns, f"{ours} is x times as fast"],
        notes=[f"{images.source}; dynamic binarisation, test set binarised once by seed 0, one seed."],
    )
    for name, lap in laps.items():
        step, after = lap.reached or ("not reached", "-")
        table.rows.append([name, step, after, lap.seconds, f"{lap.score:.2f}", lap.seconds / laps[ours].seconds])
    if not full_data:
        table.notes.append(f"{target} is out of reach with 4,000 digits: compare the NELBO at equal steps instead.")
    return table


@dataclass
class Lap:
    """Seconds trained in all, the last score, and the step and seconds at which the target was met, if it was."""

    seconds: float = 0.0
    score: float = math.nan
    reached: tuple[int, float] | None = None


def race(
    contenders: Mapping[str, peers.Contender],
    score: Callable[[Any], float],
    good: Callable[[float], bool],
    *,
    max_steps: int,
    slice_steps: int,
) -> tuple[int, dict[str, Lap]]:
    """Train all, a slice of steps at a time in turn, until every score was good once or ``max_steps`` are done.

    Returns:
        the steps each has done, and how each fared; scoring is not timed.
    """
    laps, at = {name: Lap() for name in contenders}, 0
    while at < max_steps and not all(lap.reached for lap in laps.values()):
        at += slice_steps
        for name, lap in laps.items():
            began = time.perf_counter()
            contenders[name](slice_steps)
            lap.seconds += time.perf_counter() - began
            lap.score = score(contenders[name].model)
            if lap.reached is None and good(lap.score):
                lap.reached = at, lap.seconds
    return at, laps


def matmul_share(quick: bool) -> Table:
    """The matmul share of `training.fit` on the MLP VAE."""
    rounds, steps = (3, 50) if quick else (9, 200)
    return share_table(OURS, peers.ours(load_mnist()), rounds=rounds, steps=steps)


def share_table(name: str, contender: peers.Contender, *, rounds: int, steps: int) -> Table:
    """Achieved over attainable: a step's matrix products at the rate this machine does them alone."""
    contender(20)
    products = matmuls(contender)

    def only_matmuls() -> None:
        for _ in range(steps):
            for a, b, out in products:
                torch.mm(a, b, out=out)

    only_matmuls()
    seconds = interleaved({name: partial(contender, steps), "matmuls": only_matmuls}, rounds=rounds)
    flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b, _ in products)
    attainable, achieved = (steps * flops / statistics.median(seconds[key]) / 1e9 for key in ("matmuls", name))
    share = 1 / paired_ratio(seconds[name], seconds["matmuls"])
    return Table(
        f"Share of this machine's f32 matmul rate: {flops / 1e6:.0f} MFLOP in {len(products)} products a step",
        ["", "GFLOP/s", "steps/s"],
        [[name, achieved, achieved * 1e9 / flops], ["the same products alone", attainable, attainable * 1e9 / flops]],
        [f"{name} runs at {share:.0%} of the matmul bound (median of {rounds} interleaved rounds)."],
    )


def matmuls(contender: peers.Contender) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Operands and outputs of one step's products: x W^T, g^T x and, unless x is data, g W, for each layer called."""
    products: list[tuple[Tensor, Tensor, Tensor]] = []

    def record(layer: nn.Linear, inputs: tuple[Tensor], _: Tensor) -> None:
        rows, weight = inputs[0].numel() // layer.in_features, layer.weight.detach()
        x, g = torch.randn(rows, layer.in_features), torch.randn(rows, layer.out_features)
        pairs = [(x, weight.t()), (g.t(), x), *([(g, weight)] if inputs[0].requires_grad else [])]
        products.extend((a, b, torch.empty(a.shape[0], b.shape[1])) for a, b in pairs)

    layers = [layer for layer in contender.model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    contender(1)
    for hook in hooks:
        hook.remove()
    return products


def _nelbo(model: nn.Module, x_test: Tensor) -> float:
    model.eval()
    with torch.random.fork_rng():
        value = -evaluate_terms(model, x_test, objectives.elbo)["elbo_bound"].mean
    model.train()
    return value
