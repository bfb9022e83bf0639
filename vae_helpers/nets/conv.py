"""Convolutional nets. Images go in and come out flat, (..., C*H*W), and are reshaped inside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vae_helpers.nets.mlp import check_width


class ConvFeatures(nn.Module):
    """Strided convolutions (4x4, stride 2), each followed by a ReLU; flat images in, flat features out.

    Args:
        image_shape: (C, H, W); H and W divisible by 2 once per entry of ``channels``.
        channels: output channels of each convolution.

    Raises:
        ValueError: if the image cannot be halved that often.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, channels: Sequence[int] = (32, 32, 64, 64)) -> None:
        super().__init__()
        self.image_shape = image_shape
        height, width = _halved(image_shape, len(channels))
        self.out_dim = channels[-1] * height * width
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise([image_shape[0], *channels]):
            layers += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
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
        ValueError: if the image cannot be halved that often.

    Source: the dSprites encoder of Kim & Mnih 2018, appendix A (``channels=(32, 32, 64, 64), h_dim=128``).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        out_dim: int,
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        h_dim: int = 128,
    ) -> None:
        super().__init__()
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
        z_dim: input features. image_shape: (C, H, W) of the output.
        channels: channels of the *encoder* it mirrors. h_dim: width of the hidden layer.

    Raises:
        ValueError: if the image cannot be halved that often.

    Source: as `ConvEncoder`.
    """

    def __init__(
        self,
        z_dim: int,
        image_shape: tuple[int, int, int],
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        h_dim: int = 128,
    ) -> None:
        super().__init__()
        height, width = _halved(image_shape, len(channels))
        self.grid = (channels[-1], height, width)
        self.stem = nn.Sequential(nn.Linear(z_dim, h_dim), nn.ReLU(), nn.Linear(h_dim, math.prod(self.grid)), nn.ReLU())
        widths = [*channels[::-1], image_shape[0]]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
        self.deconv = nn.Sequential(*layers[:-1]).to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (..., C*H*W); the linear layers are float32 under bf16 too, which would make codes coarse."""
        with torch.autocast(z.device.type, enabled=False):
            flat = self.stem(z.reshape(-1, z.shape[-1]))
        return self.deconv(flat.reshape(-1, *self.grid)).reshape(*z.shape[:-1], -1)


class CropDecoder(nn.Module):
    """A 28x28 image from 12x12 features: 64x12x12, transposed convolutions (3x3 stride 2, 5x5) to 29x29, cropped.

    Args:
        in_dim: input features. channels: output channels C. h_channels: between the convolutions.

    Source: the shapes of a public write-up on the decoder variance (notebook 04); 29x29 is what they give.
    """

    GRID = (12, 12, 64)

    def __init__(self, in_dim: int, *, channels: int = 1, h_channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(in_dim, math.prod(self.GRID)), nn.ReLU())
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(self.GRID[-1], h_channels, 3, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(h_channels, channels, 5),
        )

    def forward(self, h: Tensor) -> Tensor:
        """h (..., in_dim) -> (..., channels*784)."""
        # laid out with the channels last, in which order a CPU convolves faster (benchmark conv-steps)
        grid = self.stem(h.reshape(-1, h.shape[-1])).reshape(-1, *self.GRID).permute(0, 3, 1, 2)
        return self.deconv(grid)[..., :28, :28].reshape(*h.shape[:-1], -1)


def _halved(image_shape: tuple[int, int, int], times: int) -> tuple[int, int]:
    _, height, width = image_shape
    if height % 2**times or width % 2**times:
        raise ValueError(f"an image of {height}x{width} cannot be halved {times} times; use fewer channels")
    return height >> times, width >> times
