"""Bounds and losses as named per-example terms, in nats: ``*_bound`` is maximised, ``loss`` minimised.

Every objective returns a dict of (B,) tensors, one value per example, with the key ``loss``; the
caller takes one ``.mean()`` over the batch (that is what `training.fit` does). Weights are
keyword-only and never rescaled inside.
"""

from vae_helpers.objectives.bounds import (
    Terms,
    capacity_elbo,
    check_batch,
    check_terms,
    check_weights,
    dreg,
    elbo,
    iwae,
    log_weights,
    reconstruction,
)
from vae_helpers.objectives.choice import choose_objective, register_objective
from vae_helpers.objectives.conditional import conditional_elbo
from vae_helpers.objectives.non_synergistic import masked_elbo, synergy
from vae_helpers.objectives.semi_supervised import (
    check_labels,
    classification,
    labelled,
    total_loss,
    unlabelled,
    unlabelled_sampled,
    unlabelled_top,
)
from vae_helpers.objectives.subsets import descending_subset, greedy_subset, random_subset
from vae_helpers.objectives.supervised import supervised
from vae_helpers.objectives.total_correlation import (
    beta_tcvae,
    discrimination,
    factor_vae,
    minibatch_log_weights,
    permuted,
)

__all__ = [
    "Terms",
    "beta_tcvae",
    "capacity_elbo",
    "check_batch",
    "check_labels",
    "check_terms",
    "check_weights",
    "choose_objective",
    "classification",
    "conditional_elbo",
    "descending_subset",
    "discrimination",
    "dreg",
    "elbo",
    "factor_vae",
    "greedy_subset",
    "iwae",
    "labelled",
    "log_weights",
    "masked_elbo",
    "minibatch_log_weights",
    "permuted",
    "random_subset",
    "reconstruction",
    "register_objective",
    "supervised",
    "synergy",
    "total_loss",
    "unlabelled",
    "unlabelled_sampled",
    "unlabelled_top",
]
