"""The bound of a conditional VAE."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_helpers.models import ConditionalVAE
from vae_helpers.objectives.bounds import Terms, check_batch, elbo
from vae_helpers.objectives.semi_supervised import check_labels


def conditional_elbo(
    model: ConditionalVAE, x: Tensor, y: Tensor, *, beta: float = 1.0, label_dropout: float = 0.0
) -> Terms:
    r"""One-sample bound on log p(x | y), :math:`E_q[\log p(x|y,z)] - \mathrm{KL}[q(z|x,y) \| p(z)]`.

    Args:
        model: a `ConditionalVAE`. x: a batch, (B, D). y: labels, (B,) int64, 0 <= y < K.
        beta: weight of the KL in ``loss`` only, >= 0; the reported bound is always the true one.
        label_dropout: probability, 0 to 1, that an example goes without its label (the zero vector, in encoder and
            decoder alike); then the terms are of the bound on log p(x | no label).

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``elbo_bound``, ``loss`` as `elbo`.

    Raises:
        ValueError: for beta < 0, a probability out of range, labels out of range or x that is no flat batch.

    Source: Sohn et al. 2015, equation 4; label dropout: Ho & Salimans 2022, algorithm 1.
    """
    check_batch(x)
    check_labels(y, batch_size=len(x), n_classes=model.n_classes)
    if not 0 <= label_dropout <= 1:
        raise ValueError(f"label_dropout must be a probability, 0 to 1, got {label_dropout}")
    one_hot = model.one_hot(y).to(x.dtype)
    if label_dropout:
        one_hot = one_hot * (torch.rand_like(one_hot[:, :1]) >= label_dropout)
    return elbo(model.given(one_hot), x, beta=beta)
