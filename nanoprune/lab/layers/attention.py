"""Multi-head self-attention."""

import math
from typing import Any

import numpy as np

from nanoprune.backend import product, to_device, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.tokendense import TokenDense
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.sequential import Sequential
from nanoprune.nn.workspace import Workspace

HIDDEN = -1e9  # added to the scores of positions that must not be seen: exp gives exactly 0, and a row of them no NaN


class Attention(Layer):
    r"""Scaled dot-product attention of h heads (Vaswani et al. 2017, arXiv 1706.03762, equation 1), without weights.

    X (R, T, 3 h d, N) holds the queries, keys and values of all heads one after the other, Y (R, T, h d, N) their
    outputs. For each sample and head, with Q, K, V (T, d),
    $$S = Q K^T / \sqrt d, \quad P = \mathrm{softmax}(S) \text{ of each row}, \quad Y = P V,$$
    and from $dY$, with the row sums $D = \sum_j (dY \circ Y)_j = \sum_s (dP \circ P)_s$,
    $$dV = P^T dY, \quad dP = dY V^T, \quad dS = P \circ (dP - D), \quad
      dQ = dS\, K/\sqrt d, \quad dK = dS^T Q/\sqrt d.$$

    Padding (`ws.padding`, see `Embedding`) is seen by no position. causal: position t sees the positions up to t alone.
    The samples come first inside, so that the matrices of each are contiguous.
    """

    def __init__(self, heads: int, causal: bool = False) -> None:
        self.heads, self.causal = positive("heads", heads), causal

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 2 or shape[1] % (3 * self.heads):
            raise ArgumentError(
                f"{self!r} takes sequences (T, C) with C a multiple of {3 * self.heads}: queries, keys and values of "
                f"{self.heads} heads, got {shape}"
            )
        return (shape[0], shape[1] // 3)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, T, C, N = X.shape
        h, d = self.heads, C // (3 * self.heads)
        A = ws.buffer(self, "A", (3, R, N, h, T, d), X.dtype)
        A[...] = X.reshape(R, T, 3, h, d, N).transpose(2, 0, 5, 3, 1, 4)
        Q, K, V = A.reshape(3, R, N * h, T, d)
        P = ws.buffer(self, "P", (R, N * h, T, T), X.dtype)
        product(Q, K.swapaxes(-1, -2), out=P)  # Q K^T
        P *= 1 / math.sqrt(d)
        self._hide(P.reshape(R, N, h, T, T), ws.padding)
        P -= P.max(axis=-1, keepdims=True)  # the largest exponent is 0
        xp.exp(P, out=P)
        P /= P.sum(axis=-1, keepdims=True)
        out = product(P, V, out=ws.buffer(self, "PV", (R, N * h, T, d), X.dtype))
        Y = ws.buffer(self, "Y", (R, T, h, d, N), X.dtype)
        Y[...] = out.reshape(R, N, h, T, d).transpose(0, 3, 2, 4, 1)
        ws.save(self, A, P, out)
        return Y.reshape(R, T, h * d, N)

    def _hide(self, S: Any, padding: Any) -> None:
        """S (R, N, h, T, T) of queries and keys: HIDDEN is added to keys that are padding, or later than the query."""
        T = S.shape[-1]
        if padding is not None:
            S += (padding.swapaxes(1, 2) * S.dtype.type(HIDDEN))[:, :, None, None]  # (R, N, 1, 1, T)
        if self.causal:
            S += to_device(np.triu(np.full((T, T), HIDDEN, S.dtype), 1))

    def input_gradient(self, dY: Any, ws: Workspace, A: Any, P: Any, out: Any) -> Any:
        _, R, N, h, T, d = A.shape
        Q, K, V = A.reshape(3, R, N * h, T, d)
        dO = ws.scratch("dO", (R, N, h, T, d), dY.dtype)
        dO[...] = dY.reshape(R, T, h, d, N).transpose(0, 4, 2, 1, 3)
        dO = dO.reshape(R, N * h, T, d)
        dA = ws.scratch("dA", (3, R, N * h, T, d), dY.dtype)
        dQ, dK, dV = dA
        product(P.swapaxes(-1, -2), dO, out=dV)  # P^T dY
        dS = product(dO, V.swapaxes(-1, -2), out=ws.scratch("dS", P.shape, dY.dtype))  # dP = dY V^T
        out *= dO
        dS -= out.sum(axis=-1, keepdims=True)  # dP - D
        dS *= P
        dS *= 1 / math.sqrt(d)
        product(dS, K, out=dQ)
        product(dS.swapaxes(-1, -2), Q, out=dK)
        dX = ws.gradient(self, (R, T, 3, h, d, N), dY.dtype)
        dX[...] = dA.reshape(3, R, N, h, T, d).transpose(1, 4, 0, 3, 5, 2)
        return dX.reshape(R, T, 3 * h * d, N)

    def __repr__(self) -> str:
        return f"Attention({self.heads}, causal=True)" if self.causal else f"Attention({self.heads})"


def self_attention(width: int, heads: int, inside: int | None = None, causal: bool = False) -> Sequential:
    """Multi-head self-attention of (T, width): the projections to queries, keys and values, and that of the outputs.

    inside: the channels of all heads together (default width), a multiple of `heads`.
    """
    inside = width if inside is None else inside
    return Sequential(TokenDense(width, 3 * inside, heads), Attention(heads, causal), TokenDense(inside, width))
