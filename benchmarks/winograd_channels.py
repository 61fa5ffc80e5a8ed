"""The number of channels from which `WinogradConv2D` is faster: why `lab.kernels.winograd.MANY` is 3.

Forward and backward of 64 kernels over images of 32 x 32, 32 samples, one thread.

    python benchmarks/winograd_channels.py
"""

from collections.abc import Callable

import numpy as np
import threadpoolctl
from measure import in_turn

from nanoprune.lab.kernels.winograd import WinogradConv2D
from nanoprune.nn import Conv2D, Network, Workspace

CHANNELS = (1, 3, 4, 8, 16)


def both_passes(channels: int, layer: type[Conv2D]) -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    rng = np.random.default_rng(0)
    net, ws = Network(layer(channels, 64, 3, padding=1), (32, channels, 32)).initialise([rng]), Workspace()
    X = rng.standard_normal((1, 32, channels, 32, 32), np.float32)
    dY = rng.standard_normal((1, 32, 64, 32, 32), np.float32)

    def step() -> None:
        net.forward(X, ws)
        net.backward(dY, ws, need_dX=channels > 3)  # the first layer of a network needs none

    return step


if __name__ == "__main__":
    for channels in CHANNELS:
        plain, winograd = in_turn((both_passes, channels, Conv2D), (both_passes, channels, WinogradConv2D))
        print(
            f"{channels:3d} channels: plain {1e3 * plain.median:.2f} ms, Winograd {1e3 * winograd.median:.2f} ms, "
            f"ratio {winograd.median / plain.median:.2f}"
        )
