"""Training of the small networks of attacks, by Adam for a fixed number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.backend import to_host
from nanoprune.errors import DivergenceError
from nanoprune.nn import Adam, Dense, Network, Passes, ReLU, Sequential
from nanoprune.records import Records, shuffled

Gradient = Callable[[Any, Any], tuple[Any, Any]]  # (outputs (R, 1, B), index (R, B)) -> loss (R,), its gradient


def small_network(inputs: int, hidden: tuple[int, ...], seeds: list[list[int]]) -> Network:
    """Dense layers with ReLU between them and one output, a replica for each seed."""
    widths = (inputs, *hidden)
    layers = [layer for a, b in zip(widths, hidden, strict=False) for layer in (Dense(a, b), ReLU())]
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
