"""Tables of study ``m1`` (notebook 02): where the codes lie, how runs end, and bounds with more and more samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vae_helpers.evaluation import aggregate_posterior, importance_log_px
from vae_helpers.experiments.run import Run


def code_table(runs: Mapping[str, Run], x: Tensor) -> pd.DataFrame:
    """Test log p(x | z), KL and bound of runs, nats per example, with the scales of codes and noise.

    Args:
        runs: heading of a row -> a run of study ``m1``, an autoencoder's too. x: (N, D), the examples that are encoded.

    Returns:
        a row per run. "sd of codes" is the standard deviation of a latent under the aggregate posterior q(z), averaged
        over latents; "noise / sd" divides the median posterior standard deviation by it (0 for an autoencoder).
    """
    rows = {}
    for name, run in runs.items():
        model: Any = run.model
        with torch.inference_mode():
            code = model.encode(x.to(next(model.parameters()).device))
        q_sd = (0.5 * code[1]).exp() if isinstance(code, tuple) else torch.zeros(1)
        sd = aggregate_posterior(model, x).sd.mean().item()
        rows[name] = {
            "log p(x | z)": run.metrics["test_log_px"],
            "KL": run.metrics.get("test_kl", np.nan),
            "ELBO": run.metrics.get("test_elbo_bound", np.nan),
            "sd of codes": sd,
            "noise / sd": q_sd.median().item() / sd,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def is_broken(losses: np.ndarray) -> bool:
    """True if a loss is not finite, or if one after the first is worse than the first."""
    return not np.isfinite(losses).all() or bool(losses[1:].max(initial=-np.inf) > losses[0])


def broken_table(losses: Mapping[str, Sequence[np.ndarray]]) -> pd.DataFrame:
    """How many runs broke (`is_broken`), of how many, and the median over runs of the last loss.

    Args:
        losses: heading of a row -> the losses along each run, (T,).
    """
    rows = {
        name: {
            "broken runs": sum(map(is_broken, runs)),
            "runs": len(runs),
            "median of the last losses": float(np.median([run[-1] for run in runs])),
        }
        for name, runs in losses.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def ladder_table(models: Mapping[str, Any], x: Tensor, *, n_samples: int, seed: int = 0) -> pd.DataFrame:
    """The IWAE bound with 1, 10, 100 and ``n_samples`` samples per image, nats per example, on the same images.

    Args:
        models: heading of a row -> a `VAE`. x: (N, D). n_samples: of the last bound, above 100. seed: of the samples.

    Returns:
        a row per model, with the standard error over images, the Monte Carlo error of the last bound and the median
        effective sample size.
    """
    if n_samples < 100:
        raise ValueError(f"n_samples = {n_samples}: the ladder has bounds with up to 100 samples, so take 100 or more")
    rows = {}
    for name, model in models.items():
        torch.manual_seed(seed)
        found = importance_log_px(model, x, n_samples=n_samples, bounds=(1, 10, 100))
        rows[name] = {f"{k:,} sample{'s' * (k > 1)}": value.mean().item() for k, value in found.iwae_bounds.items()} | {
            f"{n_samples:,} samples": found.mean.mean,
            "± over images": found.mean.standard_error,
            "± over samples": found.monte_carlo_error,
            "median ESS": found.median_ess,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
