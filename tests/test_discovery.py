"""Records that score higher than chance allows: ranks counted one by one, and the false discovery rate simulated."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from nanoprune.errors import ArgumentError
from nanoprune.lab.audit import Predictions, measure
from nanoprune.lab.audit.attack_choice import Chosen, choose, scored_rows
from nanoprune.lab.audit.prediction_attacks import folds, run_attacks
from nanoprune.lab.statistics import benjamini_hochberg, conformal_p_values


def test_p_values_are_ranks():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 30), rng.integers(0, 9, 20)
    counted = [(1 + sum(b >= a for b in y)) / 21 for a in x]
    np.testing.assert_allclose(conformal_p_values(x, y), counted)
    with pytest.raises(ArgumentError):
        conformal_p_values(x, y[:0])


def test_the_procedure_is_that_of_scipy():
    """scipy's adjusted p-values are at most q where the hypothesis is rejected."""
    rng = np.random.default_rng(1)
    for share in (0, 0.3, 1):
        p = np.where(rng.random(200) < share, rng.beta(0.1, 3, 200), rng.random(200))
        for q in (0.01, 0.05, 0.5):
            np.testing.assert_array_equal(benjamini_hochberg(p, q), stats.false_discovery_control(p) <= q)
    assert not benjamini_hochberg(np.ones(5), 0.9).any()


@pytest.mark.parametrize("exposed", [0, 60])
def test_of_the_records_that_are_named_a_share_of_at_most_q_is_there_by_chance(exposed):
    rng, q, draws, share, named = np.random.default_rng(2), 0.1, 300, [], 0
    for _ in range(draws):
        members, others = rng.normal(size=200), rng.normal(size=1000)
        members[:exposed] += 4
        found = benjamini_hochberg(conformal_p_values(members, others), q)
        share.append(found[exposed:].sum() / max(found.sum(), 1))
        named += found[:exposed].sum()
    assert np.mean(share) <= q + 4 * np.std(share) / np.sqrt(draws) or np.mean(share) <= q
    assert named >= 0.8 * exposed * draws


@pytest.mark.parametrize("scored_apart", [False, True])
def test_a_model_that_leaks_nothing_has_no_discoveries(scored_apart):
    """The whole path, at the level of an audit: something is named in no more than a share q of audits."""
    rng, q, draws, errors = np.random.default_rng(3), 0.2, 60, 0
    for _ in range(draws):
        n = 160
        target = Predictions(rng.dirichlet(np.ones(3), n), rng.integers(0, 3, n), rng.permutation(n) < n // 2)
        parts = folds(target, None, rng)
        chosen = choose(run_attacks(target, parts, 0, 1, quick=True), scored_rows(parts))
        if scored_apart:  # as by two attack networks: ranks within each half
            chosen = dataclasses.replace(chosen, scores=rng.normal(size=n), comparable=scored_rows(parts))
        errors += bool(measure.discoveries(target.units, chosen, q)["count"])
    assert errors <= draws * q + 4 * np.sqrt(draws * q * (1 - q))


def test_the_records_are_named_by_their_rows():
    rng = np.random.default_rng(4)
    n, exposed = 400, np.array([7, 30, 55, 101, 202, 310])
    member = np.isin(np.arange(n), np.concatenate([exposed, rng.permutation(np.setdiff1d(np.arange(n), exposed))[:60]]))
    scores = rng.normal(size=n)
    scores[exposed] += 20 + np.arange(6)
    target = Predictions(np.full((n, 2), 0.5), np.arange(n) % 2, member)
    chosen = Chosen([], 1, scores, scores > 0, [np.arange(n)], scores > np.zeros((1, 1)))
    found = measure.discoveries(target.units, chosen, 0.1)
    named = found["records"][:6]
    assert found["count"] == len(found["records"]) >= 6
    assert [record["row"] for record in named] == exposed[::-1].tolist()  # the highest scores first
    assert {record["p_value"] for record in named} == {1 / (1 + (~member).sum())}
    assert [record["label"] for record in named] == (exposed[::-1] % 2).tolist()
