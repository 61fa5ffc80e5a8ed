"""Profile of a training step: the processor time of each layer on one thread, compared with the limit.

The networks are those of `reproduce`: LeNet-5, the MLP of Location-30, and the attack network, whose training takes
most of its time. Times are medians of the thread's own clock, so other work on the machine matters little. The limit is
the arithmetic of the plain algorithms at the rate of a matrix product on one thread.

    python benchmarks/profile_step.py
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl

from nanoprune.attack.attack_network import attacker
from nanoprune.defend import DPSGD
from nanoprune.defend.record_norms import record_norms
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.structure import macs
from nanoprune.nn import SGD, Adam, Network, Workspace, cross_entropy, log_loss
from nanoprune.schedule import Schedule

STEPS, WARMUP = 60, 5


def main() -> None:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    rate = sgemm_rate()
    print(f"matrix products on one thread: {rate / 1e9:.0f} GFLOP/s")
    lenet = build(describe("lenet-5", (28, 1, 28), 10, [20, 50, 500]))
    mlp = build(describe("mlp", (446,), 30, [512, 256, 128]))
    for samples in (16, 32):
        profile(f"LeNet-5, {samples} samples, SGD", lenet, samples, SGD(momentum=0.9), rate, 24 * 24 * 20 * 25)
    profile("446-512-256-128-30, 64 samples, SGD", mlp, 64, SGD(momentum=0.9), rate, 446 * 512)
    profile("attack network of 30 classes, 64 samples, Adam", attacker(30), 64, Adam(), rate, 30 * (1024 + 512))
    private_profile(lenet, 128)


def profile(title: str, net: Network, samples: int, optimizer: SGD | Adam, rate: float, outermost: int) -> None:
    """Print a profile; outermost: multiply-accumulates of the layers that read the input, of which no dX is needed."""
    rng = np.random.default_rng(0)
    net.initialise([rng])
    X = rng.standard_normal((1, *net.input_shape, samples), np.float32)
    y = rng.integers(0, max(2, net.output_shape[0]), (1, samples))
    ws, spent = Workspace(), defaultdict(list)
    for _ in range(STEPS + WARMUP):
        step(net, X, y, ws, optimizer, spent)
    times = {name: 1e3 * float(np.median(found[WARMUP:])) for name, found in spent.items()}
    total, limit = sum(times.values()), 1e3 * 2 * samples * (3 * macs(net.body, net.input_shape) - outermost) / rate
    print(f"\n{title}: {total:.2f} ms, of which the arithmetic takes {limit:.2f} ms ({limit / total:.0%})")
    for name, milliseconds in times.items():
        print(f"  {milliseconds:7.3f} ms  {milliseconds / total:4.0%}  {name}")


def private_profile(net: Network, samples: int) -> None:
    """Print what a step of DP-SGD of LeNet-5 takes: the passes as one, and what is done to bound each record."""
    rng, ws, spent = np.random.default_rng(0), Workspace(), defaultdict(list)
    net.initialise([rng])
    X = rng.standard_normal((1, *net.input_shape, samples), np.float32)
    y, sampled = rng.integers(0, 10, (1, samples)), np.arange(samples)[None]
    private, optimizer = DPSGD(clip=1.5, noise=1.0), SGD(momentum=0.9)
    private.begin(net, np.arange(60_000)[None], Schedule(1, samples), [], None, None, None)
    for _ in range(STEPS + WARMUP):
        ws.defer = True
        logits = timed(spent, "forward pass", net.forward, X, ws)
        _, dlogits = timed(spent, "loss", private.loss, logits, y, sampled, ws, samples, 0)
        timed(spent, "backward pass, without the gradients of weights", net.backward, dlogits, ws)
        for layer, dY, saved in ws.deferred:
            timed(spent, f"norms of records (a part of clip)  {_short(layer)}", record_norms, layer, dY, ws, saved, {})
        timed(spent, "clip: norms, weighted gradients", private.clip, net, ws)
        timed(spent, "noise", private.add_noise, net)
        timed(spent, "optimiser", optimizer.step, net, 1e-4)
    print(f"\nLeNet-5, {samples} samples, DP-SGD")
    for name, found in spent.items():
        print(f"  {1e3 * float(np.median(found[WARMUP:])):7.3f} ms  {name}")


def timed(spent: dict, name: str, part: Callable, *arguments: object, **options: object) -> Any:
    """What `part` returns; its time is added to `spent`."""
    began = time.thread_time()
    result = part(*arguments, **options)
    spent[name].append(time.thread_time() - began)
    return result


def step(net: Network, X: np.ndarray, y: np.ndarray, ws: Workspace, optimizer: SGD | Adam, spent: dict) -> None:
    """One training step; the time of each part is added to `spent`."""
    layers = net.body.parts
    for i, layer in enumerate(layers):
        X = timed(spent, f"{i} forward   {_short(layer)}", layer.forward, X, ws)
    loss = cross_entropy if net.output_shape[0] > 1 else lambda z, y: log_loss(z, y[:, None].astype(z.dtype))
    _, dY = timed(spent, "loss", loss, X, y)
    for i, layer in reversed(list(enumerate(layers))):
        options = {"need_dX": i > 0} if layer.parameters() else {}
        dY = timed(spent, f"{i} backward  {_short(layer)}", layer.backward, dY, ws, **options)
    timed(spent, "optimiser", optimizer.step, net, 1e-4)


def _short(layer: object) -> str:
    return repr(layer) if len(repr(layer)) < 60 else type(layer).__name__


def sgemm_rate(n: int = 1024) -> float:
    A = np.random.default_rng(0).standard_normal((n, n), np.float32)
    out, found = np.empty_like(A), []
    for _ in range(9):
        began = time.thread_time()
        np.matmul(A, A, out=out)
        found.append(time.thread_time() - began)
    return 2 * n**3 / float(np.median(found))


if __name__ == "__main__":
    main()
