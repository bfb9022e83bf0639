"""Study ``m1``: autoencoders and VAEs on small images, with every likelihood, prior and bound."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import IMAGE_SETS, PIXELS, Batches, Images, to_grey
from vae_helpers.evaluation import active_units, evaluate_terms, importance_log_px
from vae_helpers.experiments.run import Keeping, Run, check_choices, train
from vae_helpers.likelihoods import LikelihoodName, choose_likelihood
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP
from vae_helpers.priors import MixturePrior, Prior, StandardNormal, VampPrior
from vae_helpers.training import Budget, GradientStep, pick_device


@dataclass(frozen=True)
class M1Config:
    """Settings of one M1 run."""

    data: Literal["mnist", "frey", "drawn-faces"] = "mnist"
    """which images"""
    pixels: Literal["dynamic", "grey"] = "dynamic"
    """dynamic binarisation, or grey levels in [0, 1]"""
    model: Literal["vae", "autoencoder"] = "vae"
    """a VAE, or the deterministic autoencoder of the same nets"""
    likelihood: LikelihoodName = "bernoulli"
    """p(x | z)"""
    x_var: float = 0.05
    """decoder variance of ``gaussian``, starting value of ``gaussian_learned``; squared pixel units"""
    min_x_var: float = 0.0
    """floor of the variance of ``gaussian_per_pixel``; squared pixel units"""
    z_dim: int = 20
    """latent dimensions"""
    h_dims: tuple[int, ...] = (300, 300)
    """hidden layers of the encoder; the decoder mirrors them"""
    activation: str = "elu"
    """elu, relu, softplus or tanh"""
    prior: Literal["standard", "mixture", "mean_of_logs", "vamp"] = "standard"
    """N(0, I); a mixture of trained Gaussians; the same with its log-densities averaged, which is a mistake (shown in
    notebook 06); the VampPrior"""
    n_components: int = 500
    """of the mixtures and the VampPrior"""
    learn_weights: bool = False
    """train the mixture's weights; else 1/K each"""
    bound: Literal["elbo", "iwae", "dreg"] = "elbo"
    """what is trained: the ELBO; the importance-weighted bound; the same with doubly reparameterised gradients"""
    n_samples: int = 5
    """samples of the importance-weighted bound in training"""
    beta: float = 1.0
    """weight of the KL in the loss of ``elbo``"""
    lr: float = 1e-3
    """Adam's step size"""
    decay: bool = False
    """let the step size fall linearly to zero over the second half of the steps"""
    batch_size: int = 100
    """images a step"""
    eval_samples: int = 0
    """samples of the importance-sampled log p(x); 0 takes the budget's: smoke 10, quick 200, full 1,000"""
    validation: int = 0
    """training images held out and measured in the place of the test set: for choosing settings"""
    steps: int = 0
    """optimiser steps; 0 takes the budget's: smoke 60, quick 3,000, full 20,000"""
    bf16: bool = False
    """matrix products in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""


def load(config: M1Config) -> Images:
    """The images a configuration names."""
    return IMAGE_SETS[config.data]()


def build(config: M1Config) -> VAE | Autoencoder:
    """An untrained model; its weights come from torch's global generator, and pseudo-inputs are blank.

    Raises:
        ValueError: for a width, variance, count or activation out of range (from the parts), or an autoencoder with a
            prior or a bound of its own.
    """
    check_choices(config)
    likelihood = choose_likelihood(config.likelihood, x_var=config.x_var, min_x_var=config.min_x_var)
    x_dim = 784 if config.data == "mnist" else 560
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
    if config.prior == "standard":
        return StandardNormal(z_dim)
    if config.prior == "vamp":
        if k < 1:
            raise ValueError(f"a VampPrior needs at least one component, got n_components={k}")
        return VampPrior(encoder, torch.zeros(k, encoder.in_dim), z_dim, learn_weights=learned)
    kind = MixturePrior if config.prior == "mixture" else MeanOfLogs
    return kind.random(k, z_dim, learn_weights=learned)


def run(
    config: M1Config,
    *,
    seed: int,
    budget: Budget | None = None,
    images: Images | None = None,
    **keeping: Unpack[Keeping],
) -> Run:
    """Train one model and measure it on the test set.

    A VampPrior's pseudo-inputs start as training images drawn by the seed.

    Args:
        config: the settings. seed: of weights, order and noise. budget: None for `Budget.current`.
        images: data already loaded; None loads what the config names.
        keeping: see `experiments.run.Keeping`.

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
    budget = Budget.current() if budget is None else budget
    config = dataclasses.replace(config, steps=config.steps or budget.pick(smoke=60, quick=3000, full=20_000))
    images = load(config) if images is None else images
    images = images.validation(config.validation) if config.validation else images
    device = pick_device()
    torch.manual_seed(seed)
    model = build(config)
    if isinstance(model, VAE) and isinstance(model.prior, VampPrior):
        start_at_images(model.prior, images.x_train)
    model = model.to(device)
    batches = Batches(
        images.x_train, batch_size=config.batch_size, seed=seed, transform=PIXELS[config.pixels], device=device
    )
    measured = objectives.elbo if config.model == "vae" else objectives.reconstruction
    x_test, x_train = (fixed_pixels(x, config.pixels).to(device) for x in (images.x_test, images.x_train))
    if budget is Budget.SMOKE:
        x_test, x_train = x_test[:200], x_train[:200]

    x_curve = x_test[: budget.pick(smoke=200, quick=2000, full=10_000)]

    def evaluate(model: Any) -> dict[str, float]:
        return {f"test_{name}": value.mean for name, value in evaluate_terms(model, x_curve, measured).items()}

    def measure(model: Any) -> dict[str, float]:
        torch.manual_seed(seed)
        metrics = {
            f"{split}_{name}": value.mean
            for split, x in (("test", x_test), ("train", x_train))
            for name, value in evaluate_terms(model, x, measured).items()
            if name != "loss"
        }
        metrics["active_units"] = active_units(model, x_test)
        if config.prior == "mean_of_logs":
            torch.manual_seed(seed)  # the draws of test_elbo_bound, which this one exceeds then
            mended = VAE(model.encoder, model.decoder, model.likelihood, model.prior.mended()).eval()
            metrics["test_mended_elbo_bound"] = evaluate_terms(mended, x_test, objectives.elbo)["elbo_bound"].mean
        if config.model == "vae":
            n_samples = config.eval_samples or budget.pick(smoke=10, quick=200, full=1000)
            metrics.update(
                importance_metrics(model, x_test[: budget.pick(smoke=50, quick=1000, full=10_000)], n_samples)
            )
        return metrics

    return train(
        "m1",
        config,
        model,
        batches,
        update=GradientStep(
            model,
            objective_of(config),
            lr=config.lr,
            bf16=config.bf16,
            compiled=config.compiled,
            decay_steps=config.steps if config.decay else 0,
        ),
        seed=seed,
        budget=budget,
        data=f"{images.source}; {PIXELS_IN_WORDS[config.pixels]}",
        measure=measure,
        evaluate=evaluate,
        **keeping,
    )


PIXELS_IN_WORDS = {"dynamic": "dynamic binarisation, test set binarised once by seed 0", "grey": "grey levels"}


def objective_of(config: M1Config) -> Any:
    """The objective a configuration trains."""
    if config.model == "autoencoder":
        return objectives.reconstruction
    if config.bound == "elbo":
        return partial(objectives.elbo, beta=config.beta)
    return partial({"iwae": objectives.iwae, "dreg": objectives.dreg}[config.bound], n_samples=config.n_samples)


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


def fixed_pixels(x: Tensor, pixels: str) -> Tensor:
    """Test pixels: grey, or binarised once by seed 0 without touching the global random state; uint8 -> float."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PIXELS[pixels](x)


def importance_metrics(model: VAE, x: Tensor, n_samples: int) -> dict[str, float]:
    """Importance-sampled log p(x) and the IWAE bounds below it, as named metrics."""
    bounds = [m for m in (1, 10, 100, 1000) if n_samples % m == 0 and m < n_samples]
    result = importance_log_px(model, x, n_samples=n_samples, bounds=bounds)
    name = "test_importance_log_px"
    return {
        **{f"test_iwae_{m}": values.mean().item() for m, values in result.iwae_bounds.items()},
        name: result.mean.mean,
        f"{name}_standard_error": result.mean.standard_error,
        f"{name}_monte_carlo_error": result.monte_carlo_error,
        f"{name}_median_ess": result.median_ess,
        f"{name}_n_samples": n_samples,
        f"{name}_n_images": len(x),
    }
