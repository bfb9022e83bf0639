"""How a label enters a net. Labels are one-hot vectors (..., K); the zero vector stands for no label."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_helpers.nets.mlp import check_width


class WithLabel(nn.Module):
    """net(join(features(input), y)): an encoder or decoder with a label.

    Args:
        features: what the input goes through first (`nn.Identity` for nothing), (..., D) to (..., F).
        join: `RepeatedOneHot`, `LabelEmbedding`, `FiLM` or `NoLabel`, (..., F) and (..., K) to (..., join.out_dim).
        net: (..., join.out_dim) to the result.
    """

    def __init__(self, features: nn.Module, join: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.features, self.join, self.net = features, join, net

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x (..., D), y (..., K), alike but for leading axes -> the net's output."""
        return self.net(self.join(self.features(x), y))


class RepeatedOneHot(nn.Module):
    """The one-hot vector, several times over, concatenated to the features.

    The copies add no information, because weights of copies add up. They change two things in training. At the start,
    r copies have up to sqrt(r) times the effect of one copy on the next layer, because r independent weights are
    added. Under Adam the weight of each copy moves by about the learning rate per step, so their sum moves r times as
    fast. The second effect, not the first, raises the share of samples with the right label (notebook 05, exercise 3).

    Args:
        n_features: F. n_classes: K. repeats: copies, >= 1.

    Raises:
        ValueError: if ``repeats`` < 1.
    """

    def __init__(self, n_features: int, n_classes: int, *, repeats: int = 1) -> None:
        super().__init__()
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {repeats}; for no label choose the placement 'neither'")
        self.n_classes, self.repeats = n_classes, repeats
        self.out_dim = n_features + n_classes * repeats

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """h (..., F), y (..., K) -> (..., F + K repeats); raises ValueError for another number of classes."""
        check_width(y, self.n_classes, "RepeatedOneHot")
        return _concatenate(h, y.repeat_interleave(self.repeats, dim=-1))


class LabelEmbedding(nn.Module):
    """A learned vector per class, concatenated to the features.

    Args:
        n_features: F. n_classes: K. dim: of the vectors, >= 1.

    Raises:
        ValueError: if ``dim`` < 1.
    """

    def __init__(self, n_features: int, n_classes: int, *, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"an embedding needs at least one dimension, got {dim}")
        self.n_classes = n_classes
        self.table = nn.Parameter(torch.randn(n_classes, dim))
        self.out_dim = n_features + dim

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """h (..., F), y (..., K) -> (..., F + dim); raises ValueError for another number of classes."""
        check_width(y, self.n_classes, "LabelEmbedding")
        return _concatenate(h, (y @ self.table).to(h.dtype))


class FiLM(nn.Module):
    r"""Feature-wise linear modulation, :math:`h \cdot (1 + \gamma_y) + \beta_y`: the label scales and shifts features.

    Args:
        n_features: F. n_classes: K.

    Source: Perez, Strub, de Vries, Dumoulin & Courville 2018, equation 1 (gamma around one, as in their section 7).
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.scale = nn.Parameter(0.1 * torch.randn(n_classes, n_features))
        self.shift = nn.Parameter(0.1 * torch.randn(n_classes, n_features))
        self.out_dim = n_features

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """h (..., F), y (..., K) -> (..., F); raises ValueError for another number of classes."""
        check_width(y, self.n_classes, "FiLM")
        return h * (1 + (y @ self.scale).to(h.dtype)) + (y @ self.shift).to(h.dtype)


class NoLabel(nn.Module):
    """The features alone.

    Args:
        n_features: F.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.out_dim = n_features

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """h (..., F), whatever y (..., K), of which only the leading axes count."""
        leading = torch.broadcast_shapes(h.shape[:-1], y.shape[:-1])
        return h.expand(*leading, h.shape[-1])


def _concatenate(h: Tensor, label: Tensor) -> Tensor:
    leading = torch.broadcast_shapes(h.shape[:-1], label.shape[:-1])
    return torch.cat([h.expand(*leading, -1), label.to(h.dtype).expand(*leading, -1)], dim=-1)
