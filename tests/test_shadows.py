"""Shadow models: scores against loops and closed forms, attacks of known optimum, fleets that repeat the recipe."""

import dataclasses
import hashlib
import itertools
import json
import math
from fractions import Fraction

import h5py
import numpy as np
import pytest
from by_arrays import (
    base_online,
    bavaria_offline,
    bavaria_online,
    calibrated,
    lira_offline,
    lira_online,
    lira_versions,
    prior_offline,
    prior_online,
)
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from scipy.stats import multivariate_normal, norm, ttest_1samp

import cli
import nanoprune
from nanoprune.attack import network
from nanoprune.attack.metrics import auc, balanced_accuracy
from nanoprune.attack.shadow import quantile, rapid, samia
from nanoprune.attack.shadow.lira import margin
from nanoprune.attack.shadow.population import population_attack
from nanoprune.attack.shadow.rmia import rmia
from nanoprune.defend import MinMax
from nanoprune.errors import ArgumentError, DataError, NanopruneError
from nanoprune.lab.audit import attack_model, fitted_attacks, samia_attention, shadow_attacks, write_audit
from nanoprune.lab.audit import shadows as fleets
from nanoprune.lab.audit import target as targets
from nanoprune.lab.audit import validity as checks
from nanoprune.lab.audit.cache import cached
from nanoprune.lab.audit.epsilon_of_runs import runs_bound
from nanoprune.lab.audit.exposure import Exposure, exposure, exposure_change, fleet_change
from nanoprune.lab.audit.features import Features
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.audit.shadow_attacks import ATTACKS, attack_target
from nanoprune.lab.audit.shadows import Shadows, design, make_pool, outputs, path_margins, train_shadows, undefended
from nanoprune.lab.audit.target import NON_ADAPTIVE
from nanoprune.lab.audit.views import Views, others
from nanoprune.lab.data import Dataset, load, make_split
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.shard import generators
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.statistics import positive_share
from nanoprune.lab.storage.hdf5 import write_text
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo import build, describe
from nanoprune.prune import ADMMSettings
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

quick = settings(deadline=None, max_examples=60)

K = 6  # shadows, where nothing depends on their number

POOLED = {"correctness", "confidence", "entropy", "modified_entropy", "loss", "network"}
LIRA = {"lira_online", "lira_online_record", "lira_offline", "lira_offline_record"}
BY_RECORD = LIRA | {"bavaria_online", "bavaria_offline", "base_online", "base_offline", "difficulty", "rapid", "samia"}
RMIA = {"rmia_online", "rmia_offline"}
BY_TARGET_ALONE = {"population", "quantile"}  # no shadow takes part in the scores
BY_POPULATION = RMIA | BY_TARGET_ALONE
VERSIONS = {"lira_versions", "lira_versions_record"}


@pytest.fixture(autouse=True, scope="module")
def _quick_and_repeatable():
    """One BLAS thread; attack networks of few steps, since nothing here asks how good they are."""
    with single_threaded_blas(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "RATES", (1e-3,))
        patch.setattr(network, "PATIENCE", 1)
        patch.setattr(network, "MIN_PATIENCE", 1)
        patch.setattr(rapid, "STEPS", 60)
        patch.setattr(quantile, "STEPS", 60)
        patch.setattr(samia, "STEPS", 60)
        patch.setattr(samia_attention, "STEPS", 60)
        yield


# --- margin ----------------------------------------------------------------------------------------------------------


@quick
@given(
    hnp.arrays("float32", (2, 3, 4), elements=st.floats(-6, 6, width=32)),
    hnp.arrays("int64", 3, elements=st.integers(0, 3)),
)
def test_margin_is_the_logit_of_the_labels_probability(logits, y):
    found = margin(logits, y)
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    for k, i in np.ndindex(2, 3):
        weights = [math.exp(float(z)) for z in logits[k, i]]
        p = weights[y[i]] / math.fsum(weights)
        np.testing.assert_allclose(found[k, i], math.log(p / (1 - p)), rtol=1e-9, atol=1e-9)


def test_margin_of_certain_predictions_is_finite_and_right():
    logits = np.float32([[1e4, -1e4, -1e4], [1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [0, -1e4, 0]])
    before = logits.copy()
    found = margin(logits, np.array([0, 1, 2, 1]))
    np.testing.assert_allclose(found, [2e4 - math.log(2), -2e4, -math.log(2), -1e4 - math.log(2)], rtol=1e-12)
    np.testing.assert_array_equal(logits, before)  # its caller's array is left alone


# --- LiRA ------------------------------------------------------------------------------------------------------------


def halves(rng: np.random.Generator, shadows: int, n: int) -> np.ndarray:
    """inside (K, n): of each record half of the shadows, drawn anew for each."""
    return np.stack([rng.permutation(shadows) < shadows // 2 for _ in range(n)], axis=1)


def uneven(rng: np.random.Generator, shadows: int, n: int, least: int = 2) -> np.ndarray:
    """inside (K, n) in which records differ in how many saw them, but at least `least` did, and did not."""
    counts = rng.integers(least, shadows - least + 1, n)
    return np.stack([rng.permutation(shadows) < count for count in counts], axis=1)


def test_with_many_shadows_the_fixed_score_is_the_true_likelihood_ratio():
    """Means of records of their own, one sigma. The tolerance is 5 standard errors of the estimated moments."""
    rng, shadows, n, sigma = np.random.default_rng(0), 2000, 60, 1.7
    mu_out, gap = rng.normal(0, 3, n), rng.uniform(-1, 4, n)
    inside = halves(rng, shadows, n)
    phi = mu_out + gap * inside + sigma * rng.standard_normal((shadows, n))
    target = mu_out + rng.choice([0, 1], n) * gap + sigma * rng.standard_normal(n)
    a, b = (target - mu_out) / sigma, (target - mu_out - gap) / sigma
    expected = (a**2 - b**2) / 2
    error = np.sqrt(2 / shadows) * np.hypot(a, b) + np.sqrt(2 / (shadows / 2 * n)) * (a**2 + b**2 + 2) / 2
    found = lira_online(target, phi, inside, "fixed")
    assert (np.abs(found - expected) <= 5 * error).all()
    assert np.abs(expected).max() > 20 * error.mean()  # there was something to get wrong


def test_lira_reaches_the_optimum_of_gaussian_records():
    """Every record has d' = delta / sigma: AUC Phi(d'/sqrt 2), and accuracy Phi(d'/2) at 0; tolerance 4 std. errors."""
    rng, shadows, n, delta, sigma, rounds = np.random.default_rng(1), 1000, 1500, 3.0, 2.0, 8
    mu_out, inside = rng.normal(0, 5, n), halves(rng, shadows, n)
    phi = mu_out + delta * inside + sigma * rng.standard_normal((shadows, n))
    member = np.tile(rng.permutation(n) < n // 2, (rounds, 1))
    target = mu_out + delta * member + sigma * rng.standard_normal((rounds, n))
    half = member.sum()
    tolerance = 4 * np.sqrt((2 * half + 1) / (12 * half**2))
    for attack in (lira_online, lira_offline):
        scores = np.stack([attack(row, phi, inside, "fixed") for row in target])
        assert abs(auc(scores[member], scores[~member]) - norm.cdf(delta / sigma / np.sqrt(2))) < tolerance
        zero = delta / sigma / 2 if attack is lira_offline else 0  # halfway between the two means
        accuracy = balanced_accuracy(scores[member] > zero, scores[~member] > zero)
        assert abs(accuracy - norm.cdf(delta / sigma / 2)) < 4 * 0.5 / np.sqrt(2 * half)
    assert auc(target[member], target[~member]) < 0.7  # one threshold on phi itself does much worse


def naive_parts(phi: np.ndarray, inside: np.ndarray, i: int, variance: str):
    """For IN and OUT of record i, by loops: mean (d,) and covariance (d, d), unbiased."""
    for which in (True, False):
        each = [
            np.array([phi[k, j] for k in range(len(phi)) if inside[k, j] == which]).reshape(-1, *phi.shape[2:])
            for j in range(phi.shape[1])
        ]
        rows = [part.reshape(len(part), -1) for part in each]
        mean = rows[i].mean(axis=0)
        if variance == "record":
            yield mean, np.atleast_2d(np.cov(rows[i], rowvar=False, ddof=1))
        else:
            centred = [row - part.mean(axis=0) for part in rows for row in part]
            freedom = sum(len(part) - 1 for part in rows)
            yield mean, sum(np.outer(row, row) for row in centred) / freedom


@pytest.mark.parametrize("variance", ["record", "fixed"])
def test_online_score_is_the_difference_of_two_normal_log_densities(variance):
    rng = np.random.default_rng(2)
    n, inside = 7, uneven(rng, 9, 7)
    spread = rng.uniform(0.5, 3, n)
    phi, target = rng.normal(0, 1, (9, n)) * spread + rng.normal(0, 2, n), rng.normal(0, 3, n)
    found = lira_online(target, phi, inside, variance)
    for i in range(n):
        logs = []
        for which, (mean, cov) in zip((True, False), naive_parts(phi, inside, i, variance), strict=True):
            if variance == "record":
                values = [phi[k, i] for k in range(9) if inside[k, i] == which]
                np.testing.assert_allclose(cov[0, 0], np.var(values, ddof=1))
            logs.append(norm.logpdf(target[i], mean[0], np.sqrt(cov[0, 0])))
        np.testing.assert_allclose(found[i], logs[0] - logs[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["record", "fixed"])
def test_online_score_of_two_statistics_is_that_of_two_dimensional_normals(variance):
    rng = np.random.default_rng(3)
    n, inside, mix = 5, uneven(rng, 14, 5, least=4), np.array([[1.0, 0.6], [0.0, 0.8]])
    phi, target = rng.normal(0, 1, (14, n, 2)) @ mix + rng.normal(0, 1, (n, 2)), rng.normal(0, 2, (n, 2))
    found = lira_online(target, phi, inside, variance)
    for i in range(n):
        logs = [multivariate_normal.logpdf(target[i], mean, cov) for mean, cov in naive_parts(phi, inside, i, variance)]
        np.testing.assert_allclose(found[i], logs[0] - logs[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("variance", ["record", "fixed"])
def test_offline_score_counts_standard_deviations_above_the_out_models(variance):
    rng = np.random.default_rng(4)
    n, inside = 6, uneven(rng, 8, 6)
    phi, target = rng.normal(0, 2, (8, n)), rng.normal(0, 2, n)
    found = lira_offline(target, phi, inside, variance)
    for i in range(n):
        _, (mean, cov) = naive_parts(phi, inside, i, variance)
        np.testing.assert_allclose(found[i], (target[i] - mean[0]) / np.sqrt(cov[0, 0]), rtol=1e-4)
    seen = phi + 100 * inside  # what IN models say plays no part offline
    np.testing.assert_array_equal(lira_offline(target, seen, inside, variance), found)


@pytest.mark.parametrize("variance", ["record", "fixed"])
def test_the_order_of_the_shadows_and_the_unit_of_phi_do_not_matter(variance):
    rng = np.random.default_rng(5)
    inside, order = uneven(rng, 10, 20), rng.permutation(10)
    phi, target = rng.normal(0, 1, (10, 20)), rng.normal(0, 1, 20)
    for attack in (lira_online, lira_offline):
        found = attack(target, phi, inside, variance)
        np.testing.assert_allclose(attack(target, phi[order], inside[order], variance), found, rtol=1e-9, atol=1e-9)
        moved = attack(40 - 1000 * target, 40 - 1000 * phi, inside, variance)  # a ratio of densities keeps no unit
        np.testing.assert_allclose(moved, found if attack is lira_online else -found, rtol=1e-3, atol=1e-3)


def test_a_record_that_all_shadows_or_none_saw_is_refused_by_its_number():
    inside = uneven(np.random.default_rng(6), 6, 5)
    phi, target = np.zeros((6, 5)), np.zeros(5)
    all_saw, none_saw = inside.copy(), inside.copy()
    all_saw[:, 3], none_saw[:, 2] = True, False
    for attack, design_, record in (
        (lira_online, all_saw, 3),
        (lira_online, none_saw, 2),
        (lira_offline, all_saw, 3),
    ):
        with pytest.raises(ArgumentError, match=f"record {record} "):
            attack(target, phi, design_)
    assert lira_offline(target, phi, none_saw).shape == (5,)  # that no model saw it is what offline is about


def test_the_one_variance_of_a_single_record_is_its_own():
    """Of two models each: one degree of freedom."""
    phi, target, inside = np.array([[0.0], [4.0], [1.0], [2.0]]), np.array([3.0]), np.array([[1], [1], [0], [0]]) > 0
    for attack in (lira_online, lira_offline):
        np.testing.assert_array_equal(attack(target, phi, inside, "fixed"), attack(target, phi, inside, "record"))
    np.testing.assert_allclose(lira_offline(target, phi, inside), 1.5 / np.sqrt(0.5), rtol=1e-5)


def test_an_unknown_variance_is_refused():
    inside = uneven(np.random.default_rng(6), 6, 5)
    for attack in (lira_online, lira_offline):
        with pytest.raises(ArgumentError, match="variance must be record or fixed, got 'own'"):
            attack(np.zeros(5), np.zeros((6, 5)), inside, "own")


@pytest.mark.parametrize("variance", ["record", "fixed"])
def test_shadows_that_all_say_the_same_give_finite_scores(variance):
    inside = uneven(np.random.default_rng(7), 6, 5)
    for attack in (lira_online, lira_offline):
        assert np.isfinite(attack(np.arange(5.0), np.ones((6, 5)), inside, variance)).all()


# --- RMIA and difficulty ---------------------------------------------------------------------------------------------

sixteenths = st.integers(0, 16).map(lambda k: k / 16)
probable = st.integers(1, 16).map(lambda k: k / 16)


@quick
@given(
    st.integers(1, 6).flatmap(lambda n: st.lists(st.tuples(sixteenths, probable), min_size=n, max_size=n)),
    st.lists(st.tuples(probable, probable), min_size=1, max_size=8),
    st.sampled_from([1.0, 2.0, 4.0]),
)
def test_rmia_counts_population_records(records, population, gamma):
    """In sixteenths equal ratios are equal floats, so that ties count as the definition says."""
    found = rmia(*np.array(records).T, *np.array(population).T, gamma)
    for score, (p, prior) in zip(found, records, strict=True):
        wins = 0
        for z, z_prior in population:
            ratio = (Fraction(p) / Fraction(prior)) / (Fraction(z) / Fraction(z_prior))
            wins += ratio >= gamma
        assert score == wins / len(population)


def test_gamma_is_2_unless_another_is_asked_for():
    args = np.array([0.5]), np.array([0.5]), np.array([0.5, 0.49, 0.51]), np.ones(3)
    assert rmia(*args) == [2 / 3]  # ratios of 2, 2.04 and 1.96


def test_rmia_compares_ratios_however_small_the_probabilities_are():
    """A record that all models find improbable, and the target 10,000 times less so; and the other way round."""
    half, target, prior = np.array([0.5]), np.array([1e-14, 1e-18]), np.array([1e-18, 1e-14])
    assert list(rmia(target, prior, half, half)) == [1, 0]
    assert list(rmia(half, half, target, prior)) == [0.5]  # the second record of the population alone
    assert list(rmia(np.zeros(1), np.zeros(1), half, half)) == [0]


def test_with_equal_priors_rmia_is_the_distribution_function_of_the_population():
    rng = np.random.default_rng(8)
    p, z = rng.uniform(0, 1, 50), rng.uniform(0, 1, 80)
    found = rmia(p, np.full(50, 0.25), z, np.full(80, 0.25), gamma=1.0)
    np.testing.assert_array_equal(found, [sum(value <= x for value in z) / 80 for x in p])


def test_a_population_that_gives_nothing_to_its_labels_is_no_error():
    p, half = np.array([0.5, 0.0]), np.array([0.0, 0.5])
    assert list(rmia(p, half, half, half)) == [1, 0.5]


@quick
@given(st.data())
def test_priors_are_those_of_the_paper(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    inside, p = uneven(rng, 6, 4, least=1), rng.uniform(0, 1, (6, 4))
    a = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    online, offline = prior_online(p, inside), prior_offline(p, inside, a)
    for i in range(4):
        saw, did_not = ([p[k, i] for k in range(6) if inside[k, i] == which] for which in (True, False))
        p_in, p_out = math.fsum(saw) / len(saw), math.fsum(did_not) / len(did_not)
        np.testing.assert_allclose(online[i], (p_in + p_out) / 2, rtol=1e-12)
        np.testing.assert_allclose(offline[i], ((1 + a) * p_out + (1 - a)) / 2, rtol=1e-12)
        if a in (0, 1):
            np.testing.assert_allclose(offline[i], p_out if a == 1 else (p_out + 1) / 2, rtol=1e-12)


@quick
@given(st.integers(0, 10_000))
def test_difficulty_is_the_mean_score_without_the_record(seed):
    rng = np.random.default_rng(seed)
    inside, scores, target = uneven(rng, 5, 4, least=1), rng.normal(0, 3, (5, 4)), rng.normal(0, 3, 4)
    found = calibrated(target, scores, inside)
    for i in range(4):
        without = [scores[k, i] for k in range(5) if not inside[k, i]]
        np.testing.assert_allclose(found[i], target[i] - math.fsum(without) / len(without), rtol=1e-9, atol=1e-12)


# --- exposure --------------------------------------------------------------------------------------------------------


def logits_of(phi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits (..., n, 2) of two classes whose margin for y (n,) in {0, 1} is phi (..., n)."""
    return np.stack([np.where(y == 0, phi, 0), np.where(y == 1, phi, 0)], axis=-1)


def test_exposure_is_the_distance_of_the_two_normals():
    """Its error has a standard deviation of sqrt(4 / K) and, since sigma is pooled, no bias from large distances."""
    rng, shadows, n, sigma = np.random.default_rng(9), 400, 800, 2.5
    d, y, inside = rng.uniform(-1, 8, n), rng.integers(0, 2, n), design(n, shadows, rng)
    phi = rng.normal(0, 5, n) + sigma * (d * inside + rng.standard_normal((shadows, n)))
    pairs = exposure(logits_of(phi, y), y, inside).pairs
    assert pairs.shape == (shadows // 2, n)
    error = pairs.mean(axis=0) - d
    deviation = np.sqrt(4 / shadows)
    assert abs(error.mean()) < 5 * deviation / np.sqrt(n)
    assert abs(error.std() / deviation - 1) < 0.15
    assert abs(np.polyfit(d, error, 1)[0]) < 0.01


def test_what_pruning_changes_in_a_fleet():
    """Dense: phi is N(+-mu, 1) in and out, so that the ratio test is right with probability Phi(mu); pruned: mu / 2."""
    rng, n, K, mu = np.random.default_rng(31), 1000, 40, 1.6
    y, inside, own = rng.integers(0, 2, n), design(n, K, rng), rng.normal(0, 0.5, n)
    sides = np.where(inside, 1, -1)
    dense, pruned = (logits_of(own + size * sides + rng.standard_normal((K, n)), y) for size in (mu, mu / 2))
    found = fleet_change(dense, pruned, y, inside)
    expected = norm.cdf(mu / 2) - norm.cdf(mu)
    attack, test = found["attack_accuracy_change"], found["test_accuracy_change"]
    assert attack["value"] == pytest.approx(expected, abs=0.01)  # the moments of 38 shadows cost it a little
    assert attack["low"] < attack["value"] < attack["high"] < 0

    right = [(of.argmax(axis=2) == y) for of in (dense, pruned)]
    by_shadow = [right[1][k][~inside[k]].mean() - right[0][k][~inside[k]].mean() for k in range(K)]
    pairs = [(by_shadow[k] + by_shadow[k + 1]) / 2 for k in range(0, K, 2)]
    interval = ttest_1samp(pairs, 0).confidence_interval()
    assert [test["value"], test["low"], test["high"]] == pytest.approx([np.mean(pairs), *interval])
    same = fleet_change(dense, dense, y, inside)
    assert all(change == {"value": 0, "low": 0, "high": 0} for change in same.values())


def test_attacks_on_recipes_that_leak_alike_are_told_apart_no_more_often_than_alpha():
    """Each shadow is compared with nearly the same others: what these happen to be, all attacks have in common."""
    missed, draws, K, n = 0, 300, 6, 80
    for seed in range(draws):
        rng = np.random.default_rng([1, seed])
        y, inside, d = rng.integers(0, 2, n), design(n, K, rng), rng.uniform(0.5, 1.5, n)
        stages = [d * inside * (1 + 0.3 * rng.standard_normal((K, 1))) + rng.standard_normal((K, n)) for _ in range(2)]
        found = fleet_change(*(logits_of(phi, y) for phi in stages), y, inside)["attack_accuracy_change"]
        missed += not found["low"] <= 0 <= found["high"]
    assert missed <= 0.05 * draws + 4 * math.sqrt(0.05 * 0.95 * draws)


@pytest.mark.parametrize("off", [0.0, 3.0])
def test_a_model_that_is_surer_of_all_records_exposes_none(off):
    """One model of one pair has margins that are higher by `off` standard deviations for all records, trained on or
    not. Its differences lean one way for the records that it trained on and the other way for the rest."""
    missed, draws, K, n = 0, 60, 8, 300
    for seed in range(draws):
        rng = np.random.default_rng([33, seed])
        y, inside = rng.integers(0, 2, n), design(n, K, rng)
        stages = [rng.standard_normal((K, n)) for _ in range(2)]
        stages[1][0] += off
        before, after = (exposure(logits_of(phi, y), y, inside) for phi in stages)
        found = exposure_change(before, after, y, classes=2)["more_exposed"]
        missed += found["low"] > 0 or found["high"] < 1
        side = np.where(inside[0], 1, -1)
        assert abs((side * after.pairs[0]).mean()) < 1e-9  # nothing of the shift is left
    assert missed <= 0.05 * draws + 4 * math.sqrt(0.05 * 0.95 * draws)


@pytest.mark.parametrize("d", [0.0, 8.0])
def test_the_bound_of_many_shadows_counts_models_that_chose_nothing(d):
    """One record of 40 is exposed by d standard deviations. The record and the threshold come from the first half of
    the pairs; the counts are those of the second."""
    rng, K, n = np.random.default_rng(34), 200, 40
    y, inside = rng.integers(0, 2, n), design(n, K, rng)
    phi = rng.standard_normal((K, n)) + d * inside * (np.arange(n) == 7)
    found = runs_bound(logits_of(phi, y), y, inside)
    assert found["models"] == 50
    if d:
        assert found["row"] == 7
        wrong = 1 - 0.025 ** (1 / 50)
        assert found["value"] == pytest.approx(math.log((1 - wrong) / wrong))  # all right
    else:
        assert found["value"] == 0
    again = phi.copy()
    again[100:] = rng.standard_normal((100, n))
    assert runs_bound(logits_of(again, y), y, inside)["row"] == found["row"]


def test_exposure_change_by_hand():
    y, dense = np.array([0, 0, 1, 1, 1, 2]), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    change = np.array([0.1, 0.3, -1.0, 0.0, 0.4, 5.0])
    pairs = np.array([[-0.25], [0.125], [0.125]])  # three measurements whose mean is the exposure
    luck = np.array([[1.0], [-1.5], [0.5]]) * (y == 1)  # and of class 1 the pairs differ more
    measured = [dense + 3 * pairs, dense + change + pairs + luck]
    without = [(of.sum(axis=0) - of) / 2 for of in measured]  # with the same sigma
    found = exposure_change(*map(Exposure, measured, without), y, classes=4)
    assert found["more_exposed"]["value"] == 4 / 6  # no change is not more
    assert found["more_exposed"] == positive_share(measured[1] - measured[0], 0.05)
    assert found["change"]["value"] == pytest.approx(0.8)
    assert set(found["per_class"]) == {"0", "1"}  # one record of class 2 has no interval, class 3 has no record
    assert found["worst_class"] == "0"
    assert [entry["row"] for entry in found["most_risen"]] == [5, 4, 1, 0, 3, 2]
    assert found["most_risen"][1] == pytest.approx({"row": 4, "label": 1, "dense": 5.0, "pruned": 5.4})

    of_pairs = {"dense": measured[0], "pruned": measured[1], "change": measured[1] - measured[0]}
    for name, values in of_pairs.items():  # Student's interval over the means of the pairs
        interval = ttest_1samp(values.mean(axis=1), 0).confidence_interval()
        assert list(found[name].values()) == pytest.approx([values.mean(), *interval])
    for c in (0, 1):  # two classes share alpha
        values = of_pairs["change"][:, y == c].mean(axis=1)
        interval = ttest_1samp(values, 0).confidence_interval(1 - 0.05 / 2)
        assert list(found["per_class"][str(c)].values()) == pytest.approx([values.mean(), *interval])


def test_exposure_without_a_pair_is_that_of_the_other_shadows():
    rng, K, n = np.random.default_rng(36), 10, 30
    y, inside = rng.integers(0, 2, n), design(n, K, rng)
    logits = logits_of(3 * inside + rng.normal(0, 2, (K, n)), y)
    found = exposure(logits, y, inside)
    for j in range(K // 2):
        rest = np.arange(K) // 2 != j
        expected = exposure(logits[rest], y, inside[rest]).pairs.mean(axis=0)
        np.testing.assert_allclose(found.without[j], expected, rtol=1e-9)


@pytest.mark.parametrize(("d", "luck"), [(1.0, 0.0), (1.0, 0.3), (5.0, 0.0)])
def test_recipes_that_expose_alike_are_told_apart_no_more_often_than_alpha(d, luck):
    """Both expose records by d to 2 d standard deviations, and each network exposes all of its members by more or less
    than that: the records of a pair are not independent. Nor are they with a large d, since sigma is one for all."""
    missed, draws, K, n = np.zeros(2), 100, 12, 150
    for seed in range(draws):
        rng = np.random.default_rng([35, seed])
        y, inside, distances = rng.integers(0, 2, n), design(n, K, rng), d * rng.uniform(1, 2, n)
        stages = [
            distances * inside * (1 + luck * rng.standard_normal((K, 1))) + rng.standard_normal((K, n))
            for _ in range(2)
        ]
        found = exposure_change(*(exposure(logits_of(phi, y), y, inside) for phi in stages), y, classes=2)
        of_classes = found["per_class"].values()
        missed += [not of["low"] <= 0 <= of["high"] for of in (found["change"], min(of_classes, key=_from_zero))]
    assert (missed <= 0.05 * draws + 4 * math.sqrt(0.05 * 0.95 * draws)).all()


def _from_zero(interval: dict) -> float:
    """How far 0 lies inside of an interval; negative where it lies outside."""
    return min(-interval["low"], interval["high"])


# --- the pool and who sees it ----------------------------------------------------------------------------------------


@quick
@given(st.integers(4, 40), st.integers(3, 10), st.integers(0, 1000))
def test_each_record_is_in_half_of_the_shadows_and_twins_are_complements(half, pairs, seed):
    inside = design(2 * half, 2 * pairs, np.random.default_rng(seed))
    assert inside.shape == (2 * pairs, 2 * half)
    assert inside.dtype == bool
    assert (inside.sum(axis=0) == pairs).all()
    assert (inside.sum(axis=1) == half).all()
    for j in range(pairs):
        assert (inside[2 * j] != inside[2 * j + 1]).all()


def test_pairs_are_drawn_independently():
    inside = design(400, 20, np.random.default_rng(0))[::2]
    together = [(a == b).mean() for a, b in itertools.combinations(inside, 2)]
    assert max(abs(share - 0.5) for share in together) < 5 * 0.5 / np.sqrt(400)


@pytest.mark.parametrize("shadows", [-4, 0, 1, 2, 3, 5, 17])
def test_a_number_of_shadows_that_cannot_be_paired_is_refused(shadows):
    with pytest.raises(ArgumentError, match=f"shadows must be an even number of at least .*, got {shadows}"):
        design(20, shadows, np.random.default_rng(0))


def recipe(members: int = 60, reference: int = 40, nonmembers: int = 60, **changes):
    """A recipe for digits that takes moments. Its numbers are not those of the catalogue, so that they must be kept."""
    sizes = {"members": members, "reference": reference, "nonmembers": nonmembers}
    fields = {
        "widths": (24, 12),
        "minmax": 0.0,
        "keep": (0.2,),
        "dense": Schedule(epochs=6, batch=32, lr=0.03, momentum=0.8, weight_decay=1e-3, decay="cosine"),
        "prune": Schedule(epochs=3, batch=32, lr=0.04, momentum=0.7, weight_decay=2e-3),
        "retrain": Schedule(epochs=2, batch=32, lr=0.02, momentum=0.6, weight_decay=3e-3, decay="cosine"),
        "admm": ADMMSettings(rho=0.3, iterations=2),
    }
    return dataclasses.replace(recipe_for(load("digits"), **sizes), **(fields | changes))


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def trained(dataset: Dataset, seed: int = 0, **changes):
    return train_model(dataset, recipe(**changes), seed, 1)


@pytest.fixture(scope="module")
def dense(digits):
    return trained(digits)


@pytest.fixture(scope="module")
def pruned(digits, dense):
    return prune_model(dense, digits, recipe(), 0.2, 1)


@pytest.fixture(scope="module")
def played(digits):
    """A dense network of the Min-Max game."""
    return trained(digits, minmax=2.0)


@pytest.fixture(scope="module")
def pruned_and_played(digits, played):
    return prune_model(played, digits, recipe(minmax=2.0), 0.2, 1)


@pytest.mark.parametrize(
    ("members", "reference", "nonmembers"), [(200, 200, 1000), (300, 200, 100), (60, 0, 60), (4, 10, 7)]
)
def test_pool_of_digits(digits, dense, members, reference, nonmembers):
    model = dataclasses.replace(dense, members=members, reference=reference, nonmembers=nonmembers, seed=5)
    pool, split = make_pool(model, digits), make_split(digits, members, reference, nonmembers, 5)
    s = min(members, nonmembers)
    assert len(pool.scored) == len(pool.member) == 2 * s
    np.testing.assert_array_equal(pool.member, np.arange(2 * s) < s)  # members first
    assert set(pool.scored[:s]) <= set(split.members)
    assert set(pool.scored[s:]) <= set(split.nonmembers)
    assert set(pool.rest) == set(split.members) - set(pool.scored)
    assert set(pool.reference) == set(split.reference)
    everything = np.concatenate([pool.scored, pool.rest, pool.reference, pool.population])
    assert len(set(everything)) == len(everything)  # disjoint
    assert len(everything) == 1797  # nothing is left aside where the population's limit is not reached

    inside = design(2 * s, 6, np.random.default_rng(0))
    for row in inside:
        shadow = fleets._split(pool, row)
        assert len(shadow.members) == members  # a shadow has as much to learn from as the target
        assert set(shadow.members) == set(pool.scored[row]) | set(pool.rest)
        assert set(shadow.nonmembers) == set(pool.scored[~row])
        np.testing.assert_array_equal(shadow.reference, split.reference)


def test_the_population_has_a_limit_and_is_drawn_from_all_that_is_left(digits, dense, monkeypatch):
    whole = set(make_pool(dense, digits).population)
    monkeypatch.setattr(fleets, "POPULATION", 50)
    some = make_pool(dense, digits).population
    assert len(some) == len(set(some)) == 50
    assert set(some) <= whole
    assert sorted(some) != sorted(whole)[:50]  # not just the first ones
    np.testing.assert_array_equal(some, make_pool(dense, digits).population)


def test_a_pool_that_is_too_small_is_refused(digits, dense):
    for sizes in ({"members": 3}, {"nonmembers": 3}):
        with pytest.raises(ArgumentError, match="at least 4 each for shadows, got 3"):
            make_pool(dataclasses.replace(dense, **sizes), digits)


# --- what a mask says ------------------------------------------------------------------------------------------------

toy_records = np.random.default_rng(10).integers(0, 5, (30, 5)).astype(np.uint8)
TOY = Dataset.of("toy", toy_records, np.arange(30) % 3, 3, scale=4)


def sparse_net(replicas: int, share: float, seed: int = 11):
    """Networks 5-4-3-3 of which about a `share` of the weights is there, with biases."""
    rng = np.random.default_rng(seed)
    net = build(describe("mlp", (5,), 3, [4, 3]), replicas)
    net.theta[...] = rng.normal(0, 1, net.theta.shape)
    net.W[...] *= rng.random(net.W.shape) < share
    return net


def layers(net, r: int) -> list[np.ndarray]:
    """The three matrices (out, in) of replica r, cut out of theta by hand."""
    stops = np.cumsum([0, 4 * 5, 3 * 4, 3 * 3])
    shapes = [(4, 5), (3, 4), (3, 3)]
    return [net.theta[r, a:b].reshape(shape) for a, b, shape in zip(stops, stops[1:], shapes, strict=False)]


def test_path_margins_count_the_paths_that_survived():
    net, index = sparse_net(6, 0.6), np.arange(30)[::-1].copy()
    found = path_margins(net, TOY, index, 1)
    assert found.shape == (6, 30)
    assert np.isfinite(found).all()
    none_to_label = 0
    for r, (n, i) in itertools.product(range(6), enumerate(index)):
        first, second, third = layers(net, r)
        paths = [0.0, 0.0, 0.0]
        for x, g, h, c in itertools.product(range(5), range(4), range(3), range(3)):
            if first[g, x] != 0 and second[h, g] != 0 and third[c, h] != 0:
                paths[c] += float(TOY.x[i, x])
        expected = math.log((paths[TOY.y[i]] + 1) / (sum(paths) / 3 + 1))  # one path more in both
        np.testing.assert_allclose(found[r, n], expected, atol=1e-5)
        none_to_label += paths[TOY.y[i]] == 0
    assert 0 < none_to_label < 60


def test_path_margins_see_through_normalisation():
    """Scales, shifts and running statistics are no mask: whatever they are, the margins are those of the weights."""
    records = np.random.default_rng(0).integers(0, 5, (6, 32, 3, 32)).astype(np.uint8)
    images, index = Dataset.of("images", records, np.arange(6) % 3, 3, scale=4), np.arange(6)
    net = build(describe("resnet18", (32, 3, 32), 3, 0.05)).initialise([np.random.default_rng(0)])
    found = path_margins(net, images, index, 1)
    assert np.ptp(found) == 0  # all weights are there: every class has as many paths
    net.weights[-1].value[0, 0, 1:] = 0  # class 0 has fewer
    found = path_margins(net, images, index, 1)
    assert (found[0, [0, 3]] < found[0, [1, 2, 4, 5]].min()).all()
    for p in net.biases:
        p.value[...] = 7.0
    net.state[...] = 5.0
    np.testing.assert_array_equal(path_margins(net, images, index, 1), found)
    assert (net.state == 5.0).all()


def test_path_margins_know_the_mask_alone():
    net, index = sparse_net(2, 0.7), np.arange(30)
    before, found = net.theta.copy(), path_margins(net, TOY, index, 1)
    np.testing.assert_array_equal(net.theta, before)

    other = net.copy()
    other.theta[...] *= np.random.default_rng(12).choice([-3.0, -0.1, 0.2, 7.0], other.theta.shape)  # biases too
    np.testing.assert_array_equal(path_margins(other, TOY, index, 1), found)

    for r in range(2):
        first, second, third = layers(other, r)
        g, h = [2, 0, 3, 1], [1, 2, 0]
        first[...], second[...], third[...] = first[g], second[h][:, g], third[:, h]
    np.testing.assert_allclose(path_margins(other, TOY, index, 1), found, atol=1e-5)

    first, _, third = layers(other, 0)
    third[0, np.flatnonzero(third[0])[0]] = 0  # another mask
    changed = path_margins(other, TOY, index, 1)
    assert (np.abs(changed[0] - found[0]) > 1e-3).any()
    np.testing.assert_allclose(changed[1], found[1], atol=1e-5)


# --- attacks on outputs whose distribution is known ------------------------------------------------------------------


def gaussian_views(seed: int, shadows: int, n: int, delta: float, of_dense: float = 0.0, of_mask: float = 0.0):
    """Views of normal statistics with d' = delta after pruning, of_dense before and of_mask in the paths; the members.

    The records' own means are spread more widely than that.
    """
    rng = np.random.default_rng(seed)
    inside, member = design(n, shadows, rng), rng.permutation(n) < n // 2
    saw, y = np.vstack([inside, member]), rng.integers(0, 2, n)

    def phi(gap: float, spread: float) -> np.ndarray:
        return rng.normal(0, spread, n) + gap * saw + rng.standard_normal(saw.shape)

    population_y = rng.integers(0, 2, 150)
    population = logits_of(rng.normal(0, 1.5, 150) + rng.standard_normal((shadows + 1, 150)), population_y)
    logits = {"train": logits_of(phi(of_dense, 1.5), y), "prune": logits_of(phi(delta, 1.5), y)}
    x, labels = rng.standard_normal((n + 150, 3)).astype(np.float32), np.concatenate([y, population_y])
    features = Features.of(x, labels, 2, np.arange(n), np.arange(n, n + 150))
    paths, other = phi(of_mask, 1.5), phi(0.0, 1.5)
    versions = np.stack([margin(logits["prune"], y), other], axis=-1)
    sensitivity = np.exp(rng.standard_normal(logits["prune"].shape))
    return Views(inside, logits, population, paths, y, population_y, None, features, versions, sensitivity), member


def auc_error(n: int) -> float:
    """The standard deviation of the AUC of n/2 members and n/2 non-members who do not differ."""
    return np.sqrt((n + 1) / (12 * (n / 2) ** 2))


def test_attacks_reach_the_known_optimum_with_thresholds_from_the_shadows():
    """With 64 shadows little is lost by estimating: AUC Phi(d'/sqrt 2), accuracy Phi(d'/2)."""
    n, delta, of_dense, of_mask = 2000, 1.5, 2.0, 1.0
    views, member = gaussian_views(13, 64, n, delta, of_dense, of_mask)
    attacks = shadow_attacks.shadow_attacks(views)
    assert list(attacks) == [a.name for a in ATTACKS if not a.costly]
    distances = dict.fromkeys((*LIRA, "bavaria_online", "bavaria_offline"), delta)
    distances |= {"lira_dense_and_pruned": np.hypot(delta, of_dense), "mask_alone": of_mask}
    distances |= dict.fromkeys(VERSIONS, delta)  # the other version says nothing
    for name, d in distances.items():
        found = attack_target(attacks[name], views)
        area = auc(found.scores[member], found.scores[~member])
        assert norm.cdf(d / np.sqrt(2)) - 0.05 < area < norm.cdf(d / np.sqrt(2)) + 0.03, name
        accuracy = balanced_accuracy(found.said[member], found.said[~member])
        assert norm.cdf(d / 2) - 0.06 < accuracy < norm.cdf(d / 2) + 0.04, name
    for name in ("difficulty", "base_online", "base_offline", "rapid", *RMIA):
        found = attack_target(attacks[name], views)
        assert auc(found.scores[member], found.scores[~member]) > 0.75, name
        assert balanced_accuracy(found.said[member], found.said[~member]) > 0.68, name


@pytest.fixture(scope="module", params=[6, 16])
def nothing(request):
    """Views in which no model knows its members: the record means differ, membership moves nothing."""
    return gaussian_views(14, request.param, 2000, 0.0)


@pytest.mark.parametrize("name", [a.name for a in ATTACKS])
def test_an_attack_on_outputs_that_say_nothing_is_at_chance(nothing, name):
    """Within 4 standard deviations, for every line of the table."""
    views, member = nothing
    found = attack_target(shadow_attacks.shadow_attacks(views, {name})[name], views)
    n = len(member)
    assert abs(auc(found.scores[member], found.scores[~member]) - 0.5) < 4 * auc_error(n)
    for said in (found.said, found.said_per_class):
        assert abs(balanced_accuracy(said[member], said[~member]) - 0.5) < 4 * 0.5 / np.sqrt(n)


def fewest_shadows() -> int:
    for shadows in (4, 6, 8):
        try:
            design(20, shadows, np.random.default_rng(0))
        except ArgumentError:
            continue
        return shadows
    raise AssertionError("no small number of shadows is accepted")


def test_thresholds_fit_the_target_even_with_the_fewest_shadows():
    """Each shadow is scored by two shadows fewer than the target: the scores must still have one scale."""
    views, member = gaussian_views(15, fewest_shadows(), 2000, 3.0)
    for name, attack in shadow_attacks.shadow_attacks(views).items():
        if not name.endswith("_record") and name != "mask_alone":
            found = attack_target(attack, views)
            assert auc(found.scores[member], found.scores[~member]) > 0.75, name
            assert balanced_accuracy(found.said[member], found.said[~member]) > 0.65, name


def test_a_shadow_is_compared_with_neither_itself_nor_its_twin():
    for shadows in (4, 6, 10):
        for k in range(shadows):
            twin = k + 1 if k % 2 == 0 else k - 1
            assert sorted(others(k, shadows)) == [j for j in range(shadows) if j not in (k, twin)]


def changed_row(views: Views, row: int, rng: np.random.Generator, seen: bool = False) -> Views:
    """The same views but for what model `row` says, and with `seen` also for what it and its twin trained on."""

    def redrawn(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[row] = rng.normal(0, 4, values[row].shape)
        return values

    inside = views.inside.copy()
    if seen:
        pair = [row, row + 1 - 2 * (row % 2)]
        inside[pair] = ~inside[pair]
    logits = {stage: redrawn(values) for stage, values in views.logits.items()}
    return dataclasses.replace(
        views,
        inside=inside,
        logits=logits,
        population=redrawn(views.population),
        paths=redrawn(views.paths),
        versions=redrawn(views.versions),
        sensitivity=np.abs(redrawn(views.sensitivity)),
    )


def test_a_shadows_scores_do_not_depend_on_its_twin_or_on_its_own_membership(monkeypatch):
    monkeypatch.setattr(fitted_attacks, "A_GRID", np.array([0.3]))  # what is chosen over all shadows: a of offline RMIA
    rng = np.random.default_rng(16)
    views, _ = gaussian_views(17, 8, 40, 1.0)
    before = shadow_attacks.shadow_attacks(views)
    twins = shadow_attacks.shadow_attacks(changed_row(views, 3, rng, seen=True))
    another = shadow_attacks.shadow_attacks(changed_row(views, 5, rng))
    itself = shadow_attacks.shadow_attacks(changed_row(views, 2, rng))
    for name in before:
        scores = before[name](2, others(2, 8))
        np.testing.assert_array_equal(twins[name](2, others(2, 8)), scores, err_msg=name)
        assert (another[name](2, others(2, 8)) != scores).any() == (name not in BY_TARGET_ALONE), name
        assert (itself[name](2, others(2, 8)) != scores).any(), name


def test_thresholds_are_the_best_for_the_shadows_and_the_targets_outputs_do_not_move_them():
    views, _ = gaussian_views(18, 6, 600, 1.0)
    attack = shadow_attacks.shadow_attacks(views)["lira_online"]
    own = [(attack(k, others(k, 6)), views.inside[k]) for k in range(6)]

    def best(keep: np.ndarray) -> float:
        """The threshold of the highest balanced accuracy over all shadows' records of `keep`, every one tried."""
        members = np.concatenate([scores[row & keep] for scores, row in own])
        nonmembers = np.concatenate([scores[~row & keep] for scores, row in own])
        candidates = np.array(sorted({*members, *nonmembers}, reverse=True))[:, None]
        return candidates[
            np.argmax(((members >= candidates).mean(1) - (nonmembers >= candidates).mean(1)).round(12)), 0
        ]

    for found_in in (views, changed_row(views, 6, np.random.default_rng(0))):
        target = shadow_attacks.shadow_attacks(found_in)["lira_online"]
        found = attack_target(target, found_in)
        np.testing.assert_array_equal(found.scores, target(6, np.arange(6)))
        np.testing.assert_array_equal(found.said, found.scores >= best(np.ones(600, bool)))
        t = np.array([best(views.y == c) for c in (0, 1)])
        np.testing.assert_array_equal(found.said_per_class, found.scores >= t[views.y])


def test_each_name_stands_for_its_attack():
    views, _ = gaussian_views(27, 8, 30, 1.5, 1.0, 0.5)
    attacks, inside = shadow_attacks.shadow_attacks(views), views.inside
    first, last = (margin(logits, views.y) for logits in views.logits.values())
    both = np.stack([first, last], axis=-1)
    log_p = -np.log1p(np.exp(-last))  # of two classes
    expected = {
        "lira_online": lira_online(last[8], last[:8], inside, "fixed"),
        "lira_online_record": lira_online(last[8], last[:8], inside, "record"),
        "lira_offline": lira_offline(last[8], last[:8], inside, "fixed"),
        "lira_offline_record": lira_offline(last[8], last[:8], inside, "record"),
        "lira_dense_and_pruned": lira_online(both[8], both[:8], inside, "fixed"),
        "lira_versions": lira_versions(views.versions[8], views.versions[:8], inside, "fixed"),
        "lira_versions_record": lira_versions(views.versions[8], views.versions[:8], inside, "record"),
        "mask_alone": lira_online(views.paths[8], views.paths[:8], inside, "fixed"),
        "difficulty": calibrated(log_p[8], log_p[:8], inside),
        "bavaria_online": bavaria_online(last[8], last[:8], inside),
        "bavaria_offline": bavaria_offline(last[8], last[:8], inside),
        "base_online": base_online(log_p[8], log_p[:8]),
        "population": population_attack(last[8], margin(views.population[8], views.population_y)),
    }
    assert set(attacks) == set(expected) | RMIA | {
        "base_offline",
        "rapid",
        "samia",
        "quantile",
    }  # in which something is fitted
    for name, scores in expected.items():
        np.testing.assert_allclose(attacks[name](8, np.arange(8)), scores, rtol=1e-6, atol=1e-9, err_msg=name)


def test_rmia_takes_the_a_that_is_best_for_the_shadows():
    """Online too: what shadows say of population records is always said without them."""
    views, _ = gaussian_views(26, 8, 300, 1.5)
    p, z = (
        1 / (1 + np.exp(-margin(logits, y)))
        for logits, y in ((views.logits["prune"], views.y), (views.population, views.population_y))
    )
    attacks = shadow_attacks.shadow_attacks(views)
    for name in RMIA:

        def scores(k: int, of: np.ndarray, a: float, name: str = name) -> np.ndarray:
            inside = views.inside[of]
            prior = prior_online(p[of], inside) if name == "rmia_online" else prior_offline(p[of], inside, a)
            return rmia(p[k], prior, z[k], ((1 + a) * z[of].mean(axis=0) + 1 - a) / 2)

        quality = {}
        for a in np.linspace(0, 1, 11):
            each = [(scores(k, others(k, 8), a), views.inside[k]) for k in range(8)]
            quality[a] = np.mean([auc(row[saw], row[~saw]) for row, saw in each])
        best = max(quality, key=quality.__getitem__)
        assert min(quality.values()) < quality[best] - 0.001
        np.testing.assert_allclose(attacks[name](8, np.arange(8)), scores(8, np.arange(8), best), err_msg=name)


def test_without_a_population_no_attack_uses_one():
    views, _ = gaussian_views(19, 6, 40, 1.0)
    none = {"population": views.population[:, :0], "population_y": views.population_y[:0], "features": None}
    views = dataclasses.replace(views, **none)
    assert set(shadow_attacks.shadow_attacks(views)) == BY_RECORD | VERSIONS | {"lira_dense_and_pruned", "mask_alone"}


# --- the cache -------------------------------------------------------------------------------------------------------


def some_shadows(seed: int = 20, pruned: bool = True) -> Shadows:
    rng = np.random.default_rng(seed)
    stages = ("train", "prune") if pruned else ("train",)
    logits = {stage: rng.normal(0, 1, (6, 8, 3)).astype(np.float32) for stage in stages}
    population = {stage: rng.normal(0, 1, (6, 5 * pruned, 3)).astype(np.float32) for stage in stages}
    paths, sensitivity = rng.normal(0, 1, (6, 8)), rng.normal(0, 1, (6, 8, 3)).astype(np.float32)
    return Shadows(design(8, 6, rng), logits, population, paths if pruned else None, sensitivity)


def same_shadows(a: Shadows, b: Shadows) -> bool:
    for kind in ("logits", "population"):
        first, second = getattr(a, kind), getattr(b, kind)
        assert list(first) == list(second)  # in the order of the steps
        assert all(np.array_equal(first[stage], second[stage]) for stage in first)
    assert (a.paths is None) == (b.paths is None)
    np.testing.assert_array_equal(a.sensitivity, b.sensitivity)
    return np.array_equal(a.inside, b.inside) and (a.paths is None or np.array_equal(a.paths, b.paths))


def never(*checkpoints: object) -> Shadows:
    raise AssertionError("trained although the predictions are there")


@pytest.fixture
def kept(tmp_path):
    """A folder with one cached file, that file, and what made it."""
    cached(tmp_path, {"seed": 1}, lambda checkpoints: some_shadows())
    (path,) = tmp_path.iterdir()
    return tmp_path, path, {"seed": 1}


@pytest.mark.parametrize("pruned", [True, False])
def test_the_second_call_reads_what_the_first_one_kept(tmp_path, pruned):
    folder = tmp_path / "new"
    first = cached(folder, {"seed": 1}, lambda checkpoints: some_shadows(pruned=pruned))
    assert same_shadows(first, some_shadows(pruned=pruned))
    assert same_shadows(cached(folder, {"seed": 1}, never), first)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("stage", ["private", "masked"])
def test_the_stage_of_a_recipe_of_one_step_is_kept_too(tmp_path, stage):
    of = some_shadows(pruned=False)
    first = dataclasses.replace(of, logits={stage: of.logits["train"]}, population={stage: of.population["train"]})
    cached(tmp_path, {"seed": 1}, lambda checkpoints: first)
    assert same_shadows(cached(tmp_path, {"seed": 1}, never), first)


def test_another_recipe_or_version_has_another_file(kept, monkeypatch):
    folder, _, made_by = kept
    assert same_shadows(cached(folder, {"seed": 2}, lambda checkpoints: some_shadows(21)), some_shadows(21))
    assert same_shadows(cached(folder, made_by, never), some_shadows())
    monkeypatch.setattr(nanoprune, "__version__", "99")
    assert same_shadows(cached(folder, made_by, lambda checkpoints: some_shadows(22)), some_shadows(22))
    assert len(list(folder.iterdir())) == 3


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same_shadows(cached(None, {"seed": 1}, lambda checkpoints: some_shadows()), some_shadows())
    assert same_shadows(cached(None, {"seed": 1}, lambda checkpoints: some_shadows(21)), some_shadows(21))
    assert not list(tmp_path.iterdir())


def test_training_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(AssertionError, match="trained although"):
        cached(tmp_path, {"seed": 1}, never)
    assert not list(tmp_path.iterdir())


def alter_recipe(file: h5py.File) -> None:
    recipe = json.loads(file["made_by"][()])
    del file["made_by"]
    write_text(file, "made_by", json.dumps(recipe | {"seed": 2}, sort_keys=True))


def alter_logit(file: h5py.File) -> None:
    file["logits/prune"][0, 0, 0] += np.float32(1e-6)


def alter_membership(file: h5py.File) -> None:
    file["inside"][0, 0] = ~file["inside"][0, 0]


def alter_stage(file: h5py.File) -> None:
    file.move("logits/prune", "logits/other")


def drop_paths(file: h5py.File) -> None:
    del file["paths"]


def drop_recipe(file: h5py.File) -> None:
    del file["made_by"]


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (alter_recipe, "stale"),
        (alter_logit, "changed since it was written"),
        (alter_membership, "changed since it was written"),
        (alter_stage, "changed since it was written"),
        (drop_paths, "changed since it was written"),
        (drop_recipe, "made_by is missing"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_by_name(kept, alter, reason):
    folder, path, made_by = kept
    with h5py.File(path, "r+") as file:
        alter(file)
    with pytest.raises(DataError, match=reason) as error:
        cached(folder, made_by, never)
    assert str(path) in str(error.value)


def test_a_truncated_or_foreign_file_is_refused_by_name(kept):
    folder, path, made_by = kept
    whole = path.read_bytes()
    for content in (b"", b"no HDF5 at all", *(whole[: len(whole) * part // 5] for part in range(1, 5)), whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="delete it") as error:
            cached(folder, made_by, never)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    path.write_bytes(whole)
    assert same_shadows(cached(folder, made_by, never), some_shadows())


def test_no_byte_of_an_array_can_change_unnoticed(kept):
    folder, path, made_by = kept
    whole, rng, shadows = path.read_bytes(), np.random.default_rng(23), some_shadows()
    arrays = (shadows.inside, shadows.paths, shadows.sensitivity)
    for values in (*arrays, *shadows.logits.values(), *shadows.population.values()):
        start = whole.index(values.tobytes())
        for at in start + rng.integers(0, values.nbytes, 4):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(DataError, match="changed since it was written"):
                cached(folder, made_by, never)


def test_a_file_that_hdf5_itself_gives_up_on_is_refused_by_name(kept, monkeypatch):
    """What a damaged B-tree ends in: "Object visitation failed (address of object past end of allocation)"."""
    folder, path, made_by = kept

    def give_up(self, key):
        raise RuntimeError("Object visitation failed")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", give_up)
    with pytest.raises(DataError, match="damaged") as error:
        cached(folder, made_by, never)
    assert str(path) in str(error.value)


# --- shadows are trained as the target was ---------------------------------------------------------------------------


def fleet(model, dataset, shadows: int = K, plain: bool = False) -> Shadows:
    return train_shadows(undefended(model) if plain else model, dataset, shadows, 1, Progress())


def trained_as_the_target(monkeypatch, model, dataset, plain: bool = False) -> dict[str, np.ndarray]:
    """What shadow 0 says after each stage, (n, classes), if it is given the target's own seed and members."""
    split = make_split(dataset, model.members, model.reference, model.nonmembers, model.seed)
    monkeypatch.setattr(fleets, "FIRST_SEED", model.seed - (model.seed << 8))
    monkeypatch.setattr(fleets, "_split", lambda pool, row: split)
    return {stage: logits[0] for stage, logits in fleet(model, dataset, plain=plain).logits.items()}


def said(model, dataset) -> np.ndarray:
    return outputs(model.net, dataset, make_pool(model, dataset).scored, 1)[0]


def test_with_the_targets_seed_and_members_a_shadow_is_the_target(monkeypatch, digits):
    """Every step and every number of the recipe is repeated: training, game, ADMM, retraining."""
    for plan in ({}, {"minmax": 2.0}):
        before = trained(digits, **plan)
        after = prune_model(before, digits, recipe(**plan), 0.2, 1)
        found = trained_as_the_target(monkeypatch, after, digits)
        assert list(found) == ["train", "prune"]
        for stage, model in (("train", before), ("prune", after)):
            np.testing.assert_allclose(found[stage], said(model, digits), atol=2e-4, err_msg=f"{stage} {plan}")


def test_a_target_that_was_stored_is_repeated_too(monkeypatch, digits, dense, tmp_path):
    """With ratios of each layer's own, which JSON makes lists of; with one for all weights together, in two rounds."""
    for keep, scope, via in (((0.3, 0.2, 0.5), "layer", ()), (0.15, "global", (0.5,))):
        settings_ = ADMMSettings(rho=0.2, iterations=3, adaptive=True)
        plan = recipe(keep=(keep,), scope=scope, via=via, admm=settings_)
        save_model(prune_model(dense, digits, plan, keep, 1), tmp_path / "m.h5")
        model = load_model(tmp_path / "m.h5")
        found = trained_as_the_target(monkeypatch, model, digits)
        np.testing.assert_allclose(found["prune"], said(model, digits), atol=2e-4)


def test_plain_shadows_are_trained_without_the_game_and_not_pruned(monkeypatch, digits, pruned_and_played, dense):
    """The attacker who does not know of the defence: the same recipe with lambda 0."""
    found = trained_as_the_target(monkeypatch, pruned_and_played, digits, plain=True)
    assert list(found) == ["train"]
    np.testing.assert_allclose(found["train"], said(dense, digits), atol=2e-4)


@pytest.mark.parametrize(
    "changes",
    [{"inner_steps": 3}, {"dense": Schedule(epochs=3, batch=10, lr=0.03)}],
    ids=["inner steps", "batch"],
)
def test_the_adversary_is_repeated_too(monkeypatch, digits, changes):
    """Its steps and its batch are part of the recipe in both stages."""
    plan = {"minmax": 4.0, **changes}
    before = trained(digits, **plan)
    after = prune_model(before, digits, recipe(**plan), 0.2, 1)
    found = trained_as_the_target(monkeypatch, after, digits)
    np.testing.assert_allclose(found["train"], said(before, digits), atol=2e-4)
    np.testing.assert_allclose(found["prune"], said(after, digits), atol=2e-4)


def test_a_shadow_is_trained_on_its_half_of_the_pool(digits):
    """Against `train` itself on the members, with a model that knows the rest of the target's members."""
    model = trained(digits, members=80, nonmembers=30)
    pool, found = make_pool(model, digits), fleet(model, digits)
    records, plan = Records(digits.x, digits.y), recipe().dense
    seen = []
    for k in range(K):
        net = build(model.net.description).initialise(generators([fleets.FIRST_SEED + k], "initial"))
        seen.append(set(pool.scored[found.inside[k]]) | set(pool.rest))
        members = np.concatenate([pool.scored[found.inside[k]], pool.rest])
        train(net, records, members[None], plan, generators([fleets.FIRST_SEED + k], "train"))
        np.testing.assert_allclose(found.logits["train"][k], outputs(net, digits, pool.scored, 1)[0], atol=2e-4)
        np.testing.assert_allclose(found.population["train"][k], outputs(net, digits, pool.population, 1)[0], atol=2e-4)
    assert all(len(members) == 80 for members in seen)
    assert all(sum(i in members for members in seen) == K // 2 for i in pool.scored)


def test_shadows_differ_from_each_other_and_those_of_another_target(digits, dense, pruned):
    found, another = fleet(pruned, digits), fleet(trained(digits, seed=1), digits)
    for a, b in itertools.combinations(range(K), 2):
        assert np.abs(found.logits["train"][a] - found.logits["train"][b]).max() > 0.1
    assert (found.inside != another.inside).any()
    assert found.paths.shape == (K, 120)
    assert fleet(dense, digits).paths is None
    assert same_shadows(fleet(pruned, digits), found)


def test_pruned_shadows_have_the_budgets_number_of_weights(monkeypatch, digits, pruned):
    """floor(0.2 n) of each layer: 64 x 24, 24 x 12 and 12 x 10."""
    nets = []
    monkeypatch.setattr(fleets, "path_margins", lambda net, *rest: nets.append(net.copy()) or path_margins(net, *rest))
    found = fleet(pruned, digits)
    (net,) = nets
    assert net.replicas == K
    assert list(net.nonzero()) == [307 + 57 + 24] * K
    for weight, kept in zip(net.weights, (307, 57, 24), strict=True):
        assert [np.count_nonzero(values) for values in weight.value] == [kept] * K
    scored = make_pool(pruned, digits).scored
    np.testing.assert_array_equal(outputs(net, digits, scored, 1), found.logits["prune"])


def test_all_members_of_an_official_training_set_with_the_game():
    """members None: the recipe in the catalogue has no reference set there, the target has."""
    rng = np.random.default_rng(24)
    data = Dataset.of("mnist", rng.integers(0, 256, (80, 64)).astype(np.uint8), np.arange(80) % 10, 10, 255, train=40)
    sizes = {"widths": (8, 6), "reference": 15, "nonmembers": 20, "dense": Schedule(epochs=2)}
    plan = dataclasses.replace(recipe_for(data, "all", minmax=1.0, network="lenet-300-100"), **sizes)
    model = train_model(data, plan, 0, 1)
    pool, found = make_pool(model, data), fleet(model, data)
    assert found.logits["train"].shape == (K, 40, 10)
    assert len(pool.rest) == 20
    assert len(pool.population) == 80 - 40 - 15 - 20
    results = attack(model, data)  # chance did not draw these members: no bound on epsilon holds
    assert {entry["epsilon_lower_bound"] for entry in results["attacks"].values()} == {None}
    assert any("not drawn at random" in reason for reason in results["refused"])


# --- the adversary's record ------------------------------------------------------------------------------------------


@pytest.fixture
def games(monkeypatch):
    """The games that were played, each with the number of steps that its adversary took."""
    found = {}
    maximise = MinMax.maximise

    def counted(self, f):
        found[self] = found.get(self, 0) + self.inner_steps
        return maximise(self, f)

    monkeypatch.setattr(MinMax, "maximise", counted)
    return found


def test_the_adversarys_updates_are_counted(digits, games):
    before = trained(digits, minmax=1.0, inner_steps=2)
    after = prune_model(before, digits, recipe(minmax=1.0, inner_steps=2), 0.2, 1)
    for step, (game, updates), epochs in zip(after.steps, games.items(), (6, 3 + 2), strict=True):
        assert step["adversary"]["updates"] == updates == epochs * 2 * 2  # 60 members make 2 batches of 32
        loss, right = game.history[-1]
        assert step["adversary"]["loss"] == pytest.approx(float(loss[0]))
        assert step["adversary"]["accuracy"] == pytest.approx(float(right[0]))
        assert json.loads(json.dumps(step)) == step


def test_the_adversarys_updates_are_counted_by_the_batches_of_each_stage(digits, games):
    plan = {
        "prune": Schedule(epochs=3, batch=16, lr=0.04),
        "retrain": Schedule(epochs=2, batch=60, lr=0.02),
        "minmax": 1.0,
    }
    model = prune_model(trained(digits), digits, recipe(**plan), 0.2, 1)
    (updates,) = games.values()
    assert updates == 3 * 4 + 2 * 1
    assert model.steps[1]["adversary"]["updates"] == updates


def test_without_a_game_there_is_no_adversary(pruned):
    assert not any("adversary" in step for step in pruned.steps)


# --- the attack on a model -------------------------------------------------------------------------------------------


def attack(model, dataset, **options):
    results, curves = attack_model(model, dataset, **({"shadows": K} | options))
    assert set(curves) == set(results["attacks"])
    json.dumps(results, allow_nan=False)
    return results


@pytest.fixture(scope="module")
def attacked(digits, pruned, dense):
    """The results for a pruned model whose dense network the attacker holds."""
    return attack(pruned, digits, dense=dense)


def test_the_attacks_on_each_kind_of_model(digits, dense, played, pruned, attacked):
    plain = {name + NON_ADAPTIVE for name in POOLED | BY_RECORD | BY_POPULATION}
    known = POOLED | BY_RECORD | BY_POPULATION
    found = {
        "dense": attack(dense, digits),
        "game": attack(played, digits),
        "pruned": attack(pruned, digits),
        "pruned, with dense": attacked,
    }
    assert {name: set(results["attacks"]) for name, results in found.items()} == {
        "dense": known,  # undefended: there is nothing not to know of
        "game": known | plain,
        "pruned": known | plain | {"mask_alone"},
        "pruned, with dense": known | plain | {"mask_alone", "lira_dense_and_pruned"},
    }
    assert {
        name: list(results["auxiliary_attacks"]) for name, results in found.items() if results["auxiliary_attacks"]
    } == {"pruned, with dense": ["lira_dense_and_pruned"]}
    assert {name: results["bonferroni_divisor"] for name, results in found.items()} == {
        name: 3 if name == "pruned, with dense" else 2
        for name in found  # no class has ten records
    }
    for results in found.values():  # chosen on the shadows, and those of an attacker who knows of the defence
        assert not results["strongest"]["attack"].endswith(NON_ADAPTIVE)
        assert len(results["strongest"]["chosen"]) == 1
        assert results["strongest"]["candidates"] < 2 * len(results["attacks"])
    (held,), own = attacked["auxiliary_attacks"].values(), attacked["attacks"]["lira_dense_and_pruned"]["accuracy"]
    assert held["low"] < own["low"] < held["value"] == own["value"] < own["high"] < held["high"]
    assert all(results["strongest"]["attack"] not in results["auxiliary_attacks"] for results in found.values())
    assert {name: "exposure" in results for name, results in found.items()} == {
        "dense": False,
        "game": False,
        "pruned": True,
        "pruned, with dense": True,
    }


def test_what_the_results_say_of_target_and_shadows(digits, pruned, attacked):
    split = make_split(digits, 60, 40, 60, 0)
    right = {
        part: outputs(pruned.net, digits, getattr(split, part), 1)[0].argmax(axis=1) == digits.y[getattr(split, part)]
        for part in ("members", "nonmembers")
    }
    assert (attacked["members"], attacked["nonmembers"], attacked["classes"]) == (60, 60, 10)
    assert attacked["train_accuracy"] == pytest.approx(right["members"].mean())
    assert attacked["test_accuracy"] == pytest.approx(right["nonmembers"].mean())
    assert attacked["held_out"] == 60
    found = fleet(pruned, digits)
    y = digits.y[make_pool(pruned, digits).scored]
    hits = found.logits["prune"].argmax(axis=2) == y
    assert attacked["shadows"] == {
        "count": K,
        "whole": K,
        "train_accuracy": pytest.approx(hits[found.inside].mean()),
        "test_accuracy": pytest.approx(hits[~found.inside].mean()),
    }
    assert attacked["refused"] == [
        "tpr_at_fpr 0.01: needs at least 100 non-members, there are 60",
        "tpr_at_fpr 0.001: needs at least 1,000 non-members, there are 60",
    ]


def test_the_targets_scores_reach_the_attacks(digits, pruned, dense, monkeypatch):
    """The views that the attacks get: the target as the last row, of the dense stage by the dense network."""
    seen = []
    whole = targets.shadow_attacks
    monkeypatch.setattr(targets, "shadow_attacks", lambda views, chosen: seen.append(views) or whole(views))
    attack(pruned, digits, dense=dense)
    adaptive, plain = seen
    pool, found, without = make_pool(pruned, digits), fleet(pruned, digits), fleet(pruned, digits, plain=True)
    for views in seen:
        np.testing.assert_array_equal(views.y, digits.y[pool.scored])
        np.testing.assert_array_equal(views.population_y, digits.y[pool.population])
        np.testing.assert_array_equal(views.population[K], outputs(pruned.net, digits, pool.population, 1)[0])
    assert list(adaptive.logits) == ["train", "prune"]
    np.testing.assert_array_equal(adaptive.logits["train"], [*found.logits["train"], said(dense, digits)])
    np.testing.assert_array_equal(adaptive.logits["prune"], [*found.logits["prune"], said(pruned, digits)])
    np.testing.assert_array_equal(adaptive.population[:K], found.population["prune"])
    np.testing.assert_array_equal(adaptive.paths[:K], found.paths)
    np.testing.assert_array_equal(adaptive.paths[K], path_margins(pruned.net, digits, pool.scored, 1)[0])
    assert list(plain.logits) == ["train"]
    np.testing.assert_array_equal(plain.logits["train"], [*without.logits["train"], said(pruned, digits)])
    np.testing.assert_array_equal(plain.population[:K], without.population["train"])
    assert plain.paths is None


def test_the_other_attacks_are_fitted_on_what_all_shadows_say(digits, pruned, monkeypatch):
    fitted = []
    whole = targets.run_attacks
    monkeypatch.setattr(targets, "run_attacks", lambda *rest, **more: fitted.append(rest[:2]) or whole(*rest, **more))
    attack(pruned, digits)
    scored = make_pool(pruned, digits).scored
    for (target, (fold,)), stage, plain in zip(fitted, ("prune", "train"), (False, True), strict=True):
        found = fleet(pruned, digits, plain=plain)
        np.testing.assert_allclose(target.p, softmax(said(pruned, digits).astype(float), axis=1))
        np.testing.assert_array_equal(target.member, np.arange(120) < 60)
        np.testing.assert_array_equal(fold.scored, np.arange(120))
        p = softmax(found.logits[stage].astype(float), axis=2)
        for k, i in itertools.product(range(K), range(120)):
            np.testing.assert_allclose(fold.known.p[120 * k + i], p[k, i])
            assert fold.known.y[120 * k + i] == target.y[i] == digits.y[scored[i]]
            assert fold.known.member[120 * k + i] == found.inside[k, i]


def timeless(results: dict) -> dict:
    return {name: value for name, value in results.items() if name != "seconds"}


def test_the_same_results_again_and_from_the_cache(digits, pruned, dense, attacked, tmp_path, monkeypatch):
    options = {"dense": dense, "cache": tmp_path}
    assert timeless(attack(pruned, digits, **options)) == timeless(attacked)
    assert len(list(tmp_path.iterdir())) == 2  # the adaptive attacker's shadows and the other's
    with monkeypatch.context() as patch:
        patch.setattr(targets, "train_shadows", lambda *_, **__: never())
        assert timeless(attack(pruned, digits, **options)) == timeless(attacked)
        for changed in (
            dataclasses.replace(pruned, seed=1),
            dataclasses.replace(pruned, reference=39),
            dataclasses.replace(pruned, nonmembers=61),
            dataclasses.replace(pruned, steps=[pruned.steps[0] | {"lr": 0.01}, pruned.steps[1]]),
            dataclasses.replace(pruned, steps=[pruned.steps[0], pruned.steps[1] | {"minmax": 1.0}]),
        ):
            with pytest.raises(AssertionError, match="trained although"):
                attack(changed, digits, cache=tmp_path)
        with pytest.raises(AssertionError, match="trained although"):
            attack(pruned, digits, cache=tmp_path, shadows=K + 2)


def test_the_two_attackers_of_a_game_share_no_file(digits, played, tmp_path):
    """The steps of their shadows are the same records; that one leaves the game out must be in the name."""
    first = timeless(attack(played, digits, cache=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    assert timeless(attack(played, digits, cache=tmp_path)) == first
    names = [name for name in BY_RECORD if first["attacks"][name] != first["attacks"][name + NON_ADAPTIVE]]
    assert names


def test_intervals_have_the_confidence_that_was_asked_for(digits, pruned, dense, attacked):
    wider = attack(pruned, digits, dense=dense, alpha=0.001)
    for a, b in (
        (attacked["attacks"]["lira_online"]["auc"], wider["attacks"]["lira_online"]["auc"]),
        (attacked["exposure"]["change"], wider["exposure"]["change"]),
    ):
        assert a["value"] == b["value"]
        assert b["low"] < a["low"] < a["high"] < b["high"]


def test_the_rows_named_are_those_of_the_data_set(digits, attacked):
    """As the check for duplicates names them; a reader does not have the pool."""
    members = set(make_split(digits, 60, 40, 60, 0).members)
    assert all(entry["row"] in members for entry in attacked["most_exposed"])
    for entry in (*attacked["most_exposed"], *attacked["exposure"]["most_risen"]):
        assert digits.y[entry["row"]] == entry["label"]


def test_results_can_be_written(attacked, tmp_path):
    write_audit(attacked, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == attacked


def test_no_population_is_said(digits, dense):
    """Every record is a member, in the reference set, or scored."""
    model = dataclasses.replace(dense, members=870, reference=57, nonmembers=870)
    results = attack(model, digits)
    assert set(results["attacks"]) == POOLED | BY_RECORD
    reasons = [
        "rmia, population, quantile: needs records that neither the target nor a shadow saw, there are 0",
        "quantile: needs such records, of at most 4,096 features",
    ]
    assert results["refused"][-2:] == reasons


# --- validity --------------------------------------------------------------------------------------------------------


def outcomes(results: dict) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in results["validity"]}


def test_checks_of_sound_models(digits, pruned_and_played, attacked):
    expected = ("duplicates", "labels", "classes", "accuracy", "guessing", "attack network")
    expected += ("sparsity", "adversary", "test mode", "shadows")
    guesses = {"guessing": "warning", "attack network": "warning"}  # trained for a moment, it names 8% rightly
    assert attacked["train_accuracy"] < 0.1
    assert outcomes(attacked) == dict.fromkeys(expected, "passed") | guesses
    found = {check["name"]: check["found"] for check in attacked["validity"]}
    assert found["sparsity"] == "388 of 1,944 weights are not zero, at most 388 were asked for"
    assert found["adversary"] == "no Min-Max game was played"
    said = checks.adversary(pruned_and_played)
    assert said.found.startswith("22 updates; in the last epoch its loss was 0.")  # 6 + 3 + 2 epochs of 2 batches


def test_shadows_unlike_the_target_are_warned_of():
    """Of 16 shadows with accuracies around 0.6 the next one lies within 0.5 and 0.7, seldom beyond."""
    rng, member = np.random.default_rng(27), np.arange(400) < 200
    train, test = np.ones(16), 0.6 + 0.02 * rng.standard_normal(16)

    def check(right_in, right_out):
        right = np.r_[np.arange(200) < right_in, np.arange(200) < right_out]
        p = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        return checks.shadow_accuracy(Predictions(p, np.zeros(400, int), member), train, test)

    for right_in, right_out, outcome in ((200, 120, "passed"), (200, 170, "warning"), (150, 120, "warning")):
        assert check(right_in, right_out).outcome == outcome
    assert check(199, 120).outcome == "passed"  # one record is no difference, where shadows do not vary
    assert check(200, 121).found == (
        f"16 shadow models: train accuracy 100.0%, the target's 100.0%; test accuracy {100 * test.mean():.1f}%, "
        "the target's 60.5%"
    )


def test_more_weights_than_were_asked_for_void_an_audit(pruned):
    assert checks.sparsity(pruned).outcome == "passed"
    fuller = dataclasses.replace(pruned, net=pruned.net.copy())
    row = fuller.net.theta[0]
    row[np.flatnonzero(row[: fuller.net.weight_count] == 0)[0]] = 1e-6
    assert checks.sparsity(fuller).outcome == "void"
    thinner = dataclasses.replace(pruned, net=pruned.net.copy())
    thinner.net.theta[0, np.flatnonzero(thinner.net.theta[0])[0]] = 0  # a survivor that retraining made zero
    assert checks.sparsity(thinner).outcome == "passed"


def test_an_adversary_that_does_not_beat_chance_is_a_warning(played):
    for accuracy, outcome in ((0.51, "passed"), (0.5, "warning"), (0.4, "warning")):
        step = played.steps[0] | {"adversary": {"updates": 12, "loss": 0.6931, "accuracy": accuracy}}
        found = checks.adversary(dataclasses.replace(played, steps=[step]))
        assert found.outcome == outcome
        assert found.found.startswith("12 updates; in the last epoch its loss was 0.693")


def test_outputs_that_depend_on_the_batch_or_on_chance_void_an_audit(monkeypatch, digits, pruned):
    pool, rng = make_pool(pruned, digits), np.random.default_rng(25)
    assert checks.test_mode(pruned.net, digits, pool.scored).outcome == "passed"

    def with_dropout(net, dataset, index, threads):
        logits = outputs(net, dataset, index, threads)
        return logits * (rng.random(logits.shape) < 0.9)

    def with_position(net, dataset, index, threads):
        return outputs(net, dataset, index, threads) + 0.1 * np.arange(len(index))[:, None]

    for wrong in (with_dropout, with_position):
        monkeypatch.setattr(checks, "outputs", wrong)
        assert checks.test_mode(pruned.net, digits, pool.scored).outcome == "void"


def test_a_record_on_both_sides_is_a_warning_that_names_it(digits, dense):
    pool, x = make_pool(dense, digits), digits.x.copy()
    a, b, c = pool.scored[3], pool.scored[70], pool.scored[90]
    assert checks.same_records(digits, pool).outcome == "passed"
    x[[b, c]] = x[a]
    y = digits.y.copy()
    y[b], y[c] = y[a], (y[a] + 1) % 10  # of another label it is another record
    found = checks.same_records(dataclasses.replace(digits, x=x, y=y), pool)
    assert found.outcome == "warning"
    assert f"rows {a}, {b};" in found.found


# --- models that cannot be attacked ----------------------------------------------------------------------------------


def test_another_data_set_is_refused(digits, dense):
    x = digits.x.copy()
    x[0, 0] = 0.5
    other = Dataset.of("digits", x, digits.y, 10)
    with pytest.raises(DataError, match="not the records that the model was trained on"):
        attack_model(dense, other, K)


def test_a_dense_model_that_is_not_the_pruned_ones_is_refused(digits, dense, pruned, pruned_and_played):
    others_ = {
        "another seed": trained(digits, seed=1),
        "another rate": trained(digits, dense=Schedule(epochs=6, lr=0.1)),
        "the game": trained(digits, minmax=1.0),
        "other sizes": trained(digits, reference=41),
        "the pruned one itself": pruned,
        "another network": trained(digits, network="lenet-300-100"),
        "other widths": trained(digits, widths=(24, 13)),
    }
    for name, wrong in others_.items():
        with pytest.raises(DataError, match="not the network that the model was pruned from"):
            pytest.fail(f"{name} was taken: {attack_model(pruned, digits, K, dense=wrong)[0]['seed']}")
    with pytest.raises(DataError, match="not the network that the model was pruned from"):
        attack_model(dense, digits, K, dense=dense)  # which was not pruned at all


def test_of_a_model_pruned_twice_the_dense_one_is_compared_with_shadows_like_it(monkeypatch, digits, pruned):
    """Or refused. Shadows of the first stage are no models of a network that was pruned once already."""
    twice = prune_model(pruned, digits, recipe(), 0.1, 1)
    said_by, seen = [], []
    whole = targets.shadow_attacks

    def recorded(net, *rest):
        logits = outputs(net, *rest)
        said_by.append((int(net.nonzero()[0]), logits))
        return logits

    monkeypatch.setattr(fleets, "outputs", recorded)
    monkeypatch.setattr(targets, "shadow_attacks", lambda views, chosen: seen.append(views) or whole(views))
    try:
        attack(twice, digits, dense=pruned)
    except NanopruneError:
        return
    first, *_ = seen[0].logits.values()
    (nonzero,) = {n for n, logits in said_by if np.array_equal(logits, first[:K])}
    assert nonzero == pruned.net.nonzero()[0]


ONLY_TRAINED = {"step": "train"}
DAMAGED = {
    "no steps": lambda steps: [],
    "a step without its recipe": lambda steps: [ONLY_TRAINED],
    "a pruning without a training": lambda steps: steps[1:],
    "a pruning without its recipe": lambda steps: [steps[0], {"step": "prune"}],
    "no records": lambda steps: ["train", "prune"],
    "a step of no kind": lambda steps: [{}],
    "an unknown step": lambda steps: [steps[0], {"step": "distil"}],
    "lambda is a word": lambda steps: [steps[0] | {"minmax": "much"}],
    "a rate is a word": lambda steps: [steps[0] | {"lr": "high"}],
    "no momentum": lambda steps: [{k: v for k, v in steps[0].items() if k != "momentum"}],
    "keep is a word": lambda steps: [steps[0], steps[1] | {"keep": "few"}],
    "a setting of ADMM that is none": lambda steps: [steps[0], steps[1] | {"admm": {"rho": 1, "sigma": 2}}],
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_model_that_does_not_say_how_it_was_made_is_refused(digits, pruned, damage, tmp_path):
    model = dataclasses.replace(pruned, steps=DAMAGED[damage](pruned.steps))
    with pytest.raises(DataError, match="steps"):
        attack_model(model, digits, K, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_for_other_records_is_refused(digits, dense):
    for shape, classes in (((64,), 5), ((32,), 10)):
        net = build(describe("mlp", shape, classes, [8]))
        with pytest.raises(NanopruneError):
            attack_model(dataclasses.replace(dense, net=net), digits, K)


@pytest.mark.parametrize("alpha", [-0.1, 0.0, 1.0, 2.0, math.nan])
def test_an_alpha_that_is_none_is_refused_before_the_work(digits, dense, alpha, monkeypatch):
    monkeypatch.setattr(targets, "train_shadows", lambda *_, **__: never())
    with pytest.raises(ArgumentError, match="alpha must lie between 0 and 1"):
        attack_model(dense, digits, K, alpha=alpha)


def test_an_odd_number_of_shadows_is_refused_before_the_work(digits, dense, monkeypatch):
    monkeypatch.setattr(fleets, "outputs", lambda *_: never())
    with pytest.raises(ArgumentError, match="shadows must be an even number"):
        train_shadows(dense, digits, 7, 1, Progress())


# --- power -----------------------------------------------------------------------------------------------------------


def test_the_attacks_find_what_there_is_and_nothing_where_nothing_is(digits, tmp_path):
    """An overfitted network gives its members away; one that never saw them, by the same shadows, does not."""
    plan = {"widths": (64,), "dense": Schedule(epochs=40, batch=32, lr=0.1), "members": 100, "nonmembers": 100}
    model, options = trained(digits, seed=2, **plan), {"shadows": 16, "cache": tmp_path, "alpha": 0.01}
    found = attack(model, digits, **options)
    assert found["train_accuracy"] == 1
    assert found["train_accuracy"] - found["test_accuracy"] > 0.05
    for name in ("lira_online", "lira_offline", "rmia_online", "difficulty"):
        assert found["attacks"][name]["auc"]["low"] > 0.5, name
    online = found["attacks"]["lira_online"]
    assert online["auc"]["value"] > 0.65
    assert online["accuracy"]["low"] > 0.5

    stranger = dataclasses.replace(model, net=model.net.copy().initialise(generators([77], "initial")))
    elsewhere = make_pool(model, digits).population[:100]
    train(
        stranger.net,
        Records(digits.x, digits.y),
        elsewhere[None],
        recipe(**plan).dense,
        generators([77], "train"),
    )
    nothing = attack(stranger, digits, **options)
    for name in BY_RECORD | BY_POPULATION:
        interval = nothing["attacks"][name]["auc"]
        assert interval["low"] < 0.5 < interval["high"], name
    assert len(list(tmp_path.iterdir())) == 1  # the same shadows


# --- the command line ------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def stored(tmp_path_factory, dense, pruned):
    """A folder with model.h5 and pruned.h5."""
    folder = tmp_path_factory.mktemp("models")
    save_model(dense, folder / "model.h5")
    save_model(pruned, folder / "pruned.h5")
    with h5py.File(folder / "scores.h5", "w") as file:
        file["target_labels"] = [0, 1]
    return folder


def test_attack_writes_its_results_and_keeps_the_shadows(stored, tmp_path, attacked, pruned, monkeypatch):
    model, cache = stored / "pruned.h5", tmp_path / "kept"
    options = ["--dense", stored / "model.h5", "--shadows", K, "--cache", cache, "--threads", 1, "--data", "digits"]
    first = run("attack", model, *options, "--json", tmp_path / "a.json", "--report", tmp_path / "a.html")
    assert first.exit_code == 0, first.output
    assert first.stderr == ""
    assert "lira" in first.stdout.lower()
    results = json.loads((tmp_path / "a.json").read_text())
    assert results["source"] == {"name": "pruned.h5", "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert "command" in results
    assert timeless(attacked).items() <= results.items()  # as from Python
    page = (tmp_path / "a.html").read_text()
    assert "lira" in page.lower()
    for word in ("data.sha256", pruned.data_sha256, "versions.numpy", "numpy", "seed", "RMIA", "adaptive"):
        assert word in page
    assert str(tmp_path) not in page
    assert len(list(cache.iterdir())) == 2

    monkeypatch.setattr(targets, "train_shadows", lambda *_, **__: never())
    again = run("attack", model, *options, "--json", tmp_path / "b.json")
    assert again.exit_code == 0, again.output
    second = json.loads((tmp_path / "b.json").read_text())
    assert {k: v for k, v in timeless(second).items() if k != "command"} == {
        k: v for k, v in timeless(results).items() if k != "command"
    }


BAD = {
    "no such model": (["nowhere.h5"], "nowhere.h5: not found"),
    "no such dense model": (["MODEL", "--dense", "nowhere.h5"], "nowhere.h5: not found"),
    "predictions": (["PREDICTIONS"], "scores.h5: predictions, not a model; use `audit`"),
    "predictions as .npz": (["scores.npz"], "scores.npz: not a nanoprune model; predictions are for `audit`"),
    "another data set": (["MODEL", "--data", "OTHER"], "other.npz: not the records that the model"),
    "an odd number of shadows": (["MODEL", "--shadows", "7"], "shadows must be an even number"),
    "no shadows": (["MODEL", "--shadows", "0"], "shadows must be an even number"),
    "shadows are a word": (["MODEL", "--shadows", "many"], "many"),
    "alpha of 2": (["MODEL", "--alpha", "2"], "alpha"),
    "alpha of 0": (["MODEL", "--alpha", "0"], "alpha"),
    "alpha is NaN": (["MODEL", "--alpha", "nan"], "alpha"),
    "dense is not its own": (["PRUNED", "--dense", "PRUNED"], "not the network that the model was pruned from"),
    "a folder as the page": (["MODEL", "--report", "."], "is a folder"),
    "a file as the cache": (["MODEL", "--cache", "MODEL"], "cannot be written to"),
    "unknown device": (["MODEL", "--device", "abacus"], "abacus"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_status_2(case, stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Progress, "start", lambda *_: never())
    paths = {"MODEL": stored / "model.h5", "PRUNED": stored / "pruned.h5", "PREDICTIONS": stored / "scores.h5"}
    paths["OTHER"] = stored / "other.npz"
    np.savez(paths["OTHER"], x=np.ones((20, 64), np.float32), y=np.arange(20) % 10)
    arguments, named = BAD[case]
    result = run("attack", *(paths.get(word, word) for word in arguments), "--json", tmp_path / "a.json")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert not list(tmp_path.iterdir())


def test_a_model_is_not_audited_as_predictions(stored):
    result = run("audit", stored / "model.h5")
    assert result.exit_code == 2
    assert result.stderr.endswith("model.h5: a model, not predictions; use `attack`\n")


def test_a_damaged_model_or_cache_is_named_in_one_line(stored, tmp_path, pruned):
    save_model(dataclasses.replace(pruned, steps=[ONLY_TRAINED]), tmp_path / "odd.h5")
    (tmp_path / "cut.h5").write_bytes((stored / "pruned.h5").read_bytes()[:2000])
    cache = tmp_path / "kept"
    assert run("attack", stored / "model.h5", "--shadows", K, "--cache", cache).exit_code == 0
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    for arguments, named in (
        ([tmp_path / "odd.h5"], "steps"),
        ([tmp_path / "cut.h5"], "cut.h5"),
        ([stored / "model.h5", "--shadows", K, "--cache", cache], path.name),
    ):
        result = run("attack", *arguments)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert named in line


@pytest.mark.parametrize(
    ("attacks", "kept", "measured"),
    [("lira_online", False, False), ("samia", False, True), ("lira_online", True, True)],
)
def test_sensitivity_to_noise_is_measured_for_those_who_need_it(
    dense, digits, tmp_path, monkeypatch, attacks, kept, measured
):
    """For an attack that needs it, and for shadows that are kept: another attack may use them later."""
    asked = []
    plain = fleets.sensitivity
    monkeypatch.setattr(fleets, "sensitivity", lambda *of: asked.append(of) or plain(*of))
    attack_model(dense, digits, K, attacks=attacks, cache=tmp_path if kept else None)
    assert bool(asked) == measured
