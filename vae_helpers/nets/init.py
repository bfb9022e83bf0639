"""Initial weights other than PyTorch's own."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def he_init(net: nn.Module) -> None:
    r"""Start a net of ReLUs so that what passes keeps its size, and differences between inputs with it, in place.

    .. math:: W_{ij} \sim \mathcal N(0,\; 2 / n_{in}), \qquad b = 0

    :math:`n_{in}` counts what one output is a sum of; for a transposed convolution that is
    :math:`C_{in} k^2 / s^2`, with kernel k and stride s. PyTorch draws weights of variance
    :math:`1 / (3 n_{in})`, a sixth of that (of a transposed convolution :math:`1 / (3 C_{out} k^2)`), and biases as
    large, which are alike for all inputs and drown what differs between them when the rest has shrunk.

    The last layer, behind which there is no ReLU, keeps PyTorch's draw.

    Args:
        net: its linear layers and convolutions in the order in which they are used.

    Source: He, Zhang, Ren & Sun 2015, equation 10.
    """
    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    for layer in layers[:-1]:
        n_in: float = layer.weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):  # weights (C_in, C_out, k, k)
            taps = layer.weight[0, 0].numel() / (layer.stride[0] * layer.stride[1])
            n_in = layer.in_channels * taps
        layer.weight.normal_(std=(2 / n_in) ** 0.5)
        if layer.bias is not None:
            layer.bias.zero_()
