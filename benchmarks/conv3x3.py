"""A 3 x 3 convolution, forward and backward, in the sizes of VGG16 on 32 x 32 images, against PyTorch's best.

`conv3x3-HxC`: a batch of 32 images H x H, C channels to C channels; PyTorch in the faster of its two memory formats, by
oneDNN. The limit is the arithmetic of the plain algorithm at the machine's sgemm rate: Winograd's needs
half of it, so a share of more than 100% is possible.

    python benchmarks/conv3x3.py
"""

from collections.abc import Callable

import numpy as np
import threadpoolctl
import torch
from measure import in_turn, report, sgemm_rate
from training import side_by_side

from nanoprune.lab.engine.passes import SharedPasses, default_threads
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.kernels import convolution
from nanoprune.nn import Conv2D, Network, Workspace

BATCH = 32
SIZES = ((32, 64), (16, 128), (8, 256), (4, 512))  # H, C


def our_pass(H: int, C: int, threads: int, layer: Callable = convolution) -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    rng = np.random.default_rng(0)
    net = Network(layer(C, C, 3, padding=1), (H, C, H)).initialise([rng])
    passes, parts = SharedPasses(net, ProcessGroup(threads)), np.array_split(np.arange(BATCH), threads)
    arrays = {  # each worker's part of X and dY, in the layout of the neighbouring layers
        part[0]: [rng.standard_normal((1, H, C, H, len(part))).astype(np.float32) for _ in range(2)] for part in parts
    }

    def objective(net: Network, ws: Workspace, index: np.ndarray, count: int) -> float:
        X, dY = arrays[index[0, 0]]
        net.forward(X, ws)
        net.backward(dY, ws, need_dX=True)
        return 0.0

    return side_by_side(passes, lambda: passes.run(objective, np.arange(BATCH)[None]))


def peer_pass(H: int, C: int, threads: int, layout: str) -> Callable[[], None]:
    torch.set_num_threads(threads)
    memory_format = getattr(torch, layout)
    net = torch.nn.Conv2d(C, C, 3, padding=1).to(memory_format=memory_format)
    X, dY = (torch.randn(BATCH, C, H, H).contiguous(memory_format=memory_format) for _ in range(2))
    X.requires_grad_()

    def step() -> None:
        X.grad = net.weight.grad = net.bias.grad = None
        net(X).backward(dY)

    return step


def main() -> None:
    threads = default_threads()
    rate = sgemm_rate(threads)
    for H, C in SIZES:
        peers = [(peer_pass, H, C, threads, layout) for layout in ("contiguous_format", "channels_last")]
        ours, plain, *theirs = in_turn((our_pass, H, C, threads), (our_pass, H, C, threads, Conv2D), *peers)
        print(f"  the plain form takes {1e3 * plain.median:.1f} ms ({1e3 * plain.low:.1f}-{1e3 * plain.high:.1f})")
        peer, name = min(zip(theirs, ("torch", "torch channels_last"), strict=True), key=lambda pair: pair[0].median)
        report(f"conv3x3-{H}x{C}", ours, peer, name, 3 * 2 * BATCH * H * H * C * C * 9 / rate)


if __name__ == "__main__":
    main()
