"""R replicas of one architecture, with all their parameters in one array."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from nanoprune.backend import require, to_device, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.formula import Formula
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Network:
    """f_W for R independent replicas.

    theta (R, P) holds every parameter of a replica in one row: first all weights (the prunable parameters), layer by
    layer, then all biases. grad (R, P) is the gradient in the same order. The parameters of the layers are views into
    both, so that an optimiser, a penalty or a mask is one line on theta, and a part of the fleet is a slice of it.
    state (R, S) holds the running statistics of BatchNorm, which no optimiser, penalty or mask touches; batch_state
    (R, S) those of the last training batch.

    body: the layers. input_shape: of one sample, (F,) or (H, C, W). description: plain data about the architecture that
    copies keep (`nanoprune.lab.zoo`). theta, grad, state: the arrays to use, new ones by default.
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
        parameters, self.statistics = self.body.parameters(), self.body.statistics()
        self.weights = [p for p in parameters if p.prunable]
        self.biases = [p for p in parameters if not p.prunable]
        self.weight_count = sum(p.size for p in self.weights)
        self.size = sum(p.size for p in parameters)
        self.replicas = replicas if theta is None else len(theta)
        theta = xp.zeros((replicas, self.size), dtype) if theta is None else theta
        statistics = xp.zeros((self.replicas, sum(s.size for s in self.statistics)), theta.dtype)
        self.lay_out(theta, xp.zeros_like(theta) if grad is None else grad, statistics if state is None else state)
        if state is None:
            self.reset_statistics()

    def lay_out(self, theta: Any, grad: Any, state: Any) -> None:
        """Use these arrays: the parameters and statistics of the layers become views into them."""
        self.theta, self.grad, self.state, self.batch_state = theta, grad, state, xp.zeros_like(state)
        start = 0
        for p in self.weights + self.biases:
            p.value, p.grad = (of[:, start : start + p.size].reshape(-1, *p.shape) for of in (theta, grad))
            start += p.size
        shares, start = [np.full(s.size, s.share, theta.dtype) for s in self.statistics], 0
        self.share = to_device(np.concatenate([np.empty(0, theta.dtype), *shares]))  # of each statistic, (S,)
        for s in self.statistics:
            s.value, s.batch = (of[:, start : start + s.size].reshape(-1, *s.shape) for of in (state, self.batch_state))
            start += s.size

    @property
    def W(self) -> Any:
        """The weights of all layers, (R, n): a view of theta."""
        return self.theta[:, : self.weight_count]

    @property
    def dW(self) -> Any:
        """The gradient with respect to W, (R, n): a view of grad."""
        return self.grad[:, : self.weight_count]

    def apply(self, formula: Formula, *arrays: Any, **numbers: Any) -> None:
        """`formula` on arrays (R, P) or (R, n), shaped like theta or W."""
        formula(*arrays, **numbers)

    def initialise(self, generators: list[np.random.Generator]) -> Network:
        """Draw the weights of replica r from generators[r]: normal, mean 0, variance of He et al.; biases are 0, scales
        1, running statistics at their start. Returns self."""
        if len(generators) != self.replicas:
            raise ArgumentError(f"generators must be one for each of {self.replicas} replicas, got {len(generators)}")
        for r, generator in enumerate(generators):
            draws = [p.start + p.std * generator.standard_normal(p.size) for p in self.weights + self.biases]
            self.theta[r] = to_device(np.concatenate([[], *draws]))  # [] where it has none
        self.reset_statistics()
        return self

    def reset_statistics(self) -> None:
        """Reset every running statistic to its value before the first batch."""
        for s in self.statistics:
            s.value[...] = s.start

    def update_statistics(self) -> None:
        """state <- (1 - m) state + m batch_state, m the `share` of each statistic: after every training batch."""
        self.state *= 1 - self.share
        self.state += self.share * self.batch_state

    def forward(self, X: Any, ws: Workspace) -> Any:
        """Logits (R, classes, N) of samples X (R, *input_shape, N). Raises on another device, dtype or shape."""
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

    def over(self, theta: Any, grad: Any = None, state: Any = None) -> Network:
        """The same layers over other arrays, with a new gradient if none is given."""
        return Network(self.template, self.input_shape, 0, None, self.description, theta, grad, state)

    def shard(self, replicas: slice) -> Network:
        """The replicas of a slice as a network that shares their theta and state, with its own gradient."""
        return self.over(self.theta[replicas], None, self.state[replicas])

    def copy(self, replicas: Any = slice(None)) -> Network:
        """A network with its own copy of theta and state of `replicas`: a slice, or a list that may repeat some."""
        return self.over(self.theta[replicas].copy(), None, self.state[replicas].copy())

    def nonzero(self) -> np.ndarray:
        """The number of weights of each replica that are not zero, (R,) int64."""
        return np.array([int((row != 0).sum()) for row in self.W], dtype=np.int64)
