"""Explorers in JupyterLab: the front end decodes by itself, Python sees the values."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from vae_helpers.data import FactorCode, FactorImages
from vae_helpers.models import VAE, Autoencoder, ConditionalVAE
from vae_helpers.page import (
    Spec,
    comparison_spec,
    component_spec,
    factor_spec,
    fragment,
    front_end,
    label_spec,
    latent_spec,
    pad_spec,
    style,
)
from vae_helpers.plotting import ImageShape

STILL = "Above is a still picture. Run this cell for the live explorer, or open the page where scripts run."
EMBED = "VAE_EMBED"  # if set, a cell's output also holds the page, for viewers without a kernel


class Explorer(anywidget.AnyWidget):
    """Controls over one or more decoders that run in the page; a model whose layers it lacks is decoded by the kernel.

    Args:
        spec: what is shown, as the functions of `vae_helpers.page` make it.

    ``z`` holds the code on show, (Z,) (of several models one behind the other), ``example``, ``label`` and
    ``component`` what is chosen; setting them moves the controls.
    """

    spec = traitlets.Dict().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)
    z = traitlets.List(traitlets.Float()).tag(sync=True)
    example = traitlets.Int(0).tag(sync=True)
    label = traitlets.Int(-1).tag(sync=True)
    component = traitlets.Int(0).tag(sync=True)

    _esm = front_end()
    _css = style()

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        super().__init__(spec=spec.fields, data=spec.data, z=spec.z)
        if spec.fields["labels"]:
            self.label = self._array(spec.fields["labels"])[0].item()
        self.on_msg(self._answer)

    def start_from(self, example: int) -> None:
        """Show the code, and the label, of an example.

        Raises:
            IndexError: for an example that the explorer does not have.
        """
        fields = self._spec.fields
        if not 0 <= example < fields["n_examples"]:
            raise IndexError(f"there are examples 0 to {fields['n_examples'] - 1}, not {example}")
        codes = [self._array(model["codes"])[example] for model in fields["models"]]
        with self.hold_sync():
            self.example = example
            self.z = np.concatenate(codes).tolist()
            if fields["labels"]:
                self.label = self._array(fields["labels"])[example].item()

    def codes(self) -> list[Tensor]:
        """The code on show of each model, (Z,)."""
        widths = [model["z_dim"] for model in self._spec.fields["models"]]
        return list(torch.tensor(self.z).split(widths))

    def pictures(self) -> Tensor:
        """What each model makes of its code on show, as Python computes it, (models, D)."""
        label = self.label if self._spec.fields["labels"] else None
        return torch.stack([self._decoded(i, z, label) for i, z in enumerate(self.codes())])

    @property
    def still(self) -> bytes:
        """The picture that a page without scripts shows, PNG."""
        return self._spec.still()

    def _decoded(self, i: int, z: Tensor, label: int | None) -> Tensor:
        model = self._spec.models[i]
        z = z.to(next(_owner(model).parameters()).device)[None]
        given = () if label is None else (model.one_hot(torch.tensor([label], device=z.device)),)
        with torch.inference_mode():
            pictures: Tensor = model.decode_mean(z, *given)
        return pictures[0].cpu()

    def _answer(self, _widget: Any, message: dict[str, Any], _buffers: Any) -> None:
        """Decode a code that the page could not."""
        try:
            x = self._decoded(int(message["model"]), torch.tensor(message["z"], dtype=torch.float32), message["label"])
        except Exception as error:  # shown in the page, which waits for an answer
            self.send({"id": message.get("id"), "error": f"{type(error).__name__}: {error}"})
            raise
        self.send({"id": message["id"]}, buffers=[x.numpy().astype("<f4").tobytes()])

    def _array(self, name: str) -> np.ndarray:
        at = self._spec.fields["arrays"][name]
        count = int(np.prod(at["shape"]))
        return np.frombuffer(self._spec.data, at["dtype"], count, at["offset"]).reshape(at["shape"])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        still = base64.b64encode(self.still).decode()
        data = {**data, "text/plain": f"{type(self).__name__}: run this cell for live controls", "image/png": still}
        if os.environ.get(EMBED) and not self._spec.needs_kernel:
            data["text/html"] = fragment(self._spec, without=STILL)
        return data, metadata


def _owner(model: Any) -> Any:
    return getattr(model, "conditional", model)


class LatentExplorer(Explorer):
    """Sliders over a model's latents, most informative first; original, reconstruction and edited picture.

    A slider's unit is one standard deviation of that latent under the aggregate posterior q(z), from
    its mean: 0 is the average code, and +-3 covers the data whether or not the model keeps to its prior.
    Latents beyond ``n_sliders`` keep the code of the chosen example.

    Args:
        model: a trained `VAE` or `Autoencoder`, in evaluation mode (a `ConditionalVAE` through `LabelExplorer`).
        x: example images to start from, (N, D) float in the model's range, N >= 2; the page holds the first ones,
            up to 80 kB (16 images at least).
        shape: (H, W), (1, H, W) or (3, H, W). n_sliders: at most this many. limit: of the sliders. scale: enlargement.

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
        scale: int = 4,
    ) -> None:
        super().__init__(latent_spec(model, x, shape=shape, n_sliders=n_sliders, limit=limit, scale=scale))


class LatentPad(Explorer):
    """A plane over the codes of a model with two latents; the picture follows mouse, finger or arrow keys.

    Args:
        model: a trained model with z_dim = 2, in evaluation mode.
        x: images whose codes are drawn, (N, D) float. y: their classes, or None; the legend names them.
        shape: of an image. limit: half-width of the plane in units of z; None covers 99.5 % of the codes.
        scale: enlargement. classes: names of the classes; None for their numbers.

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
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(pad_spec(model, x, y, shape=shape, limit=limit, scale=scale, classes=classes))


class LabelExplorer(Explorer):
    """A `LatentExplorer` of a `ConditionalVAE` (`M2` is one): a button per label, sliders for z, z under every label.

    Args:
        model: a trained one, in evaluation mode. x: example images, (N, D) float, N >= 2. y: their labels, (N,) int64.
        shape: (H, W), (1, H, W) or (3, H, W). n_sliders, limit, scale: as `LatentExplorer`.
        classes: names of the labels 0 to K - 1; None for their numbers.

    Raises:
        ValueError: as `LatentExplorer`, or for labels or class names that do not fit.
    """

    def __init__(
        self,
        model: ConditionalVAE,
        x: Tensor,
        y: Tensor,
        *,
        shape: ImageShape,
        classes: Sequence[str] | None = None,
        n_sliders: int = 8,
        limit: float = 3.0,
        scale: int = 4,
    ) -> None:
        spec = label_spec(model, x, y, shape=shape, classes=classes, n_sliders=n_sliders, limit=limit, scale=scale)
        super().__init__(spec)


class ComponentExplorer(Explorer):
    """A `LatentExplorer` that starts from a component of the prior: its mean, or a draw from it.

    Components come in the order of the share of the examples' codes that falls to them,
    :math:`\\frac1N \\sum_n p(k \\mid \\mu(x_n))`.

    Args:
        model: a trained `VAE` whose prior is a mixture (a `VampPrior` is one), in evaluation mode.
        x, shape, n_sliders, limit, scale: as `LatentExplorer`.

    Raises:
        ValueError: as `LatentExplorer`, or for a model whose prior is no mixture.
    """

    def __init__(
        self, model: VAE, x: Tensor, *, shape: ImageShape, n_sliders: int = 8, limit: float = 3.0, scale: int = 4
    ) -> None:
        super().__init__(component_spec(model, x, shape=shape, n_sliders=n_sliders, limit=limit, scale=scale))


class ComparisonExplorer(Explorer):
    """Label buttons and latent sliders that move several models at once, their pictures side by side.

    Slider j moves the j-th most informative latent of each model away from its code of the chosen example, in standard
    deviations of that latent: 0 is the code itself.

    Args:
        models: name -> a trained `ConditionalVAE`, in evaluation mode, with the same number of classes.
        x: example images, (N, D) float, N >= 2. y: their labels, (N,) int64. shape, classes: as `LabelExplorer`.
        n_sliders: at most this many. limit: of the sliders. scale: enlargement.

    Raises:
        ValueError: for no models, or as `LabelExplorer`.
    """

    def __init__(
        self,
        models: Mapping[str, ConditionalVAE],
        x: Tensor,
        y: Tensor,
        *,
        shape: ImageShape,
        classes: Sequence[str] | None = None,
        n_sliders: int = 6,
        limit: float = 3.0,
        scale: int = 3,
    ) -> None:
        spec = comparison_spec(
            models, x, y, shape=shape, classes=classes, n_sliders=n_sliders, limit=limit, scale=scale
        )
        super().__init__(spec)


class FactorExplorer(Explorer):
    """Sliders named after the factors; the true picture beside what decoders make of the same code.

    A slider runs over the scaled values of its factor, -0.9 to 0.9 on the grid. The true picture (of dSprites) is that
    of the nearest values on the grid, as `data.dsprites.render` draws it; a decoder also takes what lies between and a
    little beyond. Below, each model encodes the true picture and decodes the mean.

    Args:
        models: name -> a `VAE` in evaluation mode whose latents are those of ``code``. images: the data set.
        code: from factors to latents. scale: enlargement.

    Raises:
        ValueError: for no models, a model of another width, or images and a code of different factors.
    """

    def __init__(self, models: Mapping[str, VAE], images: FactorImages, code: FactorCode, *, scale: int = 3) -> None:
        super().__init__(factor_spec(models, images, code, scale=scale))
