"""Training: seeds and device, budgets, the loop, its history and its checkpoints."""

from vae_helpers.training.budget import Budget, Setup, pick_device, setup
from vae_helpers.training.checkpoint import CheckpointError
from vae_helpers.training.history import History
from vae_helpers.training.loop import NonFiniteLossError, fit
from vae_helpers.training.updates import GradientStep, SemiSupervisedStep, Update

__all__ = [
    "Budget",
    "CheckpointError",
    "GradientStep",
    "History",
    "NonFiniteLossError",
    "SemiSupervisedStep",
    "Setup",
    "Update",
    "fit",
    "pick_device",
    "setup",
]
