"""Scores with and without ties, and their rates by counting: oracles for metrics and thresholds."""

import math
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

few_values = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, 2.5])


def some_scores(least: int = 1, most: int = 12) -> st.SearchStrategy:
    """Scores with many ties, or with hardly any."""
    sizes = st.integers(least, most)
    return st.one_of(
        hnp.arrays("float64", sizes, elements=few_values), hnp.arrays("float64", sizes, elements=st.floats(-50, 50))
    )


def rates(members, nonmembers):
    """(FPR, TPR) of "score >= t", exactly, for t from infinity down through all distinct scores."""
    thresholds = [math.inf, *sorted({*members.tolist(), *nonmembers.tolist()}, reverse=True)]
    return [
        (t, *(Fraction(sum(bool(v >= t) for v in scores), len(scores)) for scores in (nonmembers, members)))
        for t in thresholds
    ]
