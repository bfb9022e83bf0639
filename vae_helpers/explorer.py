"""Slider panels for JupyterLab: move a latent, see the picture.

Every panel carries a still picture in its notebook output, so a page without a kernel (GitHub,
nbconvert, a Lab that has not run it) shows something that means the same.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import traitlets
from PIL import Image
from torch import Tensor

from vae_helpers.evaluation import aggregate_posterior
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.plotting import (
    ImageShape,
    figure_png,
    normal_grid,
    plot_grid,
    plot_latents,
    plot_traversals,
    tile,
    to_png,
)

Picture = np.ndarray | Image.Image


class _Panel(widgets.VBox):
    """A widget with a picture that follows its controls, and a still for pages without a kernel."""

    def __init__(self, children: Sequence[widgets.Widget], still: bytes, text: str) -> None:
        self.message = widgets.HTML()
        self._still, self._text = still, text
        super().__init__([*children, self.message])

    def _shown(self, draw: Callable[[], None]) -> None:
        """Run a drawing callback; an error is shown in the panel (the browser would hide it) and raised."""
        try:
            with torch.inference_mode():
                draw()
            self.message.value = ""
        except Exception as error:
            self.message.value = f"<pre style='color:#b00'>{type(error).__name__}: {error}</pre>"
            raise

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        data = {**data, "text/plain": self._text, "image/png": base64.b64encode(self._still).decode()}
        return data, metadata


class SliderPanel(_Panel):
    """Named sliders beside one picture drawn from their values.

    Args:
        render: slider values -> a picture, (H, W[, 3]) in [0, 1] or Pillow; called at every move.
        names: one a slider. start: their values at first and after Reset. limit: they run over [-limit, limit].
        scale: whole-pixel enlargement of the picture. still: PNG for pages without a kernel; None: the first picture.
        caption: a line under the picture. extra: more controls, above the sliders.
    """

    def __init__(
        self,
        render: Callable[[list[float]], Picture],
        *,
        names: Sequence[str],
        start: Sequence[float] | None = None,
        limit: float = 3.0,
        scale: int = 1,
        still: bytes | None = None,
        caption: str = "",
        extra: Sequence[widgets.Widget] = (),
    ) -> None:
        self._render, self._scale, self._busy = render, scale, False
        self._start = [0.0] * len(names) if start is None else list(start)
        self.sliders = [
            widgets.FloatSlider(
                value=value,
                min=-limit,
                max=limit,
                step=0.05,
                description=name,
                readout_format="+.2f",
                layout=widgets.Layout(width="330px"),
                style={"description_width": "90px"},
            )
            for name, value in zip(names, self._start, strict=True)
        ]
        self.image = widgets.Image(format="png", layout=widgets.Layout(align_self="flex-start"))
        self.image.add_class("latent-picture")
        self.reset = widgets.Button(description="Reset", icon="undo", layout=widgets.Layout(width="90px"))
        self.reset.on_click(lambda _: self.move_to(self._start))
        for slider in self.sliders:
            slider.observe(self._on_slider, names="value")
        with torch.inference_mode():
            self.image.value = to_png(render([slider.value for slider in self.sliders]), scale=scale)
        self.buttons = widgets.HBox([self.reset])
        controls = widgets.VBox([*extra, *self.sliders, self.buttons])
        pictures = widgets.VBox([self.image, widgets.HTML(f"<small>{caption}</small>")])
        super().__init__(
            [widgets.HBox([controls, pictures], layout=widgets.Layout(grid_gap="16px"))],
            still or self.image.value,
            f"{type(self).__name__}: run this cell for {len(names)} live sliders",
        )

    def move_to(self, values: Sequence[float]) -> None:
        """Set every slider, drawing once.

        Raises:
            ValueError: for another number of values than sliders.
        """
        self._busy = True
        try:
            for slider, value in zip(self.sliders, values, strict=True):
                slider.value = value
        finally:
            self._busy = False
        self.draw()

    def draw(self) -> None:
        """Draw the picture for the sliders' values."""

        def paint() -> None:
            self.image.value = to_png(self._render([slider.value for slider in self.sliders]), scale=self._scale)

        self._shown(paint)

    def _on_slider(self, _change: Any) -> None:
        if not self._busy:
            self.draw()


class LatentExplorer(SliderPanel):
    """Sliders over a model's latents, most informative first; original, reconstruction and edited picture.

    A slider's unit is one standard deviation of that latent under the aggregate posterior q(z), from
    its mean: 0 is the average code, and +-3 covers the data whether or not the model keeps to its prior.
    Latents beyond ``n_sliders`` keep the code of the chosen example.

    Args:
        model: a trained `VAE` or `Autoencoder`, in evaluation mode.
        x: example images to start from, (N, D) float in the model's range, N >= 2.
        shape: (H, W) or (3, H, W). n_sliders: at most this many. limit: of the sliders. scale: enlargement.

    Raises:
        ValueError: for fewer than two examples or a shape that does not fit them.
    """

    def __init__(
        self,
        model: VAE | Autoencoder,
        x: Tensor,
        *,
        shape: ImageShape,
        n_sliders: int = 10,
        limit: float = 3.0,
        scale: int = 5,
    ) -> None:
        self.model, self.x, self.shape = model, x, shape
        with torch.inference_mode():
            moments = aggregate_posterior(model, x)
            codes = model.encode(x)
            self.codes = codes[0] if isinstance(codes, tuple) else codes
            self._reconstructions = model.decode_mean(self.codes).cpu()
        self._mean, self._sd = moments.mean, moments.sd.clamp_min(1e-6)
        has_kl = bool(moments.kl.any())
        importance = moments.kl if has_kl else moments.mu_variance
        self.order = importance.argsort(descending=True).tolist()[:n_sliders]
        self.names = [f"z{j + 1}  KL {moments.kl[j]:.1f}" if has_kl else f"z{j + 1}" for j in self.order]
        self.z = self.codes[0].clone()
        self._example = 0
        self.example = widgets.IntSlider(
            value=0,
            min=0,
            max=len(x) - 1,
            description="start from",
            layout=widgets.Layout(width="330px"),
            style={"description_width": "90px"},
        )
        self.example.observe(lambda change: self.start_from(change["new"]), names="value")
        with torch.inference_mode():
            still = self._traversals(limit)
        super().__init__(
            self._picture,
            names=self.names,
            start=self._units(self.z),
            limit=limit,
            scale=scale,
            still=still,
            caption="original · reconstruction · edited",
            extra=[self.example],
        )
        self.random = widgets.Button(description="Random", icon="random", layout=widgets.Layout(width="110px"))
        self.random.on_click(lambda _: self.show_code(self._mean + self._sd * torch.randn_like(self._mean)))
        self.reset.description = "Reset"
        self.buttons.children = (self.random, self.reset)

    def start_from(self, example: int) -> None:
        """Begin again from the code of ``x[example]``."""
        self._example = example
        self._start = self._units(self.codes[example])
        self.show_code(self.codes[example])

    def show_code(self, z: Tensor) -> None:
        """Show one code, (Z,), and move the sliders to it, drawing once."""
        self.z = z.clone()
        self.move_to(self._units(z))

    def move_to(self, values: Sequence[float]) -> None:
        """Set every slider (in standard deviations); Reset also brings the hidden latents back."""
        if values is self._start:
            self.z = self.codes[self._example].clone()
        super().move_to(values)

    def _on_slider(self, change: Any) -> None:
        if self._busy:
            return
        j = self.order[self.sliders.index(change["owner"])]
        self.z[j] = self._mean[j] + change["new"] * self._sd[j]
        self.draw()

    def _units(self, z: Tensor) -> list[float]:
        return ((z - self._mean) / self._sd)[self.order].tolist()

    def _picture(self, _values: list[float]) -> np.ndarray:
        edited = self.model.decode_mean(self.z[None]).cpu()
        strip = torch.cat([self.x[self._example, None].cpu(), self._reconstructions[self._example, None], edited])
        return tile(strip, self.shape, n_columns=3, pad=3)

    def _traversals(self, limit: float) -> bytes:
        values = torch.linspace(-limit, limit, 11)
        rows = self.z.repeat(len(self.order), len(values), 1)
        for row, j in zip(rows, self.order, strict=True):
            row[:, j] = self._mean[j] + values.to(self._sd) * self._sd[j]
        images = self.model.decode_mean(rows.flatten(0, 1)).cpu()
        ax = plot_traversals(images, self.shape, row_labels=self.names, values=values.tolist())
        return figure_png(_figure(ax))


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


class LatentPad(_Panel):
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
            codes = model.encode(x)
            z = (codes[0] if isinstance(codes, tuple) else codes).cpu()
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


def _figure(ax: Any) -> Any:
    return ax.figure.get_figure(root=True)
