"""SIGINT and SIGTERM: inside of `graceful` a first signal stops the work at the next checkpoint, a second at once.

A signal that is ignored when the program starts (POSIX shells ignore SIGINT for background jobs) stays ignored.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nanoprune.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ACTION_BYTES = 1024  # more than a struct sigaction has anywhere (152 with glibc)

_asked = mmap.mmap(-1, 1)  # the number of the signal, 0 before the first; shared with forked workers, needs no lock
_inside = False  # whether a `graceful` is active


def stop_requested() -> bool:
    """Whether a signal has asked the work to stop."""
    return _asked[0] != 0


def raise_if_stopping() -> None:
    """Raise Stopped if a signal has asked the work to stop; called where stopping loses nothing."""
    if _asked[0]:
        raise _stopped(_asked[0])


@contextlib.contextmanager
def graceful() -> Iterator[None]:
    """A context in which a signal only asks the work to stop, see `raise_if_stopping`. It raises Stopped at its end if
    nothing has reacted. Only the main thread can set signal handlers; in other threads, and nested, it does nothing.
    """
    global _inside
    if _inside or threading.current_thread() is not threading.main_thread():
        yield
        return
    _inside = True
    try:
        with _handlers(_handle):
            yield
        number = _asked[0]  # the previous handlers are restored and handle later signals
    finally:
        _asked[0], _inside = 0, False
    if number:
        raise _stopped(number)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """A context in which, outside of `graceful`, a signal ends the process with one line and status 128 + number."""
    with _handlers(lambda number, frame: _end(number, "interrupted")):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Set the handler of all signals that are not ignored; at the end restore the previous ones."""
    before = [(number, signal.getsignal(number), _action(number)) for number in SIGNALS]
    before = [of for of in before if not _ignored(*of[1:])]
    try:
        for number, *_ in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, python, action in before:
            signal.signal(number, signal.SIG_DFL if python is None else python)
            if action is not None:  # a handler that C code has set, which Python cannot restore
                ctypes.CDLL(None).sigaction(number, action, None)


def _action(number: int) -> Any:
    """The struct sigaction of a signal as bytes, None where the system has none (Windows)."""
    action = ctypes.create_string_buffer(ACTION_BYTES)
    if os.name != "posix" or ctypes.CDLL(None).sigaction(number, None, action):
        return None
    return action


def _ignored(python: Any, action: Any) -> bool:
    """Whether the signal is ignored, by Python's handler or by the system's (the first member of the struct)."""
    return python is signal.SIG_IGN or (action is not None and ctypes.c_void_p.from_buffer(action).value == 1)


def _stopped(number: int) -> Stopped:
    stopped = Stopped(f"stopped by {signal.Signals(number).name}")
    stopped.signal = number
    return stopped


def _handle(number: int, frame: object) -> None:
    if _asked[0]:
        _end(number, "stopped at once; checkpoints written before are kept")
    _asked[0] = number
    _say("stopping at the end of the epoch; send the signal again to stop at once\n")


def _end(number: int, message: str) -> None:
    """End this process and its workers now. No lock is taken: the interrupted code may hold it."""
    for child in multiprocessing.active_children():
        child.kill()
    show_cursor = "\x1b[?25h" if sys.__stderr__ and sys.__stderr__.isatty() else ""  # progress bars hide it
    _say(f"{show_cursor}error: {message}\n")
    os._exit(128 + number)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
