"""Study ``conditional``: the conditional VAE on grey digits; decoder variance, and where the label enters."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from vae_helpers.data import Images, LabelledBatches, load_mnist, to_grey
from vae_helpers.distributions import sample_normal
from vae_helpers.evaluation import (
    AggregatePosterior,
    accuracy,
    conditional_importance_log_px,
    conditional_samples,
    evaluate_terms,
    features_of,
    frechet_distance,
    probe_accuracy,
)
from vae_helpers.experiments.judge import released_judge
from vae_helpers.experiments.run import Keeping, Run, check_choices, train
from vae_helpers.likelihoods import Bernoulli, Levels, LikelihoodName, Output, bits_per_dim, choose_likelihood
from vae_helpers.models import ConditionalVAE
from vae_helpers.nets import MLP, ConvFeatures, CropDecoder, FiLM, LabelEmbedding, NoLabel, RepeatedOneHot, WithLabel
from vae_helpers.objectives import Terms, conditional_elbo
from vae_helpers.priors import StandardNormal
from vae_helpers.training import Budget, GradientStep, pick_device

N_CLASSES, X_DIM = 10, 784
GUIDANCE = (2.0, 4.0)  # weights at which a model with label dropout is sampled, beside 1


@dataclass(frozen=True)
class ConditionalConfig:
    """Settings of one conditional VAE."""

    placement: Literal["both", "decoder", "encoder", "neither"] = "both"
    """where the label enters: encoder and decoder, one of them, or nowhere"""
    label: Literal["one_hot", "embedding", "film"] = "one_hot"
    """how: concatenated one-hot, concatenated learned vector, or feature-wise modulation"""
    repeats: int = 5
    """copies of the one-hot vector"""
    embedding_dim: int = 50
    """of ``embedding``"""
    label_dropout: float = 0.0
    """probability that a training example goes without its label"""
    likelihood: LikelihoodName = "gaussian"
    """p(x | y, z)"""
    x_var: float = 0.1
    """decoder variance of ``gaussian``, starting value of ``gaussian_learned``; squared pixel units"""
    min_x_var: float = 0.0
    """floor of the variance of ``gaussian_per_pixel``; squared pixel units"""
    output: Output = "sigmoid"
    """from decoder output to the mean of a Gaussian: identity, sigmoid or relu"""
    z_dim: int = 100
    """latent dimensions"""
    beta: float = 1.0
    """weight of the KL in the loss"""
    lr: float = 1e-3
    """Adam's step size"""
    batch_size: int = 128
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 10, quick 400, full 10,000"""
    thorough: bool = True
    """measure samples, bits per dimension and the probe too; the death study leaves them out"""
    validation: int = 0
    """training images held out and measured in the place of the test set: for choosing settings"""
    bf16: bool = False
    """matrix products in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def build(config: ConditionalConfig) -> ConditionalVAE:
    """An untrained model; its weights come from torch's global generator.

    Encoder: convolutions to 392 features, the label, 100 hidden units. Decoder: z and the label to 64x12x12, transposed
    convolutions to 29x29, cropped.

    Raises:
        ValueError: for an unknown placement, label or likelihood, repeats < 1, or a variance out of range.
    """
    check_choices(config)
    likelihood = choose_likelihood(
        config.likelihood, x_var=config.x_var, min_x_var=config.min_x_var, output=config.output
    )
    features = ConvFeatures((1, 28, 28), channels=(16, 8))
    at_encoder = join(config, features.out_dim, here=config.placement in ("both", "encoder"))
    at_decoder = join(config, config.z_dim, here=config.placement in ("both", "decoder"))
    head = MLP(at_encoder.out_dim, (100,), 2 * config.z_dim, activation="relu")
    decoder = CropDecoder(at_decoder.out_dim, channels=likelihood.n_params)
    return ConditionalVAE(
        WithLabel(features, at_encoder, head),
        WithLabel(nn.Identity(), at_decoder, decoder),
        likelihood,
        StandardNormal(config.z_dim),
        n_classes=N_CLASSES,
    )


def join(config: ConditionalConfig, n_features: int, *, here: bool) -> Any:
    """The module that brings the label to so many features, or leaves it out."""
    if config.repeats < 1:  # told even where no copy is used
        raise ValueError(
            f"repeats must be at least 1, got {config.repeats}; for no label choose the placement 'neither'"
        )
    if not here:
        return NoLabel(n_features)
    match config.label:
        case "embedding":
            return LabelEmbedding(n_features, N_CLASSES, dim=config.embedding_dim)
        case "film":
            return FiLM(n_features, N_CLASSES)
        case _:
            return RepeatedOneHot(n_features, N_CLASSES, repeats=config.repeats)


def run(
    config: ConditionalConfig,
    *,
    seed: int,
    budget: Budget | None = None,
    images: Images | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train one model on grey digits and measure it on the test set.

    Args:
        config: the settings. seed: of weights, order and noise. budget: None for `Budget.current`.
        images: data already loaded; None loads MNIST. keeping: see `experiments.run.Keeping`.

    Returns:
        a `Run` with the metrics of `measure_terms` and, if ``config.thorough``, of `measure_samples`.

    Raises:
        ValueError: for settings out of range.
    """
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=10, quick=400, full=10_000))
    images = load_mnist() if images is None else images
    images = images.validation(config.validation) if config.validation else images
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    n_test = min(len(images.x_test), budget.pick(smoke=200, quick=2000, full=10_000 if config.thorough else 2000))
    x_test, y_test = to_grey(images.x_test[:n_test]).to(device), images.y_test[:n_test].to(device)

    n_curve = budget.pick(smoke=100, quick=200, full=1000)

    def objective(model: Any, batch: tuple[Tensor, Tensor]) -> Terms:
        return conditional_elbo(model, *batch, beta=config.beta, label_dropout=config.label_dropout)

    def evaluate(model: Any) -> dict[str, float]:
        terms = evaluate_terms(model, (x_test[:n_curve], y_test[:n_curve]), _bound)
        return {f"test_{name}": value.mean for name, value in terms.items() if name != "loss"}

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        metrics = measure_terms(model, x_test, y_test)
        if config.thorough:
            metrics |= measure_samples(model, x_test, y_test, budget=budget, guided=config.label_dropout > 0)
        return metrics

    batches = LabelledBatches(
        images.x_train, images.y_train, batch_size=config.batch_size, seed=seed, transform=to_grey, device=device
    )
    return train(
        "conditional",
        config,
        model,
        batches,
        update=GradientStep(model, objective, lr=config.lr, bf16=config.bf16, compiled=config.compiled),
        seed=seed,
        budget=budget,
        data=f"{images.source}; grey levels",
        measure=measure,
        evaluate=evaluate,
        **keeping,
    )


def _bound(model: Any, batch: tuple[Tensor, Tensor]) -> Terms:
    return conditional_elbo(model, *batch)


@torch.inference_mode()
def measure_terms(model: ConditionalVAE, x: Tensor, y: Tensor) -> dict[str, float]:
    """The bound's terms, and what the reconstructions and codes look like.

    Args:
        model: in evaluation mode. x: grey levels, (N, 784). y: labels, (N,) int64.

    Returns:
        ``test_elbo_bound``, ``test_log_px``, ``test_kl``, nats per image of the model's own density;
        ``test_squared_error`` per image; ``active_units``; ``dead``, 1 if every reconstruction is black and 0 if
        not; ``dark_pixels_percent``, of the pixels that are lit in at least one image of a hundred those that no
        reconstruction lights; ``found_x_var`` of a Gaussian with one variance, given or found.
    """
    terms = evaluate_terms(model, (x, y), _bound)
    metrics = {f"test_{name}": value.mean for name, value in terms.items() if name != "loss"}
    q_mu, q_logvar = encoded(model, x, y)
    moments = AggregatePosterior.of(q_mu, q_logvar)
    x_mean = torch.cat([model.decode_mean(*pair) for pair in _in_chunks(q_mu, model.one_hot(y))])
    used = (x > 0.1).float().mean(0) >= 0.01
    dark = x_mean.amax(0) <= 1e-3
    metrics |= {
        "test_squared_error": ((x - x_mean) ** 2).sum(-1).mean().item(),
        "active_units": moments.active_units(),
        "dead": float(dark.all()),
        "dark_pixels_percent": 100 * (dark & used).sum().item() / max(used.sum().item(), 1),
    }
    if isinstance(x_logvar := getattr(model.likelihood, "x_logvar", None), Tensor):
        metrics["found_x_var"] = x_logvar.exp().item()
    return metrics


def measure_samples(
    model: ConditionalVAE, x: Tensor, y: Tensor, *, budget: Budget, guided: bool = False
) -> dict[str, float]:
    """Bits per dimension, what the judge reads in samples, and what a probe reads in the code.

    Args:
        model: in evaluation mode. x: grey levels, (N, 784). y: labels, (N,) int64. budget: how many samples.
        guided: also sample with guidance.

    Returns:
        ``test_elbo_bits_per_dim`` and ``test_bits_per_dim`` (importance-sampled, of -log P(8-bit x | y)), for
        all but the Bernoulli; ``sample_accuracy_percent``, how often the judge reads the label that was asked for,
        and ``sample_frechet`` to the N images in the judge's features (both with ``_guided_W`` at weight W);
        ``swap_label_percent`` and ``swap_source_percent``, how often an image's code decoded under another label
        shows that label or the image's own; ``label_probe_percent``, a linear probe of the label in a sample
        of q(z | x, y) (its mean would show a label that the encoder was told, however little of it survives the noise).
    """
    judge: Any = released_judge().to(x.device)
    n_per_class = budget.pick(smoke=10, quick=100, full=1000)
    features = features_of(judge.net.hidden, x)
    metrics = {}
    for weight in (1.0, *(GUIDANCE if guided else ())):
        pictures, asked = conditional_samples(model, n_per_class=n_per_class, guidance=weight)
        name = "" if weight == 1 else f"_guided_{weight:g}"
        metrics[f"sample_accuracy{name}_percent"] = accuracy(judge, pictures, asked).percent
        metrics[f"sample_frechet{name}"] = frechet_distance(features_of(judge.net.hidden, pictures), features)
    q_mu, q_logvar = encoded(model, x, y)
    z = sample_normal(q_mu, q_logvar)
    metrics["label_probe_percent"] = probe_accuracy(z, y, n_train=len(x) // 2).percent
    other = (y + 1 + torch.arange(len(y), device=y.device) % (N_CLASSES - 1)) % N_CLASSES
    with torch.inference_mode():
        swapped = torch.cat([model.decode_mean(*pair) for pair in _in_chunks(q_mu, model.one_hot(other))])
    metrics["swap_label_percent"] = accuracy(judge, swapped, other).percent
    metrics["swap_source_percent"] = accuracy(judge, swapped, y).percent
    return metrics | measure_bits(model, x, y, budget=budget)


def measure_bits(model: ConditionalVAE, x: Tensor, y: Tensor, *, budget: Budget) -> dict[str, float]:
    """``test_elbo_bits_per_dim`` of all images and ``test_bits_per_dim`` of some; see `measure_samples`."""
    if isinstance(model.likelihood, Bernoulli):
        return {}
    levels = ConditionalVAE(
        model.encoder, model.decoder, Levels(model.likelihood), model.prior, n_classes=model.n_classes
    ).eval()
    n_images, n_samples = budget.pick(smoke=(10, 10), quick=(200, 50), full=(500, 100))
    bound = evaluate_terms(levels, (x, y), _bound)["elbo_bound"].mean
    found = conditional_importance_log_px(levels, x[:n_images], y[:n_images], n_samples=n_samples)
    return {
        "test_elbo_bits_per_dim": bits_per_dim(bound, X_DIM),
        "test_bits_per_dim": bits_per_dim(found.mean.mean, X_DIM),
        "test_bits_per_dim_standard_error": found.mean.standard_error / (X_DIM * math.log(2)),
        "test_bits_per_dim_median_ess": found.median_ess,
    }


@torch.inference_mode()
def encoded(model: ConditionalVAE, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """q_mu and q_logvar, (N, Z) each, of images x (N, 784) with labels y (N,)."""
    parts = [model.encode(*pair) for pair in _in_chunks(x, model.one_hot(y))]
    return torch.cat([q_mu for q_mu, _ in parts]), torch.cat([q_logvar for _, q_logvar in parts])


def _in_chunks(*tensors: Tensor, size: int = 1000) -> Any:
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)
