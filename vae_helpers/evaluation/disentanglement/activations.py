"""Mean activations: how a code moves with one or two factors when the others are averaged out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_helpers.data.factors import FactorImages
from vae_helpers.evaluation.disentanglement.codes import ENCODE_BATCH, Encoder, at_least, encode_classes


def mean_activations(
    encoder: Encoder,
    images: FactorImages,
    given: Sequence[str],
    *,
    seed: int,
    n_draws: int = 50,
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> Tensor:
    r"""The mean code for every combination of some factors, :math:`E[\mu(x) \mid \text{factors}]`.

    A latent that reads one factor is flat along the others. A flat mean is no proof of the reverse: a latent that
    moves with a factor by opposite amounts under different values of another one averages to nothing.

    Args:
        encoder: pixels (B, D) -> code (B, Z); in evaluation mode. images: the data set. given: names of the factors,
            such as ``("y", "x")``. seed: of the draws. n_draws: of the other factors for each combination, >= 1, the
            same for all combinations, so that their differences are not chance. device, encode_batch: see
            `encode_classes`.

    Returns:
        (sizes of the given factors, in their order, Z), on the CPU.

    Raises:
        ValueError: for an unknown or repeated factor, ``n_draws`` < 1, and as `encode_classes`.

    Source: the figures of Kim & Mnih 2018 and Barrientos & Sootla 2019, after Burgess et al. 2018.
    """
    at_least("n_draws", n_draws, 1)
    names = images.grid.names
    unknown = [name for name in given if name not in names]
    if unknown or not given or len(set(given)) < len(given):
        raise ValueError(f"given must name factors, each once, of {', '.join(names)}; got {list(given)}")
    columns = [names.index(name) for name in given]
    sizes = [images.grid.sizes[j] for j in columns]
    others = images.grid.sample(n_draws, generator=torch.Generator().manual_seed(seed))
    values = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).view(-1, len(columns))
    classes = others.repeat(len(values), 1)
    classes[:, columns] = values.repeat_interleave(n_draws, dim=0)
    codes = encode_classes(encoder, images, classes, device=device, encode_batch=encode_batch)
    return codes.view(*sizes, n_draws, -1).mean(-2)
