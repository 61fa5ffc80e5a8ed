"""Shared by the benchmarks: interleaved timing, the machine's limits, and the rows of results.json."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import subprocess
import sys
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

    def over(self, count: int) -> Times:
        """The times of one of `count` equal parts."""
        return Times(self.median / count, self.low / count, self.high / count)


def in_turn(*contestants: tuple, rounds: int = 20, steps: int = 5, warmup: int = 5) -> list[Times]:
    """Time contestants (factory, *arguments) interleaved: A B A B ..., so that drifts of the machine affect all alike.

    Each contestant runs in a separate process, where factory(*arguments) makes the step that is timed: the idle threads
    of one library (OpenMP's spin for a while after each product) must not take processor time from another.
    """
    context = multiprocessing.get_context("spawn")
    workers = []
    for factory, *arguments in contestants:
        ours, theirs = context.Pipe()
        process = context.Process(target=_contestant, args=(theirs, factory, arguments, warmup))
        process.start()
        theirs.close()  # so that the failure of a contestant is noticed
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
    while steps := _requested_steps(pipe):
        step()  # warms up threads and caches; not counted
        collected = []
        for _ in range(steps):
            began = time.perf_counter()
            step()
            collected.append(time.perf_counter() - began)
        pipe.send(collected)


def _requested_steps(pipe: Any) -> int:
    """The requested number of steps; none where the benchmark itself has ended."""
    try:
        return pipe.recv()
    except EOFError:
        return 0


def sgemm_rate(threads: int, n: int = 1024, rounds: int = 20) -> float:
    """FLOP/s of float32 matrix products on `threads` threads, one product per thread."""
    (times,) = in_turn((_products, threads, n), rounds=rounds)
    return threads * 2 * n**3 / times.median


def _products(threads: int, n: int) -> Callable[[], Any]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    A = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    outs = [np.empty_like(A) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda out: np.matmul(A, A, out=out), outs))


def copy_rate(threads: int, megabytes: float = 64, rounds: int = 20) -> float:
    """Bytes read and written per second by copies on `threads` threads; arrays of 64 megabytes exceed the caches, and
    smaller ones are copied as often as it takes to move as much."""
    times_over = max(1, round(64 / megabytes))
    (times,) = in_turn((_copies, threads, megabytes, times_over), rounds=rounds)
    return threads * 2 * megabytes * 1e6 * times_over / times.median


def _copies(threads: int, megabytes: float, times_over: int) -> Callable[[], Any]:
    size = int(megabytes * 250_000)
    pairs = [(np.ones(size, np.float32), np.ones(size, np.float32)) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(times_over):
            np.copyto(*pair)

    return lambda: list(pool.map(copy, pairs))


def report(measure: str, ours: Times, peer: Times | None, peer_name: str | None, limit: float | None) -> None:
    """Print one measure and store it in results.json, replacing an older one of the same name and processor.

    peer: the fastest of the others, if there are any. limit: the seconds that the arithmetic or the copying alone takes
    on this machine.
    """
    row = {
        "measure": measure,
        "ours_seconds": ours.median,
        "ours_spread": [ours.low, ours.high],
        "peer": peer_name,
        "peer_seconds": peer.median if peer else None,
        "peer_spread": [peer.low, peer.high] if peer else None,
        "ratio": ours.median / peer.median if peer else None,
        "limit": limit,
        "share_of_limit": limit / ours.median if limit else None,
    }
    parts = [f"{measure:18} nanoprune {_milliseconds(ours)}"]
    parts += [f"{peer_name} {_milliseconds(peer)}", f"ratio {row['ratio']:.2f}"] if peer else []
    parts += [f"{row['share_of_limit']:.0%} of the limit"] if limit else []
    print("   ".join(parts), flush=True)
    keep(row)


def peak_memory(module: str, factory: str, *arguments: Any, steps: int = 10) -> int:
    """Peak resident set, in bytes, of a process that imports benchmarks/MODULE.py and does steps of factory(...).

    The private memory of its worker processes at the end is added, so shared memory is counted once.
    """
    program = f"""
import pathlib, sys
sys.path.insert(0, {str(RESULTS.parent)!r})
from {module} import {factory} as make
step = make(*{arguments!r})
for _ in range({steps}):
    step()
task = pathlib.Path("/proc/thread-self")
files = ["/proc/self/status", *(f"/proc/{{pid}}/smaps_rollup" for pid in (task / "children").read_text().split())]
lines = [line for file in files for line in pathlib.Path(file).read_text().splitlines()]
print(sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "Private_"))))  # in KiB there
"""
    return int(subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout)


def report_memory(measure: str, ours: int, peer: str, theirs: int) -> None:
    """Print a measure of memory, in bytes, and store it in results.json."""
    print(f"{measure:18} nanoprune {ours / 1e6:.0f} MB   {peer} {theirs / 1e6:.0f} MB   ratio {ours / theirs:.2f}")
    keep({"measure": measure, "ours_bytes": ours, "peer": peer, "peer_bytes": theirs, "ratio": ours / theirs})


def keep(row: dict[str, Any]) -> None:
    """Put the row into results.json."""
    rows, row = json.loads(RESULTS.read_text()) if RESULTS.exists() else [], row | {"machine": machine()}
    rows = [old for old in rows if identity(old) != identity(row)] + [row]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def identity(row: dict[str, Any]) -> tuple[str, str]:
    """Results have one row for each."""
    return row["measure"], row["machine"]["processor"]


def machine(*packages: str) -> dict[str, Any]:
    """The machine and versions that a figure depends on: of `packages`, by default NumPy and, where it is, PyTorch."""
    versions = {}
    for name in packages or ("numpy", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    found = {"processor": _processor(), "processors": len(os.sched_getaffinity(0))}
    return found | {"python": platform.python_version()} | versions


def _processor() -> str:
    """The processor's name, from /proc/cpuinfo on Linux."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _milliseconds(times: Times) -> str:
    return f"{1e3 * times.median:.2f} ms ({1e3 * times.low:.2f}-{1e3 * times.high:.2f})"
