"""Training: seeds and device, budgets, the loop, its history and its checkpoints."""

from vae_helpers.training.budget import Budget, Setup, pick_device, setup
from vae_helpers.training.checkpoint import CheckpointError
from vae_helpers.training.history import History
from vae_helpers.training.loop import GradientStep, NonFiniteLossError, Update, fit

__all__ = [
    "Budget",
    "CheckpointError",
    "GradientStep",
    "History",
    "NonFiniteLossError",
    "Setup",
    "Update",
    "fit",
    "pick_device",
    "setup",
]
