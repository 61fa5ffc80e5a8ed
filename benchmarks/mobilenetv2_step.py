"""One training step of a narrow MobileNetV2 (its form for 32x32, width 0.25) on 64 images, against PyTorch.

Most of its time is spent outside of matrix products: depthwise convolutions, normalisation, rectifiers. The peer is
torchvision's network with the strides and widths of ours, written out below, in the faster of PyTorch's two memory
formats, with the same number of threads; interleaved (A B A B ...), each in a separate process.

    python benchmarks/mobilenetv2_step.py
"""

from collections.abc import Callable

import torch
from measure import in_turn, peak_memory, report, report_memory, sgemm_rate
from torch import nn
from torch_training import LAYOUTS, torch_step
from training import fast, training_step

from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.mobilenet import STAGES, mobilenetv2_widths
from nanoprune.lab.zoo.structure import macs

SHAPE, CLASSES, WIDTH, BATCH = (32, 3, 32), 10, 0.25, 64


def convolution(channels: int, kernels: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(channels, kernels, size, stride, size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(kernels), nn.ReLU6(inplace=True)]


class Block(nn.Module):
    def __init__(self, channels: int, kernels: list[int], stride: int) -> None:
        super().__init__()
        *expanded, filtered, projected = kernels
        layers = [part for width in expanded for part in convolution(channels, width, 1)]
        layers += convolution(filtered, filtered, 3, stride, groups=filtered)
        self.body = nn.Sequential(*layers, nn.Conv2d(filtered, projected, 1, bias=False), nn.BatchNorm2d(projected))
        self.shortcut = stride == 1 and channels == projected

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def peer() -> nn.Module:
    widths = iter(mobilenetv2_widths(SHAPE, WIDTH))
    channels = next(widths)
    layers = convolution(3, channels, 3)
    for expansion, _, count, _, stride in STAGES:
        for i in range(count):
            kernels = [next(widths) for _ in range(3 if expansion > 1 else 2)]
            layers.append(Block(channels, kernels, stride if i == 0 else 1))
            channels = kernels[-1]
    last = next(widths)
    layers += convolution(channels, last, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, CLASSES))


def peer_step(threads: int, layout: str) -> Callable[[], None]:
    return torch_step(peer(), BATCH, SHAPE, CLASSES, threads, layout)


def main() -> None:
    threads = default_threads()
    ours = ("mobilenetv2", SHAPE, CLASSES, WIDTH, BATCH, threads)
    peers = [(peer_step, threads, layout) for layout in LAYOUTS]
    steps = [(training_step, *ours), (fast, training_step, *ours)]
    times, compiled, *theirs = in_turn(*steps, *peers, rounds=6, steps=3, warmup=3)
    seconds, layout = min(zip(theirs, LAYOUTS, strict=True), key=lambda pair: pair[0].median)
    net = build(describe("mobilenetv2", SHAPE, CLASSES, WIDTH), replicas=0)
    if sum(p.numel() for p in peer().parameters()) != net.size:
        raise SystemExit("error: the peer is a different network")
    limit = 6 * macs(net.body, SHAPE) * BATCH / sgemm_rate(threads)
    report("mobilenetv2-step-64", times, seconds, f"torch {layout}", limit)
    report("mobilenetv2-step-64 [fast]", compiled, seconds, f"torch {layout}", limit)
    our_peak = peak_memory("training", "training_step", *ours)
    peaks = [peak_memory("mobilenetv2_step", "peer_step", threads, layout) for layout in LAYOUTS]
    report_memory("memory-mobilenetv2", our_peak, "torch", min(peaks))


if __name__ == "__main__":
    main()
