"""Ways to compute one transposed convolution (4x4, stride 2, padding 1), side by side on the decoder's shapes."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Table, interleaved
from vae_helpers.nets.transposed import DoublingConv2d

SHAPES = ((64, 64, 4), (64, 32, 8), (32, 32, 16), (32, 1, 32))  # channels in and out, side of the input


def transposed(x: Tensor, weight: Tensor) -> Tensor:
    """As torch has it; x (B, I, H, W), weight (I, O, 4, 4) -> (B, O, 2H, 2W)."""
    return F.conv_transpose2d(x, weight, stride=2, padding=1)


def sub_pixel(x: Tensor, kernel: Tensor) -> Tensor:
    """The same function from `sub_pixel_kernel`: a 3x3 convolution to four images a channel, interleaved."""
    return F.pixel_shuffle(F.conv2d(x, kernel, padding=1), 2)


def sub_pixel_kernel(weight: Tensor) -> Tensor:
    """(I, O, 4, 4) of a transposed convolution -> (4 O, I, 3, 3), where 5 of the 9 weights of a kernel are 0.

    Output pixel 2 i + a sums input pixels i + t - 1 with the weight at a + 1 - 2 (t - 1), where there is one.
    """
    n_in, n_out = weight.shape[:2]
    kernel = weight.new_zeros(n_out, 2, 2, n_in, 3, 3)
    pairs = [(a, t, a + 3 - 2 * t) for a in range(2) for t in range(3) if 0 <= a + 3 - 2 * t < 4]
    for a, t, k in pairs:
        for b, u, j in pairs:
            kernel[:, a, b, :, t, u] = weight[:, :, k, j].T
    return kernel.reshape(4 * n_out, n_in, 3, 3)


def product_and_fold(x: Tensor, weight: Tensor) -> Tensor:
    """One matrix product, then the overlapping 4x4 pieces added up."""
    n, channels, height, width = x.shape
    pieces = x.permute(0, 2, 3, 1).reshape(n, height * width, channels) @ weight.flatten(1)
    return F.fold(pieces.transpose(1, 2), (2 * height, 2 * width), 4, stride=2, padding=1)


def doubling(n_in: int, n_out: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of `DoublingConv2d` with weights from outside, without a bias to speak of."""
    layer, bias = DoublingConv2d(n_in, n_out), torch.zeros(n_out)

    def function(x: Tensor, weight: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(layer, {"weight": weight, "bias": bias.to(x.dtype)}, (x,))
        return made

    return function


def ways(quick: bool) -> Table:
    """Milliseconds of forward and backward, batch 64, channels last: medians over interleaved rounds."""
    words = ["", "transposed", "as in the nets", "sub-pixel", "product and fold"]
    table = Table("A transposed convolution, forward and backward, ms", words)
    for dtype in (torch.float32, torch.bfloat16):
        for n_in, n_out, side in SHAPES:
            x = torch.randn(64, n_in, side, side).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
            weight = (0.05 * torch.randn(n_in, n_out, 4, 4)).to(dtype)
            gradient = torch.randn(64, n_out, 2 * side, 2 * side).to(dtype).to(memory_format=torch.channels_last)
            runs = {
                "transposed": _both(transposed, x, weight, gradient),
                "as in the nets": _both(doubling(n_in, n_out), x, weight, gradient),
                "sub-pixel": _both(sub_pixel, x, sub_pixel_kernel(weight), gradient),
                "product and fold": _both(product_and_fold, x, weight, gradient),
            }
            for run in runs.values():
                run()
            seconds = interleaved(runs, rounds=5 if quick else 20)
            name = f"{n_in} to {n_out} channels, {side}x{side}, {str(dtype).removeprefix('torch.')}"
            table.rows.append((name, *(1e3 * statistics.median(seconds[way]) for way in runs)))
    return table


def _both(way: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, gradient: Tensor) -> Callable[[], None]:
    weight = weight.detach().clone(memory_format=torch.channels_last).requires_grad_()
    return lambda: torch.autograd.backward(way(x, weight), gradient)
