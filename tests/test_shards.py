"""Replicas in shards: all of them, in order, in parallel; progress, failures and the death of a worker are reported."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import gone, killed

from nanoprune.errors import ArgumentError, DivergenceError, Interrupted, WorkerError
from nanoprune.lab.engine.shards import (
    CACHE,
    COPIES,
    footprint,
    map_shards,
    sample_threads,
    shard_size,
    train_shards,
)
from nanoprune.nn import Dense, Network, ReLU, Sequential

linux = pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("size", "shards"), [(1, 5), (2, 3), (9, 1)])
def test_map_shards_covers_the_replicas_in_order(threads, size, shards):
    def work(shard):
        time.sleep(0.002 * (5 - shard.start))  # the first finish last
        return shard

    results = map_shards(work, 5, threads, size)
    assert len(results) == shards
    assert [r for shard in results for r in range(5)[shard]] == list(range(5))


def test_map_shards_uses_the_threads_that_it_may():
    together = threading.Barrier(2, timeout=10)  # passes only when two are in it at once
    assert len(map_shards(lambda shard: together.wait(), 4, threads=2)) == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_map_shards_raises_what_a_shard_raises_and_drops_the_rest(threads):
    begun = []

    def work(shard):
        begun.append(shard.start)
        if shard.start == 0:
            raise ZeroDivisionError("shard 0")
        time.sleep(0.05)

    with pytest.raises(ZeroDivisionError, match="shard 0"):
        map_shards(work, 50, threads)
    assert len(begun) < 10


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 600), st.integers(1, 4))
def test_shards_fit_the_cache_and_give_no_thread_more_than_its_share(replicas, width, threads):
    net = Network(Dense(width, 500), (width,), replicas)
    size = shard_size(net, samples=8, threads=threads)
    assert 1 <= size <= replicas
    assert size == 1 or size * 4 * 500 * (width + 1) <= CACHE
    assert size <= -(-replicas // threads)
    one_more = (size + 1) * 4 * 500 * (width + 1) <= CACHE
    assert not one_more or size == replicas or size == -(-replicas // threads)  # as large as it may be


@pytest.mark.parametrize(
    ("width", "replicas", "threads", "expected"),
    [(1000, 1, 4, 4), (1000, 2, 4, 2), (1000, 3, 4, 1), (1000, 5, 4, 1), (1000, 1, 1, 1), (10, 1, 4, 1)],
)
def test_idle_threads_share_samples_where_steps_are_large(width, replicas, threads, expected):
    net = Network(Dense(width, 500), (width,), replicas)  # 500 width multiplications a sample
    assert sample_threads(net, batch=200, threads=threads) == expected


def test_no_samples_are_divided_without_fork(monkeypatch):
    monkeypatch.setattr(sys, "platform", "elsewhere")
    assert sample_threads(Network(Dense(1000, 500), (1000,)), batch=200, threads=4) == 1


def test_the_footprint_counts_buffers_and_parameters():
    net = Network(Sequential(Dense(3, 2), ReLU()), (3,), replicas=7)
    X, Y, Z, dX = 4 * 3 * 5, 4 * 2 * 5, 4 * 2 * 5, 4 * 2 * 5  # bytes, with 5 samples
    assert footprint(net, 5) == X + Y + Z + dX + COPIES * 4 * (3 * 2 + 2)


def test_threads_below_one_are_refused():
    with pytest.raises(ArgumentError, match="threads must be at least 1, got 0"):
        map_shards(lambda shard: None, 2, 0)
    with pytest.raises(ArgumentError, match="threads must be at least 1, got 0"):
        train_shards(lambda shard, advance: None, 2, 0)


# --- training shards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_training_shards_return_in_order_and_report_every_step(threads, size):
    steps_reported = []

    def work(shard, advance):
        time.sleep(0.01 * (5 - shard.start))  # the first finish last
        for _ in range(3):
            advance(2)
        return np.arange(5)[shard]

    results = train_shards(work, 5, threads, size, steps_reported.append)
    np.testing.assert_array_equal(np.concatenate(results), np.arange(5))
    assert sum(steps_reported) == 6 * len(results)


@linux
def test_training_shards_are_processes_that_share_no_memory():
    array = np.zeros(4)

    def work(shard, advance):
        array[shard] = 1
        return os.getpid(), array[shard].sum()

    results = train_shards(work, 4, threads=2)
    assert os.getpid() not in {pid for pid, _ in results}
    assert len({pid for pid, _ in results}) <= 2
    assert [total for _, total in results] == [1, 1, 1, 1]
    assert (array == 0).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_failure_is_raised_and_ends_the_others(threads, tmp_path):
    def work(shard, advance):
        if shard.start == 1:
            raise DivergenceError("shard 1 diverged")
        for _ in range(1000):
            advance(1)
            time.sleep(0.02)
        (tmp_path / str(shard.start)).touch()  # never gets here, unless it was the only one at work

    with pytest.raises(DivergenceError, match="shard 1 diverged"):
        train_shards(work if threads == 2 else lambda shard, advance: work(slice(1, 2), advance), 8, threads)
    assert not list(tmp_path.iterdir())


@linux
def test_the_cause_is_raised_where_its_consequence_is_received_before_it():
    """Both shards end while the parent is busy: it reads the interrupted one first, which was started first."""

    def work(shard, advance):
        if shard.start == 1:
            time.sleep(0.3)
            raise DivergenceError("shard 1 diverged")
        while True:
            time.sleep(0.01)
            advance(1)

    with pytest.raises(DivergenceError, match="shard 1 diverged"):
        train_shards(work, 2, 2, advance=lambda steps: time.sleep(1))


@linux
def test_a_worker_that_is_killed_is_an_error():
    def work(shard, advance):
        if shard.start == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerError, match="a worker process was killed"):
        train_shards(work, 4, threads=2)


@linux
def test_workers_end_with_their_parent():
    program = """
        import os, time
        from nanoprune.lab.engine.shards import train_shards

        def work(shard, advance):
            os.write(1, b"%d\\n" % os.getpid())  # in one piece
            time.sleep(60)

        train_shards(work, 2, 2)
    """
    assert gone(killed(program, 2))


def test_without_fork_shards_run_in_threads(monkeypatch):
    monkeypatch.setattr(sys, "platform", "elsewhere")
    steps_reported, together = [], threading.Barrier(2, timeout=10)

    def work(shard, advance):
        together.wait()
        advance(1)
        return os.getpid()

    assert train_shards(work, 4, 2, advance=steps_reported.append) == [os.getpid()] * 4
    assert sum(steps_reported) == 4

    def fail(shard, advance):
        together.wait()
        if shard.start == 0:
            raise ZeroDivisionError
        while True:  # until it learns that another shard has failed
            time.sleep(0.01)
            try:
                advance(1)
            except Interrupted:
                ended.append(shard.start)
                raise

    ended = []
    with pytest.raises(ZeroDivisionError):
        train_shards(fail, 2, 2)
    assert ended == [1]
