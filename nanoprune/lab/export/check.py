"""Comparison of an export with the network, on random records, before any file is written."""

from __future__ import annotations

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import DataError
from nanoprune.lab.layers import Embedding
from nanoprune.nn import Network, Workspace
from nanoprune.nn.sequential import leaves

RECORDS = 256
TOLERANCE = 1e-4  # for float32, where both sides round; MobileNetV2 reached 1e-5
BLOCK = 32  # records in one pass


def probes(input_shape: tuple[int, ...], count: int = RECORDS) -> np.ndarray:
    """Uniform random records in [0, 1], (count, C, H, W) or (count, F) float32."""
    H, *rest = input_shape
    shape = (rest[0], H, rest[1]) if rest else (H,)
    return np.random.default_rng(0).random((count, *shape), dtype=np.float32)


def probes_of(net: Network, count: int = RECORDS) -> np.ndarray:
    """`probes` for the network; where it reads tokens, random ones (count, T), with padding after a random length."""
    embedding = next((layer for layer in leaves(net.body) if isinstance(layer, Embedding)), None)
    if embedding is None:
        return probes(net.input_shape, count)
    rng, (T,) = np.random.default_rng(0), net.input_shape
    there = np.arange(T) < rng.integers(0, T + 1, (count, 1))
    return (rng.integers(min(1, embedding.tokens - 1), embedding.tokens, (count, T)) * there).astype(np.float32)


def logits(net: Network, x: np.ndarray) -> np.ndarray:
    """Logits (N, classes) of replica 0 for x (N, C, H, W) or (N, F), by nanoprune in the network's dtype."""
    ws, found = Workspace(training=False), []
    one = net.copy(slice(0, 1))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK].astype(one.theta.dtype)
        last = np.moveaxis(block, 0, -1)  # (C, H, W, N) or (F, N)
        ours = last.swapaxes(0, 1) if last.ndim == 4 else last  # (H, C, W, N)
        found.append(to_host(one.forward(to_device(np.ascontiguousarray(ours)[None]), ws))[0].T.copy())
    return np.concatenate(found)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """max |found - expected| / max |expected|, both (N, classes); infinite where a logit is not finite."""
    scale = np.abs(expected).max(initial=0) or 1.0
    worst = np.abs(found.astype(np.float64) - expected).max(initial=0) / scale
    return float(worst) if np.isfinite(worst) else float("inf")


def compare_classes(found: np.ndarray, net: Network, x: np.ndarray) -> float:
    """The share of the records x for which logits `found` (N, classes) and `net` predict the same class."""
    return float((found.argmax(axis=1) == logits(net, x).argmax(axis=1)).mean())


def compare(found: np.ndarray, net: Network, x: np.ndarray, target: str) -> float:
    """The difference of the exported network's logits `found` from those of `net` on x, see `difference`.

    Raises DataError, naming the target, where the difference is above the rounding of float32.
    """
    worst = difference(found, logits(net, x))
    if worst > TOLERANCE:
        raise DataError(
            f"the exported {target} differs from the network by {worst:.1e} of its largest logit on {len(x)} records, "
            f"at most {TOLERANCE:g} is expected; nothing was written"
        )
    return worst
