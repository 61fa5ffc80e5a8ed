"""Files appear whole or not at all: written under a temporary name in the same folder, flushed to disk, renamed.

Temporary names have a reserved pattern, and the file is locked while it is written. So files that a killed process
left are distinguished from files that are being written, and no file of a user is ever removed.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.storage.text import printable

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None

TEMPORARY = re.compile(r"\.nanoprune-[0-9a-f]{16}(\.[A-Za-z0-9]{1,12})?")
NAME_MAX = 255  # bytes of a file's name, where the file system does not give its limit
KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def check_writable(folder: str | os.PathLike) -> None:
    """Make the folder if necessary and test that it is writable, before hours of work; remove leftovers of killed runs.

    Raises DataError, naming the folder, where it cannot be written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{printable(folder)}: cannot be written to ({reason}); name another folder") from error
    remove_temporaries(folder)


def check_output(path: str | os.PathLike, other_kinds: Mapping[str, str] | None = None) -> None:
    """Refuse, before the work, an output that could not be written or read after it. Its folder is made if necessary.

    other_kinds: suffixes, in lower case, with which the file would be read as another kind, such as
    {".csv": "predictions"}. Raises ArgumentError where `path` has such a suffix, is a folder, a device, a pipe or a
    socket, is a cycle of links, or has a longer name than the file system allows; DataError where its folder cannot be
    written to.
    """
    shown = printable(path, 400)
    suffix = pathlib.Path(path).suffix.lower()
    if other_kinds and suffix in other_kinds:
        raise ArgumentError(f"{shown}: {suffix} is read as {other_kinds[suffix]}; give the file another suffix")
    target = output_target(path)
    check_writable(target.parent)
    try:
        longest = os.pathconf(target.parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = NAME_MAX
    if len(os.fsencode(target.name)) > longest:
        raise ArgumentError(f"{shown}: file names have at most {longest} bytes there; give a shorter one")


def output_target(path: str | os.PathLike) -> pathlib.Path:
    """The file that a write to `path` makes or replaces: where `path` is a symbolic link, the one that it points to.

    Raises ArgumentError where that exists and is not a regular file, or the links form a cycle.
    """
    target, shown = pathlib.Path(os.path.realpath(path)), printable(path, 400)
    try:
        mode = os.lstat(target).st_mode
    except OSError:  # missing or inaccessible: writing reports the reason
        return target
    if stat.S_ISLNK(mode):
        raise ArgumentError(f"{shown}: is a symbolic link to itself; name a file")
    if not stat.S_ISREG(mode):
        kind = next((words for check, words in KINDS.items() if check(mode)), "a special file")
        raise ArgumentError(f"{shown}: is {kind}, which is not replaced; name a file")
    return target


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, private: bool = False) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it otherwise.

    Where `path` is a symbolic link, the file that it points to is replaced and the link stays. A replaced file keeps
    its permissions and, where that is allowed, its owner.

    private: only its owner may read it; otherwise a new file has the usual permissions, by the umask.
    Raises DataError, naming `path`, where the folder cannot be made or written to; ArgumentError as `output_target`.
    """
    target = output_target(path)
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            before = os.stat(target) if target.exists() else None
            temporary, handle = _temporary(target, 0o600 if private or before else 0o666)
            stack.callback(_discard, temporary, handle)
            yield temporary
            if before and not private:
                _inherit(handle[0], before)
            os.fsync(handle[0])
            if os.name != "posix":  # Windows cannot rename an open file
                _close(handle)
            os.replace(temporary, target)
            flush_folder(target.parent)
        except OSError as error:
            reason = error.strerror or printable(error)
            raise DataError(f"{printable(path, 400)}: cannot be written ({reason}); name another place") from error


def _temporary(target: pathlib.Path, mode: int) -> tuple[pathlib.Path, list[int]]:
    """A new, locked, empty file beside `target`, with the same suffix (it decides on the format), and its handle."""
    suffix = target.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,12}", target.suffix) else ""
    temporary = target.with_name(f".nanoprune-{secrets.token_hex(8)}{suffix}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), mode)
    with contextlib.suppress(OSError):
        lock(handle)
    return temporary, [handle]


def _discard(temporary: pathlib.Path, handle: list[int]) -> None:
    """Close the file, and remove it if it was not renamed."""
    _close(handle)
    temporary.unlink(missing_ok=True)


def _close(handle: list[int]) -> None:
    while handle:
        os.close(handle.pop())


def _inherit(handle: int, before: os.stat_result) -> None:
    """Give a new file the owner and the permissions of the one that it replaces."""
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with contextlib.suppress(OSError):  # only root may give a file away
            os.fchown(handle, before.st_uid, before.st_gid)
    os.fchmod(handle, stat.S_IMODE(before.st_mode) & 0o777)


def lock(handle: int) -> None:
    """Lock an open file until it is closed. Raises BlockingIOError where another process has locked it, another OSError
    where the system or the file system has no locks."""
    if fcntl is None:
        raise OSError("no locks")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def flush_folder(folder: str | os.PathLike) -> None:
    """Flush the names in a folder to disk: without it a renamed file may be lost in a power failure."""
    if os.name == "posix":  # other systems cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporaries(folder: str | os.PathLike) -> None:
    """Remove the half-written files that `atomic_path` left in a folder when its process was killed, and nothing else.

    They are recognised by the pattern of their names, and by the lock that no process holds.
    """
    if fcntl is None:
        return  # os.O_NOFOLLOW is missing too
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [e.path for e in entries if TEMPORARY.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
        for path in found:
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    lock(handle)
                    os.unlink(path)
                finally:
                    os.close(handle)


def open_regular(path: str | os.PathLike) -> IO[bytes]:
    """A regular file, open for reading bytes: never a pipe, which could block, nor an endless device.

    Raises the errors of `open`, and DataError, naming the file, where it is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DataError(f"{printable(path, 400)}: cannot be read, it is not a regular file; name one")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256, in hex, of a file's bytes. Raises DataError, naming the file, where it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{printable(path, 400)}: cannot be read ({error.strerror or error})") from error


def write_json(value: Any, path: str | os.PathLike) -> None:
    """Write plain data as JSON, whole or not at all. Raises DataError, naming `path`, where it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
