"""Parameters and running statistics of a layer: views into the network's flat arrays."""

from __future__ import annotations

import math
from typing import Any


class Parameter:
    """One weight matrix or bias of a layer, for R replicas.

    shape: without the replica axis. Initial values are normal, with mean `start` and standard deviation `std`.
    prunable: True for weights, False for biases. window: (kh, C, kw) for the weights (O, kh*C*kw) of a convolution,
    else None. depthwise: whether each row of the weights reads a separate input channel. heads: (3, heads, d, inputs)
    for the weights (3 heads d, inputs) of the queries, keys and values of attention, else None.
    value and grad, both (R, *shape), are views into the `theta` and `grad` of the `Network`, which sets them.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        std: float,
        prunable: bool,
        window: tuple[int, int, int] | None = None,
        start: float = 0.0,
        depthwise: bool = False,
        heads: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.name, self.shape, self.size = name, shape, math.prod(shape)
        self.std, self.start, self.prunable = std, start, prunable
        self.window, self.depthwise, self.heads = window, depthwise, heads
        self.value: Any = None
        self.grad: Any = None


class Statistic:
    """A running statistic of the training batches, for R replicas: measured, not trained.

    shape: without the replica axis. start: the value before the first batch. least: a lower bound of the value.
    value and batch, both (R, *shape), are views into the `state` and `batch_state` of the `Network`: the running mean,
    and the statistic of the last batch. A forward pass in training writes `batch` alone, as a backward pass writes
    `grad`; `Network.update_statistics` moves value towards it, by `share` (0.1, as in PyTorch; 0 keeps value as it is).
    """

    def __init__(self, name: str, shape: tuple[int, ...], start: float, least: float = -math.inf) -> None:
        self.name, self.shape, self.size = name, shape, math.prod(shape)
        self.start, self.least, self.share = start, least, 0.1
        self.value: Any = None
        self.batch: Any = None
