"""Members that attackers with other seeds find again: counting, and how shadow models are shared out."""

import dataclasses
import json
import math
from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cli
from nanoprune.attack import network
from nanoprune.errors import ArgumentError
from nanoprune.lab.audit import attack_model
from nanoprune.lab.audit import target as targets
from nanoprune.lab.audit.prediction_attacks import Attacked
from nanoprune.lab.audit.shadow_attacks import attack_target, shadow_attacks
from nanoprune.lab.audit.stability import divide_shadows, stability_note, stability_of
from nanoprune.lab.audit.views import Views
from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import save_model
from nanoprune.lab.statistics import members_over_seeds
from nanoprune.lab.statistics.units import units_of
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.schedule import Schedule

quick = settings(deadline=None, max_examples=60)
tables = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5).flatmap(lambda shape: hnp.arrays(bool, shape))


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with single_threaded_blas(), pytest.MonkeyPatch.context() as patch:
        for name, value in (("RATES", (1e-3,)), ("PATIENCE", 1), ("MIN_PATIENCE", 1)):
            patch.setattr(network, name, value)  # nothing here asks how good the attack network is
        yield


def by_sets(found: np.ndarray) -> dict[str, int]:
    """Member by member, over lists of attacks and seeds."""
    m, S, n = found.shape
    sets = [[{i for i in range(n) if found[a, s, i]} for s in range(S)] for a in range(m)]
    ever, always = [set.union(*of) for of in sets], [set.intersection(*of) for of in sets]
    return {
        "union": len(set.union(*ever)),
        "stable": len(set.union(*always)),
        "common": len(set.intersection(*ever)),
        "intersection": len(set.intersection(*always)),
    }


@quick
@given(tables)
def test_members_over_seeds_are_counted(found):
    assert members_over_seeds(found) == by_sets(found)


@quick
@given(st.integers(1, 12), st.data())
def test_shadows_are_shared_out_in_pairs(seeds, data):
    pairs = data.draw(st.integers(3 * seeds, 60))
    parts = divide_shadows(2 * pairs, seeds)
    assert sorted(k for part in parts for k in part) == list(range(2 * pairs))
    for part in parts:
        assert len(part) >= 6
        assert all((k ^ 1) in part for k in part)  # with its twin
    assert max(map(len, parts)) - min(map(len, parts)) <= 2


@pytest.mark.parametrize(("shadows", "seeds", "most"), [(16, 3, 2), (6, 2, 1), (64, 11, 10)])
def test_too_many_seeds_are_refused_with_the_number_of_shadow_models_that_would_do(shadows, seeds, most):
    with pytest.raises(ArgumentError, match=f"seeds must be at most {most} with {shadows}.*got {seeds}") as error:
        divide_shadows(shadows, seeds)
    enough = int(str(error.value).partition("train ")[2].partition(",")[0])
    assert len(divide_shadows(enough, seeds)) == seeds
    assert len(divide_shadows(shadows, most)) == most
    with pytest.raises(ArgumentError, match="seeds must be at least 1, got 0"):
        divide_shadows(shadows, 0)


def attacked(rng: np.random.Generator, n: int) -> Attacked:
    return Attacked(rng.standard_normal(n), rng.random(n) < 0.5, rng.random(n) < 0.5, [np.arange(n)])


@quick
@given(st.integers(0, 10_000))
def test_attacks_and_seeds_are_counted_by_decision_and_by_few_false_accusations(seed):
    rng, n = np.random.default_rng(seed), 240
    member = rng.permutation(n) < 120
    units = units_of(rng.integers(0, 3, n), member, 3)
    attackers = [{name: attacked(rng, n) for name in "abc"} for _ in range(2)]
    found = stability_of(units, attackers)
    assert (found["seeds"], found["members"]) == (2, 120)

    def accused(of: Attacked) -> np.ndarray:
        """The members above all but one of the 120 others, which are 1% of them."""
        second = sorted(of.scores[~member])[-2]
        return of.scores[member] > second

    for kind, which in (("decisions", lambda of: of.said[member]), ("0.01", accused)):
        table = np.array([[which(attacker[name]) for attacker in attackers] for name in "abc"])
        assert found["all"][kind] == by_sets(table)
        for name, (first, second) in zip("abc", table, strict=True):
            either, both = int((first | second).sum()), int((first & second).sum())
            expected = {"union": either, "intersection": both}
            expected["jaccard"] = pytest.approx(both / either) if either else None
            assert found["attacks"][name][kind] == expected


def test_equal_attackers_agree_and_strangers_find_what_chance_finds():
    rng, n = np.random.default_rng(0), 40_000
    units = units_of(np.zeros(n, int), np.arange(n) < n // 2, 1)
    one = {"a": attacked(rng, n)}
    same = stability_of(units, [one, one])["attacks"]["a"]["decisions"]
    assert same["union"] == same["intersection"]
    assert same["jaccard"] == 1
    other = stability_of(units, [one, {"a": attacked(rng, n)}])["attacks"]["a"]["decisions"]
    assert other["jaccard"] == pytest.approx(1 / 3, abs=0.02)  # 1/4 of 3/4
    assert other["union"] == pytest.approx(0.75 * n / 2, abs=5 * math.sqrt(n / 2))


def some_views(seed: int, shadows: int, n: int) -> tuple[Views, np.ndarray]:
    rng = np.random.default_rng(seed)
    half = np.stack([rng.permutation(n) < n // 2 for _ in range(shadows // 2)])
    inside = np.stack([half, ~half], axis=1).reshape(shadows, n)
    member, y = rng.permutation(n) < n // 2, rng.integers(0, 2, n)
    logits = rng.normal(0, 1, (shadows + 1, n, 2))
    logits[:, np.arange(n), y] += 2.0 * np.vstack([inside, member])
    population = rng.normal(0, 1, (shadows + 1, 30, 2))
    arrays = {"train": logits}, population, rng.normal(0, 1, (shadows + 1, n)), y, rng.integers(0, 2, 30)
    more = {"versions": rng.normal(0, 1, (shadows + 1, n, 2)), "sensitivity": rng.exponential(1, (shadows + 1, n, 2))}
    return Views(inside, *arrays, **more), member


def test_an_attacker_sees_its_own_shadows_and_the_target():
    views, _ = some_views(0, 16, 40)
    part = views.part(np.array([4, 5, 10, 11, 0, 1]))
    rows = [4, 5, 10, 11, 0, 1, 16]
    np.testing.assert_array_equal(part.inside, views.inside[rows[:-1]])
    np.testing.assert_array_equal(part.logits["train"], views.logits["train"][rows])
    for name in ("population", "paths", "versions", "sensitivity", "phi", "population_phi"):
        np.testing.assert_array_equal(getattr(part, name), getattr(views, name)[rows])
    assert part.available == views.available
    names = {"lira_online", "rmia_offline"}
    for name, attack in shadow_attacks(part, names).items():
        first = attack_target(attack, part)
        without = dataclasses.replace(views, paths=None, versions=None).part(np.array([4, 5, 10, 11, 0, 1]))
        np.testing.assert_array_equal(attack_target(shadow_attacks(without, names)[name], without).scores, first.scores)


def recipe():
    return dataclasses.replace(
        recipe_for(load("digits"), members=60, reference=0, nonmembers=60),
        widths=(16,),
        minmax=0.0,
        dense=Schedule(epochs=6, batch=32, lr=0.05),
    )


@pytest.fixture(scope="module")
def model():
    return train_model(load("digits"), recipe(), 0, 1)


def test_the_attack_counts_what_each_attacker_finds(model, monkeypatch):
    made, whole = [], targets._every_attack
    monkeypatch.setattr(targets, "_every_attack", lambda *a: made.append((a[1], whole(*a))) or made[-1][1])
    results, _ = attack_model(model, load("digits"), 12, attacks="lira_online,difficulty,network", seeds=2)
    json.dumps(results, allow_nan=False)
    (views, _), (first, one), (second, two) = made
    assert len(views.inside) == 12
    for part, rows in ((first, slice(0, 6)), (second, slice(6, 12))):
        np.testing.assert_array_equal(part.inside, views.inside[rows])
        np.testing.assert_array_equal(part.phi[:6], views.phi[rows])
        np.testing.assert_array_equal(part.phi[6], views.phi[12])
    found = results["stability"]
    assert {"lira_online", "difficulty", "loss"} <= set(found["attacks"])
    assert "network" not in found["attacks"]
    table = np.array([[one[name].said[:60], two[name].said[:60]] for name in found["attacks"]])  # members first
    assert found["all"]["decisions"] == by_sets(table)
    assert stability_note(found) in results["notes"]
    assert sum(len(a ^ b) for a, b in combinations([{*np.flatnonzero(row)} for row in table[:, 0]], 2)) > 0
    assert "stability" not in attack_model(model, load("digits"), 6, attacks="difficulty")[0]


def test_the_command(model, tmp_path):
    save_model(model, tmp_path / "model.h5")
    options = ["--threads", "1", "--attacks", "difficulty", "--json", str(tmp_path / "a.json")]
    done = CliRunner().invoke(
        cli.main, ["attack", str(tmp_path / "model.h5"), "--shadows", "12", "--seeds", "2", *options]
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "a.json").read_text())["stability"]["seeds"] == 2
    few = CliRunner().invoke(cli.main, ["attack", str(tmp_path / "model.h5"), "--shadows", "12", "--seeds", "3"])
    assert few.exit_code == 2
    assert few.stderr.startswith("error: seeds must be at most 2 with 12 shadow models, got 3")
