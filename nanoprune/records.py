"""Records as the networks take them: gathered, samples last."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.nn import Network, Workspace

EVALUATION_BATCH = 256  # records of an evaluation pass


class Records:
    """Features x (N, ...) and labels y (N,) on the chosen device; x may be any object that takes indices (R, N)."""

    def __init__(self, x: Any, y: np.ndarray) -> None:
        self.x, self.y = to_device(x) if isinstance(x, np.ndarray) else x, to_device(y)

    def batch(self, index: Any, ws: Workspace) -> tuple[Any, Any]:
        """The records index (R, N): features (R, ..., N), in a buffer of `ws`, and labels (R, N)."""
        rows = self.x[index]  # (R, N, ...)
        X = ws.buffer(self, "X", (len(rows), *rows.shape[2:], rows.shape[1]), rows.dtype)  # (R, ..., N)
        X[...] = xp.moveaxis(rows, 1, -1)
        return X, self.y[index]


def shuffled(members: np.ndarray, batch: int, generators: list[np.random.Generator]) -> Iterator[np.ndarray]:
    """One epoch: batches (R, B) of members (R, M), each replica in a random order that its generator draws."""
    order = np.stack([generator.permutation(row) for generator, row in zip(generators, members, strict=True)])  # (R, M)
    for start in range(0, order.shape[1], batch):
        yield order[:, start : start + batch]


def predict(
    net: Network, records: Records, index: np.ndarray, ws: Workspace | None = None, batch: int = EVALUATION_BATCH
) -> np.ndarray:
    """Logits (R, n, classes) of the records index (R, n) in evaluation mode, on the host, `batch` records at a time."""
    ws = ws or Workspace(training=False)
    logits = np.empty((*index.shape, net.output_shape[0]), net.theta.dtype)
    for start in range(0, index.shape[1], batch):
        part = slice(start, start + batch)
        X, _ = records.batch(to_device(index[:, part]), ws)
        logits[:, part] = to_host(net.forward(X, ws)).swapaxes(1, 2)
    return logits
