"""The collection's look."""

from __future__ import annotations

import matplotlib.pyplot as plt
import seaborn as sns

CLASS_PALETTE = sns.color_palette("tab10", 10)  # one colour a class, the same in every figure
DPI = 110


def use_style() -> None:
    """The collection's look: white grid-free axes, thin lines, PNG at 110 dpi."""
    sns.set_theme(style="ticks", context="notebook", font_scale=0.85)
    plt.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 1.4,
            "legend.frameon": False,
        }
    )
