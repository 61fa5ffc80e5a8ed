"""All that needs a GPU, in at most eight minutes and without network: what works there, and how fast it is.

    make gpu                          every part, into benchmarks/gpu.json, from which page.py makes its table
    python benchmarks/gpu.py fleet    one part, printed

Needs CuPy 14 with a working GPU, and for the tests pytest and hypothesis. PyTorch is compared with where it is
installed with CUDA. Each part is a process with a limit of its own; one that fails is a line with its last words, and
the others go on. Exit status 1 where a part failed or took too long.

tests       tests/test_cupy_path.py and tests/test_compiled.py with CuPy in place of the stand-in (NANOPRUNE_TEST_GPU)
verify      the certificate, `verify --device gpu`
reproduce   `reproduce mnist --device gpu` with NANOPRUNE_DATA, else digits; two seeds, without the game
rates       matrix products in float32 and TF32, and copies: what the GPU can do at most
fleet       one step of 64 LeNet-5 with batch 64, against torch.func.vmap as it is, compiled, and as a CUDA graph
resnet18    one step of ResNet18 at full width with batch 128, against PyTorch as it is and compiled
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULT = pathlib.Path(__file__).with_name("gpu.json")
LIMIT = 480.0  # seconds in all
SECONDS = {"tests": 150, "verify": 60, "reproduce": 150, "rates": 20, "fleet": 60, "resnet18": 40}
REPLICAS, BATCH, IMAGES, SIDE, ROUNDS = 64, 64, 128, 8192, 20


def main() -> int:
    if sys.argv[1:]:
        if sys.argv[1] not in PARTS:
            raise SystemExit(f"error: there is no part {sys.argv[1]!r}; there are {', '.join(PARTS)}")
        from nanoprune.errors import NanopruneError  # `make gpu` itself runs where the package is not installed

        try:
            print(json.dumps(PARTS[sys.argv[1]]()))
        except NanopruneError as error:
            raise SystemExit(f"error: {error}") from None
        return 0
    began, found = time.perf_counter(), {}
    for name, limit in SECONDS.items():
        left = LIMIT - (time.perf_counter() - began)
        found[name] = part(name, min(limit, left))
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    partial = RESULT.with_suffix(".part")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(RESULT)
    return int(any("failed" in of for of in found.values()))


def part(name: str, limit: float) -> dict[str, Any]:
    """What one part found, or why it failed."""
    if limit <= 0:
        return {"failed": f"no time was left of {LIMIT:.0f} s"}
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NANOPRUNE_TEST_GPU": "1"}
    command = [sys.executable, __file__, name]
    try:
        ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {limit:.0f} s"}
    lines = (ran.stdout + ran.stderr).strip().splitlines() or [""]
    if ran.returncode:
        return {"failed": lines[-1][:300]}
    return json.loads(ran.stdout.strip().splitlines()[-1]) | {"seconds": time.perf_counter() - began}


def command(*words: str) -> str:
    """Run a Python program and return the last line that it printed; raises where it fails."""
    ran = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    last = (ran.stdout + ran.stderr).strip().rpartition("\n")[2]
    if ran.returncode:
        raise SystemExit(last)
    return last


def tests() -> dict[str, Any]:
    return {"found": command("-m", "pytest", "-q", "-x", "tests/test_cupy_path.py", "tests/test_compiled.py")}


def verify() -> dict[str, Any]:
    return {"found": command("cli.py", "verify", "--device", "gpu")}


def reproduce() -> dict[str, Any]:
    data = "mnist" if os.environ.get("NANOPRUNE_DATA") else "digits"
    with tempfile.TemporaryDirectory() as folder:
        options = ["--seeds", "2", "--minmax", "0", "--device", "gpu", "--out", folder, "--overwrite"]
        return {"data": data, "found": command("cli.py", "reproduce", data, *options)}


def on_gpu() -> Any:
    """CuPy, as the array library of the package."""
    from nanoprune.backend import use_device, xp

    use_device("gpu")
    return xp


def rates() -> dict[str, Any]:
    from nanoprune.backend import device_name, product, use_device

    xp, n, found = on_gpu(), SIDE, {"device": ""}
    A, out = (xp.zeros((1, n, n), np.float32) for _ in range(2))
    for device in ("gpu", "gpu-tf32"):
        use_device(device)
        found |= {"device": device_name(), f"{device} TFLOP/s": 2 * n**3 / median(lambda: product(A, A, out)) / 1e12}
    found["copy GB/s"] = 2 * A.nbytes / median(lambda: xp.multiply(A, 1, out=out)) / 1e9
    return found


def our_step(network: str, shape: tuple, classes: int, widths: Any, replicas: int, batch: int) -> Callable[[], Any]:
    """A step of SGD with momentum of R networks, each on its own random batch."""
    on_gpu()
    from nanoprune.backend import to_device
    from nanoprune.lab.zoo import build, describe
    from nanoprune.nn import SGD, Passes, cross_entropy

    rng = np.random.default_rng(0)
    x = to_device(rng.standard_normal((replicas, *shape, batch)).astype(np.float32))  # (R, H, C, W, N)
    y = to_device(rng.integers(0, classes, (replicas, batch)))
    net = build(describe(network, shape, classes, widths), replicas)
    net.initialise([np.random.default_rng(r) for r in range(replicas)])
    optimizer, passes, index = SGD(momentum=0.9), Passes(net), np.zeros((replicas, batch), int)

    def objective(net: Any, ws: Any, index: Any, count: int) -> Any:
        loss, dlogits = cross_entropy(net.forward(x, ws), y, count)
        net.backward(dlogits, ws)
        return loss

    def step() -> None:
        passes.run(objective, index)
        optimizer.step(passes.local, 1e-3)

    return step


def median(step: Callable[[], Any]) -> float:
    """Seconds of a step, the median of ROUNDS; the GPU has ended its work before and after each."""
    import cupy

    seconds = []
    for i in range(ROUNDS + 5):
        cupy.cuda.Device().synchronize()
        began = time.perf_counter()
        step()
        cupy.cuda.Device().synchronize()
        seconds += [time.perf_counter() - began] if i >= 5 else []
    return float(np.median(seconds))


def torch_on_gpu() -> Any:
    """torch, where it is installed with CUDA; else None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if torch.cuda.is_available() else None


def compared(ours: float, peers: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Milliseconds of ours and of each peer, and ours over the fastest; a peer that fails has its last words."""
    found: dict[str, Any] = {"nanoprune ms": 1e3 * ours}
    for name, make in peers.items():
        try:
            found[f"{name} ms"] = 1e3 * median(make())
        except Exception as error:  # compilers need more than this machine may have
            found[f"{name} failed"] = str(error).strip().splitlines()[-1][:200]
    times = [value for name, value in found.items() if name.endswith(" ms") and name != "nanoprune ms"]
    return found | ({"ratio": 1e3 * ours / min(times)} if times else {})


def operations(network: str, shape: tuple, classes: int, widths: Any, replicas: int, batch: int) -> dict[str, float]:
    """The arithmetic of `our_step`, by the formula in scaling.py; at the rates above, the least time of it."""
    from scaling import training_work

    from nanoprune.lab.zoo import build, describe

    net = build(describe(network, shape, classes, widths), 1)
    return {"GFLOP": training_work(net, batch, replicas).flop / 1e9}


def fleet() -> dict[str, Any]:
    case = ("lenet-5", (28, 1, 28), 10, [20, 50, 500], REPLICAS, BATCH)
    ours, torch = median(our_step(*case)), torch_on_gpu()
    if torch is None:
        return {"nanoprune ms": 1e3 * ours} | operations(*case)
    from lenet5_step import Peer
    from torch.func import functional_call, grad, stack_module_state, vmap
    from torch.nn import functional

    template = Peer().to("meta")
    parameters = {k: v.detach() for k, v in stack_module_state([Peer().cuda() for _ in range(REPLICAS)])[0].items()}
    x = torch.randn(REPLICAS, BATCH, 1, 28, 28, device="cuda")
    y = torch.randint(0, 10, (REPLICAS, BATCH), device="cuda")
    W, V = list(parameters.values()), [torch.zeros_like(value) for value in parameters.values()]
    gradient = vmap(grad(lambda p, x, y: functional.cross_entropy(functional_call(template, p, (x,)), y)))

    def step_by(gradient: Callable[..., dict]) -> Callable[[], None]:
        def step() -> None:
            dW = list(gradient(parameters, x, y).values())
            torch._foreach_mul_(V, 0.9)
            torch._foreach_add_(V, dW)
            torch._foreach_add_(W, V, alpha=-1e-3)

        return step

    def as_graph() -> Callable[[], None]:
        step, stream = step_by(gradient), torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    peers = {"vmap": lambda: step_by(gradient), "compiled": lambda: step_by(torch.compile(gradient)), "graph": as_graph}
    return compared(ours, peers) | operations(*case)


def resnet18() -> dict[str, Any]:
    case = ("resnet18", (32, 3, 32), 10, 1.0, 1, IMAGES)
    ours, torch = median(our_step(*case)), torch_on_gpu()
    if torch is None:
        return {"nanoprune ms": 1e3 * ours} | operations(*case)
    from resnet18_step import peer
    from torch.nn import functional

    x, y = torch.randn(IMAGES, 3, 32, 32, device="cuda"), torch.randint(0, 10, (IMAGES,), device="cuda")

    def step_of(change: Callable[[Any], Any]) -> Callable[[], None]:
        net = peer().cuda()
        optimizer, changed = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9), change(net)

        def step() -> None:
            optimizer.zero_grad()
            functional.cross_entropy(changed(x), y).backward()
            optimizer.step()

        return step

    peers = {"torch": lambda: step_of(lambda net: net), "compiled": lambda: step_of(torch.compile)}
    return compared(ours, peers) | operations(*case)


PARTS = {of.__name__: of for of in (tests, verify, reproduce, rates, fleet, resnet18)}

if __name__ == "__main__":
    sys.exit(main())
