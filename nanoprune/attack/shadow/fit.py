"""Training of the small networks of attacks, by Adam for a fixed number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nanoprune.attack.network import balanced
from nanoprune.backend import to_host
from nanoprune.errors import DivergenceError
from nanoprune.nn import Adam, Dense, Network, Passes, ReLU, Sequential, log_loss
from nanoprune.records import Records, predict, shuffled

Gradient = Callable[[Any, Any], tuple[Any, Any]]  # (outputs (R, 1, B), index (R, B)) -> loss (R,), its gradient


def small_network(inputs: int, hidden: tuple[int, ...], seeds: list[list[int]]) -> Network:
    """Dense layers with ReLU between them and one output, a replica for each seed."""
    widths = (inputs, *hidden)
    layers = [layer for a, b in pairwise(widths) for layer in (Dense(a, b), ReLU())]
    net = Network(Sequential(*layers, Dense(widths[-1], 1)), (inputs,), len(seeds))
    return net.initialise([np.random.default_rng(seed) for seed in seeds])


def fit(
    net: Network, records: Records, loss: Gradient, rows: np.ndarray, seed: int, batch: int, steps: int, rate: float
) -> None:
    """Train every replica on its rows (R, M) of the records, in the same order.

    The steps are rounded up to whole epochs; the last quarter is trained at a tenth of the rate. Raises DivergenceError
    where a loss is not finite.
    """
    generators = [np.random.default_rng([seed, 4]) for _ in rows]
    epochs, adam = math.ceil(steps / math.ceil(rows.shape[1] / batch)), Adam()

    def objective(net: Network, ws: Any, index: Any, count: int) -> Any:
        value, gradient = loss(net.forward(records.batch(index, ws)[0], ws), index)
        net.backward(gradient, ws)
        return value

    with Passes(net) as run:
        for epoch in range(epochs):
            for index in shuffled(rows, batch, generators):
                value = run.run(objective, index)
                adam.step(net, rate if 4 * epoch < 3 * epochs else rate / 10)
    if not np.isfinite(to_host(value)).all():
        raise DivergenceError("a network of an attack: its loss is not finite")


@dataclass(frozen=True, eq=False)
class MemberNetwork:
    """A network h that predicts membership from features (n, ...), standardised by their mean and std (...)."""

    h: Network
    mean: np.ndarray
    std: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits of membership (n,), float64, of features (n, ...)."""
        records = self.records(features, np.zeros(len(features)))
        return predict(self.h, records, np.arange(len(features))[None])[0, :, 0].astype(np.float64)

    def records(self, features: np.ndarray, member: np.ndarray) -> Records:
        """Standardised features (n, ...), with member (n,) as the labels."""
        return Records(((features - self.mean) / self.std).astype(np.float32), member.astype(np.float32))


def fit_member_network(
    features: np.ndarray,
    member: np.ndarray,
    net: Network,
    batch: int,
    steps: int,
    rate: float,
    most: int,
    seed: int,
) -> MemberNetwork:
    """Train net on features (n, ...) and member (n,) bool, of which `most` at most are drawn; both sides weigh the
    same."""
    drawn = np.random.default_rng([seed, 1]).permutation(len(features))[:most]
    features, member = features[drawn], member[drawn]
    of = MemberNetwork(net, features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9))
    records, rows = of.records(features, member), balanced(np.arange(len(member)), member)[None]  # (1, M)

    def loss(z: Any, index: Any) -> tuple[Any, Any]:
        return log_loss(z, records.y[index][:, None])

    fit(net, records, loss, rows, seed, batch, steps, rate)
    return of
