"""A transposed convolution that a CPU computes faster: the same function, other kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class DoublingConv2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` with a 4x4 kernel, stride 2 and padding 1: an image of twice the size.

    Weights, results and gradients are those of ``ConvTranspose2d``, to rounding. On a CPU, gradients are computed by
    the kernels of the ordinary convolution (a transposed convolution is its gradient), and an output of one channel
    by one matrix product, whose kernel-sized pieces are then added up (benchmark conv-ways). Elsewhere, and where a
    side is odd, it is ``ConvTranspose2d`` itself.

    Args:
        in_channels, out_channels: as there. output_padding: rows and columns added to the output, 0 or 1 each.
    """

    def __init__(self, in_channels: int, out_channels: int, *, output_padding: tuple[int, int] = (0, 0)) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, output_padding=output_padding)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x (B, I, H, W) -> (B, O, 2H, 2W), and the output padding."""
        assert self.bias is not None
        if x.device.type != "cpu" or any(self.output_padding) or output_size is not None:
            return super().forward(x, output_size)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        with torch.autocast("cpu", enabled=False):
            doubled: Tensor = _Doubling.apply(x, weight, bias)
        return doubled


class _Doubling(torch.autograd.Function):
    """(x, weight (I, O, 4, 4), bias (O,)) -> image; both gradients are ordinary convolutions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        if weight.shape[1] > 1:
            return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
        product = F.conv2d(x, weight.flatten(1).t()[..., None, None])
        return _add_shifted(product.unflatten(1, (-1, 4, 4))) + bias[:, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        needs_x = ctx.needs_input_grad[0]
        on_x = F.conv2d(gradient, weight, stride=2, padding=1) if needs_x else None
        on_weight = torch.ops.aten.convolution_backward(
            x, gradient, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
        )[1]
        return on_x, on_weight, gradient.sum((0, 2, 3))


def _add_shifted(pieces: Tensor) -> Tensor:
    """(B, O, 4, 4, H, W), piece (i, j) of pixel (h, w) at row 2h + i - 1, column 2w + j - 1 -> (B, O, 2H, 2W)."""
    height, width = pieces.shape[-2:]
    even = pieces[:, :, 1] + F.pad(pieces[:, :, 3], (0, 0, 1, 0))[..., :height, :]
    odd = pieces[:, :, 2] + F.pad(pieces[:, :, 0], (0, 0, 0, 1))[..., 1:, :]
    rows = torch.stack((even, odd), -2).flatten(-3, -2)  # (B, O, 4, 2H, W)
    even = rows[:, :, 1] + F.pad(rows[:, :, 3], (1, 0))[..., :width]
    odd = rows[:, :, 2] + F.pad(rows[:, :, 0], (0, 1))[..., 1:]
    return torch.stack((even, odd), -1).flatten(-2)
