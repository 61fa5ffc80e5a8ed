"""`python -m nanoprune` and the command `nanoprune`.

Signals are handled before the slow imports begin, so that an early Ctrl-C prints no traceback either.
"""

import contextlib
import os
import signal
from collections.abc import Iterator


def run() -> None:
    """The command line as a process of its own; never returns."""
    with handled_signals():
        from nanoprune.lab.commands import main
        from nanoprune.lab.engine.interrupt import at_once

        with at_once():
            main()


@contextlib.contextmanager
def handled_signals() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM end the process with one line; afterwards, without. Ignored ones stay ignored."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in numbers:  # Python runs no handlers while it shuts down, so a signal would be lost
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    run()
