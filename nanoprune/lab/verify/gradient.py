"""Gradients against central differences, in float64.

For y = f(x) and a weighting w of the outputs, the backward pass gives g = d<w, f(x)>/dx. Along a direction v

    <v, g>    must equal    <w, (f(x + eps v) - f(x - eps v)) / (2 eps)>    up to O(eps^2) and rounding,

unless a kink of ReLU or max lies between the two points. Single layers are checked at values that are kept `apart` from
their kinks. That is impossible inside a deep network; there v has length 1, so that activations change little.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.nn import Network, Workspace

EPS = 1e-5


def difference(f: Callable[[], float], x: Any, v: Any) -> float:
    """(f at x + eps v  -  f at x - eps v) / (2 eps). f reads the array x, which is changed in place and restored."""
    start = x.copy()
    x[...] = start + EPS * v
    above = f()
    x[...] = start - EPS * v
    below = f()
    x[...] = start
    return (above - below) / (2 * EPS)


def gradients(
    net: Network, X: Any, rng: np.random.Generator, training: bool = True, tokens: bool = False
) -> dict[str, tuple[float, float]]:
    """{"input": (ours, oracle), "parameters": (ours, oracle)} of `net` at X (R, *input_shape, N), for random v, w.

    Every forward pass starts from generators of the same seeds, so that Dropout draws the same mask. training: whether
    the passes are in training mode; in evaluation mode BatchNorm uses its running statistics. tokens: X holds whole
    numbers, so that there is no "input".
    """

    def forward(ws: Workspace) -> Any:
        return net.forward(X, ws)

    def workspace() -> Workspace:
        return Workspace(training, [np.random.default_rng(r) for r in range(net.replicas)])

    ws = workspace()
    w = normal(rng, forward(ws).shape)
    dX = net.backward(w, ws, need_dX=True)

    def value() -> float:
        return float((w * forward(workspace())).sum())

    pairs = {}
    for name, x, gradient in (("input", X, dX), ("parameters", net.theta, net.grad))[1 if tokens else 0 :]:
        v = direction(rng, x.shape)
        pairs[name] = float((v * gradient).sum()), difference(value, x, v)
    return pairs


def network(body: Any, input_shape: tuple[int, ...], rng: np.random.Generator, replicas: int = 2) -> Network:
    """A float64 network with no parameter at zero: He's weights; biases and scales have a standard deviation of 0.1."""
    net = Network(body, input_shape, replicas, np.float64)
    for p in net.weights + net.biases:
        p.value[...] = p.start + (p.std or 0.1) * normal(rng, p.value.shape)
    return net


def apart(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Values in (-2, 2), in random order, 4/n apart and at least 1/n from zero: away from the kinks of max and ReLU."""
    n = int(np.prod(shape))
    return to_device((4 * (rng.permutation(n) + 0.25) / n - 2).reshape(shape))


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Standard normal draws in float64 on the chosen device."""
    return to_device(rng.standard_normal(shape))


def direction(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """A random direction of length 1."""
    v = normal(rng, shape)
    return v / ((v**2).sum() ** 0.5 or 1.0)
