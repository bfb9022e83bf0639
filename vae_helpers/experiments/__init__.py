"""Studies: a frozen configuration and ``run(config, seed=...)`` each, for notebooks, tests and clusters alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from vae_helpers.experiments import (
    conditional,
    gaussians,
    gmvae,
    judge,
    m1,
    m2,
    nonsyn,
    nonsyn_pictures,
    supervised,
    warm_start,
)
from vae_helpers.experiments.released import Released, load_released, released_names
from vae_helpers.experiments.run import Run


@dataclass(frozen=True)
class Study:
    """One entry of the collection.

    Args:
        summary: one line for ``list``. config: the frozen dataclass of its settings.
        build: config -> an untrained model. run: (config, seed=, ...) -> `Run`.
        picture: config -> (model -> (H, W) or (H, W, 3), 0 to 1), to watch a model learn; None for none.
    """

    summary: str
    config: type
    build: Callable[[Any], nn.Module]
    run: Callable[..., Run]
    picture: Callable[[Any], Callable[[Any], np.ndarray]] | None = None


STUDIES = {
    "gaussians": Study(
        "AE and VAE with a 1-D code on two Gaussians; linear-Gaussian VAEs (notebook 01)",
        gaussians.GaussiansConfig,
        gaussians.build,
        gaussians.run,
    ),
    "m1": Study(
        "AE and VAE on MNIST or small faces: likelihoods, priors, bounds (notebooks 02, 06)",
        m1.M1Config,
        m1.build,
        m1.run,
    ),
    "m2": Study("digits with few labels: M2, M1+M2, ADGM and baselines (notebook 03)", m2.M2Config, m2.build, m2.run),
    "gmvae": Study("clusters of digits without labels (notebook 06)", gmvae.GMVAEConfig, gmvae.build, gmvae.run),
    "judge": Study("the classifier that reads generated digits", judge.JudgeConfig, judge.build, judge.run),
    "conditional": Study(
        "conditional VAEs: decoder variance, where the label enters (notebooks 04, 05)",
        conditional.ConditionalConfig,
        conditional.build,
        conditional.run,
    ),
    "supervised": Study(
        "dSprites: encoder and decoder taught apart by the true factors (notebook 07)",
        supervised.SupervisedConfig,
        supervised.build,
        supervised.run,
    ),
    "warm_start": Study(
        "dSprites: unsupervised learning from the supervised solution or from random weights (notebook 07)",
        warm_start.WarmStartConfig,
        warm_start.build,
        warm_start.run,
    ),
    "nonsyn": Study(
        "dSprites without labels: Non-Synergistic VAE, beta-VAE, FactorVAE, beta-TCVAE (notebook 08)",
        nonsyn.NonSynConfig,
        nonsyn.build,
        nonsyn.run,
        nonsyn_pictures.picture,
    ),
}

__all__ = ["STUDIES", "Released", "Run", "Study", "load_released", "released_names"]
