"""Distillation and SELENA: the loss against central differences, who sees which record, and what shadows repeat."""

import dataclasses
import json

import numpy as np
import pytest
from differences import central
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from test_pruners import small

import nanoprune.lab.experiment.selena as of_selena
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.shadows import recipe_steps, train_shadows, undefended
from nanoprune.lab.data import load
from nanoprune.lab.experiment.distil import DistilRun, distilled
from nanoprune.lab.experiment.experiment import Experiment, Progress, Trained
from nanoprune.lab.experiment.methods import chosen, train_methods
from nanoprune.lab.experiment.recipes import DefenceSettings
from nanoprune.lab.experiment.selena import absences, selena, split_ai, training_sets
from nanoprune.lab.experiment.shard import generators
from nanoprune.lab.experiment.sweep import chosen_sweeps
from nanoprune.lab.models.model import Model
from nanoprune.lab.models.steps import check_steps
from nanoprune.lab.zoo import narrowed
from nanoprune.nn import SGD, Dense, Network, Workspace
from nanoprune.records import Records
from nanoprune.schedule import Schedule

K, L = 5, 2


def an_experiment(seeds=(0, 1), **changes):
    settings_ = DefenceSettings(selena=(K, L))
    return Experiment(load("digits"), small(keep=(0.25,), defences=settings_, **changes), list(seeds), 1)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.5, 8))
def test_the_loss_is_the_cross_entropy_against_the_targets_of_the_records_at_a_temperature(seed, T):
    rng, R, M, C, N = np.random.default_rng(seed), 2, 9, 4, 5
    index = np.stack([rng.permutation(30)[:M] for _ in range(R)])
    targets = softmax(rng.standard_normal((R, M, C)), axis=2)
    net = Network(Dense(3, C), (3,), R, "float64")
    records, of = Records(rng.standard_normal((30, 3)), rng.integers(0, C, 30)), {"index": index, "targets": targets}
    run = DistilRun(net, records, index, Schedule(1, N), [rng] * R, SGD(), temperature=T, **of)
    places = np.stack([rng.permutation(M)[:N] for _ in range(R)])
    batch, logits = np.take_along_axis(index, places, axis=1), rng.standard_normal((R, C, N))

    def expected(z):
        loss = np.zeros(R)
        for r, n in np.ndindex(R, N):
            loss[r] -= T * T * (targets[r, places[r, n]] * log_softmax(z[r, :, n] / T)).sum() / 7
        return loss

    loss, gradient = run.loss(logits, None, batch, Workspace(), 7)  # the others of 7 records are another worker's
    np.testing.assert_allclose(loss, expected(logits), rtol=1e-9)
    np.testing.assert_allclose(gradient, central(expected, logits), atol=1e-7)


def test_a_student_that_gives_its_teachers_outputs_already_stays_as_it_is():
    experiment = an_experiment()
    net = experiment.initial()
    start = net.theta.copy()
    for T in (1.0, 3.0):
        student = distilled(experiment, "distil", experiment.description, Trained(net, {}, []), T)
        np.testing.assert_allclose(student.net.theta, start, atol=1e-5)
    assert np.abs(experiment.dense("dense").net.theta - start).max() > 1e-2


def test_a_student_depends_on_no_label_and_on_no_record_but_the_reference_set():
    """Given its teacher, everything else of the data may be anything."""
    experiment = an_experiment([0])
    data, teacher = experiment.dataset, experiment.dense("dense")
    to = narrowed(experiment.description, 300)
    student = distilled(experiment, "distil", to, teacher)
    assert student.net.weight_count <= 300
    for part, same in ((["members", "nonmembers"], True), (["reference"], False)):
        x = data.x.copy()
        for name in part:
            x[experiment.indices(name)] = 0.5
        other = dataclasses.replace(data, x=x, y=(data.y + 3) % 10)
        again = Experiment(other, experiment.recipe, [0], 1, splits=experiment.splits)
        assert (distilled(again, "distil", to, teacher).net.theta == student.net.theta).all() == same
    with pytest.raises(ArgumentError, match=r"^reference must be at least 1 for distil"):
        distilled(an_experiment(reference=0), "distil", to, teacher)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 9), st.integers(1, 8), st.integers(10, 60), st.integers(0, 10**6))
def test_each_record_is_absent_from_l_sub_models_and_each_sub_model_from_as_many_records(models, absent, n, seed):
    absent, rng = min(absent, models - 1), np.random.default_rng(seed)
    table, members = absences(n, models, absent, rng), 100 + rng.permutation(n)
    assert table.sum(axis=0).tolist() == [absent] * n
    counts = table.sum(axis=1)
    assert counts.max() - counts.min() <= (0 if n % models == 0 else min(absent, models - absent))
    sets = training_sets(table, members, rng)
    for row, found in zip(table, sets.tolist(), strict=True):
        assert set(found) == {int(member) for out, member in zip(row, members, strict=True) if not out}
        assert max(found.count(record) for record in found) <= 2


def test_an_answer_is_the_mean_over_the_sub_models_without_the_record(monkeypatch):
    """Sub-models whose outputs are known: each gives all records the same one."""
    experiment = an_experiment()
    fixed = np.random.default_rng(0).standard_normal((K * 2, 10))

    def predict(net, records, index, threads):
        return np.broadcast_to(fixed[:, None], (K * 2, index.shape[1], 10))

    monkeypatch.setattr(of_selena, "predict_fleet", predict)
    found = split_ai(experiment, "selena", K, L)
    for s, rng in enumerate(generators([0, 1], "split-ai")):
        table = absences(40, K, L, rng)
        for i in range(40):
            outputs = [softmax(fixed[k * 2 + s]) for k in range(K) if table[k, i]]
            assert len(outputs) == L
            np.testing.assert_allclose(found[s, i], np.mean(outputs, axis=0), rtol=1e-12)


def test_no_answer_was_learnt_from_the_label_of_its_record():
    """With another label of one member its answer has the same bits; the answers to others change."""
    experiment = an_experiment([0])
    data, answers = experiment.dataset, split_ai(experiment, "selena", K, L)
    np.testing.assert_allclose(answers.sum(axis=2), 1)
    for place in (0, 17):
        y = data.y.copy()
        y[experiment.indices("members")[0, place]] = (y[experiment.indices("members")[0, place]] + 1) % 10
        other = dataclasses.replace(data, y=y)
        changed = split_ai(Experiment(other, experiment.recipe, [0], 1, splits=experiment.splits), "selena", K, L)
        same = (changed == answers).all(axis=2)[0]
        assert same[place]
        assert not same.all()


@pytest.mark.parametrize("models", [(5, 5), (5, 0), (41, 2)])
def test_numbers_of_sub_models_that_cannot_be_are_refused(models):
    with pytest.raises(ArgumentError, match=r"^absent must lie in 1..models - 1, and models be at most the members"):
        selena(an_experiment(), "selena", *models)
    if models[0] == 5:
        with pytest.raises(ArgumentError, match=r"^selena must be K models and 0 < L < K of them"):
            DefenceSettings(selena=models)


# In the comparison


@pytest.mark.parametrize("name", ["distil-0.25", "selena"])
def test_both_are_methods_and_families_that_shadows_repeat(name):
    experiment = an_experiment()
    data, recipe = experiment.dataset, experiment.recipe
    trained = train_methods(experiment, name)
    made = json.loads(json.dumps(trained[name].steps[0]))
    assert [step["step"] for step in made] == ["distilled" if name.startswith("distil") else "selena"]
    check_steps(made, "x")
    model = Model(trained[name].net.shard(slice(1)), data.name, data.sha256, 40, recipe.reference, 40, 0, made)
    assert train_shadows(model, data, 6, 1, Progress()).logits[made[0]["step"]].shape == (6, 80, 10)
    assert [of["step"] for of in undefended(model).steps] == ["train"]
    family, setting = ("distil", 0.25) if name != "selena" else ("selena", 10)
    (sweep,) = chosen_sweeps(recipe, [family], [0.25])
    if family == "distil":
        again = sweep.train(experiment, trained["baseline"], setting)
        np.testing.assert_array_equal(again.net.theta, trained[name].net.theta)
        assert trained[name].net.weight_count <= (64 * 12 + 12 * 8 + 8 * 10) // 4


def test_a_teacher_in_a_file_is_checked():
    experiment = an_experiment([0])
    trained = train_methods(experiment, "distil-0.25")["distil-0.25"]
    made = json.loads(json.dumps(trained.steps[0]))
    data = experiment.dataset
    about = (data.name, data.sha256, 40, experiment.recipe.reference, 40, 0)
    (wide, shape, number) = ({"widths": [10**6, 10**6]}, {"input_shape": [32]}, {"network": 3})
    recipe_steps(Model(trained.net, *about, made), data)
    for change in (wide, shape, number, {"classes": 11}):
        step = made[0] | {"teacher": made[0]["teacher"] | change}
        with pytest.raises(DataError):
            recipe_steps(Model(trained.net, *about, [step]), data)


def test_without_reference_records_there_is_no_distillation():
    assert "distil-0.25" not in {of.name for of in chosen(small(reference=0, keep=(0.25,)), "all")}
