"""Slider panels for JupyterLab: move a latent, see the picture.

Every panel carries a still picture in its notebook output, so a page without a kernel (GitHub,
nbconvert, a Lab that has not run it) shows something that means the same.
"""

from vae_helpers.explorer.comparison import ComparisonExplorer
from vae_helpers.explorer.components import ComponentExplorer
from vae_helpers.explorer.factors import FactorExplorer
from vae_helpers.explorer.labels import LabelExplorer
from vae_helpers.explorer.latents import LatentExplorer
from vae_helpers.explorer.live import LiveView
from vae_helpers.explorer.pad import LatentPad, Pad
from vae_helpers.explorer.panel import Panel, SliderPanel

__all__ = [
    "ComparisonExplorer",
    "ComponentExplorer",
    "FactorExplorer",
    "LabelExplorer",
    "LatentExplorer",
    "LatentPad",
    "LiveView",
    "Pad",
    "Panel",
    "SliderPanel",
]
