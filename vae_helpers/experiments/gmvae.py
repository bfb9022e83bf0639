"""Study ``gmvae``: clusters of digits found without labels, by a GMVAE with a discrete latent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Unpack, get_args, get_type_hints

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import PIXELS, Batches, Images, TwoViews, load_mnist, random_affine, to_grey, two_views
from vae_helpers.evaluation import class_probs, clustering, evaluate_terms
from vae_helpers.experiments.m1 import fixed_pixels
from vae_helpers.experiments.run import Keeping, Run, train
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import GMVAE
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.objectives import Terms
from vae_helpers.priors import MixturePrior
from vae_helpers.training import Budget, GradientStep, pick_device

X_DIM, N_CLASSES = 784, 10


@dataclass(frozen=True)
class GMVAEConfig:
    """Settings of one clustering run."""

    n_components: int = 10
    """clusters K, the values of y"""
    z_dim: int = 64
    """latent dimensions"""
    h_dims: tuple[int, ...] = (300, 300)
    """hidden layers of every net"""
    activation: str = "relu"
    """elu, relu, softplus or tanh"""
    label_scale: float = 1.0
    """factor of the initial weights of the label in the encoder (see nets.JointMLP)"""
    views: Literal["same", "moved"] = "same"
    """what q(y | x) reads in training: the image that is explained, or the same moved and bent (data.random_affine)"""
    labels: Literal["all", "top"] = "all"
    """exact sum over y; or the most probable value and a sampled one of the rest (unbiased)"""
    lr: float = 1e-3
    """Adam's step size"""
    decay: bool = False
    """let the step size fall linearly to zero over the second half of the steps"""
    batch_size: int = 100
    """images a step"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 15, quick 1,500, full 10,000"""
    validation: int = 0
    """training images held out and measured in the place of the test set: for choosing settings"""
    bf16: bool = False
    """matrix products in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def build(config: GMVAEConfig) -> GMVAE:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for a width, count or activation out of range (from the parts).
    """
    k, z_dim = config.n_components, config.z_dim
    mlp = partial(MLP, h_dims=config.h_dims, activation=config.activation)
    scales = [1.0, config.label_scale]
    encoder = JointMLP([X_DIM, k], config.h_dims, 2 * z_dim, activation=config.activation, scales=scales)
    prior = MixturePrior.random(k, z_dim)
    return GMVAE(mlp(X_DIM, out_dim=k), encoder, mlp(z_dim, out_dim=X_DIM), Bernoulli(), prior)


def run(
    config: GMVAEConfig,
    *,
    seed: int,
    budget: Budget | None = None,
    images: Images | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train without labels and compare the clusters of the test set with its classes.

    Args:
        config: the settings. seed: of weights, order and noise. budget: None for `Budget.current`.
        images: data already loaded; None loads MNIST. keeping: see `experiments.run.Keeping`.

    Returns:
        a `Run` with metrics ``test_accuracy_percent`` (Hungarian matching), ``test_nmi``, ``test_ari``,
        ``test_usage_entropy`` (nats, at most log K), and in nats per example ``test_unlabelled_bound``,
        ``test_log_px``, ``test_kl`` (of z, averaged over q(y | x)) and ``test_entropy`` (of q(y | x)).

    Raises:
        ValueError: for settings out of range.
    """
    for name in ("views", "labels"):
        known = get_args(get_type_hints(GMVAEConfig)[name])
        if getattr(config, name) not in known:
            raise ValueError(f"unknown {name} {getattr(config, name)!r}; choose one of {', '.join(known)}")
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=15, quick=1500, full=10_000))
    images = load_mnist() if images is None else images
    images = images.validation(config.validation) if config.validation else images
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    n_test = 200 if budget is Budget.SMOKE else len(images.x_test)
    x_test, y_test = images.x_test[:n_test], images.y_test[:n_test]
    fixed, grey = fixed_pixels(x_test, "dynamic").to(device), to_grey(x_test).to(device)

    def agreement(model: Any) -> dict[str, float]:
        cluster = class_probs(model, grey).argmax(-1)
        found = clustering(cluster, y_test, n_clusters=config.n_components, n_classes=N_CLASSES)
        return {f"test_{name}": getattr(found, name) for name in ("accuracy_percent", "nmi", "ari", "usage_entropy")}

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        terms = evaluate_terms(model, fixed, objectives.unlabelled)
        bounds = {f"test_{name}": value.mean for name, value in terms.items() if name != "loss"}
        return {**agreement(model), **bounds}

    return train(
        "gmvae",
        config,
        model,
        batches(config, images, seed=seed, device=device),
        update=update_for(config, model),
        seed=seed,
        budget=budget,
        data=f"{images.source}; dynamic binarisation, clusters of grey levels",
        measure=measure,
        evaluate=agreement,
        **keeping,
    )


def batches(config: GMVAEConfig, images: Images, *, seed: int, device: torch.device) -> Batches:
    """Binarised images, each twice if the views differ."""
    transform: Any = PIXELS["dynamic"]
    if config.views == "moved":
        transform = two_views(transform, partial(random_affine, shape=images.shape))
    return Batches(images.x_train, batch_size=config.batch_size, seed=seed, transform=transform, device=device)


def update_for(config: GMVAEConfig, model: GMVAE) -> GradientStep:
    """The optimisation step of a configuration."""
    bound = objectives.unlabelled if config.labels == "all" else objectives.unlabelled_top

    def objective(model: GMVAE, batch: Tensor | TwoViews) -> Terms:
        x, view = batch if isinstance(batch, TwoViews) else (batch, None)
        return bound(model, x, view=view)

    return GradientStep(
        model,
        objective,
        lr=config.lr,
        bf16=config.bf16,
        compiled=config.compiled,
        decay_steps=config.steps if config.decay else 0,
    )
