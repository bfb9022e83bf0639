"""Run notebooks from top to bottom in a fresh kernel and keep what shows without one.

Without names, every notebook. The budget is VAE_BUDGET, else quick. Widget views and state are
dropped: a reopened page would show "model not found" in their place; the still picture stays.
An explorer is kept as its still picture and, where the notebook stays under 1.5 MB, as a live page after it.
Pictures are stored with a palette, or as JPEG, and with the name of their section. The input of a cell that only
checks or writes a paragraph is hidden (`is_plumbing`). --refresh hides cells, names pictures and brings the code
of stored explorers up to date, without running anything.
"""

from __future__ import annotations

import argparse
import ast
import base64
import io
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image, ImageChops

from vae_helpers.explorer.explorers import EMBED, STILL
from vae_helpers.page import refreshed

ROOT = Path(__file__).resolve().parents[1]
MOST_MOVED = 24  # of 255: two classes keep two colours
PHOTOGRAPH = 0.6  # a picture whose JPEG takes less than this share of its PNG has soft edges, as faces have
PICTURES = ("image/png", "image/jpeg", "image/gif")
LARGEST = 1_480_000  # bytes of a notebook
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


def is_plumbing(source: str) -> bool:
    """True for a cell that shows a computed paragraph (``Markdown``), or that asserts and shows nothing else."""
    tree = ast.parse(source)
    calls = {getattr(node.func, "id", "") for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if "Markdown" in calls:
        return True
    checks = any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    return checks and all(isinstance(node, (ast.Assert, ast.Assign, ast.If)) for node in tree.body)


def hide_plumbing(notebook: nbformat.NotebookNode) -> None:
    """Hide the input of plumbing cells, in JupyterLab and in exported pages; a reader can unfold it."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.metadata.pop("jupyter", None)
        tags = [tag for tag in cell.metadata.pop("tags", []) if tag != "hide-input"]
        if is_plumbing(cell.source):
            cell.metadata.jupyter, tags = {"source_hidden": True}, [*tags, "hide-input"]
        if tags:
            cell.metadata.tags = tags


def farthest(picture: Image.Image, other: Image.Image) -> int:
    """The largest difference of a colour channel, of 255."""
    return max(high for _, high in ImageChops.difference(picture, other.convert("RGB")).getextrema())


def stored(picture: Image.Image, kind: str, **options: Any) -> str:
    """A picture in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    """Store a grey PNG as grey, others with a palette of 256 colours unless a colour moves, photographs as JPEG."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if "image/png" not in data:
            continue
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        grey = picture.convert("L")
        small = grey if farthest(picture, grey) == 0 else picture.quantize(256, dither=Image.Dither.NONE)
        png = stored(small if farthest(picture, small) <= MOST_MOVED else picture, "PNG")
        data["image/png"] = min(png, data["image/png"], key=len)
        jpeg = stored(picture, "JPEG", quality=92, subsampling=0)
        if len(jpeg) < PHOTOGRAPH * len(data["image/png"]):
            del data["image/png"]
            data["image/jpeg"] = jpeg


def describe_pictures(notebook: nbformat.NotebookNode) -> None:
    """Name the section of each picture for those who hear the page; the section's text says what the picture shows."""
    heading = "the beginning"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)", cell.source, flags=re.M) or [heading])[-1]
        for output in cell.get("outputs", []):
            for kind in set(PICTURES) & set(output.get("data", {})):
                output.metadata[kind] = {"alt": f"Picture of the section: {heading}"}


def is_live(output: nbformat.NotebookNode) -> bool:
    """True for an output that holds an explorer's page."""
    return 'class="vae-live"' in output.get("data", {}).get("text/html", "")


def split_explorers(notebook: nbformat.NotebookNode) -> None:
    """The still picture of an explorer, and its page, as two outputs: a viewer shows one format of each."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        outputs = []
        for output in cell.outputs:
            outputs.append(output)
            if is_live(output) and set(PICTURES) & set(output.data):
                page = {"text/html": output.data.pop("text/html"), "text/plain": output.data["text/plain"]}
                outputs.append(nbformat.v4.new_output("display_data", page))
        cell.outputs = outputs


def drop_large_explorers(notebook: nbformat.NotebookNode) -> None:
    """Drop explorers' pages, the largest first, until the notebook is small enough; a sentence takes their place."""
    while len(nbformat.writes(notebook).encode()) > LARGEST:
        live = [output for cell in notebook.cells for output in cell.get("outputs", []) if is_live(output)]
        if not live:
            return
        largest = max(live, key=lambda output: len(output.data["text/html"]))
        largest.data = {"text/html": f"<p><em>{STILL}</em></p>", "text/plain": STILL}


def build(path: Path) -> None:
    """Execute one notebook in place; it is left as it was if a cell fails."""
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    ExecutePreprocessor(timeout=3600, kernel_name="python3", record_timing=False).preprocess(
        notebook, {"metadata": {"path": str(path.parent)}}
    )
    strip_widgets(notebook)
    hide_plumbing(notebook)
    shrink_pictures(notebook)
    split_explorers(notebook)
    describe_pictures(notebook)
    drop_large_explorers(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e6:.2f} MB", flush=True)


def refresh(path: Path) -> None:
    """One notebook in place: hidden cells, names of pictures, stored explorers by today's code; outputs stay."""
    notebook = nbformat.read(path, as_version=4)
    hide_plumbing(notebook)
    describe_pictures(notebook)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", []) if is_live(output)):
        output.data["text/html"] = refreshed(output.data["text/html"])
    nbformat.write(notebook, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--refresh", action="store_true")
    arguments = parser.parse_args()
    if missing := [str(path) for path in arguments.notebooks if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    os.environ.setdefault("VAE_BUDGET", "quick")
    os.environ[EMBED] = "1"
    if os.environ.get("VAE_DATA"):  # a notebook runs in its own folder
        os.environ["VAE_DATA"] = str(Path(os.environ["VAE_DATA"]).resolve())
    with tempfile.TemporaryDirectory() as runs:  # sweeps inside a notebook must not find finished cells
        os.environ["VAE_RUNS"] = runs
        for path in arguments.notebooks or sorted((ROOT / "notebooks").rglob("*.ipynb")):
            (refresh if arguments.refresh else build)(path.resolve())
