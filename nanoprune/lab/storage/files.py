"""Files appear whole or not at all: written under a temporary name in the same folder, flushed to disk, renamed."""

import contextlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from nanoprune.errors import DataError


def check_writable(folder: str | os.PathLike) -> None:
    """Make the folder if need be and try to write there, before hours of work. Raises DataError, naming it."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({error.strerror or error}); name another folder") from error


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, private: bool = False) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends well, remove it if it does not.

    private: its owner alone may read it; else it has the usual permissions, by the umask.
    Raises DataError, naming `path`, where the folder cannot be made or written to.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = pathlib.Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        if not private:  # as mkstemp makes it
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); name a place that can be") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def flush_folder(folder: str | os.PathLike) -> None:
    """Flush the names in a folder to disk: without it a renamed file may be gone, or the old one, when power fails."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporaries(folder: str | os.PathLike) -> None:
    """Remove what `atomic_path` left half-written in a folder when its process was killed."""
    for path in pathlib.Path(folder).glob(".*"):
        if re.fullmatch(r"\..+(\.[^.]+)\.[a-z0-9_]{8}\1", path.name):
            path.unlink(missing_ok=True)


def write_json(value: Any, path: str | os.PathLike) -> None:
    """Write plain data as JSON, whole or not at all. Raises DataError, naming `path`, where that cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
