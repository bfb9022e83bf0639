"""Study ``m1``: autoencoders and VAEs on small images, with every likelihood, prior and bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import PIXELS, Batches, Images, fixed_pixels, to_grey
from vae_helpers.evaluation import active_units, evaluate_terms, importance_metrics, term_means
from vae_helpers.experiments.job import Given, prepare
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import PixelSettings, Study
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.objectives import choose_objective
from vae_helpers.priors import MixturePrior, Prior, VampPrior, choose_prior
from vae_helpers.training import Budget, GradientStep


@dataclass(frozen=True, kw_only=True)
class M1Config(PixelSettings):
    """Settings of one M1 run."""

    STUDY: ClassVar = "m1"
    STEPS: ClassVar = {"smoke": 60, "quick": 3000, "full": 20_000}
    NAMES: ClassVar = {"prior": ("standard", "mixture", "mean_of_logs", "vamp"), "bound": ("elbo", "iwae", "dreg")}

    model: Literal["vae", "autoencoder"] = "vae"
    """a VAE, or a deterministic autoencoder with the same nets"""
    z_dim: int = 20
    """number of latents"""
    h_dims: tuple[int, ...] = (300, 300)
    """widths of the encoder's hidden layers, and of the decoder's in reverse"""
    activation: str = "elu"
    """activation of the hidden layers: elu, relu, softplus or tanh"""
    prior: str = "standard"
    """prior p(z): standard, which is N(0, I); mixture, of trained Gaussians; mean_of_logs, the same with averaged
    log-densities (a mistake, see notebook 06); vamp, the VampPrior; or one of your own (docs/extend.md)"""
    n_components: int = 500
    """number of components of a mixture or a VampPrior"""
    learn_weights: bool = False
    """train the weights of the mixture; otherwise each of the K components has weight 1/K"""
    bound: str = "elbo"
    """what training maximises: elbo; iwae, the importance-weighted bound; dreg, the same bound with doubly
    reparameterised gradients;
    or an objective of your own (docs/extend.md)"""
    n_samples: int = 5
    """samples per image of the importance-weighted bound in training"""
    beta: float = 1.0
    """weight β of the KL in the loss, for the bound ``elbo``"""
    eval_samples: int = 0
    """samples per image for log p(x) after training; 0 takes the number of the budget: 10, 200 or 1,000"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget: smoke 60, quick 3,000, full 20,000"""


def build(config: M1Config) -> VAE | Autoencoder:
    """An untrained model; its weights come from torch's global generator, and pseudo-inputs are blank.

    Raises:
        ValueError: for a width, variance, count or activation out of range (from the parts), or an autoencoder with a
            prior or a bound of its own.
    """
    likelihood, x_dim = config.p_x(), math.prod(config.shape)
    code_dim = 2 * config.z_dim if config.model == "vae" else config.z_dim
    encoder = MLP(x_dim, config.h_dims, code_dim, activation=config.activation)
    decoder = MLP(config.z_dim, config.h_dims[::-1], x_dim * likelihood.n_params, activation=config.activation)
    if config.model == "vae":
        return VAE(encoder, decoder, likelihood, _prior(config, encoder))
    if (config.prior, config.bound) != ("standard", "elbo"):
        raise ValueError(
            f"prior={config.prior!r} and bound={config.bound!r} need model=vae; an autoencoder has neither"
        )
    return Autoencoder(encoder, decoder, likelihood, z_dim=config.z_dim)


class MeanOfLogs(MixturePrior):
    r"""A mistake found in the field: :math:`\sum_k \pi_k \log N_k(z)`, no log-density of any mixture.

    By Jensen's inequality it lies below the mixture's log-density; they meet where all components are one.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """sum_k pi_k log N_k(z); z (..., Z) -> (...), nats."""
        log_pi = self.log_component_probs
        return (log_pi.exp() * (self.log_joint(z) - log_pi)).sum(-1)

    def mended(self) -> MixturePrior:
        """The mixture of the same components."""
        found = MixturePrior(*self.components())
        found.weight_logits = self.log_component_probs.detach().clone()  # as logarithms: one of them may be tiny
        return found


def _prior(config: M1Config, encoder: MLP) -> Prior:
    k, z_dim, learned = config.n_components, config.z_dim, config.learn_weights
    if config.prior not in ("mixture", "mean_of_logs", "vamp"):
        return choose_prior(config.prior, z_dim=z_dim)
    if config.prior == "vamp":
        if k < 1:
            raise ValueError(f"a VampPrior needs at least one component, got n_components={k}")
        return VampPrior(encoder, torch.zeros(k, encoder.in_dim), z_dim, learn_weights=learned)
    kind = MixturePrior if config.prior == "mixture" else MeanOfLogs
    return kind.random(k, z_dim, learn_weights=learned)


def run(config: M1Config, *, images: Images | None = None, **given: Unpack[Given]) -> Run:
    """Train one model and measure it on the test set.

    A VampPrior's pseudo-inputs start as training images drawn by the seed.

    Args:
        config: the settings. images: data already loaded; None loads what the config names.
        given: see `experiments.job.Given`.

    Returns:
        a `Run` with metrics, nats per example, maximised: ``test_elbo_bound``, ``test_log_px`` (the
        reconstruction term), ``test_kl``, ``train_*`` likewise, ``test_iwae_{m}`` and
        ``test_importance_log_px`` with ``..._standard_error``, ``..._monte_carlo_error`` and
        ``..._median_ess``; ``active_units``; for mean_of_logs also ``test_mended_elbo_bound``, of the mixture of the
        same components. A deterministic autoencoder has the reconstruction terms only.

    Raises:
        ValueError: as `build`, or for more pseudo-inputs than training images.
    """
    if config.eval_samples < 0:
        raise ValueError(f"eval_samples must be at least 1, or 0 for the budget's, got {config.eval_samples}")
    job = prepare(config, images, given)
    config, images, device = job.config, job.data, job.device
    model = job.build(build)
    if isinstance(model, VAE) and isinstance(model.prior, VampPrior):
        start_at_images(model.prior, images.x_train)
    batches = Batches(images.x_train, transform=PIXELS[config.pixels], **job.stream)
    measured = objectives.elbo if config.model == "vae" else objectives.reconstruction
    x_test, x_train = (fixed_pixels(x, config.pixels).to(device) for x in (images.x_test, images.x_train))
    if job.budget is Budget.SMOKE:
        x_test, x_train = x_test[:200], x_train[:200]

    x_curve = x_test[: job.pick(200, 2000, 10_000)]

    def evaluate(model: Any) -> dict[str, float]:
        return {f"test_{name}": value.mean for name, value in evaluate_terms(model, x_curve, measured).items()}

    def measure(model: Any) -> dict[str, float]:
        metrics = term_means(model, x_test, measured) | term_means(model, x_train, measured, split="train")
        metrics["active_units"] = active_units(model, x_test)
        if config.prior == "mean_of_logs":
            torch.manual_seed(job.seed)  # the draws of test_elbo_bound, which this one exceeds then
            mended = VAE(model.encoder, model.decoder, model.likelihood, model.prior.mended()).eval()
            metrics["test_mended_elbo_bound"] = evaluate_terms(mended, x_test, objectives.elbo)["elbo_bound"].mean
        if config.model == "vae":
            n_samples = config.eval_samples or job.pick(10, 200, 1000)
            metrics |= importance_metrics(model, x_test[: job.pick(50, 1000, 10_000)], n_samples)
        return metrics

    update = GradientStep(model, objective_of(config), **config.options)
    once = ", test set binarised once by seed 0" if config.pixels == "dynamic" else ""
    words = f"{config.pixels_in_words}{once}"
    return job.train(model, batches, update, measure=measure, evaluate=evaluate, pixels=words)


def objective_of(config: M1Config) -> Any:
    """The objective a configuration trains."""
    if config.model == "autoencoder":
        return objectives.reconstruction
    iwae, dreg = (partial(bound, n_samples=config.n_samples) for bound in (objectives.iwae, objectives.dreg))
    made = {"elbo": partial(objectives.elbo, beta=config.beta), "iwae": iwae, "dreg": dreg}
    return made.get(config.bound) or choose_objective(config.bound)


def start_at_images(prior: VampPrior, x: Tensor) -> None:
    """Copy images drawn by torch's global generator, uint8 (N, D), into the pseudo-inputs.

    Raises:
        ValueError: if there are fewer images than pseudo-inputs.
    """
    if len(x) < prior.n_components:
        raise ValueError(
            f"{prior.n_components} pseudo-inputs start as training images, and there are {len(x)}; lower n_components"
        )
    with torch.no_grad():
        prior.pseudo_inputs.copy_(to_grey(x[torch.randperm(len(x))[: prior.n_components]]))


STUDY = Study(
    M1Config,
    "AE and VAE on MNIST, small faces or your own images: likelihoods, priors, bounds (notebooks 02, 06, 11)",
    build,
    run,
)
