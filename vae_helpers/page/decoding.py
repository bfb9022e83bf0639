"""A decoder as a list of layers that a page runs by itself (``static/decoder.js``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_helpers.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    GaussianPerPixel,
    Levels,
    Likelihood,
    Logistic,
)
from vae_helpers.models import GMVAE, M2, VAE, Autoencoder, ConditionalVAE
from vae_helpers.models.conditional import GivenLabel
from vae_helpers.nets import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    CropDecoder,
    FiLM,
    FixedVariance,
    JointMLP,
    LabelEmbedding,
    NoLabel,
    RepeatedOneHot,
    WithLabel,
)
from vae_helpers.nets.transposed import DoublingConv2d
from vae_helpers.page.arrays import Arrays

Layer = dict[str, Any]
MOST_MOVED = 1 / 1024  # of a pixel, by weights in half precision
MODELS = (Autoencoder, VAE, ConditionalVAE, M2, GMVAE)  # these classes themselves: another may decode in another way
POINTWISE: Mapping[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ELU: "elu",
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
}


class NotInAPage(ValueError):
    """The model has a part that a page cannot run; the message names it."""


def page_decoder(model: Any, arrays: Arrays, *, prefix: str = "", half: bool = True) -> dict[str, Any]:
    """p(x | z) or p(x | y, z) of a model as layers; their weights are added to ``arrays``.

    Args:
        model: an `Autoencoder`, `VAE`, `ConditionalVAE` (`M2`, `GMVAE`) or `GivenLabel`. arrays: for the weights.
        prefix: of their names. half: weights in float16 in the place of float32.

    Returns:
        ``z_dim``, ``n_classes`` (0 without labels), ``size`` D, and ``layers``, each with its ``op``.

    Raises:
        NotInAPage: for a layer, a likelihood or a model that the page does not know.
    """
    if isinstance(model, GivenLabel):
        if not isinstance(model.conditional, GMVAE):
            raise NotInAPage("a model under labels that are fixed")
        model = model.conditional
    if type(model) not in MODELS:
        raise NotInAPage(f"the model {type(model).__name__}")
    labelled = isinstance(model, ConditionalVAE) and not isinstance(model, GMVAE)
    writer = _Writer(arrays, prefix, "float16" if half else "float32")
    layers = writer.net(model.decoder)
    with torch.inference_mode():
        n_classes = model.n_classes if labelled else 0
        z = torch.zeros(1, model.z_dim, device=next(model.parameters()).device)
        given = () if not labelled else (model.one_hot(torch.zeros(1, dtype=torch.int64, device=z.device)),)
        size = model.decode_mean(z, *given).shape[-1]
    return {
        "z_dim": model.z_dim,
        "n_classes": n_classes,
        "size": size,
        "layers": layers + _mean(model.likelihood, size),
    }


def page_encoder(model: Any, arrays: Arrays, x_dim: int, *, prefix: str = "", half: bool = True) -> dict[str, Any]:
    """The mean of q(z | x) as layers, in the form of `page_decoder`: ``z_dim`` numbers in (D), ``size`` out (Z).

    Args:
        model: a `VAE` or `Autoencoder`. arrays, prefix, half: as `page_decoder`. x_dim: D.

    Raises:
        NotInAPage: for a layer or a model that the page does not know.
    """
    if type(model) not in (VAE, Autoencoder):
        raise NotInAPage(f"the encoder of the model {type(model).__name__}")
    layers = _Writer(arrays, prefix, "float16" if half else "float32").net(model.encoder)
    layers.append({"op": "first", "size": model.z_dim})
    return {"z_dim": x_dim, "n_classes": 0, "size": model.z_dim, "layers": layers}


def half_is_enough(model: Any, z: Tensor, *label: Tensor) -> bool:
    """True if weights in half precision move no pixel of these codes by more than 1/1024.

    Args:
        model: as `page_decoder`. z: codes, (N, Z). label: one-hot (N, K), of a model with labels.
    """
    with torch.inference_mode():
        exact = model.decode_mean(z, *label)
        owner = model.conditional if isinstance(model, GivenLabel) else model
        state = {name: value.clone() for name, value in owner.state_dict().items()}
        try:
            owner.load_state_dict({k: v.half().to(v) if v.is_floating_point() else v for k, v in state.items()})
            rounded = model.decode_mean(z, *label)
        finally:
            owner.load_state_dict(state)
    return bool((exact - rounded).abs().max() <= MOST_MOVED)  # not a number: False


class _Writer:
    """Layers of nets, with their weights named by their place."""

    def __init__(self, arrays: Arrays, prefix: str, dtype: str) -> None:
        self.arrays, self.prefix, self.dtype, self.count = arrays, prefix, dtype, 0

    def weights(self, values: Tensor | np.ndarray) -> str:
        self.count += 1
        return self.arrays.add(f"{self.prefix}w{self.count}", values, self.dtype)

    def dense(self, layer: nn.Linear, rows: Tensor | None = None) -> Layer:
        """A linear layer; ``rows`` puts its outputs in another order."""
        weight: Tensor = layer.weight
        bias: Tensor | None = layer.bias
        if rows is not None:
            weight, bias = weight[rows], None if bias is None else bias[rows]
        name = self.weights(weight)
        return {
            "op": "dense",
            "n_in": layer.in_features,
            "n_out": layer.out_features,
            "weight": name,
            "bias": None if bias is None else self.weights(bias),
        }

    def net(self, net: nn.Module) -> list[Layer]:
        kind = type(net)  # no subclass, whose forward may be another
        if kind in (nn.Sequential, MLP):
            return [layer for part in net.children() for layer in self.net(part)]
        if isinstance(net, nn.Linear) and kind is nn.Linear:
            return [self.dense(net)]
        if isinstance(net, JointMLP) and kind is JointMLP and len(net.in_dims) == 2:
            of_code, of_label = net.inputs
            assert isinstance(of_code, nn.Linear)
            assert isinstance(of_label, nn.Linear)
            label = {"op": "add_label", "table": self.weights(of_label.weight.T), "size": of_label.out_features}
            return [self.dense(of_code), label, *self.net(net.tail)]
        if isinstance(net, WithLabel) and kind is WithLabel:
            return [*self.net(net.features), *self.join(net.join), *self.net(net.net)]
        if isinstance(net, ConvDecoder) and kind is ConvDecoder:
            return [*self.net(net.stem), *self.convolutions(net.deconv, net.grid[1:])[0]]
        if isinstance(net, CropDecoder) and kind is CropDecoder:
            return self.cropped(net)
        if isinstance(net, FixedVariance) and kind is FixedVariance:
            return self.net(net.net)  # the means
        if isinstance(net, ConvEncoder) and kind is ConvEncoder:
            shape = net.conv.image_shape
            features, _ = self.convolutions(net.conv.layers, shape[1:])
            return [*features, self.dense(net.hidden_layer), {"op": "relu"}, self.dense(net.head)]
        if isinstance(net, nn.LeakyReLU):
            return [{"op": "leaky_relu", "slope": net.negative_slope}]
        if kind is nn.Identity:
            return []
        if kind in POINTWISE and getattr(net, "alpha", 1) == 1:
            return [{"op": POINTWISE[kind]}]
        raise NotInAPage(f"the layer {kind.__name__}")

    def join(self, join: nn.Module) -> list[Layer]:
        match join:
            case RepeatedOneHot():
                copies = torch.eye(join.n_classes).repeat_interleave(join.repeats, dim=-1)
                return [{"op": "join_label", "table": self.weights(copies), "size": copies.shape[1]}]
            case LabelEmbedding():
                return [{"op": "join_label", "table": self.weights(join.table), "size": join.table.shape[1]}]
            case FiLM():
                scale, shift = self.weights(join.scale), self.weights(join.shift)
                return [{"op": "film", "scale": scale, "shift": shift, "size": join.scale.shape[1]}]
            case NoLabel():
                return []
        raise NotInAPage(f"the layer {type(join).__name__}")

    def convolutions(self, net: nn.Sequential, size: tuple[int, ...]) -> tuple[list[Layer], tuple[int, int, int]]:
        """Layers of convolutions on images of a size (H, W), and (C, H, W) of what comes out."""
        layers: list[Layer] = []
        (height, width), n_out = size, 0
        for part in net:
            known = type(part) in (nn.Conv2d, nn.ConvTranspose2d, DoublingConv2d)
            if not isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)) or not known:
                layers += self.net(part)
                continue
            if part.groups != 1 or set(part.dilation) != {1} or isinstance(part.padding, str):
                raise NotInAPage("a convolution with groups, dilation or padding by a word")
            kernel, stride, padding, more = (
                [int(v) for v in values]
                for values in (part.kernel_size, part.stride, part.padding, part.output_padding)
            )
            n_out = part.out_channels
            layer = {
                "op": "conv" if isinstance(part, nn.Conv2d) else "conv_transpose",
                "n_in": part.in_channels,
                "n_out": n_out,
                "height": height,
                "width": width,
                "kernel": kernel,
                "stride": stride,
                "padding": padding,
                "output_padding": more,
                "weight": self.weights(part.weight),
                "bias": self.weights(torch.zeros(n_out) if part.bias is None else part.bias),
            }
            layers.append(layer)
            if isinstance(part, nn.Conv2d):
                height, width = (
                    (side + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i, side in enumerate((height, width))
                )
            else:
                height, width = (
                    (side - 1) * stride[i] - 2 * padding[i] + kernel[i] + more[i]
                    for i, side in enumerate((height, width))
                )
        return layers, (n_out, height, width)

    def cropped(self, net: CropDecoder) -> list[Layer]:
        rows, columns, channels = net.grid
        stem, *activations = net.stem
        assert isinstance(stem, nn.Linear)
        order = torch.arange(rows * columns * channels).view(rows, columns, channels).permute(2, 0, 1).flatten()
        layers = [self.dense(stem, order), *self.net(nn.Sequential(*activations))]
        more, (n_out, height, width) = self.convolutions(net.deconv, (rows, columns))
        crop = {"op": "crop", "channels": n_out, "height": height, "width": width}
        return [*layers, *more, {**crop, "rows": net.size[0], "columns": net.size[1]}]


def _mean(likelihood: Likelihood, size: int) -> list[Layer]:
    """Layers from the decoder's output to the mean of the likelihood."""
    first = {"op": "first", "size": size}
    mean = type(likelihood).mean  # a subclass may have another
    if isinstance(likelihood, Levels) and mean is Levels.mean:
        return _mean(likelihood.density, size)
    if mean is Bernoulli.mean:
        return [{"op": "sigmoid"}]
    if mean is ContinuousBernoulli.mean:
        return [{"op": "continuous_bernoulli"}]
    if mean is Logistic.mean:
        return [first, {"op": "sigmoid"}]
    if isinstance(likelihood, GaussianPerPixel) and mean is GaussianPerPixel.mean:
        return [first, *_output(likelihood.output)]
    if isinstance(likelihood, Gaussian) and mean is Gaussian.mean:
        return _output(likelihood.output)
    raise NotInAPage(f"the likelihood {type(likelihood).__name__}")


def _output(output: str) -> list[Layer]:
    return [] if output == "identity" else [{"op": output}]
