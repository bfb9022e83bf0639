"""Study ``m2``: digits with few labels, by five methods on the same label splits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import (
    Batches,
    Images,
    LabelledBatches,
    LabelSplit,
    Stream,
    TwoStreams,
    draw_label_split,
    fixed_pixels,
    load_label_split,
)
from vae_helpers.evaluation import accuracy, evaluate_terms
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.m1_features import View, active_latents, load_m1, run_svm
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import PixelSettings, Study
from vae_helpers.likelihoods import GaussianPerPixel
from vae_helpers.models import ADGM, M2, Classifier
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.priors import choose_prior
from vae_helpers.training import Budget, CheckpointError, GradientStep, SemiSupervisedStep, pick_device

NAMES = {"classifier": "supervised-only", "m1_svm": "M1 + SVM", "m2": "M2", "m1_m2": "M1 + M2", "adgm": "ADGM"}

STEPS = {
    "classifier": {"smoke": 40, "quick": 1000, "full": 3000},
    "m2": {"smoke": 15, "quick": 1000, "full": 8000},
    "m1_m2": {"smoke": 15, "quick": 1000, "full": 4000},
    "adgm": {"smoke": 10, "quick": 500, "full": 5000},
    "m1_svm": {"smoke": 0, "quick": 0, "full": 0},
}
N_TO_FIND_ACTIVE = 10_000  # images that say which latents of an M1 are active


@dataclass(frozen=True, kw_only=True)
class M2Config(PixelSettings):
    """Settings of one semi-supervised run."""

    STUDY: ClassVar = "m2"
    NAMES: ClassVar = {"prior": ("standard",)}

    model: Literal["m2", "m1_m2", "adgm", "classifier", "m1_svm"] = "m2"
    """m2; m1_m2, an M2 on the features of an M1; adgm, an M2 with an auxiliary variable; classifier, q(y | x) trained
    on the labelled examples alone; m1_svm, a support vector machine on the features of an M1"""
    n_labels: int = 100
    """number of labelled examples, equal for each class; the seed chooses them"""
    split_file: str = ""
    """a file with the choice of labelled examples (split.json of a run folder), in place of a new choice"""
    z_dim: int = 50
    """number of latents"""
    a_dim: int = 50
    """number of dimensions of the auxiliary variable of ADGM"""
    h_dims: tuple[int, ...] = (300, 300)
    """widths of the hidden layers of each net"""
    activation: str = "relu"
    """activation of the hidden layers: elu, relu, softplus or tanh"""
    label_scale: float = 10.0
    """factor of the initial weights that read the label, in encoder and decoder (see nets.JointMLP)"""
    alpha: float = 20.0
    """weight of the classifier's mean cross-entropy, as a multiple of the number N of training examples (the
    paper's equation 9 with alpha = 0.1 N is 0.1 here)"""
    scaling: Literal["counts", "batch_sums", "batch_means"] = "counts"
    """counts: equation 9 of the paper; batch_sums: mean of the labelled batch plus sum of the unlabelled batch, with
    alpha not multiplied by N; batch_means: means of both batches, so that all labelled examples together have the
    weight of all unlabelled ones"""
    labels: Literal["all", "top", "gumbel"] = "top"
    """unlabelled bound. all: sum over all classes; top: sum over the ``n_exact`` most probable ones and one sampled
    from the others (unbiased, and faster); gumbel: one relaxed label"""
    n_exact: int = 1
    """number of most probable labels that ``top`` sums over"""
    temperature: float = 0.5
    """temperature of the relaxed label of ``gumbel``"""
    m1: str = "m1/z50"
    """the M1 of ``m1_m2`` and ``m1_svm``: a released name, or the folder of an m1 run on the same images"""
    m1_latents: tuple[int, ...] = ()
    """latents of the M1 that ``m1_m2`` takes as input; none given takes the active ones, without the collapsed ones"""
    svm_kernel: Literal["linear", "rbf"] = "rbf"
    """kernel of the support vector machine of ``m1_svm``"""
    prior: str = "standard"
    """prior p(z): standard, which is N(0, I), or one of your own (docs/extend.md)"""
    decay: bool = True
    """lower the learning rate linearly to zero over the second half of the steps"""
    labelled_batch_size: int = 20
    """number of labelled examples in a step; all of them if there are fewer"""
    batch_size: int = 100
    """number of unlabelled examples in a step"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget, for m2: smoke 15, quick 1,000, full 8,000"""

    def steps_of(self, budget: Budget) -> int:
        """How many steps the model takes."""
        return STEPS[self.model][budget]

    def resolved(self, budget: Budget, data: Any) -> Self:
        """The settings with all that budget and images decide; of ``m1_m2``, the M1's active latents too."""
        config = super().resolved(budget, data)
        if config.model != "m1_m2" or config.m1_latents:
            return config
        m1 = load_m1(config.m1, math.prod(config.shape))
        return dataclasses.replace(config, m1_latents=active_latents(m1, data.x_train[:N_TO_FIND_ACTIVE]))


def build(config: M2Config) -> Classifier:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for a width or activation out of range (from the parts), or the model ``m1_svm``, which has no net.
    """
    if config.model == "m1_svm":
        raise ValueError("m1_svm is a support vector machine on an M1's features, with no net to build; use run")
    on_features = config.model == "m1_m2"
    x_dim = math.prod(config.shape)
    if on_features:
        x_dim = len(config.m1_latents) or load_m1(config.m1, x_dim).z_dim
    mlp = partial(MLP, h_dims=config.h_dims, activation=config.activation)

    def joint(in_dims: list[int], *, out_dim: int) -> JointMLP:
        scales = [config.label_scale if i == 1 else 1.0 for i in range(len(in_dims))]  # y is every net's second input
        return JointMLP(in_dims, config.h_dims, out_dim, activation=config.activation, scales=scales)

    z, a, k = config.z_dim, config.a_dim, config.k
    if config.model == "classifier":
        return Classifier(mlp(x_dim, out_dim=k), n_classes=k)
    likelihood = GaussianPerPixel(min_x_var=1e-3) if on_features else config.p_x()
    decoder, prior = joint([z, k], out_dim=x_dim * likelihood.n_params), choose_prior(config.prior, z_dim=z)
    if config.model == "adgm":
        return ADGM(
            mlp(x_dim + a, out_dim=k),
            joint([x_dim + a, k], out_dim=2 * z),
            decoder,
            likelihood,
            prior,
            n_classes=k,
            a_encoder=mlp(x_dim, out_dim=2 * a),
            a_decoder=joint([x_dim, k, z], out_dim=2 * a),
        )
    encoder = joint([x_dim, k], out_dim=2 * z)
    return M2(mlp(x_dim, out_dim=k), encoder, decoder, likelihood, prior, n_classes=k)


def run(config: M2Config, *, images: Images | None = None, **given: Unpack[Given]) -> Run:
    """Train one model on one label split and measure it on the test set.

    The classifier reads dynamically binarised digits in training and their grey levels (the mean of the
    binarised ones) when it is measured, in every method; the bound is measured on digits binarised once.

    Args:
        config: the settings. Its seed draws the label split too.
        budget: None for `Budget.current`. images: data already loaded; None loads what the config names.
        given: see `experiments.job.Given`; the folder also gets ``split.json``.

    Returns:
        a `Run` with metrics ``test_accuracy_percent`` and ``test_accuracy_standard_error_percent``,
        ``labelled_accuracy_percent``, and for M2 and ADGM, in nats per example, ``test_unlabelled_bound``,
        ``test_log_px`` and ``test_kl``.

    Raises:
        ValueError: for a split that cannot be drawn, or settings out of range.
        DataError: for a split file of other data.
    """
    job = prepare(config, images, given)
    config, images, device = job.config, job.data, job.device
    split = label_split(config, images, seed=job.seed)
    if (folder := given.get("folder")) is not None:
        with job.claim():
            _keep(split, folder / "split.json", images, n_classes=config.k)
    view = view_of(config, device)
    n_test = 200 if job.budget is Budget.SMOKE else len(images.x_test)
    x_test, y_test = images.x_test[:n_test].to(device), images.y_test[:n_test].to(device)
    words = "; ".join(filter(None, (f"{config.pixels_in_words}, accuracy on grey levels", view.source)))
    labelled = images.x_train[split.labelled].to(device), images.y_train[split.labelled].to(device)
    if config.model == "m1_svm":
        with job.claim():
            return run_svm(job, view, labelled, (x_test, y_test), words)
    model = job.build(build)

    def accuracies(model: Any) -> dict[str, float]:
        torch.manual_seed(job.seed)
        found = accuracy(model, view.measured(x_test), y_test)
        return {
            "test_accuracy_percent": found.percent,
            "test_accuracy_standard_error_percent": found.standard_error,
            "labelled_accuracy_percent": accuracy(model, view.measured(labelled[0]), labelled[1]).percent,
        }

    def measure(model: Any) -> dict[str, float]:
        metrics = accuracies(model)
        if config.model in ("m2", "adgm"):
            terms = evaluate_terms(model, fixed_pixels(x_test.cpu(), config.pixels).to(device), objectives.unlabelled)
            metrics |= {f"test_{name}": terms[name].mean for name in ("unlabelled_bound", "log_px", "kl")}
        return metrics

    return job.train(
        model,
        batches(config, images, split, view, seed=job.seed),
        update_for(config, model, split),
        measure=measure,
        evaluate=accuracies,
        pixels=words,
    )


def _keep(split: LabelSplit, path: Path, images: Images, *, n_classes: int) -> None:
    """Save the split; a folder that holds another one belongs to another run and is left as it is."""
    if path.exists():
        there = load_label_split(path, images.y_train, n_classes=n_classes)
        if not torch.equal(there.labelled, split.labelled):
            raise CheckpointError(f"{path} is the label split of another run. Use its seed, or choose another folder.")
    else:
        split.save(path)


def label_split(config: M2Config, images: Images, *, seed: int) -> LabelSplit:
    """The configured split file, or the balanced split that the seed draws."""
    if config.split_file:
        return load_label_split(Path(config.split_file), images.y_train, n_classes=config.k)
    return draw_label_split(images.y_train, n_labels=config.n_labels, seed=seed, n_classes=config.k)


def view_of(config: M2Config, device: torch.device) -> View:
    """What the configured method sees: pixels, or the features of its M1."""
    if config.model in ("m1_m2", "m1_svm"):
        return View.of_features(load_m1(config.m1, math.prod(config.shape)).to(device), config.m1_latents)
    return View.of_pixels(config.pixels)


def batches(config: M2Config, images: Images, split: LabelSplit, view: View, *, seed: int) -> Stream:
    """Labelled batches, and unlabelled ones beside them for all but the classifier."""
    x, y = images.x_train, images.y_train
    options: dict[str, Any] = {"seed": seed, "transform": view.trained, "device": pick_device()}
    size = min(config.labelled_batch_size, len(split.labelled))
    labelled = LabelledBatches(x[split.labelled], y[split.labelled], batch_size=size, **options)
    if config.model == "classifier":
        return labelled
    return TwoStreams(labelled, Batches(x[split.unlabelled], batch_size=config.batch_size, **options))


def update_for(config: M2Config, model: Any, split: LabelSplit) -> GradientStep:
    """The optimisation step of a configuration."""
    if config.model == "classifier":
        return GradientStep(model, lambda model, batch: objectives.classification(model, *batch), **config.options)
    n_labelled, n = len(split.labelled), split.n_examples
    if config.scaling == "counts":
        weights: dict[str, Any] = {"n_labelled": n_labelled, "n_unlabelled": n - n_labelled, "alpha": config.alpha * n}
    else:
        n_unlabelled = config.batch_size if config.scaling == "batch_sums" else 1
        weights = {"n_labelled": 1, "n_unlabelled": n_unlabelled, "alpha": config.alpha}
    return SemiSupervisedStep(model, unlabelled=unlabelled_objective(config), **weights, **config.options)


def unlabelled_objective(config: M2Config) -> Callable[[Any, Tensor], objectives.Terms]:
    """The unlabelled bound by the configured treatment of the label."""
    match config.labels:
        case "all":
            return objectives.unlabelled
        case "top":
            return partial(objectives.unlabelled_top, n_exact=config.n_exact)
        case "gumbel":
            return partial(objectives.unlabelled_sampled, temperature=config.temperature)


STUDY = Study(M2Config, "images with few labels: M2, M1+M2, ADGM and baselines (notebook 03)", build, run)
