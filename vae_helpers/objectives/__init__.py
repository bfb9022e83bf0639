"""Bounds and losses as named per-example terms, in nats: ``*_bound`` is maximised, ``loss`` minimised.

Every objective returns a dict of (B,) tensors, one value per example, with the key ``loss``; the
caller takes one ``.mean()`` over the batch (that is what `training.fit` does). Weights are
keyword-only and never rescaled inside.
"""

from vae_helpers.objectives.bounds import (
    Terms,
    check_batch,
    check_terms,
    dreg,
    elbo,
    iwae,
    log_weights,
    reconstruction,
)
from vae_helpers.objectives.conditional import conditional_elbo
from vae_helpers.objectives.semi_supervised import (
    check_labels,
    classification,
    labelled,
    total_loss,
    unlabelled,
    unlabelled_sampled,
    unlabelled_top,
)
from vae_helpers.objectives.supervised import supervised

__all__ = [
    "Terms",
    "check_batch",
    "check_labels",
    "check_terms",
    "classification",
    "conditional_elbo",
    "dreg",
    "elbo",
    "iwae",
    "labelled",
    "log_weights",
    "reconstruction",
    "supervised",
    "total_loss",
    "unlabelled",
    "unlabelled_sampled",
    "unlabelled_top",
]
