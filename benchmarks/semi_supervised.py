"""Semi-supervised training, M2 of `experiments.m2`: ways to sum over the label, time to an accuracy, matmul share.

Everyone gets the nets, batch sizes, loss and step size that are the study's defaults; the step size is constant.
"""

# mypy: disable-error-code="import-not-found,import-untyped"
from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Table, paired_ratio
from benchmarks.peers import Contender
from benchmarks.processes import rate_table
from benchmarks.training import Lap, race, share_table
from vae_helpers import objectives
from vae_helpers.data import Images, Stream, binarise, load_mnist, to_grey
from vae_helpers.evaluation import accuracy
from vae_helpers.experiments import m2
from vae_helpers.models import M2
from vae_helpers.training import fit

TARGET, EASY_TARGET, OFFLINE_TARGET = 88.0, 80.0, 84.0  # %; most draws of 100 labels do not reach 93 % in 8,000 steps
ALL, TOP = 'labels="all"', 'labels="top"'


def ours(images: Images, *, seed: int = 0, unlabelled: Any = None, **settings: Any) -> Contender:
    """`training.fit` on the study's model for these settings, ``unlabelled`` in the place of its objective if given."""
    model, batches, update = _parts(images, seed=seed, **settings)
    if unlabelled is not None:
        update.objective = unlabelled
    return Contender(model, lambda n: fit(model, batches, update=update, steps=n, progress=False))


def loop(model: M2, x: Tensor, *, eps: Tensor | None = None) -> objectives.Terms:
    """`objectives.unlabelled` class by class, as popular write-ups have it; the loss, (B,) nats."""
    eps = torch.randn(len(x), model.z_dim) if eps is None else eps
    bounds = [_bound(model, x, label.expand(len(x), -1), eps) for label in torch.eye(model.n_classes)]
    return _summed(model, x, torch.stack(bounds))


def repeated(model: M2, x: Tensor, *, eps: Tensor | None = None) -> objectives.Terms:
    """`objectives.unlabelled` in one pass over K copies of x, a label each, nothing shared; the loss, (B,) nats."""
    k = model.n_classes
    eps = torch.randn(len(x), model.z_dim) if eps is None else eps
    labels = torch.eye(k).repeat_interleave(len(x), dim=0)
    return _summed(model, x, _bound(model, x.repeat(k, 1), labels, eps.repeat(k, 1)).view(k, -1))


def pyro_svi(images: Images) -> Contender:
    """Pyro's SVI.step on the same loss and batches, all labels enumerated in parallel; argument checks off, KL sampled.

    Labels come to the nets with the shape (K, 1, K), so first layers are shared over the classes here too.
    """
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, TraceEnum_ELBO

    pyro.enable_validation(False)
    net, batches, update = _parts(images)
    sizes, k, z_dim = update.weights, net.n_classes, net.z_dim

    def plate(name: str, x: Tensor) -> Any:
        return pyro.plate(name, sizes[f"n_{name}"], subsample=x)  # scales the batch to its set, as equation 9 does

    def generate(name: str, x: Tensor, y: Tensor | None) -> None:
        y = pyro.sample(f"y_{name}", dist.OneHotCategorical(logits=x.new_zeros(len(x), k)), obs=y)
        z = pyro.sample(f"z_{name}", dist.Normal(x.new_zeros(len(x), z_dim), 1.0).to_event(1))
        pyro.sample(f"x_{name}", dist.Bernoulli(logits=net.decode(z, y)).to_event(1), obs=x)

    def infer(name: str, x: Tensor, y: Tensor) -> None:
        q_mu, q_logvar = net.encode(x, y)
        pyro.sample(f"z_{name}", dist.Normal(q_mu, torch.exp(0.5 * q_logvar)).to_event(1))

    def model(x: Tensor, y: Tensor, x_unlabelled: Tensor) -> None:
        pyro.module("m2", net)
        with plate("labelled", x):
            generate("labelled", x, y)
            with pyro.poutine.scale(scale=update.alpha / sizes["n_labelled"]):
                pyro.sample("class", dist.OneHotCategorical(logits=net.classify(x)), obs=y)
        with plate("unlabelled", x_unlabelled):
            generate("unlabelled", x_unlabelled, None)

    def guide(x: Tensor, y: Tensor, x_unlabelled: Tensor) -> None:
        with plate("labelled", x):
            infer("labelled", x, y)
        with plate("unlabelled", x_unlabelled):
            q_y = dist.OneHotCategorical(logits=net.classify(x_unlabelled))
            infer("unlabelled", x_unlabelled, pyro.sample("y_unlabelled", q_y, infer={"enumerate": "parallel"}))

    model, guide = (pyro.poutine.scale(f, scale=1 / sum(sizes.values())) for f in (model, guide))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": update.lr}), loss=TraceEnum_ELBO(max_plate_nesting=1))

    def train(steps: int) -> None:
        for _ in range(steps):
            (x, y), x_unlabelled = batches.take(batches.draw())
            svi.step(x, F.one_hot(y, k).to(x.dtype), x_unlabelled)

    return Contender(net, train)


CONTENDERS: dict[str, tuple[str, Callable[[Images], Contender]]] = {
    ALL: ("", ours),
    "a loop over the ten classes": ("", partial(ours, unlabelled=loop)),
    "one pass over ten copies of x": ("", partial(ours, unlabelled=repeated)),
    TOP: ("", partial(ours, labels="top")),
    'labels="gumbel"': ("", partial(ours, labels="gumbel")),
    f"{ALL}, bf16": ("", partial(ours, bf16=True)),
    f"{TOP}, bf16": ("", partial(ours, labels="top", bf16=True)),
    "classifier alone, labelled batches": ("", partial(ours, model="classifier")),
    "Pyro, SVI with TraceEnum_ELBO": ("pyro", pyro_svi),
}


def steps_per_second(quick: bool) -> Table:
    """Every contender's rate, after a check that the three sums over all labels are one loss."""
    check_same_loss(load_mnist())
    config = m2.M2Config()
    title = f"M2 {config.z_dim} latents, nets {config.h_dims}, batch {config.labelled_batch_size} + {config.batch_size}"
    seconds, rounds = (2, 2) if quick else (4, 5)
    table, _ = rate_table(title, __name__, CONTENDERS, ours=ALL, seconds=seconds, rounds=rounds)
    table.notes.append(
        f"{ALL} is one batched pass; Pyro gets the same nets, so it multiplies x once for all labels too."
    )
    return table


def check_same_loss(images: Images) -> None:
    """Raise RuntimeError unless batched pass, loop and copies agree to 1e-4 per example, with the same noise."""
    model, _, _ = _parts(images)
    x, eps = binarise(images.x_train[:100]), torch.randn(100, model.z_dim)
    batched, *others = (f(model, x, eps=eps)["loss"] for f in (objectives.unlabelled, loop, repeated))
    for name, loss in zip(("loop", "repeated"), others, strict=True):
        worst = ((loss - batched) / batched).abs().max().item()
        if not worst < 1e-4:
            raise RuntimeError(f"{name} is not the batched loss, off by {worst:.1e} of it: the rates do not compare")


def time_to_accuracy(quick: bool) -> Table:
    """Seconds of training from 100 labels until the validation accuracy is first reached, mean over label draws."""
    images = load_mnist()
    full_data = images.name == "mnist"
    target = (EASY_TARGET if quick else TARGET) if full_data else OFFLINE_TARGET
    n_draws, max_steps, slice_steps = (1, 2_000, 50) if quick else (3, 8_000, 100)
    images = images.validation(10_000 if full_data else 1_000)
    x, y = to_grey(images.x_test), images.y_test
    labels = {f"{ALL}, bf16": "all", f"{TOP}, bf16": "top"}
    laps: dict[str, list[Lap]] = {name: [] for name in labels}
    for seed in range(n_draws):
        _, draw = race(
            {name: ours(images, seed=seed, bf16=True, labels=value) for name, value in labels.items()},
            lambda model: accuracy(model, x, y).percent,
            lambda percent: percent >= target,
            max_steps=max_steps,
            slice_steps=slice_steps,
        )
        for name, lap in draw.items():
            laps[name].append(lap)
    table = Table(
        f"Time to {target:.0f} % validation accuracy from {m2.M2Config().n_labels} labels, mean over {n_draws} draws "
        f"of them, interleaved and evaluated every {slice_steps} steps, evaluations not counted",
        ["way of training", "reached at step", "after s", f"x the seconds of {ALL}"],
        notes=[f"{images.source}; constant step size, no decay."],
    )
    reached = {name: [lap.reached for lap in runs if lap.reached] for name, runs in laps.items()}
    ours_after = [seconds for _, seconds in reached[f"{ALL}, bf16"]]
    for name, ends in reached.items():
        if missing := n_draws - len(ends):
            table.rows.append([name, f"not reached in {max_steps:,}", f"({missing} of {n_draws})", "-"])
            table.notes.append(f"{name} ended at {', '.join(f'{lap.score:.1f} %' for lap in laps[name])}.")
            continue
        steps, after = ([end[i] for end in ends] for i in (0, 1))
        ratio = paired_ratio(after, ours_after) if len(ours_after) == n_draws else "-"
        table.rows.append([name, f"{statistics.mean(steps):.0f}", statistics.mean(after), ratio])
    return table


def matmul_share(quick: bool) -> Table:
    """The matmul share of a step with all labels, in float32."""
    rounds, steps = (3, 10) if quick else (9, 50)
    return share_table(ALL, ours(load_mnist()), rounds=rounds, steps=steps)


def _parts(images: Images, *, seed: int = 0, labels: Any = "all", **settings: Any) -> tuple[Any, Stream, Any]:
    """Model, batches and update of the study."""
    config = m2.M2Config(labels=labels, decay=False, **settings)
    split = m2.label_split(config, images, seed=seed)
    torch.manual_seed(seed)
    model = m2.build(config)
    view = m2.view_of(config, torch.device("cpu"))
    return model, m2.batches(config, images, split, view, seed=seed), m2.update_for(config, model, split)


def _bound(model: M2, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """The bound on log p(x, y) for one label an example, y (B, K) one-hot and noise (B, Z); (B,) nats."""
    q_mu, q_logvar = model.encode(x, y)
    z = q_mu + torch.exp(0.5 * q_logvar) * eps
    log_px = model.likelihood.log_prob(x, model.decode(z, y))
    return log_px - model.prior.kl(q_mu, q_logvar, z) - math.log(model.n_classes)


def _summed(model: M2, x: Tensor, bounds: Tensor) -> objectives.Terms:
    """The unlabelled bound's loss (B,) from the bounds of all labels (K, B), nats."""
    log_qy = model.classify(x).log_softmax(-1)
    return {"loss": -(log_qy.exp() * (bounds.T - log_qy)).sum(-1)}
