"""The validity checks of a comparison, against counting and on results that were corrupted on purpose."""

import dataclasses

import numpy as np
import pytest

from nanoprune.lab.audit import validity
from nanoprune.lab.audit.validity import comparison_checks, privacy_checks
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

MEMBERS, BATCH, EPOCHS = 40, 16, 2


def experiment_on(data):
    plan = Schedule(epochs=EPOCHS, batch=BATCH)
    recipe = recipe_for(load("digits"), members=MEMBERS, reference=20, nonmembers=40)
    quick = {"dense": plan, "prune": plan, "retrain": plan, "admm": ADMMSettings(rho=0.1, iterations=2)}
    return Experiment(data, dataclasses.replace(recipe, widths=(12, 8), **quick), [0, 1], 1)


@pytest.fixture(scope="module")
def trained():
    experiment = experiment_on(load("digits"))
    baseline = experiment.dense("baseline")
    (pruned,) = experiment.pruned(baseline, [0.1], 1.0)
    return {"baseline": baseline, "minmax": experiment.dense("minmax", lam=1.0), "prune-0.1+minmax": pruned}


def checks_of(trained, data=None):
    found = comparison_checks(experiment_on(data or load("digits")), trained)
    return {(check.name, check.found.split(":")[0] if ":" in check.found else ""): check for check in found}


def test_updates_and_weights_are_counted(trained):
    found = checks_of(trained)
    steps = -(-MEMBERS // BATCH)
    assert f"{EPOCHS * steps:,} updates" in found["adversary", "minmax"].found
    assert f"{2 * EPOCHS * steps:,} updates" in found["adversary", "prune-0.1+minmax"].found
    k = sum(n // 10 for n in (64 * 12, 12 * 8, 8 * 10))
    sparsity = found["sparsity", "prune-0.1+minmax"]
    assert sparsity.outcome == "passed"
    assert sparsity.found.endswith(f"at most {k} weights are not zero, {k} were asked for")
    assert ("sparsity", "minmax") not in found
    assert ("adversary", "baseline") not in found


def test_every_network_is_asked_in_test_mode(trained, monkeypatch):
    found = checks_of(trained)
    assert {key[1] for key in found if key[0] == "test mode"} == set(trained)
    assert all(check.outcome == "passed" for key, check in found.items() if key[0] == "test mode")
    rng, whole = np.random.default_rng(1), validity.outputs

    def with_dropout(*arguments):
        logits = whole(*arguments)
        logits[1] *= rng.random(logits[1].shape) < 0.9  # of one seed alone
        return logits

    monkeypatch.setattr(validity, "outputs", with_dropout)
    assert checks_of(trained)["test mode", "minmax"].outcome == "void"


def test_too_many_weights_void_a_comparison(trained):
    spoilt = dataclasses.replace(trained["prune-0.1+minmax"], net=trained["prune-0.1+minmax"].net.copy())
    spoilt.net.W[1, :] = 1.0
    assert checks_of({"prune-0.1+minmax": spoilt})["sparsity", "prune-0.1+minmax"].outcome == "void"


@pytest.mark.parametrize(("claimed", "outcome"), [(1.3, "passed"), (1.2, "void"), (None, "passed")])
def test_an_epsilon_that_an_attack_excludes_voids_the_claim(claimed, outcome):
    methods = {"baseline": {}, "dp-1": {"privacy": {"epsilon": claimed, "lower_bound": 1.25}}}
    (check,) = privacy_checks(methods)
    assert (check.name, check.outcome) == ("epsilon", outcome)
    assert check.found.startswith("dp-1: the attacks exclude an epsilon below 1.250; ")


@pytest.mark.parametrize(("right", "outcome"), [(0.5, "warning"), (0.6, "passed")])
def test_an_adversary_at_chance_is_warned_of(trained, right, outcome):
    curves = trained["minmax"].curves | {"adversary_accuracy": np.full((2, EPOCHS), right)}
    found = checks_of({"minmax": dataclasses.replace(trained["minmax"], curves=curves)})
    assert found["adversary", "minmax"].outcome == outcome


def test_twins_are_counted_and_unlike_labels_warned_of(trained):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400)
    records = rng.integers(0, 3, (400, 64)).astype(np.uint8)
    records[200:], labels[200:] = records[:200], labels[:200]  # every record twice
    data = Dataset.of("twins", records, labels, 10, scale=4)
    experiment = experiment_on(data)
    twins = 0
    for split in experiment.splits:
        twins += sum(any((i - j) % 200 == 0 for j in split.nonmembers) for i in split.members)
    check = checks_of({}, data)["duplicates", ""]
    assert twins > 0
    assert check.outcome == "warning"
    assert check.found.startswith(f"{twins} members")
    assert checks_of({})["duplicates", ""].outcome == "passed"

    for split in experiment.splits:
        data.y.setflags(write=True)
        data.y[split.members], data.y[split.nonmembers] = 0, 1
    labels = next(check for check in comparison_checks(experiment, {}) if check.name == "labels")
    assert labels.outcome == "warning"
