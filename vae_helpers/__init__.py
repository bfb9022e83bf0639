"""Variational autoencoders: models, bounds and pictures behind the notebooks.

``import vae_helpers as vh`` gives what most people need, by name, and imports torch at the first use:
`load` a trained model (released, or your own run folder); `encode`, `decode`, `sample`, `traverse`, `explore` it;
`save_page` writes its explorer for any browser; `load_images` and `train` are for your own pictures; `register_prior`,
`register_likelihood`, `register_objective` for your own parts (docs/extend.md).
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOME = {
    **dict.fromkeys(("load", "train", "encode", "decode", "sample", "traverse", "explore", "save_page"), "library"),
    **dict.fromkeys(("Images", "load_images"), "data"),
    **dict.fromkeys(("Budget", "fit", "setup"), "training"),
    "released_names": "experiments",
    "register_prior": "priors",
    "register_likelihood": "likelihoods",
    "register_objective": "objectives",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vae_helpers' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"vae_helpers.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
