"""Numbers about a trained model: bounds and log p(x) in nats per example, collapse, accuracy, samples."""

from vae_helpers.evaluation.bounds import (
    Estimate,
    ImportanceEstimate,
    conditional_importance_log_px,
    evaluate_terms,
    importance_log_px,
    quadrature_log_px,
)
from vae_helpers.evaluation.classification import Accuracy, accuracy, class_probs, probe_accuracy
from vae_helpers.evaluation.clustering import Clustering, clustering
from vae_helpers.evaluation.collapse import AggregatePosterior, active_units, aggregate_posterior
from vae_helpers.evaluation.samples import conditional_samples, features_of, frechet_distance

__all__ = [
    "Accuracy",
    "AggregatePosterior",
    "Clustering",
    "Estimate",
    "ImportanceEstimate",
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
    "importance_log_px",
    "probe_accuracy",
    "quadrature_log_px",
]
