"""How well clusters agree with classes that were not used to find them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clustering:
    """Agreement of clusters with classes; nothing changes if the clusters are renumbered.

    Args:
        accuracy_percent: share of examples whose cluster is matched with their class, 0 to 100, under the one-to-one
            matching that makes it largest (Hungarian method).
        nmi: mutual information over the mean of the two entropies, 0 to 1. ari: adjusted Rand index, 1 at best, 0 by
            chance. usage_entropy: of the shares of the clusters, nats, 0 to log K.
        table: examples by cluster and class, (K, C) int64. match: the class of each cluster, (K,) int64; -1 for none.
    """

    accuracy_percent: float
    nmi: float
    ari: float
    usage_entropy: float
    table: Tensor
    match: Tensor


def usage_entropy(cluster: Tensor, *, n_clusters: int) -> float:
    r"""Entropy of the shares of the clusters, :math:`-\sum_k \pi_k \log \pi_k`, nats, 0 to log K; needs no classes.

    Args:
        cluster: (N,) int64, 0 <= cluster < ``n_clusters``, N >= 1.

    Raises:
        ValueError: for no examples, or numbers out of range.
    """
    if cluster.ndim != 1 or not len(cluster) or cluster.min() < 0 or cluster.max() >= n_clusters:
        raise ValueError(
            f"clusters must be (N,) numbers in 0..{n_clusters - 1}, got {tuple(cluster.shape)} of {cluster}"
        )
    shares = cluster.bincount(minlength=n_clusters).double() / len(cluster)
    return max(0.0, -torch.special.xlogy(shares, shares).sum().item())


def clustering(cluster: Tensor, y: Tensor, *, n_clusters: int, n_classes: int = 10) -> Clustering:
    """Compare a clustering with the classes.

    Args:
        cluster: (N,) int64, 0 <= cluster < ``n_clusters``. y: classes, (N,) int64, 0 <= y < ``n_classes``.

    Returns:
        a `Clustering`.

    Raises:
        ValueError: for shapes that differ, no examples, or numbers out of range.

    Source: Xie, Girshick & Farhadi 2016, equation 10 (accuracy); scikit-learn's NMI and ARI.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    if cluster.shape != y.shape or cluster.ndim != 1 or len(y) == 0:
        raise ValueError(
            f"one cluster and one class an example are needed, got {tuple(cluster.shape)}, {tuple(y.shape)}"
        )
    cluster, y = cluster.cpu(), y.cpu()
    for name, values, count in (("cluster", cluster, n_clusters), ("y", y, n_classes)):
        if values.min() < 0 or values.max() >= count:
            raise ValueError(f"{name} must lie in 0..{count - 1}, found {values.min()} to {values.max()}")
    table = torch.bincount(cluster * n_classes + y, minlength=n_clusters * n_classes).view(n_clusters, n_classes)
    rows, columns = linear_sum_assignment(-table.numpy())
    match = torch.full((n_clusters,), -1)
    match[rows] = torch.from_numpy(columns)
    return Clustering(
        accuracy_percent=100 * table[rows, columns].sum().item() / len(y),
        nmi=float(normalized_mutual_info_score(y.numpy(), cluster.numpy())),
        ari=float(adjusted_rand_score(y.numpy(), cluster.numpy())),
        usage_entropy=usage_entropy(cluster, n_clusters=n_clusters),
        table=table,
        match=match,
    )
