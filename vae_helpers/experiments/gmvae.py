"""Study ``gmvae``: clusters of digits found without labels, by a GMVAE with a discrete latent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from vae_helpers import objectives
from vae_helpers.data import PIXELS, Batches, Images, TwoViews, fixed_pixels, random_affine, to_grey, two_views
from vae_helpers.evaluation import class_probs, clustering, term_means, usage_entropy
from vae_helpers.evaluation.collapse import ACTIVE_VARIANCE
from vae_helpers.experiments import m1
from vae_helpers.experiments.folders import checkpoint_file
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import PixelSettings, Study
from vae_helpers.models import GMVAE, Classifier
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.objectives import Terms
from vae_helpers.priors import MixturePrior
from vae_helpers.training import Budget, GradientStep, fit
from vae_helpers.training.checkpoint import check_usable
from vae_helpers.training.updates import Objective

START_STEPS = {  # of the stages of `start_from_codes`
    Budget.SMOKE: {"vae": 15, "classifier": 15, "nets": 15},
    Budget.QUICK: {"vae": 1500, "classifier": 500, "nets": 500},
    Budget.FULL: {"vae": 20_000, "classifier": 2000, "nets": 2000},
}
MIXTURE_STARTS = 5  # k-means starts of the mixture of codes, of which the likeliest fit is kept
MIXTURE_IMAGES = 20_000  # whose codes it is fitted to


@dataclass(frozen=True, kw_only=True)
class GMVAEConfig(PixelSettings):
    """Settings of one clustering run."""

    STUDY: ClassVar = "gmvae"
    STEPS: ClassVar = {"smoke": 15, "quick": 1500, "full": 10_000}

    n_components: int = 10
    """number K of clusters, the values of y"""
    z_dim: int = 20
    """number of latents"""
    h_dims: tuple[int, ...] = (300, 300)
    """widths of the hidden layers of each net"""
    activation: str = "relu"
    """activation of the hidden layers: elu, relu, softplus or tanh"""
    label_scale: float = 1.0
    """factor of the initial weights that read the label, in the encoder (see nets.JointMLP)"""
    start: Literal["random", "codes"] = "random"
    """random: random weights; codes: clusters of the codes of a VAE, which the nets first learn to predict (see
    `start_from_codes`)"""
    views: Literal["same", "moved"] = "same"
    """input of q(y | x) in training: the image itself, or a copy that is shifted, turned and scaled a little"""
    labels: Literal["all", "top"] = "all"
    """all: sum over all values of y; top: the most probable value and one sampled from the others (unbiased)"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 15, quick 1,500, full 10,000"""


def build(config: GMVAEConfig) -> GMVAE:
    """An untrained model; its weights come from torch's global generator.

    Raises:
        ValueError: for a width, count or activation out of range (from the parts).
    """
    k, z_dim, x_dim, p_x = config.n_components, config.z_dim, math.prod(config.shape), config.p_x()
    mlp = partial(MLP, h_dims=config.h_dims, activation=config.activation)
    scales = [1.0, config.label_scale]
    encoder = JointMLP([x_dim, k], config.h_dims, 2 * z_dim, activation=config.activation, scales=scales)
    prior = MixturePrior.random(k, z_dim)
    return GMVAE(mlp(x_dim, out_dim=k), encoder, mlp(z_dim, out_dim=x_dim * p_x.n_params), p_x, prior)


def run(config: GMVAEConfig, *, images: Images | None = None, **given: Unpack[Given]) -> Run:
    """Train without labels and compare the clusters of the test set with its classes.

    Args:
        config: the settings. images: data already loaded; None loads what the config names.
        given: see `experiments.job.Given`.

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
    if config.n_components < 2:
        raise ValueError(f"clusters need n_components of at least 2, got {config.n_components}")
    job = prepare(config, images, given)
    config, images, device = job.config, job.data, job.device
    if (folder := given.get("folder")) is not None:
        check_usable(checkpoint_file(folder), resume=given.get("resume", False))
    model = job.build(build)
    n_test = 200 if job.budget is Budget.SMOKE else len(images.x_test)
    x_test, y_test = images.x_test[:n_test], images.y_test[:n_test]
    fixed, grey = fixed_pixels(x_test, config.pixels).to(device), to_grey(x_test).to(device)

    def compared(cluster: Tensor) -> dict[str, float]:
        if not len(y_test):
            return {"usage_entropy": usage_entropy(cluster, n_clusters=config.n_components)}
        found = clustering(cluster, y_test, n_clusters=config.n_components, n_classes=images.n_classes)
        return {name: getattr(found, name) for name in ("accuracy_percent", "nmi", "ari", "usage_entropy")}

    def agreement(model: Any) -> dict[str, float]:
        return {f"test_{name}": value for name, value in compared(class_probs(model, grey).argmax(-1)).items()}

    def measure(model: Any) -> dict[str, float]:
        bounds = term_means(model, fixed, objectives.unlabelled)
        return {**agreement(model), **bounds}

    stages: dict[str, float] = {}
    if config.start == "codes" and job.trained is None:
        for stage, cluster_of in start_from_codes(
            model, config, images, seed=job.seed, budget=job.budget, progress=given.get("progress", True)
        ):
            if "accuracy_percent" in (found := compared(cluster_of(grey))):
                stages[f"start_{stage}_accuracy_percent"] = found["accuracy_percent"]
    return job.train(
        model,
        batches(config, images, seed=job.seed, device=device),
        update_for(config, model),
        measure=measure,
        evaluate=agreement,
        pixels=f"{config.pixels_in_words}, clusters of grey levels",
        before=stages,
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
    inherited = {field.name: getattr(config, field.name) for field in dataclasses.fields(PixelSettings)}
    vae = m1.build(m1.M1Config(**inherited, z_dim=config.z_dim)).to(device)
    stage = partial(_stage, progress=progress)
    plain = Batches(images.x_train, transform=PIXELS[config.pixels], **options)
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
    moved = TaughtBatches(images.x_train, taught, transform=_moved(config), **options)
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


def _moved(config: GMVAEConfig) -> Callable[[Tensor], Tensor]:
    return lambda x: PIXELS[config.pixels](random_affine(x, config.shape))


def batches(config: GMVAEConfig, images: Images, *, seed: int, device: torch.device) -> Batches:
    """Binarised images, each twice if the views differ."""
    transform: Any = PIXELS[config.pixels]
    if config.views == "moved":
        transform = two_views(transform, _moved(config))
    return Batches(images.x_train, batch_size=config.batch_size, seed=seed, transform=transform, device=device)


def update_for(config: GMVAEConfig, model: GMVAE) -> GradientStep:
    """The optimisation step of a configuration."""
    bound = objectives.unlabelled if config.labels == "all" else objectives.unlabelled_top

    def objective(model: GMVAE, batch: Tensor | TwoViews) -> Terms:
        x, view = batch if isinstance(batch, TwoViews) else (batch, None)
        return bound(model, x, view=view)

    return GradientStep(model, objective, **config.options)


STUDY = Study(GMVAEConfig, "clusters of images without labels (notebook 12)", build, run)
