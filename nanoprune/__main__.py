"""`python -m nanoprune` and the command `nanoprune`.

Signals are handled before the slow imports begin: a Ctrl-C in the first second is no traceback either.
"""

import os
import signal


def run() -> None:
    """The command line as a process of its own; never returns."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from nanoprune.lab.commands import main
    from nanoprune.lab.engine.interrupt import at_once

    with at_once():
        main()


def _end(number: int, frame: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    run()
