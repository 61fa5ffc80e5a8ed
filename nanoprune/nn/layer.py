"""A layer is a forward and a backward pass: a map, and its derivative written out by hand."""

from __future__ import annotations

import math
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.nn.parameter import Parameter, Statistic
from nanoprune.nn.workspace import Workspace


class Layer:
    r"""A differentiable map $Y = f(X; W)$. Arrays are (R, ..., N): replicas first, samples last.

    With $dY = \partial L/\partial Y$, the chain rule gives $dX = (\partial f/\partial X)^T dY$ and
    $dW = (\partial f/\partial W)^T dY$. Shapes in arguments are those of one sample, without R and N.

    Everything else about a layer is a function registered by its type, where it is used: CONTRIBUTING.md lists them.
    """

    def layers(self) -> list[Layer]:
        """The layers that this one is made of, in the order of the forward pass."""
        return []

    def parameters(self) -> list[Parameter]:
        """The parameters, in the order of the forward pass."""
        return [parameter for layer in self.layers() for parameter in layer.parameters()]

    def statistics(self) -> list[Statistic]:
        """The running statistics, in the order of the forward pass."""
        return [statistic for layer in self.layers() for statistic in layer.statistics()]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of `shape`. Raises ArgumentError where the layer cannot take that input."""
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        """$Y = f(X)$. Saves in `ws` what the backward pass needs. The next forward pass with `ws` overwrites Y."""
        raise TypeError(f"{self!r} defines no forward pass")

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        """Write the gradients of the parameters; return dX, or None where no earlier layer needs it.

        dX is in a buffer that other layers reuse (`Workspace.gradient`): copy what is needed longer.
        """
        saved = ws.saved(self)
        if need_dW and self.parameters():
            ws.weight_gradient(self, dY, saved)
        return self.input_gradient(dY, ws, *saved) if need_dX else None

    def weight_gradient(self, dY: Any, ws: Workspace, *saved: Any) -> None:
        r"""Write $dW = (\partial f/\partial W)^T dY$, summed over the samples, into the parameters' `grad`.

        saved: what `forward` saved. Linear in dY, sample by sample, so that a record is weighted by its dY.
        """
        raise TypeError(f"{self!r} has no parameters")

    def input_gradient(self, dY: Any, ws: Workspace, *saved: Any) -> Any:
        r"""$dX = (\partial f/\partial X)^T dY$, like X."""
        raise TypeError(f"{self!r} defines no backward pass")

    def __repr__(self) -> str:
        return type(self).__name__


def he(fan_in: int) -> float:
    r"""$\sqrt{2 / \text{fan\_in}}$: keeps the scale of activations through ReLU (He et al. 2015, equation 10)."""
    return math.sqrt(2.0 / fan_in)


def positive(name: str, value: int) -> int:
    """`value` if it is an integer of at least 1. Raises ArgumentError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def windows_along(length: int, size: int, stride: int, padding: int) -> int:
    """How many windows of `size`, `stride` apart, fit along `length` values with `padding` zeros at either end."""
    return (length + 2 * padding - size) // stride + 1
