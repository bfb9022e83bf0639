"""Several conditional models under the same buttons and sliders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vae_helpers.explorer.labels import LabelExplorer, enlarged
from vae_helpers.explorer.panel import SliderPanel
from vae_helpers.models import ConditionalVAE
from vae_helpers.plotting import ImageShape, figure_png, plot_grid


class ComparisonExplorer(SliderPanel):
    """Label buttons and latent sliders that move several models at once, their pictures side by side.

    Every model shows original, reconstruction and the edited code under the chosen label, and below them the
    edited code under all labels. Slider j moves the j-th most informative latent of each model away from
    its code of the chosen example, in standard deviations of that latent: 0 is the code itself.

    Args:
        models: name -> a trained `ConditionalVAE`, in evaluation mode, with the same number of classes.
        x: example images, (N, D) float, N >= 2. y: their labels, (N,) int64. shape, classes: as `LabelExplorer`.
        n_sliders: at most this many. limit: of the sliders. scale: enlargement.

    Raises:
        ValueError: for no models, or as `LabelExplorer`.
    """

    TITLE = 22  # pixels of the enlarged picture above each model
    GAP = 24

    def __init__(
        self,
        models: Mapping[str, ConditionalVAE],
        x: Tensor,
        y: Tensor,
        *,
        shape: ImageShape,
        classes: Sequence[str] | None = None,
        n_sliders: int = 6,
        limit: float = 3.0,
        scale: int = 1,
    ) -> None:
        if not models:
            raise ValueError("name at least one model to show")
        self._enlarge = scale
        self.panels = {
            name: LabelExplorer(model, x, y, shape=shape, classes=classes, n_sliders=n_sliders, limit=limit, scale=1)
            for name, model in models.items()
        }
        first = next(iter(self.panels.values()))
        self.y = y
        self.label = widgets.ToggleButtons(
            options=first.label.options, value=first.label.value, layout=first.label.layout, style=first.label.style
        )
        self.label.observe(lambda _: self._on_slider(None), names="value")
        self.example = widgets.IntSlider(
            value=0, min=0, max=len(x) - 1, description="start from", layout=first.example.layout
        )
        self.example.style = first.example.style
        self.example.observe(lambda _: self.start_again(), names="value")
        n = min(len(panel.sliders) for panel in self.panels.values())
        super().__init__(
            self._side_by_side,
            names=[f"latent {j + 1}" for j in range(n)],
            limit=limit,
            scale=1,
            still=self._codes_under_every_label(shape),
            caption="original · reconstruction · edited; below: the edited code under every label. "
            "Sliders: the most informative latents of each model, from the example's code",
            extra=[self.example, self.label],
        )

    def start_again(self) -> None:
        """Go back to the chosen example's code and label."""
        self._busy = True  # one picture for label and sliders together
        try:
            self.label.value = int(self.y[self.example.value])
        finally:
            self._busy = False
        super().start_again()

    def _side_by_side(self, values: list[float]) -> Image.Image:
        label, example = self.label.value, self.example.value
        parts = {
            name: panel.picture_of(example, label, (values + [0.0] * len(panel.sliders))[: len(panel.sliders)])
            for name, panel in self.panels.items()
        }
        large = [enlarged(part, self._enlarge) for part in parts.values()]
        pictures = [Image.fromarray((part * 255).round().astype(np.uint8)) for part in large]
        width = sum(picture.width for picture in pictures) + self.GAP * (len(pictures) - 1)
        canvas = Image.new(pictures[0].mode, (width, max(p.height for p in pictures) + self.TITLE), "white")
        draw, left = ImageDraw.Draw(canvas), 0
        for name, picture in zip(parts, pictures, strict=True):
            draw.text((left, 2), name, fill="black", font=ImageFont.load_default(size=14))
            canvas.paste(picture, (left, self.TITLE))
            left += picture.width + self.GAP
        return canvas

    def _codes_under_every_label(self, shape: ImageShape) -> bytes:
        """The codes of some examples under every label, a grid a model."""
        first = next(iter(self.panels.values()))
        k = len(first.classes)
        examples = [int((self.y == label).nonzero()[0]) for label in self.y.unique()][:5]
        inches = 0.36 * (k + 1)
        figure, axes = plt.subplots(
            1, len(self.panels), figsize=(inches * len(self.panels) + 0.4, 0.36 * len(examples) + 0.8), squeeze=False
        )
        for ax, (name, panel) in zip(axes[0], self.panels.items(), strict=True):
            with torch.inference_mode():
                rows = [torch.cat([panel.x[i, None].cpu(), panel.analogies(panel.codes[i, None])]) for i in examples]
            plot_grid(torch.cat(rows), shape, n_columns=k + 1, column_labels=["x", *first.classes], title=name, ax=ax)
        found: Any = figure
        return figure_png(found)
