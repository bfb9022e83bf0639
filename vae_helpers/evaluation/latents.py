"""Latents one by one: their KLs and the bound, what comes through the noise of a code, what rotation moves."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers import objectives
from vae_helpers.data import FactorGrid, FactorImages
from vae_helpers.distributions import sample_normal
from vae_helpers.evaluation.collapse import ACTIVE_VARIANCE, AggregatePosterior, aggregate_posterior
from vae_helpers.evaluation.correlation import gaussian_total_correlation
from vae_helpers.evaluation.disentanglement import factor_r2, mean_activations
from vae_helpers.models import VAE


@torch.inference_mode()
def measure_bound(model: VAE, x: Tensor, *, omega: float = 0.9, batch_size: int = 500) -> dict[str, float]:
    """The bound and its parts.

    Args:
        model: in evaluation mode. x: images, (N, D) float. omega: of the greedy choice.

    Returns:
        nats per image: ``test_elbo_bound``, ``test_log_px``, ``test_kl``, ``kl_latent_1`` ... from the largest;
        ``synergy_loss``, KL of the latents that the greedy choice would leave out, ``n_kept`` how many it keeps;
        ``active_units`` (variance of the mean over 0.01); ``gaussian_tc_mean`` and ``gaussian_tc_sampled``, total
        correlation of the Gaussian with the covariance of the means and of samples, if x has more images than latents.
    """
    log_px, means, logvars, samples = [], [], [], []
    for part in x.split(batch_size):
        q_mu, q_logvar = model.encode(part)
        z = sample_normal(q_mu, q_logvar)
        log_px.append(model.likelihood.log_prob(part, model.decode(z)).cpu().double())
        means.append(q_mu.cpu())
        logvars.append(q_logvar.cpu())
        samples.append(z.cpu())
    moments = AggregatePosterior.of(torch.cat(means), torch.cat(logvars))
    bound, kl = torch.cat(log_px).mean().item(), moments.kl.sum().item()
    keep = objectives.greedy_subset(moments.kl, omega=omega)
    ordered = moments.kl.sort(descending=True).values.tolist()
    return {
        "test_elbo_bound": bound - kl,
        "test_log_px": bound,
        "test_kl": kl,
        **{f"kl_latent_{j + 1}": value for j, value in enumerate(ordered)},
        "synergy_loss": moments.kl[~keep].sum().item(),
        "n_kept": keep.sum().item(),
        "active_units": moments.active_units(),
        **(
            {}
            if len(x) <= model.z_dim
            else {  # a covariance needs more images than latents
                "gaussian_tc_mean": gaussian_total_correlation(torch.cat(means)),
                "gaussian_tc_sampled": gaussian_total_correlation(torch.cat(samples)),
            }
        ),
    }


@torch.inference_mode()
def sampled_r2(model: VAE, x: Tensor, classes: Tensor, grid: FactorGrid, *, batch_size: int = 500) -> dict[str, float]:
    r"""R^2 of each factor from samples of the code, linear: how much comes through the noise.

    .. math:: R^2_f = 1 - \frac{\sum (v_f - \hat v_f(z))^2}{\sum (v_f - \bar v_f)^2}, \qquad z \sim q(z \mid x)

    The R^2 of posterior means does not ask how wide the posterior is: a mean that moves by a hundredth of its noise
    tells a factor that hardly any decoder gets to see.

    Args:
        model: in evaluation mode. x: images, (N, D) float; the first half fits, the second tests. classes: of their
            factors, (N, F) int64. grid: the factors. batch_size: images encoded at once.

    Returns:
        ``sampled_r2_FACTOR``, at most 1, of each factor that varies; one draw an image.

    Raises:
        ValueError: as `disentanglement.factor_r2`, which does the regression.
    """
    codes = [sample_normal(*model.encode(part)).cpu() for part in x.split(batch_size)]
    found = factor_r2(torch.cat(codes), classes.cpu(), grid, n_train=len(x) // 2)
    return {f"sampled_r2_{name}": value for name, value in zip(found.names, found.r2.tolist(), strict=True)}


@torch.inference_mode()
def rotation_share(model: VAE, x: Tensor, images: FactorImages, *, seed: int, n_draws: int = 200) -> dict[str, float]:
    r"""How much of a latent is rotation: the largest share of an active latent's variance that it explains.

    .. math:: \max_{j\ \text{active}}\;
       \frac{E_s \operatorname{Var}_\alpha E[\mu_j \mid s, \alpha]}{\operatorname{Var} \mu_j}

    Within a shape s, because an angle means another thing for each: an ellipse looks the same after half a turn.

    Args:
        model: in evaluation mode. x: images for the variances, (N, D) float. images: the data set.
        seed: of the draws of the other factors. n_draws: how many for each shape and angle.

    Returns:
        ``rotation_share``, from 0 to 1 but for about 1 / ``n_draws`` by chance; nothing for images that do not turn.
    """
    grid = images.grid
    if "orientation" not in grid.names or grid.sizes[grid.names.index("orientation")] == 1:
        return {}

    def encoder(x: Tensor) -> Tensor:
        return model.encode(x)[0]

    given = ("shape", "orientation")
    means = mean_activations(encoder, images, given, seed=seed, n_draws=n_draws, device=x.device)
    variance = aggregate_posterior(model, x).mu_variance.cpu()
    share = means.var(1, unbiased=False).mean(0) / variance
    return {"rotation_share": torch.where(variance > ACTIVE_VARIANCE, share, 0.0).max().item()}
