"""The training of fleets: several in one queue of shards, each resumed from a checkpoint, and without the replicas that
diverge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.errors import DataError, DivergenceError
from nanoprune.lab.engine.shards import Advance, shards_of, train_shards
from nanoprune.lab.engine.states import state_of
from nanoprune.lab.engine.training_state import curves_of
from nanoprune.lab.experiment.shard import Shard
from nanoprune.lab.storage.checkpoint import Saved, Slot, State
from nanoprune.nn import Network


@dataclasses.dataclass
class TrainedShard:
    """The result of a shard: the replicas of the fleet that are `left`, their theta, state, curves and statuses, and
    why the others were dropped, replica -> reason."""

    left: list[int]
    dropped: dict[int, str]
    theta: np.ndarray
    state: np.ndarray
    curves: dict[str, np.ndarray]
    status: list[str] | None


@dataclasses.dataclass(frozen=True)
class Job:
    """A fleet to be trained: train(slice of its replicas, advance) for each shard of `size`, `epochs` in each replica.

    alone: whether a shard uses several processes itself.
    """

    method: str
    replicas: int
    size: int
    epochs: int
    alone: bool
    train: Callable[[slice, Advance], TrainedShard | None]


def train_jobs(jobs: Sequence[Job], threads: int, progress: Any) -> list[list[TrainedShard]]:
    """The trained shards of each job. One queue has the shards of all that can share the processors, so that these wait
    at its end alone, not after each method; the longest trainings come first."""
    together = [job for job in jobs if not job.alone]
    found = {}
    for queue in ([together] if together else []) + [[job] for job in jobs if job.alone]:
        names = ", ".join(job.method for job in queue) if len(queue) < 4 else f"{len(queue)} methods"
        progress.start(f"train {names}", sum(job.epochs * job.replicas for job in queue))
        work = [(job, rows) for job in queue for rows in shards_of(job.replicas, job.size)]
        work.sort(key=lambda of: -of[0].epochs)

        def train(at: slice, advance: Advance, work: list = work) -> TrainedShard | None:
            job, rows = work[at.start]
            return job.train(rows, advance)

        ended = train_shards(train, len(work), threads, 1, progress.advance)
        for (job, _), shard in zip(work, ended, strict=True):
            found.setdefault(id(job), []).append(shard)
    return [[shard for shard in found[id(job)] if shard] for job in jobs]


def joined(net: Network, shards: Sequence[TrainedShard]) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Put the replicas of all shards into `net`; returns their curves and statuses. Those of replicas that were dropped
    are zero, NaN or "dropped"."""
    left = [r for shard in shards for r in shard.left]
    for name in ("theta", "state"):
        values = getattr(net, name)
        values[...] = 0
        values[left] = to_device(np.concatenate([getattr(shard, name) for shard in shards]))
    curves = {}
    for name in shards[0].curves:
        rows = np.concatenate([shard.curves[name] for shard in shards])  # (left, n)
        curves[name] = np.full((net.replicas, rows.shape[1]), np.nan if rows.dtype.kind == "f" else 0, rows.dtype)
        curves[name][left] = rows
    statuses = dict(zip(left, [s for shard in shards for s in shard.status or []], strict=False))
    return curves, [statuses.get(r, "dropped") for r in range(net.replicas)] if statuses else None


def train_shard(
    fleet: Network,
    replicas: list[int],
    make: Callable[[list[int], Saved | None], Shard],
    run: Callable[[Shard, list[int]], list[str] | None],
    slot: Slot | None = None,
) -> TrainedShard:
    """run(shard, replicas) on the shard of make(replicas of the fleet, their checkpoint or None).

    With a slot it resumes from the checkpoint there, and writes one with the result at the end. Where replicas diverge,
    the others are trained again from the start without them, since no replica depends on another. None may be left.
    """
    left, dropped, saved = replicas, {}, None
    state = slot.load() if slot else None
    if state is not None:
        left, dropped = _left(Saved(state, 0, str(slot.path)), replicas)
        saved = Saved(state, len(left), str(slot.path))
        if state.get("finished") is True:
            return _read(saved, fleet, left, dropped)
    shard, status = None, None
    while left:
        if slot:
            slot.beside = _beside(left, dropped)
        shard = make(left, saved)
        try:
            status = run(shard, left)
            break
        except DivergenceError as error:
            if not error.replicas:
                raise
            dropped = dropped | {left[r]: str(error) for r in error.replicas}
            left, saved = [r for r in left if r not in dropped], None
    net, curves = state_of(shard.net if left else fleet.shard(slice(0))), shard.recorded() if left else {}
    if slot:
        slot.beside = _beside(left, dropped)
        slot.save({"finished": True, "net": net, "curves": curves} | ({"status": status} if status else {}))
    return TrainedShard(left, dropped, net["theta"], net["state"], curves, status)


def _beside(left: list[int], dropped: dict[int, str]) -> State:
    """The part of every checkpoint of the shard that describes its replicas."""
    return {"replicas": left, "dropped": {str(r): why for r, why in dropped.items()}}


def _left(saved: Saved, replicas: list[int]) -> tuple[list[int], dict[int, str]]:
    """The replicas that a checkpoint holds, and why the others were dropped."""
    left, reasons = saved.value("replicas", list), saved.value("dropped", dict)
    dropped = {r: reasons.get(str(r)) for r in replicas if r not in left}
    known = left == [r for r in replicas if r not in dropped] and len(reasons) == len(dropped)
    if not known or not all(isinstance(why, str) for why in dropped.values()):
        raise DataError(f"{saved.where}: has the replicas {left} of {replicas}")
    return left, dropped


def _read(saved: Saved, fleet: Network, left: list[int], dropped: dict[int, str]) -> TrainedShard:
    """The result of a shard that an earlier run finished."""
    net = saved.part("net")
    arrays = [net.array(n, (len(left), getattr(fleet, n).shape[1]), fleet.theta.dtype) for n in ("theta", "state")]
    status = saved.each("status", str) if "status" in saved else None
    return TrainedShard(left, dropped, *arrays, curves_of(saved), status)
