"""Run notebooks from top to bottom in a fresh kernel and keep what shows without one.

    python scripts/build_notebooks.py [notebooks/NN_name.ipynb ...]

Without names, every notebook. The budget is VAE_BUDGET, else quick. Widget views and state are
dropped: a reopened page would show "model not found" in their place; the still picture stays.
Pictures are stored with a palette, which keeps a notebook under 1.5 MB.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def strip_widgets(notebook: nbformat.NotebookNode) -> None:
    """Remove widget views, widget state and run times."""
    notebook.metadata = {key: value for key, value in notebook.metadata.items() if key == "kernelspec"}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            had_view = data.pop(WIDGET_VIEW, None) is not None
            if not (had_view and set(data) <= {"text/plain"}):
                kept.append(output)
        cell.outputs = kept


def shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    """Store each PNG with a palette of 128 colours, a third of the size and no difference to the eye."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if "image/png" in data:
            picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
            buffer = io.BytesIO()
            picture.quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
            data["image/png"] = min(base64.b64encode(buffer.getvalue()).decode(), data["image/png"], key=len)


def build(path: Path) -> None:
    """Execute one notebook in place; it is left as it was if a cell fails."""
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    ExecutePreprocessor(timeout=3600, kernel_name="python3", record_timing=False).preprocess(
        notebook, {"metadata": {"path": str(path.parent)}}
    )
    strip_widgets(notebook)
    shrink_pictures(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("VAE_BUDGET", "quick")
    with tempfile.TemporaryDirectory() as runs:  # sweeps inside a notebook must not find finished cells
        os.environ["VAE_RUNS"] = runs
        for argument in sys.argv[1:] or sorted((ROOT / "notebooks").glob("*.ipynb")):
            build(Path(argument).resolve())
