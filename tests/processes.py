"""Whether processes are still alive, for tests of workers that must end."""

import subprocess
import sys
import textwrap
import time


def alive(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] not in "ZX"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    """Whether all of them end within ten seconds."""
    for _ in range(100):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.1)
    return False


def killed(program: str, count: int) -> list[int]:
    """Start a program whose `count` processes each print their pid, kill the first one; return the pids."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(parent.stdout.readline()) for _ in range(count)]
        parent.kill()
    return pids
