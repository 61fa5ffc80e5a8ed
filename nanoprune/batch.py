"""Records as the networks take them: gathered, samples last."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.lab.engine.process_group import Team
from nanoprune.lab.engine.shards import map_shards, shard_size
from nanoprune.nn import Network, Workspace

EVALUATION_BATCH = 256  # records of an evaluation pass, at most
EVALUATION_BYTES = 1 << 28  # of what its layers put out for them, in one replica
MIXED = 64  # blocks of records that are shuffled together where records are read in blocks


class Records:
    """Features x (N, ...) and labels y (N,) on the chosen device; or x a `data.packed.Packed` that stays in its file.

    block: how many neighbours x reads together, for `shuffled`; None where x is in memory.
    """

    def __init__(self, x: Any, y: np.ndarray) -> None:
        self.x, self.y = to_device(x) if isinstance(x, np.ndarray) else x, to_device(y)
        self.block: int | None = getattr(x, "block", None)

    def batch(self, index: Any, ws: Workspace) -> tuple[Any, Any]:
        """The records index (R, N): features (R, ..., N), in a buffer of `ws`, and labels (R, N)."""
        rows = self.x[index]  # (R, N, ...)
        X = ws.buffer(self, "X", (len(rows), *rows.shape[2:], rows.shape[1]), rows.dtype)  # (R, ..., N)
        X[...] = xp.moveaxis(rows, 1, -1)
        return X, self.y[index]


def shuffled(
    members: np.ndarray, batch: int, generators: list[np.random.Generator], block: int | None = None
) -> Iterator[np.ndarray]:
    """One epoch: batches (R, B) of members (R, M), in an order that each replica's generator draws.

    Every order is equally likely; or, where records are read in blocks of `block` neighbours, MIXED random blocks at a
    time in an order of their own, so that each block is read once. What a batch has of those is in the order of the
    file: of several processes that share batches out, each finds the same blocks in one after the other.
    """
    rows = [generator.permutation(row) for generator, row in zip(generators, members, strict=True)]
    if block:
        rows = [_by_blocks(row, generator, block, batch) for generator, row in zip(generators, rows, strict=True)]
    order = np.stack(rows)  # (R, M)
    for start in range(0, order.shape[1], batch):
        yield order[:, start : start + batch]


def _by_blocks(row: np.ndarray, generator: np.random.Generator, block: int, batch: int) -> np.ndarray:
    """The records `row` (M,), in random order, as groups of MIXED random blocks: batches of a group are random, and
    inside of a batch each group is in the order of the file."""
    blocks = row // block  # (M,)
    group = generator.permutation(blocks.max() + 1)[blocks] // MIXED  # (M,)
    order = np.argsort(group, kind="stable")
    row, group = row[order], group[order]
    return row[np.lexsort((row, group, np.arange(len(row)) // batch))]


def evaluation_batch(net: Network) -> int:
    """How many records an evaluation pass of `net` takes: fewer than EVALUATION_BATCH where its layers put out much.

    Their outputs are all in memory at once, and up to as much beside them, such as frames of zeros: in large networks
    more than their training takes.
    """
    outputs = sum(math.prod(layer.output_shape(shape)) for layer, shape in net.body.leaves(net.input_shape))
    return max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // (outputs * net.theta.itemsize)))


def predict(net: Network, records: Records, index: np.ndarray, ws: Workspace | None = None) -> np.ndarray:
    """Logits (R, n, classes) of the records index (R, n), in evaluation mode, on the host."""
    ws = ws or Workspace(training=False)
    logits = np.empty((*index.shape, net.output_shape[0]), net.theta.dtype)
    size = evaluation_batch(net)
    for start in range(0, index.shape[1], size):
        part = slice(start, start + size)
        X, _ = records.batch(to_device(index[:, part]), ws)
        logits[:, part] = to_host(net.forward(X, ws)).swapaxes(1, 2)
    return logits


def accuracy(
    net: Network, records: Records, index: np.ndarray, ws: Workspace | None = None, team: Team | None = None
) -> np.ndarray:
    """Share of the records index (R, n) that each replica classifies correctly, (R,); a team shares the records out."""
    mine = index[:, team.part(index.shape[1])] if team else index  # (R, up to n)
    right = (predict(net, records, mine, ws).argmax(axis=2) == to_host(records.y)[mine]).sum(axis=1)  # (R,)
    (right,) = team.total(right) if team else (right,)
    return right / index.shape[1]


def predict_fleet(net: Network, records: Records, index: np.ndarray, threads: int) -> np.ndarray:
    """`predict`, with the replicas shared out among worker threads."""
    size = shard_size(net, evaluation_batch(net), threads)
    parts = map_shards(lambda shard: predict(net.shard(shard), records, index[shard]), net.replicas, threads, size)
    return np.concatenate(parts)
