"""`python -m nanoprune` and the command `nanoprune`.

Signals are handled before the slow imports begin, so that an early Ctrl-C prints no traceback either.
"""

import os
import signal


def run() -> None:
    """Runs the command line as a separate process; never returns."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _end)
    from nanoprune.lab.commands import main
    from nanoprune.lab.engine.interrupt import at_once

    try:
        with at_once():
            main()
    finally:
        for number in numbers:  # Python runs no handlers while it shuts down, so a signal would be lost
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    run()
