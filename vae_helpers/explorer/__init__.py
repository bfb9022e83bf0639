"""Controls over what a model decodes, and a live view of a training, in JupyterLab."""

from vae_helpers.explorer.explorers import (
    ComparisonExplorer,
    ComponentExplorer,
    Explorer,
    FactorExplorer,
    LabelExplorer,
    LatentExplorer,
    LatentPad,
)
from vae_helpers.explorer.live import LiveView
from vae_helpers.explorer.panel import Panel, SliderPanel

__all__ = [
    "ComparisonExplorer",
    "ComponentExplorer",
    "Explorer",
    "FactorExplorer",
    "LabelExplorer",
    "LatentExplorer",
    "LatentPad",
    "LiveView",
    "Panel",
    "SliderPanel",
]
