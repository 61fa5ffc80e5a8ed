"""A lock on a folder, which the system releases when the process and its workers end, however they end."""

from __future__ import annotations

import os
import pathlib
import time

from nanoprune.errors import DataError

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None

PATIENCE = 5.0  # seconds to wait: the workers of a killed run end shortly after it


def lock_folder(folder: pathlib.Path) -> tuple[int, bool]:
    """Make a folder if necessary and lock it: (file descriptor, whether it was made).

    The lock holds for as long as the descriptor is open, here or in a worker. If the run that held the lock before has
    removed the folder, the folder is made again and locked.
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
            raise DataError(f"{folder}: another run is using it; wait for its end or name another folder")
        time.sleep(0.05)


def _opened(folder: pathlib.Path) -> int | None:
    """The folder, made if necessary and opened; None where it was removed in between."""
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
    """Try to lock an open folder; True on success, if the folder still has its name."""
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
