"""One training step of ResNet18 (its form for 32x32) on 32 images, and the memory that it takes, against PyTorch.

The peer is torchvision's network with the same stem, written out below, in the faster of PyTorch's two memory formats,
with the same number of threads; interleaved (A B A B ...), each in a separate process. Memory is the peak resident set
of a process that imports what it needs and trains for some steps; PyTorch's is the smaller of its two formats'.

    python benchmarks/resnet18_step.py
"""

from collections.abc import Callable

import torch
from measure import in_turn, peak_memory, report, report_memory, sgemm_rate
from torch import nn
from torch_training import LAYOUTS, torch_step
from training import fast, training_step

from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.structure import macs

SHAPE, CLASSES, BATCH = (32, 3, 32), 10, 32


class Block(nn.Module):
    def __init__(self, channels: int, kernels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, kernels, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(kernels), nn.BatchNorm2d(kernels)
        self.conv2 = nn.Conv2d(kernels, kernels, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, kernels, 1, stride, bias=False), nn.BatchNorm2d(kernels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x) if self.downsample else x
        return self.relu(y)


def peer(channels: int = 64) -> nn.Module:
    layers = [nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    for kernels, stride in ((channels, 1), (2 * channels, 2), (4 * channels, 2), (8 * channels, 2)):
        layers += [Block(channels, kernels, stride), Block(kernels, kernels, 1)]
        channels = kernels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def peer_step(threads: int, layout: str) -> Callable[[], None]:
    return torch_step(peer(), BATCH, SHAPE, CLASSES, threads, layout)


def main() -> None:
    threads = default_threads()
    ours = ("resnet18", SHAPE, CLASSES, 1.0, BATCH, threads)
    peers = [(peer_step, threads, layout) for layout in LAYOUTS]
    steps = [(training_step, *ours), (fast, training_step, *ours)]
    times, compiled, *theirs = in_turn(*steps, *peers, rounds=6, steps=3, warmup=3)
    seconds, layout = min(zip(theirs, LAYOUTS, strict=True), key=lambda pair: pair[0].median)
    products = macs(build(describe("resnet18", SHAPE, CLASSES, 1.0), replicas=0).body, SHAPE)
    limit = 6 * products * BATCH / sgemm_rate(threads)
    report("resnet18-step-32", times, seconds, f"torch {layout}", limit)
    report("resnet18-step-32 [fast]", compiled, seconds, f"torch {layout}", limit)
    our_peak = peak_memory("training", "training_step", *ours)
    peaks = [peak_memory("resnet18_step", "peer_step", threads, layout) for layout in LAYOUTS]
    report_memory("memory-resnet18", our_peak, "torch", min(peaks))


if __name__ == "__main__":
    main()
