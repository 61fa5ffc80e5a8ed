"""Chapter 12: counting, choosing, and a probability in fractions."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from nanoprune.lab.exercises.compare import same
from nanoprune.lab.exercises.grading import Exercise


def balanced(answer: Callable) -> None:
    for hits, members, alarms, others in ((3, 4, 10, 100), (0, 200, 0, 1000), (5, 5, 0, 7)):
        right = [True] * hits + [False] * (members - hits), [False] * alarms + [True] * (others - alarms)
        expected = sum(sum(side) / len(side) for side in right) / 2
        same(answer(hits, members, alarms, others), expected, f"balanced({hits}, {members}, {alarms}, {others})")


def chosen_attack(answer: Callable) -> None:
    """Where the best known attack is not the best scored one, and where two are equally good on the known records."""
    for known, scored, expected in (
        ([0.6, 0.7, 0.5], [0.66, 0.58, 0.7], 0.58),
        ([0.5, 0.6, 0.6], [0.4, 0.51, 0.9], 0.51),
    ):
        found = answer(np.array(known), np.array(scored))
        same(found, expected, f"chosen_attack({known}, {scored})")


def comparisons(answer: Callable) -> None:
    """Powers of exact fractions."""
    for confidence, share in ((0.95, 0.5), (0.99, 0.05), (0.5, 0.5), (0.9, 0.1)):
        none, m = Fraction(str(confidence)), 1
        while 1 - none**m <= Fraction(str(share)):
            m += 1
        if abs(float(1 - none ** (m - 1) - Fraction(str(share)))) < 1e-12:
            continue  # on the border floating point may go either way
        same(answer(confidence, share), m, f"comparisons({confidence}, {share})")


EXERCISES = (
    Exercise("balanced", balanced),
    Exercise("chosen_attack", chosen_attack),
    Exercise("comparisons", comparisons),
)
