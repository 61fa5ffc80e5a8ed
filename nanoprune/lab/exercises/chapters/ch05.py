"""Chapter 5: the randomised attack by its threshold, the posterior by its definition, a leak by trying every rule."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import Wrong, parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def yeom_advantage(answer: Callable) -> None:
    """The mean over uniform thresholds of the advantage, interval by interval."""
    rng = np.random.default_rng(1)
    for B in (1.0, 5.0):
        inside, outside = B * rng.random(4) ** 2, B * rng.random(6)
        levels = np.sort(np.concatenate([[0, B], inside, outside]))
        total = 0.0
        for low, high in itertools.pairwise(levels):
            total += ((inside <= low).mean() - (outside <= low).mean()) * (high - low)
        same(untouched(lambda a, b, B=B: answer(a, b, B), inside, outside), total / B, f"the advantage with B = {B:g}")


def gibbs_log_odds(answer: Callable) -> None:
    """Both posteriors from exp(-sum of losses / T), normalised by adding up a fine grid."""
    grid = np.linspace(-30, 30, 600_001)
    for others, z, T in (([0.2, -0.4, 1.0], 0.8, 0.5), ([0.0], -1.0, 2.0)):
        others = np.array(others)

        def log_density(theta, records, T=T):
            def energy(t):
                return sum((t - r) ** 2 / 2 for r in records) / T

            return -energy(theta) - math.log(np.exp(-energy(grid)).sum() * (grid[1] - grid[0]))

        for theta in (-0.3, 0.9):
            expected = log_density(theta, [*others, z]) - log_density(theta, others)
            found = untouched(lambda o, a=theta, z=z, T=T: answer(a, o, z, T), others)
            same(found, expected, f"the log odds at theta = {theta:g}, z = {z:g}, T = {T:g}", 1e-8)


def leak_without_gap(answer: Callable) -> None:
    found = parts(answer(), "losses of members", "losses of others")
    inside, outside = (np.asarray(side, np.float64) for side in found)
    if inside.shape != (4,) or outside.shape != (4,):
        raise Wrong(f"the arrays have the shapes {inside.shape} and {outside.shape}, expected (4,) and (4,)")
    if not (np.isfinite(inside).all() and np.isfinite(outside).all() and min(inside.min(), outside.min()) >= 0):
        raise Wrong("losses must be finite and not negative")
    if abs(inside.mean() - outside.mean()) > 1e-12:
        raise Wrong(f"the means are {inside.mean():g} and {outside.mean():g}, expected equal ones")
    both = np.concatenate([inside, outside])
    best = max(abs((inside <= t).mean() - (outside <= t).mean()) for t in both)
    if best < 0.5:
        raise Wrong(f"the best rule has an advantage of {best:g}, expected at least 0.5")


EXERCISES = (
    Exercise("yeom_advantage", yeom_advantage),
    Exercise("gibbs_log_odds", gibbs_log_odds),
    Exercise("leak_without_gap", leak_without_gap),
)
