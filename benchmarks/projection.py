"""The projection of 138 million weights, the number in VGG16, to the largest 5%, against PyTorch.

PyTorch finds the threshold by the faster of torch.topk and torch.kthvalue; both sides then zero the weights below it.
The limit is reading the weights once and writing them once at the machine's copy rate.

    python benchmarks/projection.py [WEIGHTS]
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from measure import copy_rate, in_turn, report

from nanoprune.lab.engine.passes import default_threads
from nanoprune.prune import project

KEEP = 0.05


def weights(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(n, dtype=np.float32)


def ours(n: int) -> Callable[[], None]:
    W, out = weights(n), np.empty(n, np.float32)
    return lambda: project(W, int(KEEP * n), out=out)


def by_topk(n: int, threads: int) -> Callable[[], None]:
    torch.set_num_threads(threads)
    W, out = torch.from_numpy(weights(n)), torch.empty(n)

    def step() -> None:
        magnitude = W.abs()
        threshold = torch.topk(magnitude, int(KEEP * n), sorted=False).values.min()
        torch.mul(W, magnitude >= threshold, out=out)

    return step


def by_kthvalue(n: int, threads: int) -> Callable[[], None]:
    torch.set_num_threads(threads)
    W, out = torch.from_numpy(weights(n)), torch.empty(n)

    def step() -> None:
        magnitude = W.abs()
        threshold = torch.kthvalue(magnitude, n - int(KEEP * n) + 1).values
        torch.mul(W, magnitude >= threshold, out=out)

    return step


def main(n: int) -> None:
    threads = default_threads()
    limit = 2 * 4 * n / copy_rate(threads)
    mine, *theirs = in_turn((ours, n), (by_topk, n, threads), (by_kthvalue, n, threads), rounds=5, steps=1, warmup=1)
    peer, name = min(zip(theirs, ("torch.topk", "torch.kthvalue"), strict=True), key=lambda pair: pair[0].median)
    report(f"projection-{n // 1_000_000}m", mine, peer, name, limit)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 138_000_000)
