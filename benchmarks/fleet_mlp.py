"""One training step of 16 networks 446-512-256-128-30, batch 64: a fleet, against PyTorch in three ways.

All use every processor; each network has its own members; SGD with momentum. PyTorch trains them one by one, or all at
once by torch.func.vmap, or one by one in one single-threaded process per processor. Each contestant takes STEPS steps
of all networks at a time, in its fastest order; the figures are for one step of all.

`fleet-growth-R`: nanoprune alone, the time of one step of one network in a fleet of R = 1, 4, 16, 64.

    python benchmarks/fleet_mlp.py
"""

import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import threadpoolctl
import torch
from measure import in_turn, report, sgemm_rate
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional
from training import fast

from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.engine.shards import Advance, map_shards, shard_size, train_shards
from nanoprune.lab.zoo import build, describe
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

R, BATCH, EPOCHS, STEPS, WIDTHS = 16, 64, 10, 50, [446, 512, 256, 128, 30]
MEMBERS = BATCH * STEPS // EPOCHS
ROUNDS = {"rounds": 7, "steps": 1, "warmup": 1}
WEIGHTS = sum(a * b for a, b in itertools.pairwise(WIDTHS))
FLOPS = 2 * BATCH * (3 * WEIGHTS - WIDTHS[0] * WIDTHS[1])  # one step of one network; no dX of layer 1


def records() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (rng.random((5000, WIDTHS[0])) < 0.1).astype(np.float32), rng.integers(0, WIDTHS[-1], 5000)


def our_steps(replicas: int, threads: int, in_threads: bool = False) -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    data = Records(*records())
    generators = [np.random.default_rng(r) for r in range(replicas)]
    members = np.stack([generator.permutation(5000)[:MEMBERS] for generator in generators])  # (R, M)
    net = build(describe("mlp", (WIDTHS[0],), WIDTHS[-1], WIDTHS[1:-1]), replicas).initialise(generators)
    plan = Schedule(EPOCHS, BATCH, lr=0.01)

    def epochs(rows: slice, advance: Advance) -> np.ndarray:
        train(net.shard(rows), data, members[rows], plan, generators[rows])
        return net.theta[rows]

    if in_threads:
        return lambda: map_shards(lambda rows: epochs(rows, print), replicas, threads, shard_size(net, BATCH, threads))
    return lambda: train_shards(epochs, replicas, threads, shard_size(net, BATCH, threads))


def network() -> torch.nn.Sequential:
    layers = [torch.nn.Linear(*sizes) for sizes in itertools.pairwise(WIDTHS)]
    relu = [torch.nn.ReLU() for _ in layers[1:]]
    return torch.nn.Sequential(*[layer for pair in zip(layers, relu, strict=False) for layer in pair], layers[-1])


def torch_loop(replicas: int, threads: int) -> Callable[[], None]:
    torch.set_num_threads(threads)
    x, y = map(torch.tensor, records())
    nets = [network() for _ in range(replicas)]
    members = [torch.randperm(5000)[:MEMBERS] for _ in nets]
    optimizers = [torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, foreach=True) for net in nets]

    def steps() -> None:
        for net, optimizer, rows in zip(nets, optimizers, members, strict=True):
            for _ in range(EPOCHS):
                for index in rows[torch.randperm(MEMBERS)].split(BATCH):
                    optimizer.zero_grad()
                    functional.cross_entropy(net(x[index]), y[index]).backward()
                    optimizer.step()

    return steps


def torch_vmap(replicas: int, threads: int) -> Callable[[], None]:
    torch.set_num_threads(threads)
    x, y = map(torch.tensor, records())
    members = torch.stack([torch.randperm(5000)[:MEMBERS] for _ in range(replicas)])  # (R, M)
    parameters, _ = stack_module_state([network() for _ in range(replicas)])
    parameters = {name: value.detach() for name, value in parameters.items()}
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    template = network().to("meta")

    def loss(parameters: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(template, parameters, (x,)), y)

    gradient = vmap(grad(loss))
    W, V = list(parameters.values()), list(velocity.values())

    def steps() -> None:
        for _ in range(EPOCHS):
            order = torch.rand(replicas, MEMBERS).argsort(dim=1)
            for index in members.gather(1, order).split(BATCH, dim=1):  # (R, B)
                dW = list(gradient(parameters, x[index], y[index]).values())
                torch._foreach_mul_(V, 0.9)
                torch._foreach_add_(V, dW)
                torch._foreach_add_(W, V, alpha=-0.01)

    return steps


def torch_processes(replicas: int, threads: int) -> Callable[[], None]:
    command = [sys.executable, __file__, "worker", str(replicas // threads)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) for _ in range(threads)
    ]

    def steps() -> None:
        for worker in workers:
            worker.stdin.write(b".")
        for worker in workers:
            if not worker.stdout.read(1):
                raise RuntimeError("a worker of the benchmark ended")

    return steps


def work(replicas: int) -> None:
    """One process of `torch_processes`: a round of steps for each byte on standard input, until it is closed."""
    steps = torch_loop(replicas, 1)
    while sys.stdin.buffer.read(1):
        steps()
        sys.stdout.buffer.write(b".")
        sys.stdout.buffer.flush()


def main() -> None:
    threads = default_threads()
    rate = sgemm_rate(threads)
    contestants = {
        "torch loop": torch_loop,
        "torch vmap": torch_vmap,
        f"torch {threads} processes": torch_processes,
    }
    ours, compiled, threaded, *theirs = (
        times.over(STEPS)
        for times in in_turn(
            (our_steps, R, threads),
            (fast, our_steps, R, threads),
            (our_steps, R, threads, True),
            *((f, R, threads) for f in contestants.values()),
            **ROUNDS,
        )
    )
    for name, times in zip(["nanoprune on threads", *contestants], [threaded, *theirs], strict=True):
        print(f"  {name:20} {1e3 * times.median:.1f} ms (10-90%: {1e3 * times.low:.1f}-{1e3 * times.high:.1f})")
    peer, name = min(zip(theirs, contestants, strict=True), key=lambda pair: pair[0].median)
    report(f"fleet-mlp-{R}", ours, peer, name, R * FLOPS / rate)
    report(f"fleet-mlp-{R} [fast]", compiled, peer, name, R * FLOPS / rate)
    growth((1, 4, 16, 64), threads, rate)


def growth(sizes: tuple[int, ...], threads: int, rate: float) -> None:
    """The time of one step of one network by the size of its fleet."""
    for size, times in zip(sizes, in_turn(*((our_steps, size, threads) for size in sizes), **ROUNDS), strict=True):
        one = times.over(STEPS * size)  # on all processors
        report(f"fleet-growth-{size}", one, None, None, FLOPS / rate)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(int(sys.argv[2]))
    else:
        main()
