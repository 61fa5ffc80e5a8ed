"""Audits that count groups: what is aggregated, what is kept apart, and how often they err where nothing leaks."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax

from nanoprune.attack import network
from nanoprune.attack.metrics import auc, balanced_accuracy
from nanoprune.attack.threshold import best_threshold
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit import (
    Predictions,
    attack_model,
    audit,
    measure,
    prediction_attacks,
    read_predictions,
    validity,
)
from nanoprune.lab.audit import shadows as fleets
from nanoprune.lab.audit.attack_choice import choose
from nanoprune.lab.audit.epsilon_of_runs import runs_bound
from nanoprune.lab.audit.exposure import exposure, fleet_change
from nanoprune.lab.audit.prediction_attacks import folds, run_attacks
from nanoprune.lab.audit.shadow_attacks import attack_target
from nanoprune.lab.audit.shadows import design, make_pool, pool_units
from nanoprune.lab.audit.validity import privacy_checks
from nanoprune.lab.audit.views import Views
from nanoprune.lab.commands import main
from nanoprune.lab.data import Dataset, make_split
from nanoprune.lab.experiment.evaluate import Outputs, evaluate
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import Model
from nanoprune.lab.report.audit_page import audit_table
from nanoprune.lab.report.audit_verdict import audit_verdict
from nanoprune.lab.report.schema import faults
from nanoprune.lab.report.table import table_caption
from nanoprune.lab.statistics.units import units_of
from nanoprune.lab.workflow.reproduce import reproduce
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.schedule import Schedule


def of_groups(seed, groups=80, most=6, leak=0.0, classes=3, together=1.5):
    """Outputs in which a group's records have something in common that has nothing to do with membership, but for
    `leak`, which is added to the log odds of members."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rng.integers(1, most + 1, groups))
    n = len(group)
    y = np.where(rng.random(n) < 0.9, rng.integers(0, classes, groups)[group], rng.integers(0, classes, n))
    member = (rng.permutation(groups) < groups // 2)[group]
    z = rng.normal(size=(n, classes))
    z[np.arange(n), y] += 1 + together * rng.normal(size=groups)[group] + leak * member
    order = rng.permutation(n)
    return Predictions(softmax(z, axis=1)[order], y[order], member[order], group=7 * group[order] + 3)


@pytest.fixture
def no_network(monkeypatch):
    """Instead of the attack network: logits of no meaning, at once."""

    def scores(target, parts, *_):
        held_out = [(np.where(of.member[of.of], -1.0, 1.0), of) for of in (fold.known.units for fold in parts)]
        return prediction_attacks.NetworkScores(np.zeros(len(target.y)), held_out, [False] * len(parts))

    monkeypatch.setattr(prediction_attacks, "_network_scores", scores)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 2), st.integers(-9, 9)), min_size=1, max_size=30))
def test_units_are_what_a_loop_over_the_groups_finds(records):
    group, y, scores = (np.array(column) for column in zip(*records, strict=True))
    units = units_of(y, group % 2 == 0, 3, group)
    seen = list(dict.fromkeys(group.tolist()))  # in the order of their first records
    assert [seen[u] for u in units.of] == group.tolist()
    assert units.member.tolist() == [g % 2 == 0 for g in seen]
    for u, g in enumerate(seen):
        rows = np.flatnonzero(group == g)
        assert (units.first[u], units.sizes[u]) == (rows[0], len(rows))
        labels = y[rows].tolist()
        assert units.y[u] == min(set(labels), key=lambda c: (-labels.count(c), c))
        assert units.combine(scores, "max")[u] == max(scores[rows])
        assert units.combine(scores, "mean")[u] == pytest.approx(sum(scores[rows]) / len(rows))
    two = units.combine(np.stack([scores, 2 * scores]), "mean")
    np.testing.assert_allclose(two[1], 2 * two[0])
    chosen = units.y > 0
    some = units.part(chosen)
    assert some.of.tolist() == [np.flatnonzero(chosen).tolist().index(u) for u in units.of if chosen[u]]


def test_a_group_on_both_sides_is_refused():
    with pytest.raises(ArgumentError, match="group 4 has members and non-members"):
        units_of(np.zeros(4, int), np.array([True, True, False, False]), 2, np.array([1, 4, 4, 2]))


@pytest.mark.usefixtures("no_network")
def test_records_one_by_one_are_groups_of_one():
    """An audit of groups that have one record each finds what one of the records finds."""
    target = of_groups(0, groups=160, most=1, leak=1.0)
    alone = dataclasses.replace(target, group=None)
    grouped, plain = (audit(of, seed=4)[0] for of in (target, alone))
    for name, entry in plain["attacks"].items():
        for way in ("mean", "max") if name != "network" else ():
            assert grouped["attacks"][f"{name} ({way})"]["accuracy"] == pytest.approx(entry["accuracy"])
            assert grouped["attacks"][f"{name} ({way})"]["auc"] == pytest.approx(entry["auc"])
    assert grouped["strongest"]["accuracy"] == pytest.approx(plain["strongest"]["accuracy"])
    assert grouped["per_class"].keys() == plain["per_class"].keys()
    for c, entry in plain["per_class"].items():
        assert grouped["per_class"][c]["auc"] == pytest.approx(entry["auc"])
    assert grouped["groups"] == {"members": 80, "nonmembers": 80}
    assert "groups" not in plain


@pytest.mark.usefixtures("no_network")
def test_figures_are_of_the_mean_and_the_largest_score_of_each_group():
    target = of_groups(1, leak=1.5)
    results, curves = audit(target, seed=2)
    log_odds = np.log(target.p[np.arange(len(target.y)), target.y])
    log_odds -= np.log1p(-target.p[np.arange(len(target.y)), target.y])
    sides = {True: {}, False: {}}
    for g in np.unique(target.group):
        rows = target.group == g
        sides[bool(target.member[rows][0])][g] = log_odds[rows]
    for way, of in (("mean", np.mean), ("max", np.max)):
        members, others = (np.array([of(scores) for scores in side.values()]) for side in (sides[True], sides[False]))
        entry = results["attacks"][f"confidence ({way})"]
        assert entry["auc"]["value"] == pytest.approx(auc(members, others))
        n = len(others)
        assert entry["tpr_at_fpr"] == {"0.01": None, "0.001": None}  # too few groups, though not too few records
        assert curves[f"confidence ({way})"]["fpr"][0] == pytest.approx(1 / n)
    assert (~target.member).sum() > 100 > n
    assert "needs at least 100 groups of non-members, there are 40" in " ".join(results["refused"])
    assert results["groups"] == {"members": 40, "nonmembers": 40}
    assert results["members"] + results["nonmembers"] == len(target.y)
    first = results["most_exposed"][0]
    rows = np.flatnonzero(target.group == target.group[first["row"]])
    assert (first["row"], first["records"]) == (rows[0], len(rows))
    names = [f"{name} ({way})" for name in (*prediction_attacks.SCORES, "network") for way in ("mean", "max")]
    assert list(results["attacks"]) == names


def test_no_group_is_in_both_halves_nor_in_what_ends_the_training(monkeypatch):
    target, fitted = of_groups(2), []
    parts = folds(target, None, np.random.default_rng(0))
    assert sorted(np.concatenate([fold.scored for fold in parts])) == list(range(80))
    for fold in parts:
        scored = target.group[np.isin(target.units.of, fold.scored)]
        assert not set(scored) & set(fold.known.group)
        assert len(set(fold.known.group)) == 40

    def fit(p, y, member, held_out, *_, **__):
        fitted.append((p, y, held_out))
        return 0, [0.7]

    monkeypatch.setattr(prediction_attacks, "fit_attack_network", fit)
    monkeypatch.setattr(prediction_attacks, "attack_scores", lambda h, p, y: p[np.arange(len(y)), y])
    found = run_attacks(target, parts, 0, 1)
    whose = {row.tobytes(): g for row, g in zip(target.p, target.group, strict=True)}
    for fold, (p, _, held_out) in zip(parts, fitted, strict=True):
        kept, out = ({whose[row.tobytes()] for row in p[rows]} for rows in (~held_out, held_out))
        assert not kept & out
        assert kept | out == set(fold.known.group)
        assert len(out) == 10  # a quarter of the groups
        of_out = [
            [q[c] for q, c in zip(target.p[target.group == g], target.y[target.group == g], strict=True)] for g in out
        ]
        inside = np.array([target.member[target.group == g][0] for g in out])
        largest = np.array([max(scores) for scores in of_out])
        t = best_threshold(largest[inside], largest[~inside])
        np.testing.assert_array_equal(
            found["network (max)"].said[fold.scored], found["network (max)"].scores[fold.scored] >= t
        )


def leaks(target, seed):
    """Whether the chosen attack's accuracy, or a class, is said to be above chance, at 5% for both together."""
    parts, attacked = folds(target, None, np.random.default_rng(seed)), {}
    for name in ("confidence", "modified_entropy"):
        attacked |= prediction_attacks.threshold_attacks(name, target, parts, 0)
    chosen, units = choose(attacked, [fold.scored for fold in parts]), target.units
    told = [measure.strongest(units, chosen, 0.025, 0.025)["accuracy"]]
    told += [entry["auc"] for entry in measure.per_class(units, chosen.scores, 0.025).values()]
    return any(interval["low"] > 0.5 for interval in told)


def test_by_record_an_audit_of_no_leak_errs_far_more_often_than_it_says_and_by_group_no_more():
    errors, audits = {"record": 0, "group": 0}, 60
    for seed in range(audits):
        target = of_groups([5, seed], groups=60, most=20)
        for unit, of in (("group", target), ("record", dataclasses.replace(target, group=None))):
            errors[unit] += leaks(of, seed)
    assert stats.binom.sf(errors["record"] - 1, audits, 0.05) < 1e-6  # far above alpha
    assert stats.binom.sf(errors["group"] - 1, audits, 0.05) > 0.01  # not above alpha


@pytest.mark.usefixtures("no_network")
def test_bounds_on_epsilon_count_groups():
    """20 groups of 50 records each that are given away: the bound is that of 20 right guesses."""
    group = np.repeat(np.arange(20), 50)
    member = group % 2 == 0
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 2)) * 0.1
    z[np.arange(1000), 0] += np.where(member, 3.0, -3.0)
    target = Predictions(softmax(z, axis=1), np.zeros(1000, int), member, group=group)
    alone = dataclasses.replace(target, group=None)
    by_group, by_record = (audit(of)[0]["attacks"] for of in (target, alone))
    # of 10 or fewer guesses, all right, no odds above alpha^(-1/10) are excluded
    most = np.log(1 / ((0.05 / 2 / 12 / 2) ** (-1 / 10) - 1))
    assert by_group["confidence (mean)"]["epsilon_lower_bound"] <= most + 1e-9
    assert by_record["confidence"]["epsilon_lower_bound"] > 2 * most
    notes = " ".join(audit(target)[0]["notes"])
    assert "the membership of each group was drawn at random, independently" in notes
    assert "no claim for single records" in notes


def test_a_claim_for_records_is_not_refuted_by_a_bound_for_groups():
    of = {"epsilon": 1.0, "lower_bound": 3.0}
    (void,) = privacy_checks({"dp-1": {"privacy": of}})
    (passed,) = privacy_checks({"dp-1": {"privacy": of | {"lower_bound_of": "groups"}}})
    assert (void.outcome, passed.outcome) == ("void", "passed")
    assert "not compared" in passed.found


def test_checks_count_groups():
    target = of_groups(3, groups=60, most=10)
    checks = {check.name: check for check in validity.validity_checks(target, None, {})}
    assert {check.outcome for check in checks.values()} == {"passed"}

    twice = np.repeat(np.arange(len(target.y)), 2)  # copies within the groups
    copied = target.rows(twice)
    assert validity.duplicates(copied).outcome == "passed"
    assert validity.duplicates(dataclasses.replace(copied, group=None)).outcome == "void"
    other = dataclasses.replace(copied, group=np.where(np.arange(len(twice)) % 2, copied.group, copied.group + 1000))
    assert validity.duplicates(other).outcome == "void"  # copies in other groups

    short = np.ones(len(target.y), bool)
    short[~target.member] = False
    short[target.units.first] = True  # one record of each group of non-members
    (check,) = validity.group_sizes(target.rows(short))
    assert check.outcome == "warning"
    assert "records, non-members 1.00)" in check.found


def test_labels_that_groups_share_are_no_shift():
    """Forty groups of fifty records of one label: by record, chance looks like a shift."""
    warned = {"record": 0, "group": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(40), 50)
        y, member = rng.integers(0, 3, 40)[group], (rng.permutation(40) < 20)[group]
        target = Predictions(np.full((2000, 3), 1 / 3), y, member, group=group)
        warned["group"] += validity.labels(target).outcome == "warning"
        warned["record"] += validity.labels(dataclasses.replace(target, group=None)).outcome == "warning"
    assert warned["record"] > 20
    assert warned["group"] <= 2


def saved(path, target, **more):
    arrays = {"target_probs": target.p, "target_labels": target.y, "target_member": target.member.astype(int)} | more
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["group", "target_group"])
def test_groups_are_read(name, tmp_path):
    target = of_groups(4)
    for group in (target.group, np.array([f"patient {g:03}" for g in target.group]), target.group.astype(float)):
        found, _ = read_predictions(saved(tmp_path / "scores.npz", target, **{name: group}))
        assert [found.group[i] == found.group[0] for i in range(len(group))] == (group == group[0]).tolist()
    path = tmp_path / "scores.csv"
    lines = ["label,member,group,p0,p1,p2"]
    rows = zip(target.p.tolist(), target.y, target.member, target.group, strict=True)
    lines += [f"{c},{int(m)},p{g},{','.join(map(repr, q))}" for q, c, m, g in rows]
    path.write_text("\n".join(lines))
    found, _ = read_predictions(path)
    np.testing.assert_allclose(found.p, target.p)
    assert len(set(zip(found.group.tolist(), target.group.tolist(), strict=True))) == 80


def test_files_whose_groups_are_wrong_are_refused(tmp_path):
    target, path = of_groups(4), tmp_path / "scores.npz"
    g, names = target.group, np.array([f"p{g:03}" for g in target.group])
    mixed = names.copy()
    mixed[np.argmax(target.member)] = mixed[np.argmin(target.member)]
    shadow = {f"shadow_{of}": values for of, values in (("probs", target.p[::-1]), ("labels", target.y[::-1]))}
    shadow["shadow_member"] = target.member[::-1].astype(int)
    few = np.where(target.member, 0, g)
    for more, said in (
        ({"group": mixed}, f"group {mixed[np.argmax(target.member)]} has members and non-members"),
        ({"group": g[:9]}, "group has 9 entries"),
        ({"group": np.where(g == g[2], np.nan, g)}, "group holds nan in row"),
        ({"group": g, **shadow}, "shadow_group is missing"),
        ({"shadow_group": g[::-1], **shadow}, "target_group is missing"),
        ({"group": few}, "target_member names 1 groups of members, an audit needs at least 8"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            read_predictions(saved(path, target, **more))
        assert "scores.npz" in str(caught.value)
        assert "\n" not in str(caught.value)
    csv = tmp_path / "scores.csv"
    csv.write_text("label,member,group,p0,p1\n0,1,a,0.5,0.5\n0,0,a,0.5,0.5\n")
    with pytest.raises(DataError, match="group a has members and non-members"):
        read_predictions(csv)


def test_the_command_and_the_page_say_what_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)
    monkeypatch.setattr(network, "RATES", (1e-3,))
    path = saved(tmp_path / "scores.npz", of_groups(6, leak=2.0), group=of_groups(6, leak=2.0).group)
    arguments = ["audit", str(path), "--json", str(tmp_path / "a.json"), "--report", str(tmp_path / "a.html")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "a.json").read_text())
    assert (results["unit"], results["groups"]) == ("group", {"members": 40, "nonmembers": 40})
    said = "40 groups of members and 40 of non-members"
    assert said in " ".join(result.output.split())
    assert said in " ".join((tmp_path / "a.html").read_text().split())
    assert "The most exposed groups" in (tmp_path / "a.html").read_text()
    verdict = " ".join(audit_verdict(results))
    assert "over all groups an attacker classifies" in verdict
    assert "Of 100 groups" in verdict
    assert "40 groups of members" in audit_table(results).caption
    del results["unit"]
    assert "Of 100 records" in " ".join(audit_verdict(results))


# Shadow models


def grouped_data(seed, groups=120, most=5):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, most + 1, groups)))
    n = len(group)
    return Dataset.of("toy", np.arange(n)[:, None] / n, rng.integers(0, 3, n), classes=3, groups=group)


@pytest.mark.parametrize(("members", "nonmembers"), [(80, 80), (120, 60), (50, 150)])
def test_a_group_is_in_one_part_of_the_pool_and_in_one_shadow_of_a_pair(members, nonmembers):
    data = grouped_data(0)
    model = Model(None, "toy", data.sha256, members, 20, nonmembers, 3, [])
    split, pool = make_split(data, members, 20, nonmembers, 3), make_pool(model, data)
    assert set(pool.scored[pool.member]) | set(pool.rest) == set(split.members)
    assert set(pool.scored[~pool.member]) <= set(split.nonmembers)
    used = [set(data.groups[part]) for part in (pool.scored[pool.member], pool.scored[~pool.member], pool.rest)]
    used += [set(data.groups[pool.reference]), set(data.groups[pool.population])]
    assert sum(map(len, used)) == len(set().union(*used))
    s = min(members, nonmembers)
    assert s - 5 < pool.member.sum() <= s
    assert s - 5 < (~pool.member).sum() <= s

    units = pool_units(pool, data)
    inside = design(len(units.y), 12, np.random.default_rng(0), units.sizes)[:, units.of]
    for first, second in zip(inside[::2], inside[1::2], strict=True):
        assert (first != second).all()
        assert abs(2 * int(first.sum()) - len(first)) <= 5  # as near to a half as the last group allows
        assert not set(pool.group[first]) & set(pool.group[second])


def test_halves_of_groups_are_random():
    sizes = np.array([1, 1, 1, 1, 2, 2, 2, 3, 3, 4])
    inside = design(10, 4000, np.random.default_rng(0), sizes)[::2]
    assert np.abs(inside.mean(axis=0) - 0.5).max() < 5 * np.sqrt(0.25 / 2000)


def test_shadow_attacks_add_up_the_records_of_a_group():
    rng = np.random.default_rng(0)
    K, groups, per = 8, 30, 4
    group = np.repeat(np.arange(groups), per)
    inside = design(groups, K, rng)[:, group]
    member = (rng.permutation(groups) < 15)[group]
    scores = rng.normal(size=(K + 1, groups * per)) + 0.7 * np.concatenate([inside, member[None]])
    views = Views(
        inside, {"train": np.zeros((K + 1, groups * per, 2))}, None, None, np.zeros(groups * per, int), None, group
    )
    found = attack_target(lambda k, of: scores[k], views, "mean")
    means = scores.reshape(K + 1, groups, per).mean(axis=2)
    np.testing.assert_allclose(found.scores, means[K])
    trained = inside[:, ::per]
    t = best_threshold(means[:K][trained], means[:K][~trained])
    np.testing.assert_array_equal(found.said, means[K] >= t)
    np.testing.assert_allclose(found.own[0, 0], balanced_accuracy(means[:K][trained] >= t, means[:K][~trained] >= t))
    assert found.parts[0].tolist() == list(range(groups))


def test_copies_in_a_group_change_no_figure_of_the_shadow_models():
    rng, K, n = np.random.default_rng(1), 12, 40
    y, inside = rng.integers(0, 3, n), design(n, K, rng)
    dense, pruned = (rng.normal(size=(K, n, 3)) for _ in range(2))
    for logits in (dense, pruned):
        np.put_along_axis(logits, np.tile(y, (K, 1))[..., None], (1 + 2 * inside)[..., None], axis=2)
        logits += rng.normal(size=logits.shape)
    group = np.repeat(np.arange(n), 2)
    units = units_of(y[group], group < 20, 3, group)
    alone = (fleet_change(dense, pruned, y, inside), runs_bound(dense, y, inside, delta=1e-5))
    twice = [of[:, group] for of in (dense, pruned)]
    together = (
        fleet_change(*twice, y[group], inside[:, group], 0.05, units),
        runs_bound(twice[0], y[group], inside[:, group], 0.05, 1e-5, units),
    )
    assert together[1].pop("neighbours") != alone[1].pop("neighbours")
    assert together[1] == pytest.approx(alone[1])
    for key, interval in alone[0].items():
        assert together[0][key] == pytest.approx(interval)
    found, expected = exposure(twice[0], y[group], inside[:, group]).of(units), exposure(dense, y, inside)
    np.testing.assert_allclose(found.pairs, expected.pairs, rtol=1e-9)
    np.testing.assert_allclose(found.without, expected.without, rtol=1e-9)


# The comparison over seeds


def outputs(seed, groups, leak):
    """Of two classifiers, whose records come in groups of one to five, differently for each."""
    rng, p, y, group, n = np.random.default_rng(seed), [], [], [], 200
    member = np.arange(n) < n // 2
    for r in range(2):
        of = np.concatenate([np.sort(rng.integers(0, groups // 2, n // 2)) + side * groups for side in (0, 1)])
        label = rng.integers(0, 3, n)
        z = rng.normal(size=(n, 3))
        z[np.arange(n), label] += 1 + rng.normal(size=2 * groups)[of] + leak * member
        p.append(softmax(z, axis=1))
        y.append(label)
        group.append(of + 1000 * r)
    return Outputs(np.stack(p), np.stack(y), member, None, np.stack(group))


def test_the_comparison_counts_groups(monkeypatch):
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)
    monkeypatch.setattr(network, "RATES", (1e-3,))
    known, scored = outputs(0, 60, 2.0), outputs(1, 70, 2.0)
    found = evaluate(known, scored, [np.random.default_rng(r) for r in range(2)])
    for way, of in (("mean", np.mean), ("max", np.max)):
        outcome = found[f"confidence ({way})"]
        for r in range(2):
            sides = {}
            for part, outs in (("known", known), ("scored", scored)):
                p_y = outs.p[r][np.arange(200), outs.y[r]]
                sides[part] = [
                    np.array([of(p_y[outs.group[r] == g]) for g in np.unique(outs.group[r][side])])
                    for side in (outs.member, ~outs.member)
                ]
            t = best_threshold(*sides["known"])
            members, others = sides["scored"]
            assert outcome.accuracy[r] == pytest.approx(balanced_accuracy(members >= t, others >= t))
            assert outcome.auc[r] == pytest.approx(auc(members, others))
            assert len(outcome.scores[r]) == len(outcome.member[r]) == len(members) + len(others)
    assert {name.split(",")[0] for name in found} == {
        f"{name} ({way})" for name in ("network", "correctness", "confidence", "entropy", "modified_entropy")
        for way in ("mean", "max")
    }  # fmt: skip


# From the data to the report


@pytest.fixture
def quick(monkeypatch):
    """Small grouped data, a recipe of seconds, and an attack network of one epoch."""
    for name, value in (("PATIENCE", 1), ("MIN_PATIENCE", 1), ("RATES", (1e-3,))):
        monkeypatch.setattr(network, name, value)
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(200), rng.integers(1, 5, 200)))
    y = rng.integers(0, 2, 200)[group]
    x = np.clip(0.5 + 0.1 * (2 * y[:, None] - 1) + 0.2 * rng.normal(size=(len(y), 6)), 0, 1)
    data = Dataset.of("toy", x, y, classes=2, groups=group)
    plan = Schedule(epochs=2, batch=16, lr=0.05)
    sizes = {"members": 120, "reference": 20, "nonmembers": 150, "widths": (8,)}
    return data, dataclasses.replace(recipe_for(data), **sizes, dense=plan, minmax=0.0)


def test_a_model_is_attacked_by_group(quick):
    data, recipe = quick
    model = train_model(data, recipe, 0, 1)
    results, curves = attack_model(model, data, shadows=6)
    pool = make_pool(model, data)
    groups = {side: len(set(data.groups[pool.scored[pool.member == of]])) for side, of in
              (("members", True), ("nonmembers", False))}  # fmt: skip
    assert results["groups"] == groups
    assert {name.split(" (")[1] for name in results["attacks"]} == {"mean)", "max)"}
    assert list(curves) == list(results["attacks"])
    assert results["epsilon_of_runs"]["neighbours"].startswith("all records of one group")
    for record in results["most_exposed"]:
        rows = pool.scored[data.groups[pool.scored] == data.groups[record["row"]]]
        assert record["records"] == len(rows)
        assert record["row"] == rows[0]
        assert record["row"] in pool.scored[pool.member]


def test_shadows_train_on_as_many_records_and_never_on_the_other_half(quick, monkeypatch):
    data, recipe = quick
    model, trained = train_model(data, recipe, 0, 1), []
    dense = fleets.Experiment.dense

    def remember(experiment, *arguments, **options):
        trained.append(experiment.splits)
        return dense(experiment, *arguments, **options)

    monkeypatch.setattr(fleets.Experiment, "dense", remember)
    found = fleets.train_shadows(model, data, 6, 1, Progress())
    pool, (splits,) = make_pool(model, data), trained
    assert len({len(split.members) for split in splits}) == 1
    for inside, split in zip(found.inside, splits, strict=True):
        whose = set(data.groups[split.members])
        assert whose == set(pool.group[inside]) | set(data.groups[pool.rest])
        assert not whose & set(pool.group[~inside])
        assert abs(len(split.members) - 120) <= 8


def test_the_comparison_of_methods_counts_groups(quick):
    data, recipe = quick
    results, curves = reproduce(data, recipe, [0, 1], 1, methods="baseline")
    splits = [make_split(data, 120, 20, 150, seed) for seed in (0, 1)]
    for part in ("members", "nonmembers", "scored_members", "scored_nonmembers"):
        assert results["groups"][part] == [len(set(data.groups[getattr(split, part)])) for split in splits]
    few, many = sorted(results["groups"]["scored_nonmembers"])
    assert few != many  # so that seeds are not of one size
    assert any(f"groups of non-members, there are {few}" in note for note in results["notes"])
    assert list(faults(results)) == []
    assert "Attacks count groups" in table_caption(results)
    assert results["splits"]["members"] == 120
    for name in results["methods"]["baseline"]["attacks"]:
        fpr = curves["baseline"][f"roc/{name}/fpr"]
        assert fpr[1] >= 1 / few  # no rate below one group


def test_too_few_groups_are_refused_before_the_training(quick):
    data, recipe = quick
    group = np.arange(len(data.y)) // 40
    few = Dataset.of("toy", data.x, data.y, classes=2, groups=group)
    with pytest.raises(ArgumentError, match="to know 4 groups of each"):
        reproduce(few, recipe, [0], 1, methods="baseline")
    with pytest.raises(ArgumentError, match="at least 4 each in groups for shadows, got 2"):
        make_pool(Model(None, "toy", few.sha256, 80, 20, 80, 0, []), few)
