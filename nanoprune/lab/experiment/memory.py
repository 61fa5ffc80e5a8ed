"""The memory that a run needs, compared with the free memory before the run starts."""

from __future__ import annotations

import pathlib
from typing import Any

from nanoprune.attack.attack_network import attacker
from nanoprune.backend import free_memory
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.evaluation import evaluation_batch
from nanoprune.lab.engine.shards import CACHE, footprint
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.nn import Network

BASE = 300_000_000  # bytes of a process that has imported Python's and our libraries, as measured
KEPT = 4  # copies of a fleet's parameters: the fleet, the results of its shards, and two other methods


def check_memory(net: Network, replicas: int, recipe: Recipe, threads: int, data: int) -> None:
    """Refuse a run of fleets of `replicas` networks like `net` (of one replica) that the free memory cannot hold.

    data: bytes of the records, see `resident`. Raises ArgumentError with the memory needed and the options to lower. On
    a GPU the shards fit the free memory anyway (`shard_size`). Nothing is refused where the free memory is unknown.
    """
    free = available()
    if free is None or free_memory() is not None:
        return
    needed = estimate(net, replicas, recipe, threads, data)
    if needed > free:
        raise ArgumentError(
            f"the run needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; lower --threads "
            f"(now {threads}) or --seeds and --width, where given"
        )


def estimate(net: Network, replicas: int, recipe: Recipe, threads: int, data: int) -> int:
    """The approximate peak memory of the run in bytes: the networks in training, and the trained ones that are kept."""
    parameters = net.theta[0].nbytes
    training = footprint(net, max(recipe.dense.batch, evaluation_batch(net)))
    if recipe.minmax:
        training += footprint(attacker(net.output_shape[0]), 2 * recipe.dense.batch)
    at_once = min(replicas, threads * max(1, CACHE // parameters))  # as `shard_size` has it
    workers = max(at_once, threads)  # with few replicas the samples are divided among workers, each with its buffers
    return BASE + data + workers * training + KEPT * replicas * parameters


def resident(x: Any, threads: int) -> int:
    """Bytes of the records x in memory: an array is shared by all processes; a file is cached by each of them."""
    return x.nbytes if hasattr(x, "nbytes") else threads * x.kept_bytes


def available() -> int | None:
    """Free bytes: the system's, or those of the process's control group if they are fewer; None if unknown."""
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
