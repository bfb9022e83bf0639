"""Complete checkpoints: written to a temporary name, synced, renamed; read without unpickling."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vae_helpers.data.writing import sync

FORMAT = 1
DIGEST_BYTES = 32


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or used; the message names the file and what to do."""


def atomic_write(path: Path, write: Any) -> None:
    """Let ``write(file)`` fill a temporary file beside ``path``, sync it and rename it into place.

    Whatever happens before the rename, the file that was at ``path`` stays as it was.

    Args:
        path: the final name; its folder is made. write: called with a file open for binary writing.

    Raises:
        CheckpointError: if anything cannot be written (disk full, no permission).
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            sync(file)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        kept = f" The last one, {path}, is untouched." if path.exists() else ""
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot write {path}: {reason}. Free some space or choose another folder.{kept}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    atomic_write(path, lambda file: file.write(hashlib.sha256(content).digest() + content))


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
        content = path.read_bytes()
        if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
            raise ValueError("its content does not match its sha256")  # torch.load does not look at checksums
        state = torch.load(io.BytesIO(content[DIGEST_BYTES:]), map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle, runtime and OS errors all mean the same here
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


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows has no way to open a folder
    with contextlib.suppress(OSError):  # some file systems do not open or sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
