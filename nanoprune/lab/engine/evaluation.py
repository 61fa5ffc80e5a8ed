"""Predictions of fleets of networks: the replicas divided among threads, the records among processes."""

from __future__ import annotations

import math

import numpy as np

from nanoprune.backend import to_host
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.shards import map_shards, shard_size
from nanoprune.lab.zoo.structure import leaves_with_shapes
from nanoprune.nn import Network, Workspace
from nanoprune.records import EVALUATION_BATCH, Records, predict

EVALUATION_BYTES = 1 << 28  # largest size of all layers' outputs in one pass of one replica


def evaluation_batch(net: Network) -> int:
    """The number of records in an evaluation pass of `net`: fewer than EVALUATION_BATCH where its layers are large.

    The outputs of all layers are in memory at once, and up to as much again for temporaries such as padded inputs: in
    large networks more than training takes.
    """
    outputs = sum(math.prod(leaf.output_shape(shape)) for leaf, shape in leaves_with_shapes(net.body, net.input_shape))
    return max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // (outputs * net.theta.itemsize)))


def predict_shard(net: Network, records: Records, index: np.ndarray, ws: Workspace | None = None) -> np.ndarray:
    """Logits (R, n, classes) of the records index (R, n), in passes of `evaluation_batch` records."""
    return predict(net, records, index, ws, evaluation_batch(net))


def predict_fleet(net: Network, records: Records, index: np.ndarray, threads: int) -> np.ndarray:
    """`predict_shard`, with the replicas divided among worker threads."""
    size = shard_size(net, evaluation_batch(net), threads)
    parts = map_shards(
        lambda shard: predict_shard(net.shard(shard), records, index[shard]), net.replicas, threads, size
    )
    return np.concatenate(parts)


def accuracy(
    net: Network,
    records: Records,
    index: np.ndarray,
    ws: Workspace | None = None,
    group: ProcessGroup | None = None,
) -> np.ndarray:
    """Share of the records index (R, n) that each replica classifies correctly, (R,); a group divides the records. NaN
    where there are none.
    """
    own = index[:, group.shard(index.shape[1])] if group else index  # (R, up to n)
    right = (predict_shard(net, records, own, ws).argmax(axis=2) == to_host(records.y)[own]).sum(axis=1)  # (R,)
    (right,) = group.all_reduce(right) if group else (right,)
    return right / index.shape[1] if index.shape[1] else np.full(len(index), np.nan)
