"""A widget with a picture that follows its controls."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

from vae_helpers.plotting import to_png

Picture = np.ndarray | Image.Image


def wide() -> dict[str, Any]:
    """Layout and style of a slider in a panel's column of controls."""
    return {"layout": widgets.Layout(width="330px"), "style": {"description_width": "90px"}}


class Panel(widgets.VBox):
    """A widget with a picture that follows its controls, and a still for pages without a kernel."""

    def __init__(self, children: Sequence[widgets.Widget], still: bytes, text: str) -> None:
        self.message = widgets.HTML()
        self._still, self._text = still, text
        super().__init__([*children, self.message])

    @property
    def still(self) -> bytes:
        """The picture that a page without a kernel shows, PNG."""
        return self._still

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


class SliderPanel(Panel):
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
                **wide(),
            )
            for name, value in zip(names, self._start, strict=True)
        ]
        self.image = widgets.Image(format="png", layout=widgets.Layout(align_self="flex-start"))
        self.image.add_class("latent-picture")
        self.reset = widgets.Button(description="Reset", icon="undo", layout=widgets.Layout(width="90px"))
        self.reset.on_click(lambda _: self.start_again())
        for slider in self.sliders:
            slider.observe(self._on_slider, names="value")
        with torch.inference_mode():
            self.image.value = to_png(render([slider.value for slider in self.sliders]), scale=scale)
        self.buttons = widgets.HBox([self.reset])
        controls = widgets.VBox([*extra, *self.sliders, self.buttons], layout=widgets.Layout(flex="0 0 auto"))
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

    def start_again(self) -> None:
        """Put every slider back where it began."""
        self.move_to(self._start)

    def draw(self) -> None:
        """Draw the picture for the sliders' values."""

        def paint() -> None:
            self.image.value = to_png(self._render([slider.value for slider in self.sliders]), scale=self._scale)

        self._shown(paint)

    def _on_slider(self, _change: Any) -> None:
        if not self._busy:
            self.draw()
