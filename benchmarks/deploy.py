"""Size, latency and agreement of every export target, in one run, one thread each.

    python benchmarks/deploy.py [PART ...]        latency size agreement python browser density large

LeNet-5 is trained here on MNIST (NANOPRUNE_DATA) for two epochs, pruned to 6,050 of its 430,500 weights by magnitude
with the ratios per layer of docs/results.md, and retrained for two epochs: it has the sparsity of the network that is
reported there, but is trained in a minute. The MLP is trained in the same way on Location-30, and pruned to a
twentieth. Contestants are timed in this process, interleaved (A B C A B C ...), including the cost of a call from
Python, with buffers bound beforehand; a ratio is of medians.
"""

from __future__ import annotations

import ctypes
import functools
import gzip
import operator
import pathlib
import re
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
import threadpoolctl
from deploy_browser import in_chromium

from nanoprune import nn
from nanoprune.lab import layers as lab_layers
from nanoprune.lab.data import load
from nanoprune.lab.export.c import to_c
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.compiled import FLAGS, CompiledModel
from nanoprune.lab.export.compiled import compiled as library
from nanoprune.lab.export.onnx import run_onnx, to_onnx
from nanoprune.lab.export.packing import FORMS, program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.export.sparse import SparseModel
from nanoprune.lab.export.web import to_html
from nanoprune.lab.shrink.shrink import shrink
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Network, Workspace, cross_entropy

LENET_KEEP = (0.2, 0.08, 0.009, 0.07)  # of conv1, conv2, dense1, dense2; docs/results.md
FILTERS = (0.4, 0.3, 0.12)  # of the units of conv1, conv2, dense1 that are kept before `shrink`
ROUNDS, SECONDS = 30, 0.02  # rounds, and the time of each contestant in a round


def train(net: Network, x: np.ndarray, y: np.ndarray, epochs: int, rate: float, batch: int = 64) -> None:
    """SGD with momentum 0.9; weights that are zero at the start stay zero."""
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
    """onnxruntime with one thread, inputs and outputs bound beforehand, for the least overhead per call."""
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


def compiled(net: Network, form: str, x: np.ndarray, flags: tuple[str, ...] = FLAGS) -> Callable:
    """The emitted C, called record by record through ctypes, its buffers bound beforehand."""
    source, header = to_c(program_of(net, "int8" if form == "int8" else "dense"), {}, form)
    predict = library(source, header, flags).nanoprune_predict
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


def medians(contestants: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds per call, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
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
            report(f"{title}, batch {batch}", found, batch, "onnxruntime dense")


def python() -> None:
    """Sparse inference by nanoprune itself, beside its own dense network and onnxruntime."""
    for title, data, nets in (("LeNet-5", "mnist", lenets()), ("MLP", "location30", mlps())):
        dense, (pruned, sparse) = nets["dense"], list(nets.items())[1]
        for batch in (1, 32):
            x = records(data, batch)
            model, ws = SparseModel(sparse), Workspace(training=False)
            last = np.moveaxis(x, 0, -1)
            X = np.ascontiguousarray(last.swapaxes(0, 1) if last.ndim == 4 else last)[None]
            calls = {
                "onnxruntime dense": ort(dense, "dense", x),
                "nanoprune dense": functools.partial(dense.forward, X, ws),
                f"nanoprune {pruned}, sparse": functools.partial(model.logits, x),
                f"nanoprune {pruned}, compiled": functools.partial(CompiledModel(sparse).logits, x),
            }
            report(f"{title}, batch {batch}", medians(calls), batch, "onnxruntime dense")


def size() -> None:
    """Bytes of every form, and the effect of int8 on the predictions for the official test set."""
    for title, net in (
        ("LeNet-5 dense", lenets()["dense"]),
        ("LeNet-5 71x", lenets()["71x"]),
        ("MLP 20x", mlps()["20x"]),
    ):
        print(f"\n{title}: {int(net.nonzero()[0]):,} of {net.weight_count:,} weights; bytes, and after gzip")
        about = {"network": net.description["network"], "weights": "", "labels": [], "licence": "MIT"}
        for form in FORMS:
            program = program_of(net, form)
            files = {
                "onnx": to_onnx(program, about, form),
                "c": to_c(program, about, form)[0].encode(),
                "web": to_html([("net", program, form, about)]).encode(),
            }
            for target, written in files.items():
                print(f"  {target:<6}{form:<8}{len(written):10,}{len(gzip.compress(written, 9)):10,}")
    x = records("mnist", 10_000)
    y, net = load("mnist").y[-10_000:], lenets()["71x"]
    print()
    for name, of in lenets().items():
        right = 100 * float((logits(of, x).argmax(1) == y).mean())
        print(f"LeNet-5 {name}: {of.weight_count:,} weights, {int(of.nonzero()[0]):,} not zero, {right:.2f}% right")
    exact, int8 = logits(net, x).argmax(1), logits(quantised_network(net), x).argmax(1)
    equal, right, rounded = (int((a == b).sum()) for a, b in ((exact, int8), (exact, y), (int8, y)))
    print(
        f"\nLeNet-5 71x, 10,000 test records: int8 predicts the same class for {equal}; right {right}, int8 {rounded}"
    )


def agreement() -> None:
    """ONNX beside nanoprune in float64: by onnx's reference evaluator in float64, and by onnxruntime in float32."""
    import onnx.reference

    print("\nlargest difference / largest logit, 4 random records: float64 by onnx.reference, float32 by onnxruntime")
    shapes = {"mlp": (446,), "lenet-300-100": (784,), "lenet-5": (28, 1, 28)}
    zoo = list(shapes.items())
    zoo += [(name, (side, 3, side)) for side in (32, 224) for name in ("vgg16", "mobilenetv2", "resnet18")]
    for name, shape in zoo:
        net = with_statistics(build(describe(name, shape, 10), dtype="float64"))
        x = probes(shape, 4 if shape[0] < 224 else 2)
        expected, program = logits(net, x), program_of(net, "dense")
        model = onnx.load_from_string(to_onnx(program, {}, dtype=np.float64))
        exact = onnx.reference.ReferenceEvaluator(model).run(None, {"input": x.astype(np.float64)})[0]
        rounded = run_onnx(to_onnx(program, {}), x)
        print(
            f"  {name:<14}{shape[0]:>4}  {difference(exact, expected):.1e}  {difference(rounded, expected):.1e}",
            flush=True,
        )


def with_statistics(net: Network, keep: float = 1.0) -> Network:
    """Random weights, of which a share is kept, and running statistics that are neither 0 nor 1, as after training."""
    rng = np.random.default_rng(0)
    net.initialise([rng])
    for statistic in net.statistics:
        positive = statistic.name == "var"
        draw = rng.uniform(0.5, 1.5, statistic.shape) if positive else rng.normal(0, 0.3, statistic.shape)
        statistic.value[...] = draw
    net.W[:] *= rng.random(net.W.shape) < keep
    return net


def density() -> None:
    """The density below which sparse kernels are faster, by layer and batch: emitted C, and SciPy."""
    print("\nemitted C, one record: microseconds dense, and times that for each density")
    shares = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    print(" " * 34 + "dense" + "".join(f"{100 * share:8.0f}%" for share in shares))
    layers = {
        "Dense 512 to 256": (nn.Sequential(nn.Dense(512, 512), nn.ReLU(), nn.Dense(512, 256)), (512,)),
        "Conv2D 3x3, 32 to 64, 16 x 16": (nn.Sequential(nn.Conv2D(32, 64, 3, padding=1)), (16, 32, 16)),
        "Conv2D 3x3, 256 to 256, 4 x 4": (nn.Sequential(nn.Conv2D(256, 256, 3, padding=1)), (4, 256, 4)),
        "Pointwise 96 to 96, 14 x 14": (nn.Sequential(lab_layers.Pointwise(96, 96)), (14, 96, 14)),
    }
    curves = {}
    for name, (body, shape) in layers.items():
        tail = [lab_layers.GlobalAvgPool()] if len(shape) == 3 else []
        net, x = Network(nn.Sequential(body, *tail), shape), probes(shape, 1)
        calls = {"dense": compiled(with_statistics(net), "dense", x)}
        for share in shares:
            calls[str(share)] = compiled(with_statistics(net, share), "sparse", x)
        found = medians(calls, rounds=10)
        curves[name] = ratios(name, found, shares)
    print("\nSciPy CSR beside a dense product of NumPy, 512 x 512, by columns (records)")
    rng = np.random.default_rng(0)
    for batch in (1, 32, 256):
        x, W = rng.random((512, batch), np.float32), rng.random((512, 512), np.float32)
        calls = {"dense": functools.partial(np.matmul, W, x)}
        for share in shares:
            calls[str(share)] = functools.partial(operator.matmul, csr(W, share), x)
        found = medians(calls, rounds=10)
        curves[f"SciPy CSR, 512 x 512, batch {batch}"] = ratios(f"batch {batch}", found, shares)
    plot(curves, shares)


def ratios(name: str, found: dict[str, float], shares: tuple[float, ...]) -> list[float]:
    """Print and return the speedup over dense at each density."""
    times = [found["dense"] / found[str(share)] for share in shares]
    print(f"  {name:<30}{1e6 * found['dense']:7.1f}" + "".join(f"{of:8.2f}x" for of in times), flush=True)
    return times


def plot(curves: dict[str, list[float]], shares: tuple[float, ...]) -> None:
    """docs/export_density.svg."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "nanoprune"  # the same file from the same numbers
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, times in curves.items():
        axes.loglog(
            [100 * share for share in shares], times, "--" if name.startswith("SciPy") else "-", marker="o", label=name
        )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xlabel="weights kept, %", ylabel="speedup over the dense kernel")
    axes.legend(fontsize="small")
    path = pathlib.Path(__file__).parents[1] / "docs" / "export_density.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"  {path.name} written")


def csr(W: np.ndarray, share: float) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(W * (np.random.default_rng(1).random(W.shape) < share))


def large() -> None:
    """ResNet18 and MobileNetV2 with a tenth of the weights, at random, on 32 x 32: agreement and latency."""
    for name in ("resnet18", "mobilenetv2"):
        net = with_statistics(build(describe(name, (32, 3, 32), 10, 0.5)), keep=0.1)
        x = probes(net.input_shape, 1)
        calls = {
            "onnxruntime dense": ort(net, "dense", x),
            "C dense": compiled(net, "dense", x),
            "C 10x": compiled(net, "packed", x),
            "nanoprune 10x, sparse": functools.partial(SparseModel(net).logits, x),
        }
        for target, call in calls.items():
            print(f"  {name} width 0.5, {target}: differs by {difference(call(), logits(net, x)):.1e}")
        report(f"{name}, width 0.5, 32 x 32, batch 1", medians(calls, rounds=10), 1, "onnxruntime dense")


def browser() -> None:
    """The pages of LeNet-5, dense and at 71x, in headless Chromium."""
    in_chromium({name: lenets()[name] for name in ("71x", "dense")})


def report(title: str, found: dict[str, float], batch: int, peer: str) -> None:
    print(f"\n{title}: microseconds a record, and times {peer}")
    for name, seconds in found.items():
        print(f"  {name:<28} {1e6 * seconds / batch:9.2f} {found[peer] / seconds:7.2f}x", flush=True)


PARTS = {of.__name__: of for of in (latency, size, agreement, python, browser, density, large)}


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
