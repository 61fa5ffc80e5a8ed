"""The inputs of a layer as a matrix, for layers whose outputs are W times it: what layer-wise pruning needs of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.lab.engine.evaluation import evaluation_batch
from nanoprune.lab.kernels.winograd import WinogradConv2D
from nanoprune.lab.layers import DepthwiseConv2D, Embedding, Pointwise, TokenDense
from nanoprune.nn import Conv2D, Dense, Layer, Network, Workspace
from nanoprune.nn.registry import refuse
from nanoprune.records import Records


@singledispatch
def input_matrices(layer: Layer, *saved: Any) -> Any:
    """The inputs (R, parts, I, n) that the weights (R, O, I) of a layer are multiplied by, from what its forward pass
    saved (`Workspace.save`): each part's columns are inputs of as many outputs."""
    raise TypeError(f"{layer!r} is not registered in nanoprune/lab/layerwise/inputs.py")


@input_matrices.register
def _(layer: Dense, X: Any) -> Any:
    return X[:, None]  # (R, 1, in, N)


@input_matrices.register
def _(layer: Conv2D, L: Any, X_shape: tuple[int, ...]) -> Any:
    return layer._rows(L)  # (R, OH, k*C*k, OW*N): the patches of each output row


@input_matrices.register
def _(layer: WinogradConv2D, X: Any) -> Any:
    L = layer._lower(X, layer.output_shape(X.shape[1:4])[2], Workspace(training=False))
    return layer._rows(L)


@input_matrices.register
def _(layer: Pointwise, A: Any, X_shape: tuple[int, ...]) -> Any:
    return A  # (R, OH, C, OW*N)


@input_matrices.register
def _(layer: TokenDense, X: Any) -> Any:
    return X  # (R, T, in, N)


input_matrices.register(Embedding, refuse("has an input for each word, of which most are rare: prune it otherwise"))
input_matrices.register(DepthwiseConv2D, refuse("has other inputs for each row of its weights: prune it otherwise"))


class InputRecorder(Workspace):
    """Shows `see` what one layer saves in a forward pass in evaluation mode, and keeps nothing."""

    def __init__(self, layer: Layer, see: Callable[..., None]) -> None:
        super().__init__(training=False)
        self.layer, self.see = layer, see

    def save(self, layer: Layer, *arrays: Any) -> None:
        if layer is self.layer:
            self.see(*arrays)


def gram(net: Network, layer: Layer, records: Records, index: np.ndarray) -> np.ndarray:
    r"""$H = X X^T$ (R, I, I), float64 on the host, of the inputs X of `layer` for the records index (R, M)."""
    total: Any = 0.0

    def see(*saved: Any) -> None:
        nonlocal total
        X = input_matrices(layer, *saved)  # (R, parts, I, n)
        total = total + to_host((X @ X.swapaxes(-1, -2)).sum(axis=1)).astype(np.float64)

    ws, size = InputRecorder(layer, see), evaluation_batch(net)
    for start in range(0, index.shape[1], size):
        X, _ = records.batch(to_device(index[:, start : start + size]), ws)
        net.forward(X, ws)
    return total
