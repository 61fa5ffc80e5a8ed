"""How much memory a run will take, and how much there is: said before the run, not by its death."""

from __future__ import annotations

import pathlib
from typing import Any

from nanoprune.attack.attacker import attacker
from nanoprune.backend import free_memory
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.evaluation import evaluation_batch
from nanoprune.lab.engine.shards import CACHE, footprint
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.nn import Network

BASE = 300_000_000  # bytes of Python and its libraries, measured: a process that has imported all of them
KEPT = 4  # copies of a fleet's parameters: the fleet, its shards' as they come back, and those of two other methods


def check_memory(net: Network, replicas: int, recipe: Recipe, threads: int, data: int) -> None:
    """Refuse a run of fleets of `replicas` networks like `net` (of one replica) that the free memory cannot hold.

    data: bytes of the records, see `resident`. Raises ArgumentError that says what it needs, and what to lower. On a
    GPU shards are cut to the free memory anyway (`shard_size`), and where the system does not tell what is free nothing
    is refused.
    """
    free = available()
    if free is None or free_memory() is not None:
        return
    needed = estimate(net, replicas, recipe, threads, data)
    if needed > free:
        raise ArgumentError(
            f"the run needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; lower --threads "
            f"(now {threads}) or what there is of --seeds and --width"
        )


def estimate(net: Network, replicas: int, recipe: Recipe, threads: int, data: int) -> int:
    """Bytes that the run takes at most, about: what trains at once, and what is kept of what has been trained."""
    parameters = net.theta[0].nbytes
    training = footprint(net, max(recipe.dense.batch, evaluation_batch(net)))
    if recipe.minmax:
        training += footprint(attacker(net.output_shape[0]), 2 * recipe.dense.batch)
    at_once = min(replicas, threads * max(1, CACHE // parameters))  # as `shard_size` has it
    workers = max(at_once, threads)  # where replicas are few their samples are shared out, each part with its buffers
    return BASE + data + workers * training + KEPT * replicas * parameters


def resident(x: Any, threads: int) -> int:
    """Bytes in memory of records x: an array, which all processes share, or of a file what each of them keeps."""
    return x.nbytes if hasattr(x, "nbytes") else threads * x.kept_bytes


def available() -> int | None:
    """Bytes that a process may still take: what the system has free, or its control group if that is less."""
    found = []
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        group = pathlib.Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        found += [] if limit == "max" else [max(0, int(limit) - int(used))]
    except (OSError, ValueError, IndexError):
        pass
    return min(found, default=None)
