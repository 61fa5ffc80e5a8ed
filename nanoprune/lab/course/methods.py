"""The methods that chapters 8 and 12 compare, from the same dense networks, and differences with their intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t

from nanoprune.lab.course.digits import Classroom, accuracies
from nanoprune.nn import Network
from nanoprune.prune import ADMM, ADMMSettings, Budget, Mask, hard_prune
from nanoprune.schedule import Schedule
from nanoprune.train import train


def fit(room: Classroom, net: Network, epochs: int, purpose: int, lr: float = 0.05, **parts: Any) -> None:
    """Train `net` in place on the members. purpose: tells the random draws of one training from those of another."""
    plan = Schedule(epochs, batch=32, lr=lr)
    train(net, room.records, room.members, plan, room.generators(purpose), **parts)


def dense_path(room: Classroom, epochs: int = 50, widths: list[int] | None = None) -> list[Network]:
    """The dense networks after each epoch, the finished ones last. Each call of `train`, one an epoch here,
    begins with V = 0."""
    net, draws, path = room.network(widths), room.generators(1), []
    for _ in range(epochs):
        train(net, room.records, room.members, Schedule(1, batch=32, lr=0.05), draws)
        path.append(net.copy())
    return path


def same_schedule(room: Classroom, dense: Network) -> Network:
    """The epochs of pruning, with nothing pruned."""
    net = dense.copy()
    fit(room, net, 30, 2)
    fit(room, net, 10, 3, lr=0.01)
    return net


def with_admm(room: Classroom, dense: Network, keep: float, rho: float = 0.1) -> Network:
    """MIA-Pruning: ADMM, hard prune, retraining of the survivors."""
    net = dense.copy()
    budget = Budget(net, keep)
    fit(room, net, 30, 2, admm=ADMM(net, budget, ADMMSettings(rho=rho, iterations=10)))
    hard_prune(net, budget)
    fit(room, net, 10, 3, lr=0.01, mask=Mask(net))
    return net


def one_shot(room: Classroom, dense: Network, keep: float) -> Network:
    """The largest weights of the dense network, retrained for as many epochs."""
    net = dense.copy()
    hard_prune(net, Budget(net, keep))
    fit(room, net, 30, 2, mask=Mask(net))
    fit(room, net, 10, 3, lr=0.01, mask=Mask(net))
    return net


def early_stop(room: Classroom, path: list[Network], wanted: np.ndarray) -> Network:
    """In each replica the first network of a path whose accuracy on the reference records reaches `wanted` (R,), and
    the last one where none does."""
    reached = np.array([accuracies(room, net, room.reference) >= wanted for net in path])  # (epochs, R)
    reached[-1] = True
    net = path[-1].copy()
    for r, epoch in enumerate(reached.argmax(axis=0)):
        net.theta[r] = path[epoch].theta[r]
    return net


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds (R,) and half of its 95% interval, by Student's t; NaN where all seeds have the same value."""
    n = len(values)
    half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values)), float(half) if np.ptp(values) > 1e-12 else math.nan


def points(values: np.ndarray) -> str:
    """Mean and half of the interval, in points of a percent."""
    mean, half = (100 * x for x in interval(values))
    return f"{mean:z.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")  # z: no -0.0


def verdict(change: np.ndarray) -> str:
    """What paired changes (R,) of a leak say."""
    mean, half = interval(change)
    if math.isnan(half):
        return "the same in every seed: no interval"
    return "no difference detected" if abs(mean) <= half else "less leak" if mean < 0 else "more leak"
