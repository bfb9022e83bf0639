"""Training: seeds and device, budgets, the loop, its history and its checkpoints."""

from vae_helpers.training.budget import Budget, Setup, pick_device, setup
from vae_helpers.training.checkpoint import CheckpointError
from vae_helpers.training.history import History
from vae_helpers.training.loop import NonFiniteLossError, Watch, fit
from vae_helpers.training.tensorboard import TensorBoard
from vae_helpers.training.two_steps import FactorVAEStep, NonSynergisticStep
from vae_helpers.training.updates import CapacityStep, GradientStep, SemiSupervisedStep, Update, WarmUpStep

__all__ = [
    "Budget",
    "CapacityStep",
    "CheckpointError",
    "FactorVAEStep",
    "GradientStep",
    "History",
    "NonFiniteLossError",
    "NonSynergisticStep",
    "SemiSupervisedStep",
    "Setup",
    "TensorBoard",
    "Update",
    "WarmUpStep",
    "Watch",
    "fit",
    "pick_device",
    "setup",
]
