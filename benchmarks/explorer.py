"""The kernel's share of a slider frame: decode the latents, write the PNG, hand it to the widget."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks import peers
from benchmarks.measure import Table
from vae_helpers.data import load_mnist, to_grey


def slider_frame(quick: bool) -> Table:
    """Milliseconds from a slider's new value to the new image bytes, without browser and network."""
    frames = 100 if quick else 500
    table = Table(f"Slider frame in the kernel: decode + PNG, {frames} moves (aim: 10 ms)", ["", "ms"])
    try:
        from vae_helpers.explorer import LatentExplorer
    except ImportError as error:
        table.notes.append(f"not measured: {error}")
        return table
    images, model = load_mnist(), peers.build().eval()
    try:
        explorer = LatentExplorer(model, to_grey(images.x_train[:1000]), shape=images.shape)
        slider, before = explorer.sliders[0], bytes(explorer.image.value)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        table.notes.append(f"not measured: LatentExplorer(model, x, shape=) is not as expected here ({error})")
        return table
    milliseconds = []
    for value in torch.linspace(slider.min, slider.max, frames).tolist():
        began = time.perf_counter()
        slider.value = value
        milliseconds.append(1e3 * (time.perf_counter() - began))
    if bytes(explorer.image.value) == before:
        table.notes.append("The picture did not change: these are not times of frames.")
    ordered = sorted(milliseconds)
    table.rows = [
        ["median", statistics.median(ordered)],
        ["95 %", ordered[int(0.95 * frames)]],
        ["slowest", ordered[-1]],
    ]
    return table
