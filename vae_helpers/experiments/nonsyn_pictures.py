"""Traversals of the models of study ``nonsyn``, and the picture that is drawn while one learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data import FactorImages, to_grey
from vae_helpers.evaluation import aggregate_posterior
from vae_helpers.experiments.nonsyn import NonSynConfig, build, run
from vae_helpers.experiments.settings import Study
from vae_helpers.models import VAE

TRAVERSAL = torch.linspace(-3, 3, 9)  # standard deviations


@torch.inference_mode()
def traversals(model: VAE, x: Tensor, *, latents: Sequence[int] | None = None) -> Tensor:
    """Images, their reconstructions, and one latent at a time moved.

    Args:
        model: in evaluation mode. x: images to take moments from, (N, D); the first nine are shown and the first one
            is the start of the traversals. latents: which, a row each; None for all, the largest KL first.

    Returns:
        (2 + rows, 9, D): the images, their reconstructions, and a latent from -3 to 3 standard deviations a row.
    """
    moments = aggregate_posterior(model, x)
    q_mu, _ = model.encode(x[: len(TRAVERSAL)])
    if latents is None:
        latents = moments.kl.argsort(descending=True).tolist()
    codes = moments.traversal(q_mu[0], latents, TRAVERSAL)
    moved = model.decode_mean(codes).view(len(latents), len(TRAVERSAL), -1)
    return torch.cat([x[None, : len(TRAVERSAL)], model.decode_mean(q_mu)[None], moved])


def picture(config: NonSynConfig) -> Callable[[VAE], np.ndarray]:
    """`traversals` of the study's images as one picture, (H, W) or (H, W, 3), 0 to 1: what to watch while it learns.

    The ten latents of most KL at the time, the largest first.
    """
    from vae_helpers.plotting import tile  # with seaborn, which takes two seconds to import

    images = config.load()
    if isinstance(images, FactorImages):
        x = images.pixels(images.grid.sample(200, generator=torch.Generator().manual_seed(0)))
    else:
        x = to_grey(images.x_test[:200])
    shape: Any = images.shape[1:] if images.shape[0] == 1 else images.shape

    def draw(model: VAE) -> np.ndarray:
        rows = traversals(model, x.to(next(model.parameters()).device))[:12]  # images, reconstructions, ten latents
        return tile(rows.flatten(0, 1).cpu(), shape, n_columns=len(TRAVERSAL), between=0.85)

    return draw


STUDY = Study(
    NonSynConfig,
    "images without labels: Non-Synergistic VAE, beta-VAE, FactorVAE, beta-TCVAE (notebooks 08, 09, 14)",
    build,
    run,
    picture,
)
