"""Numbers about a trained model: bounds, log p(x) and total correlation in nats, collapse, accuracy, samples.

Disentanglement metrics are in the package `disentanglement` below this one.
"""

from vae_helpers.evaluation.bounds import (
    Estimate,
    ImportanceEstimate,
    conditional_importance_log_px,
    evaluate_terms,
    importance_log_px,
    importance_metrics,
    quadrature_log_px,
    term_means,
)
from vae_helpers.evaluation.classification import Accuracy, accuracy, class_probs, probe_accuracy
from vae_helpers.evaluation.clustering import Clustering, clustering, usage_entropy
from vae_helpers.evaluation.collapse import AggregatePosterior, active_units, aggregate_posterior
from vae_helpers.evaluation.correlation import KLTerms, gaussian_total_correlation, kl_terms
from vae_helpers.evaluation.samples import conditional_samples, features_of, frechet_distance

__all__ = [
    "Accuracy",
    "AggregatePosterior",
    "Clustering",
    "Estimate",
    "ImportanceEstimate",
    "KLTerms",
    "accuracy",
    "active_units",
    "aggregate_posterior",
    "class_probs",
    "clustering",
    "conditional_importance_log_px",
    "conditional_samples",
    "evaluate_terms",
    "features_of",
    "frechet_distance",
    "gaussian_total_correlation",
    "importance_log_px",
    "importance_metrics",
    "kl_terms",
    "probe_accuracy",
    "quadrature_log_px",
    "term_means",
    "usage_entropy",
]
