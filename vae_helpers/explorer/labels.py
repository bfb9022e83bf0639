"""Label buttons beside the latents: content by button, style by slider."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from vae_helpers.evaluation import AggregatePosterior
from vae_helpers.explorer.latents import LatentExplorer
from vae_helpers.models import ConditionalVAE
from vae_helpers.plotting import ImageShape, axes_png, plot_grid, tile


class LabelExplorer(LatentExplorer):
    """A `LatentExplorer` of a `ConditionalVAE` (`M2` is one): a button a label, sliders for z, z under every label.

    The upper row is original, reconstruction (under its own label) and the edited picture under the
    chosen label; the lower row is the edited code under all labels, the chosen one marked.

    Args:
        model: a trained one, in evaluation mode. x: example images, (N, D) float, N >= 2. y: their labels, (N,) int64.
        shape: (H, W), (1, H, W) or (3, H, W). n_sliders, limit, scale: as `LatentExplorer`.
        classes: names of the labels 0 to K - 1; None for their numbers.

    Raises:
        ValueError: as `LatentExplorer`, or for labels or class names that do not fit.
    """

    ENLARGED = 3  # the upper row's digits, in widths of the lower row's

    def __init__(
        self,
        model: ConditionalVAE,
        x: Tensor,
        y: Tensor,
        *,
        shape: ImageShape,
        classes: Sequence[str] | None = None,
        n_sliders: int = 8,
        limit: float = 3.0,
        scale: int = 2,
    ) -> None:
        if y.shape != x.shape[:1]:
            raise ValueError(f"x and y must agree in length, got {tuple(x.shape)} and {tuple(y.shape)}")
        if classes is not None and len(classes) != model.n_classes:
            raise ValueError(f"this model has {model.n_classes} classes, but {len(classes)} names were given")
        self._one_hot = torch.eye(model.n_classes)
        self.y = y
        self.classes = [str(k) for k in range(model.n_classes)] if classes is None else list(classes)
        longest = max(map(len, self.classes))
        self.label = widgets.ToggleButtons(
            options=[(name, k) for k, name in enumerate(self.classes)],
            value=int(y[0]),
            layout=widgets.Layout(width="345px"),
            style={"button_width": f"{21 + 8 * longest}px"},
        )
        self.label.observe(lambda _: self.draw(), names="value")
        super().__init__(
            model,
            x,
            shape=shape,
            n_sliders=n_sliders,
            limit=limit,
            scale=scale,
            caption="above: original · reconstruction · edited; below: the edited code under every label",
            extra=[self.label],
        )

    def start_again(self) -> None:
        """Go back to the chosen example's code and label."""
        self._busy = True  # the label's callback would draw the old code under the new label
        try:
            self.label.value = int(self.y[self._example])
        finally:
            self._busy = False
        super().start_again()

    @torch.no_grad()
    def picture_of(self, example: int, label: int, offsets: Sequence[float]) -> np.ndarray:
        """The picture of one example's code, moved along the sliders' latents and decoded under a label.

        Args:
            example: index into x. label: 0 to K - 1. offsets: one a slider, in standard deviations of its latent.

        Returns:
            (H', W') or (H', W', 3) in [0, 1]; the panel's own picture stays as it is until it is drawn again.
        """
        self._busy = True
        try:
            self.label.value = label
        finally:
            self._busy = False
        order = torch.tensor(self.order)
        self._example, self.z = example, self.codes[example].clone()
        self.z[order] += torch.tensor(offsets).to(self.z) * self._sd[order]
        return self._picture([])

    def draw(self) -> None:
        """Draw the picture for buttons and sliders."""
        if not self._busy:
            super().draw()

    def _encoded(self) -> tuple[Tensor, AggregatePosterior, Tensor]:
        one_hot = self._one_hot[self.y]
        q_mu, q_logvar = self.model.encode(self.x, one_hot)
        return q_mu, AggregatePosterior.of(q_mu, q_logvar), self.model.decode_mean(q_mu, one_hot).cpu()

    def _decoded(self, z: Tensor) -> Tensor:
        return self.model.decode_mean(z, self._one_hot[self.label.value].expand(len(z), -1)).cpu()

    def analogies(self, z: Tensor) -> Tensor:
        """Pictures (N K, D) of codes (N, Z), each under all K labels."""
        n, k = len(z), len(self._one_hot)
        pictures = self.model.decode_mean(z.repeat_interleave(k, 0), self._one_hot.repeat(n, 1))
        return pictures.cpu()

    def _picture(self, values: list[float]) -> np.ndarray:
        upper = enlarged(super()._picture(values), self.ENLARGED)
        lower = tile(self.analogies(self.z[None]), self.shape, n_columns=len(self._one_hot), pad=3)
        width = self.shape[-1]
        colours = lower.shape[2:]
        mark = np.ones((2, lower.shape[1], *colours), np.float32)
        left = self.label.value * (width + 3)
        mark[:, left : left + width] = 0
        rows = [upper, np.ones((6, 1, *colours), np.float32), lower, np.ones((1, 1, *colours), np.float32), mark]
        full = max(row.shape[1] for row in rows)
        margins = [((0, 0), (0, full - row.shape[1]), *[(0, 0)] * len(colours)) for row in rows]
        return np.concatenate([np.pad(row, m, constant_values=1.0) for row, m in zip(rows, margins, strict=True)])

    def _traversals(self, limit: float) -> bytes:
        examples = [int((self.y == k).nonzero()[0]) for k in self.y.unique()][:5]
        rows = [torch.cat([self.x[i, None].cpu(), self.analogies(self.codes[i, None])]) for i in examples]
        ax = plot_grid(
            torch.cat(rows),
            self.shape,
            n_columns=len(self._one_hot) + 1,
            column_labels=["x", *self.classes],
        )
        return axes_png(ax)


def enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """(H, W) or (H, W, 3) with every pixel ``times`` as high and wide."""
    return picture.repeat(times, 0).repeat(times, 1)
