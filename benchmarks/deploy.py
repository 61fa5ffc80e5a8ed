"""What the exports reach: bytes, latency and agreement of every target, in one run, one thread each.

    python benchmarks/deploy.py [PART ...]        latency bytes agreement python browser density large

LeNet-5 is trained here on MNIST (NANOPRUNE_DATA) for two epochs, pruned to 6,050 of its 430,500 weights by magnitude
with the ratios per layer of docs/results.md, and retrained for two epochs: the same sparsity, made in a minute, not the
network that is reported there. The MLP is trained alike on Location-30, and pruned to a twentieth. Contestants are
timed in this process by turns, A B C A B C ..., with the cost of a call from Python in each, buffers
bound beforehand; a ratio is of medians.
"""

from __future__ import annotations

import ctypes
import functools
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import threadpoolctl

from nanoprune.lab.data import load
from nanoprune.lab.export.c import to_c
from nanoprune.lab.export.check import difference, logits
from nanoprune.lab.export.onnx import to_onnx
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.shrink.shrink import shrink
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Network, Workspace, cross_entropy

LENET_KEEP = (0.2, 0.08, 0.009, 0.07)  # of conv1, conv2, dense1, dense2; docs/results.md
FILTERS = (0.5, 0.4, 0.2)  # of the units of conv1, conv2, dense1 that are kept before `shrink`
ROUNDS, SECONDS = 30, 0.02  # turns, and what each contestant has in a turn


def train(net: Network, x: np.ndarray, y: np.ndarray, epochs: int, rate: float, batch: int = 64) -> None:
    """SGD with momentum 0.9; weights that are zero at the start stay zero, if any of a layer's are."""
    ws, velocity, rng = Workspace(), np.zeros_like(net.theta), np.random.default_rng(0)
    mask = np.ones_like(net.theta)
    mask[:, : net.weight_count] = (net.W != 0) | (int(net.nonzero()[0]) == net.weight_count)
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            index = order[start : start + batch]
            X = np.ascontiguousarray(np.moveaxis(x[index], 0, -1))[None]  # (1, ..., N)
            _, dY = cross_entropy(net.forward(X, ws), y[None, index])
            net.backward(dY, ws)
            velocity *= 0.9
            velocity += net.grad * mask
            net.theta -= rate * (1 - epoch / epochs) * velocity


def magnitude(net: Network, keep: tuple[float, ...]) -> Network:
    """A copy with the largest share of each layer's weights."""
    net = net.copy()
    for W, share in zip(net.weights, keep, strict=True):
        values = W.value[0]
        count = round(share * values.size)
        values[np.abs(values) < np.partition(np.abs(values).ravel(), -count)[-count]] = 0
    return net


def filters(net: Network, keep: tuple[float, ...]) -> Network:
    """A copy whose weakest filters are zero in all layers but the last."""
    net = net.copy()
    for W, share in zip(net.weights, keep, strict=False):
        norms = np.linalg.norm(W.value[0], axis=1)
        W.value[0][np.argsort(norms)[: round((1 - share) * len(norms))]] = 0
    return net


@functools.cache
def lenets() -> dict[str, Network]:
    data = load("mnist")
    x, y = data.x[: data.train], data.y[: data.train]
    net = build(describe("lenet-5", x.shape[1:], 10)).initialise([np.random.default_rng(0)])
    train(net, x, y, 2, 0.02)
    sparse, narrow = magnitude(net, LENET_KEEP), filters(net, FILTERS)
    train(sparse, x, y, 2, 0.01)
    train(narrow, x, y, 1, 0.01)
    return {"dense": net, "71x": sparse, "shrunk": shrink(narrow)}


@functools.cache
def mlps() -> dict[str, Network]:
    data = load("location30")
    net = build(describe("mlp", data.x.shape[1:], data.classes)).initialise([np.random.default_rng(0)])
    train(net, data.x[:1500], data.y[:1500], 30, 0.05)
    sparse = magnitude(net, (0.05,) * 4)
    train(sparse, data.x[:1500], data.y[:1500], 20, 0.05)
    return {"dense": net, "20x": sparse}


def records(name: str, count: int) -> np.ndarray:
    """Test records, channels first."""
    data = load(name)
    x = data.x[len(data.x) - count :]
    return np.ascontiguousarray(np.moveaxis(x, 2, 1)) if x.ndim == 4 else np.ascontiguousarray(x)


def ort(net: Network, form: str, x: np.ndarray) -> Callable[[], np.ndarray]:
    """onnxruntime with one thread, inputs and outputs bound beforehand, so that a call costs as little as it can."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    data = to_onnx(program_of(net, form), {}, form)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    binding, y = session.io_binding(), np.empty((len(x), net.output_shape[0]), np.float32)
    binding.bind_input("input", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("logits", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def call(keep: np.ndarray = x) -> np.ndarray:
        session.run_with_iobinding(binding)
        return y

    return call


def compiled(net: Network, form: str, x: np.ndarray, flags: tuple[str, ...] = ("-O3", "-march=native")) -> Callable:
    """The emitted C, called record by record through ctypes, its buffers bound beforehand."""
    source, header = to_c(program_of(net, form), {}, form)
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "nanoprune.c").write_text(source)
    (folder / "nanoprune.h").write_text(header)
    library = folder / "nanoprune.so"
    command = ["gcc", "-std=c99", *flags, "-shared", "-fPIC", "-o", library, folder / "nanoprune.c", "-lm"]
    subprocess.run(list(map(str, command)), check=True)
    predict = ctypes.CDLL(str(library)).nanoprune_predict
    shutil.rmtree(folder)
    predict.argtypes, predict.restype = [ctypes.c_void_p] * 3, None
    y, size = np.empty((len(x), net.output_shape[0]), np.float32), int(re.search(r"_WORK = (\d+)", header)[1])
    work = np.empty(size + 16, np.float32)
    aligned = ctypes.c_void_p((work.ctypes.data + 63) // 64 * 64)
    pointers = [(ctypes.c_void_p(x[i].ctypes.data), ctypes.c_void_p(y[i].ctypes.data)) for i in range(len(x))]

    def call(keep: tuple = (x, work)) -> np.ndarray:
        for record, outputs in pointers:
            predict(record, outputs, aligned)
        return y

    return call


def medians(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds a call, by turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, call in contestants.items():
            call()
            end = time.perf_counter() + SECONDS
            while (began := time.perf_counter()) < end:
                call()
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(of)) for name, of in seconds.items()}


def latency() -> None:
    for title, data, nets in (("LeNet-5", "mnist", lenets()), ("MLP", "location30", mlps())):
        pruned = list(nets)[1]
        for batch in (1, 32):
            x = records(data, batch)
            dense, sparse = nets["dense"], nets[pruned]
            runs = {
                "onnxruntime dense": (ort(dense, "dense", x), dense),
                f"onnxruntime {pruned}": (ort(sparse, "packed", x), sparse),
                "C dense": (compiled(dense, "dense", x), dense),
                f"C {pruned}": (compiled(sparse, "packed", x), sparse),
                f"C {pruned} int8": (compiled(sparse, "int8", x), quantised_network(sparse)),
                f"C {pruned} AVX2": (compiled(sparse, "packed", x, ("-O3", "-march=x86-64-v3")), sparse),
                f"C {pruned} SSE2": (compiled(sparse, "packed", x, ("-O3",)), sparse),
            }
            if "shrunk" in nets:
                small = nets["shrunk"]
                runs |= {
                    f"onnxruntime shrunk {dense.weight_count / small.weight_count:.0f}x": (
                        ort(small, "dense", x),
                        small,
                    )
                }
                runs |= {"C shrunk": (compiled(small, "packed", x), small)}
            for name, (run, net) in runs.items():
                worst = difference(run(), logits(net, x))
                if worst > 1e-5:
                    raise SystemExit(f"{title} {name}: differs by {worst:.1e}")
            found = medians({name: run for name, (run, _) in runs.items()})
            peer = found["onnxruntime dense"]
            print(f"\n{title}, batch {batch}: microseconds a record, and times onnxruntime dense")
            for name, seconds in found.items():
                print(f"  {name:<24} {1e6 * seconds / batch:9.2f} {peer / seconds:7.2f}x")


PARTS = {"latency": latency}


def main(parts: list[str]) -> int:
    if unknown := [part for part in parts if part not in PARTS]:
        print(f"error: no part is called {unknown[0]!r}; there are", *PARTS)
        return 2
    with threadpoolctl.threadpool_limits(1):
        for part in parts or PARTS:
            PARTS[part]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
