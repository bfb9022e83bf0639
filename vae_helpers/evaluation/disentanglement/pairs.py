"""The BetaVAE score: a linear classifier reads which factor pairs of images share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_helpers.data.factors import FactorImages
from vae_helpers.evaluation.disentanglement.codes import (
    ENCODE_BATCH,
    Encoder,
    Score,
    at_least,
    encode_classes,
    varying_factors,
)
from vae_helpers.evaluation.disentanglement.votes import own_factor


@dataclass(frozen=True)
class PairScore(Score):
    """Accuracy of a linear classifier on points that did not train it.

    Args:
        score: share of test points given their factor, 0 to 1; about 1 / F by chance.
        standard_error: binomial, from the number of test points. train_score: accuracy on the training points.
        table: test points by true and predicted factor, (F, F) int64. names: of the F factors counted.
    """

    train_score: float
    table: Tensor
    names: tuple[str, ...]


def beta_vae(
    encoder: Encoder,
    images: FactorImages,
    *,
    seed: int,
    n_train: int = 10_000,
    n_test: int = 5_000,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> PairScore:
    r"""BetaVAE score: which factor do L pairs share, read linearly from :math:`\frac1L\sum_l |z^{(1)}_l - z^{(2)}_l|`.

    It tells whether each factor, when shared, leaves a pattern of its own on the latents. It cannot tell axes from axes
    turned by less than 45 degrees, nor see latents that mix all factors: the classifier weighs whatever it needs.

    Choices: multinomial logistic regression with scikit-learn's default penalty (C = 1) on features as they are, as
    in disentanglement_lib, so that the score of a code with tiny units suffers; Higgins et al. train a linear
    classifier by gradient steps. More iterations are allowed than there (1000, not 100).

    Args:
        encoder: pixels (B, D) -> code (B, Z). images: the data set. seed: of all draws.
        n_train, n_test: points, >= 2 and >= 1. batch_size: pairs a point, L >= 1.
        device: where images are made and encoded. encode_batch: images at once.

    Returns:
        a `PairScore`.

    Raises:
        ValueError: for counts below their minimum, fewer than two varying factors, training points of one factor only,
            and as `encode_classes`.

    Source: Higgins et al. 2017, section 3; sizes of Locatello et al. 2019.
    """
    from sklearn.linear_model import LogisticRegression

    for name, value, minimum in (("n_train", n_train, 2), ("n_test", n_test, 1), ("batch_size", batch_size, 1)):
        at_least(name, value, minimum)
    grid = images.grid
    varying = torch.tensor(varying_factors(grid, at_least=2))
    generator = torch.Generator().manual_seed(seed)

    def points(n: int) -> tuple[Tensor, Tensor]:
        factor = torch.randint(len(varying), (n,), generator=generator)
        first, second = (grid.sample(n * batch_size, generator=generator).view(n, batch_size, -1) for _ in range(2))
        second = torch.where(own_factor(varying[factor], second.shape[2]), first, second)
        z1, z2 = (
            encode_classes(encoder, images, classes.flatten(0, 1), device=device, encode_batch=encode_batch)
            for classes in (first, second)
        )
        return (z1.double() - z2).abs().view(n, batch_size, -1).mean(1), factor

    (x, y), (x_test, y_test) = points(n_train), points(n_test)
    if len(y.unique()) < 2:
        raise ValueError(f"all {n_train} training points share the same factor; raise n_train")
    classifier = LogisticRegression(max_iter=1000, random_state=0).fit(x.numpy(), y.numpy())
    predicted = torch.from_numpy(classifier.predict(x_test.numpy()))
    table = torch.bincount(y_test * len(varying) + predicted, minlength=len(varying) ** 2).view(len(varying), -1)
    score = table.diagonal().sum().item() / n_test
    return PairScore(
        score=score,
        standard_error=math.sqrt(score * (1 - score) / n_test),
        train_score=float(classifier.score(x.numpy(), y.numpy())),
        table=table,
        names=tuple(grid.names[j] for j in varying.tolist()),
    )
