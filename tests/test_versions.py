"""Several released versions of a model: the likelihood ratio of their outputs, and the shadow models of each."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from by_arrays import lira_online, lira_versions
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

import cli
from nanoprune.attack import network
from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow.lira import margin
from nanoprune.attack.shadow.versions import shrunk
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit import attack_model
from nanoprune.lab.audit import target as targets
from nanoprune.lab.audit.shadows import make_pool, outputs, train_shadows
from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.export.quantise import is_quantised, quantised_model
from nanoprune.lab.models.model import save_model
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

K = 6
ATTACKS = "lira_online,lira_versions,lira_versions_record"
quick = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 10_000)


@pytest.fixture(autouse=True, scope="module")
def _quick_and_repeatable():
    with single_threaded_blas(), pytest.MonkeyPatch.context() as patch:
        for name, value in (("RATES", (1e-3,)), ("PATIENCE", 1), ("MIN_PATIENCE", 1)):
            patch.setattr(network, name, value)
        yield


def halves(rng: np.random.Generator, shadows: int, n: int) -> np.ndarray:
    """inside (K, n): of each record half of the shadows, drawn anew for each."""
    return np.stack([rng.permutation(shadows) < shadows // 2 for _ in range(n)], axis=1)


def a_covariance(rng: np.random.Generator, d: int) -> np.ndarray:
    root = rng.normal(0, 1, (d, d + 1))
    return root @ root.T + 0.2 * np.eye(d)


# --- the formula -----------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.sampled_from(["fixed", "record"]))
def test_one_version_is_lira_to_the_bit(seed, variance):
    rng = np.random.default_rng(seed)
    phi, target, inside = rng.normal(0, 2, (8, 9)), rng.normal(0, 2, 9), halves(rng, 8, 9)
    found = lira_versions(target[:, None], phi[..., None], inside, variance)
    np.testing.assert_array_equal(found, lira_online(target, phi, inside, variance))


def shrunk_by_loops(sigma: np.ndarray, freedom: int) -> np.ndarray:
    d, noise, signal = len(sigma), 0.0, 0.0
    for a, b in itertools.permutations(range(d), 2):
        r = sigma[a, b] / math.sqrt(sigma[a, a] * sigma[b, b])
        noise, signal = noise + (1 - r * r) ** 2 / freedom, signal + r * r
    kept = max(0.0, 1 - noise / signal) if freedom > 1 else 0.0  # of two models every r is 1 or -1
    return np.array([[sigma[a, b] * (1 if a == b else kept) for b in range(d)] for a in range(d)])


@quick
@given(seeds, st.integers(2, 5), st.lists(st.integers(1, 200), min_size=1, max_size=3))
def test_correlations_are_shrunk_by_their_noise_and_variances_are_kept(seed, d, freedom):
    rng = np.random.default_rng(seed)
    sigma = np.stack([a_covariance(rng, d) for _ in freedom])
    for found, of, f in zip(shrunk(sigma, np.array(freedom)), sigma, freedom, strict=True):
        np.testing.assert_allclose(found, shrunk_by_loops(of, f), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", ["fixed", "record"])
def test_scores_are_ratios_of_normals_with_the_shrunk_covariance(variance):
    """By loops: its degrees of freedom are those of the record's models, or of all records' together."""
    rng, n, d = np.random.default_rng(4), 5, 3
    inside = np.stack([rng.permutation(14) < count for count in (5, 6, 7, 8, 9)], axis=1)
    phi, target = rng.standard_normal((14, n, d)) @ rng.normal(0, 1, (d, d)), rng.normal(0, 2, (n, d))
    found = lira_versions(target, phi, inside, variance)
    for i in range(n):
        logs = []
        for chosen in (inside, ~inside):
            of = [phi[chosen[:, j], j] for j in range(n)]
            scatters, freedoms = [np.cov(x, rowvar=False) * (len(x) - 1) for x in of], [len(x) - 1 for x in of]
            if variance == "record":
                scatters, freedoms = [scatters[i]], [freedoms[i]]
            sigma = shrunk_by_loops(sum(scatters) / sum(freedoms), sum(freedoms))
            logs.append(multivariate_normal.logpdf(target[i], of[i].mean(axis=0), sigma))
        assert found[i] == pytest.approx(logs[0] - logs[1], rel=1e-3, abs=1e-3)


def test_the_noise_of_correlations_is_what_samples_say():
    """Var(r) = (1 - r^2)^2 / f, the formula of `shrunk`, for normal samples of known r."""
    rng, f = np.random.default_rng(0), 40
    for r in (0.0, 0.6):
        x = rng.standard_normal((4000, f + 1, 2)) @ np.linalg.cholesky([[1, r], [r, 1]]).T
        of = np.array([np.corrcoef(one, rowvar=False)[0, 1] for one in x])
        assert of.var() == pytest.approx((1 - r**2) ** 2 / f, rel=0.12)


@quick
@given(seeds)
def test_the_shrunk_covariance_of_fewer_shadows_than_versions_has_an_inverse(seed):
    rng, d = np.random.default_rng(seed), 6
    x = rng.standard_normal((3, d))  # a covariance of rank 2
    found = shrunk(np.cov(x, rowvar=False)[None], np.array([2]))[0]
    assert np.linalg.eigvalsh(found).min() > 1e-9 * np.trace(found)


@quick
@given(seeds)
def test_two_shadows_of_a_kind_say_nothing_of_correlations(seed):
    """All sample correlations of two are 1 or -1: the versions are then taken as independent, and their scores add."""
    rng, d, n = np.random.default_rng(seed), 3, 5
    phi, target, inside = rng.normal(0, 2, (4, n, d)), rng.normal(0, 2, (n, d)), halves(rng, 4, n)
    found = lira_versions(target, phi, inside, "record")
    alone = [lira_online(target[:, i], phi[..., i], inside, "record") for i in range(d)]
    np.testing.assert_allclose(found, sum(alone), rtol=1e-6, atol=1e-6)


def test_scores_are_differences_of_normal_log_densities():
    """With so many shadows that hardly anything is shrunk."""
    rng, d = np.random.default_rng(1), 3
    sigma, gap = a_covariance(rng, d), rng.normal(0, 1, d)
    root, n, shadows = np.linalg.cholesky(sigma), 40, 4000
    means, inside = rng.normal(0, 3, (n, d)), halves(rng, shadows, n)
    phi = means + gap * inside[..., None] + rng.standard_normal((shadows, n, d)) @ root.T
    target = means + gap * (rng.random(n) < 0.5)[:, None] + rng.standard_normal((n, d)) @ root.T
    expected = [
        multivariate_normal.logpdf(x, m + gap, sigma) - multivariate_normal.logpdf(x, m, sigma)
        for x, m in zip(target, means, strict=True)
    ]
    np.testing.assert_allclose(lira_versions(target, phi, inside), expected, atol=0.3)


def gaussian(seed: int, shadows: int, n: int, sigma: np.ndarray, gap: np.ndarray):
    """target (n, d), phi (K, n, d), inside (K, n), member (n,): records' means differ, membership adds `gap`."""
    rng, root = np.random.default_rng(seed), np.linalg.cholesky(sigma)
    inside, member = halves(rng, shadows, n), rng.permutation(n) < n // 2
    means = rng.normal(0, 4, (n, len(gap)))
    phi = means + gap * inside[..., None] + rng.standard_normal((shadows, n, len(gap))) @ root.T
    return means + gap * member[:, None] + rng.standard_normal((n, len(gap))) @ root.T, phi, inside, member


def area(scores: np.ndarray, member: np.ndarray) -> float:
    return auc(scores[member], scores[~member])


def optimum(sigma: np.ndarray, gap: np.ndarray) -> float:
    """AUC of the Neyman-Pearson test between two normals of one covariance."""
    return float(norm.cdf(math.sqrt(gap @ np.linalg.solve(sigma, gap) / 2)))


def test_the_gaussian_optimum_is_reached():
    """Two versions of one gap whose noise is alike: their difference tells what neither tells alone."""
    sigma, gap = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 4.0]]), np.array([0.9, 0.4, 0.6])
    n, shadows = 6000, 200
    target, phi, inside, member = gaussian(2, shadows, n, sigma, gap)
    tolerance = 4 * math.sqrt((n + 1) / (12 * (n / 2) ** 2)) + 0.005  # of the AUC, and of estimated means
    best = optimum(sigma, gap)
    assert area(lira_versions(target, phi, inside), member) == pytest.approx(best, abs=tolerance)
    for j in range(3):
        alone = area(lira_online(target[:, j], phi[..., j], inside), member)
        assert alone == pytest.approx(norm.cdf(gap[j] / math.sqrt(2 * sigma[j, j])), abs=tolerance)
        assert alone < best - 0.05


def test_with_few_shadows_of_its_own_a_record_gains_by_shrinking():
    """16 shadows and 5 versions: 8 outputs for each covariance of 15 numbers."""
    sigma = 0.3 + 0.7 * np.eye(5)
    target, phi, inside, member = gaussian(3, 16, 6000, sigma, np.full(5, 0.8))
    plain = area(lira_online(target, phi, inside, "record"), member)
    assert area(lira_versions(target, phi, inside, "record"), member) > plain + 0.05


def test_versions_that_say_nothing_are_at_chance():
    target, phi, inside, member = gaussian(4, 8, 6000, a_covariance(np.random.default_rng(0), 4), np.zeros(4))
    for variance in ("fixed", "record"):
        scores = lira_versions(target, phi, inside, variance)
        assert abs(area(scores, member) - 0.5) < 4 * math.sqrt(6001 / (12 * 3000**2))


def test_equal_versions_are_no_more_than_one():
    """Finite, and in the order of one version: a copy adds nothing."""
    target, phi, inside, member = gaussian(5, 40, 2000, np.eye(1), np.ones(1))
    twice = lira_versions(np.repeat(target, 2, axis=1), np.repeat(phi, 2, axis=2), inside)
    assert np.isfinite(twice).all()
    assert area(twice, member) == pytest.approx(area(lira_online(target[:, 0], phi[..., 0], inside), member), abs=1e-3)


# --- the shadows of every version ------------------------------------------------------------------------------------


def recipe(**changes):
    fields = {
        "widths": (16,),
        "minmax": 0.0,
        "keep": (0.3,),
        "dense": Schedule(epochs=4, batch=32, lr=0.05),
        "prune": Schedule(epochs=2, batch=32, lr=0.04),
        "retrain": Schedule(epochs=2, batch=32, lr=0.02),
        "admm": ADMMSettings(rho=0.3, iterations=2),
    }
    return dataclasses.replace(recipe_for(load("digits"), members=60, reference=0, nonmembers=60), **(fields | changes))


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def released(digits):
    """The dense network, two that were pruned from it, the second one pruned again, and an int8 copy of that."""
    dense = train_model(digits, recipe(), 0, 1)
    pruned = [prune_model(dense, digits, recipe(), keep, 1) for keep in (0.5, 0.3)]
    again = prune_model(pruned[1], digits, recipe(), 0.1, 1)
    return {"dense": dense, "half": pruned[0], "third": pruned[1], "again": again, "int8": quantised_model(again)}


def test_the_shadows_of_each_version_are_versions_of_each_other(digits, released, monkeypatch):
    """What the attack sees: of each version what its own shadows say, trained apart; the dense stage once for all."""
    seen, fleets = [], []
    whole, dense = targets.shadow_attacks, Experiment.dense
    monkeypatch.setattr(targets, "shadow_attacks", lambda views, chosen: seen.append(views) or whole(views, chosen))
    monkeypatch.setattr(Experiment, "dense", lambda self, *a, **k: fleets.append(self.seeds) or dense(self, *a, **k))
    model, others = released["again"], [released[name] for name in ("dense", "half", "int8")]
    results, _ = attack_model(model, digits, K, attacks=ATTACKS, versions=others)
    assert len(fleets) == 1  # the undefended shadows are those of the dense version, too
    monkeypatch.undo()
    adaptive, plain = seen
    assert plain.versions is None
    pool = make_pool(model, digits)
    for j, version in enumerate([model, *others]):
        own = list(train_shadows(version, digits, K, 1, Progress()).logits.values())[-1]
        logits = np.concatenate([own, outputs(version.net, digits, pool.scored, 1)])
        np.testing.assert_array_equal(adaptive.versions[..., j], margin(logits, digits.y[pool.scored]))
    assert len({adaptive.versions[..., j].tobytes() for j in range(4)}) == 4
    assert set(results["auxiliary_attacks"]) == {"lira_versions", "lira_versions_record"}
    assert results["strongest"]["attack"] not in results["auxiliary_attacks"]
    json.dumps(results, allow_nan=False)


def test_shadows_of_an_int8_version_have_int8_weights(digits, released):
    kept = {}
    train_shadows(released["int8"], digits, K, 1, Progress(), kept=kept)
    assert [is_quantised(of.net) for of in kept.values()] == [False, False, True]
    train_shadows(released["again"], digits, K, 1, Progress(), kept=kept)
    *_, int8, float32 = kept.values()
    assert not is_quantised(float32.net)
    assert (int8.net.W == 0).sum() >= (float32.net.W == 0).sum()
    largest = np.abs(float32.net.W).max(axis=1, keepdims=True)
    assert (np.abs(int8.net.W - float32.net.W) <= largest / 127).all()


def test_versions_from_the_cache(digits, released, tmp_path, monkeypatch):
    options = {"cache": tmp_path, "attacks": ATTACKS, "versions": [released["dense"]]}
    first, _ = attack_model(released["half"], digits, K, **options)
    assert len(list(tmp_path.iterdir())) == 2  # the undefended shadows are those of the dense version
    monkeypatch.setattr(targets, "train_shadows", lambda *_, **__: pytest.fail("trained although it was there"))
    again, _ = attack_model(released["half"], digits, K, **options)
    assert again["attacks"] == first["attacks"]


def test_what_is_no_other_version_is_refused(digits, released):
    model = released["third"]
    for other in (train_model(digits, recipe(), 1, 1), train_model(digits, recipe(widths=(12,)), 0, 1)):
        with pytest.raises(DataError, match="number 2 was not made from the same dense network"):
            attack_model(model, digits, K, versions=[released["dense"], other])
    with pytest.raises(DataError, match="number 1 was made by the same steps"):
        attack_model(model, digits, K, versions=[model])
    with pytest.raises(DataError, match="number 2 was made by the same steps"):
        attack_model(model, digits, K, versions=[released["dense"], released["dense"]])


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def test_the_command(released, tmp_path):
    for name in ("dense", "half", "third"):
        save_model(released[name], tmp_path / f"{name}.h5")
    options = ["--shadows", K, "--attacks", ATTACKS, "--threads", 1, "--json", tmp_path / "a.json"]
    versions = ["--versions", tmp_path / "dense.h5", "--versions", tmp_path / "half.h5"]
    done = run("attack", tmp_path / "third.h5", *versions, *options)
    assert done.exit_code == 0, done.output
    assert "An attacker who also has the other versions (lira versions)" in " ".join(done.stdout.split())
    assert "lira_versions" in json.loads((tmp_path / "a.json").read_text())["attacks"]
    wrong = run("attack", tmp_path / "third.h5", "--versions", tmp_path / "nowhere.h5", *options[:-2])
    assert wrong.exit_code == 2
    assert "nowhere.h5: not found" in wrong.stderr
    planned = run("attack", tmp_path / "third.h5", *versions, "--plan", tmp_path / "tasks")
    assert planned.exit_code == 2
    assert "--plan writes tasks and ends: --versions has no effect" in planned.stderr


def test_a_record_that_no_shadow_saw_is_refused():
    inside = halves(np.random.default_rng(0), 6, 5)
    inside[:, 3] = False
    with pytest.raises(ArgumentError, match="record 3 "):
        lira_versions(np.zeros((5, 2)), np.zeros((6, 5, 2)), inside)
