"""Fronts against enumeration, differences at equal accuracy where they are known, intervals that cover, the figure."""

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import load
from nanoprune.lab.experiment import pareto
from nanoprune.lab.experiment.methods import comparison
from nanoprune.lab.experiment.pareto import Family, difference, differences, front, leakage_at
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.sweep import chosen_sweeps
from nanoprune.lab.report.pareto import difference_table, pareto_plot, pareto_table
from nanoprune.lab.report.plots import drawing
from nanoprune.lab.statistics import paired_difference

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=200)
@given(POINTS)
def test_a_front_has_exactly_the_points_that_no_other_beats(points):
    test, attack = (np.array(of, float) for of in zip(*points, strict=True))
    found = front(test, attack).tolist()

    def beaten(i):
        return any(
            test[j] >= test[i] and attack[j] <= attack[i] and (test[j] > test[i] or attack[j] < attack[i])
            for j in range(len(test))
        )

    best = {points[i] for i in range(len(points)) if not beaten(i)}
    assert [points[i] for i in found] == sorted(best)  # each once, by accuracy
    assert all(points.index(points[i]) == i for i in found)  # of equal ones the first


def family(name, test, attack):
    test, attack = (np.atleast_2d(np.array(of, float)) for of in (test, attack))
    return Family(name, "strength", tuple(str(i) for i in range(len(test))), test, attack)


def test_leakage_is_interpolated_between_the_points_of_the_front():
    test, attack = np.array([0.5, 0.6, 0.55, 0.7]), np.array([0.55, 0.60, 0.62, 0.8])  # the third is beaten
    np.testing.assert_allclose(leakage_at(np.array([0.5, 0.55, 0.6, 0.65, 0.7]), test, attack),
                               [0.55, 0.575, 0.60, 0.70, 0.80])  # fmt: skip


def test_a_difference_by_hand():
    """Fronts 0.5 + (a - 0.4) and 0.6 + 2 (a - 0.5) at accuracies a from 0.5 to 0.6: the first leaks a - 0.5 less."""
    one = family("one", [[0.4] * 2, [0.6] * 2], [[0.5] * 2, [0.7] * 2])
    other = family("other", [[0.5] * 2, [0.7] * 2], [[0.6] * 2, [1.0] * 2])
    found = difference(one, other)
    assert (found["low"], found["high"]) == pytest.approx((0.5, 0.6))
    assert found["mean"]["value"] == pytest.approx(-0.05)
    assert [at["value"] for at in found["at"]] == pytest.approx([0.0, -0.05, -0.1])
    assert (found["mean"]["low"], found["mean"]["high"]) == (None, None)  # seeds that do not differ
    assert difference(one, family("far", [[0.8] * 2, [0.9] * 2], [[0.9] * 2, [1.0] * 2])) is None
    (pair,) = differences([one, family("point", [[0.5] * 2], [[0.6] * 2])])
    assert pair["mean"] is None
    single = difference(family("one", [[0.4], [0.6]], [[0.5], [0.7]]), family("other", [[0.4], [0.6]], [[0.6], [0.8]]))
    assert single["mean"] == {"value": pytest.approx(-0.1), "low": None, "high": None}
    with pytest.raises(ArgumentError, match="families must have the same seeds, got 2 of one and 3 of more"):
        difference(one, family("more", [[0.5] * 3], [[0.6] * 3]))


def test_where_only_the_leakage_varies_the_interval_is_students(monkeypatch):
    """A shift of a whole front by a number of each seed: its interval is that of the paired difference."""
    monkeypatch.setattr(pareto, "DRAWS", 20_000)
    shift = np.array([0.03, 0.05, 0.02, 0.06, 0.045])
    test = np.repeat([[0.5], [0.6], [0.7]], 5, axis=1)
    attack = np.repeat([[0.6], [0.7], [0.8]], 5, axis=1)
    found = difference(family("one", test, attack + shift), family("other", test, attack))["mean"]
    expected = paired_difference(shift, np.zeros(5))
    assert found["value"] == pytest.approx(expected["mean"])
    for end in ("low", "high"):
        assert found[end] == pytest.approx(expected[end], abs=0.03 * (expected["high"] - expected["low"]))


@pytest.mark.parametrize(
    ("seeds", "settings_a", "settings_b", "spread"), [(5, 5, 5, 0.006), (3, 5, 5, 0.006), (5, 8, 4, 0.01)]
)
def test_intervals_of_equal_methods_have_the_nominal_coverage(seeds, settings_a, settings_b, spread, monkeypatch):
    """Simulated sweeps on one true front: at most 5% of 200 miss, by more than four standard errors never."""
    monkeypatch.setattr(pareto, "DRAWS", 150)
    monkeypatch.setattr(pareto, "GRID", 11)
    rng, missed = np.random.default_rng(3), 0

    def draw(count, of_seed):
        test = np.linspace(0.5, 0.62, count)[:, None]
        noise = spread * rng.standard_normal((2, count, seeds))
        return family("a", test + of_seed[0] + noise[0], 0.55 + 2.5 * (test - 0.5) + of_seed[1] + noise[1])

    for i in range(200):
        of_seed = 0.01 * rng.standard_normal((2, seeds))
        mean = difference(draw(settings_a, of_seed), draw(settings_b, of_seed), seed=i)["mean"]
        missed += not mean["low"] <= 0 <= mean["high"]
    assert missed <= 10 + 4 * np.sqrt(200 * 0.05 * 0.95)


def sweep(seeds=5):
    rng = np.random.default_rng(0)
    families = []
    for name, offset in (("early-stop", 0.1), ("prune", 0.0), ("strange <&> $x$", 0.05)):
        test = np.linspace(0.5, 0.62, 4)[:, None] + 0.004 * rng.standard_normal((4, seeds))
        families.append(family(name, test, 0.55 + offset + 2 * (test - 0.5) + 0.003 * rng.standard_normal((4, seeds))))
    records = [
        {
            "name": of.name,
            "hyperparameter": of.hyperparameter,
            "points": [
                {"setting": s, "test_accuracy": t.tolist(), "attack_accuracy": a.tolist(), "attack": "label_only"}
                for s, t, a in zip(of.settings, of.test, of.attack, strict=True)
            ],
            "left_out": {},
            "front": front(of.test.mean(axis=1), of.attack.mean(axis=1)).tolist(),
        }
        for of in families
    ]
    about = {"dataset": "digits", "network": "mlp", "seeds": list(range(seeds))}
    return about | {"families": records, "differences": differences(families)}


def test_the_figure_is_well_formed_the_same_twice_and_small():
    shown = ("early-stop", "prune", "strange <&> $x$")
    svg = drawing(pareto_plot(sweep(), shown), "svg")
    assert svg == drawing(pareto_plot(sweep(), shown), "svg")
    assert len(svg) < 150_000
    assert ElementTree.parse(io.BytesIO(svg)).getroot().tag.endswith("svg")
    assert drawing(pareto_plot(sweep(1), shown), "png")[:4] == b"\x89PNG"
    assert pareto_plot(sweep(), ("nothing",)) is None


def test_the_tables_have_every_setting_and_mark_what_is_not_significant():
    found = sweep()
    assert len(pareto_table(found).splitlines()) == 2 + 12
    lines = difference_table(found).splitlines()[2:]
    assert len(lines) == 3
    for line, pair in zip(lines, found["differences"], strict=True):
        assert ("n.s." in line) == (pair["mean"]["low"] <= 0 <= pair["mean"]["high"])
    pair = found["differences"][0]
    assert pair["mean"]["low"] > 0  # early stopping was made to leak more
    pair["mean"] |= {"low": -0.01}
    assert "n.s." in difference_table(found).splitlines()[2]


def test_families_are_of_the_recipe_and_an_unknown_one_is_refused():
    recipe = recipe_for(load("digits"))
    names = {of.name for of in chosen_sweeps(recipe, None, (0.1,))}
    assert {"early-stop", "prune", "prune+minmax", "magnitude", "minmax", "dp", "memguard"} <= names
    (game,) = chosen_sweeps(recipe, ["minmax"], (0.1,), (1.0, 4.0))
    assert game.settings == (1.0, 4.0)
    without = {of.name for of in chosen_sweeps(recipe_for(load("digits"), minmax=0.0, reference=0), None, (0.1,))}
    assert not {"minmax", "prune+minmax", "memguard", "dp+mask-0.05"} & without
    with pytest.raises(ArgumentError, match=r"^families must be of early-stop, .*, got 'nothing'$"):
        chosen_sweeps(recipe, ["prune", "nothing"], (0.1,))


def test_every_method_of_a_comparison_has_a_family():
    """So that none is missing at equal accuracy. One of a family may have its setting in the name: prune-0.1."""
    recipe = recipe_for(load("digits"), keep=(0.1,), minmax=1.0)
    families = {re.sub(r"-[0-9.]+", "", of.name) for of in chosen_sweeps(recipe, None, (0.1,))}
    methods = {re.sub(r"-[0-9.]+", "", of.name) for of in comparison(recipe)}
    of_one = {name for name in methods if name.startswith("early-stop-")}  # controls of single private methods
    assert methods - families - of_one == {"baseline", "dp+admm", "dp+magnitude"}  # these are for given budgets


def test_the_command_measures_resumes_and_draws(tmp_path):
    """A small sweep, then one more family: existing results are not measured again, and another sweep is refused."""
    small = ["--members", "40", "--reference", "12", "--nonmembers", "40", "--threads", "1", "--out", str(tmp_path)]
    command = [sys.executable, "benchmarks/pareto.py", "digits", "--seeds", "2", "--keep", "0.2", *small]

    def run(*words):
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False)

    first = run("--families", "prune-1")
    assert first.returncode == 0, first.stderr
    second = run("--families", "prune-1,prune")
    assert second.returncode == 0, second.stderr
    assert "s  prune 0.2" in second.stdout
    assert "s  prune-1 1" not in second.stdout
    assert "2 seeds: intervals are wide" in second.stdout
    assert {path.name for path in tmp_path.iterdir()} == {f"pareto-digits.{kind}" for kind in ("json", "svg", "png")}
    before = json.loads((tmp_path / "pareto-digits.json").read_text())
    timed = run("--families", "prune-1,prune,early-stop", "--time")
    assert timed.returncode == 0, timed.stderr
    after = json.loads((tmp_path / "pareto-digits.json").read_text())
    times = {of["name"]: of.pop("times_baseline") for of in after["families"]}
    assert times.keys() == {"prune-1", "prune"}  # what was not measured has no time
    assert min(times.values()) > 1  # the baseline, and then some
    assert after == before
    assert before["command"].endswith("--nonmembers 40 --families prune-1,prune")  # without --threads and --out
    other = run("--families", "prune", "--first-seed", "7")
    assert other.returncode != 0
    assert "has a sweep with another seeds" in other.stderr
