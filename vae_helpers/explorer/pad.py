"""A 2-D pad over the codes of a model with two latents."""

from __future__ import annotations

import base64
from typing import Any

import anywidget
import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
import traitlets
from torch import Tensor

from vae_helpers.explorer.latents import code_of
from vae_helpers.explorer.panel import Panel
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.plotting import ImageShape, figure_png, normal_grid, plot_grid, plot_latents, tile, to_png


class Pad(anywidget.AnyWidget):
    """A square to point in with mouse, finger or arrow keys; ``point`` is the position in data units."""

    point = traitlets.List(traitlets.Float(), default_value=[0.0, 0.0]).tag(sync=True)
    limit = traitlets.Float(3.0).tag(sync=True)
    size = traitlets.Int(320).tag(sync=True)
    background = traitlets.Unicode("").tag(sync=True)

    _esm = """
    export default { render({ model, el }) {
      const size = model.get("size"), limit = model.get("limit");
      const pad = document.createElement("div"), dot = document.createElement("div");
      pad.className = "latent-pad"; pad.tabIndex = 0;
      pad.setAttribute("role", "application");
      pad.setAttribute("aria-label", "2-D latent pad: drag, or use the arrow keys");
      pad.style.width = pad.style.height = size + "px";
      pad.style.backgroundImage = `url(${model.get("background")})`;
      dot.className = "latent-dot"; pad.append(dot); el.append(pad);
      const clamp = v => Math.max(-limit, Math.min(limit, v));
      let waiting = null;
      function place() {
        const [x, y] = model.get("point");
        dot.style.left = (x / limit + 1) / 2 * size + "px";
        dot.style.top = (1 - y / limit) / 2 * size + "px";
      }
      function move(x, y) {  // at most one message a frame
        const first = waiting === null;
        waiting = [clamp(x), clamp(y)];
        if (first) requestAnimationFrame(() => {
          model.set("point", waiting); waiting = null; model.save_changes(); place();
        });
      }
      function follow(event) {
        const box = pad.getBoundingClientRect();
        move(((event.clientX - box.left) / size * 2 - 1) * limit, (1 - (event.clientY - box.top) / size * 2) * limit);
      }
      pad.addEventListener("pointerdown", e => { pad.setPointerCapture(e.pointerId); follow(e); pad.focus(); });
      pad.addEventListener("pointermove", e => { if (e.buttons) follow(e); });
      pad.addEventListener("keydown", e => {
        const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
        if (!by) return;
        e.preventDefault(); e.stopPropagation();
        const [x, y] = waiting ?? model.get("point"), step = limit / (e.shiftKey ? 6 : 30);
        move(x + by[0] * step, y + by[1] * step);
      });
      model.on("change:point", place);
      place();
    } };
    """
    _css = """
    .latent-pad { position: relative; cursor: crosshair; touch-action: none; background-size: 100% 100%;
                  border: 1px solid #888; box-sizing: border-box; }
    .latent-pad:focus { outline: 2px solid #1f77b4; }
    .latent-dot { position: absolute; width: 14px; height: 14px; margin: -7px 0 0 -7px; border-radius: 50%;
                  background: #111; border: 2px solid #fff; box-sizing: border-box; pointer-events: none; }
    """


class LatentPad(Panel):
    """A 2-D pad over the codes of a model with two latents; the picture follows the pointer.

    Args:
        model: a trained model with z_dim = 2, in evaluation mode.
        x: images whose codes are drawn behind the pad, (N, D) float. y: their classes, or None.
        shape: of an image. limit: half-width of the pad in units of z; None covers 99.5 % of the codes.
        scale: enlargement.

    Raises:
        ValueError: for a model whose code is not 2-D.
    """

    def __init__(
        self,
        model: VAE | Autoencoder,
        x: Tensor,
        y: Tensor | None = None,
        *,
        shape: ImageShape,
        limit: float | None = None,
        scale: int = 8,
    ) -> None:
        if model.z_dim != 2:
            raise ValueError(f"a 2-D pad needs a model with 2 latents, this one has {model.z_dim}; use LatentExplorer")
        self.model, self.shape, self._scale = model, shape, scale
        with torch.inference_mode():
            z = code_of(model, x).cpu()
        limit = limit or float(z.abs().max(dim=1).values.quantile(0.995))
        self.image = widgets.Image(format="png", layout=widgets.Layout(align_self="flex-start"))
        self.image.add_class("latent-picture")
        self.readout = widgets.HTML()
        self.pad = Pad(limit=limit, background=self._background(z, y, limit))
        self.pad.observe(self._on_point, names="point")
        with torch.inference_mode():
            still = self._still_picture(z, y, limit)
        right = widgets.VBox([self.image, self.readout])
        row = widgets.HBox([self.pad, right], layout=widgets.Layout(grid_gap="16px"))
        super().__init__([row], still, "LatentPad: run this cell for a live 2-D pad")
        self._on_point({"new": self.pad.point})

    def _on_point(self, change: Any) -> None:
        def paint() -> None:
            z = torch.tensor([change["new"]], device=next(self.model.parameters()).device)
            self.image.value = to_png(tile(self.model.decode_mean(z).cpu(), self.shape, n_columns=1), scale=self._scale)
            self.readout.value = f"<code>z = ({change['new'][0]:+.2f}, {change['new'][1]:+.2f})</code>"

        self._shown(paint)

    def _background(self, z: Tensor, y: Tensor | None, limit: float) -> str:
        figure = plt.figure(figsize=(3.2, 3.2), dpi=100)
        figure.set_layout_engine("none")
        ax = plot_latents(z, y, limit=limit, legend=False, ax=figure.add_axes((0, 0, 1, 1)))
        ax.axis("off")
        return "data:image/png;base64," + base64.b64encode(figure_png(figure)).decode()

    def _still_picture(self, z: Tensor, y: Tensor | None, limit: float) -> bytes:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.2))
        plot_latents(z, y, limit=limit, ax=left)
        grid = torch.from_numpy(normal_grid(15)).to(next(self.model.parameters()).device)
        grid = grid * (limit / grid.abs().max())
        plot_grid(self.model.decode_mean(grid).cpu(), self.shape, n_columns=15, pad=0, ax=right)
        return figure_png(figure)
