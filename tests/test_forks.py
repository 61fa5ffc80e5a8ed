"""Forked workers without resources, when their parent dies, and their output streams."""

import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from processes import gone

from nanoprune.errors import WorkerError
from nanoprune.lab.engine.forks import can_fork
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.shards import train_shards

pytestmark = pytest.mark.skipif(not can_fork(), reason="workers are forked on Linux")

POOL = """
from nanoprune.lab.engine.shards import train_shards
train_shards(lambda shard, advance: time.sleep(60), 4, 4)
"""
GROUP = """
from nanoprune.lab.engine.process_group import ProcessGroup
with ProcessGroup(4) as group:
    time.sleep(60)
"""


@pytest.mark.parametrize("allowed", range(5))
def test_where_only_so_many_workers_can_be_forked_it_is_an_error_and_none_is_left(allowed, monkeypatch):
    fork, made = os.fork, []

    def limited():
        if len(made) == allowed:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pid = fork()
        made.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", limited)
    with pytest.raises(WorkerError, match=r"cannot be started \(.*unavailable\); lower --threads"):
        train_shards(lambda shard, advance: None, 5, 5)
    assert len(made) == allowed
    assert gone(made)


@pytest.mark.parametrize("spare", range(12))
def test_where_file_descriptors_run_out_it_is_one_line_and_never_a_hang(spare):
    program = f"""
        import os, resource, sys
        from nanoprune.errors import WorkerError
        from nanoprune.lab.engine.shards import train_shards

        used = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + {spare}, used + 1 + {spare}))
        try:
            train_shards(lambda shard, advance: 1, 4, 4)
        except (WorkerError, OSError) as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "" or done.stdout.startswith("WorkerError a worker process cannot be started (Too many open")


def test_no_semaphores_and_no_threads_are_needed(monkeypatch):
    """A container without /dev/shm has no semaphores; at the limit of processes no thread can start."""
    import _multiprocessing

    def none(*_, **__):
        raise OSError(errno.ENOSYS, "no semaphores")

    monkeypatch.setattr(_multiprocessing, "SemLock", none)
    monkeypatch.setattr(threading.Thread, "start", none)
    assert train_shards(lambda shard, advance: shard.start, 3, 2) == [0, 1, 2]


@pytest.mark.parametrize("body", [POOL, GROUP], ids=["pool", "group"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_worker_forked_while_its_parent_dies_ends_too(body, nth, tmp_path):
    """The death signal is requested after the fork: a parent that has ended by then will never cause it."""
    pids = tmp_path / "pids"
    program = f"""
        import os, signal, time
        fork, me, forks = os.fork, os.getpid(), 0

        def deadly():
            global forks
            forks += 1
            pid = fork()
            if pid == 0:
                with open({str(pids)!r}, "a") as file:
                    file.write(f"{{os.getpid()}}\\n")
                if forks == {nth}:
                    while os.getppid() == me:  # ask for the signal only when the parent is dead
                        time.sleep(0.01)
            elif forks == {nth}:
                os.kill(me, signal.SIGKILL)
            return pid

        os.fork = deadly
    """
    source = textwrap.dedent(program) + body
    assert subprocess.run([sys.executable, "-c", source], timeout=60, check=False).returncode == -signal.SIGKILL
    for _ in range(100):
        if pids.exists() and len(pids.read_text().split()) == nth:
            break
        time.sleep(0.1)
    forked = [int(pid) for pid in pids.read_text().split()]
    assert len(forked) == nth
    assert gone(forked)


class Locked(io.StringIO):
    """A stream like a progress bar's: a writer needs its lock."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def write(self, text: str) -> int:
        assert self.lock.acquire(timeout=5), "deadlock: the lock was held when this process was forked"
        self.lock.release()
        return super().write(text)


def _both(work):
    """Run it in workers of either kind; raise what they raise."""
    train_shards(lambda shard, advance: work(), 2, 2)
    with ProcessGroup(2) as group:
        if group.rank:
            work()


def test_a_worker_writes_to_no_stream_of_its_parent(monkeypatch, capfd):
    """Even where another thread held the stream's lock at the fork, as a progress bar does 10 times per second."""
    streams = Locked(), Locked()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])

    def work():
        print("to stdout")
        print("to stderr", file=sys.stderr)

    with streams[0].lock, streams[1].lock:
        _both(work)
    out, err = capfd.readouterr()
    assert (out.count("to stdout\n"), err.count("to stderr\n")) == (3, 3)
    assert [stream.getvalue() for stream in streams] == ["", ""]


def test_an_error_in_a_worker_says_where_it_was_raised():
    def fails(shard, advance):
        raise ZeroDivisionError("shard")

    with pytest.raises(ZeroDivisionError) as caught:
        train_shards(fails, 2, 2)
    assert "in fails" in caught.value.__notes__[0]


def test_signals_to_the_whole_group_leave_the_workers_at_work():
    program = """
        import os, signal
        from nanoprune.lab.engine.shards import train_shards

        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: caught.append(number))

        def work(shard, advance):
            if shard.start == 0:
                os.killpg(0, signal.SIGINT)
                os.killpg(0, signal.SIGTERM)
            return shard.start

        print(train_shards(work, 3, 2), sorted(caught))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, start_new_session=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[0, 1, 2] [2, 15]\n", "")
