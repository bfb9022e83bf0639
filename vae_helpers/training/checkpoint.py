"""Complete checkpoints: written to a temporary name, synced, renamed; read without unpickling."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vae_helpers.data.writing import write_whole
from vae_helpers.training.memory import of_memory

FORMAT = 1
DIGEST_BYTES = 32


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or used; the message names the file and what to do."""


def atomic_write(path: Path, content: bytes) -> None:
    """`data.writing.write_whole` in a folder that is made.

    Args:
        path: the final name. content: of the file.

    Raises:
        CheckpointError: if it cannot be written (disk full, no permission); what was at ``path`` stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        kept = f" The last one, {path}, is untouched." if path.exists() else ""
        raise CheckpointError(
            f"cannot write {path}: {error}. Free some space or choose another folder.{kept}"
        ) from error


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file. state: tensors and plain values, nested.

    Raises:
        CheckpointError: if it cannot be written; the file already there survives.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    content = buffer.getvalue()
    atomic_write(path, hashlib.sha256(content).digest() + content)


def check_writable(path: Path) -> None:
    """Raise CheckpointError now, not after an hour, if ``path`` cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}. Choose another folder.") from error


def check_usable(path: Path, *, resume: bool) -> None:
    """Raise CheckpointError now if ``path`` holds a run that is not to go on, or cannot be written."""
    if path.exists() and not resume:
        raise CheckpointError(
            f"{path} exists already. Pass resume=True (--resume) to go on from it, or choose another folder."
        )
    check_writable(path)


def load(
    path: Path,
    *,
    config: Mapping[str, Any],
    shapes: Mapping[str, Any],
    newer: Mapping[str, Any] | None = None,
    data: str = "",
) -> dict[str, Any]:
    """Read a checkpoint and check that it belongs to this model, this configuration and these data.

    Args:
        path: the file. config: of the run that wants to go on. shapes: of its parameters, by name. newer: values of
            settings that an older checkpoint may lack. data: fingerprint of the data; either side may be without.

    Returns:
        the saved state, on the CPU.

    Raises:
        CheckpointError: if the file is cut short or damaged, or of another model, configuration (the differences are
            listed) or data.
    """
    try:
        with path.open("rb") as file:
            digest = file.read(DIGEST_BYTES)
            if hashlib.file_digest(file, "sha256").digest() != digest:  # piece by piece: it may be of any size
                raise ValueError("its content does not match its sha256")  # torch.load does not look at checksums
            file.seek(DIGEST_BYTES)
            state = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}). Check who may read it.") from error
    except Exception as error:  # zip, pickle and runtime errors all mean the same here
        if of_memory(error):
            raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is no whole checkpoint ({reason}). Delete it to start afresh, or put an earlier copy there."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this package, format {FORMAT}. Delete it to start afresh.")
    for key, kind in (("step", int), ("shapes", dict), ("config", dict)):
        if not isinstance(state.get(key), kind):
            raise unusable(path, f"its {key} is {type(state.get(key)).__name__}, not {kind.__name__}")
    there = state.get("data", "")
    if there and data and there != data:
        raise CheckpointError(
            f"{path} is of a run on other data (sha256 {there[:12]}… there, {data[:12]}… here). "
            "Put back the data it was made with, or choose another folder."
        )
    _same("model", path, state["shapes"], shapes)
    added = {key: value for key, value in (newer or {}).items() if key in config}
    _same("configuration", path, {**added, **state["config"]}, config)
    return state


def unusable(path: Path, reason: object) -> CheckpointError:
    """The error of a checkpoint whose file is whole and whose content is not."""
    return CheckpointError(
        f"{path} cannot be used ({reason}). Delete it to start afresh, or put an earlier copy there."
    )


def _same(what: str, path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differences = [
        f"{key}: {saved.get(key, 'absent')} there, {wanted.get(key, 'absent')} here"
        for key in sorted({*saved, *wanted})
        if saved.get(key, "absent") != wanted.get(key, "absent")
    ]
    if differences:
        more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
        raise CheckpointError(
            f"{path} is of another {what} ({'; '.join(differences[:4])}{more}). "
            "Use the settings it was made with, or another folder."
        )
