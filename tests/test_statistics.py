"""Intervals, tests and bounds: against scipy, counting and formulas, and against their nominal error rates."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from counting import delong, epsilon_bound
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics import (
    auc_interval,
    balanced_accuracy_interval,
    clopper_pearson,
    epsilon_lower_bound,
    epsilon_of_runs,
    gaussian_lower_bound,
    label_shift,
    paired_difference,
    positive_share,
    shift_test,
    summary,
)
from nanoprune.lab.statistics.delong import placements
from nanoprune.lab.statistics.epsilon_bounds import limit
from nanoprune.lab.statistics.tradeoff import gaussian_delta, gaussian_epsilon, gaussian_mu_bound

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-9)
ALPHAS = st.sampled_from([0.001, 0.01, 0.05, 0.2, 0.5, 0.9])
quick = settings(deadline=None, max_examples=100, derandomize=True)


def some_scores(least: int = 2, most: int = 15) -> st.SearchStrategy:
    """Scores with many ties, or with hardly any."""
    sizes = st.integers(least, most)
    few_values = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0])
    return st.one_of(
        hnp.arrays("float64", sizes, elements=few_values), hnp.arrays("float64", sizes, elements=st.floats(-50, 50))
    )


def sampling_error(share: float, draws: int) -> float:
    """Four standard deviations of the share seen in `draws`."""
    return 4 * math.sqrt(share * (1 - share) / draws)


# --- seeds -----------------------------------------------------------------------------------------------------------


@given(VALUES)
def test_the_interval_is_students(values):
    S = summary(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (S["low"], S["high"]) == pytest.approx((low, high))
    assert S["mean"] == pytest.approx(np.mean(values))
    assert S["values"] == values


def test_one_seed_has_no_interval():
    assert summary([0.7]) == {"mean": 0.7, "low": None, "high": None, "values": [0.7]}


@pytest.mark.parametrize("values", [[0.75, 0.75], [0.0] * 5, [0.1 + 0.2, 0.3, 0.3]])
def test_equal_values_have_no_interval(values):
    S = summary(values)
    assert (S["low"], S["high"]) == (None, None)
    assert S["mean"] == pytest.approx(values[0])


@pytest.mark.parametrize(("seeds", "records", "before"), [(2, 20, 0.0472), (2, 40, 0.0372), (2, 100, 0.03), (3, 20, 0)])
def test_a_leak_is_shown_no_more_often_than_alpha_where_there_is_none(seeds, records, before):
    """Every outcome of an attack that guesses, with its probability: 2.5% may lie above 50%. `before`: how often an
    interval of no width for equal values, which Student's formula has, would be above."""
    chance = [math.comb(records, k) / 2**records for k in range(records + 1)]
    shown = students = 0.0
    for hits in itertools.combinations_with_replacement(range(records + 1), seeds):
        orders = len(set(itertools.permutations(hits)))
        probability = orders * math.prod(chance[k] for k in hits)
        S = summary([k / records for k in hits])
        shown += probability * (S["low"] is not None and S["low"] > 0.5)
        students += probability * (S["low"] > 0.5 if S["low"] is not None else S["mean"] > 0.5)
    assert shown <= 0.025
    assert students == pytest.approx(before, abs=1e-4) if before else students <= 0.025


def test_pairing_removes_what_the_seeds_share():
    theirs = np.random.default_rng(0).uniform(0, 1, 8)
    S = paired_difference(theirs - 0.1 + 1e-11 * np.random.default_rng(1).standard_normal(8), theirs)
    assert S["mean"] == pytest.approx(-0.1)
    assert S["high"] - S["low"] < 1e-9


def test_intervals_have_the_nominal_coverage():
    draws = np.random.default_rng(1).normal(0.6, 0.1, (2000, 5))
    intervals = [summary(row) for row in draws]
    covered = np.mean([S["low"] <= 0.6 <= S["high"] for S in intervals])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


@quick
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_the_p_value_is_that_of_the_paired_t_test(pairs):
    ours, theirs = zip(*pairs, strict=True)
    assume(np.std(np.subtract(ours, theirs)) > 1e-9)
    S = paired_difference(ours, theirs)
    p = stats.ttest_rel(ours, theirs).pvalue
    assert S["p_value"] == pytest.approx(p, rel=1e-9)
    assert S["mean"] == pytest.approx(np.mean(ours) - np.mean(theirs), abs=1e-12)
    assert S["values"] == [a - b for a, b in pairs]
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (not S["low"] <= 0 <= S["high"])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_an_effect_is_claimed_no_more_often_than_alpha_where_there_is_none(seeds):
    """Accuracies on 60 records each: with two seeds one difference in ten is the other one by chance."""
    rng = np.random.default_rng(seeds)
    rights = rng.binomial(60, 0.7, (3000, 2, seeds)) / 60
    claims = 0
    for ours, theirs in rights:
        found = paired_difference(ours, theirs)
        claims += found["low"] is not None and not found["low"] <= 0 <= found["high"]
    assert claims / len(rights) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(rights))


def test_the_p_value_where_students_test_has_none():
    assert paired_difference([0.7], [0.5])["p_value"] is None
    assert paired_difference([0.75, 0.5, 1.0], [0.5, 0.25, 0.75]) == {
        "mean": 0.25,
        "low": None,
        "high": None,
        "values": [0.25] * 3,
        "p_value": None,
    }
    zero = paired_difference([0.75, 0.1, 0.3], [0.75, 0.1, 0.3])
    assert (zero["p_value"], zero["low"], zero["high"]) == (1, None, None)


# --- proportions -----------------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 300), st.data(), ALPHAS)
def test_clopper_pearson_is_scipys_exact_interval(trials, data, alpha):
    successes = data.draw(st.integers(0, trials))
    exact = stats.binomtest(successes, trials).proportion_ci(1 - alpha, method="exact")
    assert clopper_pearson(successes, trials, alpha) == pytest.approx((exact.low, exact.high), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.3])
@pytest.mark.parametrize("trials", [1, 2, 7, 30])
def test_clopper_pearson_misses_at_most_half_of_alpha_on_either_side(trials, alpha):
    """Exactly: over all outcomes, with their binomial probabilities, for many p."""
    intervals = [clopper_pearson(k, trials, alpha) for k in range(trials + 1)]
    for p in np.linspace(0.005, 0.995, 199):
        chances = [math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(trials + 1)]
        above = math.fsum(chance for chance, (low, _) in zip(chances, intervals, strict=True) if p < low)
        below = math.fsum(chance for chance, (_, high) in zip(chances, intervals, strict=True) if p > high)
        assert above <= alpha / 2 + 1e-12
        assert below <= alpha / 2 + 1e-12


def test_clopper_pearson_by_hand():
    """No success in n: (1 - p)^n = alpha/2 at the upper limit; and the mirror image."""
    low, high = clopper_pearson(0, 10)
    assert (low, high) == (0, pytest.approx(1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == (pytest.approx(0.025**0.1), 1)


# --- AUC -------------------------------------------------------------------------------------------------------------


@quick
@given(some_scores(), some_scores(), ALPHAS)
def test_auc_interval_is_delongs_by_the_double_loop(members, nonmembers, alpha):
    V10, V01, value, interval = delong(members, nonmembers, alpha)
    ours = placements(members, nonmembers)
    np.testing.assert_allclose(ours[0], [float(v) for v in V10], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(ours[1], [float(v) for v in V01], rtol=1e-13, atol=1e-15)
    found = auc_interval(members, nonmembers, alpha)
    assert set(found) == {"value", "low", "high"}
    assert found["value"] == pytest.approx(float(value), rel=1e-12)
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert [found["low"], found["high"]] == pytest.approx(interval, rel=1e-7, abs=1e-9)


@quick
@given(some_scores(), some_scores())
def test_auc_interval_the_other_way_round_is_its_mirror_image(members, nonmembers):
    ours, theirs = auc_interval(members, nonmembers), auc_interval(nonmembers, members)
    np.testing.assert_allclose(ours["value"], 1 - theirs["value"], atol=1e-12)
    np.testing.assert_allclose([ours["low"], ours["high"]], [1 - theirs["high"], 1 - theirs["low"]], atol=1e-9)


def covered(draw, truth: float, draws: int, interval=auc_interval) -> float:
    found = [interval(*draw()) for _ in range(draws)]
    return np.mean([I["low"] <= truth <= I["high"] for I in found])


def test_auc_intervals_cover_a_known_auc():
    """Members N(1, 1), others N(0, 1): the difference is N(1, 2), so the AUC is Phi(1 / sqrt 2)."""
    rng = np.random.default_rng(2)
    share = covered(lambda: (rng.normal(1, 1, 100), rng.normal(0, 1, 70)), stats.norm.cdf(1 / np.sqrt(2)), 2000)
    assert abs(share - 0.95) < sampling_error(0.95, 2000)


def test_auc_intervals_cover_a_half_under_the_null_with_ties():
    rng = np.random.default_rng(3)
    share = covered(lambda: (rng.integers(0, 4, 80), rng.integers(0, 4, 120)), 0.5, 2000)
    assert abs(share - 0.95) < sampling_error(0.95, 2000)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (9, 6), (2, 2)])
def test_auc_interval_of_separated_scores(n, m):
    """Each side has as many successes as records, of which the exact limit is (alpha/2)^(1/N), on the range that a
    placement can have: the lowest score ties with itself, so it is 1/2 of one comparison above nothing."""
    below = math.hypot(*((1 - 0.5 / other) * (1 - 0.025 ** (1 / N)) for N, other in ((n, m), (m, n))))
    above, beneath = np.arange(n) + 100.0, np.arange(m) * 1.0
    assert auc_interval(above, beneath) == {"value": 1.0, "low": pytest.approx(max(0, 1 - below)), "high": 1.0}
    assert auc_interval(-above, beneath) == {"value": 0.0, "low": 0.0, "high": pytest.approx(min(1, below))}


def test_auc_interval_of_scores_that_all_tie_excludes_little():
    low, high = stats.binomtest(4, 8).proportion_ci(0.95, method="exact")
    found = auc_interval(np.zeros(8), np.zeros(8))
    half = math.sqrt(2) * (high - low) / 2
    assert found == {"value": 0.5, "low": pytest.approx(max(0, 0.5 - half)), "high": pytest.approx(min(1, 0.5 + half))}


def test_with_many_records_the_interval_is_that_of_brunner_and_munzel():
    """A - + t times the standard error, as scipy's own test of Brunner & Munzel has it."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.1, 1, 3000), rng.normal(0, 1.5, 2000)
    found, alpha = auc_interval(x, y, 0.01), 0.01
    test = stats.brunnermunzel(y, x)  # its statistic: (A - 1/2) over the standard error, with Satterthwaite's t
    error = (found["value"] - 0.5) / test.statistic
    t = stats.t.isf(alpha / 2, 4000)  # hardly depends on the degrees of freedom
    assert found["low"] == pytest.approx(found["value"] - t * error, abs=0.02 * t * error)
    assert found["high"] == pytest.approx(found["value"] + t * error, abs=0.02 * t * error)


def reject(n, m, alpha):
    """For every outcome of n and m decisions whether the interval lies above 1/2, (n + 1, m + 1)."""
    of = [[(np.arange(N) < k) for k in range(N + 1)] for N in (n, m)]
    return np.array([[balanced_accuracy_interval(x, y, alpha)["low"] > 0.5 for y in of[1]] for x in of[0]])


@pytest.mark.parametrize(("n", "m"), [(10, 10), (33, 10), (60, 10), (10, 60), (40, 40)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 30, 0.05 / 300])
def test_decisions_at_chance_count_as_better_at_most_as_often_as_alpha(n, m, alpha):
    """Exactly, over all outcomes, for rates near 0 and 1 too: there DeLong's variance is 0 by chance."""
    above = reject(n, m, alpha)
    for p in np.linspace(0.005, 0.995, 100):
        chances = stats.binom.pmf(np.arange(n + 1), n, p), stats.binom.pmf(np.arange(m + 1), m, p)
        assert chances[0] @ above @ chances[1] <= alpha / 2


@pytest.mark.parametrize(("n", "m"), [(100, 10), (10, 100), (300, 30)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_the_auc_of_scores_at_chance_is_seldom_significant(n, m, share):
    """At the small alphas of many classes, also where most scores tie: as probabilities that round to 1 do."""
    rng, alpha, draws = np.random.default_rng([17, n, m]), 0.01, 3000
    at = -np.inf if not share else stats.norm.ppf(share)
    above = 0
    for _ in range(draws):
        x, y = (np.maximum(rng.normal(size=N), at) for N in (n, m))
        above += auc_interval(x, y, alpha)["low"] > 0.5
    assert above / draws <= alpha / 2 + sampling_error(alpha / 2, draws)


@quick
@given(hnp.arrays(bool, st.integers(2, 20)), hnp.arrays(bool, st.integers(2, 20)), ALPHAS)
def test_balanced_accuracy_interval_counts(members, nonmembers, alpha):
    """Newcombe's combination of the exact intervals of the two rates, as scipy has them."""
    found = balanced_accuracy_interval(members, nonmembers, alpha)
    counts = [(int(members.sum()), len(members)), (int((~nonmembers).sum()), len(nonmembers))]
    value = float(sum(Fraction(k, N) for k, N in counts) / 2)
    assert found["value"] == pytest.approx(value, rel=1e-12)
    exact = [stats.binomtest(k, N).proportion_ci(1 - alpha, method="exact") for k, N in counts]
    if len({*members, *nonmembers}) == 2:
        low, high = (
            math.hypot(*(k / N - getattr(of, end) for (k, N), of in zip(counts, exact, strict=True))) / 2
            for end in ("low", "high")
        )
        assert (found["low"], found["high"]) == pytest.approx((value - low, value + high), abs=1e-7)


def test_balanced_accuracy_intervals_cover():
    rng = np.random.default_rng(4)
    share = covered(
        lambda: (rng.random(100) < 0.7, rng.random(60) < 0.4), (0.7 + 0.6) / 2, 2000, balanced_accuracy_interval
    )
    assert abs(share - 0.95) < sampling_error(0.95, 2000)


# --- epsilon ---------------------------------------------------------------------------------------------------------


@settings(quick, max_examples=60)
@given(
    some_scores(least=1, most=25),
    some_scores(least=1, most=25),
    st.sampled_from([0.0, 0.0, 1.0, 3.0]),
    st.sampled_from([0.01, 0.05, 0.3]),
)
def test_epsilon_bound_equals_counting(members, nonmembers, gap, alpha):
    expected = epsilon_bound(members + gap, nonmembers, alpha)
    assert epsilon_lower_bound(members + gap, nonmembers, alpha) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def log_odds(q: float) -> float:
    return math.log(q / (1 - q))


@pytest.mark.parametrize(
    ("n", "m", "expected"),
    [
        (100, 100, log_odds((0.05 / 8) ** (1 / 100))),  # k = 100, 50, 25, 12, twice each: 2.955
        (6, 6, log_odds((0.05 / 2) ** (1 / 6))),  # k = 6 only: 0.163
        (4, 4, 0.0),  # 0.025^(1/4) = 0.398 excludes nothing
        (30, 10, log_odds((0.05 / 4) ** (1 / 10)) + math.log(3)),  # k = 20, 10: ten are "non-member", prior odds 1/3
    ],
)
def test_epsilon_bound_of_separated_scores_by_hand(n, m, expected):
    """All k guesses right: P[Binomial(k, q) >= k] = q^k, so the limit is alpha^(1/k)."""
    members, nonmembers = np.arange(n) + 1000.0, np.arange(m) * 1.0
    assert epsilon_lower_bound(members, nonmembers) == pytest.approx(expected, rel=1e-9)
    assert epsilon_lower_bound(-members, -nonmembers) == 0  # all guesses wrong


@quick
@given(some_scores(least=5, most=30), some_scores(least=5, most=30), st.randoms(use_true_random=False))
def test_epsilon_bound_knows_no_order_of_the_records(members, nonmembers, random):
    expected = epsilon_lower_bound(members + 0.5, nonmembers)
    for scores in (members, nonmembers):
        random.shuffle(scores)
    assert epsilon_lower_bound(members + 0.5, nonmembers) == expected


def randomised_response(rng, n, m, epsilon, jitter):
    """Scores that are epsilon-private for each record, in the worst case: likelihood ratio e^epsilon."""
    truth = np.exp(epsilon) / (1 + np.exp(epsilon))
    members, nonmembers = (rng.random(n) < truth) * 1.0, (rng.random(m) > truth) * 1.0
    return members + jitter * rng.random(n), nonmembers + jitter * rng.random(m)


@pytest.mark.parametrize("coins", [False, True], ids=["fixed", "coins"])
@pytest.mark.parametrize("jitter", [0, 0.5], ids=["tied", "distinct"])
@pytest.mark.parametrize(("n", "m"), [(80, 80), (120, 40), (30, 150)])
@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_epsilon_bound_is_seldom_above_the_truth(epsilon, n, m, jitter, coins):
    """Also with unequal numbers of members and non-members, and with random membership."""
    rng, alpha, draws = np.random.default_rng([5, n, m, int(epsilon)]), 0.2, 250
    bounds = []
    for _ in range(draws):
        inside = rng.binomial(n + m, n / (n + m)) if coins else n
        scores = randomised_response(rng, inside, n + m - inside, epsilon, jitter)
        bounds.append(epsilon_lower_bound(*scores, alpha))
    assert np.mean(np.array(bounds) > epsilon) <= alpha + sampling_error(alpha, draws)


def test_epsilon_bound_comes_near_the_truth_with_many_records():
    rng, epsilon = np.random.default_rng(6), 1.5
    for jitter in (0, 0.5):
        bounds = [
            np.mean([epsilon_lower_bound(*randomised_response(rng, n, n, epsilon, jitter)) for _ in range(5)])
            for n in (30, 300, 3000, 30000)
        ]
        assert (np.diff(bounds) > 0).all()
        assert epsilon - 0.1 < bounds[-1] < epsilon


def test_epsilon_bound_of_uninformative_scores_is_mostly_zero():
    rng = np.random.default_rng(7)
    bounds = [epsilon_lower_bound(rng.normal(size=60), rng.normal(size=60)) for _ in range(400)]
    assert np.mean(np.array(bounds) == 0) >= 0.95 - sampling_error(0.95, 400)
    assert epsilon_lower_bound(np.zeros(50), np.zeros(50)) == 0


def test_external_values_of_the_bounds():
    """86 of 132 right at delta 0, as in Steinke et al.; the others by the published programs of both papers."""
    assert limit(86, 132, 0.05) == pytest.approx(0.3122, abs=1e-4)
    assert gaussian_epsilon(gaussian_mu_bound(100, 80, 70, 0.05), 1e-6) == pytest.approx(3.295, abs=1e-3)
    for right, any_training, gaussian in ((2190, 0.93, 1.64), (2685, 2.04, 3.68)):
        assert limit(right, 3000, 0.05, 3000, 1e-5) == pytest.approx(any_training, abs=0.005)
        found = gaussian_epsilon(gaussian_mu_bound(3000, 3000, right, 0.05), 1e-5)
        assert found == pytest.approx(gaussian, abs=0.005)


@pytest.mark.parametrize("delta", [0.0, 1e-4, 1e-3])
def test_the_bound_with_delta_is_where_the_theorem_gives_alpha(delta):
    """By the theorem's sum written out, over every shift of the number of right guesses."""
    records, guesses, right, alpha = 90, 40, 34, 0.05
    q = 1 / (1 + math.exp(-limit(right, guesses, alpha, records, delta)))
    mass = [math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(guesses + 1)]
    gained = max(math.fsum(mass[right - i : right]) / i for i in range(1, right + 1))
    assert math.fsum(mass[right:]) + 2 * records * delta * gained == pytest.approx(alpha, rel=1e-6)
    assert limit(right, guesses, alpha, records, 0.1) == -math.inf  # 18 records may be given away by chance


@quick
@given(some_scores(least=8, most=30), some_scores(least=8, most=30))
def test_a_delta_never_raises_the_bound(members, nonmembers):
    bounds = [epsilon_lower_bound(members + 1, nonmembers, 0.3, delta) for delta in (0, 1e-9, 1e-4, 1e-2)]
    assert all(more >= less - 1e-6 for more, less in itertools.pairwise(bounds))


@pytest.mark.parametrize(("n", "m"), [(80, 80), (120, 40), (30, 150)])
@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_gaussian_bound_is_seldom_above_the_truth(mu, n, m):
    """The Gaussian mechanism of mu for each record: the worst case of its trade-off curve."""
    rng, alpha, draws, above = np.random.default_rng([19, n, m]), 0.2, 200, 0
    for _ in range(draws):
        inside = rng.binomial(n + m, n / (n + m))
        scores = rng.normal(mu, 1, inside), rng.normal(0, 1, n + m - inside)
        above += gaussian_lower_bound(*scores, alpha, 1e-5) > gaussian_epsilon(mu, 1e-5)
    assert above / draws <= alpha + sampling_error(alpha, draws)


def test_gaussian_bound_is_above_the_other_where_the_mechanism_is_gaussian():
    rng = np.random.default_rng(20)
    scores = rng.normal(1.5, 1, 5000), rng.normal(0, 1, 5000)
    free, gaussian = epsilon_lower_bound(*scores, 0.05, 1e-5), gaussian_lower_bound(*scores, 0.05, 1e-5)
    assert 0 < free < gaussian < gaussian_epsilon(1.5, 1e-5)


@pytest.mark.parametrize("alpha", [0.6, 0.9])
def test_one_right_guess_excludes_a_mu_that_makes_it_less_likely_than_alpha(alpha):
    """The best guess of one record is right with probability Phi(mu / 2)."""
    assert stats.norm.cdf(gaussian_mu_bound(1, 1, 1, alpha) / 2) == pytest.approx(alpha)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.3, 0.5), (1.0, 2.0), (2.0, 0.0)])
def test_the_gaussian_delta_is_the_integral(mu, epsilon):
    """The excess of one density over e^epsilon times the other, integrated."""
    x = np.linspace(-12, 14, 400_001)
    excess = np.maximum(stats.norm.pdf(x - mu) - math.exp(epsilon) * stats.norm.pdf(x), 0)
    delta = np.trapezoid(excess, x)
    assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-5)
    assert gaussian_epsilon(mu, float(delta)) == pytest.approx(epsilon, abs=1e-4)


def test_the_bound_of_many_models_by_hand():
    """All models are classified right: the limit of the error is 1 - (alpha/2)^(1/n)."""
    wrong = 1 - 0.025 ** (1 / 50)
    assert epsilon_of_runs(50, 50, 0, 50) == pytest.approx(math.log((1 - wrong) / wrong))
    assert epsilon_of_runs(50, 50, 0, 50, delta=0.1) == pytest.approx(math.log((1 - wrong - 0.1) / wrong))
    assert epsilon_of_runs(0, 50, 50, 50) == 0
    assert epsilon_of_runs(25, 50, 25, 50) == 0


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_the_bound_of_many_models_is_seldom_above_the_truth(epsilon):
    rng, n, alpha, draws = np.random.default_rng(21), 60, 0.1, 2000
    p = 1 / (1 + math.exp(-epsilon))
    counts = rng.binomial(n, p, draws), rng.binomial(n, 1 - p, draws)
    above = [epsilon_of_runs(int(hit), n, int(false), n, alpha) > epsilon for hit, false in zip(*counts, strict=True)]
    assert np.mean(above) <= alpha + sampling_error(alpha, draws)


# --- the share of positive effects ------------------------------------------------------------------------------------


def share_by_counting(effects, alpha):
    """The bounds of Genovese & Wasserman, by trying every p-value below a half; p-values by scipy's t test. The mean of
    each measurement is put at the lower, or upper, end of scipy's interval of the mean of these means."""
    n = effects.shape[1]
    common = effects.mean(axis=1)
    interval = stats.ttest_1samp(common, 0).confidence_interval(1 - alpha / 2)
    ends = []
    for side, end in ((1, interval.low), (-1, interval.high)):
        moved = side * (effects - common[:, None] + end)
        p = [stats.ttest_1samp(record, 0, alternative="greater").pvalue for record in moved.T]
        beta = math.sqrt(math.log(4 / alpha) / (2 * n))
        ends.append(max([0.0, *((sum(q <= t for q in p) / n - t - beta) / (1 - t) for t in p if t < 0.5)]))
    return ends[0], 1 - ends[1]


@quick
@given(st.integers(2, 6), st.integers(2, 40), st.floats(0, 4), st.sampled_from([0.05, 0.3]), st.integers(0, 1000))
def test_the_share_of_positive_effects_by_counting(P, n, size, alpha, seed):
    rng = np.random.default_rng(seed)
    effects = rng.standard_normal((P, n)) + size * rng.choice([-1, 0, 1], n)
    found = positive_share(effects, alpha)
    assert found["value"] == np.mean([sum(record) > 0 for record in effects.T.tolist()])
    assert (found["low"], found["high"]) == pytest.approx(share_by_counting(effects, alpha), abs=1e-9)
    assert found["low"] <= found["value"] <= found["high"]


@pytest.mark.parametrize("P", [3, 8])
@pytest.mark.parametrize(("positive", "negative", "size"), [(0, 0, 0), (0.3, 0.7, 0.7), (0.1, 0, 3), (0.6, 0.4, 3)])
def test_the_interval_of_the_share_covers_it(P, positive, negative, size):
    """Also without any effect: half of the records appear positive, and none is."""
    rng, n, draws, alpha, covered, looks = np.random.default_rng([8, P]), 200, 400, 0.2, 0, []
    truth = np.repeat(
        [1.0, -1.0, 0.0], [round(positive * n), round(negative * n), n - round((positive + negative) * n)]
    )
    for _ in range(draws):
        found = positive_share(size * truth + rng.standard_normal((P, n)), alpha)
        covered += found["low"] <= positive <= found["high"]
        looks.append(found["value"])
    assert covered / draws >= 1 - alpha - sampling_error(1 - alpha, draws)
    if not size:
        assert abs(np.mean(looks) - 0.5) < 0.02


@pytest.mark.parametrize("kind", ["one measurement off", "all measurements off"])
@pytest.mark.parametrize("P", [4, 8])
def test_an_error_that_records_share_is_not_an_effect(P, kind):
    """No record has an effect, but one measurement moves all records by 3 standard deviations, or each by some."""
    rng, n, draws, alpha, missed = np.random.default_rng([18, P]), 300, 300, 0.1, 0
    for _ in range(draws):
        shift = np.where(np.arange(P) == 0, 3.0, 0.0) if kind == "one measurement off" else rng.normal(0, 1, P)
        found = positive_share(shift[:, None] * rng.choice([-1, 1]) + rng.standard_normal((P, n)), alpha)
        missed += found["low"] > 0 or found["high"] < 1 - 1e-12
    assert missed / draws <= alpha + sampling_error(alpha, draws)


def test_the_interval_of_the_share_closes_in_on_clear_effects():
    rng, n = np.random.default_rng(9), 3000
    effects = 5 * np.where(np.arange(n) < 0.3 * n, 1, -1) + rng.standard_normal((8, n))
    found = positive_share(effects)
    assert found["value"] == 0.3
    assert 0.27 < found["low"] < 0.3 < found["high"] < 0.33


@pytest.mark.parametrize("shape", [(1, 5), (0, 5), (3, 0)])
def test_too_few_measurements_are_refused(shape):
    with pytest.raises(ArgumentError, match=f"^effects must be .* got {shape[0]} and {shape[1]}$"):
        positive_share(np.zeros(shape))


# --- label shift -----------------------------------------------------------------------------------------------------


def exact_shift(members, nonmembers):
    """The p-value by enumerating which of all the records could have been the members: each choice is as likely."""
    every = [*members, *nonmembers]

    def chi2(inside):
        table = [[sum(every[i] == c for i in part) for c in sorted(set(every))] for part in inside]
        return stats.chi2_contingency(table, correction=False).statistic

    choices = [set(rows) for rows in itertools.combinations(range(len(every)), len(members))]
    found = [chi2((rows, set(range(len(every))) - rows)) for rows in choices]
    observed = chi2((set(range(len(members))), set(range(len(members), len(every)))))
    return np.mean([value >= observed * (1 - 1e-9) for value in found])


@pytest.mark.parametrize(
    ("members", "nonmembers"),
    [([0, 0, 1, 2], [1, 1, 2, 2, 0]), ([0, 0, 0], [1, 1, 1, 0, 2]), ([3, 3, 3, 3], [0, 0, 3, 0]), ([0, 1], [1, 0])],
)
def test_label_shift_is_the_exact_p_value_up_to_its_draws(members, nonmembers):
    p = exact_shift(members, nonmembers)
    found = label_shift(np.array(members), np.array(nonmembers), 5)
    assert abs(found - p) <= sampling_error(p, shift_test.DRAWS) + 1 / shift_test.DRAWS
    assert found == label_shift(np.array(members), np.array(nonmembers), 5)
    assert abs(label_shift(np.array(members), np.array(nonmembers), 5, seed=1) - p) <= 2 * sampling_error(0.5, 9999)


def test_label_shift_is_uniform_where_there_is_none(monkeypatch):
    monkeypatch.setattr(shift_test, "DRAWS", 499)
    rng = np.random.default_rng(8)
    p = [label_shift(rng.integers(0, 6, 150), rng.integers(0, 6, 100), 6, seed) for seed in range(500)]
    for share in (0.05, 0.2, 0.5, 0.8):
        assert abs(np.mean(np.array(p) <= share) - share) < sampling_error(share, 500)


def test_label_shift_is_seen():
    rng = np.random.default_rng(9)
    shifted = rng.choice(4, 300, p=[0.55, 0.15, 0.15, 0.15])
    assert label_shift(shifted, rng.integers(0, 4, 300), 4) == 1 / (1 + shift_test.DRAWS)  # the least it can say


# --- bad arguments ---------------------------------------------------------------------------------------------------

TWO, NONE = np.array([0.0, 1.0]), np.zeros(0)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan])
@pytest.mark.parametrize(
    "call",
    [
        lambda alpha: clopper_pearson(1, 2, alpha),
        lambda alpha: auc_interval(TWO, TWO, alpha),
        lambda alpha: balanced_accuracy_interval(TWO > 0, TWO > 0, alpha),
        lambda alpha: epsilon_lower_bound(TWO, TWO, alpha),
    ],
)
def test_an_invalid_alpha_is_refused(call, alpha):
    with pytest.raises(ArgumentError, match=rf"^alpha must lie between 0 and 1, got {alpha}$"):
        call(alpha)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 2), (3, 2), (0, 0), (0, -1)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ArgumentError, match=rf"^successes must lie between .* got {successes} of {trials}$"):
        clopper_pearson(successes, trials)


@pytest.mark.parametrize(("members", "nonmembers", "got"), [(TWO, NONE, "2 and 0"), (NONE, TWO, "0 and 2")])
def test_one_kind_of_record_alone_is_refused(members, nonmembers, got):
    with pytest.raises(ArgumentError, match=rf"^scores must be of members and non-members, got {got}$"):
        epsilon_lower_bound(members, nonmembers)
    with pytest.raises(ArgumentError, match=rf"^scores must be of at least 2 .* got {got}$"):
        auc_interval(members, nonmembers)
    with pytest.raises(ArgumentError, match=rf"^labels must be of members and non-members, got {got}$"):
        label_shift(members.astype(int), nonmembers.astype(int), 2)


def test_one_score_has_no_variance():
    with pytest.raises(ArgumentError, match="got 1 and 2"):
        auc_interval(TWO[:1], TWO)
    with pytest.raises(ArgumentError, match="got 2 and 1"):
        balanced_accuracy_interval(TWO > 0, TWO[:1] > 0)
