"""Tables of study ``gmvae`` (notebook 12): clusters beside digits, and what each stage of the start adds."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from vae_helpers.evaluation import class_probs, clustering
from vae_helpers.experiments.tables import means
from vae_helpers.models import GMVAE

COLUMNS = {
    "test_accuracy_percent": "accuracy, %:.1f",
    "test_nmi": "NMI:.3f",
    "test_ari": "ARI:.3f",
    "test_usage_entropy": "usage entropy:.2f",
    "test_unlabelled_bound": "ELBO, nats:.1f",
}
STARTS = {"random": "random weights", "codes": "codes of a VAE"}
VIEWS = {"same": "the image itself", "moved": "a moved copy"}
STAGES = {
    "start_codes_accuracy_percent": "mixture of codes, %:.1f",
    "start_classifier_accuracy_percent": "q(y | x) taught by it, %:.1f",
    "test_accuracy_percent": "GMVAE, %:.1f",
}


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Runs of study ``gmvae`` with ``start`` and ``views`` in words, and ``recipe``, both in one."""
    views = table["views"] if "views" in table else pd.Series("same", table.index)
    words = table.assign(start=table["start"].map(STARTS), views=views.map(VIEWS))
    return words.assign(recipe=words["start"] + ", q(y | x) reads " + words["views"])


def cluster_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per recipe: accuracy by the Hungarian method, NMI, ARI, usage entropy, ELBO; mean ± sd over seeds, n."""
    headings = {"start": "start", "views": "q(y | x) reads"}
    return means(named(table).rename(columns=headings), COLUMNS, by=list(headings.values()))


def stage_table(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy after each stage of a start from codes, per recipe; mean ± sd over seeds, with n."""
    started = named(table).dropna(subset=list(STAGES))
    return means(started, STAGES, by=["recipe"])


def digits_in_clusters(model: GMVAE, x: Tensor, y: Tensor) -> pd.DataFrame:
    """Which share of each digit went to which cluster, the cluster that stands for digit 0 first.

    Args:
        model: a clustering of images. x: grey levels, (N, D). y: their digits, (N,).

    Returns:
        rows clusters, labelled "k = 4: named 9, mostly 1": the digit of the best one-to-one naming, and the most
        frequent one where it is another; columns digits; a column sums to 1.
    """
    with torch.inference_mode():
        cluster = class_probs(model, x).argmax(-1)
    found = clustering(cluster, y.cpu(), n_clusters=model.n_classes)
    order = torch.where(found.match < 0, len(found.match), found.match).argsort()
    share = found.table[order] / found.table.sum(0)
    names = [_cluster_name(k, int(found.match[k]), found.table[k]) for k in order.tolist()]
    return pd.DataFrame(share, index=names).rename_axis(index="cluster", columns="digit")


def _cluster_name(k: int, digit: int, counts: Tensor) -> str:
    """A row's label: the cluster, the digit that stands for it (-1: none), the most frequent one where it differs."""
    parts = [f"named {digit}"] * (digit >= 0)
    if not counts.any():
        parts.append("empty")
    elif digit < 0 or counts[digit] < counts.max():
        parts.append(f"mostly {int(counts.argmax())}")
    return f"k = {k}: {', '.join(parts)}"
