"""Study ``gmvae``: clusters of digits found without labels, by a GMVAE with a discrete latent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from vae_helpers import objectives
from vae_helpers.data import PIXELS, Batches, Images, TwoViews, load_mnist, random_affine, to_grey, two_views
from vae_helpers.evaluation import class_probs, clustering, evaluate_terms
from vae_helpers.evaluation.collapse import ACTIVE_VARIANCE
from vae_helpers.experiments import m1
from vae_helpers.experiments.run import Keeping, Run, check_choices, checkpoint_file, train
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import GMVAE, Classifier
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.objectives import Terms
from vae_helpers.priors import MixturePrior
from vae_helpers.training import Budget, GradientStep, fit, pick_device
from vae_helpers.training.checkpoint import check_usable
from vae_helpers.training.updates import Objective

X_DIM, N_CLASSES = 784, 10
START_STEPS = {  # of the stages of `start_from_codes`
    Budget.SMOKE: {"vae": 15, "classifier": 15, "nets": 15},
    Budget.QUICK: {"vae": 1500, "classifier": 500, "nets": 500},
    Budget.FULL: {"vae": 20_000, "classifier": 2000, "nets": 2000},
}
MIXTURE_STARTS = 5  # k-means starts of the mixture of codes, of which the likeliest fit is kept
MIXTURE_IMAGES = 20_000  # whose codes it is fitted to


@dataclass(frozen=True)
class GMVAEConfig:
    """Settings of one clustering run."""

    n_components: int = 10
    """clusters K, the values of y"""
    z_dim: int = 20
    """latent dimensions"""
    h_dims: tuple[int, ...] = (300, 300)
    """hidden layers of every net"""
    activation: str = "relu"
    """elu, relu, softplus or tanh"""
    label_scale: float = 1.0
    """factor of the initial weights of the label in the encoder (see nets.JointMLP)"""
    start: Literal["random", "codes"] = "random"
    """random weights; or clusters found among the codes of a VAE, taught to the nets before they are left alone (see
    `start_from_codes`)"""
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
        ``test_log_px``, ``test_kl`` (of z, averaged over q(y | x)) and ``test_entropy`` (of q(y | x)). A start from
        codes adds the accuracies of its stages, ``start_codes_accuracy_percent`` and
        ``start_classifier_accuracy_percent``; its time is not in ``seconds``, and resuming goes through it again.

    Raises:
        ValueError: for settings out of range. CheckpointError: as `training.fit`, before a start from codes.
        KeyboardInterrupt: at Ctrl-C during a start from codes, which keeps nothing.
    """
    check_choices(config)
    if config.n_components < 2:
        raise ValueError(f"clusters need n_components of at least 2, got {config.n_components}")
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=15, quick=1500, full=10_000))
    images = load_mnist() if images is None else images
    images = images.validation(config.validation) if config.validation else images
    if (folder := keeping.get("folder")) is not None:
        check_usable(checkpoint_file(folder), resume=keeping.get("resume", False))
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config).to(device)
    n_test = 200 if budget is Budget.SMOKE else len(images.x_test)
    x_test, y_test = images.x_test[:n_test], images.y_test[:n_test]
    fixed, grey = m1.fixed_pixels(x_test, "dynamic").to(device), to_grey(x_test).to(device)

    def agreement(model: Any) -> dict[str, float]:
        cluster = class_probs(model, grey).argmax(-1)
        found = clustering(cluster, y_test, n_clusters=config.n_components, n_classes=N_CLASSES)
        return {f"test_{name}": getattr(found, name) for name in ("accuracy_percent", "nmi", "ari", "usage_entropy")}

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        terms = evaluate_terms(model, fixed, objectives.unlabelled)
        bounds = {f"test_{name}": value.mean for name, value in terms.items() if name != "loss"}
        return {**agreement(model), **bounds, **stages}

    stages: dict[str, float] = {}
    if config.start == "codes":
        progress = keeping.get("progress", True)
        for stage, cluster_of in start_from_codes(model, config, images, seed=seed, budget=budget, progress=progress):
            found = clustering(cluster_of(grey), y_test, n_clusters=config.n_components, n_classes=N_CLASSES)
            stages[f"start_{stage}_accuracy_percent"] = found.accuracy_percent
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


def start_from_codes(
    model: GMVAE, config: GMVAEConfig, images: Images, *, seed: int, budget: Budget, progress: bool
) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Teach a GMVAE the clusters of a VAE's codes, so that its own training starts near a good solution.

    Three stages, all without labels: a plain VAE is trained, and a mixture of K Gaussians with full covariances is
    fitted to the posterior means of its active latents; the classifier learns the mixture's p(y | z) from moved
    images, which clears up what the codes confuse; then the other nets learn beside the classifier, which is held.

    Args:
        model: trained in place. config, images, seed, budget, progress: of the run.

    Yields:
        the stages ``codes`` and ``classifier``, each with its function from grey images (N, D) to clusters (N,).

    Raises:
        ValueError: from scikit-learn, if there are fewer images than clusters.

    Source: the start of Jiang et al. 2017, section 3.3, there with an autoencoder and diagonal covariances.
    """
    from sklearn.mixture import GaussianMixture

    device = next(model.parameters()).device
    steps = START_STEPS[budget]
    options: dict[str, Any] = {"batch_size": config.batch_size, "seed": seed, "device": device}
    vae = m1.build(m1.M1Config(z_dim=config.z_dim)).to(device)
    stage = partial(_stage, progress=progress)
    plain = Batches(images.x_train, transform=PIXELS["dynamic"], **options)
    stage(vae, plain, objectives.elbo, steps=steps["vae"], bf16=config.bf16, title="VAE")
    with torch.inference_mode():
        codes = torch.cat([vae.encode(to_grey(chunk.to(device)))[0] for chunk in images.x_train.split(5000)])
    active = codes.var(0) > ACTIVE_VARIANCE
    codes = codes[:, active].double().cpu()
    mixture = GaussianMixture(config.n_components, random_state=seed, n_init=MIXTURE_STARTS)
    mixture.fit(codes[torch.randperm(len(codes))[:MIXTURE_IMAGES]].numpy())

    @torch.inference_mode()
    def cluster_of_codes(x: Tensor) -> Tensor:
        return torch.from_numpy(mixture.predict(vae.encode(x)[0][:, active].double().cpu().numpy()))

    yield "codes", cluster_of_codes
    taught = torch.from_numpy(mixture.predict_proba(codes.numpy())).float()
    moved = TaughtBatches(images.x_train, taught, transform=_moved(images), **options)
    stage(model, moved, imitation, steps=steps["classifier"], bf16=config.bf16, title="classifier")
    yield "classifier", lambda x: class_probs(model, x).argmax(-1)
    model.net.requires_grad_(False)
    beside = batches(config, images, seed=seed, device=device)
    stage(model, beside, update=update_for(config, model), steps=steps["nets"], title="other nets")
    model.net.requires_grad_(True)


def _stage(model: nn.Module, batches: Batches, objective: Objective | None = None, **settings: Any) -> None:
    """`training.fit` without a checkpoint, which Ctrl-C leaves as an exception."""
    if fit(model, batches, objective, log_every=min(50, settings["steps"]), **settings).interrupted:
        raise KeyboardInterrupt


class TaughtBatches(Batches):
    """`Batches` that come with class probabilities to imitate, (B, K)."""

    def __init__(self, x: Tensor, y_probs: Tensor, **options: Any) -> None:
        super().__init__(x, **options)
        self.y_probs = y_probs.to(self.x.device)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The images at ``index`` (B,), transformed, and their probabilities."""
        return super().take(index), self.y_probs[index]


def imitation(model: Classifier, batch: tuple[Tensor, Tensor]) -> Terms:
    """Cross-entropy -sum_y t(y) log q(y | x) of a classifier and given probabilities t; (B,), nats."""
    x, y_probs = batch
    return {"loss": -(y_probs * model.classify(x).log_softmax(-1)).sum(-1)}


def _moved(images: Images) -> Callable[[Tensor], Tensor]:
    height, width = images.shape
    return lambda x: PIXELS["dynamic"](random_affine(x, (height, width)))


def batches(config: GMVAEConfig, images: Images, *, seed: int, device: torch.device) -> Batches:
    """Binarised images, each twice if the views differ."""
    transform: Any = PIXELS["dynamic"]
    if config.views == "moved":
        transform = two_views(transform, _moved(images))
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
