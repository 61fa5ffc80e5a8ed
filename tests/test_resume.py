"""Interrupted training ends with the bits of uninterrupted training; diverged replicas are dropped."""

import contextlib
import dataclasses
import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nanoprune.attack.network
import nanoprune.defend.minmax
import nanoprune.lab.experiment.memguard
import nanoprune.lab.experiment.shard
from nanoprune.defend import DPSGD
from nanoprune.errors import ArgumentError, DataError, DivergenceError
from nanoprune.lab.audit.shadows import train_shadows
from nanoprune.lab.data import load
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run_folder import Run
from nanoprune.lab.experiment.distil import on_targets
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.fleet import train_shard
from nanoprune.lab.experiment.past import PastRun
from nanoprune.lab.experiment.recipes import Private, recipe_for
from nanoprune.lab.experiment.results import write_results
from nanoprune.lab.experiment.rewind import rewind
from nanoprune.lab.experiment.shard import Shard
from nanoprune.lab.report.admm_lines import admm_line
from nanoprune.lab.storage.checkpoint import Checkpoints, Saved, Slot
from nanoprune.lab.storage.hdf5 import Sparse
from nanoprune.lab.workflow.reproduce import reproduce
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense, Network, ReLU, Sequential
from nanoprune.prune import ADMMSettings
from nanoprune.records import Records
from nanoprune.schedule import Schedule


class Cut(Exception):
    """Stands for a power cut."""


def quick(**changes):
    """A quick recipe: cosine rates, weight decay, momentum, an adaptive rho, an intermediate ratio."""
    plan = Schedule(epochs=3, batch=16, lr=0.05, decay="cosine", weight_decay=1e-3)
    recipe = recipe_for(load("digits"), members=40, reference=10, nonmembers=40)
    admm = ADMMSettings(rho=0.1, iterations=2, adaptive=True, ratio=1.0)
    plans = {"dense": plan, "prune": plan, "retrain": plan, "admm": admm, "via": (0.5,), "inner_steps": 2}
    plans["private"] = Private(epochs=6, batch=16)
    return dataclasses.replace(recipe, widths=(12, 8), **(plans | changes))


@pytest.fixture(scope="module", autouse=True)
def small_attackers():
    """Attack networks of a hundredth of the size that stop early: their quality is not tested here."""

    def small(classes, replicas=1, dtype="float32"):
        body = Sequential(Dense(2 * classes, 12), ReLU(), Dense(12, 1))
        return Network(body, (2 * classes,), replicas, dtype)

    with pytest.MonkeyPatch.context() as patch:
        for module in (nanoprune.defend.minmax, nanoprune.lab.experiment.memguard, nanoprune.attack.network):
            patch.setattr(module, "attacker", small)
        patch.setattr(nanoprune.lab.experiment.memguard, "STEPS", 3)
        patch.setattr(nanoprune.attack.network, "PATIENCE", 3)
        repeatable = functools.partial(DPSGD, seeds=[5, 6])
        patch.setattr(nanoprune.lab.experiment.shard, "DPSGD", repeatable)
        yield


def a_fifth(shard):
    return shard.recipe.stages(shard.net, 0.2)


def tuned(shard):
    run = functools.partial(PastRun, reference=shard.reference, strength=0.01)
    shard.train(shard.recipe.dense, run=run)


def solved(shard, solver):
    """Pruned by another solver than ADMM; momentum has a constant rho."""
    admm = dataclasses.replace(shard.recipe.admm, adaptive=False)
    shard.recipe = dataclasses.replace(shard.recipe, solver=solver, admm=admm)
    return shard.pruned(a_fifth(shard))


METHODS = {
    "dense": lambda shard: shard.dense(),
    "the game": lambda shard: shard.dense(lam=1.0),
    "stopped": lambda shard: shard.stopped(np.array([1, 3]), 3),
    "stopped by validation": lambda shard: shard.validated(),
    "pruned": lambda shard: shard.pruned(a_fifth(shard)),
    "pruned, with the game": lambda shard: shard.pruned(a_fifth(shard), 1.0),
    "straight-through": lambda shard: solved(shard, "ste"),
    "ADMM with momentum": lambda shard: solved(shard, "admm-momentum"),
    "ADMM in the order Z, W, U": lambda shard: solved(shard, "admm-zwu"),
    "PAST": tuned,
    "distilled": lambda shard: on_targets(shard, [0, 1], "reference", np.full((2, 40, 10), 0.1), 2.0),
    "rewound": lambda shard: rewind(shard, a_fifth(shard)[-1], 1),
    "private": lambda shard: shard.private(1.0, "dense"),
    "private, with a public mask": lambda shard: shard.private(1.0, "mask", a_fifth(shard)),
    "private, by ADMM": lambda shard: shard.private(1.0, "admm", a_fifth(shard)),
    "private, by magnitude": lambda shard: shard.private(1.0, "magnitude", a_fifth(shard)),
}
NETWORKS = {
    "mlp": describe("mlp", (64,), 10, [12, 8]),
    "resnet18": describe("resnet18", (8, 1, 8), 10, 0.04),  # running statistics
    "vgg16": describe("vgg16", (32, 3, 32), 10, 0.02),  # dropout
}


def a_shard(network, recipe, advance, slot=None, saved=None, solved=lambda row: None, threads=1):
    data = load("digits")
    shape = tuple(NETWORKS[network]["input_shape"])
    x = data.x[:80].reshape(80, -1) if network != "vgg16" else np.resize(data.x[:80], (80, 32 * 3 * 32))
    net = build(NETWORKS[network], 2).initialise([np.random.default_rng(r) for r in range(2)])
    rows = np.tile(np.arange(40), (2, 1))
    records, group = Records(x.reshape(80, *shape), data.y[:80]), ProcessGroup(threads)
    arguments = (records, rows, rows + 40, rows + 40, recipe, group, advance, solved)
    return Shard("test", net, [0, 1], *arguments, slot=slot, saved=saved)


def outcome(shard, status):
    curves = {name: values.tobytes() for name, values in shard.recorded().items()}
    return shard.net.theta.tobytes(), shard.net.state.tobytes(), curves, status


def go(network, method, recipe, slot=None, until=None, threads=1):
    """Run a method to its end, or for at most so many epochs; return its outcome and the number of epochs."""
    steps, rows = itertools.count(1), []

    def advance(replicas):
        if replicas == 2 and next(steps) == until:
            raise Cut

    state = slot.load() if slot else None
    saved = None if state is None else Saved(state, 2, "here")
    shard = a_shard(network, recipe, advance, slot, saved, rows.append, threads)
    status = METHODS[method](shard)
    return outcome(shard, status), next(steps) - 1, [admm_line(row) for row in rows]


@pytest.mark.parametrize("method", METHODS)
@given(
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    every=st.sampled_from([0, 1e9]),
    threads=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=8)
def test_interrupted_after_any_epochs_it_ends_with_the_same_bits(method, cuts, every, threads, tmp_path_factory):
    recipe = quick()
    undisturbed, epochs, rows = go("mlp", method, recipe, threads=threads)
    slot = Slot(tmp_path_factory.mktemp("c"), "s", {}, every)  # every: after each epoch, or never: from the start again
    for cut in cuts:
        with contextlib.suppress(Cut):
            go("mlp", method, recipe, slot, min(cut, epochs), threads)
    resumed, _, again = go("mlp", method, recipe, slot, threads=threads)
    assert resumed == undisturbed
    if "public" not in method:  # whose table is of a network that is not needed again
        assert again == rows  # the solver's table is whole


@pytest.mark.parametrize(("network", "method"), [("resnet18", "stopped"), ("resnet18", "pruned"), ("vgg16", "dense")])
def test_running_statistics_and_dropout_are_resumed_too(network, method, tmp_path):
    plan = Schedule(epochs=2, batch=16)
    recipe = quick(dense=plan, prune=plan, retrain=plan, via=())
    threads = 1 if network == "vgg16" else 2  # dropout draws for whole batches
    undisturbed, epochs, _ = go(network, "dense" if method == "stopped" else method, recipe, threads=threads)
    if method == "stopped":
        recipe = quick(dense=Schedule(epochs=3, batch=16))
        undisturbed, epochs, _ = go(network, method, recipe, threads=threads)
    slot = Slot(tmp_path, "s", {}, 0)
    for cut in (1, 1):
        with pytest.raises(Cut):
            go(network, method, recipe, slot, cut, threads)
    resumed, made, _ = go(network, method, recipe, slot, threads=threads)
    assert resumed == undisturbed
    assert made <= epochs  # of which the first two were not trained again


def test_a_saved_epoch_is_not_trained_again(tmp_path, monkeypatch):
    trained = []
    accuracy = nanoprune.lab.experiment.shard.accuracy
    monkeypatch.setattr(nanoprune.lab.experiment.shard, "accuracy", lambda *a: trained.append(1) or accuracy(*a))
    slot = Slot(tmp_path, "s", {}, 0)
    with pytest.raises(Cut):
        go("mlp", "pruned", quick(), slot, 7)  # in the last of three phases of three epochs
    go("mlp", "pruned", quick(), slot)
    assert len(trained) == 9


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("epoch",), 99),
        (("epoch",), 0),
        (("phase",), -1),
        (("phase",), "1"),
        (("net", "theta"), np.zeros((2, 5), np.float32)),
        (("net", "theta"), np.full((2, 1000), np.nan, np.float32)),
        (("parts", "optimizer", "V"), np.zeros((2, 5), np.float32)),
        (("parts", "mask"), {}),
        (("generators",), []),
        (("curves", "loss"), np.zeros(3)),
        (("losses",), np.zeros((2, 9))),
        (("solvers", "0", "status"), ["foo", "foo"]),  # of a phase that is passed over
        (("solvers", "0", "history"), {"loss": np.zeros((2, 2))}),
        (("solvers",), {}),
    ],
)
def test_a_state_that_does_not_fit_is_refused(path, value, tmp_path):
    slot = Slot(tmp_path, "s", {}, 0)
    with pytest.raises(Cut):
        go("mlp", "pruned", quick(via=()), slot, 5)
    state = inside = thawed(slot.load())
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    slot.save(state)
    with pytest.raises(DataError):
        go("mlp", "pruned", quick(via=()), slot)


def thawed(value):
    """A state with its sparse arrays as plain ones."""
    if isinstance(value, dict):
        return {name: thawed(inside) for name, inside in value.items()}
    return value.dense() if isinstance(value, Sparse) else value


# --- experiments and models -------------------------------------------------------------------------------------------


class After(Progress):
    """Raises Cut after so many new steps, which no earlier attempt has made."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, steps=1):
        self.left -= steps
        if self.left < 0:
            raise Cut


def comparable(results):
    return {name: value for name, value in results.items() if name != "seconds"}


def test_a_comparison_interrupted_in_every_stage_has_the_same_results(tmp_path):
    """Every method, curve and attack of `reproduce`, interrupted repeatedly, after a few epochs each time."""
    data, recipe = load("digits"), quick(via=(), keep=(0.3,))
    methods = "default,relaxloss,validation-stop,temperature,ppb-0.3,snip-0.3"
    results, curves = reproduce(data, recipe, [0, 1], 1, methods=methods)
    lives, finished = 0, False
    while not finished:
        with contextlib.suppress(Cut), Run(tmp_path / "run", resume=True, every=0) as run:
            lives += 1
            assert lives < 20
            # more steps than one stage has: an attempt first repeats those of the stage that it resumes
            found = reproduce(data, recipe, [0, 1], 1, After(30), run=run, methods=methods)
            run.finish(functools.partial(write_results, *found))
            finished = True
    assert lives > 3
    again, curves_again = found
    assert comparable(again) == comparable(results)
    for method, arrays in curves.items():
        assert set(arrays) == set(curves_again[method])
        for name, values in arrays.items():
            assert values.tobytes() == curves_again[method][name].tobytes(), (method, name)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_interrupted_models_are_the_same(tmp_path):
    data, recipe = load("digits"), quick()
    dense = train_model(data, recipe, 3, 1)
    pruned = prune_model(dense, data, recipe, 0.1, 1)

    def resumed(make, folder):
        for cut in (1, 1, 99):
            with contextlib.suppress(Cut), Run(folder, resume=True, every=0) as run:
                model = make(After(cut), run)
        return model

    again = resumed(lambda progress, run: train_model(data, recipe, 3, 1, progress, run=run), tmp_path / "a")
    assert again.net.theta.tobytes() == dense.net.theta.tobytes()
    assert again.steps == dense.steps
    again = resumed(lambda progress, run: prune_model(dense, data, recipe, 0.1, 1, progress, run=run), tmp_path / "b")
    assert again.net.theta.tobytes() == pruned.net.theta.tobytes()
    assert again.steps == pruned.steps
    other = dataclasses.replace(dense, net=dense.net.copy())
    other.net.theta[0, 0] += 1
    with Run(tmp_path / "c", resume=True, every=0) as run, contextlib.suppress(Cut):
        prune_model(dense, data, recipe, 0.1, 1, After(1), run=run)
    with pytest.raises(ArgumentError, match="begins_with"), Run(tmp_path / "c", resume=True) as run:
        prune_model(other, data, recipe, 0.1, 1, run=run)


def test_shadow_models_resume_in_the_middle_of_their_training(tmp_path):
    data, recipe = load("digits"), quick(via=())
    dense = train_model(data, recipe, 0, 1)
    pruned = prune_model(dense, data, recipe, 0.1, 1)
    undisturbed = train_shadows(pruned, data, 6, 1, Progress())
    checkpoints = Checkpoints(tmp_path, {}, 0)
    with pytest.raises(Cut):
        train_shadows(pruned, data, 6, 1, After(30), checkpoints=checkpoints)  # of 3 x 6 dense and 6 x 6 pruned epochs
    assert {path.name for path in tmp_path.iterdir()} >= {"shadows-0-6.h5", "prune+minmax-0-6.h5"}
    again = train_shadows(pruned, data, 6, 1, Progress(), checkpoints=checkpoints)
    for stage in ("train", "prune"):
        assert again.logits[stage].tobytes() == undisturbed.logits[stage].tobytes()
    assert again.paths.tobytes() == undisturbed.paths.tobytes()


# --- replicas that diverge -------------------------------------------------------------------------------------------


def poison(monkeypatch, seed_place, replicas):
    """Make the initial weights of one replica so large that its loss is not finite, in fleets of `replicas`."""
    initialise = Network.initialise

    def spoilt(self, generators):
        net = initialise(self, generators)
        if len(generators) == replicas:
            net.theta[seed_place] = 1e30
        return net

    monkeypatch.setattr(Network, "initialise", spoilt)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_that_diverges_is_dropped_from_all_methods_and_the_others_are_as_without_it(
    threads, monkeypatch, tmp_path
):
    data, recipe = load("digits"), quick(via=(), keep=(0.3,))
    methods = "default,l2,memguard"
    expected, curves = reproduce(data, recipe, [4, 6], threads, methods=methods)
    poison(monkeypatch, 1, 3)
    with Run(tmp_path, every=0) as run:
        found, curves_found = reproduce(data, recipe, [4, 5, 6], threads, run=run, methods=methods)
    assert found["seeds"] == [4, 6]
    ((dropped),) = found["dropped"]
    assert (dropped["seed"], dropped["method"]) == (5, "baseline")
    assert "is nan" in dropped["reason"] or "is inf" in dropped["reason"]
    assert found["methods"] == expected["methods"]
    assert found["splits"] == expected["splits"]
    assert any("seed 5 in baseline" in note for note in found["notes"])
    for method, arrays in curves.items():
        for name, values in arrays.items():
            assert values.tobytes() == curves_found[method][name].tobytes(), (method, name)
    with Run(tmp_path, resume=True) as run:  # what was dropped stays so
        again, _ = reproduce(data, recipe, [4, 5, 6], threads, run=run, methods=methods)
    assert comparable(again) == comparable(found)


def test_a_seed_that_a_later_method_loses_is_dropped_from_earlier_ones_too(monkeypatch):
    data, recipe = load("digits"), quick(keep=(0.3,))
    expected, _ = reproduce(data, recipe, [4, 6], 1)
    train = nanoprune.lab.experiment.shard.train

    def spoilt(net, *arguments):
        if arguments[-1].keywords["name"] == "prune+minmax" and net.replicas == 6:  # two ratios
            net.theta[1] = 1e30
        return train(net, *arguments)

    monkeypatch.setattr(nanoprune.lab.experiment.shard, "train", spoilt)
    found, _ = reproduce(data, recipe, [4, 5, 6], 1)
    assert [record["method"] for record in found["dropped"]] == ["prune+minmax"]
    assert found["methods"] == expected["methods"]


def test_where_every_seed_diverges_the_run_fails_and_says_why(monkeypatch):
    recipe = quick(dense=Schedule(epochs=3, batch=16, lr=1e18))
    with pytest.raises(DivergenceError, match="baseline: the loss of replica 0"):
        reproduce(load("digits"), recipe, [0, 1], 1)
    with pytest.raises(DivergenceError, match="train: the loss of replica 0"):
        train_model(load("digits"), recipe, 0, 1)


def test_divergence_of_one_shadow_model_ends_the_attack(monkeypatch):
    data = load("digits")
    model = train_model(data, quick(minmax=0.0), 0, 1)
    poison(monkeypatch, 2, 6)
    with pytest.raises(DivergenceError, match="shadows"):
        train_shadows(model, data, 6, 1, Progress())


def test_other_errors_are_no_divergence(tmp_path):
    def make(replicas, saved):
        raise DivergenceError("of no replica in particular")

    net = build(NETWORKS["mlp"], 2)
    with pytest.raises(DivergenceError, match="in particular"):
        train_shard(net, [0, 1], make, lambda shard, rows: None)


def test_experiments_without_checkpoints_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Experiment(load("digits"), quick(), [0], 1).dense("baseline")
    assert not list(tmp_path.iterdir())
