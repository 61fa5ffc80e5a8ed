"""Norms of per-record gradients of layers that use each weight at many positions of an image.

A record's gradient is $D^T A$ over its T positions, one per row: A (T, K) holds the inputs, D (T, O) holds dY. Records
come first here, so that the matrices of each are contiguous, and in blocks that stay in the cache. Everything is
float64: where the inputs hardly vary, D^T A is a small difference of large sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import product, xp
from nanoprune.nn.workspace import Workspace

BLOCK = 1 << 18  # elements computed for a block of records on a CPU: two megabytes of float64
BLOCK_GPU = 1 << 25


def record_blocks(N: int, elements: int) -> Iterator[slice]:
    """The N records in blocks, each of at least one record; `elements`: the array elements that one record takes."""
    count = max(1, (BLOCK if xp._module is np else BLOCK_GPU) // elements)
    for start in range(0, N, count):
        yield slice(start, min(start + count, N))


def records_first(A: Any, name: str, ws: Workspace) -> Any:
    """A (R, rows, ..., N) as float64 (R, N, rows, ...), the axes between rows and records in the opposite order.

    Row by row on a CPU: the elements of a row stay in the cache until they are copied for all records.
    """
    R, rows, *between, N = A.shape
    out = ws.scratch(f"{name} of records", (R, N, rows, *reversed(between)), np.float64)
    backwards = range(A.ndim - 1, 1, -1)  # from the records to the first axis after the rows
    records, *others = backwards
    if xp._module is not np:
        out[...] = A.transpose(0, records, 1, *others)
        return out
    for y in range(rows):
        out[:, :, y] = A[:, y].transpose(0, *(axis - 1 for axis in backwards))
    return out


def place_norms(A: list, D: Any, bias: bool, M: Any, ws: Workspace) -> Any:
    r"""$\sum_i \|D^T A_i\|^2$, and $\|\sum_t d_t\|^2$ where there is a bias, of each record; (R, b).

    A: the parts (R, b, T, K_i) of the inputs, D (R, b, T, O). M: (R, parts, O, K_i), 1 at the entries that count and 0
    at the others, or None for all. Computed from the gradient $D^T A_i$ or, where all entries count and it takes fewer
    multiplications, from the Gram matrices of the positions, $\|D^T A\|^2 = \langle A A^T, D D^T \rangle$.
    """
    (R, b, T, O), K = D.shape, sum(part.shape[-1] for part in A)
    if M is None and T * (K + O) < K * O:
        AA, DD = _gram(A[0], "AA", ws), _gram(D, "DD", ws)  # (R, b, T, T)
        for part in A[1:]:
            AA += _gram(part, "AA of a part", ws)
        if bias:
            AA += 1  # b is the weight of an input that is 1
        return xp.maximum(_inner(AA, DD), 0)  # rounding may leave it below 0
    norms = xp.zeros((R, b))
    for i, part in enumerate(A):
        dW = ws.scratch("dW of records", (R, b, O, part.shape[-1]), np.float64)
        product(D.swapaxes(-1, -2), part, out=dW)
        if M is not None:
            dW *= M[:, i, None]
        norms += _inner(dW, dW)
    if bias:
        ones, db = xp.ones((1, 1, 1, T)), ws.scratch("db of records", (R, b, 1, O), np.float64)
        product(ones, D, out=db)
        norms += _inner(db, db)
    return norms


def _gram(A: Any, name: str, ws: Workspace) -> Any:
    """A A^T of each record, (R, b, T, T)."""
    R, b, T, _ = A.shape
    return product(A, A.swapaxes(-1, -2), out=ws.scratch(name, (R, b, T, T), A.dtype))


def _inner(A: Any, B: Any) -> Any:
    """<A, B> of each record, both contiguous (R, b, m, n); (R, b)."""
    R, b = A.shape[:2]
    return xp.matmul(A.reshape(R, b, 1, -1), B.reshape(R, b, -1, 1))[..., 0, 0]
