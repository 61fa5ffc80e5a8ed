"""A lock on a folder, held by the system for a process and its workers: it is gone with them, however they end."""

from __future__ import annotations

import os
import pathlib
import time

from nanoprune.errors import DataError

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None

PATIENCE = 5.0  # seconds to wait: the workers of a run that was killed end a moment after it


def lock_folder(folder: pathlib.Path) -> tuple[int, bool]:
    """Make a folder if need be and lock it: (file descriptor, whether it was made).

    The lock holds for as long as the descriptor is open, here or in a worker. The run that held the lock before may
    have removed the folder: then the locked one has no name any more, and the one of that name is locked instead.
    Raises DataError, naming the folder, where it cannot be made or locked, or is locked for longer than PATIENCE.
    """
    until = time.monotonic() + PATIENCE
    while True:
        made = not folder.exists()
        handle = _opened(folder)
        if handle is not None:
            if _locked(handle, folder):
                return handle, made
            os.close(handle)
        if time.monotonic() > until:
            raise DataError(f"{folder}: another run is at work in it; wait for its end or name another")
        time.sleep(0.05)


def _opened(folder: pathlib.Path) -> int | None:
    """The folder, made if need be and opened; None where it was removed between the two."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({error.strerror}); name another folder") from error
    try:
        return os.open(folder if fcntl else os.devnull, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{folder}: cannot be opened ({error.strerror}); name another folder") from error


def _locked(handle: int, folder: pathlib.Path) -> bool:
    """Try to lock an open folder. True where that succeeded and it still has its name."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        os.close(handle)
        raise DataError(f"{folder}: cannot be locked ({error.strerror}); name a folder on another disk") from error
    try:
        named = os.stat(folder)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), named)
