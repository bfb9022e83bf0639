"""What the studies on dSprites share: nets, codes, and what a code does to the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vae_helpers.data import FactorCode, FactorImages, load_dsprites
from vae_helpers.data.dsprites import GRID, SHAPE, SHAPES, SMALL_SHAPE
from vae_helpers.distributions import sample_normal
from vae_helpers.evaluation.disentanglement import all_metrics, factor_r2, factor_vae, mig
from vae_helpers.evaluation.disentanglement.codes import encode_classes
from vae_helpers.experiments.settings import Settings
from vae_helpers.likelihoods import Bernoulli, Likelihood
from vae_helpers.models import VAE
from vae_helpers.nets import ConvDecoder, ConvEncoder, FixedVariance
from vae_helpers.priors import Prior
from vae_helpers.training import Budget

CodeName = Literal["line", "circle"]
Source = Literal["rendered", "official"]
CODES = {"line": FactorCode(GRID), "circle": FactorCode(GRID, circular=("orientation",))}
TINY_SD = 1e-4 / 3  # of q(z | x) in the write-up
MEASURED_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class CodeSettings(Settings):
    """Settings of the studies that know the factors of dSprites."""

    DATA: ClassVar = ("source",)

    code: CodeName = "line"
    """line: orientation is one latent from -0.9 to 0.9; circle: two latents on a circle"""
    source: Source = "rendered"
    """rendered: images drawn by a formula; official: the images of the official file"""
    batch_size: int = 64
    """number of images in a step"""

    def load(self) -> Any:
        """The images that the settings name; see `images_of`."""
        return images_of(self.source)


@cache
def images_of(source: Source) -> FactorImages:
    """dSprites, opened once; see `load_dsprites`."""
    return load_dsprites(source)


def build_vae(
    prior: Prior, sd: Tensor | None = None, *, small: bool = False, likelihood: Likelihood | None = None
) -> VAE:
    """Convolutional encoder and decoder of binary images, 128 hidden units: of 64x64 pixels with 32-32-64-64 channels.

    Args:
        prior: p(z). sd: fixed standard deviations of q(z | x), (Z,); None for an encoder that gives its own.
        small: for the 32x32 pixels of the small dSprites, a layer less: 16-32-32 channels.
        likelihood: p(x | z); None for the Bernoulli.
    """
    shape, channels = (SMALL_SHAPE, (16, 32, 32)) if small else (SHAPE, (32, 32, 64, 64))
    net = ConvEncoder(shape, 2 * prior.z_dim if sd is None else prior.z_dim, channels=channels)
    encoder: nn.Module = net if sd is None else FixedVariance(net, sd)
    p_x = Bernoulli() if likelihood is None else likelihood
    decoder = ConvDecoder(prior.z_dim, shape, channels=channels, n_params=p_x.n_params)
    return VAE(encoder, decoder, p_x, prior)


def draw(images: FactorImages, n: int, *, seed: int, device: torch.device) -> Tensor:
    """Classes of ``n`` images to measure on, (n, F); by a seed of their own, far from those of training streams."""
    return images.grid.sample(n, generator=torch.Generator().manual_seed(MEASURED_SEED + seed)).to(device)


@torch.inference_mode()
def measure_codes(
    model: VAE, code: FactorCode, images: FactorImages, classes: Tensor, *, batch_size: int = 500
) -> dict[str, float]:
    """The bound, and where its reconstruction term comes from.

    Args:
        model: in evaluation mode; its latents are those of ``code``. classes: of the images to use, (N, F).

    Returns:
        nats per image: ``test_elbo_bound``, ``test_log_px``, ``test_kl`` (z drawn from q(z | x));
        ``true_code_log_px``, ``mean_code_log_px`` (of the mean m(x)) and ``mended_code_log_px`` (m(x) with the true
        orientation), also ``..._square``, ``..._ellipse`` and ``..._heart``; on the scale of the code ``rmse_LATENT``
        and ``rmse_orientation_SHAPE`` (over both latents of a circular one, root mean squared length), and
        ``direct_r2_LATENT`` = 1 - mse / variance, of the latent taken as it is.
    """
    rows: dict[str, list[Tensor]] = {}
    orientation = code.latents_of("orientation")
    for part in classes.split(batch_size):
        x, z = images.pixels(part), code.of(part)
        q_mu, q_logvar = model.encode(x)
        sampled = sample_normal(q_mu, q_logvar)
        mended = q_mu.clone()
        mended[:, orientation] = z[:, orientation]
        codes = {"true": z, "mean": q_mu, "mended": mended, "sampled": sampled}
        found = {name: model.likelihood.log_prob(x, model.decode(at)) for name, at in codes.items()}
        found |= {"kl": model.prior.kl(q_mu, q_logvar, sampled), "squared_error": (q_mu - z) ** 2, "z": z}
        for name, value in found.items():
            rows.setdefault(name, []).append(value.cpu())
    values = {name: torch.cat(parts).double() for name, parts in rows.items()}
    log_px, kl = values["sampled"], values["kl"]
    metrics = {"test_elbo_bound": log_px - kl, "test_log_px": log_px, "test_kl": kl}
    shape = classes[:, images.grid.names.index("shape")].cpu()
    for name in ("true", "mean", "mended"):
        metrics[f"{name}_code_log_px"] = values[name]
        metrics |= {f"{name}_code_log_px_{word}": values[name][shape == k] for k, word in enumerate(SHAPES)}
    numbers = {name: value.mean().item() for name, value in metrics.items()}
    squared, variance = values["squared_error"], values["z"].var(0, unbiased=False)
    for j, latent in enumerate(code.latents):
        numbers[f"rmse_{latent}"] = squared[:, j].mean().sqrt().item()
        numbers[f"direct_r2_{latent}"] = (1 - squared[:, j].mean() / variance[j]).item()
    turned = squared[:, orientation].sum(1)
    for k, word in enumerate(SHAPES):
        numbers[f"rmse_orientation_{word}"] = turned[shape == k].mean().sqrt().item()
    return numbers


def measure_along(
    model: VAE, code: FactorCode, images: FactorImages, classes: Tensor, *, seed: int
) -> dict[str, float]:
    """`measure_codes` and a few metrics on few images, for curves.

    Returns:
        also ``curve_factor_vae`` (60 votes, standard error at most 0.065), ``curve_mig`` and ``curve_r2_FACTOR``
        (linear regression from all latents, on half of the images).
    """

    return measure_codes(model, code, images, classes) | curve_metrics(model, images, classes, seed=seed)


def curve_metrics(model: VAE, images: FactorImages, classes: Tensor, *, seed: int) -> dict[str, float]:
    """The metrics of `measure_along`, of any model of images with factors."""

    def encoder(x: Tensor) -> Tensor:
        return model.encode(x)[0]

    codes = encode_classes(encoder, images, classes, device=classes.device)
    votes = {"n_train": 60, "n_test": 60, "batch_size": 32, "n_variance": 500}
    regression = factor_r2(codes, classes.cpu(), images.grid, n_train=len(classes) // 2)
    return {
        "curve_factor_vae": factor_vae(encoder, images, seed=seed, device=classes.device, **votes).score,
        "curve_mig": mig(codes, classes.cpu(), images.grid).score,
        **{f"curve_r2_{f}": value for f, value in zip(regression.names, regression.r2.tolist(), strict=True)},
    }


def measure_metrics(
    model: VAE, images: FactorImages, *, seed: int, budget: Budget, device: torch.device
) -> dict[str, float]:
    """`disentanglement.all_metrics` of the posterior's mean, in fewer votes and with random forests for DCI.

    At full 200 votes train and 200 test, with a standard error of at most 0.035.
    """
    n_votes = budget.pick(smoke=20, quick=100, full=200)
    return all_metrics(
        lambda x: model.encode(x)[0],
        images,
        seed=seed,
        n_train=budget.pick(smoke=80, quick=2000, full=10_000),
        n_test=budget.pick(smoke=40, quick=1000, full=5000),
        n_train_votes=n_votes,
        n_test_votes=n_votes,
        n_variance=budget.pick(smoke=50, quick=2000, full=10_000),
        batch_size=budget.pick(smoke=4, quick=64, full=64),
        predictor="random_forest",
        regressor="neighbours",
        device=device,
    )


def rmse_of(metrics: dict[str, float], latents: Sequence[str]) -> Tensor:
    """The most likely fixed standard deviations of q(z | x): the root mean squared errors of the means, (Z,)."""
    return torch.tensor([metrics[f"rmse_{latent}"] for latent in latents])
