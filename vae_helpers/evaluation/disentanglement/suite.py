"""All metrics of one encoder at once."""

from __future__ import annotations

import torch

from vae_helpers.data.factors import FactorImages
from vae_helpers.evaluation.disentanglement.codes import ENCODE_BATCH, Encoder, at_least, draw_codes
from vae_helpers.evaluation.disentanglement.importance import Predictor, dci
from vae_helpers.evaluation.disentanglement.information import mig, modularity
from vae_helpers.evaluation.disentanglement.pairs import beta_vae
from vae_helpers.evaluation.disentanglement.regression import Regressor, explicitness, factor_r2
from vae_helpers.evaluation.disentanglement.separation import sap
from vae_helpers.evaluation.disentanglement.votes import factor_vae, one_factor_varied


def all_metrics(
    encoder: Encoder,
    images: FactorImages,
    *,
    seed: int,
    n_train: int = 10_000,
    n_test: int = 5_000,
    n_train_votes: int = 10_000,
    n_test_votes: int = 5_000,
    batch_size: int = 64,
    n_variance: int = 10_000,
    predictor: Predictor = "boosted_trees",
    regressor: Regressor = "linear",
    device: torch.device | str = "cpu",
    encode_batch: int = ENCODE_BATCH,
) -> dict[str, float]:
    """Every metric by its name; those on arrays share one draw of n_train + n_test codes.

    MIG and modularity use the first n_train of them, as in disentanglement_lib.

    Args:
        encoder: pixels (B, D) -> code (B, Z), Z >= 2. images: the data set, with at least two varying factors.
        seed: of all draws and trees. n_train, n_test: examples. n_train_votes, n_test_votes: votes, and points of
            `beta_vae`; nearly all images are theirs, 3.8 million at the defaults. batch_size: images a vote, and
            pairs a point. n_variance: images for the votes' variances. predictor: for `dci`; boosted trees take
            minutes for factors with many values. regressor: for `factor_r2`. device: where images are made and encoded.
        encode_batch: images at once.

    Returns:
        factor_vae, one_factor_varied, beta_vae, mig, modularity, explicitness, sap, dci_disentanglement,
        dci_completeness, dci_informativeness, and r2_<name> for each varying factor.

    Raises:
        ValueError: as the metrics.
    """
    at_least("n_train", n_train, 2)
    at_least("n_test", n_test, 2)
    how = {"device": device, "encode_batch": encode_batch}
    codes, classes = draw_codes(encoder, images, seed=seed, n=n_train + n_test, **how)  # type: ignore[arg-type]
    grid = images.grid
    first = (codes[:n_train], classes[:n_train], grid)
    importance = dci(codes, classes, grid, seed=seed, n_train=n_train, predictor=predictor)
    regression = factor_r2(codes, classes, grid, n_train=n_train, regressor=regressor, seed=seed)
    votes = [
        metric(
            encoder, images, seed=seed, n_train=n_train_votes, n_test=n_test_votes, batch_size=batch_size,
            n_variance=n_variance, device=device, encode_batch=encode_batch,
        ).score
        for metric in (factor_vae, one_factor_varied)
    ]  # fmt: skip
    pairs = beta_vae(
        encoder, images, seed=seed, n_train=n_train_votes, n_test=n_test_votes, batch_size=batch_size,
        device=device, encode_batch=encode_batch,
    )  # fmt: skip
    return {
        "factor_vae": votes[0],
        "one_factor_varied": votes[1],
        "beta_vae": pairs.score,
        "mig": mig(*first).score,
        "modularity": modularity(*first).score,
        "explicitness": explicitness(codes, classes, grid, n_train=n_train).score,
        "sap": sap(codes, classes, grid, n_train=n_train).score,
        "dci_disentanglement": importance.disentanglement,
        "dci_completeness": importance.completeness,
        "dci_informativeness": importance.informativeness,
        **{f"r2_{name}": value for name, value in zip(regression.names, regression.r2.tolist(), strict=True)},
    }
