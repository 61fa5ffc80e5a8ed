"""SIGINT and SIGTERM: the first asks the work to stop where it can be taken up again, the second ends it at once."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator

from nanoprune.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = mmap.mmap(-1, 1)  # the signal's number, 0 before one; shared with forked workers, and needs no lock


def asked() -> bool:
    """Has a signal asked the work to stop?"""
    return _asked[0] != 0


def refuse_if_asked() -> None:
    """Raises Stopped where a signal has asked for it: called where nothing is lost."""
    if _asked[0]:
        stopped = Stopped(f"stopped by {signal.Signals(_asked[0]).name}")
        stopped.signal = _asked[0]
        raise stopped


@contextlib.contextmanager
def graceful() -> Iterator[None]:
    """Inside of it, and of the outermost one, a signal only asks. Only the main thread can have it so."""
    inner = signal.getsignal(signal.SIGINT) is _handle
    if inner or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        _asked[0] = 0
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(number: int, frame: object) -> None:
    if _asked[0]:
        _end(number)
    _asked[0] = number
    _say("stopping at the end of the epoch; once more to stop at once\n")


def _end(number: int) -> None:
    """End this process and its workers now. No lock is taken: whoever holds one may never let go of it again."""
    for child in multiprocessing.active_children():
        child.kill()
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # which progress bars hide
    _say(f"{show_cursor}error: stopped at once; what was saved before is kept\n")
    os._exit(128 + number)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
