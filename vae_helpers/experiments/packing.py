"""Runs in archives of a limited size: what a machine that goes away leaves behind."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from vae_helpers.experiments.folders import checkpoint_file, weights_file
from vae_helpers.experiments.records import config_of, read_record
from vae_helpers.training.checkpoint import atomic_write

LIMIT = 15_000_000  # bytes of an archive
OF_A_MEMBER = 2048  # bytes of a tar file beside a member's content, at most, with a long name
OF_AN_ARCHIVE = 50_000  # its end, and gzip's own for content that does not get smaller


def pack_runs(folders: Iterable[Path], root: Path, to: Path) -> tuple[list[Path], list[Path]]:
    """Write records, then weights, then checkpoints of runs with steps left to train, into ``runs-01.tar.gz`` and on.

    Unpacked in a folder of runs (``tar xzf runs-01.tar.gz -C runs``), finished runs are found finished, and others go
    on from their checkpoints.

    Args:
        folders: run folders below ``root``, the most wanted first. to: folder of the archives; those that an earlier
            call left there are written over.

    Returns:
        the archives, each of at most 15 MB, and the files that are larger than that and were left out.

    Raises:
        CheckpointError: if an archive cannot be written.
    """
    for old in to.glob("runs-*.tar.gz"):
        old.unlink()
    archives: list[Path] = []
    too_large: list[Path] = []
    waiting: list[Path] = []
    size = 0

    def write() -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
            for path in waiting:
                archive.add(path, arcname=str(path.relative_to(root)), recursive=False)
        archives.append(to / f"runs-{len(archives) + 1:02}.tar.gz")
        atomic_write(archives[-1], buffer.getvalue())

    for path in _in_order(list(folders)):
        needed = path.stat().st_size + OF_A_MEMBER
        if needed > LIMIT - OF_AN_ARCHIVE:
            too_large.append(path)
            continue
        if size + needed > LIMIT - OF_AN_ARCHIVE:
            write()
            waiting, size = [], 0
        waiting.append(path)
        size += needed
    if waiting:
        write()
    return archives, too_large


def _in_order(folders: list[Path]) -> Iterator[Path]:
    made = [folder for folder in folders if (folder / "run.json").exists()]
    for folder in made:
        yield from (path for path in (folder / "run.json", folder / "split.json") if path.exists())
    yield from (weights_file(folder) for folder in made if weights_file(folder).exists())
    yield from (path for folder in folders if (path := checkpoint_file(folder)).exists() and _open(folder))


def _open(folder: Path) -> bool:
    """If a run has steps left to train."""
    if not (folder / "run.json").exists():
        return True
    record = read_record(folder)
    return bool(record["steps"] < config_of(record, folder / "run.json").steps)
