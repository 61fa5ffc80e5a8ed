"""What the benchmarks share: timing in turn, the machine's limits, and the rows of results.json."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import pathlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import threadpoolctl

RESULTS = pathlib.Path(__file__).with_name("results.json")


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one contestant over the rounds."""

    median: float
    low: float  # 10th percentile
    high: float  # 90th percentile


def in_turn(*contestants: tuple, rounds: int = 20, steps: int = 5, warmup: int = 5) -> list[Times]:
    """Time contestants (factory, *arguments) by turns: A B A B ..., so that a drift of the machine meets all of them.

    Each contestant lives in a process of its own, where factory(*arguments) makes the step that is timed: the idle
    threads of one library (OpenMP's spin for a while after each product) must not steal the processors of another.
    """
    context = multiprocessing.get_context("spawn")
    workers = []
    for factory, *arguments in contestants:
        ours, theirs = context.Pipe()
        process = context.Process(target=_contestant, args=(theirs, factory, arguments, warmup), daemon=True)
        process.start()
        ours.recv()
        workers.append((process, ours))
    seconds: list[list[float]] = [[] for _ in workers]
    for _ in range(rounds):
        for (_, pipe), collected in zip(workers, seconds, strict=True):
            pipe.send(steps)
            collected += pipe.recv()
    for process, pipe in workers:
        pipe.send(0)
        process.join()
    return [Times(*np.percentile(collected, [50, 10, 90])) for collected in seconds]


def _contestant(pipe: Any, factory: Callable, arguments: list, warmup: int) -> None:
    step = factory(*arguments)
    for _ in range(warmup):
        step()
    pipe.send("ready")
    time.sleep(0.3)
    while steps := pipe.recv():
        step()  # wakes the threads and the cache; not counted
        collected = []
        for _ in range(steps):
            began = time.perf_counter()
            step()
            collected.append(time.perf_counter() - began)
        pipe.send(collected)


def sgemm_rate(threads: int, n: int = 1024) -> float:
    """FLOP/s of float32 matrix products on `threads` threads, each with a product of its own."""
    (times,) = in_turn((_products, threads, n))
    return threads * 2 * n**3 / times.median


def _products(threads: int, n: int) -> Callable[[], Any]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    A = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    outs = [np.empty_like(A) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda out: np.matmul(A, A, out=out), outs))


def report(measure: str, ours: Times, peer: Times, peer_name: str, limit: float) -> dict[str, Any]:
    """Print one measure and return its row; limit: seconds that the machine's arithmetic or copying alone takes."""
    row = {
        "measure": measure,
        "ours_seconds": ours.median,
        "peer": peer_name,
        "peer_seconds": peer.median,
        "ratio": ours.median / peer.median,
        "limit": limit,
        "share_of_limit": limit / ours.median,
    }
    spread = ", ".join(f"{1e3 * t.low:.2f}-{1e3 * t.high:.2f}" for t in (ours, peer))
    print(
        f"{measure:18} nanoprune {1e3 * ours.median:8.2f} ms   {peer_name} {1e3 * peer.median:8.2f} ms   "
        f"ratio {row['ratio']:.2f}   {row['share_of_limit']:.0%} of the limit   (10-90%: {spread} ms)",
        flush=True,
    )
    return row


def record(row: dict[str, Any]) -> None:
    """Add the row to results.json, in the place of an older one of the same measure."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    rows = [old for old in rows if old["measure"] != row["measure"]] + [row]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
