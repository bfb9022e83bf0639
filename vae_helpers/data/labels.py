"""Which examples keep their labels: balanced splits by seed, saved beside the run that used them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_helpers.data.files import DataError
from vae_helpers.data.writing import write_whole

MAX_BYTES = 2**28  # of a split's file


@dataclass(frozen=True, eq=False)
class LabelSplit:
    """The labelled examples of a training set; the rest are used without their labels.

    Args:
        labelled: indices of the labelled examples, (n,) int64. n_examples: of the training set, N.
        n_classes: K. seed: that drew it. labels_sha256: of all N labels, to recognise the data by.
    """

    labelled: Tensor = field(repr=False)
    n_examples: int
    n_classes: int
    seed: int
    labels_sha256: str = field(repr=False)

    @property
    def unlabelled(self) -> Tensor:
        """The other indices, (N - n,) int64, in order."""
        rest = torch.ones(self.n_examples, dtype=torch.bool)
        rest[self.labelled] = False
        return rest.nonzero().squeeze(-1)

    def save(self, path: Path) -> None:
        """Write the split as JSON, whole or not at all.

        Raises:
            DataError: if it cannot be written.
        """
        values = {
            "seed": int(self.seed),
            "n_classes": int(self.n_classes),
            "n_examples": int(self.n_examples),
            "labels_sha256": self.labels_sha256,
            "labelled": self.labelled.tolist(),
        }
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(values).encode() + b"\n")
        except OSError as error:
            raise DataError(
                f"{path} cannot be written ({error.strerror or error}). Free some space or choose another folder."
            ) from None


def draw_label_split(y: Tensor, *, n_labels: int, seed: int, n_classes: int = 10) -> LabelSplit:
    """A balanced split: n_labels / K examples of each class keep their label.

    Splits of one seed are nested: the 100 labelled examples are among the 600.

    Args:
        y: labels of the training set, (N,) int64, 0 <= y < K. n_labels: a multiple of K. seed: of the draw.
        n_classes: K.

    Returns:
        a `LabelSplit`.

    Raises:
        ValueError: if n_labels is no positive multiple of K, a class has fewer examples than asked for, or
            labels are out of range.

    Source: Kingma et al. 2014, section 4.1 (balanced between the classes).
    """
    _check_range(y, n_classes)
    if n_labels < n_classes or n_labels % n_classes:
        raise ValueError(
            f"n_labels must be a multiple of the {n_classes} classes, the same number of each; got {n_labels}"
        )
    per_class = n_labels // n_classes
    counts = y.bincount(minlength=n_classes)
    scarcest = int(counts.argmin())
    if counts[scarcest] < per_class:
        raise ValueError(
            f"n_labels={n_labels} needs {per_class} examples of each class, but class {scarcest} has "
            f"{int(counts[scarcest])}; at most {int(counts[scarcest]) * n_classes} labels can be balanced here"
        )
    chosen = []
    for label in range(n_classes):
        members = (y == label).nonzero().squeeze(-1)
        order = np.random.default_rng([seed, label]).permutation(len(members))
        chosen.append(members[torch.from_numpy(order[:per_class])])
    return LabelSplit(torch.cat(chosen), len(y), n_classes, seed, _sha256(y))


def load_label_split(path: Path, y: Tensor, *, n_classes: int = 10) -> LabelSplit:
    """Read a split and check that it belongs to these data.

    Args:
        path: a file that `LabelSplit.save` wrote. y: labels of the training set, (N,) int64. n_classes: K.

    Returns:
        a `LabelSplit`; it need not be balanced, but every class needs a labelled example.

    Raises:
        DataError: if the file cannot be read or was made for other data. ValueError: if a class has no
            labelled example, or labels are out of range.
    """
    _check_range(y, n_classes)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes, more than a split can have")
        values = json.loads(path.read_text())
        if not all(type(index) is int for index in values["labelled"]) or type(values["labels_sha256"]) is not str:
            raise TypeError("labelled must be a list of whole numbers and labels_sha256 a text")
        labelled = torch.tensor(values["labelled"], dtype=torch.int64)
        split = LabelSplit(labelled, values["n_examples"], values["n_classes"], values["seed"], values["labels_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError, RuntimeError) as error:
        raise DataError(
            f"{path} is no label split ({type(error).__name__}: {error}); every run folder holds one, split.json"
        ) from None
    if split.n_examples != len(y) or split.labels_sha256 != _sha256(y) or split.n_classes != n_classes:
        raise DataError(
            f"{path} was made for other data: {split.n_examples} examples with labels {split.labels_sha256[:12]}…, "
            f"these are {len(y)} with {_sha256(y)[:12]}…; use the data it was drawn from, or draw a new split"
        )
    if labelled.ndim != 1 or len(labelled.unique()) != len(labelled) or not _within(labelled, len(y)):
        raise DataError(f"{path} must list different indices from 0 to {len(y) - 1}; draw a new split")
    missing = [label for label in range(n_classes) if not (y[labelled] == label).any()]
    if missing:
        raise ValueError(f"{path}: no labelled example of class {', '.join(map(str, missing))}; each class needs one")
    return split


def _within(index: Tensor, n: int) -> bool:
    return len(index) == 0 or (int(index.min()) >= 0 and int(index.max()) < n)


def _check_range(y: Tensor, n_classes: int) -> None:
    if y.ndim != 1 or y.dtype != torch.int64 or len(y) == 0:
        raise ValueError(f"labels must be a filled (N,) int64 vector, got {y.dtype} of shape {tuple(y.shape)}")
    if not _within(y, n_classes):
        raise ValueError(f"labels must lie in 0..{n_classes - 1}, found {int(y.min())} to {int(y.max())}")


def _sha256(y: Tensor) -> str:
    return hashlib.sha256(y.numpy().astype("<i8").tobytes()).hexdigest()
