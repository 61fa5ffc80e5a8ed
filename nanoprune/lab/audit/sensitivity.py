"""The sensitivity of networks' outputs to small noise in the input, for SAMIA."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from nanoprune.attack.shadow.samia import COPIES, EPSILON
from nanoprune.lab.data import Dataset
from nanoprune.lab.engine.evaluation import predict_fleet
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.nn import Network
from nanoprune.records import Records

STREAM = int.from_bytes(b"noise", "big")
TOGETHER = 1024  # records whose noise is drawn at once
SPREAD_OF = 2000  # records from which the standard deviations of the features are taken


def sensitivity(net: Network, dataset: Dataset, index: np.ndarray, threads: int) -> np.ndarray | None:
    """s (R, n, classes) float32 of the records `index` (n,), the formula of `nanoprune/attack/shadow/samia.py`; None of
    texts, since a token with noise is none.

    Every replica and every model sees the same noise. A value that is missing in a table stays so, and a feature that
    never changes gets no noise.
    """
    if dataset.tokens is not None:
        return None
    first = _rows(dataset, index[:SPREAD_OF]).astype(np.float64)
    there = np.isfinite(first)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, first, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(there, (first - mean) ** 2, 0).sum(axis=0) / count).astype(np.float32)
    found = np.empty((net.replicas, len(index), net.output_shape[0]), np.float32)
    with single_threaded_blas():
        for start in range(0, len(index), TOGETHER):
            part = index[start : start + TOGETHER]
            x, rng = _rows(dataset, part), np.random.default_rng([STREAM, start])
            before, changed = _outputs(net, x, dataset.y[part], threads), 0.0
            for _ in range(COPIES):
                noise = rng.standard_normal(x.shape, np.float32)
                near = x + np.float32(EPSILON) * spread * noise
                changed = changed + np.abs(_outputs(net, near, dataset.y[part], threads) - before)
            found[:, start : start + TOGETHER] = changed / (COPIES * EPSILON)
    return found


def _rows(dataset: Dataset, index: np.ndarray) -> np.ndarray:
    return np.asarray(dataset.x[index], np.float32)


def _outputs(net: Network, x: np.ndarray, y: np.ndarray, threads: int) -> np.ndarray:
    """Probabilities (R, n, classes) float64."""
    rows = np.tile(np.arange(len(x)), (net.replicas, 1))
    return softmax(predict_fleet(net, Records(x, y), rows, threads).astype(np.float64), axis=2)
