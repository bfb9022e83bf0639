"""Arrays to Axes, Figures and GIFs. Nothing here knows a model; arrays may be numpy or CPU tensors."""

from vae_helpers.plotting.activations import plot_mean_activations
from vae_helpers.plotting.axes import plot_components, plot_curves, plot_latents
from vae_helpers.plotting.grids import ImageShape, normal_grid, plot_grid, plot_traversals, tile
from vae_helpers.plotting.labelled import plot_labelled_curves
from vae_helpers.plotting.pixels import Backdrop, axes_png, figure_png, save_gif, to_png
from vae_helpers.plotting.style import CLASS_PALETTE, DPI, use_style

__all__ = [
    "CLASS_PALETTE",
    "DPI",
    "Backdrop",
    "ImageShape",
    "axes_png",
    "figure_png",
    "normal_grid",
    "plot_components",
    "plot_curves",
    "plot_grid",
    "plot_labelled_curves",
    "plot_latents",
    "plot_mean_activations",
    "plot_traversals",
    "save_gif",
    "tile",
    "to_png",
    "use_style",
]
