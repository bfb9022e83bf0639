"""The explorer that fits a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_helpers.models import GMVAE, Classifier, ConditionalVAE
from vae_helpers.page.labels import label_spec
from vae_helpers.page.latents import component_spec, latent_spec, pad_spec
from vae_helpers.page.specs import Spec
from vae_helpers.plotting import ImageShape
from vae_helpers.priors import Mixture


@torch.no_grad()
def spec_for(
    model: Any,
    x: Tensor,
    y: Tensor | None = None,
    *,
    shape: ImageShape,
    classes: Sequence[str] | None = None,
    **options: Any,
) -> Spec:
    """Labels and style of a conditional model, components of a mixture prior, the plane of two latents, else sliders.

    Args:
        model: a trained one, in evaluation mode. x: images, (N, D) float, N >= 2. y: their classes, (N,) int64.
        shape: of an image. classes: their names. options: of the spec that is chosen (`label_spec` and so on).

    Raises:
        ValueError: for a model that draws no pictures, or a conditional one without labels; or as the spec chosen.
    """
    if isinstance(model, GMVAE):
        model = model.given(model.one_hot(model.classify(x).argmax(-1)))
    elif isinstance(model, ConditionalVAE):
        if y is None:
            raise ValueError("this model draws a code with a label: give y, one label per image")
        return label_spec(model, x, y, shape=shape, classes=classes, **options)
    if isinstance(model, Classifier) or not hasattr(model, "decode_mean"):
        raise ValueError(f"a {type(model).__name__} draws no pictures")
    if isinstance(getattr(model, "prior", None), Mixture):
        return component_spec(model, x, shape=shape, **options)
    if model.z_dim == 2:
        options.pop("n_sliders", None)  # a plane has none
        return pad_spec(model, x, y, shape=shape, classes=classes, **options)
    return latent_spec(model, x, shape=shape, **options)
