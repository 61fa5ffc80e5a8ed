"""Accuracy against leakage over a sweep of each method's hyperparameter; comparison of methods at equal accuracy.

A family is a method at several settings of one hyperparameter: for each setting and seed a test accuracy and the
accuracy of the strongest attack. Its front is the set of settings that no other setting of the family beats in both
means. Between neighbouring points of the front the leakage is interpolated linearly in the accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from nanoprune.errors import ArgumentError

GRID = 51  # accuracies, evenly spaced, at which two fronts are compared
DRAWS = 1000  # of the bootstrap
NARROWEST = 0.005  # accuracies in common, as a fraction, below which two families are not compared
CONFIDENCE = 0.95
ROUNDING = 1e-12  # half an interval that is less has no width


@dataclasses.dataclass(frozen=True)
class Family:
    """A method at S settings of one hyperparameter; test and attack (S, seeds), accuracies as fractions."""

    name: str
    hyperparameter: str
    settings: tuple[str, ...]
    test: np.ndarray
    attack: np.ndarray

    def __post_init__(self) -> None:
        if self.test.shape != self.attack.shape or len(self.test) != len(self.settings) or not len(self.settings):
            raise ArgumentError(
                f"family {self.name} must have a row of test and attack accuracies for each setting, got shapes "
                f"{self.test.shape} and {self.attack.shape} for {len(self.settings)}"
            )


def front(test: np.ndarray, attack: np.ndarray) -> np.ndarray:
    """The positions of the points that no other point beats: test, attack (S,); sorted by accuracy, ascending.

    A point is beaten by one that is at least as accurate and leaks at most as much, and is better in one of the two; of
    equal points the first one counts.
    """
    order = np.lexsort((np.arange(len(test)), attack, -test))  # most accurate first, then least leakage
    kept, least = [], np.inf
    for i in order:
        if attack[i] < least:
            kept.append(i)
            least = attack[i]
    return np.array(kept[::-1])


def leakage_at(levels: np.ndarray, test: np.ndarray, attack: np.ndarray) -> np.ndarray:
    """The leakage of the front of the points test, attack (S,) at the accuracies `levels`, interpolated.

    Outside of the front's accuracies it is that of the nearest end.
    """
    of = front(test, attack)
    return np.interp(levels, test[of], attack[of])


def common_range(one: Family, other: Family) -> tuple[float, float] | None:
    """The accuracies that both fronts reach, from least to largest; None where they are fewer than NARROWEST."""
    ends = []
    for family in (one, other):
        test = family.test.mean(axis=1)
        of = front(test, family.attack.mean(axis=1))
        ends.append((test[of[0]], test[of[-1]]))
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    return (float(low), float(high)) if high - low >= NARROWEST else None


def difference(one: Family, other: Family, seed: int = 0) -> dict[str, Any] | None:
    """How much more `one` leaks than `other` at equal accuracy; None where no accuracies are in common.

    {"one", "other", "low", "high": the accuracies in common, "mean": D, "at": [{"accuracy"} | D at both ends and in the
    middle]}, D = {"value", "low", "high"}. "mean" is the mean over the accuracies in common.

    The interval is value +- t s: s is the bootstrap standard error over seeds, drawn jointly for both families, times
    sqrt(n / (n - 1)), and t Student's quantile with n - 1 degrees of freedom. For a mean over seeds that is exactly
    Student's interval; a percentile interval of five seeds would be far too short. None and None with one seed, and
    where all draws are equal, as all seeds then are.
    """
    if one.test.shape[1] != other.test.shape[1]:
        raise ArgumentError(
            f"families must have the same seeds, got {one.test.shape[1]} of {one.name} and {other.test.shape[1]} of "
            f"{other.name}"
        )
    ends = common_range(one, other)
    if ends is None:
        return None
    levels, n = np.linspace(*ends, GRID), one.test.shape[1]

    def gap(seeds: np.ndarray) -> np.ndarray:
        """The difference at each level, and its mean, from the seeds at these positions; (GRID + 1,)."""
        curves = [
            leakage_at(levels, of.test[:, seeds].mean(axis=1), of.attack[:, seeds].mean(axis=1)) for of in (one, other)
        ]
        found = curves[0] - curves[1]
        return np.append(found, found.mean())

    value, half = gap(np.arange(n)), np.zeros(GRID + 1)
    if n > 1:
        rng = np.random.default_rng(seed)
        draws = np.stack([gap(rng.integers(0, n, n)) for _ in range(DRAWS)])  # (DRAWS, GRID + 1)
        error = draws.std(axis=0, ddof=1) * np.sqrt(n / (n - 1))
        half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error

    def entry(i: int) -> dict[str, float | None]:
        of, distance = float(value[i]), float(half[i])
        if distance <= ROUNDING:
            return {"value": of, "low": None, "high": None}
        return {"value": of, "low": of - distance, "high": of + distance}

    at = [{"accuracy": float(levels[i])} | entry(i) for i in (0, GRID // 2, GRID - 1)]
    return {"one": one.name, "other": other.name, "low": ends[0], "high": ends[1], "mean": entry(GRID), "at": at}


def differences(families: Sequence[Family]) -> list[dict[str, Any]]:
    """`difference` of every pair of families, in order; {"one", "other", "mean": None} where none can be given."""
    pairs = [(one, other) for i, one in enumerate(families) for other in families[i + 1 :]]
    return [
        difference(one, other) or {"one": one.name, "other": other.name, "mean": None, "at": []} for one, other in pairs
    ]
