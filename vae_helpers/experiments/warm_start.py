"""Study ``warm_start``: unsupervised learning on dSprites from a supervised solution, or from random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from vae_helpers import objectives
from vae_helpers.data import FactorCode, FactorImages
from vae_helpers.experiments import sprites, supervised
from vae_helpers.experiments.folders import finished_record, load_weights, run_folder
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import Study
from vae_helpers.experiments.supervised import CodeBatches, SupervisedConfig, WithCode
from vae_helpers.models import VAE
from vae_helpers.nets import FixedVariance
from vae_helpers.objectives import Terms
from vae_helpers.priors import FactorMarginals, MixturePrior, Prior, SmoothedUniform, StandardNormal
from vae_helpers.training import Budget, GradientStep

SNAPSHOTS = (0, 35, 100, 200, 300)  # steps of the write-up's figures
COMPONENTS, COMPONENT_SD = 50, 0.3  # of the mixture prior at its start
WIDEST = 0.3  # standard deviation of q(z | x) that "two_steps" gives a factor of few values
LINE = (0.0, 0.001, 0.003, 0.01, 0.03, *(t / 10 for t in range(1, 11)))  # points from the start to the end weights


@dataclass(frozen=True, kw_only=True)
class WarmStartConfig(sprites.CodeSettings):
    """Settings of one run of unsupervised learning."""

    STUDY: ClassVar = "warm_start"
    STEPS: ClassVar = {"smoke": 10, "quick": 300, "full": 2000}

    start: Literal["released", "supervised", "random"] = "released"
    """the released supervised weights of the code; those of the finished ``supervised`` run of the same code, source,
    seed, budget and precision; or random ones"""
    objective: Literal["elbo", "supervised"] = "elbo"
    """what training maximises: the ELBO, or as a control the supervised objective with the same learning rate and
    steps"""
    trained: Literal["both", "encoder", "decoder"] = "both"
    """which net is trained; the other keeps its weights"""
    sd: Literal["tiny", "mle", "two_steps", "learned"] = "tiny"
    """standard deviations of q(z | x): 1e-4 / 3; the supervised encoder's root mean squared errors; two steps of the
    factor's grid, at most 0.3; or given by the encoder, from the second on"""
    prior: Literal["uniform", "marginals", "mixture", "standard"] = "uniform"
    """p(z): uniform on [-1, 1], for tiny sd (a wider posterior would leave this interval); mixtures at the factors'
    values; a trained mixture of 50 Gaussians; N(0, I)"""
    lr: float = 1e-4
    """learning rate of Adam"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 10, quick 300, full 2,000"""


def build(config: WarmStartConfig) -> VAE:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for an unknown setting, or sd = mle with a random start, which has no errors yet.
    """
    if config.sd == "mle" and config.start == "random":
        raise ValueError("sd='mle' is that of a supervised encoder; with start='random' choose another sd")
    code = sprites.CODES[config.code]
    sd = (2 * code.steps()).clamp_max(WIDEST)
    if config.sd == "tiny":
        sd = torch.full_like(sd, sprites.TINY_SD)
    return sprites.build_vae(_prior(config.prior, code), None if config.sd == "learned" else sd)


def _prior(name: str, code: FactorCode) -> Prior:
    match name:
        case "uniform":
            return SmoothedUniform(code.z_dim)
        case "marginals":
            values = code.values()
            return FactorMarginals(values, [(v[1] - v[0]).norm().item() / 4 for v in values])
        case "mixture":
            p_mu = code.of(code.grid.sample(COMPONENTS, generator=torch.Generator().manual_seed(0)))
            return MixturePrior(p_mu, torch.full_like(p_mu, COMPONENT_SD).log() * 2)
        case _:
            return StandardNormal(code.z_dim)


def run(
    config: WarmStartConfig,
    *,
    images: FactorImages | None = None,
    supervised_model: VAE | None = None,
    **given: Unpack[Given],
) -> Run:
    """Maximise the ELBO from the start, and measure what becomes of the code.

    Args:
        config: the settings. images: data already opened; None opens what the config names.
        given: see `experiments.job.Given`.
        supervised_model: where to start, of study ``supervised``; None for what ``config.start`` names.

    Returns:
        a `Run` with the metrics of `sprites.measure_codes` and `sprites.measure_metrics`, as ``start_...`` the first
        of them before the first step; ``gradient_encoder_start``, ``..._decoder_start``, ``..._end``: see
        `squared_gradients`; ``line_0`` to ``line_1``: the negative bound at the points `LINE` between start and end
        weights, with one noise. Its history has `sprites.measure_along` at the steps of `SNAPSHOTS` and about twenty
        more.

    Raises:
        ValueError: for a setting out of range, or a supervised run that is not there. DataError: if the official file
            is wanted and cannot be had.
    """
    job = prepare(config, images, given)
    images, device, code = job.data, job.device, sprites.CODES[config.code]
    if config.start != "random" and supervised_model is None:
        supervised_model = starting_model(config, images, seed=job.seed, budget=job.budget)
    classes = sprites.draw(images, job.pick(100, 2000, 10_000), seed=job.seed, device=device)
    model = job.build(build).cpu()
    if config.start != "random":
        assert supervised_model is not None
        sd = None
        if config.sd in ("mle", "learned"):
            found = sprites.measure_codes(supervised_model.to(device), code, images, classes)
            sd = sprites.rmse_of(found, code.latents)
        begin_at(model, supervised_model.cpu(), sd)
    model = model.to(device)
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        part.requires_grad_(config.trained in ("both", name))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    n_curve, n_line = job.pick(50, 500, 1000), job.pick(50, 500, 2000)

    def evaluate(model: Any) -> dict[str, float]:
        return sprites.measure_along(model, code, images, classes[:n_curve], seed=job.seed)

    def measure(model: Any) -> dict[str, float]:
        metrics = sprites.measure_codes(model, code, images, classes)
        metrics |= sprites.measure_metrics(model, images, seed=job.seed, budget=job.budget, device=device)
        x = images.pixels(classes[:n_line])
        metrics |= {f"{name}_end": value for name, value in squared_gradients(model, x, seed=job.seed).items()}
        end = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            for t in LINE:
                model.load_state_dict({name: start[name].lerp(end[name], t) for name in end})
                metrics[f"line_{t:g}"] = negative_bound(model, x, seed=job.seed)
                if t == 0:
                    found = sprites.measure_codes(model, code, images, classes)
                    metrics |= {f"start_{name}": value for name, value in found.items()}
                    gradients = squared_gradients(model, x, seed=job.seed)
                    metrics |= {f"{name}_start": value for name, value in gradients.items()}
        finally:
            model.load_state_dict(end)
        return metrics

    torch.manual_seed(job.seed)  # the same noise in training, whatever came before
    objective = elbo if config.objective == "elbo" else supervised.objective
    return job.train(
        model,
        CodeBatches(code, images, **job.stream),
        GradientStep(model, objective, **job.config.options),
        measure=measure,
        evaluate=evaluate,
        eval_at=SNAPSHOTS,
    )


def elbo(model: VAE, batch: WithCode) -> Terms:
    """`objectives.elbo` of a batch, whose true codes stay unseen."""
    return objectives.elbo(model, batch.x)


def starting_model(config: WarmStartConfig, images: FactorImages | None = None, *, seed: int, budget: Budget) -> VAE:
    """The supervised model that ``config.start`` names.

    Raises:
        ValueError: if there is no such finished run, with the command that makes it. KeyError: if none is released.
    """
    if config.start == "released":
        from vae_helpers.experiments.released import load_released

        return load_released(f"supervised/{config.code}").model
    options = SupervisedConfig(code=config.code, source=config.source, bf16=config.bf16)
    folder, images = run_folder("supervised", options, seed, budget), images or options.load()
    if finished_record(folder, options.resolved(budget, images), images, seed, budget) is None:
        flags = f"--code {config.code} --source {config.source}{' --bf16' if config.bf16 else ''}"
        raise ValueError(
            f"start='supervised' needs a finished run in {folder}, with today's settings; make it first: "
            f"python -m vae_helpers train supervised {flags} --budget {budget} --seed {seed}"
        )
    model = supervised.build(options)
    load_weights(model, folder)
    return model.eval()


@torch.no_grad()
def begin_at(model: VAE, supervised_model: VAE, sd: Tensor | None) -> None:
    """Give a model of `build` the weights of a supervised one, and these standard deviations of q(z | x) if any."""
    model.decoder.load_state_dict(supervised_model.decoder.state_dict())
    taught: Any = supervised_model.encoder
    encoder: Any = model.encoder
    if isinstance(encoder, FixedVariance):
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


def squared_gradients(model: VAE, x: Tensor, *, seed: int, batch_size: int = 500) -> dict[str, float]:
    """Squared length of the gradient of the mean negative ELBO, of encoder and decoder, without the noise's share.

    The images x (N, D) make two halves with noise of their own; the inner product of the two gradients has the
    squared length of the true gradient as its mean, where a single gradient's is longer by its variance.

    Returns:
        ``gradient_encoder`` and ``gradient_decoder``, which may fall below 0 by chance near a stationary point, and
        ``gradient_agreement_encoder`` and ``..._decoder``, the cosine of the two halves: about 0 at such a point.
    """
    parts: dict[str, nn.Module] = {"encoder": model.encoder, "decoder": model.decoder}
    trained = {name: [p.requires_grad for p in module.parameters()] for name, module in parts.items()}
    halves: list[dict[str, Tensor]] = []
    model.requires_grad_(True)
    with torch.enable_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for half in x.chunk(2):
            model.zero_grad()
            for part in half.split(batch_size):
                (objectives.elbo(model, part)["loss"].sum() / len(half)).backward()
            halves.append(
                {
                    name: torch.cat([p.grad.double().flatten() for p in module.parameters() if p.grad is not None])
                    for name, module in parts.items()
                }
            )
    model.zero_grad()
    for name, module in parts.items():
        for p, flag in zip(module.parameters(), trained[name], strict=True):
            p.requires_grad_(flag)
    found = {}
    for name in parts:
        first, second = (half[name] for half in halves)
        found[f"gradient_{name}"] = (first @ second).item()
        found[f"gradient_agreement_{name}"] = nn.functional.cosine_similarity(first, second, dim=0).item()
    return found


STUDY = Study(
    WarmStartConfig,
    "dSprites: unsupervised learning from the supervised solution or from random weights (notebooks 07 and 17)",
    build,
    run,
)
