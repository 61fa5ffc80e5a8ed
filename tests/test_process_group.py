"""Process groups: equal sums in every process, one process at the end, and an error in all where one fails."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import gone, killed

from nanoprune.errors import ArgumentError, WorkerError
from nanoprune.lab.engine.process_group import ProcessGroup

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(0, 200))
def test_shards_cover_every_index_once(size, length):
    group, things = ProcessGroup(size), []
    for group.rank in range(size):
        part = range(length)[group.shard(length)]
        assert abs(len(part) - length / size) < 1
        things += part
    assert things == list(range(length))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_all_reduce_sums_in_the_order_of_the_ranks(size, seed):
    """To the last bit, in every process; arrays of several shapes and dtypes at once, numbers, and nothing at all."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((size, 2, 3, 1)).astype(np.float32), rng.standard_normal((size, 70_000))
    c, group = rng.integers(0, 1000, size), ProcessGroup(size)
    found = group.zeros((size, 2, 3, 1), np.float32), group.zeros((size, 70_000), np.float64), group.zeros((size,), int)
    with group:
        for _ in range(2):
            group.barrier()
            *totals, kind = group.all_reduce(a[group.rank], b[group.rank], int(c[group.rank]), 0.5)
            assert isinstance(kind, float)
            assert isinstance(totals[2], int)
            for place, total in zip(found, totals, strict=True):
                place[group.rank] = total
        assert group.all_reduce() == ()
    for place, parts in zip(found, (a, b, c), strict=True):
        expected = parts[0].copy()
        for part in parts[1:]:
            expected = expected + part
        assert all(total.tobytes() == expected.tobytes() for total in place)


@pytest.mark.parametrize("threads", [1, 3])
def test_broadcast_returns_the_value_of_rank_0_in_all(threads):
    group = ProcessGroup(threads)
    asked, found, arrays = group.zeros((3,), int), group.zeros((3,), float), group.zeros((3, 2), np.float32)

    def ask() -> float:
        asked[group.rank] += 1
        return 0.1 * (group.rank + 1)

    with group:
        found[group.rank] = group.broadcast(ask)
        array = group.broadcast(lambda: np.float32([group.rank + 1, 2]))
        assert array.dtype == np.float32
        arrays[group.rank] = array
    assert asked.tolist() == [1, 0, 0]
    assert found[:threads].tolist() == [0.1] * threads
    assert arrays[:threads].tolist() == [[1, 2]] * threads


def test_all_reduce_over_the_first_ranks_only():
    """The other processes do not wait for it, and reach the next barrier first."""
    group = ProcessGroup(4)
    found = group.zeros((4,), int)
    with group:
        for ranks in (1, 2, 3, 4):
            if group.rank < ranks:
                time.sleep(0.005)
                (found[group.rank],) = group.all_reduce(group.rank + 1, ranks=ranks)
            group.barrier()
            assert found[:ranks].tolist() == [ranks * (ranks + 1) // 2] * ranks
            group.barrier()


def test_no_process_passes_a_barrier_before_all_have_reached_it():
    group = ProcessGroup(3)
    come = group.zeros((3,), int)
    with group:
        for turn in range(1, 30):
            time.sleep(0.001 * (group.rank == turn % 3))
            come[group.rank] = turn
            group.barrier()
            assert (come == turn).all()
            group.barrier()


def test_processes_share_arrays_made_before_the_fork_and_nothing_else():
    group = ProcessGroup(2)
    ours, shared = np.zeros(2), group.zeros((2,), int)
    with group:
        ours[group.rank] = 1
        shared[group.rank] = os.getpid()
    assert ours.tolist() == [1, 0]
    assert shared[0] == os.getpid() != shared[1]
    assert gone([shared[1]])


def test_a_group_can_begin_again():
    group = ProcessGroup(2)
    turns = group.zeros((2,), int)
    for _ in range(3):
        with group:
            turns[group.rank] += 1
            group.barrier()
    assert turns.tolist() == [3, 3]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_one_ends_all(failing):
    """Processes that wait for it do not hang; rank 0 raises its own error, or reports that of the other process."""
    group = ProcessGroup(3)
    pids = group.zeros((3,), int)
    expected = (ZeroDivisionError, "in one") if failing == 0 else (WorkerError, "ZeroDivisionError: in one")

    def work() -> None:
        pids[group.rank] = os.getpid()
        group.barrier()
        if group.rank == failing:
            time.sleep(0.02)
            raise ZeroDivisionError("in one")
        group.barrier()

    with pytest.raises(expected[0], match=expected[1]), group:
        work()
    assert gone([pid for pid in pids if pid != os.getpid()])
    with group:  # and it can begin again
        assert group.all_reduce(1) == (3,)
        with pytest.raises(WorkerError, match="was killed"):
            raise WorkerError(group._failure())  # the old reason is forgotten


def test_the_death_of_one_is_an_error():
    group = ProcessGroup(2)

    def work() -> None:
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        group.barrier()

    with pytest.raises(WorkerError, match=r"^a worker process was killed, .*; lower --threads$"), group:
        work()


@pytest.mark.parametrize("killed", [False, True])
def test_a_failure_after_the_last_barrier_is_an_error_too(killed):
    group = ProcessGroup(2)

    def work() -> None:
        group.barrier()
        if group.rank == 1 and killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if group.rank == 1:
            raise MemoryError("at the end")

    with pytest.raises(WorkerError, match="was killed" if killed else "MemoryError: at the end"), group:
        work()


def test_the_first_reason_counts():
    group = ProcessGroup(3)

    def work() -> None:
        if group.rank:
            time.sleep(0.3 * (group.rank - 1))
            raise ValueError("the first one, at length" if group.rank == 1 else "short")
        time.sleep(0.6)

    with pytest.raises(WorkerError, match=r"^ValueError: the first one, at length$"), group:
        work()


def ended(program: str) -> tuple[int, str]:
    """The exit status and the output of a program that begins groups."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, start_new_session=True, timeout=60)
    return done.returncode, done.stdout


def test_no_failure_lets_another_process_leave_the_body():
    """Neither an error message that cannot be encoded, nor an interrupt before the start: later code runs once."""
    program = r"""
        import os
        import nanoprune.lab.engine.process_group as module

        def interrupted():
            raise KeyboardInterrupt

        for join, words in ((module.end_with_parent, "\udcff"), (interrupted, "")):
            module.end_with_parent, group = join, module.ProcessGroup(2)
            try:
                with group:
                    if group.rank:
                        raise ValueError(words)
                    group.barrier()
            except BaseException as error:
                os.write(1, f"{type(error).__name__} {error}\n".encode()[:30])
            finally:
                os.write(1, b"\nonce\n")
    """
    status, printed = ended(program)
    assert status == 0
    assert printed.splitlines() == ["WorkerError ValueError: ?", "", "once", "WorkerError a worker process w", "once"]


def test_ignored_sigchld_is_no_error():
    program = """
        import signal
        from nanoprune.lab.engine.process_group import ProcessGroup

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with ProcessGroup(2) as group:
            total = group.all_reduce(1)
        print(total)
    """
    assert ended(program) == (0, "(2,)\n")


def test_a_group_of_several_cannot_be_used_outside_of_its_body():
    group = ProcessGroup(2)
    for ask in (lambda: group.all_reduce(1), group.barrier, lambda: group.broadcast(lambda: 1)):
        with pytest.raises(WorkerError, match="a group of 2 processes is not running"):
            ask()


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch):
    fork, made = os.fork, []

    def second_fails() -> int:
        if made:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        pid = fork()
        made.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", second_fails)
    with (
        pytest.raises(WorkerError, match=r"cannot be started \(.*unavailable\); lower --threads"),
        ProcessGroup(3) as group,
    ):
        group.barrier()
    assert gone(made)


def test_a_signal_to_the_process_group_is_handled_by_rank_0_only():
    program = """
        import os, signal, time
        from nanoprune.lab.engine.process_group import ProcessGroup

        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: caught.append(number))
        group = ProcessGroup(2)
        with group:
            if group.rank == 0:
                os.killpg(0, signal.SIGINT)
                os.killpg(0, signal.SIGTERM)
            total = group.all_reduce(1)
        print(total)
        print(len(caught))
    """
    assert ended(program) == (0, "(2,)\n2\n")


def test_the_others_end_where_rank_0_is_killed():
    program = """
        import os, time
        from nanoprune.lab.engine.process_group import ProcessGroup

        with ProcessGroup(3) as group:
            os.write(1, b"%d\\n" % os.getpid())  # in one piece
            time.sleep(60)
    """
    assert gone(killed(program, 3))


def test_without_fork_a_group_is_one_process(monkeypatch):
    monkeypatch.setattr(sys, "platform", "elsewhere")
    with ProcessGroup(4) as group:
        assert (group.size, group.rank, group.all_reduce(3, "as it is")) == (1, 0, (3, "as it is"))
        assert range(7)[group.shard(7)] == range(7)


def test_a_group_without_processes_is_refused():
    with pytest.raises(ArgumentError, match="threads must be at least 1, got 0"):
        ProcessGroup(0)
