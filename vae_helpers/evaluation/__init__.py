"""Numbers about a trained model: bounds, log p(x), collapse. All in nats per example."""

from vae_helpers.evaluation.bounds import (
    Estimate,
    ImportanceEstimate,
    evaluate_terms,
    importance_log_px,
    quadrature_log_px,
)
from vae_helpers.evaluation.collapse import AggregatePosterior, active_units, aggregate_posterior

__all__ = [
    "AggregatePosterior",
    "Estimate",
    "ImportanceEstimate",
    "active_units",
    "aggregate_posterior",
    "evaluate_terms",
    "importance_log_px",
    "quadrature_log_px",
]
