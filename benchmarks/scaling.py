r"""Time against replicas, batch, width, records, classes and cores, beside what the machine's rates allow.

    python benchmarks/scaling.py                       every series, about eight minutes on two cores
    python benchmarks/scaling.py batch-lenet5 ...      these series again, the others are kept
    python benchmarks/scaling.py --draw                the plots of docs/benchmarks.md again, nothing is measured
    python benchmarks/scaling.py --quick --out F.json  two small sizes of each series: to see that it works

The result is benchmarks/scaling.json, written after each series: for each size and number of cores the median of the
times, their 10th and 90th percentile, and the limits below. Formulas of updates are NumPy alone, without Numba.

**Arithmetic.** A multiply-accumulate is 2 operations. Layer l with $m_l$ of them per sample does as many for Y, for dW
and for dX, but the layers that read the network's input need no dX:

$$F = 2 N R \left(3 \sum_l m_l - \sum_{l \in \text{first}} m_l\right)$$

for a step of R networks with N samples each; divided by the rate of large float32 products (sgemm) on as many cores it
is a time. Winograd's convolution needs less than this.

**Memory traffic.** A layer with $p_l$ parameters, $i_l$ inputs and $o_l$ outputs per sample, in float32, reads X and
its parameters and writes Y; backward it reads dY, X and its parameters and writes dX and the gradient. The optimiser
reads the gradient, and reads and writes theta and each of its moments, M of them (SGD 1, Adam 2):

$$B = 4 R \left(\sum_l (6 + 2 M) p_l - \sum_{l \in \text{first}} p_l + N \sum_l (3 i_l + 2 o_l)
      - N \sum_{l \in \text{first}} i_l\right)$$

Flatten is a view and moves nothing. What an implementation moves besides (lowered images, copies) is not counted. The
time is B divided by the rate of copies of arrays as large as those of the step, $4 r ((2 + M) p + N (i + \sum_l o_l))$
bytes for r networks trained together in one process. This is the cache-aware roofline (Ilic, Pratas & Sousa 2014,
doi:10.1109/L-CA.2013.6). It is an estimate: what one layer writes may still be in a faster cache when the next layer
reads it.

**An audit** trains two attack networks; its arithmetic is that of their batches, which are counted while it runs, and
of scoring each record once. Its traffic is that of the same batches, and the predictions read once. A quick audit has
no attack network. The limit of a point is the larger of the two times.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from measure import copy_rate, in_turn, machine, sgemm_rate

from nanoprune.attack.attack_network import attacker
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.structure import leaves_with_shapes, macs, macs_of_leaf
from nanoprune.nn import Branches, Flatten, Layer, Network, Sequential

RESULT = pathlib.Path(__file__).with_name("scaling.json")
DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
COPIED = (0.25, 1, 4, 16, 64)  # megabytes of each of the two arrays of a copy
BUDGET = 2.0  # seconds for each size and number of cores of a training series, about
SLOWER = 2.5  # times the limit: what a step is expected to take, for the number of rounds
MLP, LENET5 = ("mlp", (446,), 30, [512, 256, 128]), ("lenet-5", (28, 1, 28), 10, [20, 50, 500])
EPOCH = 400  # batches of an epoch of an audit's attack network, at most (lab/audit/prediction_attacks.py)


@dataclasses.dataclass(frozen=True)
class Work:
    """Floating-point operations and bytes moved, by the formulas above, and the bytes of one process's arrays."""

    flop: float
    bytes: float
    resident: float


@dataclasses.dataclass(frozen=True)
class Case:
    """A training step: of `replicas` networks, each with its own batch; `steps` of them are timed together."""

    network: tuple
    batch: int
    replicas: int = 1
    steps: int = 0  # 0: one network, whose batch is shared by all cores; else a fleet, trained for so many steps


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit of the predictions for `records` records of `classes` classes; quick: without the attack network."""

    records: int
    classes: int
    quick: bool = False


@dataclasses.dataclass(frozen=True)
class Series:
    title: str
    x: str
    cases: dict[float, Case | Audit]


def with_width(width: int) -> tuple:
    return ("mlp", (512,), 30, [width, width])


def fleet(network: tuple, most: int) -> dict[float, Case]:
    """Fleets of 1 to 64 networks, with fewer steps for larger ones."""
    return {R: Case(network, 64, R, max(2, min(40, most // R))) for R in (1, 2, 4, 8, 16, 32, 64)}


BATCHES = (16, 32, 64, 128, 256, 512)
SERIES = {
    "replicas-mlp": Series("step of a fleet, MLP 446-512-256-128-30, batch 64", "replicas", fleet(MLP, 480)),
    "replicas-lenet5": Series("step of a fleet, LeNet-5, batch 64", "replicas", fleet(LENET5, 40)),
    "batch-mlp": Series("step, MLP 446-512-256-128-30", "batch", {N: Case(MLP, N) for N in BATCHES}),
    "batch-lenet5": Series("step, LeNet-5", "batch", {N: Case(LENET5, N) for N in BATCHES}),
    "width-mlp": Series(
        "step, MLP 512-w-w-30, batch 64",
        "width w",
        {w: Case(with_width(w), 64) for w in (64, 128, 256, 512, 1024, 2048)},
    ),
    "width-resnet18": Series(
        "step, ResNet18, 16 images of 32 x 32",
        "width multiplier",
        {w: Case(("resnet18", (32, 3, 32), 10, w), 16) for w in (0.125, 0.25, 0.5, 1.0)},
    ),
    "audit-records": Series("audit, 10 classes", "records", {n: Audit(n, 10) for n in (1000, 4000, 16000)}),
    "audit-classes": Series("audit, 4,000 records", "classes", {c: Audit(4000, c) for c in (10, 100, 1000)}),
    "quick-audit-records": Series(
        "audit --quick, 10 classes", "records", {n: Audit(n, 10, True) for n in (1000, 10_000, 100_000)}
    ),
    "quick-audit-classes": Series(
        "audit --quick, 10,000 records", "classes", {c: Audit(10_000, c, True) for c in (10, 100, 1000)}
    ),
}


def first_layers(layer: Layer) -> list[Layer]:
    """The layers with parameters that read the network's input: nothing needs their dX."""
    if isinstance(layer, Branches):
        return [first for _, part in layer.branches for first in first_layers(part)]
    if isinstance(layer, Sequential):
        return next((found for part in layer.parts if (found := first_layers(part))), [])
    return [layer] if layer.parameters() and not layer.layers() else []


def training_work(net: Network, batch: int, replicas: int = 1, together: int = 1, moments: int = 1) -> Work:
    """The work of a step of `replicas` networks like `net`, `together` of them in one process, as in the docstring."""
    first = first_layers(net.body)
    counted, parameters, samples, outputs = 0, 0, 0, 0
    for layer, shape in leaves_with_shapes(net.body, net.input_shape):
        if isinstance(layer, Flatten):
            continue
        is_first = any(layer is other for other in first)
        p, i, o = sum(of.size for of in layer.parameters()), math.prod(shape), math.prod(layer.output_shape(shape))
        counted += (3 - is_first) * macs_of_leaf(layer, shape)
        parameters += (6 + 2 * moments - is_first) * p
        samples += (3 - is_first) * i + 2 * o
        outputs += o
    held = (2 + moments) * net.size + batch * (math.prod(net.input_shape) + outputs)
    return Work(
        2.0 * batch * replicas * counted, 4.0 * replicas * (parameters + batch * samples), 4.0 * together * held
    )


def case_work(case: Case, threads: int) -> Work:
    """The work of a case; the processes that share a batch have a part of its samples each."""
    from nanoprune.lab.engine.shards import shard_size

    net = build(describe(*case.network), case.replicas)
    if case.steps:
        return training_work(net, case.batch, case.replicas, shard_size(net, case.batch, threads))
    held = training_work(net, -(-case.batch // threads)).resident
    return dataclasses.replace(training_work(net, case.batch), resident=held)


def audit_work(case: Audit, batches: int) -> Work:
    """The work of an audit that trained for so many batches in both attack networks."""
    predictions = 4.0 * case.records * case.classes
    if case.quick:
        return Work(0.0, predictions, predictions)
    net, known = attacker(case.classes), case.records // 2
    trained = known - 2 * min(known // 8, 2048)  # a quarter of the known members and non-members ends the training
    most = max(64, -(-known // EPOCH))
    step = training_work(net, round(trained / -(-trained // most)), moments=2)  # the mean of an epoch's batches
    scored = 2.0 * case.records * macs(net.body, net.input_shape)
    return Work(batches * step.flop + scored, batches * step.bytes + predictions, step.resident)


def measured_rates(threads: int, rounds: int) -> dict[str, Any]:
    """FLOP/s of large products; [bytes of both arrays, bytes read and written per second] of copies of each size."""
    copies = [[2e6 * size, copy_rate(threads, size, rounds)] for size in COPIED]
    return {"sgemm": sgemm_rate(threads, rounds=rounds), "copy": copies}


def limits(work: Work, rates: dict[str, Any]) -> dict[str, float]:
    """Seconds of the arithmetic and of the memory traffic at the machine's rates, that of copies of this size."""
    copy = next((rate for size, rate in reversed(rates["copy"]) if size <= work.resident), rates["copy"][0][1])
    return {"arithmetic": work.flop / rates["sgemm"], "traffic": work.bytes / copy}


def one_network(case: Case, threads: int) -> Callable[[], Any]:
    """A step of one network whose batch is shared by `threads` processes."""
    from training import training_step  # here, since it turns compiled formulas off in the whole process

    return training_step(*case.network, case.batch, threads)


def whole_fleet(case: Case, threads: int) -> Callable[[], Any]:
    """`case.steps` steps of all networks, as `reproduce` and `attack` train them: shards over `threads` processes."""
    import threadpoolctl
    import training  # noqa: F401  turns compiled formulas off

    from nanoprune.lab.engine.shards import shard_size, train_shards
    from nanoprune.records import Records
    from nanoprune.schedule import Schedule
    from nanoprune.train import train

    threadpoolctl.threadpool_limits(1, user_api="blas")
    _, shape, classes, _ = case.network
    members, rng = case.batch * case.steps, np.random.default_rng(0)
    x, y = rng.standard_normal((2 * members, *shape)).astype(np.float32), rng.integers(0, classes, 2 * members)
    data, generators = Records(x, y), [np.random.default_rng(r) for r in range(case.replicas)]
    of = np.stack([generator.permutation(2 * members)[:members] for generator in generators])  # (R, M)
    net = build(describe(*case.network), case.replicas).initialise(generators)
    plan = Schedule(1, case.batch, lr=1e-4)

    def epoch(rows: slice, advance: Callable[[int], None]) -> None:
        train(net.shard(rows), data, of[rows], plan, generators[rows])

    return lambda: train_shards(epoch, case.replicas, threads, shard_size(net, case.batch, threads))


def timed_audit(case: Audit, threads: int) -> tuple[float, int]:
    """Seconds of one audit, without reading and writing, and the batches of its attack networks."""
    from audit_scale import predictions

    from nanoprune.lab.audit import read_predictions
    from nanoprune.lab.audit.audit import audit_predictions

    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/scores.npz", **predictions(case.records, case.classes))
        target, _ = read_predictions(f"{folder}/scores.npz")
    stages: list[list[int]] = []
    began = time.perf_counter()
    audit_predictions(
        target,
        threads=threads,
        quick=case.quick,
        start=lambda stage, total: stages.append([]),
        advance=lambda steps: stages[-1].append(steps),
    )
    return time.perf_counter() - began, 0 if case.quick else sum(stages[-1])


def points(series: Series, rates: dict[int, dict[str, Any]], quick: bool) -> Iterator[dict[str, Any]]:
    """The measured points of a series, each size with every number of cores, interleaved."""
    for x, case in list(series.cases.items())[: 2 if quick else None]:
        measure = audit_points if isinstance(case, Audit) else training_points
        for threads, work, seconds in measure(case, list(rates), rates[min(rates)], quick):
            median, low, high = seconds
            yield {
                "x": x,
                "threads": threads,
                "seconds": median,
                "spread": [low, high],
                **dataclasses.asdict(work),
                **limits(work, rates[threads]),
            }


def training_points(case: Case, threads: list[int], rates: dict[str, Any], quick: bool) -> Iterator[tuple]:
    factory, together = (whole_fleet, case.steps) if case.steps else (one_network, 1)
    works = [case_work(case, count) for count in threads]
    expected = SLOWER * together * max(limits(works[0], rates).values())
    steps = 1 if quick or expected > 0.05 else 5
    rounds = 2 if quick else int(np.clip(BUDGET / (expected * (steps + 1)), 5, 20))
    found = in_turn(*((factory, case, count) for count in threads), rounds=rounds, steps=steps, warmup=1)
    for count, work, times in zip(threads, works, found, strict=True):
        yield count, work, dataclasses.astuple(times.over(together))


def audit_points(case: Audit, threads: list[int], rates: dict[str, Any], quick: bool) -> Iterator[tuple]:
    rounds = 1 if quick else 5 if case.quick else 2
    threads = threads[:1] if case.quick else threads  # what it does is done by one core
    seconds: dict[int, list[float]] = {count: [] for count in threads}
    batches = 0
    for _ in range(rounds):
        for count, collected in seconds.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                taken, batches = pool.submit(timed_audit, case, count).result()
            collected.append(taken)
    for count, collected in seconds.items():
        yield count, audit_work(case, batches), np.percentile(collected, [50, 10, 90]).tolist()


def run(chosen: list[str], threads: list[int], quick: bool, out: pathlib.Path) -> None:
    """Measure the chosen series, and put each into the file as it is done."""
    rates = {count: measured_rates(count, 2 if quick else 20) for count in threads}
    for name in chosen:
        series, began = SERIES[name], time.perf_counter()
        found = []
        for point in points(series, rates, quick):
            found.append(point)
            limit = max(point["arithmetic"], point["traffic"])
            print(
                f"{name} {series.x} {point['x']:g}, cores {point['threads']}: {1e3 * point['seconds']:.3g} ms, "
                f"{limit / point['seconds']:.0%} of the limit",
                flush=True,
            )
        about = {"name": name, "title": series.title, "x": series.x, "machine": machine("numpy"), "rates": rates}
        keep(out, about | {"points": found})
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


def keep(out: pathlib.Path, series: dict[str, Any]) -> None:
    """Put a series into the file, in place of an older one of its name."""
    kept = {of["name"]: of for of in json.loads(out.read_text())["series"]} if out.exists() else {}
    kept[series["name"]] = series
    partial = out.with_suffix(".part")
    partial.write_text(json.dumps({"series": [kept[name] for name in SERIES if name in kept]}, indent=1) + "\n")
    partial.replace(out)


def numbers(text: str) -> list[int]:
    """1,2 -> [1, 2]; for argparse, which names the option in the error."""
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"must be numbers of at least 1 with commas between them, got {text!r}")
    return found


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Time against size and cores, beside the machine's limits.")
    parser.add_argument("series", nargs="*", help=f"of {', '.join(SERIES)}; all by default")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="numbers of cores [default: 1,2]")
    parser.add_argument("--quick", action="store_true", help="two sizes of each series; needs --out")
    parser.add_argument("--out", type=pathlib.Path, help=f"[default: {RESULT.name}, beside this program]")
    parser.add_argument("--draw", action="store_true", help="draw the plots from the file, and measure nothing")
    parser.add_argument("--docs", type=pathlib.Path, default=DOCS, help="the folder for the plots [default: docs/]")
    given = parser.parse_args(words)
    if unknown := [name for name in given.series if name not in SERIES]:
        parser.error(f"there is no series {unknown[0]!r}; there are {', '.join(SERIES)}")
    if given.quick and not given.out:
        parser.error("--quick measures little: give --out FILE, so that it does not replace what was measured")
    out = given.out or RESULT
    if not given.draw:
        run(given.series or list(SERIES), given.threads, given.quick, out)
        return
    if not out.exists():
        parser.error(f"{out} does not exist: measure first, without --draw")
    from scaling_plots import draw

    for path in draw(json.loads(out.read_text())["series"], given.docs):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
