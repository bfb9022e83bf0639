"""Training speed: steps a second, time to an equal NELBO, and the share of the machine's own matmul rate."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.measure import Table, interleaved, paired_ratio
from vae_helpers import objectives
from vae_helpers.data import Images, load_mnist
from vae_helpers.evaluation import evaluate_terms
from vae_helpers.experiments import m1

TARGET_NELBO, EASY_NELBO = 96.1, 110.0
PEERS: dict[str, tuple[tuple[str, ...], Callable[[Images], peers.Contender]]] = {
    "DataLoader + ToTensor loop": ((), peers.data_loader),
    "plain loop over a float tensor": ((), peers.plain_loop),
    "pythae, BaseTrainer": (("pythae",), peers.pythae),
    "Pyro, SVI": (("pyro",), peers.pyro_svi),
    "Pyro, SVI, jit": (("pyro",), partial(peers.pyro_svi, jit=True)),
}
PIP_NAMES = {"pyro": "pyro-ppl"}
OURS = "training.fit"


def _prepared(images: Images, table: Table, *, variants: bool) -> dict[str, peers.Contender]:
    """Ours, the installed peers and, if asked for, variants of ours; a missing peer becomes a remark."""
    found = {OURS: peers.ours(images)}
    for name, (packages, make) in PEERS.items():
        if peers.installed(*packages):
            with contextlib.redirect_stdout(io.StringIO()):
                found[name] = make(images)
        else:
            wanted = " ".join(PIP_NAMES.get(package, package) for package in packages)
            table.notes.append(f"{name}: not installed (pip install {wanted})")
    if variants:
        found[f"{OURS}, bf16"] = peers.ours(images, bf16=True)
        found[f"{OURS}, compiled objective"] = peers.ours(images, compiled=True)
    return found


def steps_per_second(quick: bool) -> Table:
    """Every contender trains in turn; its rate, and how many times ours it is within the same round."""
    steps, rounds = (100, 3) if quick else (200, 9)
    table = Table(
        f"Steps/s, MLP VAE 784-300-300-20, batch {peers.BATCH}: {rounds} rounds of {steps} steps, interleaved",
        ["way of training", "steps/s", "ms/step", "fit is x times as fast"],
    )
    contenders = _prepared(load_mnist(), table, variants=True)
    for name, contender in contenders.items():
        try:
            contender(20)  # allocations, compilation, tracing
        except Exception as error:  # an optional peer or compiler that does not work here must not end the run
            if name == OURS:
                raise
            table.notes.append(f"{name} failed: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
            contenders = {key: value for key, value in contenders.items() if key != name}
    seconds = interleaved({name: partial(c, steps) for name, c in contenders.items()}, rounds=rounds)
    table.rows = [
        [name, steps / statistics.median(v), 1e3 * statistics.median(v) / steps, paired_ratio(v, seconds[OURS])]
        for name, v in seconds.items()
    ]
    rivals = [name for name in seconds if name in PEERS and not name.startswith("plain")]
    for name in (OURS, f"{OURS}, bf16"):
        ratio, rival = min((paired_ratio(seconds[rival], seconds[name]), rival) for rival in rivals)
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
        f"{OURS}, bf16": peers.ours(images, bf16=True),
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
