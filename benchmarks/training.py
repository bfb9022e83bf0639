"""Training speed: steps a second, time to an equal NELBO, and the share of the machine's own matmul rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

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
PIP_NAMES = {"pythae": "pythae", "pyro": "pyro-ppl"}


def steps_per_second(quick: bool) -> Table:
    """Every contender's rate in a process of its own: the thread pools of several in one would disturb each other."""
    seconds, rounds = (2, 2) if quick else (4, 5)
    table = Table(
        f"Steps/s, MLP VAE 784-300-300-20, batch {peers.BATCH}: {rounds} interleaved rounds of {seconds} s",
        ["way of training", "steps/s", "ms/step", "fit is x times as fast"],
    )
    rates: dict[str, list[float]] = {}
    for name, (package, _) in CONTENDERS.items():
        if peers.installed(package):
            rates[name] = []
        else:
            table.notes.append(f"{name}: not installed (pip install {PIP_NAMES[package]})")
    for _ in range(rounds):
        for name in list(rates):
            try:
                rates[name].append(processes.rate(name, n=torch.get_num_threads(), seconds=seconds))
            except RuntimeError as error:  # an optional peer or compiler that does not work here must not end the run
                if name == OURS:
                    raise
                table.notes.append(str(error))
                del rates[name]
    table.rows = [
        [name, statistics.median(v), 1e3 / statistics.median(v), paired_ratio(rates[OURS], v)]
        for name, v in rates.items()
    ]
    rivals = [name for name in rates if name in PEERS]
    for name in (name for name in rates if name.startswith(OURS)):
        ratio, rival = min((paired_ratio(rates[name], rates[rival]), rival) for rival in rivals)
        table.notes.append(f"{name} is {ratio:.2f} times as fast as the best peer, {rival} (aim: 1.8).")
    return table


def equal_nelbo(quick: bool) -> Table:
    """Seconds of training until the test NELBO is reached; the usual loop walks the same steps alongside."""
    images = load_mnist()
    full_data = images.name == "mnist"
    target = EASY_NELBO if quick else TARGET_NELBO
    max_steps = (3_000 if quick else 30_000) if full_data else 1_000
    slice_steps = 250 if quick else 500
    x_test = m1.fixed_pixels(images.x_test, "dynamic")
    contenders = {
        OURS: peers.ours(images),
        f"{OURS}, bf16, compiled": peers.ours(images, bf16=True, compiled=True),
        "DataLoader + ToTensor loop": peers.data_loader(images),
    }
    seconds = dict.fromkeys(contenders, 0.0)
    reached: dict[str, tuple[int, float]] = {}
    nelbo: dict[str, float] = {}
    at = 0
    while at < max_steps and not all(name in reached for name in contenders):
        at += slice_steps
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender(slice_steps)
            seconds[name] += time.perf_counter() - began
            nelbo[name] = _nelbo(contender.model, x_test)
            if nelbo[name] <= target:
                reached.setdefault(name, (at, seconds[name]))
    table = Table(
        f"Time to test NELBO {target} nats at z = 20, interleaved every {slice_steps} steps, evaluations not counted",
        [
            "way of training",
            "reached at step",
            "after s",
            f"s for {at:,} steps",
            f"NELBO at {at:,}",
            "fit is x times as fast",
        ],
        notes=[f"{images.source}; dynamic binarisation, test set binarised once by seed 0, one seed."],
    )
    for name in contenders:
        step, after = reached.get(name, ("not reached", "-"))
        table.rows.append([name, step, after, seconds[name], f"{nelbo[name]:.2f}", seconds[name] / seconds[OURS]])
    if not full_data:
        table.notes.append(f"{target} is out of reach with 4,000 digits: compare the NELBO at equal steps instead.")
    return table


def matmul_share(quick: bool) -> Table:
    """Achieved over attainable: the step's matrix products at the rate this machine does them alone."""
    rounds, steps = (3, 50) if quick else (9, 200)
    contender = peers.ours(load_mnist())
    contender(20)
    products = matmuls(contender.model, peers.BATCH)

    def only_matmuls() -> None:
        for _ in range(steps):
            for a, b, out in products:
                torch.mm(a, b, out=out)

    only_matmuls()
    seconds = interleaved({OURS: partial(contender, steps), "matmuls": only_matmuls}, rounds=rounds)
    flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b, _ in products)
    attainable, achieved = (steps * flops / statistics.median(seconds[name]) / 1e9 for name in ("matmuls", OURS))
    share = 1 / paired_ratio(seconds[OURS], seconds["matmuls"])
    return Table(
        f"Share of this machine's f32 matmul rate: {flops / 1e6:.0f} MFLOP in {len(products)} products a step",
        ["", "GFLOP/s", "steps/s"],
        [[OURS, achieved, achieved * 1e9 / flops], ["the same products alone", attainable, attainable * 1e9 / flops]],
        [f"{OURS} runs at {share:.0%} of the matmul bound (median of {rounds} interleaved rounds)."],
    )


def matmuls(model: nn.Module, batch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Operands and outputs of one step's products: x W^T, g^T x and, but for the first layer, g W."""
    products = []
    for i, layer in enumerate(m for m in model.modules() if isinstance(m, nn.Linear)):
        weight = layer.weight.detach()
        x, g = torch.randn(batch, layer.in_features), torch.randn(batch, layer.out_features)
        pairs = [(x, weight.t()), (g.t(), x), *([(g, weight)] if i else [])]
        products += [(a, b, torch.empty(a.shape[0], b.shape[1])) for a, b in pairs]
    return products


def _nelbo(model: nn.Module, x_test: Tensor) -> float:
    model.eval()
    with torch.random.fork_rng():
        value = -evaluate_terms(model, x_test, objectives.elbo)["elbo_bound"].mean
    model.train()
    return value
