"""Study ``warm_start``: unsupervised learning on dSprites from a supervised solution, or from random weights."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import safetensors.torch
import torch
from torch import Tensor, nn

from vae_helpers import objectives
from vae_helpers.data import FactorBatches, FactorCode, FactorImages, WithFactors
from vae_helpers.experiments import sprites, supervised
from vae_helpers.experiments.run import Keeping, Run, check_choices, run_folder, train
from vae_helpers.experiments.supervised import SupervisedConfig
from vae_helpers.models import VAE
from vae_helpers.objectives import Terms
from vae_helpers.priors import FactorMarginals, MixturePrior, Prior, SmoothedUniform, StandardNormal
from vae_helpers.training import Budget, GradientStep, pick_device

SNAPSHOTS = (0, 35, 100, 200, 300)  # steps of the write-up's figures
COMPONENTS, COMPONENT_SD = 50, 0.3  # of the mixture prior at its start
LINE = 11  # points on the line from the start to the end


@dataclass(frozen=True)
class WarmStartConfig:
    """Settings of one run of unsupervised learning."""

    start: Literal["supervised", "random"] = "supervised"
    """weights of the supervised run of the same seed, code and budget, trained if it is not there; or random ones"""
    code: sprites.CodeName = "line"
    """orientation as one latent from -0.9 to 0.9, or as two on a circle"""
    sd: Literal["tiny", "mle", "two_steps", "learned"] = "tiny"
    """standard deviations of q(z | x): 1e-4 / 3; the supervised encoder's root mean squared errors; two steps of the
    factor's grid; or given by the encoder, from the second on"""
    prior: Literal["uniform", "marginals", "mixture", "standard"] = "uniform"
    """p(z): uniform on [-1, 1]; mixtures at the factors' values; a trained mixture of 50 Gaussians; N(0, I)"""
    source: sprites.Source = "rendered"
    """images drawn by the formula, or the official file"""
    lr: float = 1e-4
    """Adam's step size"""
    batch_size: int = 64
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 10, quick 300, full 10,000"""
    bf16: bool = False
    """convolutions in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def build(config: WarmStartConfig) -> VAE:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for an unknown setting, or sd = mle with a random start, which has no errors yet.
    """
    check_choices(config)
    if config.sd == "mle" and config.start == "random":
        raise ValueError("sd='mle' is that of a supervised encoder; with start='random' choose another sd")
    code = sprites.CODES[config.code]
    sd = torch.full((code.z_dim,), sprites.TINY_SD) if config.sd == "tiny" else 2 * code.steps()
    return sprites.build_vae(_prior(config.prior, code), None if config.sd == "learned" else sd)


def _prior(name: str, code: FactorCode) -> Prior:
    match name:
        case "uniform":
            return SmoothedUniform(code.z_dim)
        case "marginals":
            values = code.values()
            return FactorMarginals(values, [(v[1] - v[0]).norm().item() / 4 for v in values])
        case "mixture":
            p_mu = code.of(code.grid.sample(COMPONENTS))
            return MixturePrior(p_mu, torch.full_like(p_mu, COMPONENT_SD).log() * 2)
        case _:
            return StandardNormal(code.z_dim)


def run(
    config: WarmStartConfig,
    *,
    seed: int,
    budget: Budget | None = None,
    images: FactorImages | None = None,
    supervised_model: VAE | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Descend the negative ELBO from the start, and measure what becomes of the code.

    Args:
        config: the settings. seed: of draws, noise and random weights. budget: None for `Budget.current`.
        images: data already opened; None opens what the config names. keeping: see `experiments.run.Keeping`.
        supervised_model: where to start, of study ``supervised``; None for the run of the same seed, code and budget.

    Returns:
        a `Run` with the metrics of `sprites.measure_codes` and `sprites.measure_metrics`, as ``start_...`` the first
        of them before the first step;
        ``gradient_encoder_start``, ``..._decoder_start``, ``..._end``: lengths of the loss's gradient over 2,000
        images; ``line_000`` to ``line_100``: the negative bound at eleven points between start and end weights.
        Its history has `sprites.measure_codes` at the steps of `SNAPSHOTS` and twenty more.

    Raises:
        ValueError: for a setting out of range. DataError: if the official file is wanted and cannot be had.
    """
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=10, quick=300, full=10_000))
    images = sprites.images_of(config.source) if images is None else images
    code, device = sprites.CODES[config.code], pick_device()
    classes = sprites.draw(images, budget.pick(smoke=100, quick=2000, full=20_000), seed=seed, device=device)
    if config.start == "supervised" and supervised_model is None:
        check_choices(config)  # before minutes of training
        supervised_model = supervised_run(config, seed=seed, budget=budget, images=images)
    torch.manual_seed(seed)
    model = build(config)
    if config.start == "supervised":
        assert supervised_model is not None
        sd = None
        if config.sd in ("mle", "learned"):
            found = sprites.measure_codes(supervised_model.to(device), code, images, classes)
            sd = sprites.rmse_of(found, code.latents)
        begin_at(model, supervised_model, sd)
    model = model.to(device)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    n_curve, n_line = budget.pick(smoke=50, quick=500, full=2000), budget.pick(smoke=50, quick=500, full=2000)

    def evaluate(model: Any) -> dict[str, float]:
        return sprites.measure_codes(model, code, images, classes[:n_curve])

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        metrics = sprites.measure_codes(model, code, images, classes)
        metrics |= sprites.measure_metrics(model, images, seed=seed, budget=budget, device=device)
        x = images.pixels(classes[:n_line])
        metrics |= {f"{name}_end": value for name, value in gradient_lengths(model, x, seed=seed).items()}
        end = {name: value.clone() for name, value in model.state_dict().items()}
        for point in range(LINE):
            t = point / (LINE - 1)
            model.load_state_dict({name: start[name].lerp(end[name], t) for name in end})
            metrics[f"line_{round(100 * t):03d}"] = negative_bound(model, x, seed=seed)
            if point == 0:
                found = sprites.measure_codes(model, code, images, classes)
                metrics |= {f"start_{name}": value for name, value in found.items()}
                metrics |= {f"{name}_start": value for name, value in gradient_lengths(model, x, seed=seed).items()}
        model.load_state_dict(end)
        return metrics

    return train(
        "warm_start",
        config,
        model,
        FactorBatches(images, batch_size=config.batch_size, seed=seed, device=device),
        update=GradientStep(model, objective, lr=config.lr, bf16=config.bf16, compiled=config.compiled),
        seed=seed,
        budget=budget,
        data=images.source,
        measure=measure,
        evaluate=evaluate,
        eval_at=SNAPSHOTS,
        **keeping,
    )


def objective(model: VAE, batch: WithFactors) -> Terms:
    """The ELBO of a batch, whose factors stay unseen."""
    return objectives.elbo(model, batch.x)


def supervised_run(config: WarmStartConfig, *, seed: int, budget: Budget, images: FactorImages) -> VAE:
    """The supervised model of the same code, source, seed, budget and precision: its finished run, or a new one."""
    options = SupervisedConfig(code=config.code, source=config.source, bf16=config.bf16)
    folder = run_folder("supervised", options, seed, budget)
    finished = folder / "run.json"
    if finished.exists() and json.loads(finished.read_text())["metrics"]:
        model = supervised.build(options)
        model.load_state_dict(safetensors.torch.load((folder / "weights.safetensors").read_bytes()))
        return model.eval()
    return supervised.run(options, seed=seed, budget=budget, images=images, folder=folder, resume=True).model.cpu()


@torch.no_grad()
def begin_at(model: VAE, supervised_model: VAE, sd: Tensor | None) -> None:
    """Give a model of `build` the weights of a supervised one, and these standard deviations of q(z | x) if any."""
    model.decoder.load_state_dict(supervised_model.decoder.state_dict())
    taught: Any = supervised_model.encoder
    encoder: Any = model.encoder
    if isinstance(encoder, type(taught)):
        encoder.net.load_state_dict(taught.net.state_dict())
        if sd is not None:
            encoder.q_logvar.copy_(2 * sd.log())
        return
    assert sd is not None  # an encoder with variances of its own begins with those given
    encoder.conv.load_state_dict(taught.net.conv.state_dict())
    encoder.hidden_layer.load_state_dict(taught.net.hidden_layer.state_dict())
    encoder.head.weight.copy_(torch.cat([taught.net.head.weight, torch.zeros_like(taught.net.head.weight)]))
    encoder.head.bias.copy_(torch.cat([taught.net.head.bias, 2 * sd.log().to(taught.net.head.bias)]))


def negative_bound(model: VAE, x: Tensor, *, seed: int, batch_size: int = 500) -> float:
    """The negative ELBO of images x (N, D), nats, with the noise of ``seed``."""
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(seed)
        total = sum(objectives.elbo(model, part)["loss"].double().sum().item() for part in x.split(batch_size))
    return total / len(x)


def gradient_lengths(model: VAE, x: Tensor, *, seed: int, batch_size: int = 500) -> dict[str, float]:
    """Lengths of the gradient of the mean negative ELBO of x (N, D), with the noise of ``seed``; nats per unit weight.

    Returns:
        ``gradient_encoder`` and ``gradient_decoder``.
    """
    parts: dict[str, nn.Module] = {"encoder": model.encoder, "decoder": model.decoder}
    model.zero_grad()
    with torch.enable_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in x.split(batch_size):
            (objectives.elbo(model, part)["loss"].sum() / len(x)).backward()
    lengths = {}
    for name, module in parts.items():
        squares = [p.grad.double().square().sum() for p in module.parameters() if p.grad is not None]
        lengths[f"gradient_{name}"] = torch.stack(squares).sum().sqrt().item()
    model.zero_grad()
    return lengths
