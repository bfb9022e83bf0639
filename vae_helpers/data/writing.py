"""Files that several processes may want to make: one at a time, under a name of its own, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # by a file system
LOCKED_BYTE = 2**31 - 2  # on Windows
TRIES_PER_S = 10  # where a lock cannot be waited for


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` while it is made; wait, and say so, while another process holds it.

    The lock belongs to the process: it ends with it, even if it is killed. What earlier processes left half written
    beside ``path``, under its name with any suffix, is removed. Look again whether ``path`` is there after the lock is
    held.

    Args:
        path: what is to be made; its folder must exist. The lock is the file ``.NAME.lock`` beside it, removed
            at the end. A file system without locks is used without one.
    """
    lock = path.with_name(f".{path.name}.lock")
    file = _acquire(lock)
    try:
        if file is not None:
            for left in path.parent.glob(f"{_escaped(f'.{path.stem}.')}*.part"):
                _remove(left)
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):  # Windows does not remove an open file; it stays, empty
                lock.unlink()
            file.close()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep a folder for this process while it works in it.

    The claim is a lock on the file ``.in-use`` in the folder. It belongs to the process: it ends with it, even if it is
    killed. A file system without locks is used without one.

    Args:
        folder: it is made if it is not there.

    Raises:
        ValueError: if another process, or another run of this one, works in the folder.
    """
    with contextlib.suppress(OSError):  # who cannot write here will say so when a file is written
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".in-use"
    file = None
    try:
        file = path.open("r+b" if path.exists() else "w+b")
        held = _try(file)
    except OSError:
        held = True  # no locks here, or no folder
    if file is not None and not held:
        owner = file.read(20).decode(errors="replace").strip()
        file.close()
        by = f"process {owner}" if owner.isdigit() else "another process"
        raise ValueError(f"{folder} is in use by {by}; wait until it has ended, or choose another run folder")
    try:
        if file is not None:
            with contextlib.suppress(OSError):
                file.seek(0)
                file.truncate()
                file.write(str(os.getpid()).encode())
                file.flush()
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):  # the file stays: removing it could take another's claim away
                file.truncate(0)
            file.close()


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A name beside ``path`` that no other process uses; whatever is there at the end is removed.

    Args:
        path: the final name. Rename the temporary file or folder to it when it is whole (`os.replace`).
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield part
    finally:
        _remove(part)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a name that no other process uses, sync it, rename it and sync its folder.

    Several processes may write one path: the last one to end wins, and the file is whole. While a process writes, it
    holds a lock on its temporary file; one without a lock was left by a process that was killed, and is removed.

    Raises:
        OSError: if it cannot be written; what was at ``path`` stays as it was.
    """
    for left in path.parent.glob(f"{_escaped(f'.{path.name}.')}*.part"):
        _remove_if_left(left)
    with _part_of_ones_own(path) as (part, file):
        file.write(content)
        sync(file)
        if os.name != "nt":
            os.replace(part, path)  # while the lock is held: nobody takes the temporary file for one that was left
    if os.name == "nt":  # which does not rename an open file
        os.replace(part, path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def _part_of_ones_own(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A temporary file beside ``path``, open and locked, and its name; removed at an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        while True:
            with part.open("wb") as file:
                with contextlib.suppress(OSError):  # a file system without locks
                    _try(file)
                if not _same(file, part):  # somebody took it for one that was left, before it was locked
                    continue
                yield part, file
                break
    except BaseException:
        _remove(part)
        raise


def _remove_if_left(part: Path) -> None:
    """Remove a temporary file that no living process writes to; one that cannot be locked stays."""
    with contextlib.suppress(OSError), part.open("r+b") as file:
        if _try(file):
            _remove(part)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows has no way to open a folder
    with contextlib.suppress(OSError):  # some file systems do not open or sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def allocate(file: IO[bytes], n_bytes: int) -> None:
    """Take ``n_bytes`` on the disk now, so that a full disk is an error here and not a crash later.

    Raises:
        OSError: if the disk has no room for them.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
    free = shutil.disk_usage(Path(file.name).parent).free
    if free < n_bytes:
        raise OSError(28, f"No space left on device: {n_bytes:,} bytes are needed, {free:,} are free")
    file.truncate(n_bytes)


def sync(file: IO[bytes]) -> None:
    """Have everything written so far on the disk; a file system that cannot promise it is used all the same."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in UNSUPPORTED:  # of a full or broken disk
            raise


def _acquire(lock: Path) -> IO[bytes] | None:
    told = False
    while True:
        try:
            file: IO[bytes] = lock.open("ab")
        except OSError:  # who cannot write here will say so when the file itself is written
            return None
        try:
            held = _try(file)
        except OSError:  # a file system without locks
            file.close()
            return None
        # whoever held it has removed the file: the lock must be of the file that bears the name now
        if held and _same(file, lock):
            return file
        file.close()
        if not held:
            if not told:
                print(f"Waiting for another process that makes {lock.name[1:-5]}.", file=sys.stderr)
            told = True
            time.sleep(1 / TRIES_PER_S)


def _try(file: IO[bytes]) -> bool:
    """True if the lock is held now, False if another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        at = file.tell()
        try:
            file.seek(LOCKED_BYTE)  # Windows lets nobody else read what is locked: a byte that no file has
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(at)
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(file: IO[bytes], path: Path) -> bool:
    try:
        there: Any = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), there)


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
