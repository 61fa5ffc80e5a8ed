"""One LeNet-5 training step, nanoprune against PyTorch in the faster of its two memory formats.

Both train the same network (conv, pool, ReLU, conv, pool, ReLU, dense, ReLU, dense; SGD with momentum) on the same
random batch with the same number of threads, interleaved (A B A B ...), each in a separate process. `lenet5-apart-N` is
a lower bound for nanoprune's data parallelism: two processes with half of the samples each, without communication.

    python benchmarks/lenet5_step.py [BATCH ...]
"""

import sys
from collections.abc import Callable

import torch
from measure import in_turn, report, sgemm_rate
from torch.nn import functional
from torch_training import LAYOUTS, torch_step
from training import fast, lenet5_apart, lenet5_step

from nanoprune.lab.engine.passes import default_threads

FLOPS_PER_SAMPLE = 2 * (3 * (8 * 8 * 50 * 500 + 800 * 500 + 500 * 10) + 2 * 24 * 24 * 20 * 25)  # conv 1 needs no dX


class Peer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = torch.nn.Conv2d(1, 20, 5), torch.nn.Conv2d(20, 50, 5)
        self.f1, self.f2 = torch.nn.Linear(800, 500), torch.nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(functional.max_pool2d(self.c1(x), 2))
        x = torch.relu(functional.max_pool2d(self.c2(x), 2))
        return self.f2(torch.relu(self.f1(x.flatten(1))))


def peer_step(batch: int, threads: int, layout: str) -> Callable[[], None]:
    return torch_step(Peer(), batch, (28, 1, 28), 10, threads, layout)


def main(batches: list[int]) -> None:
    threads = default_threads()
    rate = sgemm_rate(threads)
    for batch in batches:
        peers = [(peer_step, batch, threads, layout) for layout in LAYOUTS]
        steps = [(lenet5_step, batch, threads), (fast, lenet5_step, batch, threads), (lenet5_apart, batch, threads)]
        ours, compiled, apart, *theirs = in_turn(*steps, *peers)
        peer, name = min(zip(theirs, ("torch", "torch channels_last"), strict=True), key=lambda pair: pair[0].median)
        report(f"lenet5-step-{batch}", ours, peer, name, FLOPS_PER_SAMPLE * batch / rate)
        report(f"lenet5-step-{batch} [fast]", compiled, peer, name, FLOPS_PER_SAMPLE * batch / rate)
        report(f"lenet5-apart-{batch}", apart, peer, name, FLOPS_PER_SAMPLE * batch / rate)


if __name__ == "__main__":
    main([int(batch) for batch in sys.argv[1:]] or [32, 64, 128, 256])
