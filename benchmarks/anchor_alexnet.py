"""Privacy Meter's published case, by our layers and attacks: python benchmarks/anchor_alexnet.py [options]

AlexNet for CIFAR-10 with 2,500 members, Experimental Setup I of Ye et al. 2022 (arXiv 2111.09679): 75 epochs of Adam at
1e-3 in batches of 16, no weight decay, no augmentation. Their Table 4, as Privacy Meter's `validation/README.md` and
`tests/end_to_end_tests/README.md` of 2023 quote it: training accuracy 96.2%, test accuracy 40.9%, AUC of the population
attack 0.857 +- 0.023, of the reference attack 0.874 +- 0.018 (Privacy Meter itself: 0.992, 0.432, 0.870, 0.879). The
network, its dropout and the initial distribution (PyTorch's) are those of its `basic/models.py`; the splits are those
of `validation/cifar10/config_population_setup1.yaml`: 2,500 members, 2,500 non-members, and a population of 4,000,
disjoint. The training loop is written here, since recipes have SGD alone.

--targets T      targets with splits of their own, trained as one fleet (default 1)
--references K   models for the reference attack, each trained on 2,500 of the records that no target's split has
                 (default 0: without the attack; theirs has 300)
--epochs E       (default 75; what is published holds for 75)
--data-dir DIR   the folder above cifar10/
--seed S         (default 0)
--device gpu     with the extra cuda12 or cuda13

Prints accuracies and AUC (mean over targets), and beside each AUC whether it lies within twice the published spread.
Exit status 1 where one does not. One target takes about half an hour on one core. A copy of the images that is not the
official one is named: its pixels differ.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

import numpy as np

from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow.lira import margin
from nanoprune.attack.shadow.population import population_attack
from nanoprune.backend import to_device, to_host, use_device
from nanoprune.errors import NanopruneError
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.kernels import convolution
from nanoprune.lab.layers import Dropout, Standardise
from nanoprune.nn import (
    Adam,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Network,
    Passes,
    ReLU,
    Sequential,
    Workspace,
    cross_entropy,
)
from nanoprune.nn.sequential import leaves
from nanoprune.records import Records, predict, shuffled

MEMBERS, NONMEMBERS, POPULATION = 2500, 2500, 4000
EPOCHS, BATCH, RATE = 75, 16, 1e-3
PUBLISHED = {"population attack": (0.857, 0.023), "reference attack": (0.874, 0.018)}  # AUC and its spread


def alexnet(classes: int = 10, hidden: int = 4096) -> Sequential:
    """Five convolutions of 3 x 3 and three dense layers, for images (32, 3, 32); 23,272,266 parameters by default."""
    half = [0.5] * 3
    layers: list[Layer] = [Standardise(half, half), Conv2D(3, 64, 3, stride=2, padding=1), ReLU(), MaxPool(2)]
    layers += [convolution(64, 192, 3, padding=1), ReLU(), MaxPool(2)]
    layers += [convolution(192, 384, 3, padding=1), ReLU(), convolution(384, 256, 3, padding=1), ReLU()]
    layers += [convolution(256, 256, 3, padding=1), ReLU(), MaxPool(2), Flatten(), Dropout(0.5)]
    layers += [Dense(256 * 2 * 2, hidden), ReLU(), Dropout(0.5), Dense(hidden, hidden), ReLU(), Dense(hidden, classes)]
    return Sequential(*layers)


def initialise(net: Network, generators: list[np.random.Generator]) -> Network:
    """Weights and biases uniform in +- 1/sqrt(inputs of a unit), PyTorch's default for these layers. Returns `net`."""
    for r, generator in enumerate(generators):
        for layer in leaves(net.body):
            for p in layer.parameters():
                bound = layer.parameters()[0].shape[-1] ** -0.5
                p.value[r] = to_device(generator.uniform(-bound, bound, p.shape).astype(p.value.dtype))
    return net


def train(net: Network, records: Records, members: np.ndarray, epochs: int, seed: int) -> None:
    """`net` in place on its members (R, M): Adam at RATE in batches of BATCH, with dropout."""
    generators = [np.random.default_rng([seed, r, 1]) for r in range(net.replicas)]
    adam = Adam()

    def objective(net: Network, ws: Workspace, index: Any, count: int) -> Any:
        X, y = records.batch(index, ws)
        loss, dlogits = cross_entropy(net.forward(X, ws), y, count)
        net.backward(dlogits, ws)
        return loss

    with Passes(net, generators) as run:
        for epoch in range(epochs):
            began, losses = time.perf_counter(), []
            for index in shuffled(members, BATCH, generators):
                losses.append(run.run(objective, index))
                adam.step(net, RATE)
            loss = float(np.mean([to_host(of).mean() for of in losses]))
            seconds = time.perf_counter() - began
            print(f"epoch {epoch + 1:2} of {epochs}: loss {loss:.4f}, {seconds:.0f} s", file=sys.stderr, flush=True)


def splits(records: int, targets: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each target its members, non-members and population, one after the other (T, 9000), and the records of none
    (m,): with many targets their splits share records, so that enough are left."""
    rng = np.random.default_rng([seed, 2])
    size = MEMBERS + NONMEMBERS + POPULATION
    pool = rng.permutation(records)[: max(size, records // 2)]
    of = np.stack([rng.permutation(pool)[:size] for _ in range(targets)])
    return of, np.setdiff1d(np.arange(records), pool)


def trained(dataset: Dataset, members: np.ndarray, epochs: int, seed: int, hidden: int = 4096) -> Network:
    """A fleet of AlexNets, one for each row of members (R, M)."""
    net = Network(alexnet(dataset.classes, hidden), dataset.x.shape[1:], len(members))
    initialise(net, [np.random.default_rng([seed, r, 0]) for r in range(len(members))])
    train(net, Records(dataset.x, dataset.y), members, epochs, seed)
    return net


def anchor(
    dataset: Dataset, targets: int = 1, references: int = 0, epochs: int = EPOCHS, seed: int = 0, hidden: int = 4096
) -> dict[str, np.ndarray]:
    """Accuracies and AUC of each target, (T,), by name."""
    of, rest = splits(len(dataset.y), targets, seed)
    records = Records(dataset.x, dataset.y)
    members, others = of[:, :MEMBERS], of[:, MEMBERS : MEMBERS + NONMEMBERS]
    net = trained(dataset, members, epochs, seed, hidden)
    logits = predict(net, records, of)  # (T, 9000, classes)
    right = logits.argmax(axis=2) == dataset.y[of]
    phi = np.stack([margin(z, dataset.y[row]) for z, row in zip(logits, of, strict=True)])  # (T, 9000)
    scored, population = phi[:, : MEMBERS + NONMEMBERS], phi[:, MEMBERS + NONMEMBERS :]
    found = {
        "training accuracy": right[:, :MEMBERS].mean(axis=1),
        "test accuracy": right[:, MEMBERS : MEMBERS + NONMEMBERS].mean(axis=1),
        "population attack": areas(
            np.stack([population_attack(*pair) for pair in zip(scored, population, strict=True)])
        ),
    }
    if references:
        rng = np.random.default_rng([seed, 3])
        known = np.stack([rng.permutation(rest)[:MEMBERS] for _ in range(references)])
        net = trained(dataset, known, epochs, seed + 1, hidden)
        rows = np.concatenate([members, others], axis=1)  # (T, 5000)
        phis = [
            [margin(z, dataset.y[row]) for z in predict(net, records, np.tile(row, (references, 1)))] for row in rows
        ]
        found["reference attack"] = areas(reference_attack(scored, np.array(phis)))
    return found


def reference_attack(target: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Attack R of Ye et al.: the share of reference models, all trained without the record, whose loss on it is larger
    than the target's. phi (T, n) of targets and (T, K, n) of the reference models; where they are equal, a half."""
    of = target[:, None]
    return ((references < of) + 0.5 * (references == of)).mean(axis=1)


def areas(scores: np.ndarray) -> np.ndarray:
    """AUC of each target, (T,), of scores (T, n), the members first."""
    return np.array([auc(row[:MEMBERS], row[MEMBERS:]) for row in scores])


def main() -> None:
    """Print what was found beside what was published."""
    parser = argparse.ArgumentParser(description="Privacy Meter's published case")
    for name, default in (("--targets", 1), ("--references", 0), ("--epochs", EPOCHS), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    try:
        use_device(options.device)
        dataset = load("cifar10", options.data_dir)
    except NanopruneError as error:
        parser.error(str(error))
    print(f"{dataset.title}; {options.targets} targets, {options.references} reference models, {options.epochs} epochs")
    found, failed = anchor(dataset, options.targets, options.references, options.epochs, options.seed), False
    for name, values in found.items():
        spread = f" +- {values.std(ddof=1):.3f}" if len(values) > 1 else ""
        print(f"{name:18} {values.mean():.3f}{spread}", end="")
        if name in PUBLISHED:
            published, deviation = PUBLISHED[name]
            holds = abs(values.mean() - published) <= 2 * deviation
            failed |= not holds
            print(f"   published {published} +- {deviation}: {'holds' if holds else 'does not hold'}", end="")
        print()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
