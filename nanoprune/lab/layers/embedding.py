"""Token embedding: from whole numbers to vectors."""

from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace

PADDING = 0  # the token that fills a sequence up to its length


class Embedding(Layer):
    r"""Each token v of a sequence becomes column v of the table W: a dense layer on one-hot vectors,
    $$Y_{tn} = W_{:, X_{tn}}, \qquad dW_{ev} = \sum_{tn:\, X_{tn} = v} dY_{ten}.$$

    X (R, T, N): tokens, whole numbers from 0 to tokens - 1, as floats like all records. W (R, width, tokens), pruned
    like other weights; Y (R, T, width, N). Raises ArgumentError on anything else in X. There is no derivative with
    respect to a whole number: dX is 0.

    Sequences are (R, T, E, N): positions, then the channels of a position, then samples. It is the layout of images
    that are one pixel wide, (R, H, C, W, N) without the axis W: a map of each position's channels is a matrix product
    with T as a batch axis, and the samples stay contiguous.

    Token 0 is padding. Where the padding is goes into `ws.padding` (R, T, N), for the layers that combine positions
    (`Attention`, `TokenMean`, `LastToken`): they leave it out, so that it has no influence on the result.
    """

    def __init__(self, tokens: int, width: int) -> None:
        self.tokens, self.width = positive("tokens", tokens), positive("width", width)
        self.W = Parameter("W", (width, tokens), std=width**-0.5, prunable=True)  # vectors of length 1 or so

    def parameters(self) -> list[Parameter]:
        return [self.W]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 1:
            raise ArgumentError(f"{self!r} takes sequences of tokens (T,), got inputs of shape {shape}")
        return (*shape, self.width)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, T, N = X.shape
        if not bool(((X >= 0) & (self.tokens > X) & (xp.floor(X) == X)).all()):  # false for NaN, too
            found = f"numbers from {float(X.min()):g} to {float(X.max()):g}"
            raise ArgumentError(f"tokens must be whole numbers from 0 to {self.tokens - 1} ({self!r}), got {found}")
        index = X.astype(np.int64)  # (R, T, N)
        ws.padding = index == PADDING
        Y = ws.buffer(self, "Y", (R, T, self.width, N), X.dtype)
        for r in range(R):
            Y[r] = self.W.value[r][:, index[r]].swapaxes(0, 1)  # (width, T, N) as (T, width, N)
        ws.save(self, index)
        return Y

    def weight_gradient(self, dY: Any, ws: Workspace, index: Any) -> None:
        R, _, E, _ = dY.shape
        rows = xp.arange(R * E).reshape(R, 1, E, 1) * self.tokens  # where row e of replica r starts, in W
        places = (rows + index[:, :, None]).reshape(-1)  # (R*T*E*N,)
        sums = xp.bincount(places, weights=dY.reshape(-1), minlength=self.W.grad.size)  # in float64
        self.W.grad[...] = sums.reshape(self.W.grad.shape)

    def input_gradient(self, dY: Any, ws: Workspace, index: Any) -> Any:
        dX = ws.gradient(self, index.shape, dY.dtype)
        dX[...] = 0
        return dX

    def __repr__(self) -> str:
        return f"Embedding({self.tokens}, {self.width})"
