"""Attacks on single records: formulas by loops and integrals, networks where the answer is known, and their table."""

import itertools
import json
import math
import pathlib
from fractions import Fraction

import numpy as np
import pytest
from by_arrays import (
    base_offline,
    base_online,
    bavaria_offline,
    bavaria_online,
    both_scores,
    lira_offline,
    lira_online,
    prior_offline,
    prior_online,
)
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import trapezoid
from scipy.stats import invgamma, norm, rankdata
from scipy.stats import t as student

import cli
from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow import fit as fit_module
from nanoprune.attack.shadow import quantile, rapid, samia
from nanoprune.attack.shadow.bavaria import Prior, predictive, prior_of
from nanoprune.attack.shadow.fit import fit_member_network, small_network
from nanoprune.attack.shadow.population import population_attack
from nanoprune.attack.shadow.quantile import fit_quantiles, pinball
from nanoprune.attack.shadow.rapid import fit_rapid
from nanoprune.attack.shadow.rmia import rmia
from nanoprune.attack.shadow.samia import fit_samia
from nanoprune.attack.threshold import Thresholds
from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.lab.audit.features import MOST, Features
from nanoprune.lab.audit.shadow_attacks import ALL, ATTACKS, NETWORK, attack_names, chosen_attacks, table_text
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.statistics import members_in_common
from nanoprune.nn import Adam, Dense
from nanoprune.records import Records, predict

ROOT = pathlib.Path(__file__).parents[1]
quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 10_000)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with single_threaded_blas():
        yield


def halves(rng: np.random.Generator, shadows: int, n: int) -> np.ndarray:
    """inside (K, n): of each record half of the shadows, drawn anew for each."""
    return np.stack([rng.permutation(shadows) < shadows // 2 for _ in range(n)], axis=1)


# --- BASE ------------------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(0, 1))
def test_base_is_the_log_likelihood_less_that_of_the_mean_likelihood(seed, a):
    rng = np.random.default_rng(seed)
    p, of, inside = rng.uniform(0.01, 1, 4), rng.uniform(0.01, 1, (6, 4)), halves(rng, 6, 4)
    online, offline = base_online(np.log(p), np.log(of)), base_offline(np.log(p), np.log(of), inside, a)
    for i in range(4):
        without = [of[k, i] for k in range(6) if not inside[k, i]]
        assert online[i] == pytest.approx(math.log(p[i] / (math.fsum(of[:, i]) / 6)), abs=1e-12)
        expected = math.log(p[i]) - a * math.log(math.fsum(without) / len(without))
        assert offline[i] == pytest.approx(expected, abs=1e-12)


@quick
@given(seeds)
def test_base_and_rmia_rank_alike(seed):
    """Online, and offline at a = 1: their abstract. The population tells any two records apart."""
    rng = np.random.default_rng(seed)
    p, of, inside = rng.uniform(0.01, 1, 12), rng.uniform(0.01, 1, (6, 12)), halves(rng, 6, 12)
    for score, prior in (
        (base_online(np.log(p), np.log(of)), prior_online(of, inside)),
        (base_offline(np.log(p), np.log(of), inside), prior_offline(of, inside, 1.0)),
    ):
        ratios = np.sort(p / prior)
        population = np.concatenate([[ratios[0] / 2], (ratios[1:] + ratios[:-1]) / 2]) / 2  # gamma is 2
        np.testing.assert_array_equal(rankdata(score), rankdata(rmia(p, prior, population, np.ones(12))))


def test_base_without_shadow_models_is_the_loss_attack():
    target = np.log([0.2, 0.9])
    np.testing.assert_array_equal(base_offline(target, np.log(np.full((2, 2), 0.3)), np.zeros((2, 2), bool), 0), target)


def test_base_of_tiny_probabilities_is_finite():
    assert np.isfinite(base_online(np.array([-2000.0]), np.array([[-3000.0], [-1500.0]]))).all()


# --- BaVarIA ---------------------------------------------------------------------------------------------------------


def t_density(x: float, freedom: float, location: float, scale: float) -> float:
    constant = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi) / scale
    return constant * (1 + ((x - location) / scale) ** 2 / freedom) ** (-(freedom + 1) / 2)


@pytest.mark.parametrize(("prior", "seen"), [(Prior(0.3, 0.5, 1.5, 2.0), [1.4, -0.4]), (Prior(-1, 2, 3, 1), [0.7])])
def test_the_predictive_density_is_the_normal_one_integrated_over_the_posterior(prior, seen):
    of = np.array(seen)
    found = predictive(prior, np.array([of.mean()]), np.array([((of - of.mean()) ** 2).sum()]), np.array([len(of)]))
    freedom, location, scale = (float(part[0]) for part in found)

    mu, log_v = np.linspace(-30, 30, 1501)[:, None], np.linspace(-7, 9, 401)[None]
    v = np.exp(log_v)

    def evidence(values: list[float]) -> float:
        """The density of the values, integrated over the prior of mean and variance."""
        density = invgamma.pdf(v, prior.a0, scale=prior.b0) * v  # of log v
        density = density * norm.pdf(mu, prior.m0, np.sqrt(v / prior.kappa0))
        for x in values:
            density = density * norm.pdf(x, mu, np.sqrt(v))
        return trapezoid(trapezoid(density, log_v[0], axis=1), mu[:, 0])

    for x in (-1.5, 0.4, 2.0):
        expected = evidence([*seen, x]) / evidence(seen)
        assert t_density(x, freedom, location, scale) == pytest.approx(expected, rel=1e-4)


def simulated(seed: int, shadows: int, n: int, a0: float = math.inf, gap: float = 2.0, kappa0: float = 0.1):
    """phi (K, n), inside, a target's phi (n,) and its members: variances from IG(a0, a0 - 1), all 1 where a0 is inf."""
    rng = np.random.default_rng(seed)
    variance = np.ones(n) if math.isinf(a0) else invgamma.rvs(a0, scale=a0 - 1, size=n, random_state=rng)
    sigma, inside, member = np.sqrt(variance), halves(rng, shadows, n), rng.permutation(n) < n // 2
    mean = rng.normal(0, sigma / math.sqrt(kappa0))
    phi = mean + sigma * (gap * inside + rng.standard_normal((shadows, n)))
    return phi, inside, mean + sigma * (gap * member + rng.standard_normal(n)), member


def test_the_prior_is_recovered_by_moments():
    phi, inside, _, _ = simulated(0, 24, 30_000, a0=6.0)
    for chosen in (inside, ~inside):
        count = chosen.sum(axis=0)
        mean = np.where(chosen, phi, 0).sum(axis=0) / count
        found = prior_of(mean, np.where(chosen, (phi - mean) ** 2, 0).sum(axis=0), count)
        assert found.a0 == pytest.approx(6, rel=0.25)
        assert found.b0 / (found.a0 - 1) == pytest.approx(1, rel=0.02)
        sigma = np.sqrt(invgamma.rvs(6, scale=5, size=10**6, random_state=1)).mean()
        assert found.m0 == pytest.approx(2 * sigma * (chosen is inside), abs=0.1)


def test_the_prior_of_three_records_by_hand():
    """Counts 101, 201 and 1, means 0, 4 and 5, variances 1, 5 and 0 (of one model)."""
    count, scatter = np.array([101, 201, 1]), np.array([100.0, 1000.0, 0.0])
    found = prior_of(np.array([0.0, 4.0, 5.0]), scatter, count)
    within = Fraction(1100, 301)  # 301 degrees of freedom: one at least for each record
    between = Fraction(14, 3) - within * (Fraction(1, 101) + Fraction(1, 201) + 1) / 3  # of means, less their noise
    of_variances = Fraction(26, 3) - 4  # of 1, 5 and 0
    chance = (Fraction(2, 100) + Fraction(2, 200) + 2) / 3
    spread = (of_variances / within**2 - chance) / (1 + chance)
    assert spread < 0  # no more than chance: the variances are alike
    assert found.a0 == 1e6
    assert (found.m0, found.kappa0) == (pytest.approx(3), pytest.approx(float(within / between), rel=1e-5))
    assert found.b0 == pytest.approx(float(within) * (1e6 - 1), rel=1e-6)
    found = prior_of(np.array([0.0, 4.0]), scatter[:2], count[:2])
    within, chance = Fraction(1100, 300), Fraction(3, 200)
    spread = (4 / within**2 - chance) / (1 + chance)
    assert found.a0 == pytest.approx(float(2 + 1 / spread), rel=1e-5)
    assert found.b0 == pytest.approx(float(within * (1 + 1 / spread)), rel=1e-5)
    assert found.kappa0 == pytest.approx(float(within / (4 - within * Fraction(302, 2 * 101 * 201))), rel=1e-5)
    same = prior_of(np.ones(2), scatter[:2], count[:2])  # means that differ by less than their noise
    assert same.kappa0 == pytest.approx(float(within) / 1e-6, rel=1e-5)


def densities(prior: Prior, target: np.ndarray, phi: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The log ratio of IN to OUT with one given prior."""
    logs = []
    for chosen in (inside, ~inside):
        count, mean = chosen.sum(axis=0), np.where(chosen, phi, 0).sum(axis=0) / chosen.sum(axis=0)
        freedom, location, scale = predictive(prior, mean, np.where(chosen, (phi - mean) ** 2, 0).sum(axis=0), count)
        logs.append(student.logpdf((target - location) / scale, freedom) - np.log(scale))
    return logs[0] - logs[1]


def test_a_prior_that_vanishes_gives_lira_by_record_and_one_that_dominates_lira_with_one_variance():
    """With 3,000 shadow models, so that means and variances of records are known."""
    phi, inside, target, _ = simulated(1, 3000, 40, a0=4.0)
    nothing = densities(Prior(0, 1e-9, 1e-9, 1e-9), target, phi, inside)
    record = lira_online(target, phi, inside, "record")
    np.testing.assert_allclose(nothing, record, rtol=0.02, atol=0.02)
    pooled = np.mean([phi[inside[:, i], i].var() + phi[~inside[:, i], i].var() for i in range(40)]) / 2
    everything = densities(Prior(0, 1e-9, 1e9, 1e9 * pooled), target, phi, inside)
    fixed = lira_online(target, phi, inside, "fixed")
    np.testing.assert_allclose(everything, fixed, rtol=0.02, atol=0.05)
    assert np.abs(record - fixed).max() > 1  # the two differ


def test_bavaria_finds_which_of_the_two_it_is():
    """Few models and one variance: as LiRA "fixed". Variances that differ: better than either."""
    phi, inside, target, member = simulated(2, 8, 20_000)
    assert np.corrcoef(bavaria_online(target, phi, inside), lira_online(target, phi, inside, "fixed"))[0, 1] > 0.99
    phi, inside, target, member = simulated(3, 8, 20_000, a0=2.5)
    for ours, other in ((bavaria_online, lira_online), (bavaria_offline, lira_offline)):
        reached = {v: auc(*split(other(target, phi, inside, v), member)) for v in ("record", "fixed")}
        assert auc(*split(ours(target, phi, inside), member)) > max(reached.values()) + 0.003, reached


def split(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores[member], scores[~member]


def test_bavaria_offline_does_not_see_the_in_models():
    phi, inside, target, _ = simulated(4, 8, 30)
    found = bavaria_offline(target, phi, inside)
    np.testing.assert_array_equal(bavaria_offline(target, phi + 100 * inside, inside), found)


def test_bavaria_of_models_that_all_say_the_same_is_finite_and_no_model_is_refused():
    inside = halves(np.random.default_rng(0), 6, 5)
    for attack in (bavaria_online, bavaria_offline):
        assert np.isfinite(attack(np.arange(5.0), np.ones((6, 5)), inside)).all()
        with pytest.raises(ArgumentError, match="record 3 "):
            attack(np.zeros(5), np.zeros((6, 5)), inside | (np.arange(5) == 3))


# --- RAPID -----------------------------------------------------------------------------------------------------------


@quick
@given(seeds)
def test_rapid_sees_the_score_and_its_difference_to_the_models_without_the_record(seed):
    rng = np.random.default_rng(seed)
    inside, scores, target = halves(rng, 6, 4), rng.normal(0, 3, (6, 4)), rng.normal(0, 3, 4)
    found = both_scores(target, scores, inside)
    for i in range(4):
        without = [scores[k, i] for k in range(6) if not inside[k, i]]
        np.testing.assert_allclose(found[i], [target[i], target[i] - math.fsum(without) / len(without)], atol=1e-12)


def test_rapid_learns_the_optimal_combination():
    """Members N(mu, 1), others N(0, 1), a quarter of all members: AUC Phi(|mu| / sqrt 2), and logit 0 halfway."""
    rng = np.random.default_rng(5)
    mu, member = np.array([1.2, -0.9]), rng.random(24_000) < 0.25
    pairs = 50 + 7 * (rng.standard_normal((24_000, 2)) + mu * member[:, None])  # on some scale
    h = fit_rapid(pairs[:12_000], member[:12_000])
    scores, known = h.scores(pairs[12_000:]), member[12_000:]
    best = norm.cdf(np.linalg.norm(mu) / math.sqrt(2))
    assert best - 0.02 < auc(*split(scores, known)) < best + 0.02
    assert np.mean(split(scores > 0, known)[0]) == pytest.approx(norm.cdf(np.linalg.norm(mu) / 2), abs=0.05)
    assert np.mean(split(scores > 0, known)[1]) == pytest.approx(norm.cdf(-np.linalg.norm(mu) / 2), abs=0.05)
    for one in pairs[12_000:].T:
        assert auc(*split(one, known)) < best - 0.03  # neither alone is as good


@pytest.mark.parametrize(("module", "learn"), [(rapid, fit_rapid), (samia, fit_samia)])
def test_a_network_is_fitted_to_as_many_pairs_as_it_may_see_and_is_repeatable(module, learn, monkeypatch):
    """By default with the seed 0; another seed draws other pairs and other weights."""
    monkeypatch.setattr(module, "STEPS", 3)
    rng = np.random.default_rng(6)
    pairs, member = rng.standard_normal((200, 2)), np.arange(200) % 3 == 0
    once, again, other = (learn(pairs, member, *seed) for seed in ((), (0,), (1,)))
    np.testing.assert_array_equal(once.scores(pairs), again.scores(pairs))
    assert (once.scores(pairs) != other.scores(pairs)).any()
    np.testing.assert_allclose(once.mean, pairs.mean(axis=0))
    np.testing.assert_allclose(once.std, pairs.std(axis=0))
    sizes = [layer.outputs for layer in once.h.body.layers() if isinstance(layer, Dense)]
    assert sizes == [*module.HIDDEN, 1]
    monkeypatch.setattr(module, "MOST", 40)
    few = learn(pairs, member)
    assert np.abs(few.mean - pairs.mean(axis=0)).max() > 1e-3
    monkeypatch.setattr(module, "MOST", 1)
    assert any(np.array_equal(learn(pairs[:, :2], member).mean, row) for row in pairs)


# --- the networks of attacks -----------------------------------------------------------------------------------------


def test_a_small_network_is_that_of_its_seed():
    net = small_network(3, (4, 5), [[7], [8]])
    assert repr(net.body) == "Sequential(Dense(3, 4), ReLU, Dense(4, 5), ReLU, Dense(5, 1))"
    assert (net.replicas, net.output_shape) == (2, (1,))
    for r, seed in enumerate((7, 8)):
        np.testing.assert_array_equal(small_network(3, (4, 5), [[seed]]).theta[0], net.theta[r])


def test_features_of_members_are_standardised_by_those_that_were_learned_from():
    """In units of their own: the scores stay the same; a feature that is constant is no division by zero."""
    rng = np.random.default_rng(0)
    features, member = rng.normal(3, [1, 5, 0.2], (90, 3)), np.arange(90) % 4 == 0
    scale, shift = np.array([1e3, 1e-3, 7]), np.array([-2.0, 5, 0])
    once, moved = (
        fit_member_network(of, member, small_network(3, (4,), [[0]]), 16, 20, 1e-2, 90, 0)
        for of in (features, features * scale + shift)
    )
    records = once.records(features, member)
    np.testing.assert_allclose(records.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(records.x.std(axis=0), 1, rtol=1e-5)
    assert records.x.dtype == records.y.dtype == np.float32
    np.testing.assert_array_equal(records.y, member)
    np.testing.assert_allclose(moved.scores(features * scale + shift), once.scores(features), atol=1e-3)
    assert once.scores(features).dtype == np.float64
    features[:, 1] = 3
    of = fit_member_network(features, member, small_network(3, (4,), [[0]]), 16, 20, 1e-2, 90, 0)
    np.testing.assert_allclose(of.std, [features[:, 0].std(), 1e-9, features[:, 2].std()])
    assert np.isfinite(of.scores(features)).all()


@pytest.mark.parametrize(("steps", "epochs"), [(8, 4), (7, 4), (1, 1), (16, 8), (17, 9)])
def test_a_fit_takes_whole_epochs_and_the_last_quarter_at_a_tenth_of_the_rate(steps, epochs, monkeypatch):
    """10 records in batches of 6: two steps an epoch."""
    rates = []

    class Spy(Adam):
        def step(self, net, rate):
            rates.append(rate)
            super().step(net, rate)

    def loss(z, index):
        return z.sum(axis=(1, 2)), 0 * z

    monkeypatch.setattr(fit_module, "Adam", Spy)
    records, rows = Records(np.ones((10, 2), np.float32), np.zeros(10)), np.arange(10)[None]
    fit_module.fit(small_network(2, (3,), [[0]]), records, loss, rows, 0, 6, steps, 0.5)
    later = [epoch for epoch in range(epochs) if epoch / epochs >= 0.75]
    assert rates == [0.5] * 2 * (epochs - len(later)) + [0.05] * 2 * len(later)


def test_a_fit_whose_loss_is_not_finite_ends_in_an_error():
    records, rows = Records(np.ones((10, 2), np.float32), np.zeros(10)), np.arange(10)[None]
    with pytest.raises(DivergenceError) as error:
        fit_module.fit(
            small_network(2, (3,), [[0]]), records, lambda z, index: (np.array([np.inf]), 0 * z), rows, 0, 6, 4, 0.5
        )
    assert str(error.value) == "a network of an attack: its loss is not finite"


# --- the population attack -------------------------------------------------------------------------------------------

few = st.integers(0, 5)


@quick
@given(st.lists(few, min_size=1, max_size=6), st.lists(few, min_size=1, max_size=6))
def test_the_population_attack_counts_losses_that_are_no_lower(target, population):
    found = population_attack(np.array(target), np.array(population))
    assert list(found) == [sum(z <= x for z in population) / len(population) for x in target]


def test_its_level_is_that_of_the_bayes_rule():
    """phi N(0, 1), of members N(d, 1): AUC Phi(d / sqrt 2), FPR alpha = Phi(-d/2) at the best threshold, 1 - alpha."""
    rng, n, d = np.random.default_rng(7), 40_000, 1.5
    member = np.arange(2 * n) < n
    scores = population_attack(rng.standard_normal(2 * n) + d * member, rng.standard_normal(n))
    assert auc(*split(scores, member)) == pytest.approx(norm.cdf(d / math.sqrt(2)), abs=0.01)
    rule = Thresholds.fit(scores, np.zeros(2 * n, int), member, 1, per_class=False)
    assert rule.t[0] == pytest.approx(1 - norm.cdf(-d / 2), abs=0.04)
    other = 5 * rng.standard_normal(2 * n) + 5 * d * member - 9  # another model, on another scale, by the same level
    others = population_attack(other, 5 * rng.standard_normal(n) - 9)
    assert rule.accuracy(others, np.zeros(2 * n, int), member) == pytest.approx(norm.cdf(d / 2), abs=0.01)


# --- quantile regression ---------------------------------------------------------------------------------------------

numbers = hnp.arrays(float, (2, 1, 5), elements=st.floats(-5, 5).map(lambda v: round(v, 3)))


@quick
@given(numbers, numbers, st.floats(0.05, 0.95))
def test_the_pinball_loss_and_its_gradient(q, s, level):
    loss, gradient = pinball(q, s, level)
    for r in range(2):
        terms = [max(level * (b - a), (level - 1) * (b - a)) for a, b in zip(q[r, 0], s[r, 0], strict=True)]
        assert loss[r] == pytest.approx(math.fsum(terms) / 5, abs=1e-12)
        for n in np.flatnonzero(np.abs(q[r, 0] - s[r, 0]) > 1e-4):
            step = np.zeros_like(q)
            step[r, 0, n] = 1e-5
            slope = (pinball(q + step, s, level)[0][r] - pinball(q - step, s, level)[0][r]) / 2e-5
            assert gradient[r, 0, n] == pytest.approx(slope, abs=1e-8)


def test_the_pinball_loss_at_its_quantile():
    """[s < q] is 0 where the two are equal; float32 stays float32."""
    loss, gradient = pinball(np.float32([[[1.0, 2.0]]]), np.float32([[[1.0, 1.0]]]), 0.75)
    assert loss.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(loss, [0.125])
    np.testing.assert_allclose(gradient, [[[-0.375, 0.125]]])


def test_quantiles_are_of_each_models_scores_of_each_record_once(monkeypatch):
    """400 steps are asked for by default."""
    seen = []
    monkeypatch.setattr(quantile, "fit", lambda net, records, loss, rows, *of: seen.append((loss, rows, of)))
    scores = np.random.default_rng(0).normal(0, 1, (2, 5))
    net = fit_quantiles(Records(np.zeros((5, 3)), np.zeros(5)), 3, scores, 0.8)
    assert (net.replicas, net.input_shape, net.output_shape) == (2, (3,), (1,))
    np.testing.assert_array_equal(net.theta[0], net.theta[1])  # they start alike
    ((loss, rows, (seed, batch, steps, rate)),) = seen
    np.testing.assert_array_equal(rows, [np.arange(5)] * 2)
    assert (seed, batch, steps, rate) == (0, 64, 400, 3e-3)
    q, index = np.random.default_rng(1).normal(0, 1, (2, 1, 3)).astype(np.float32), np.array([[4, 0, 2], [1, 1, 3]])
    found, expected = loss(q, index), pinball(q, np.take_along_axis(scores, index, 1)[:, None], 0.8)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert found[0].dtype == found[1].dtype == np.float32


def test_the_conditional_quantiles_of_heteroscedastic_scores_are_recovered():
    """s = m(x) + e(x) N(0, 1): q(x) = m(x) + e(x) Phi^-1(tau), for two models of one fleet."""
    rng, n, tau = np.random.default_rng(8), 8000, 0.9
    x = rng.uniform(-1.5, 1.5, (n, 1)).astype(np.float32)
    means, spreads = (lambda x: x, lambda x: -0.5 * x), (lambda x: np.exp(0.7 * x), lambda x: 0.3 + 0 * x)
    scores = np.stack([m(x[:, 0]) + e(x[:, 0]) * rng.standard_normal(n) for m, e in zip(means, spreads, strict=True)])
    net = fit_quantiles(Records(x, np.zeros(n)), 1, scores, tau, steps=3000)
    grid = np.linspace(-1.3, 1.3, 40, dtype=np.float32)[:, None]
    found = predict(net, Records(grid, np.zeros(40)), np.tile(np.arange(40), (2, 1)))[..., 0]
    for r, (m, e) in enumerate(zip(means, spreads, strict=True)):
        expected = m(grid[:, 0]) + e(grid[:, 0]) * norm.ppf(tau)
        assert np.abs(found[r] - expected).max() < 0.2 * (1 + e(grid[:, 0]).max()), r
        assert np.abs(found[r] - expected).mean() < 0.08, r
        below = (scores[r] < predict(net, Records(x, np.zeros(n)), np.tile(np.arange(n), (2, 1)))[r, :, 0]).mean()
        assert below == pytest.approx(tau, abs=0.02)


# --- features --------------------------------------------------------------------------------------------------------


def test_features_are_standardised_by_the_population_and_have_the_label():
    rng = np.random.default_rng(9)
    x, y = rng.normal(3, 5, (9, 2, 1, 2)).astype(np.float32), rng.integers(0, 3, 9)
    x[4, 0, 0, 0], x[:, 1, 0, 1] = np.nan, 7.0  # a missing number, and a constant
    scored, population = np.array([0, 4, 2]), np.array([5, 6, 7, 8])
    features = Features.of(x, y, 3, scored, population)
    assert (features.count, features.known) == (7, 4)
    for place, row in enumerate([*population, *scored]):
        expected = []
        for f, value in enumerate(x[row].ravel()):
            known = [float(x[z].ravel()[f]) for z in population]
            mean, variance = np.mean(known), np.var(known)
            expected.append(0.0 if np.isnan(value) or variance < 1e-9 else (value - mean) / math.sqrt(variance))
        expected += [float(y[row] == c) for c in range(3)]
        np.testing.assert_allclose(features[np.array([[place]])][0, 0], expected, rtol=1e-5, atol=1e-6)
    assert Features.of(x, y, 3, scored, population[:0]) is None
    assert Features.of(np.zeros((2, MOST + 1), np.float32), y[:2], 3, scored[:1], scored[:1] + 1) is None


# --- agreement -------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 4).flatmap(lambda m: hnp.arrays(bool, (m, 5))))
def test_agreement_is_counted_by_sets(found):
    sets = [{i for i in range(5) if row[i]} for row in found]
    pairs = [(a, b) for a, b in itertools.combinations(sets, 2) if a | b]
    expected = {"union": len(set.union(*sets)), "intersection": len(set.intersection(*sets))}
    jaccard = math.fsum(len(a & b) / len(a | b) for a, b in pairs) / len(pairs) if pairs else None
    assert members_in_common(found) == expected | {"jaccard": pytest.approx(jaccard) if pairs else None}


# --- the table -------------------------------------------------------------------------------------------------------


def test_names_choose_attacks_and_families():
    names = [a.name for a in ATTACKS]
    assert len(set(names)) == len(names)
    assert chosen_attacks(ALL) == {*names, NETWORK} - {"samia_attention"}  # it takes long
    assert chosen_attacks("samia") == {"samia"}
    assert chosen_attacks("samia_attention,rapid") == {"samia_attention", "rapid"}
    assert chosen_attacks("base, rapid") == {"base_online", "base_offline", "rapid"}
    assert chosen_attacks("lira_offline") == {"lira_offline"}
    assert chosen_attacks("network,rmia") == {NETWORK, "rmia_online", "rmia_offline"}
    assert chosen_attacks("lira") == {name for name in names if name.startswith("lira_")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bse", "attacks: 'bse' is no attack; did you mean base"),
        ("lira,bavria", "'bavria' is no attack; did you mean bavaria"),
        ("", "attacks: '' is no attack; there are lira, bavaria"),
        ("x" * 500, "there are lira"),
    ],
)
def test_an_unknown_attack_is_one_line_with_the_nearest(text, said, tmp_path):
    with pytest.raises(ArgumentError) as error:
        chosen_attacks(text)
    assert said in str(error.value)
    assert len(str(error.value)) < 450
    done = CliRunner().invoke(cli.main, ["attack", str(tmp_path / "none.h5"), "--attacks", text])
    assert done.exit_code == 2  # before it looks for the model
    assert done.stderr == f"error: {error.value}\n"


def test_help_and_documentation_have_the_whole_table():
    shown = CliRunner().invoke(cli.main, ["attack", "--help"]).stdout
    told = (ROOT / "docs" / "audit.md").read_text("utf-8")
    for a in ATTACKS:
        (line,) = [line for line in table_text().splitlines() if line.split()[0] == a.name]
        assert all(need.value in line for need in a.needs)
        assert line in shown.replace("\n  ", "\n")
        assert f"`{a.name}`" in told
    assert set(attack_names()) > {a.name for a in ATTACKS}


def test_attack_makes_the_chosen_attacks_and_says_so(tmp_path):
    run = CliRunner()
    model, out = tmp_path / "m.h5", tmp_path / "a.json"
    words = ["train", "digits", "--members", "40", "--reference", "10", "--nonmembers", "40", "--epochs", "1"]
    assert run.invoke(cli.main, [*words, "--out", str(model), "--threads", "1"]).exit_code == 0
    words = ["attack", str(model), "--shadows", "6", "--attacks", "bavaria_offline,quantile", "--json", str(out)]
    done = run.invoke(cli.main, [*words, "--threads", "1", "--report", str(tmp_path / "a.html")])
    assert done.exit_code == 0, done.output
    results = json.loads(out.read_text())
    threshold = {"correctness", "confidence", "entropy", "modified_entropy", "loss"}
    assert set(results["attacks"]) == threshold | {"bavaria_offline", "quantile"}
    assert any("bavaria_offline,quantile" in note for note in results["notes"])
    assert results["agreement"]["attacks"] == 7
    found = results["agreement"]["decisions"]
    assert 0 <= found["intersection"] <= found["union"] <= results["agreement"]["members"] == 40
    assert "bavaria offline" in done.output
    assert "bavaria offline" in (tmp_path / "a.html").read_text()
