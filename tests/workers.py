"""What tests of engines have workers do. A module of its own: a worker that is started afresh imports it quickly."""

import os
import pathlib
import signal
import struct
import sys
import time


def pid() -> int:
    return os.getpid()


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def half_a_result() -> None:
    """Dies halfway through sending its result: the length of a message, and less than that of it."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 1000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def performed(text: str, where: str, machine: object) -> bytes:
    """`perform`, of a worker that a task kills: "poison" each time, "once FILE" where that file is not there yet."""
    word, _, mark = where.partition(" ")
    if word == "poison" or (word == "once" and not pathlib.Path(mark).exists()):
        if mark:
            pathlib.Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    from nanoprune.lab.tasks.perform import perform

    return perform(text, where, machine)
