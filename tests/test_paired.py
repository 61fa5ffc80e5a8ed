"""Paired differences of two attacks: against enumeration, pairs counted one by one, and simulated nulls."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nanoprune.attack.metrics import auc, balanced_accuracy, tpr_at_fpr
from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics import accuracy_difference, auc_difference, tpr_difference
from nanoprune.lab.statistics.paired import _combined

SLACK = 4  # standard errors of a simulated rate


def changes(N, up, down):
    """N decisions by two attacks: `up` are "member" by the second alone, `down` by the first alone."""
    first, second = np.zeros(N, bool), np.zeros(N, bool)
    second[:up] = True
    first[up : up + down] = True
    return first, second


def outcomes(N):
    return [(up, down) for up in range(N + 1) for down in range(N - up + 1)]


def probabilities(N, p, q):
    return np.array([stats.multinomial.pmf([u, d, N - u - d], N, [p, q, 1 - p - q]) for u, d in outcomes(N)])


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_no_interval_of_decisions_errs_more_than_alpha_over_all_outcomes(alpha):
    """Exactly: every outcome of six members and six others, for a grid of how often decisions change."""
    N, member = 6, np.arange(12) < 6
    found = np.empty((len(outcomes(N)),) * 2 + (2,))
    for (i, a), (j, b) in itertools.product(enumerate(outcomes(N)), repeat=2):
        said = [np.concatenate(of) for of in zip(changes(N, *a), changes(N, *b), strict=True)]
        entry = accuracy_difference(*said, member, alpha)
        assert entry["value"] == pytest.approx((a[0] - a[1] - b[0] + b[1]) / (2 * N))
        found[i, j] = entry["low"], entry["high"]
    rates = [(0.0, 0.0), (0.1, 0.1), (0.45, 0.45), (0.3, 0.0), (0.6, 0.2), (0.05, 0.9)]
    for (p, q), (r, s) in itertools.product(rates, repeat=2):
        weights = probabilities(N, p, q)[:, None] * probabilities(N, r, s)
        true = (p - q - r + s) / 2
        missed = (found[..., 0] > true + 1e-9) | (found[..., 1] < true - 1e-9)
        assert weights[missed].sum() <= alpha, (p, q, r, s)


@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_error_of_many_decisions_is_alpha_and_not_far_below(alpha):
    """Exactly, of forty members: at most alpha over the grid, and above a half of it where the attacks are equal."""
    N = 40
    found = []
    for up, down in outcomes(N):
        change = np.repeat([1, -1, 0], [up, down, N - up - down])
        entry = _combined([(change, 1.0)], alpha)
        found.append((entry["low"], entry["high"]))
    low, high = np.array(found).T
    errors = {}
    for p, q in [(0.02, 0.02), (0.1, 0.1), (0.3, 0.3), (0.45, 0.45), (0.2, 0.05), (0.5, 0.1), (0.05, 0.9)]:
        missed = (low > p - q + 1e-9) | (high < p - q - 1e-9)
        errors[p, q] = probabilities(N, p, q)[missed].sum()
    assert max(errors.values()) <= alpha
    assert errors[0.45, 0.45] > alpha / 2


def test_changes_all_one_way_tell_attacks_apart_as_a_sign_test_does():
    """The two-sided p-values of 5 and of 6 changes all one way are 1/16 and 1/32."""
    for count, told in ((5, False), (6, True)):
        entry = _combined([(np.repeat([1, 0], [count, 1000]), 1.0)], 0.05)
        assert (entry["low"] > 0) == told
        assert (stats.binomtest(count, count).pvalue < 0.05) == told


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5]))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_values_are_differences_and_the_other_way_round_the_sign_turns(seed, tied):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(100, 130, 2)
    member = rng.permutation(np.arange(n + m) < n)
    first, second = (np.round(rng.normal(size=n + m), 1 if tied else 9) + member for _ in range(2))
    for difference, of in (
        (auc_difference, lambda s: auc(s[member], s[~member])),
        (lambda a, b, k: tpr_difference(a, b, k, 0.05), lambda s: tpr_at_fpr(s[member], s[~member], 0.05)),
        (
            lambda a, b, k: accuracy_difference(a > 0.5, b > 0.5, k),
            lambda s: balanced_accuracy(s[member] > 0.5, s[~member] > 0.5),
        ),
    ):
        found, turned = difference(first, second, member), difference(second, first, member)
        assert found["value"] == pytest.approx(of(second) - of(first))
        assert found["low"] < found["value"] < found["high"]
        assert turned["low"] == pytest.approx(-found["high"])


def test_the_variance_of_an_auc_difference_is_that_of_delongs_covariances():
    """Every pair of a member and a non-member compared, one by one."""
    rng, n, m = np.random.default_rng(0), 300, 200
    member = np.arange(n + m) < n
    base = rng.normal(size=n + m)
    scores = [base + rng.normal(size=n + m) + shift * member for shift in (0.5, 1.0)]
    V10, V01 = [], []
    for of in scores:
        psi = np.array([[float(x > y) + 0.5 * (x == y) for y in of[n:]] for x in of[:n]])
        V10.append(psi.mean(axis=1))
        V01.append(psi.mean(axis=0))
    S = np.cov(V10) / n + np.cov(V01) / m
    half = stats.norm.isf(0.025) * math.sqrt(S[0, 0] + S[1, 1] - 2 * S[0, 1])
    found = auc_difference(*scores, member)
    assert found["value"] == pytest.approx(V10[1].mean() - V10[0].mean())
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.03)
    apart = math.sqrt(S[0, 0] + S[1, 1]) * stats.norm.isf(0.025)
    assert half < 0.85 * apart  # pairing is worth it


@pytest.mark.parametrize("p", [0.02, 0.08, 0.13])
def test_attacks_that_order_all_pairs_at_hand_alike_may_differ(p):
    """Exactly: the first attack is always right, the second puts a member below all others with probability p, so that
    the AUCs differ by p. Of 20 members it misses none with probability (1 - p)^20, which at p = 0.02 is 2 in 3."""
    N, alpha, missed = 20, 0.05, 0.0
    member, rng = np.arange(2 * N) < N, np.random.default_rng(4)
    first = rng.permutation(2 * N) + 100.0 * member
    for low in range(N + 1):
        second = rng.permutation(2 * N) + 100.0 * member
        second[:low] -= 1000
        found = auc_difference(first, second, member, alpha)
        assert found["value"] == pytest.approx(-low / N)
        if not found["low"] - 1e-9 <= -p <= found["high"] + 1e-9:
            missed += stats.binom.pmf(low, N, p)
    assert missed <= alpha


def draw(rng, n, m, shifts, common=0.7):
    member = np.arange(n + m) < n
    base = math.sqrt(common) * rng.normal(size=n + m)
    return [base + math.sqrt(1 - common) * rng.normal(size=n + m) + shift * member for shift in shifts], member


@pytest.mark.parametrize(("n", "m", "shift"), [(40, 30, 0.0), (200, 100, 1.5), (20, 200, 1.0)])
def test_attacks_that_are_equally_good_are_told_apart_no_more_often_than_alpha(n, m, shift):
    rng, draws, alpha, errors = np.random.default_rng(1), 400, 0.1, dict.fromkeys(("auc", "accuracy", "tpr"), 0)
    for _ in range(draws):
        scores, member = draw(rng, n, m, (shift, shift))
        found = {
            "auc": auc_difference(*scores, member, alpha),
            "accuracy": accuracy_difference(*(of > shift / 2 for of in scores), member, alpha),
            "tpr": tpr_difference(*scores, member, 0.05, alpha),
        }
        for kind, entry in found.items():
            errors[kind] += bool(entry["low"] > 0 or entry["high"] < 0)
    most = draws * alpha + SLACK * math.sqrt(draws * alpha * (1 - alpha))
    assert max(errors.values()) <= most, errors


def test_attacks_that_differ_are_told_apart():
    rng, told = np.random.default_rng(2), 0
    for _ in range(20):
        scores, member = draw(rng, 400, 400, (0.3, 1.2))
        found = [auc_difference(*scores, member), accuracy_difference(*(of > 0.5 for of in scores), member)]
        told += all(entry["low"] > 0 for entry in found)
        assert tpr_difference(*scores, member, 0.1)["value"] > 0
    assert told >= 19


def test_the_same_attack_does_not_differ_and_too_few_non_members_are_no_rate():
    rng = np.random.default_rng(3)
    scores, member = rng.normal(size=90), np.arange(90) < 40
    assert auc_difference(scores, scores, member) == {"value": 0.0, "low": 0.0, "high": 0.0}
    said = accuracy_difference(scores > 0, scores > 0, member)
    assert said["value"] == 0
    open_ = stats.chi2.ppf(0.975, 2) / 2  # Garwood's upper limit of no event
    assert said["high"] == pytest.approx(math.hypot(open_ / 80, open_ / 100))
    assert tpr_difference(scores, scores, member, 0.01) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda a, b, m: (a[:-1], b, m), "the same records"),
        (lambda a, b, m: (a, b, m | True), "members and non-members"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, named):
    scores, member = np.arange(9.0), np.arange(9) < 4
    for difference in (accuracy_difference, auc_difference):
        with pytest.raises(ArgumentError, match=named):
            difference(*change(scores, scores, member))
    with pytest.raises(ArgumentError, match="alpha"):
        auc_difference(scores, scores, member, 0.0)
