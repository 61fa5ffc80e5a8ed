"""Layer normalisation."""

from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace

EPS = 1e-5


class LayerNorm(Layer):
    r"""The E channels of each position normalised to mean 0 and variance 1, scaled and shifted (Ba et al. 2016, arXiv
    1607.06450, equations 3 and 4):
    $$Y = \gamma_e x + \beta_e, \quad x = (X - \mu_{tn})/\sigma_{tn}, \quad \sigma_{tn} = \sqrt{v_{tn} + \epsilon},
      \quad \epsilon = 10^{-5},$$
    with mean and (biased) variance v over the channels. No position or sample influences another, and training and
    evaluation are the same.

    X (R, T, E, N) or features (R, E, N), Y alike; gamma, beta (R, E, 1), not pruned. With $d = \gamma_e dY$ and means
    over the channels,
    $$d\beta_e = \sum_{tn} dY, \quad d\gamma_e = \sum_{tn} dY\, x, \quad
      dX = (d - \bar d - x\, \overline{d x})/\sigma.$$
    """

    def __init__(self, width: int) -> None:
        self.width = positive("width", width)
        self.gamma = Parameter("gamma", (width, 1), std=0.0, prunable=False, start=1.0)
        self.beta = Parameter("beta", (width, 1), std=0.0, prunable=False)

    def parameters(self) -> list[Parameter]:
        return [self.gamma, self.beta]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) not in (1, 2) or shape[-1] != self.width:
            raise ArgumentError(f"{self!r} takes sequences (T, {self.width}) or features ({self.width},), got {shape}")
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        x = xp.subtract(X, mean(X), out=ws.buffer(self, "x", X.shape, X.dtype))
        Y = xp.multiply(x, x, out=ws.buffer(self, "Y", X.shape, X.dtype))
        inverse = 1 / xp.sqrt(mean(Y) + EPS)  # 1 / sigma, (R, T, 1, N)
        x *= inverse
        xp.multiply(x, self._column(self.gamma, X), out=Y)
        Y += self._column(self.beta, X)
        ws.save(self, x, inverse)
        return Y

    def weight_gradient(self, dY: Any, ws: Workspace, x: Any, inverse: Any) -> None:
        self.beta.grad[...] = _over_positions(dY)
        self.gamma.grad[...] = _over_positions(xp.multiply(dY, x, out=ws.scratch("term", x.shape, x.dtype)))

    def input_gradient(self, dY: Any, ws: Workspace, x: Any, inverse: Any) -> Any:
        dX = xp.multiply(dY, self._column(self.gamma, dY), out=ws.gradient(self, x.shape, x.dtype))  # d
        term = xp.multiply(dX, x, out=ws.scratch("term", x.shape, x.dtype))  # d x
        along = mean(term)  # (R, T, 1, N)
        dX -= mean(dX)
        dX -= xp.multiply(x, along, out=term)
        dX *= inverse
        return dX

    def per_record(self, dY: Any, x: Any, inverse: Any) -> tuple[Any, Any]:
        """dbeta and dgamma of each record, (R, E, N) float64."""
        dgamma = xp.multiply(dY, x, dtype=np.float64)
        return (_of_record(dY.astype(np.float64)), _of_record(dgamma))

    def _column(self, parameter: Parameter, X: Any) -> Any:
        """(R, E, 1), or (R, 1, E, 1) beside sequences."""
        return parameter.value[:, None] if len(X.shape) == 4 else parameter.value

    def __repr__(self) -> str:
        return f"LayerNorm({self.width})"


def mean(A: Any) -> Any:
    """The mean over the channels, (R, ..., E, N) to (R, ..., 1, N)."""
    return xp.sum(A, axis=-2, keepdims=True) / A.shape[-2]


def _of_record(A: Any) -> Any:
    """The sum over the positions, where there are any, (R, E, N)."""
    return xp.sum(A, axis=1) if len(A.shape) == 4 else A


def _over_positions(A: Any) -> Any:
    """The sum over positions and samples, (R, E, 1)."""
    return _of_record(xp.sum(A, axis=-1, keepdims=True))
