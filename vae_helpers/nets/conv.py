"""Convolutional nets. Images go in and come out flat, (..., C*H*W), and are reshaped inside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vae_helpers.nets.mlp import check_width
from vae_helpers.nets.transposed import DoublingConv2d


class ConvFeatures(nn.Module):
    """Strided convolutions (4x4, stride 2), each followed by a ReLU; flat images in, flat features out.

    Args:
        image_shape: (C, H, W), or (H, W) of one channel; an odd side is halved to the smaller half.
        channels: output channels of each convolution.

    Raises:
        ValueError: if the image cannot be halved that often, or for a width below 1.
    """

    def __init__(self, image_shape: Sequence[int], *, channels: Sequence[int] = (32, 32, 64, 64)) -> None:
        super().__init__()
        self.image_shape = image_shape = with_channels(image_shape)
        if min(channels, default=0) < 1:
            raise ValueError(f"the numbers of channels (filters) must be at least 1, got {tuple(channels)}")
        height, width = halved(image_shape, len(channels))[-1]
        self.out_dim = channels[-1] * height * width
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise([image_shape[0], *channels]):
            layers += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        # channels last is the order in which a CPU convolves faster (benchmark conv-steps)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C*H*W) -> (B, out_dim)."""
        check_width(x, math.prod(self.image_shape), "ConvFeatures")
        return self.layers(x.reshape(-1, *self.image_shape)).flatten(1)


class ConvEncoder(nn.Module):
    """`ConvFeatures`, one hidden layer, one linear head; flat images in.

    Args:
        image_shape, channels: as `ConvFeatures`. out_dim: output features (2Z for a Gaussian posterior).
        h_dim: width of the hidden layer.

    Raises:
        ValueError: if the image cannot be halved that often, or for a width below 1.

    Source: the dSprites encoder of Kim & Mnih 2018, appendix A (``channels=(32, 32, 64, 64), h_dim=128``).
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        out_dim: int,
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        h_dim: int = 128,
    ) -> None:
        super().__init__()
        if h_dim < 1:
            raise ValueError(f"h_dim must be at least 1, got {h_dim}")
        self.conv = ConvFeatures(image_shape, channels=channels)
        self.hidden_layer = nn.Linear(self.conv.out_dim, h_dim)
        self.head = nn.Linear(h_dim, out_dim)

    def hidden(self, x: Tensor) -> Tensor:
        """The last hidden layer, after its ReLU; x (B, C*H*W) -> (B, h_dim)."""
        return torch.relu(self.hidden_layer(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C*H*W) -> (B, out_dim); the last layer is float32 under bf16 too, whose codes would be coarse."""
        hidden = self.hidden(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(hidden.to(self.head.weight.dtype))


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: two linear layers, transposed convolutions, flat images out.

    Args:
        z_dim: input features. image_shape: of the output, as `ConvFeatures`; an odd side gets its lost row back.
        channels: channels of the *encoder* it mirrors. h_dim: width of the hidden layer.
        n_params: outputs per pixel, of the likelihood.

    Raises:
        ValueError: if the image cannot be halved that often.

    Source: as `ConvEncoder`.
    """

    def __init__(
        self,
        z_dim: int,
        image_shape: Sequence[int],
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        h_dim: int = 128,
        n_params: int = 1,
    ) -> None:
        super().__init__()
        image_shape = with_channels(image_shape)
        sizes = halved(image_shape, len(channels))[::-1]
        self.grid = (channels[-1], *sizes[0])
        self.stem = nn.Sequential(nn.Linear(z_dim, h_dim), nn.ReLU(), nn.Linear(h_dim, math.prod(self.grid)), nn.ReLU())
        widths = [*channels[::-1], n_params * image_shape[0]]
        layers: list[nn.Module] = []
        for (n_in, n_out), (small, large) in zip(itertools.pairwise(widths), itertools.pairwise(sizes), strict=True):
            odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
            layers += [
                DoublingConv2d(n_in, n_out, output_padding=odd),
                nn.ReLU(inplace=True),
            ]
        self.deconv = nn.Sequential(*layers[:-1]).to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (..., C*H*W); the linear layers are float32 under bf16 too, which would make codes coarse."""
        with torch.autocast(z.device.type, enabled=False):
            flat = self.stem(z.reshape(-1, z.shape[-1]))
        return self.deconv(flat.reshape(-1, *self.grid)).reshape(*z.shape[:-1], -1)


class CropDecoder(nn.Module):
    r"""An image from a grid of features, doubled by transposed convolutions to a little more, and cropped.

    A digit: 64x12x12, doubled (3x3, stride 2) to 25x25, a 5x5 convolution to 29x29, cropped to 28x28. A side of s
    pixels starts from :math:`\lceil (s - 3) / 2^n \rceil - 1` with the fewest doublings n >= 1 that make it 16 at most.

    Args:
        in_dim: input features. image_shape: (H, W) or (C, H, W) of the output, sides of 6 pixels or more.
        n_params: outputs per pixel, of the likelihood. h_channels: between the convolutions.

    Raises:
        ValueError: for a smaller image.

    Source: the layers of the code that notebook 04 checks (Hidden-Hyperparameter); for 28x28 they give 29x29.
    """

    IN_CHANNELS, LARGEST = 64, 16

    def __init__(
        self, in_dim: int, image_shape: Sequence[int] = (28, 28), *, n_params: int = 1, h_channels: int = 16
    ) -> None:
        super().__init__()
        n_colours, *self.size = with_channels(image_shape)
        if min(self.size) < 6:
            raise ValueError(f"an image of {self.size[0]}x{self.size[1]} is too small: 6 pixels a side at least")
        n = 1
        while -(-(max(self.size) - 3) // 2**n) - 1 > self.LARGEST:
            n += 1
        rows, columns = (-(-(side - 3) // 2**n) - 1 for side in self.size)
        self.grid = (max(rows, 1), max(columns, 1), self.IN_CHANNELS)
        self.stem = nn.Sequential(nn.Linear(in_dim, math.prod(self.grid)), nn.ReLU())
        layers: list[nn.Module] = []
        for n_in in (self.IN_CHANNELS, *[h_channels] * (n - 1)):
            layers += [nn.ConvTranspose2d(n_in, h_channels, 3, stride=2), nn.ReLU()]
        self.deconv = nn.Sequential(*layers, nn.ConvTranspose2d(h_channels, n_params * n_colours, 5))

    def forward(self, h: Tensor) -> Tensor:
        """h (..., in_dim) -> (..., n_params*C*H*W)."""
        # laid out with the channels last, in which order a CPU convolves faster (benchmark conv-steps)
        grid = self.stem(h.reshape(-1, h.shape[-1])).reshape(-1, *self.grid).permute(0, 3, 1, 2)
        return self.deconv(grid)[..., : self.size[0], : self.size[1]].reshape(*h.shape[:-1], -1)


def with_channels(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) of (C, H, W) or of (H, W), which has one channel.

    Raises:
        ValueError: for another number of axes, or a side below 1.
    """
    shape = tuple(image_shape) if len(image_shape) == 3 else (1, *image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"an image is (H, W) or (C, H, W), got {tuple(image_shape)}")
    return shape[0], shape[1], shape[2]


def n_halvings(image_shape: Sequence[int]) -> int:
    """How often images of this shape are halved by default: while the smaller side has 8 pixels or more."""
    return max(1, min(image_shape[-2:]).bit_length() - 3)


def conv_channels(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Channels of `ConvEncoder` for a shape, one per halving: 32, 32, then 64; (32, 32, 64, 64) for 64x64."""
    n = n_halvings(image_shape)
    return ((32, 32) + (64,) * n)[:n]


def halved(image_shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """(H, W) before and after each halving, the smaller half of an odd side.

    Raises:
        ValueError: if a side would have no pixel left.
    """
    height, width = image_shape[-2:]
    if min(height, width) >> times == 0:
        raise ValueError(f"an image of {height}x{width} cannot be halved {times} times; use fewer channels")
    return [(height >> k, width >> k) for k in range(times + 1)]
