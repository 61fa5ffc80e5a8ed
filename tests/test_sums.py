"""Sums over shadow models: in any parts they add up to those of all, and attacks by them are those by all outputs."""

import dataclasses
import math

import by_arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow.base import log_sum
from nanoprune.attack.shadow.lira import margin
from nanoprune.attack.shadow.moments import Moments
from nanoprune.attack.shadow.rmia import rmia
from nanoprune.errors import ArgumentError
from nanoprune.lab.audit import attack_model, shadow_attacks, shadows, target
from nanoprune.lab.audit.shadows import Shadows, make_pool, outputs, train_shadows
from nanoprune.lab.audit.sums import Sums, log_odds_alone
from nanoprune.lab.audit.views import Views, others
from nanoprune.lab.data import load
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.tasks import fleet, task
from nanoprune.lab.tasks.fleet import Fleet, shadow_tasks
from nanoprune.lab.tasks.perform import Machine
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

quick = settings(deadline=None, max_examples=60)


@quick
@given(st.data(), st.integers(1, 9), st.integers(1, 3), st.integers(0, 10_000))
def test_moments_of_parts_add_up_to_those_of_all(data, K, d, seed):
    """Beside numpy's mean and covariance, record by record; parts without any model among them."""
    rng = np.random.default_rng(seed)
    values, chosen = 10 * rng.normal(5, 1, (K, 4, d)), rng.random((K, 4)) < 0.6
    ends = sorted(data.draw(st.lists(st.integers(0, K), max_size=3)))
    parts = [Moments.of(values[a:b], chosen[a:b]) for a, b in zip([0, *ends], [*ends, K], strict=True)]
    found = sum(parts[1:], parts[0])
    for i in range(4):
        of = values[chosen[:, i], i]  # (count, d)
        assert found.count[i] == len(of)
        if len(of):
            np.testing.assert_allclose(found.mean[i], of.mean(axis=0), rtol=1e-12)
        if len(of) > 1:
            np.testing.assert_allclose(found.scatter[i], (len(of) - 1) * np.cov(of.T).reshape(d, d), atol=1e-9)
        else:
            np.testing.assert_allclose(found.scatter[i], 0, atol=1e-12)


def test_moments_far_from_zero_lose_no_digits():
    """Which sums of squares would: values around 1e8 with a variance of 1, in 1,000 parts."""
    values = 1e8 + np.random.default_rng(0).normal(0, 1, (2000, 1))
    parts = [Moments.of(values[k : k + 2], np.ones((2, 1), bool)) for k in range(0, 2000, 2)]
    found = sum(parts[1:], parts[0])
    assert found.scatter[0, 0, 0] / 1999 == pytest.approx(values.var(ddof=1), rel=1e-6)


def test_a_record_without_models_is_named():
    few = Moments.of(np.zeros((2, 3)), np.array([[True, False, True], [True, False, False]]))
    with pytest.raises(ArgumentError, match="record 1 has no IN or no OUT model"):
        few.checked()
    assert few.part([0]).count is few.count


@quick
@given(st.integers(0, 10_000))
def test_a_sum_of_tiny_probabilities_is_kept_in_logarithms(seed):
    log_p = np.random.default_rng(seed).uniform(-3000, 0, (6, 2))
    none, every = np.zeros((6, 2), bool), np.ones((6, 2), bool)
    parts = np.logaddexp(log_sum(log_p[:4], every[:4]), log_sum(log_p[4:], every[4:]))
    expected = [math.log(math.fsum(np.exp(column - column.max()))) + column.max() for column in log_p.T]
    np.testing.assert_allclose(parts, expected, rtol=1e-12)
    assert (log_sum(log_p, none) == -np.inf).all()


# --- attacks by sums -------------------------------------------------------------------------------------------------

K, WHOLE, N, M = 24, 10, 60, 30


def some_outputs(seed: int = 0):
    """Of K shadows and a target: shadows, and the target's logits, population and paths; y and the population's."""
    rng = np.random.default_rng(seed)
    half = np.stack([rng.permutation(N) < N // 2 for _ in range(K // 2)])
    inside = np.stack([half, ~half], axis=1).reshape(K, N)
    y, population_y = rng.integers(0, 3, N), rng.integers(0, 3, M)
    seen = np.vstack([inside, rng.random(N) < 0.5])
    logits = {}
    for stage, gap in (("train", 2.0), ("prune", 1.0)):
        z = rng.normal(0, 1, (K + 1, N, 3)) + rng.normal(0, 1, (N, 3))
        np.put_along_axis(z, (at := np.broadcast_to(y, (K + 1, N))[..., None]), np.take_along_axis(z, at, 2) + gap, 2)
        logits[stage] = (z + gap * seen[..., None] * (np.arange(3) == y[:, None])).astype(np.float32)
    population = rng.normal(0, 1, (K + 1, M, 3)).astype(np.float32)
    paths = rng.normal(0, 1, (K + 1, N)) + 0.3 * seen
    return inside, logits, population, paths, y, population_y


@pytest.fixture(scope="module")
def both():
    """Views with all shadows, and with the first and sums over the others, which come in two parts."""
    inside, logits, population, paths, y, population_y = some_outputs()
    every = Views(inside, logits, population, paths, y, population_y)

    def part(rows: slice) -> Sums:
        of = ({stage: values[rows] for stage, values in logits.items()}, {"prune": population[rows]}, paths[rows])
        return Sums.of(log_odds_alone(Shadows(inside[rows], *of), y, population_y))

    here = np.r_[0:WHOLE, K]
    some = ({stage: values[here] for stage, values in logits.items()}, population[here], paths[here])
    rest = part(slice(WHOLE, 16)) + part(slice(16, K))
    assert rest.shadows == K - WHOLE
    return every, Views(inside[:WHOLE], *some, y, population_y, rest=rest)


FITTED = ("rapid", "base_offline", "rmia_online", "rmia_offline")  # on the shadows that are here


def test_scores_of_the_target_are_those_by_all_outputs(both):
    every, some = both
    by_all, by_sums = shadow_attacks.shadow_attacks(every), shadow_attacks.shadow_attacks(some)
    assert set(by_all) == set(by_sums)
    for name in set(by_all) - set(FITTED):
        expected = by_all[name](K, np.arange(K))
        found = by_sums[name](WHOLE, np.arange(WHOLE))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_so_are_those_of_a_shadow_which_is_not_compared_with_its_twin(both):
    every, some = both
    by_all, by_sums = shadow_attacks.shadow_attacks(every), shadow_attacks.shadow_attacks(some)
    for name in set(by_all) - set(FITTED):
        for k in (0, 7):
            expected, found = by_all[name](k, others(k, K)), by_sums[name](k, others(k, WHOLE))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_formulas_of_what_is_fitted_see_all_shadows(both, monkeypatch):
    """At one a, which is what is chosen on the shadows that are here."""
    monkeypatch.setattr(shadow_attacks.fitted, "A_GRID", np.array([0.4]))
    every, some = both
    by_sums, phi, inside = shadow_attacks.shadow_attacks(some), every.phi, every.inside
    log_p = -np.log1p(np.exp(-phi))
    z = 1 / (1 + np.exp(-margin(every.population, every.population_y)))
    z_prior = (1.4 * z[:K].mean(axis=0) + 0.6) / 2
    p = np.exp(log_p)
    expected = {
        "base_offline": by_arrays.base_offline(log_p[K], log_p[:K], inside, 0.4),
        "rmia_online": rmia(p[K], by_arrays.prior_online(p[:K], inside), z[K], z_prior),
        "rmia_offline": rmia(p[K], by_arrays.prior_offline(p[:K], inside, 0.4), z[K], z_prior),
    }
    for name, scores in expected.items():
        np.testing.assert_allclose(by_sums[name](WHOLE, np.arange(WHOLE)), scores, rtol=1e-5, err_msg=name)


# --- fleets of several blocks ----------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (shadows, fleet, target, task):
        monkeypatch.setattr(module, "BLOCK", 6)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def pruned(digits):
    short = Schedule(epochs=2, batch=20, lr=0.1)
    recipe = dataclasses.replace(
        recipe_for(digits, 40, network="mlp"),
        **{"widths": (12,), "members": 40, "reference": 20, "nonmembers": 40, "minmax": 0.0},
        **{"dense": short, "prune": short, "retrain": short, "admm": ADMMSettings(iterations=2)},
    )
    return prune_model(train_model(digits, recipe, 0, 1), digits, recipe, 0.3, 1)


def trained_by(store, executor="local", per_task=2) -> Fleet:
    return Fleet(store, executor, 1, Machine(), per_task)


def test_tasks_of_more_shadows_hold_those_of_fewer(pruned, small_blocks):
    few, many = ([t.sha256 for t in shadow_tasks(pruned, count, 4)] for count in (14, 40))
    assert set(few[:-1]) < set(many)  # the last of them has only 2 shadows of its block
    assert len(set(many)) == len(many) == 2 * 6 + 1  # of 4 and 2 shadows in a block of 6, and of 4
    assert sum(t.rows.stop - t.rows.start for t in shadow_tasks(pruned, 40, 4)) == 40


def test_blocks_have_other_shadows(pruned, digits, small_blocks):
    blocks = [train_shadows(pruned, digits, 6, 1, Progress(), block=block) for block in (0, 1, 2)]
    seeds = [shadows.seeds_of(pruned.seed, 6, block) for block in (0, 1, 2)]
    assert len({seed for of in seeds for seed in of}) == 18
    for i, of in enumerate(blocks):
        assert np.array_equal(of.inside[::2], ~of.inside[1::2])
        assert (of.inside.sum(axis=1) == of.inside.shape[1] // 2).all()
        for other in blocks[:i]:
            assert not np.array_equal(of.inside, other.inside)
            assert not np.array_equal(of.logits["prune"], other.logits["prune"])


def test_an_attack_with_more_shadows_than_a_block(pruned, digits, small_blocks, tmp_path):
    """Gathered from a store, beside the outputs of all shadows."""
    with trained_by(tmp_path / "store") as of:
        found, _ = attack_model(pruned, digits, 16, attacks="lira,difficulty", train=of.train)
    assert (found["shadows"]["count"], found["shadows"]["whole"]) == (16, 6)
    assert found["fitted_on"] == "6 of 16 shadow models"
    blocks = [train_shadows(pruned, digits, 6, 1, Progress(), block=block) for block in (0, 1, 2)]
    pool = make_pool(pruned, digits)
    y, member = digits.y[pool.scored], pool.member
    phi = np.concatenate([margin(block.logits["prune"], y) for block in blocks])[:16]
    inside = np.concatenate([block.inside for block in blocks])[:16]
    own = margin(outputs(pruned.net, digits, pool.scored, 1)[0], y)
    expected = {
        "lira_online": by_arrays.lira_online(own, phi, inside, "fixed"),
        "lira_offline_record": by_arrays.lira_offline(own, phi, inside, "record"),
        "difficulty": by_arrays.calibrated(-np.log1p(np.exp(-own)), -np.log1p(np.exp(-phi)), inside),
    }
    for name, scores in expected.items():
        assert found["attacks"][name]["auc"]["value"] == pytest.approx(auc(scores[member], scores[~member]), abs=1e-9)


def test_results_of_later_blocks_are_log_odds_alone_and_small(pruned, digits, small_blocks, tmp_path):
    with trained_by(tmp_path / "store") as of:
        found = of.train(pruned, digits, 10, 1, Progress())
        later = of.store.read(shadow_tasks(pruned, 10)[-1])
    assert {values.shape[2] for values in (*later.logits.values(), *later.population.values())} == {1}
    assert later.sensitivity is None
    assert len(found.inside) == 6
    assert found.rest.shadows == 4


def test_more_than_a_block_needs_a_store(pruned, digits, small_blocks):
    with pytest.raises(ArgumentError, match=r"at most 6 without --store DIR.*, got 8"):
        attack_model(pruned, digits, 8)
