"""Where data files lie, and whether they are whole."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path


class DataError(RuntimeError):
    """A data file or folder is missing, damaged or not usable; the message says which and what to do."""


def data_root() -> Path:
    """The data folder: ``VAE_DATA`` if set, else the user's cache folder (it need not exist yet).

    Returns:
        the folder. A ``VAE_DATA`` that names a file raises DataError.
    """
    named = os.environ.get("VAE_DATA")
    root = Path(named).expanduser() if named else user_cache() / "vae_helpers"
    try:
        is_file = root.exists() and not root.is_dir()
    except OSError as error:  # a name too long, or a folder that may not be entered
        raise DataError(
            f"the data root {str(root)[:200]} cannot be used ({error.strerror}). Set VAE_DATA to another folder."
        ) from None
    if is_file:
        raise DataError(f"the data root {root} is a file, not a folder. Set VAE_DATA to a folder, or unset it.")
    return root


def describe_root() -> str:
    """The data root in words that hold on any machine (no path of this one)."""
    return "VAE_DATA" if os.environ.get("VAE_DATA") else "user cache"


def offline() -> bool:
    """True if ``VAE_OFFLINE`` forbids downloads (any value but empty or 0)."""
    return os.environ.get("VAE_OFFLINE", "0") not in ("", "0")


def check_file(path: Path, *, n_bytes: int, sha256: str) -> bytes:
    """Read a file and verify that it is exactly the one expected.

    Args:
        path: the file. n_bytes: its size. sha256: its hash, 64 hex digits.

    Returns:
        its content.

    Raises:
        DataError: if it is truncated, too long, or of another content; names the file and the way out.
    """
    way_out = "Delete it to have it fetched again, or put a good copy there."
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file. Put the file of this name there.")
        found_bytes = path.stat().st_size  # before reading: a file of another size can be too large for the memory
        content = path.read_bytes() if found_bytes == n_bytes else b""
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). Check who may read it.") from None
    if len(content) != n_bytes:
        raise DataError(f"{path} has {found_bytes:,} bytes, expected {n_bytes:,}: cut short or another file. {way_out}")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path} has sha256 {found[:16]}…, expected {sha256[:16]}…: damaged or another file. {way_out}")
    return content


def check_members(path: Path, names: Iterable[str], *, at_most: int) -> None:
    """Look at the sizes that an .npz archive declares before anything of it is read.

    Args:
        path: the archive. names: of the arrays that will be read. at_most: bytes that each may take.

    Raises:
        ValueError: if one takes more, or is not there. zipfile.BadZipFile, OSError: if it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        for name in names:
            if f"{name}.npy" not in archive.namelist():
                raise ValueError(f"it holds no array {name}")
            if (declared := archive.getinfo(f"{name}.npy").file_size) > at_most:
                raise ValueError(f"{name} would take {declared:,} bytes, more than {at_most:,}")


def make_writable(folder: Path) -> None:
    """Create ``folder`` and check that files can be written there.

    Raises:
        DataError: if not, saying how to choose another folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        allowed = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        allowed = False
    if not allowed:
        raise DataError(
            f"cannot write to the data folder {folder}. Set VAE_DATA to a folder you can write to, "
            "or VAE_OFFLINE=1 to use the data that ship with the packages."
        )


def user_cache() -> Path:
    """The user's folder for files that can be made again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
