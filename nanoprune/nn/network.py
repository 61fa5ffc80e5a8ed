"""R replicas of one architecture, with all their parameters in one array."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.backend import require, to_device, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace

ALL = slice(None)  # columns of theta
MOMENTUM = 0.1  # share of the last batch in a running statistic, as in PyTorch


class Network:
    """f_W for R independent replicas.

    theta (R, P) holds every parameter of a replica in one row: first all weights (what pruning may touch), layer by
    layer, then all biases. grad (R, P) is the gradient in the same order. The parameters of the layers are views into
    both, so that an optimiser, a penalty or a mask is one line on theta, and a part of the fleet is a slice of it.

    state (R, S) holds what the layers remember of their training batches (BatchNorm's running statistics), which no
    optimiser, penalty or mask has to do with; seen (R, S) is what the last training batch had, in the same order.

    body: the layers; input_shape: of one sample, (F,) or (H, C, W); description: plain data from which
    `nanoprune.lab.zoo.build` makes the same architecture again.
    """

    def __init__(
        self,
        body: Layer,
        input_shape: tuple[int, ...],
        replicas: int = 1,
        dtype: Any = np.float32,
        description: dict | None = None,
        theta: Any = None,
        grad: Any = None,
        state: Any = None,
    ) -> None:
        self.template, self.input_shape, self.description = body, tuple(input_shape), description
        self.body = copy.deepcopy(body)
        self.output_shape = self.body.output_shape(self.input_shape)
        parameters = self.body.parameters()
        self.weights = [p for p in parameters if p.prunable]
        self.biases = [p for p in parameters if not p.prunable]
        self.weight_count = sum(p.size for p in self.weights)
        self.size = sum(p.size for p in parameters)
        theta = xp.zeros((replicas, self.size), dtype) if theta is None else theta
        self.replicas = len(theta)
        self._lay_out(theta, xp.zeros_like(theta) if grad is None else grad)
        self._lay_out_state(state)
        self.restrict(None)

    def _lay_out(self, theta: Any, grad: Any) -> None:
        """Make the parameters of the layers views into theta and grad."""
        self.theta, self.grad, start = theta, grad, 0
        for p in self.weights + self.biases:
            p.value = theta[:, start : start + p.size].reshape(-1, *p.shape)  # (R, *shape), a view
            p.grad = grad[:, start : start + p.size].reshape(-1, *p.shape)
            start += p.size

    def move(self, zeros: Callable[[tuple[int, ...], Any], Any]) -> None:
        """Move theta, grad and state, as they are, into arrays that zeros(shape, dtype) makes."""
        theta, grad, state = (zeros(of.shape, of.dtype) for of in (self.theta, self.grad, self.state))
        theta[...], grad[...], state[...] = self.theta, self.grad, self.state
        self._lay_out(theta, grad)
        self._lay_out_state(state)

    def restrict(self, support: Any) -> None:
        """Say which weights are trained, for `Layer.record_norms`: support (R, n) of 1 and 0, or None for all."""
        self.support, start = support, 0
        for p in self.weights:
            stop = start + p.size
            p.support = None if support is None else support[:, start:stop].reshape(-1, *p.shape)
            start = stop

    def _lay_out_state(self, state: Any) -> None:
        """Make state and seen, and the layers' statistics views into both."""
        self.statistics = self.body.statistics()
        size = sum(s.size for s in self.statistics)
        self.state = xp.zeros((self.replicas, size), self.theta.dtype) if state is None else state
        self.seen = xp.zeros_like(self.state)
        start = 0
        for s in self.statistics:
            s.value = self.state[:, start : start + s.size].reshape(-1, *s.shape)  # (R, *shape), a view
            s.seen = self.seen[:, start : start + s.size].reshape(-1, *s.shape)
            start += s.size
        if state is None:
            self.forget()

    @property
    def W(self) -> Any:
        """The weights of all layers, (R, n): a view of theta."""
        return self.theta[:, : self.weight_count]

    @property
    def dW(self) -> Any:
        """The gradient with respect to W, (R, n): a view of grad."""
        return self.grad[:, : self.weight_count]

    @property
    def names(self) -> list[str]:
        """The layers with weights, in their order, as tables and options call them: conv1, conv2, dense1, ..."""
        kinds = ["conv" if p.window else "dense" for p in self.weights]
        return [f"{kind}{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]

    def initialise(self, generators: list[np.random.Generator]) -> Network:
        """Draw the weights of replica r from generators[r]: normal, mean 0, He's variance; biases 0. Returns self.

        A scale starts at 1, and nothing is remembered.
        """
        if len(generators) != self.replicas:
            raise ArgumentError(f"generators must be one for each of {self.replicas} replicas, got {len(generators)}")
        for r, generator in enumerate(generators):
            draws = [p.start + p.std * generator.standard_normal(p.size) for p in self.weights + self.biases]
            self.theta[r] = to_device(np.concatenate(draws).astype(self.theta.dtype))
        self.forget()
        return self

    def forget(self) -> None:
        """Every statistic back to what it is before the first batch."""
        for s in self.statistics:
            s.value[...] = s.start

    def remember(self) -> None:
        """state <- (1 - m) state + m seen,  m = 0.1. `lab.engine.passes.Passes` calls it after every batch."""
        self.state *= 1 - MOMENTUM
        self.state += MOMENTUM * self.seen

    def forward(self, X: Any, ws: Workspace) -> Any:
        """Logits (R, classes, N) of samples X (R, *input_shape, N). Refuses another device, dtype or shape."""
        require(X, "X")
        if X.dtype != self.theta.dtype:
            raise ArgumentError(f"X must be {self.theta.dtype} like the parameters, got {X.dtype}")
        if X.shape[0] != self.replicas or X.shape[1:-1] != self.input_shape:
            expected = ", ".join(map(str, (self.replicas, *self.input_shape)))
            raise ArgumentError(f"X must have the shape ({expected}, N), got {X.shape}")
        return self.body.forward(X, ws)

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = False, need_dW: bool = True) -> Any:
        """Write grad = dL/dtheta from dY = dL/dlogits (R, classes, N); return dL/dX where it is needed."""
        require(dY, "dY")
        return self.body.backward(dY, ws, need_dX=need_dX, need_dW=need_dW)

    def shard(self, replicas: slice) -> Network:
        """The replicas of a slice as a network that shares their theta and state; its gradient is its own."""
        return self._over(self.theta[replicas], None, self.state[replicas])

    def twin(self, grad: Any = None) -> Network:
        """The same parameters and state with another `grad` (R, P) and `seen`, for a second pass in flight."""
        twin = self._over(self.theta, grad, self.state)
        twin.restrict(self.support)
        return twin

    def copy(self, replicas: Any = slice(None)) -> Network:
        """A network with its own copy of theta and state of `replicas`: a slice, or a list that may repeat some."""
        theta = self.theta[replicas].copy()
        return self._over(theta, xp.zeros_like(theta), self.state[replicas].copy())

    def nonzero(self) -> np.ndarray:
        """Number of weights of each replica that are not zero, (R,) int64."""
        return np.array([int((row != 0).sum()) for row in self.W], dtype=np.int64)

    def _over(self, theta: Any, grad: Any, state: Any) -> Network:
        about = {"description": self.description}
        return Network(self.template, self.input_shape, **about, theta=theta, grad=grad, state=state)
