"""The verdict: the degree follows from the rule that is stated, and an accusation is worth what counting says."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nanoprune.errors import ArgumentError
from nanoprune.lab.audit import Predictions, audit, measure
from nanoprune.lab.audit.verdict import DEGREES, conclude, precision, reaches


def results(advantage=-0.1, odds=0.5, epsilon=0.0, auc=0.4, outcome="passed"):
    """What a verdict reads of an audit, with these lower limits."""
    around = {"value": (1 + advantage) / 2 + 0.02, "low": (1 + advantage) / 2, "high": 0.99}
    rate = {"value": 0.01, "low": 0.005, "high": 0.02}
    return {
        "alpha": 0.05,
        "members": 100,
        "strongest": {
            "accuracy": around,
            "accuses": {"tpr": around, "fpr": rate},
            "tail": {"0.01": {"tpr": around, "fpr": rate, "odds": odds}},
        },
        "attacks": {"loss": {"epsilon_lower_bound": epsilon}, "network": {"epsilon_lower_bound": 0.0}},
        "per_class": {"a": {"auc": {"value": 0.6, "low": 0.2, "high": 0.9}}, "b": {"auc": {"low": auc}}},
        "discoveries": {"fdr": 0.05, "count": 0, "records": []},
        "validity": [{"name": "duplicates", "outcome": outcome, "found": "copies"}],
    }


CASES = {
    "nothing": ({}, "no leak detected"),
    "at chance": ({"advantage": 0.0, "odds": 1.0, "auc": 0.5}, "no leak detected"),
    "a little": ({"advantage": 0.01}, "slight"),
    "a class": ({"auc": 0.51}, "slight"),
    "few are found": ({"odds": 1.1}, "slight"),
    "an epsilon": ({"epsilon": 0.012}, "slight"),
    "an epsilon below a hundredth": ({"epsilon": 0.009}, "no leak detected"),
    "ten points": ({"advantage": 0.101}, "clear"),
    "twice the odds": ({"odds": 2.0}, "clear"),
    "an epsilon of log 2": ({"epsilon": 0.71}, "clear"),
    "a class that is clear": ({"auc": 0.57}, "clear"),
    "forty points": ({"advantage": 0.401}, "severe"),
    "ten times the odds": ({"odds": 10.0, "advantage": 0.02}, "severe"),
    "an epsilon of log 10": ({"epsilon": 2.31}, "severe"),
    "one class alone": ({"auc": 0.8}, "severe"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_degree_is_the_highest_of_the_evidence(case):
    limits, degree = CASES[case]
    verdict = conclude(results(**limits))
    assert verdict["degree"] == degree
    assert max((entry["degree"] for entry in verdict["evidence"]), key=DEGREES.index) == degree
    assert f"Degree: {degree}" in verdict["sentences"][0]
    assert verdict["sentences"][-1].startswith("What can be done next: ")


def test_the_bounds_of_the_rule_agree_with_one_another():
    """Normal scores with an advantage of 10 and of 40 points have these AUCs; e^epsilon multiplies the odds."""
    for advantage, auc, epsilon, odds in ((0.1, 0.57, 0.6932, 2), (0.4, 0.77, 2.3026, 10)):
        shift = 2 * stats.norm.ppf((1 + advantage) / 2)
        assert stats.norm.cdf(shift / math.sqrt(2)) == pytest.approx(auc, abs=0.005)
        assert math.exp(epsilon) == pytest.approx(odds, rel=1e-3)


def test_a_void_audit_has_no_degree_and_fails_every_pipeline():
    verdict = conclude(results(advantage=0.9, outcome="void"))
    assert verdict["degree"] == "void"
    assert "Degree" not in " ".join(verdict["sentences"])
    assert all(reaches("void", least) for least in DEGREES[1:])
    for (i, degree), (j, least) in itertools.product(enumerate(DEGREES), enumerate(DEGREES)):
        assert reaches(degree, least) == (i >= j)


def test_attacks_that_hold_more_than_the_model_do_not_decide_its_degree():
    of = results()
    of["attacks"]["lira_dense_and_pruned"] = {"epsilon_lower_bound": 6.0}
    for low, told in ((0.6, True), (0.5, False)):
        verdict = conclude(of | {"auxiliary_attacks": {"lira_dense_and_pruned": {"low": low}}})
        assert verdict["degree"] == "no leak detected"
        assert ("keep it as safe as the training data" in " ".join(verdict["sentences"])) == told
    assert conclude(of)["degree"] == "severe"


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 99))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_precision_is_the_share_of_members_among_the_accused(tpr, fpr, prior):
    """Counted in a population of 100 x 50 x 50 people."""
    members, others = 2500 * prior, 2500 * (100 - prior)
    right, wrong = members * tpr / 50, others * fpr / 50
    rates = {
        name: {"value": k / 50, "low": k / 100, "high": min(1, k / 25)} for name, k in (("tpr", tpr), ("fpr", fpr))
    }
    found = precision(rates, prior / 100)
    assert found["value"] == pytest.approx(right / (right + wrong))
    assert found["low"] <= found["value"] <= found["high"]


def test_nobody_accused_is_no_precision():
    none = {"value": 0.0, "low": 0.0, "high": 0.1}
    assert precision({"tpr": none, "fpr": none}, 0.5) is None


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan])
def test_a_prior_that_is_none_is_refused(prior):
    with pytest.raises(ArgumentError, match="prior must lie between 0 and 1"):
        conclude(results(), prior)


def test_the_odds_of_a_few_are_too_high_no_more_often_than_alpha():
    """Normal scores, whose TPR at every threshold is known: the odds are those of the threshold that was used."""
    rng, alpha, shift, draws, errors = np.random.default_rng(0), 0.2, 1.0, 300, 0
    for _ in range(draws):
        member = np.arange(500) < 200
        scores = rng.normal(size=500) + shift * member
        target = Predictions(np.full((500, 2), 0.5), np.zeros(500, int), member)
        found = measure.accused_few(target, scores, 0.02, alpha)
        t = np.sort(scores[~member])[::-1][6]
        errors += found["odds"] > stats.norm.sf(t - shift) / stats.norm.sf(t)
        assert found["fpr"]["value"] == 0.02
        assert found["tpr"]["value"] == np.mean(scores[member] > t)
    assert errors <= draws * alpha + 4 * math.sqrt(draws * alpha * (1 - alpha))


def test_scores_that_tie_accuse_fewer_non_members_than_asked_for():
    """Normal scores, rounded to a half: the true FPR of the threshold that was used is known, and often far below."""
    rng, alpha, draws, errors = np.random.default_rng(2), 0.2, 300, np.zeros(2)
    member = np.arange(700) < 200
    target = Predictions(np.full((700, 2), 0.5), np.zeros(700, int), member)
    for _ in range(draws):
        scores = np.round(2 * rng.normal(size=700)) / 2
        fpr = measure.accused_few(target, scores, 0.02, alpha)["fpr"]
        t = np.sort(scores[~member])[::-1][10]
        true = stats.norm.sf(t + 0.25)
        assert fpr["value"] == np.mean(scores[~member] > t)
        errors += [fpr["low"] > true, fpr["high"] < true]
    assert (errors <= draws * alpha / 2 + 4 * math.sqrt(draws * alpha / 2 * (1 - alpha / 2))).all()
    found = measure.accused_few(target, np.ones(700), 0.02, alpha)
    assert found["fpr"]["value"] == found["fpr"]["low"] == 0
    assert precision(found, 0.5) is None  # nobody is accused


def test_the_sentences_of_an_audit_say_what_its_figures_say():
    rng, n = np.random.default_rng(1), 600
    y, member = rng.integers(0, 3, n), np.arange(n) % 2 == 0
    p = rng.dirichlet(np.ones(3), n)
    p[member] = 0.5 * p[member] + 0.5 * np.eye(3)[y[member]]
    found, _ = audit(Predictions(p, y, member), quick=True, prior=0.02)
    verdict, strongest = found["verdict"], found["strongest"]
    assert verdict["prior"] == 0.02
    tpr, fpr = (strongest["accuses"][of]["value"] for of in ("tpr", "fpr"))
    accused = round(100 * 0.02 * tpr / (0.02 * tpr + 0.98 * fpr))
    gain = next(text for text in verdict["sentences"] if text.startswith("Of 100 records"))
    assert f"accuses, {accused} are members where 2% of the population are" in gain
    assert strongest["accuracy"]["value"] == pytest.approx((tpr + 1 - fpr) / 2)
    records = next(text for text in verdict["sentences"] if text.startswith("Records to look at"))
    assert (f"{found['discoveries']['count']:,} of the 300 members" in records) or "none scores" in records
    assert verdict["degree"] in ("clear", "severe")
