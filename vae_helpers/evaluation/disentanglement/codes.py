"""Codes of images whose factors are known: what every disentanglement metric starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_helpers.data.factors import FactorGrid, FactorImages

Encoder = Callable[[Tensor], Tensor]  # pixels (N, D) float in [0, 1] -> code (N, Z): a posterior's mean, or a sample
ENCODE_BATCH = 1024  # images made and encoded at once


@dataclass(frozen=True)
class Score:
    """A metric's value and how far chance moves it.

    Args:
        score: 1 at best. standard_error: of ``score``; each metric says what it comes from.
    """

    score: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.score:.3f} ± {self.standard_error:.3f}"


@torch.inference_mode()
def encode_classes(
    encoder: Encoder,
    images: FactorImages,
    classes: Tensor,
    *,
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> Tensor:
    """The codes of the images with these classes, made and encoded piece by piece.

    Args:
        encoder: pixels (B, D) -> code (B, Z); in evaluation mode. images: the data set. classes: (N, F) int64, N >= 1.
        device: where images are made and encoded. encode_batch: images at once, >= 1; the codes do not depend on it.

    Returns:
        (N, Z), on the CPU, in the encoder's precision.

    Raises:
        ValueError: for no images, a model in training mode, codes that are not one float tensor (B, Z) with the same Z
            each time, or codes that are not finite.
    """
    at_least("the number of images", len(classes), 1)
    at_least("encode_batch", encode_batch, 1)
    owner = getattr(encoder, "__self__", encoder)
    if isinstance(owner, nn.Module) and owner.training:
        raise ValueError("the model is in training mode; call model.eval() before measuring it")
    codes = torch.empty(0)
    at = 0
    for chunk in classes.split(encode_batch):
        code = encoder(images.pixels(chunk.to(device)))
        _check_code(code, n=len(chunk), z_dim=codes.shape[1] if at else None)
        if at == 0:
            with torch.inference_mode(False):  # a plain tensor: it may take part in a gradient later
                codes = torch.empty(len(classes), code.shape[1], dtype=code.dtype)
        codes[at : at + len(chunk)] = code.cpu()
        at += len(chunk)
    return codes


def draw_codes(
    encoder: Encoder,
    images: FactorImages,
    *,
    seed: int,
    n: int = 15_000,
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> tuple[Tensor, Tensor]:
    """Codes of images drawn with independent, uniform factors.

    Args:
        encoder: pixels (B, D) -> code (B, Z). images: the data set. seed: of the draw. n: images, >= 2; the default is
            the 10,000 to fit and 5,000 to test of disentanglement_lib. device, encode_batch: see `encode_classes`.

    Returns:
        (codes (n, Z), classes (n, F) int64), on the CPU: what the metrics on arrays take.

    Raises:
        ValueError: for n < 2, and as `encode_classes`.
    """
    at_least("n", n, 2)
    classes = images.grid.sample(n, generator=torch.Generator().manual_seed(seed))
    return encode_classes(encoder, images, classes, device=device, encode_batch=encode_batch), classes


class Counted(NamedTuple):
    """What a metric on arrays counts: codes (N, Z) float64; the varying factors' classes (N, F), names and sizes."""

    codes: Tensor
    classes: Tensor
    names: tuple[str, ...]
    sizes: tuple[int, ...]


def counted(codes: Tensor, classes: Tensor, grid: FactorGrid, *, factors: int = 1, latents: int = 1) -> Counted:
    """Check a sample of codes and keep the factors that vary.

    Args:
        codes: (N, Z), finite. classes: (N, F) integers on the grid. factors, latents: how many the metric needs.

    Raises:
        ValueError: for other shapes, fewer than two examples, codes that are not finite, classes outside the grid,
            and too few varying factors or latents.
    """
    grid.check(classes)
    if codes.ndim != 2 or not codes.is_floating_point() or len(codes) != len(classes) or len(codes) < 2:
        raise ValueError(
            f"codes must be floats of shape ({len(classes)}, Z), one row for each row of classes and at least two; "
            f"got {codes.dtype} {tuple(codes.shape)}"
        )
    _check_finite(codes)
    varying = varying_factors(grid, at_least=factors)
    if codes.shape[1] < latents:
        raise ValueError(f"this metric compares latents and needs at least {latents}, the codes have {codes.shape[1]}")
    return Counted(
        codes.detach().cpu().double(),
        classes.cpu().long()[:, list(varying)],
        tuple(grid.names[j] for j in varying),
        tuple(grid.sizes[j] for j in varying),
    )


def varying_factors(grid: FactorGrid, *, at_least: int) -> tuple[int, ...]:
    """The factors with more than one value; ValueError if there are fewer than ``at_least``."""
    if len(grid.varying) < at_least:
        sizes = ", ".join(f"{name} {size}" for name, size in zip(grid.names, grid.sizes, strict=True))
        raise ValueError(
            f"this metric needs at least {at_least} varying factor{'s' * (at_least > 1)}, "
            f"the grid has {len(grid.varying)} (values: {sizes})"
        )
    return grid.varying


def at_least(name: str, value: int, minimum: int) -> None:
    """Raise ValueError, naming the count, if it is below its minimum."""
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def split_point(sample: Counted, n_train: int) -> None:
    """Raise ValueError if ``n_train`` leaves no two test examples, or a factor shows one value only on either side."""
    if not 2 <= n_train <= len(sample.codes) - 2:
        raise ValueError(f"n_train must be between 2 and {len(sample.codes) - 2}, got {n_train}")
    for part, side in ((sample.classes[:n_train], "to fit"), (sample.classes[n_train:], "to test")):
        for name, column in zip(sample.names, part.T, strict=True):
            if len(column.unique()) < 2:
                raise ValueError(f"all {len(part)} examples {side} have the same {name}; draw more")


def mean_error(values: Tensor) -> float:
    """Standard error of a mean over examples, sd / sqrt(n), from ``values`` (N,)."""
    return values.double().std(unbiased=True).item() / math.sqrt(len(values))


def _check_code(code: Tensor, *, n: int, z_dim: int | None) -> None:
    if not isinstance(code, Tensor):
        raise ValueError(
            f"the encoder must return one tensor (N, Z), got a {type(code).__name__}; of a VAE take the mean: "
            "lambda x: model.encode(x)[0]"
        )
    wide = "Z" if z_dim is None else z_dim
    if code.ndim != 2 or len(code) != n or code.shape[1] != (z_dim or code.shape[1]) or not code.is_floating_point():
        raise ValueError(f"the encoder must return floats ({n}, {wide}), got {code.dtype} {tuple(code.shape)}")
    _check_finite(code)


def _check_finite(codes: Tensor) -> None:
    bad = ~codes.isfinite()
    if bad.any():
        latents = ", ".join(str(j) for j in bad.any(0).nonzero()[:, 0].tolist())
        raise ValueError(f"{int(bad.any(1).sum())} of {len(codes)} codes are not finite, in the latents {latents}")
