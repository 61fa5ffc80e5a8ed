"""The two implementations of a depthwise convolution, by tile height: why `lab.kernels.banded.TILE` is 4.

Forward and backward of 3 x 3 kernels over images of the sizes in a narrow MobileNetV2, 64 samples, one thread.

    python benchmarks/depthwise_tiles.py
"""

from collections.abc import Callable

import numpy as np
import threadpoolctl
from measure import in_turn

from nanoprune.lab.kernels import BandedDepthwise, banded
from nanoprune.lab.layers import DepthwiseConv2D
from nanoprune.nn import Network, Workspace

IMAGES = ((32, 48), (16, 48), (8, 144), (4, 240))  # rows and columns, channels
TILES = (2, 4, 8)


def both_passes(side: int, channels: int, tile: int) -> Callable[[], None]:
    """tile: of `BandedDepthwise`; 0 for `DepthwiseConv2D`."""
    threadpoolctl.threadpool_limits(1, user_api="blas")
    banded.TILE = tile
    layer = BandedDepthwise(channels, 3, 1, bias=False) if tile else DepthwiseConv2D(channels, 3, 1, 1, bias=False)
    rng = np.random.default_rng(0)
    net, ws = Network(layer, (side, channels, side)).initialise([rng]), Workspace()
    X, dY = (rng.standard_normal((1, side, channels, side, 64), np.float32) for _ in range(2))

    def step() -> None:
        net.forward(X, ws)
        net.backward(dY, ws, need_dX=True)

    return step


if __name__ == "__main__":
    for side, channels in IMAGES:
        plain, *tiles = in_turn(*((both_passes, side, channels, tile) for tile in (0, *TILES)))
        found = ", ".join(
            f"{tile} rows {1e3 * times.median:.2f} ms ({times.median / plain.median:.2f})"
            for tile, times in zip(TILES, tiles, strict=True)
        )
        print(f"{side} x {side}, {channels} channels: plain {1e3 * plain.median:.2f} ms; {found}")
