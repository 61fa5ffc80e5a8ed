"""Intervals over seeds: against scipy's own t interval, and against what an interval promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nanoprune.statistics import paired_difference, summary

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-9)


@given(VALUES)
def test_the_interval_is_students(values):
    S = summary(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (S["low"], S["high"]) == pytest.approx((low, high))
    assert S["mean"] == pytest.approx(np.mean(values))
    assert S["values"] == values


def test_one_seed_has_no_interval():
    assert summary([0.7]) == {"mean": 0.7, "low": None, "high": None, "values": [0.7]}


def test_pairing_removes_what_the_seeds_share():
    theirs = np.random.default_rng(0).uniform(0, 1, 8)
    S = paired_difference(theirs - 0.1, theirs)
    assert S["mean"] == pytest.approx(-0.1)
    assert S["high"] - S["low"] < 1e-9


def test_intervals_cover_as_often_as_they_say():
    draws = np.random.default_rng(1).normal(0.6, 0.1, (2000, 5))
    intervals = [summary(row) for row in draws]
    covered = np.mean([S["low"] <= 0.6 <= S["high"] for S in intervals])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)
