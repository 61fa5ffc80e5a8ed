"""What every layer has: parameters, a forward and a backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError
from nanoprune.nn.workspace import Workspace


class Parameter:
    """One weight matrix or bias of a layer, for R replicas.

    shape: without the replica axis. Initial values are normal, with mean `start` and standard deviation `std`.
    prunable: True for weights, False for biases. window: of a convolution's weights (O, kh*C*kw), (kh, C, kw); None for
    others. depthwise: whether each row of them reads an input channel of its own. value and grad, both (R, *shape), are
    views into the network's flat parameter vector `theta` and its gradient; `Network` sets them. support: 1 where an
    entry is trained and 0 where it is not, (R, *shape), for `record_norms`; None where all are (`Network.restrict`).
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
    ) -> None:
        self.name = name
        self.shape = shape
        self.window = window
        self.depthwise = depthwise
        self.size = math.prod(shape)
        self.std = std
        self.prunable = prunable
        self.start = start
        self.value: Any = None
        self.grad: Any = None
        self.support: Any = None


class Statistic:
    """What a layer remembers of the batches that it was trained on, for R replicas: measured, not trained.

    shape: without the replica axis. start: its value before the first batch. least: no value is below.

    value and seen, both (R, *shape), are views into the network's flat `state` and `seen`: the running mean, and what
    the last training batch had. A forward pass in training writes `seen` alone, as a backward pass writes `grad`;
    `Network.remember` moves value towards it.
    """

    def __init__(self, name: str, shape: tuple[int, ...], start: float, least: float = -math.inf) -> None:
        self.name = name
        self.shape = shape
        self.size = math.prod(shape)
        self.start = start
        self.least = least
        self.value: Any = None
        self.seen: Any = None


class Layer:
    """A differentiable map. Arrays are (R, ..., N): replicas first, samples last; shapes below are without R and N."""

    def parameters(self) -> list[Parameter]:
        """The parameters, in the order of the forward pass."""
        return []

    def statistics(self) -> list[Statistic]:
        """What the layer remembers of its training batches, in the order of the forward pass."""
        return []

    def parts(self, shape: tuple[int, ...]) -> list[tuple[Layer, tuple[int, ...]]]:
        """The layers that this one is made of, each with the shape of its input, for an input of `shape`."""
        return []

    def leaves(self, shape: tuple[int, ...]) -> Iterator[tuple[Layer, tuple[int, ...]]]:
        """The layers not made of others, in the order of the forward pass, each with the shape of its input."""
        parts = self.parts(shape)
        if not parts:
            yield self, shape
        for layer, of in parts:
            yield from layer.leaves(of)

    def macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of one sample of `shape`: each weight once at each position of the output.

        Biases, normalisation, activations and pooling are not counted, as is usual.
        """
        parts = self.parts(shape)
        if parts:
            return sum(layer.macs(of) for layer, of in parts)
        output = self.output_shape(shape)
        positions = output[0] * output[2] if len(output) == 3 else 1
        return positions * sum(p.size for p in self.parameters() if p.prunable)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of `shape`. Raises ArgumentError if the layer cannot take that input."""
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        """Y = f(X), (R, ..., N); keeps in `ws` what `backward` needs. The next forward with `ws` overwrites Y."""
        raise TypeError(f"{self!r} defines no forward pass")

    def backward(self, dY: Any, ws: Workspace) -> Any:
        """dX = dL/dX from dY = dL/dY, both (R, ..., N). Layers with parameters also write their `grad`.

        dX lives in a buffer that other layers use after it (`Workspace.gradient`): whoever calls several layers copies
        what it needs longer.
        """
        raise TypeError(f"{self!r} defines no backward pass")

    # The gradients of single records: dW = sum_n dW_n, and from dY scaled by a weight c_n for each record, the layer's
    # ordinary weight gradient is sum_n c_n dW_n. So records are clipped in one backward pass, and their gradients are
    # never stored (Bu et al. 2023, arXiv 2210.00038, "book-keeping"). saved: what `forward` saved.

    def weight_gradient(self, dY: Any, ws: Workspace, *saved: Any) -> None:
        """Write the parameters' `grad` from dY (R, ..., N), which may be weighted record by record."""
        raise TypeError(f"{self!r} defines no gradient of its own")

    def record_norms(self, dY: Any, ws: Workspace, *saved: Any) -> Any:
        """The squared norm of each record's gradient of all parameters, on their `support`; (R, N)."""
        raise TypeError(f"{self!r} defines no gradient of a single record")

    # How a layer loses units. A unit is a channel of an image or a feature; c (units,) float64 has the value of each
    # input unit that is the same for every sample and position, and NaN for the others. One replica, on the host.

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The same for the output units, for inputs of `shape`. Raises ArgumentError where the layer cannot tell."""
        raise ArgumentError(f"{self!r} cannot lose units: it does not tell which of its outputs are constant")

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Which input units must stay for the output units `needed` (bool) to be computed; at least one."""
        raise ArgumentError(f"{self!r} cannot lose units: it does not tell which of its inputs it needs")

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        """The layer on the input units `kept` alone, its values, and which output units are left.

        Values: those of the parameters and then of the statistics of each of its `leaves`, in their order.
        kept has all that `needs` asked for, perhaps more; at least the units `needed` are left. What an input unit that
        is not kept contributed, it does not lose: such a unit is constant, or nothing reads it.
        """
        raise ArgumentError(f"{self!r} cannot lose units")

    def __repr__(self) -> str:
        return type(self).__name__


class Elementwise(Layer):
    """A layer without parameters whose output unit i is a function of input unit i alone: it loses the same units."""

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return to_host(self.forward(to_device(c[None, :, None]), Workspace(training=False)))[0, :, 0].copy()

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return needed

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        return self, [], kept


def he(fan_in: int) -> float:
    """Standard deviation sqrt(2 / fan_in) that keeps the scale of activations through ReLU (He et al. 2015, eq. 10)."""
    return math.sqrt(2.0 / fan_in)


def positive(name: str, value: int) -> int:
    """`value` if it is an integer of at least 1, else ArgumentError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
    return value
