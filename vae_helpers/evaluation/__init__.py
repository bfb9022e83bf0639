"""Numbers about a trained model: bounds and log p(x) in nats per example, collapse, accuracy."""

from vae_helpers.evaluation.bounds import (
    Estimate,
    ImportanceEstimate,
    evaluate_terms,
    importance_log_px,
    quadrature_log_px,
)
from vae_helpers.evaluation.classification import Accuracy, accuracy, class_probs, probe_accuracy
from vae_helpers.evaluation.collapse import AggregatePosterior, active_units, aggregate_posterior

__all__ = [
    "Accuracy",
    "AggregatePosterior",
    "Estimate",
    "ImportanceEstimate",
    "accuracy",
    "active_units",
    "aggregate_posterior",
    "class_probs",
    "evaluate_terms",
    "importance_log_px",
    "probe_accuracy",
    "quadrature_log_px",
]
