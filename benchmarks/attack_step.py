"""One step of the attack network on 128 records of 30 classes, against PyTorch with its fused Adam.

The network of Nasr et al. 2018 (0.75 million parameters), the same random batch, one thread each, interleaved, each in
a separate process.

    python benchmarks/attack_step.py
"""

import itertools
from collections.abc import Callable

import numpy as np
import threadpoolctl
import torch
from measure import in_turn, report, sgemm_rate
from torch import nn
from torch.nn import functional
from training import fast

from nanoprune.attack.attack_network import attacker
from nanoprune.nn import Adam, Workspace, log_loss

CLASSES, BATCH = 30, 128


def records() -> tuple[np.ndarray, np.ndarray]:
    """Predictions above labels (2 classes, N), and membership (N,)."""
    rng = np.random.default_rng(0)
    p, label = rng.dirichlet(np.ones(CLASSES), BATCH).T, np.eye(CLASSES)[rng.integers(0, CLASSES, BATCH)].T
    return np.concatenate([p, label]).astype(np.float32), rng.integers(0, 2, BATCH).astype(np.float32)


def our_step() -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    x, member = records()
    h, adam, ws = attacker(CLASSES).initialise([np.random.default_rng(0)]), Adam(), Workspace()

    def step() -> None:
        _, dz = log_loss(h.forward(x[None], ws), member[None, None])
        h.backward(dz, ws)
        adam.step(h, 1e-4)

    return step


class Peer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prediction = dense(CLASSES, 1024, 512, 64)
        self.label = dense(CLASSES, 512, 64)
        self.joint = nn.Sequential(dense(128, 256, 64), nn.Linear(64, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.prediction(x[:, :CLASSES]), self.label(x[:, CLASSES:])
        return self.joint(torch.cat(both, dim=1))[:, 0]


def dense(*widths: int) -> nn.Sequential:
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[part for layer in layers for part in layer])


def peer_step() -> Callable[[], None]:
    torch.set_num_threads(1)
    x, member = map(torch.tensor, records())
    inputs, h = x.T.contiguous(), Peer()
    optimizer = torch.optim.Adam(h.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(h(inputs), member).backward()
        optimizer.step()

    return step


def main() -> None:
    ours, compiled, theirs = in_turn((our_step,), (fast, our_step), (peer_step,))
    weights = sum(p.size for p in attacker(CLASSES).weights)
    first = CLASSES * (1024 + 512)  # no gradient of their inputs is needed
    limit = 2 * BATCH * (3 * weights - first) / sgemm_rate(1)
    report(f"attack-step-{BATCH}", ours, theirs, "torch, fused Adam", limit)
    report(f"attack-step-{BATCH} [fast]", compiled, theirs, "torch, fused Adam", limit)


if __name__ == "__main__":
    main()
