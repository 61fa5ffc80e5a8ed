"""Forward and backward pass of multi-head self-attention against PyTorch, at the sizes of the transformers here.

The projections to queries, keys and values, scaled dot-product attention, and the projection of the outputs, with the
gradients of weights and inputs. The peer is the faster of torch.nn.MultiheadAttention and of two linear layers around
scaled_dot_product_attention. The same random batch of 64, of which half of the tokens of each text are padding on
average, and the same number of threads, interleaved, each in a separate process.

    python benchmarks/attention_step.py [names|agnews|vit ...]
"""

import sys
from collections.abc import Callable

import numpy as np
import threadpoolctl
import torch
from measure import in_turn, report, sgemm_rate
from torch import nn
from torch.nn import functional
from training import side_by_side

from nanoprune.lab.engine.passes import SharedPasses, default_threads
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.layers import self_attention
from nanoprune.nn import Network, Workspace
from nanoprune.records import Records

BATCH = 64
SIZES = {"names": (20, 32, 2), "agnews": (40, 32, 2), "vit": (64, 64, 4)}  # positions, channels, heads
TEXTS = ("names", "agnews")


def sequences(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and gradients of the outputs (N, T, E), and where the sequences are padding (N, T)."""
    T, E, _ = SIZES[name]
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, T + 1, BATCH) if name in TEXTS else np.full(BATCH, T)
    x, dy = rng.standard_normal((2, BATCH, T, E), np.float32)
    return x, dy, np.arange(T) >= lengths[:, None]


def our_step(name: str, threads: int) -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    T, E, heads = SIZES[name]
    x, dy, padding = sequences(name)
    net = Network(self_attention(E, heads), (T, E)).initialise([np.random.default_rng(0)])
    inputs, gradients, passes = Records(x, padding), Records(dy, padding), SharedPasses(net, ProcessGroup(threads))
    index = np.arange(BATCH)[None]

    def objective(net: Network, ws: Workspace, index: np.ndarray, count: int) -> np.ndarray:
        X, of_padding = inputs.batch(index, ws)  # (1, T, E, N), (1, N, T)
        dY, _ = gradients.batch(index, ws)
        ws.padding = of_padding.swapaxes(1, 2) if name in TEXTS else None
        net.forward(X, ws)
        net.backward(dY, ws, need_dX=True)
        return np.zeros(1, np.float32)

    return side_by_side(passes, lambda: passes.run(objective, index))


class Plain(nn.Module):
    """The same by torch.nn.functional.scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.into, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        N, T, E = x.shape
        q, k, v = self.into(x).reshape(N, T, 3, self.heads, E // self.heads).permute(2, 0, 3, 1, 4)
        seen = None if padding is None else ~padding[:, None, None]
        y = functional.scaled_dot_product_attention(q, k, v, seen)
        return self.out(y.transpose(1, 2).reshape(N, T, E))


class Multihead(nn.MultiheadAttention):
    """nn.MultiheadAttention without the weights that it can return beside its outputs."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        return super().forward(x, x, x, key_padding_mask=padding, need_weights=False)[0]


PEERS = {"torch MultiheadAttention": Multihead, "torch scaled_dot_product": Plain}


def peer_step(kind: str, name: str, threads: int) -> Callable[[], None]:
    torch.set_num_threads(threads)
    _, E, heads = SIZES[name]
    x, dy, padding = map(torch.tensor, sequences(name))
    net, x = PEERS[kind](E, heads), x.requires_grad_()

    def step() -> None:
        net.zero_grad()
        x.grad = None
        net(x, padding if name in TEXTS else None).backward(dy)

    return step


def flops(name: str) -> int:
    """Of the products, forward and twice as many backward; those of positions that are padding included."""
    T, E, _ = SIZES[name]
    return 3 * 2 * BATCH * (4 * T * E * E + 2 * T * T * E)


def main(names: list[str]) -> None:
    threads = default_threads()
    rate = sgemm_rate(threads)
    for name in names:
        ours, *theirs = in_turn((our_step, name, threads), *((peer_step, kind, name, threads) for kind in PEERS))
        peer, kind = min(zip(theirs, PEERS, strict=True), key=lambda pair: pair[0].median)
        report(f"attention-step-{name}", ours, peer, kind, flops(name) / rate)


if __name__ == "__main__":
    main(sys.argv[1:] or list(SIZES))
