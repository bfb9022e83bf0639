"""Learning with the true code at hand; see the package for the conventions."""

from __future__ import annotations

from torch import Tensor

from vae_helpers.distributions import log_normal
from vae_helpers.models import VAE
from vae_helpers.objectives.bounds import Terms, check_batch


def supervised(model: VAE, x: Tensor, z: Tensor) -> Terms:
    r"""Decoder and encoder taught apart by the true code, :math:`\log p(x|z) + \log q(z|x)`.

    The decoder sees true codes only and the encoder has no part in its term, so each learns as if alone.

    Args:
        model: a `VAE`. x: a batch, (B, D), in the likelihood's range. z: its true codes, (B, Z).

    Returns:
        dict of (B,), nats, not reduced: ``log_px`` = log p(x | z), ``log_qz`` = log q(z | x), ``loss`` = -(their sum).

    Raises:
        ValueError: if x is no batch of flat examples, or z not one code of the model's width an example.

    Source: the full supervision of notebook 07's write-up; its q has a fixed variance, so that only the mean learns.
    """
    check_batch(x)
    if z.shape != (len(x), model.z_dim):
        raise ValueError(f"z must be ({len(x)}, {model.z_dim}), one code an example, got {tuple(z.shape)}")
    log_px = model.likelihood.log_prob(x, model.decode(z))
    log_qz = log_normal(z, *model.encode(x))
    return {"loss": -(log_px + log_qz), "log_px": log_px, "log_qz": log_qz}
