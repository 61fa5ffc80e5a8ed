"""Metrics against counting."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import trapezoid
from scipy.stats import mannwhitneyu
from scoring import rates, some_scores

from nanoprune.attack.metrics import auc, balanced_accuracy, needed_nonmembers, roc, tpr_at_fpr
from nanoprune.errors import ArgumentError

quick = settings(deadline=None, max_examples=100)


@quick
@given(some_scores(), some_scores())
def test_auc_counts_all_pairs(members, nonmembers):
    wins = sum(Fraction(int(a > b)) + Fraction(int(a == b), 2) for a in members for b in nonmembers)
    expected = float(wins / (len(members) * len(nonmembers)))
    np.testing.assert_allclose(auc(members, nonmembers), expected, rtol=1e-13, atol=1e-15)
    u = mannwhitneyu(members, nonmembers, method="exact").statistic
    np.testing.assert_allclose(auc(members, nonmembers), u / (len(members) * len(nonmembers)), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(auc(members, nonmembers) + auc(nonmembers, members), 1.0)


@quick
@given(some_scores(), some_scores())
def test_roc_has_a_point_for_each_distinct_score(members, nonmembers):
    fpr, tpr = roc(members, nonmembers)
    points = rates(members, nonmembers)
    assert list(fpr) == [float(false) for _, false, _ in points]  # the nearest floats, not just close
    assert list(tpr) == [float(true) for _, _, true in points]
    assert (fpr[0], tpr[0]) == (0, 0)
    assert (fpr[-1], tpr[-1]) == (1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    np.testing.assert_allclose(trapezoid(tpr, fpr), auc(members, nonmembers), rtol=1e-12, atol=1e-12)


@quick
@given(some_scores(), some_scores(most=60), st.integers(1, 60), st.data())
def test_tpr_at_fpr_is_the_best_of_all_thresholds(members, nonmembers, denominator, data):
    fpr = Fraction(data.draw(st.integers(1, denominator)), denominator)
    found = tpr_at_fpr(members, nonmembers, float(fpr))
    if len(nonmembers) * fpr < 1:
        assert found is None
    else:
        assert found == float(max(true for _, false, true in rates(members, nonmembers) if false <= fpr))


@pytest.mark.parametrize(("fpr", "count"), [(0.01, 100), (0.01, 300), (0.001, 1000), (0.07, 300)])
def test_a_false_positive_rate_that_is_just_reached_counts(fpr, count):
    """1 - 99/100 is 0.010000000000000009: the rates are counts over counts, or this fails."""
    allowed = round(fpr * count)
    nonmembers = np.arange(count, dtype=float)
    members = np.array([count - allowed, -1.0])  # as high as the last of the false positives allowed; below them all
    assert tpr_at_fpr(members, nonmembers, fpr) == 1 / 2
    assert tpr_at_fpr(members - 1, nonmembers, fpr) == 0


@quick
@given(st.integers(1, 2_000_000))
def test_one_false_positive_in_k_needs_k_nonmembers(k):
    """1 / (1 / k) is not k in floats for many k, such as 371,083: it must not be taken for more than k."""
    assert needed_nonmembers(1 / k) == k


@pytest.mark.parametrize("k", [49, 371_083, 372_137, 999_999])
def test_one_false_positive_in_k_needs_k_nonmembers_where_rounding_is_hard(k):
    assert needed_nonmembers(1 / k) == k


@pytest.mark.parametrize("fpr", [0.0, -0.1, 1.5, math.nan])
def test_an_invalid_rate_is_refused(fpr):
    with pytest.raises(ArgumentError, match=r"fpr must lie in \(0, 1\]"):
        tpr_at_fpr(np.ones(3), np.ones(3), fpr)


@pytest.mark.parametrize("metric", [auc, roc, balanced_accuracy])
def test_metrics_without_records_are_refused(metric):
    with pytest.raises(ArgumentError, match="scores must be of members and non-members, got 0 and 2"):
        metric(np.zeros(0, bool), np.ones(2, bool))
    with pytest.raises(ArgumentError, match="got 2 and 0"):
        metric(np.ones(2, bool), np.zeros(0, bool))


@quick
@given(hnp.arrays(bool, st.integers(1, 20)), hnp.arrays(bool, st.integers(1, 20)))
def test_balanced_accuracy_weighs_both_sides_equally(members, nonmembers):
    true, false = Fraction(sum(members.tolist()), len(members)), Fraction(sum(nonmembers.tolist()), len(nonmembers))
    np.testing.assert_allclose(balanced_accuracy(members, nonmembers), float((true + 1 - false) / 2), rtol=1e-14)
