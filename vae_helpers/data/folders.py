"""A folder of pictures as a data set: its files in an order that is the same on every machine, labels and splits."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vae_helpers.data.files import DataError
from vae_helpers.data.fitting import shape_of, split_rows
from vae_helpers.data.pictures import SUFFIXES, common_form, decode_all
from vae_helpers.data.splits import Images
from vae_helpers.data.store import open_pack, pack, pack_path

SKIPPED = ("__MACOSX",)  # beside hidden names


@dataclass(frozen=True)
class Picture:
    """One file: its path below the folder with slashes, bytes, time of the last change, class or ""."""

    name: str
    n_bytes: int
    changed_ns: int
    label: str


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, those for training first, and what else was there."""

    files: list[Picture]
    n_train: int
    classes: tuple[str, ...]
    other: Counter[str] = field(default_factory=Counter)


SHOWN = 20  # names of classes in a record


def load_folder(
    path: Path, *, size: tuple[int, int] | None, channels: int | None, test_share: float, split_seed: int
) -> Images:
    """A folder of pictures; `own.load_images` says what may be in it.

    Raises:
        DataError: as `own.load_images`.
    """
    listing = list_folder(path, test_share=test_share, split_seed=split_seed)
    files, n_train = listing.files, listing.n_train
    what = [str(path.resolve()), [[p.name, p.n_bytes, p.changed_ns] for p in files], n_train, size, channels]
    target = pack_path(path.resolve().name, what)
    kept = open_pack(target)
    if kept is None:
        paths = [path / picture.name for picture in files]
        found, n_channels = common_form(paths, size=size, channels=channels, what=str(path))
        kept = pack(
            target,
            shape=shape_of(found, n_channels),
            n_train=n_train,
            n_test=len(files) - n_train,
            rows=lambda start, stop: decode_all(
                paths[start:stop], size=found, channels=n_channels, as_it_is=size is None
            ),
            name=path.resolve().name,
        )
    number = {label: k for k, label in enumerate(listing.classes)}
    y = torch.tensor([number[picture.label] for picture in files] if number else [], dtype=torch.int64)
    words = f"{n_train:,} train and {len(files) - n_train:,} test pictures of the folder {path.resolve().name}"
    if number:
        shown = ", ".join(listing.classes[:SHOWN])
        words += f", {len(number)} classes ({shown}{', ...' if len(number) > SHOWN else ''})"
    if listing.other:
        kinds = ", ".join(sorted(listing.other))
        words += f"; {sum(listing.other.values()):,} other files or folders ignored ({kinds})"
    return Images(
        path.resolve().name, words, kept.shape, kept.x_train, kept.x_test, y[:n_train], y[n_train:], listing.classes,
    ).with_pixel_hashes(*kept.hashes)  # fmt: skip


def list_folder(path: Path, *, test_share: float, split_seed: int) -> Listing:
    """The pictures in a folder, with labels and splits.

    Raises:
        DataError: if there is none, the folder mixes two ways of keeping pictures, or has half a split.
    """
    other: Counter[str] = Counter()
    folders = {name.casefold(): name for name, is_folder in _entries(path) if is_folder}
    halves = [half for half in ("train", "test") if half in folders]
    if len(halves) == 1:
        missing = "test" if halves == ["train"] else "train"
        raise DataError(
            f"{path} has a folder {folders[halves[0]]} but no folder {missing}: there must be both, or neither "
            "(a share of the pictures is then held out for the test)"
        )
    if halves:
        other.update(f"{name}/" for name in folders.values() if name.casefold() not in halves)
        train, test = (_part(path, f"{folders[half]}/", other) for half in halves)
        kinds = [{picture.label for picture in part} for part in (train, test)]
        if kinds[0] != kinds[1]:
            differing = sorted(kinds[0] ^ kinds[1])
            named = ", ".join(repr(label) if label else "no class at all" for label in differing[:5])
            raise DataError(f"{path}: train and test must have the same class folders; only one of them has {named}")
        train, test = (_ordered(part) for part in (train, test))
        if not _numbered(train):  # sorted by class: the last images of the training set must not be of one class
            train = [train[i] for i in np.random.default_rng(split_seed).permutation(len(train))]
    else:
        files = _ordered(_part(path, "", other))
        labels = np.unique([picture.label for picture in files], return_inverse=True)[1]
        rows = split_rows(len(files), labels, test_share=test_share, split_seed=split_seed, what=str(path))
        train, test = ([files[i] for i in index] for index in rows)
    classes = {picture.label for picture in train} - {""}
    return Listing([*train, *test], len(train), _class_order(classes), other)


def _part(root: Path, below: str, other: Counter[str]) -> list[Picture]:
    """The pictures of one split: all without a class, or all in class folders."""
    pictures = list(_walk(root, below, other, depth=0))
    loose = sum(not picture.label for picture in pictures)
    folder = root / below
    if not pictures:
        inside = f" (there are {', '.join(sorted(other))})" if other else ""
        raise DataError(
            f"{folder} holds no picture{inside}: pictures end in {', '.join(SUFFIXES)}; "
            "name a .npy, .npz or idx file itself, not its folder"
        )
    if 0 < loose < len(pictures):
        raise DataError(
            f"{folder} holds {loose:,} pictures beside its class folders: put them into a class folder, or all "
            "pictures into one folder without classes"
        )
    return pictures


def _walk(root: Path, below: str, other: Counter[str], *, depth: int, label: str = "", above: tuple[str, ...] = ()) -> (
    Iterator[Picture]
):  # fmt: skip
    folder = root / below
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{folder} is a link to a folder that it lies in. Take the link out.")
    for name, is_folder in _entries(folder, other):
        if is_folder:
            inner = label if depth else name
            yield from _walk(root, f"{below}{name}/", other, depth=depth + 1, label=inner, above=(*above, real))
        elif name.lower().endswith(SUFFIXES):
            try:
                stat = (folder / name).stat()
            except OSError as error:
                raise DataError(f"{folder / name} cannot be read ({error.strerror}). Take it out.") from None
            yield Picture(f"{below}{name}", stat.st_size, stat.st_mtime_ns, label)
        else:
            other[Path(name).suffix.lower() or name] += 1


def _entries(folder: Path, other: Counter[str] | None = None) -> list[tuple[str, bool]]:
    """Names in a folder, and whether each is a folder; hidden ones left out, in the order of their names."""
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.is_dir()) for entry in found]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}). Check who may read it.") from None
    hidden = {name for name, _ in entries if name.startswith(".") or name in SKIPPED}
    if other is not None:
        other.update(hidden)
    return sorted(entry for entry in entries if entry[0] not in hidden)


def _ordered(pictures: list[Picture]) -> list[Picture]:
    """By number where all files are named by different numbers, else by path, in an order no file system changes."""
    if _numbered(pictures):
        return sorted(pictures, key=lambda picture: int(_stem(picture)))
    return sorted(pictures, key=lambda picture: (_folded(picture.name), picture.name))


def _numbered(pictures: list[Picture]) -> bool:
    stems = [_stem(picture) for picture in pictures]
    return all(stem.isascii() and stem.isdigit() for stem in stems) and len({int(stem) for stem in stems}) == len(stems)


def _class_order(classes: set[str]) -> tuple[str, ...]:
    """By number where all are numbers, else by name."""
    if all(name.isascii() and name.isdigit() for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes, key=lambda name: (_folded(name), name)))


def _stem(picture: Picture) -> str:
    return picture.name.rpartition("/")[2].rpartition(".")[0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
