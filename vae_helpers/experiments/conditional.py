"""Study ``conditional``: the conditional VAE on grey digits; decoder variance, and where the label enters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from vae_helpers.data import Images, LabelledBatches, to_grey
from vae_helpers.distributions import sample_normal
from vae_helpers.evaluation import (
    accuracy,
    conditional_samples,
    features_of,
    frechet_distance,
    probe_accuracy,
    term_means,
)
from vae_helpers.evaluation.conditional import decoded, encoded, measure_bits, measure_terms
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.judge import JudgeConfig, released_judge
from vae_helpers.experiments.judge import run as train_judge
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import LikelihoodSettings, Study
from vae_helpers.likelihoods import Output
from vae_helpers.models import Classifier, ConditionalVAE
from vae_helpers.nets import (
    MLP,
    ConvFeatures,
    CropDecoder,
    FiLM,
    LabelEmbedding,
    NoLabel,
    RepeatedOneHot,
    WithLabel,
    n_halvings,
)
from vae_helpers.objectives import Terms, conditional_elbo
from vae_helpers.priors import choose_prior
from vae_helpers.training import Budget, GradientStep

GUIDANCE = (2.0, 4.0)  # weights at which a model with label dropout is sampled, beside 1


@dataclass(frozen=True, kw_only=True)
class ConditionalConfig(LikelihoodSettings):
    """Settings of one conditional VAE."""

    STUDY: ClassVar = "conditional"
    STEPS: ClassVar = {"smoke": 10, "quick": 400, "full": 10_000}
    NAMES: ClassVar = {"prior": ("standard",)}

    placement: Literal["both", "decoder", "encoder", "neither"] = "both"
    """which nets read the label: both, the encoder, the decoder, or neither"""
    label: Literal["one_hot", "embedding", "film"] = "one_hot"
    """how a net reads the label: a concatenated one-hot vector, a concatenated learned vector, or feature-wise
    modulation"""
    repeats: int = 5
    """number of copies of the one-hot vector"""
    embedding_dim: int = 50
    """width of the learned vector of ``embedding``"""
    label_dropout: float = 0.0
    """probability that the label of a training example is left out"""
    likelihood: str = "gaussian"
    """p(x | y, z): bernoulli, continuous_bernoulli, gaussian, gaussian_learned, gaussian_optimal, gaussian_per_pixel,
    discretised_logistic, or one of your own (docs/extend.md)"""
    x_var: float = 0.1
    """decoder variance of ``gaussian``, or first value of ``gaussian_learned``; in squared pixel units"""
    output: Output = "sigmoid"
    """activation of the decoder's output, which is the mean of a Gaussian: identity, sigmoid or relu"""
    z_dim: int = 100
    """number of latents"""
    prior: str = "standard"
    """prior p(z): standard, which is N(0, I), or one of your own (docs/extend.md)"""
    beta: float = 1.0
    """weight β of the KL in the loss"""
    batch_size: int = 128
    """number of images in a step"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 10, quick 400, full 10,000"""
    thorough: bool = True
    """also measure samples, bits per dimension and the probe"""


def build(config: ConditionalConfig) -> ConditionalVAE:
    """An untrained model; its weights come from torch's global generator.

    Encoder: convolutions to features (392 of a digit), the label, 100 hidden units. Decoder: z and the label to a grid
    (64x12x12 for a digit), transposed convolutions to a little more than the image (29x29), cropped.

    Raises:
        ValueError: for an unknown likelihood or prior, repeats < 1, a variance out of range, or images without labels.
    """
    likelihood, n_classes = config.p_x(config.output), config.k
    features = ConvFeatures(config.shape, channels=(16,) * (n_halvings(config.shape) - 1) + (8,))
    at_encoder = join(config, features.out_dim, here=config.placement in ("both", "encoder"))
    at_decoder = join(config, config.z_dim, here=config.placement in ("both", "decoder"))
    head = MLP(at_encoder.out_dim, (100,), 2 * config.z_dim, activation="relu")
    decoder = CropDecoder(at_decoder.out_dim, config.shape, n_params=likelihood.n_params)
    return ConditionalVAE(
        WithLabel(features, at_encoder, head),
        WithLabel(nn.Identity(), at_decoder, decoder),
        likelihood,
        choose_prior(config.prior, z_dim=config.z_dim),
        n_classes=n_classes,
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
            return LabelEmbedding(n_features, config.k, dim=config.embedding_dim)
        case "film":
            return FiLM(n_features, config.k)
        case _:
            return RepeatedOneHot(n_features, config.k, repeats=config.repeats)


def run(config: ConditionalConfig, *, images: Images | None = None, **given: Unpack[Given]) -> Run:
    """Train one model on grey levels (or colours) and measure it on the test set.

    Args:
        config: the settings. images: data already loaded; None loads what the config names.
        given: see `experiments.job.Given`.

    Returns:
        a `Run` with the metrics of `measure_terms` and, if ``config.thorough``, of `measure_samples` and
        ``judge_accuracy_percent``, of the judge on the test images: what the other numbers that it reads can be.

    Raises:
        ValueError: for settings out of range.
    """
    job = prepare(config, images, given)
    config, images, device = job.config, job.data, job.device
    model = job.build(build)
    n_test = min(len(images.x_test), job.pick(200, 2000, 10_000 if config.thorough else 2000))
    x_test, y_test = to_grey(images.x_test[:n_test]).to(device), images.y_test[:n_test].to(device)
    n_curve = job.pick(100, 200, 1000)

    def objective(model: Any, batch: tuple[Tensor, Tensor]) -> Terms:
        return conditional_elbo(model, *batch, beta=config.beta, label_dropout=config.label_dropout)

    def evaluate(model: Any) -> dict[str, float]:
        return term_means(model, (x_test[:n_curve], y_test[:n_curve]), lambda m, batch: conditional_elbo(m, *batch))

    def measure(model: Any) -> dict[str, float]:
        reader = judge_of(images, config, job.budget) if config.thorough else None
        torch.manual_seed(job.seed)
        metrics = measure_terms(model, x_test, y_test)
        if reader is not None:
            guided = config.label_dropout > 0
            metrics |= measure_samples(model, x_test, y_test, budget=job.budget, guided=guided, reader=reader)
            metrics["judge_accuracy_percent"] = accuracy(reader.to(device), x_test, y_test).percent
        return metrics

    batches = LabelledBatches(images.x_train, images.y_train, transform=to_grey, **job.stream)
    update = GradientStep(model, objective, **config.options)
    return job.train(model, batches, update, measure=measure, evaluate=evaluate, pixels="grey levels")


def judge_of(images: Images, config: ConditionalConfig, budget: Budget) -> Classifier:
    """The classifier that reads generated images: the released one for MNIST; else one trained on these images.

    That is study ``judge`` with seed 0, trained once for the same images and budget in a process.
    """
    if images.name in ("mnist", "mnist-5k") and config.shape == (28, 28):
        return released_judge()
    key = images.fingerprint, budget
    if key not in _JUDGES:
        batch_size = min(JudgeConfig.batch_size, len(images.x_train))
        asked = JudgeConfig(data=config.data, size=config.size, channels=config.channels, batch_size=batch_size)
        _JUDGES[key] = train_judge(asked, seed=0, budget=budget, images=images, progress=False).model
    return _JUDGES[key]


_JUDGES: dict[tuple[str, Budget], Classifier] = {}


def measure_samples(
    model: ConditionalVAE,
    x: Tensor,
    y: Tensor,
    *,
    budget: Budget,
    guided: bool = False,
    reader: Classifier | None = None,
) -> dict[str, float]:
    """Bits per dimension, what the judge reads in samples, and what a probe reads in the code.

    Args:
        model: in evaluation mode. x: grey levels, (N, D). y: labels, (N,) int64. budget: how many samples.
        guided: also sample with guidance. reader: the judge of these images; None for the released one of MNIST.

    Returns:
        what `evaluation.conditional.measure_bits` gives; ``sample_accuracy_percent``, how often the judge reads the
        label that was asked for, and ``sample_frechet`` to the N images in the judge's features (both with
        ``_guided_W`` at weight W); ``swap_label_percent`` and ``swap_source_percent``, how often an image's code
        decoded under another label shows that label or the image's own; ``label_probe_percent``, a linear probe of
        the label in a sample of q(z | x, y) (its mean would show a label that the encoder was given, however little
        of it survives the noise), which learns from one half of the images and reads the other.
    """
    judge: Any = (released_judge() if reader is None else reader).to(x.device)
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
    other = (y + 1 + torch.arange(len(y), device=y.device) % (model.n_classes - 1)) % model.n_classes
    swapped = decoded(model, q_mu, other)
    metrics["swap_label_percent"] = accuracy(judge, swapped, other).percent
    metrics["swap_source_percent"] = accuracy(judge, swapped, y).percent
    n_images, n_samples = budget.pick(smoke=(10, 10), quick=(200, 50), full=(500, 100))
    return metrics | measure_bits(model, x, y, n_images=n_images, n_samples=n_samples)


STUDY = Study(
    ConditionalConfig, "conditional VAEs: decoder variance, where the label enters (notebooks 04, 05, 13)", build, run
)
