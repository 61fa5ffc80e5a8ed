"""Chapter 4: rules by enumeration, pairs by loops, and the total variation by adding up densities."""

from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import same, untouched
from nanoprune.lab.exercises.grading import Exercise


def tied(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A few scores with many ties."""
    rng = np.random.default_rng(seed)
    return rng.integers(2, 8, 7) / 2, rng.integers(0, 7, 5) / 2


def ks_accuracy(answer: Callable) -> None:
    """Every subset of the distinct scores that is "from t on", counted; and members that score lower than others."""
    for seed in range(5):
        members, others = tied(seed)
        if seed == 4:
            members, others = np.array([0.0, 1.0]), np.array([2.0, 3.0, 4.0])
        levels = sorted({*members, *others})
        right = []
        for first in range(len(levels) + 1):
            said = set(levels[first:])
            hits, alarms = sum(s in said for s in members), sum(s in said for s in others)
            right.append((hits / len(members) + 1 - alarms / len(others)) / 2)
        same(untouched(answer, members, others), max(right), f"ks_accuracy({list(members)}, {list(others)})")


def area(answer: Callable) -> None:
    for seed in range(5):
        members, others = tied(seed)
        wins = sum((a > b) + (a == b) / 2 for a in members for b in others)
        same(untouched(answer, members, others), wins / 35, f"area({list(members)}, {list(others)})")


def best_rule(answer: Callable) -> None:
    """(1 + TV) / 2, with the total variation as a sum over a fine grid."""
    s = np.linspace(-20, 20, 400_001)
    for mu in (0.0, 0.5, 2.0):
        f_in, f_out = (np.exp(-((s - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (0.0, -mu))
        variation = 0.5 * np.abs(f_in - f_out).sum() * (s[1] - s[0])
        same(answer(mu), (1 + variation) / 2, f"best_rule({mu:g})", 1e-6)


EXERCISES = (Exercise("ks_accuracy", ks_accuracy), Exercise("area", area), Exercise("best_rule", best_rule))
