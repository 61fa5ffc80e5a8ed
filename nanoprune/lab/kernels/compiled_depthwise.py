"""Depthwise convolution as loops over outputs, compiled by Numba (extra `fast`)."""

import functools
from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.lab.kernels.banded import BandedDepthwise
from nanoprune.lab.kernels.compiled import started_numba
from nanoprune.lab.layers.depthwise import DepthwiseConv2D
from nanoprune.nn.workspace import Workspace


class CompiledDepthwise(BandedDepthwise):
    """`BandedDepthwise` with compiled loops in place of its products; without Numba, and on a GPU, the products.

    A loop adds up the k*k terms of an output in the order of `DepthwiseConv2D`, so it has that layer's bits. Those of
    the products differ by rounding, which is why the version of Numba is a part of a run's identity.
    """

    def correlate(self, P: Any, W: Any, Y: Any, ws: Workspace) -> None:
        loop = correlation(self.size) if isinstance(P, np.ndarray) else None
        if loop is None:
            super().correlate(P, W, Y, ws)
        else:
            loop(P, np.ascontiguousarray(W), Y)


@functools.cache
def correlation(k: int) -> Any:
    """The compiled loop for kernels of k x k; None without Numba."""
    numba = started_numba()

    def correlate(P: Any, W: Any, Y: Any) -> None:
        R, OH, C, OW, N = Y.shape
        for r in range(R):
            for y in range(OH):
                for c in range(C):
                    w = W[r, c]
                    for x in range(OW):
                        for n in range(N):  # k is a constant here: the two loops inside are unrolled
                            total = P.dtype.type(0)
                            for i in range(k):
                                for j in range(k):
                                    total += P[r, y + i, c, x + j, n] * w[k * i + j]
                            Y[r, y, c, x, n] = total

    return numba and numba.njit(correlate)


def depthwise_convolution(
    channels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True
) -> DepthwiseConv2D:
    """The faster implementation of a depthwise convolution: on a CPU `CompiledDepthwise` where stride is 1 and padding
    less than size. On a GPU neither has been measured.
    """
    if xp._module is np and stride == 1 and padding < size:
        return CompiledDepthwise(channels, size, padding, bias)
    return DepthwiseConv2D(channels, size, stride, padding, bias)
