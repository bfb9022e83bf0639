"""What most people need, by name: `vae_helpers` itself gives these functions (``import vae_helpers as vh``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data import FactorImages, Images, images_of_arrays, to_grey
from vae_helpers.evaluation import AggregatePosterior, aggregate_posterior
from vae_helpers.experiments import Released, Run, load_any, study_of
from vae_helpers.models import ADGM, GMVAE, M2, Autoencoder, Classifier, ConditionalVAE
from vae_helpers.training import Budget

if TYPE_CHECKING:  # these import seaborn, which takes two seconds
    from vae_helpers.explorer import Explorer
    from vae_helpers.page import Spec

Trained = Released | Run
Labels = int | Sequence[int] | Tensor | np.ndarray


def load(name: str | Path, *, device: torch.device | str = "cpu") -> Released:
    """A trained model: a released one by its name, or your own by its run folder.

    Args:
        name: "study/run" (``python -m vae_helpers list`` shows them), or a folder that ``train`` wrote.
        device: where the model goes.

    Returns:
        a `Released`, with ``model``, ``config`` and ``card``.

    Raises:
        KeyError: for an unknown name, listing the known ones. ValueError: for damaged or missing weights.
    """
    return load_any(name, device=device)


def train(
    study: str,
    *,
    images: Any = None,
    labels: Any = None,
    seed: int = 0,
    budget: Budget | str | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train a model of a study; the same as ``python -m vae_helpers train STUDY --SETTING ...``.

    Args:
        study: a name, such as "m1", or the path of a study's file. images: `data.Images`, or an array of images as in
            an .npy file (N, H, W), (N, H, W, 3) or (N, 3, H, W), in the place of the setting ``data``.
        labels: of an array, (N,) integers from 0. seed: of weights, order and noise.
        budget: smoke, quick or full; None for VAE_BUDGET. folder: where checkpoint, weights and record go; None keeps
            everything in memory. resume: go on from the folder's checkpoint. progress: show it.
        settings: of the study, by name (``train STUDY --help`` shows them): ``z_dim=2``, ``data="my/pictures"``.

    Returns:
        a `Run`, with ``model``, ``config``, ``metrics`` and ``history``.

    Raises:
        ValueError: for an unknown study, setting or value. DataError: for images that cannot be used.
    """
    found = study_of(study)
    known = [field.name for field in dataclasses.fields(found.config)]
    if unknown := settings.keys() - set(known):
        raise ValueError(f"{study} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    if images is not None and not hasattr(images, "fingerprint"):
        share = {name: settings[name] for name in ("test_share", "split_seed") if name in settings}
        images = images_of_arrays(images, labels, **share)
        settings.setdefault("data", images.name)
    elif labels is not None:
        raise ValueError("labels go with an array of images; a data set has its own")
    return found.run(
        found.config(**settings),
        seed=seed,
        budget=None if budget is None else Budget(budget),
        images=images,
        folder=None if folder is None else Path(folder),
        resume=resume,
        progress=progress,
    )


@torch.inference_mode()
def encode(trained: Trained, x: Any, y: Labels | None = None) -> Tensor:
    """Codes of images: the means of q(z | x), or of q(z | x, y).

    Args:
        trained: of `load` or `train`. x: images, uint8 or float in [0, 1]: (N, H, W), (N, H, W, 3), (N, 3, H, W), flat
            (N, D), or one of them. y: labels of a conditional model; None for the most probable ones of q(y | x).

    Returns:
        (N, Z) float32, on the model's device.

    Raises:
        ValueError: for images of another shape, a model without codes, or labels that are missing.
    """
    model, pixels = trained.model, _pixels(trained, x)
    if isinstance(model, ConditionalVAE):
        return model.encode(_read(model, pixels), model.one_hot(_given(model, pixels, y)))[0]
    if isinstance(model, Classifier) or not hasattr(model, "encode"):
        raise ValueError(f"{type(model).__name__} has no code to encode into")
    code = model.encode(pixels)
    return code[0] if isinstance(code, tuple) else code


@torch.inference_mode()
def decode(trained: Trained, z: Any, y: Labels | None = None) -> Tensor:
    """Pictures of codes: the means of p(x | z), or of p(x | y, z).

    Args:
        trained: of `load` or `train`. z: (..., Z). y: labels of a conditional model, one per code or one for all.

    Returns:
        (..., H, W) or (..., 3, H, W) float32 on the CPU, 0 black to 1.

    Raises:
        ValueError: for codes of another width, or labels that are missing.
    """
    model: Any = trained.model
    z = torch.as_tensor(z, dtype=torch.float32, device=_device(trained))
    if z.shape[-1] != model.z_dim:
        raise ValueError(f"codes of this model have {model.z_dim} latents, got {tuple(z.shape)}")
    flat = z.reshape(-1, model.z_dim)
    if _takes_labels(model):
        if y is None:
            raise ValueError("this model draws a code with a label: give y, one per code or one for all")
        pictures = model.decode_mean(flat, model.one_hot(_labels(y, len(flat)).to(flat.device)))
    else:
        pictures = model.decode_mean(flat)
    return pictures.cpu().reshape(*z.shape[:-1], *(getattr(trained.config, "shape", None) or pictures.shape[1:]))


def sample(trained: Trained, n: int, y: Labels | None = None, *, seed: int | None = None) -> Tensor:
    """New pictures: the means of p(x | z), or of p(x | y, z), of codes drawn from the prior.

    Args:
        trained: of `load` or `train`, a model with a prior. n: how many. y: labels of a conditional model; None takes
            them in turn. seed: of the draws; None goes on with torch's generator.

    Returns:
        as `decode`, (n, ...).

    Raises:
        ValueError: for a model without a prior, whose codes cannot be drawn.
    """
    model: Any = trained.model
    if isinstance(model, Autoencoder) or not hasattr(model, "prior"):
        raise ValueError(f"{type(model).__name__} has no prior to draw codes from")
    with torch.random.fork_rng(enabled=seed is not None), torch.inference_mode():
        if seed is not None:
            torch.manual_seed(seed)
        z = model.prior.sample(n, device=_device(trained))
    if y is None and isinstance(model, ConditionalVAE):
        y = torch.arange(n) % model.n_classes
    return decode(trained, z, y)


@torch.inference_mode()
def traverse(
    trained: Trained,
    x: Any,
    y: Labels | None = None,
    *,
    latents: Sequence[int] | None = None,
    values: Sequence[float] = (-3, -2, -1, 0, 1, 2, 3),
) -> Tensor:
    """One latent at a time moved, from the code of the first image.

    Args:
        trained: of `load` or `train`. x: images as for `encode`; of two or more, the latents move around the mean of
            their codes by their standard deviations; of one, around 0 by 1. y: labels of a conditional model.
        latents: which, one row each; None for all, the largest KL first. values: standard deviations.

    Returns:
        (latents, values, H, W) or (latents, values, 3, H, W), as `decode`.
    """
    model, pixels, means = trained.model, _pixels(trained, x), encode(trained, x, y)
    conditional = isinstance(model, ConditionalVAE)
    moments = _moments(means) if conditional or len(means) == 1 else aggregate_posterior(model, pixels)
    importance = moments.kl if bool(moments.kl.any()) else moments.mu_variance
    rows = importance.argsort(descending=True).tolist() if latents is None else list(latents)
    codes = moments.traversal(means[0], rows, torch.as_tensor(values, dtype=torch.float32))
    label = _given(model, pixels, y)[:1] if conditional else None
    return decode(trained, codes.view(len(rows), len(values), -1), label)


def explore(trained: Trained, images: Any, y: Labels | None = None, **options: Any) -> Explorer:
    """The explorer that fits a model, for a notebook cell: needs JupyterLab and anywidget.

    Args:
        trained: of `load` or `train`. images: `data.Images`, whose test images are shown, or images as for `encode`.
        y: their labels. options: such as ``n_sliders`` (see `vae_helpers.explorer`).

    Returns:
        labels and style for a conditional model, components for a mixture prior, a plane for two latents, else a slider
        for each latent.
    """
    from vae_helpers.explorer import Explorer

    return Explorer(page_spec(trained, images, y, **options))


def save_page(
    trained: Trained, path: str | Path, images: Any = None, y: Labels | None = None, *, title: str = "", **options: Any
) -> Path:
    """The explorer that fits a model as one HTML file: it works from a disk, with no kernel and no network.

    Args:
        trained: of `load` or `train`. path: of the file. images: as for `explore`; None for those of its study.
        y: their labels. title: of the page; "" for the model's name. options: as for `explore`.

    Returns:
        the file's path.

    Raises:
        ValueError: for a model that a page cannot run; the message names the part.
    """
    from vae_helpers.page import write_page

    if images is None:
        images = trained.config.load()
    name = title or getattr(trained, "name", "") or "a trained model"
    return write_page(page_spec(trained, images, y, title=str(name), **options), path, title=str(name))


def page_spec(trained: Trained, images: Any, y: Labels | None = None, **options: Any) -> Spec:
    """What an explorer of a model on these images shows."""
    from vae_helpers.page import spec_for

    if trained.model is None:
        name = getattr(trained, "name", "this model")
        raise ValueError(f"{name} was released without its weights: nothing to show; choose another")
    model: Any = trained.model.cpu()
    shape = getattr(trained.config, "shape", None)
    if isinstance(images, FactorImages):
        shape = images.shape[1:] if images.shape[0] == 1 else images.shape
        images = images.pixels(images.grid.sample(200, generator=torch.Generator().manual_seed(0)))
    elif isinstance(images, Images):
        options = {"classes": images.classes or None, **options}
        y = images.y_test[:1000] if y is None and len(images.y_test) else y
        images = images.x_test[:1000]
    if shape is None:
        raise ValueError("an explorer shows images; this model was trained on something else")
    x = _pixels(trained, images)
    labels = None if y is None else _labels(y, len(x))
    return spec_for(model, x, labels, shape=shape, **options)


def _takes_labels(model: Any) -> bool:
    return isinstance(model, ConditionalVAE) and not isinstance(model, GMVAE)


def _device(trained: Trained) -> torch.device:
    return next(trained.model.parameters()).device


def _pixels(trained: Trained, x: Any) -> Tensor:
    """Images as the model reads them, (N, D) float32 in [0, 1] on its device; vectors of no image as they are."""
    x, shape = torch.as_tensor(x), getattr(trained.config, "shape", None)
    if shape is not None:
        if x.shape[-len(shape) :] != shape and len(shape) == 3 and x.shape[-3:] == (*shape[1:], 3):
            x = x.movedim(-1, -3)
        d = int(np.prod(shape))
        if x.shape[-len(shape) :] != shape and x.shape[-1:] != (d,):
            raise ValueError(f"images of this model are {shape} or flat ({d},), got {tuple(x.shape)}")
        x = x.reshape(-1, d)
    if x.dtype == torch.uint8:
        x = to_grey(x)
    x = x.to(_device(trained), torch.float32)
    if shape is not None and x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"pixels must be uint8 or lie in [0, 1], found {x.min():g} to {x.max():g}")
    return x


def _read(model: ConditionalVAE, pixels: Tensor) -> Tensor:
    """What the classifier and the encoder read: pixels, for an ADGM with the mean of its auxiliary variable."""
    return model.with_auxiliary(pixels, model.encode_a(pixels)[0]) if isinstance(model, ADGM) else pixels


def _given(model: ConditionalVAE, pixels: Tensor, y: Labels | None) -> Tensor:
    """Labels (N,) of a conditional model's images: as given, or the most probable ones."""
    if y is not None:
        return _labels(y, len(pixels)).to(pixels.device)
    if not isinstance(model, M2):
        raise ValueError("this model encodes an image with its label: give y, one label per image")
    return model.classify(_read(model, pixels)).argmax(-1)


def _labels(y: Labels | None, n: int) -> Tensor:
    found = torch.as_tensor(y, dtype=torch.int64).reshape(-1)
    if len(found) not in (1, n):
        raise ValueError(f"give one label, or {n}, got {len(found)}")
    return found.expand(n)


def _moments(codes: Tensor) -> AggregatePosterior:
    """Of codes alone (N, Z), without the width of q(z | x); of a single one those of N(0, I)."""
    if len(codes) == 1:
        zeros, ones = torch.zeros_like(codes[0]), torch.ones_like(codes[0])
        return AggregatePosterior(zeros, ones, codes[0] ** 2, zeros)
    variance = codes.var(0)
    return AggregatePosterior(codes.mean(0), variance.sqrt(), variance, torch.zeros_like(variance))
