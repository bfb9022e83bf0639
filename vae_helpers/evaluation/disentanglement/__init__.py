"""Disentanglement metrics: votes and pairs choose their own images; the others take codes (N, Z) and classes (N, F)."""

from vae_helpers.evaluation.disentanglement.activations import mean_activations
from vae_helpers.evaluation.disentanglement.codes import Encoder, Score, draw_codes, encode_classes
from vae_helpers.evaluation.disentanglement.factor_errors import at_all_values, error_without
from vae_helpers.evaluation.disentanglement.importance import DCI, dci
from vae_helpers.evaluation.disentanglement.information import InformationGap, Modularity, mig, modularity
from vae_helpers.evaluation.disentanglement.pairs import PairScore, beta_vae
from vae_helpers.evaluation.disentanglement.regression import Explicitness, FactorR2, explicitness, factor_r2
from vae_helpers.evaluation.disentanglement.separation import Separation, sap
from vae_helpers.evaluation.disentanglement.suite import all_metrics
from vae_helpers.evaluation.disentanglement.votes import VoteScore, factor_vae, one_factor_varied

__all__ = [
    "DCI",
    "Encoder",
    "Explicitness",
    "FactorR2",
    "InformationGap",
    "Modularity",
    "PairScore",
    "Score",
    "Separation",
    "VoteScore",
    "all_metrics",
    "at_all_values",
    "beta_vae",
    "dci",
    "draw_codes",
    "encode_classes",
    "error_without",
    "explicitness",
    "factor_r2",
    "factor_vae",
    "mean_activations",
    "mig",
    "modularity",
    "one_factor_varied",
    "sap",
]
