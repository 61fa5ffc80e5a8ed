"""PyTorch's training step, shared by several benchmarks."""

from collections.abc import Callable

import torch
from torch.nn import functional
from training import random_batch

LAYOUTS = ("contiguous_format", "channels_last")  # PyTorch's memory formats


def torch_step(
    net: torch.nn.Module, batch: int, shape: tuple[int, ...], classes: int, threads: int, layout: str
) -> Callable[[], None]:
    """A step of SGD with momentum on one random batch of images (H, C, W), in a memory format."""
    torch.set_num_threads(threads)
    memory_format = getattr(torch, layout)
    net = net.to(memory_format=memory_format)
    x, y = random_batch(batch, shape, classes)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    inputs = torch.tensor(x).permute(0, 2, 1, 3).contiguous(memory_format=memory_format)  # (N, C, H, W)
    labels = torch.tensor(y)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()

    return step
