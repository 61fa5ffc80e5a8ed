"""A list of the files that a run makes in a folder, so that cleaning up removes only these."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re

from nanoprune.errors import DataError
from nanoprune.lab.storage.files import remove_temporaries

LIST = "files.txt"
MOST_BYTES = 10_000_000  # largest list: some hundred thousand names
NAME = re.compile(r"[^/\\\0\n]{1,255}")


def note(path: pathlib.Path) -> None:
    """Add a file to the list of its folder, before it is made. Several processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.parent / LIST, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, f"{path.name}\n".encode())
    finally:
        os.close(handle)


def noted(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files on the list of a folder, each once; none if there is no list."""
    path = folder / LIST
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return []
    names = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [folder / name for name in dict.fromkeys(names) if NAME.fullmatch(name) and name not in (".", "..")]


def remove_noted(folder: pathlib.Path) -> None:
    """Remove the files on the list, the list itself, and the folder if it is then empty.

    Raises DataError where one of them still exists afterwards: they include the generators of DP-SGD's noise.
    """
    if not folder.is_dir():
        return
    remove_temporaries(folder)
    for path in [*noted(folder), folder / LIST]:
        remove(path)
    with contextlib.suppress(OSError):  # it has other files, or is a symbolic link
        folder.rmdir()


def remove(path: pathlib.Path) -> None:
    """Remove a file, or the symbolic link of that name. Raises DataError where it still exists afterwards."""
    reason = "it exists again"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    if os.path.lexists(path):
        raise DataError(f"{path}: cannot be removed ({reason}); remove it, then give the same command and --resume")


def occupied(path: str | os.PathLike) -> bool:
    """Whether a write to `path` would lose content. A missing or empty file, or one that holds {} or [], has none.

    Such a file is often made first to set its permissions.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        return path.exists()
    if path.stat().st_size > 16:
        return True
    try:
        return path.read_bytes().strip() not in (b"", b"{}", b"[]")
    except OSError:
        return True
