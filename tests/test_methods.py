"""The training of methods by a shard: pruning in stages, and the checks of a recipe."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

import nanoprune.lab.experiment.shard as methods
import nanoprune.lab.experiment.solvers as solvers
from nanoprune.defend import DPSGD
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.shadows import recipe_steps, train_shadows, undefended
from nanoprune.lab.data import load
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import train_methods
from nanoprune.lab.experiment.recipes import Private, recipe_for
from nanoprune.lab.models.model import Model, load_model, save_model
from nanoprune.lab.models.steps import check_steps
from nanoprune.lab.verify import reference
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo import build, describe
from nanoprune.prune import ADMMSettings
from nanoprune.records import Records
from nanoprune.schedule import Schedule


def small(**changes):
    """A recipe that takes a moment."""
    plan = Schedule(epochs=2, batch=16)
    recipe = recipe_for(load("digits"), members=40, reference=10, nonmembers=40, minmax=0.0)
    quick = {"dense": plan, "prune": plan, "retrain": plan, "admm": ADMMSettings(rho=0.1, iterations=2)}
    return dataclasses.replace(recipe, widths=(12, 8), **(quick | changes))


def shard_of(recipe, replicas=2):
    data = load("digits")
    net = build(describe("mlp", data.x.shape[1:], 10, [12, 8]), replicas)
    net.initialise([np.random.default_rng(r) for r in range(replicas)])
    rows = np.tile(np.arange(40), (replicas, 1))
    return methods.Shard("test", net, list(range(replicas)), Records(data.x, data.y), rows, rows, rows + 40, recipe)


def test_a_stopped_network_keeps_the_statistics_of_its_epoch():
    """Replica r stopped after e epochs equals e epochs of training, parameters and running statistics."""
    data = load("digits")
    images = data.x.reshape(-1, 8, 1, 8)
    rows = np.tile(np.arange(40), (2, 1))
    recipe = small(dense=Schedule(epochs=3, batch=16))

    def shard():
        net = build(describe("resnet18", images.shape[1:], 10, 0.04), 2)
        net.initialise([np.random.default_rng(r) for r in range(2)])
        return methods.Shard("test", net, [0, 1], Records(images, data.y), rows, rows, rows + 40, recipe)

    stopped = shard()
    stopped.stopped(np.array([1, 2]), 3)
    for r, epochs in enumerate((1, 2)):
        trained = shard()
        trained.dense(epochs=epochs)
        assert (trained.net.state != shard().net.state).any()
        np.testing.assert_array_equal(stopped.net.theta[r], trained.net.theta[r])
        np.testing.assert_array_equal(stopped.net.state[r], trained.net.state[r])


@pytest.mark.parametrize("scope", ["layer", "global", "erk"])
def test_each_intermediate_ratio_is_a_constraint(scope, monkeypatch):
    kept = []

    def spy(net, budget, real=solvers.hard_prune):
        real(net, budget)
        kept.append(net.nonzero().tolist())

    monkeypatch.setattr(solvers, "hard_prune", spy)
    shard = shard_of(small(scope=scope, via=(0.5, 0.25)))
    shard.pruned(list(zip(*(shard.recipe.stages(shard.net, keep) for keep in (0.1, 0.4)), strict=True)))
    layers = [(64, 12, 0), (12, 8, 0), (8, 10, 0)]  # inputs, outputs
    sizes = [64 * 12 + 12 * 8 + 8 * 10] if scope == "global" else [i * o for i, o, _ in layers]

    def count(ratio):
        ratios = reference.erk(layers, ratio) if scope == "erk" else [ratio] * len(sizes)
        return sum(int(round(ratio * n, 9)) for ratio, n in zip(ratios, sizes, strict=True))

    # no replica is ever pruned below its own ratio on the way
    assert kept == [[count(0.5)] * 2, [count(0.25), count(0.4)], [count(0.1), count(0.4)]]
    assert len(shard.curves["loss"]) == shard.recipe.pruning_epochs == 3 * 2 + 2
    assert len(shard.curves["primal_residual"]) == 3 * 2


def test_weights_pruned_in_an_intermediate_stage_may_return(monkeypatch):
    supports = []

    def spy(net, budget, real=solvers.hard_prune):
        real(net, budget)
        supports.append(net.W != 0)

    monkeypatch.setattr(solvers, "hard_prune", spy)
    many = Schedule(epochs=12, batch=8, lr=0.1)
    shard_of(small(via=(0.1,), prune=many)).pruned([0.1, 0.1])
    first, second = supports
    assert (second & ~first).any()


def test_a_model_records_the_intermediate_ratios_and_its_shadow_models_repeat_them(monkeypatch):
    data = load("digits")
    recipe = small(via=(0.5,))
    pruned = prune_model(train_model(data, recipe, 0, 1), data, recipe, 0.2, 1)
    assert pruned.steps[-1]["via"] == [0.5]
    stages = []

    def spy(net, budget, real=solvers.hard_prune):
        stages.extend(sum(row) for row in budget.k)
        real(net, budget)

    monkeypatch.setattr(solvers, "hard_prune", spy)
    train_shadows(pruned, data, 6, 1, Progress())
    assert sorted(stages) == [188] * 6 + [472] * 6
    before = np.cumsum(np.array(stages) == 472) - np.cumsum(np.array(stages) == 188)
    assert (before >= 0).all()  # each shadow by way of the larger ratio


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"via": (0.0,)}, "via must be ratios"),
        ({"via": (1.5,)}, "via must be ratios"),
        ({"scope": "network"}, "scope must be layer, erk or global"),
        ({"scope": "global", "keep": ((0.1, 0.2, 0.3),)}, "keep must be one ratio where scope is global"),
    ],
)
def test_an_invalid_recipe_is_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        small(**changes)


def test_ratios_of_each_layer_choose_the_layer_scope():
    location = dataclasses.replace(load("digits"), name="location30")
    assert recipe_for(location).scope == "global"
    assert recipe_for(location, keep=((0.1, 0.2, 0.3, 0.4),)).scope == "layer"


# DP-SGD


QUICK = Private(epsilons=(8.0,), epochs=6, batch=10, lr=0.2)


def private_experiment(seeds=(0, 1), **changes):
    return Experiment(load("digits"), small(private=dataclasses.replace(QUICK, **changes)), seeds, threads=1)


@pytest.mark.parametrize("variant", ["dense", "mask", "synflow", "random", "admm", "magnitude"])
def test_every_variant_takes_the_steps_of_its_statement_and_keeps_its_ratio(variant, monkeypatch):
    """Every step of DP-SGD on the members adds noise; nothing else is trained on them."""
    taken, trained_on = [], []

    real_noise = DPSGD.add_noise

    def spy(self, *arguments):
        taken.append(self.sigma)
        real_noise(self, *arguments)

    def train(net, records, members, plan, *rest, real=methods.train, **named):
        trained_on.append((members.tolist(), rest[-1].keywords["estimate"] is not None))
        return real(net, records, members, plan, *rest, **named)

    monkeypatch.setattr(DPSGD, "add_noise", spy)
    monkeypatch.setattr(methods, "train", train)
    experiment = private_experiment()
    keep = None if variant == "dense" else 0.25
    trained = experiment.private("dp", 8.0, variant, keep)
    (phase,) = trained.privacy["phases"]
    assert taken == [phase["noise"]] * phase["steps"]
    assert phase["steps"] == 6 * 4
    assert 0.998 * 8 <= trained.privacy["epsilon"] <= 8
    members = experiment.indices("members").tolist()
    assert all(private for of, private in trained_on if of == members)
    assert [of for of, private in trained_on if not private] == (
        [experiment.indices("reference").tolist()] * 3 if variant == "mask" else []
    )
    sizes = [64 * 12, 12 * 8, 8 * 10]
    kept = sum(sizes) if variant == "dense" else sum(int(0.25 * n) for n in sizes)
    assert trained.net.nonzero().tolist() == [kept, kept]
    assert (trained.status is None) == (variant != "admm")
    assert f"epsilon {trained.privacy['epsilon']:.4g}" in trained.note
    assert ("reference set" in trained.note) == (variant == "mask")
    assert ("sees no record" in trained.note) == (variant in ("synflow", "random"))
    assert [step["step"] for steps in trained.steps for step in steps] == ["private"] * 2


@pytest.mark.parametrize("epochs", [lambda batches: batches[:-1], lambda batches: [*batches, batches[0]]])
def test_a_private_network_whose_steps_differ_from_the_plan_of_its_epsilon_is_refused(epochs, monkeypatch):
    """One step fewer or more in each epoch: the stated epsilon would not hold."""
    monkeypatch.setattr(DPSGD, "batches", lambda self, real=DPSGD.batches: iter(epochs(list(real(self)))))
    with pytest.raises(DataError, match=r"^dp: DP-SGD took \d+ steps, epsilon was computed for 24; the network is not"):
        private_experiment().private("dp", 8.0)
    with pytest.raises(DataError, match=r"epsilon was computed for 24"):
        train_model(load("digits"), small(private=QUICK), 0, 1, epsilon=4.0)


def test_data_free_masks_do_not_depend_on_the_records():
    """Other records, the same seeds and initial weights: the same support; another seed, another one."""
    data = load("digits")
    other = dataclasses.replace(data, x=data.x[::-1].copy(), y=data.y[::-1].copy())
    recipe = small(private=QUICK)
    for variant in ("synflow", "random"):
        supports = [
            Experiment(of, recipe, [0, 1], threads=1).private("dp", 8.0, variant, 0.25).net.W != 0
            for of in (data, other)
        ]
        np.testing.assert_array_equal(*supports)
        assert (supports[0][0] != supports[0][1]).any()


def test_old_files_name_the_variant_way():
    """Model files from before the key was renamed can still be attacked with shadow models of their variant."""
    model = train_model(load("digits"), small(private=QUICK), 0, 1, epsilon=4.0)
    found = train_shadows(model, load("digits"), 6, 1, Progress()).inside
    step = dict(model.steps[0])
    step["way"] = step.pop("variant")
    for name in ("solver",):
        step.pop(name)
    old = dataclasses.replace(model, steps=[step])
    np.testing.assert_array_equal(train_shadows(old, load("digits"), 6, 1, Progress()).inside, found)


# The controls of pruning


@pytest.mark.parametrize("via", [(), (0.5,)])
def test_one_shot_magnitude_pruning_has_the_same_epochs_without_a_penalty(via):
    """Its support is that of the largest weights of the same schedule without ADMM; it retrains as long."""
    recipe = small(via=via, solver="magnitude")
    pruned, plain = shard_of(recipe), shard_of(recipe)
    stages = list(zip(*(recipe.stages(pruned.net, 0.25) for _ in range(2)), strict=True))
    assert pruned.pruned(stages) is None
    for _ in stages:
        plain.train(recipe.prune)
    W = plain.net.W
    start = 0
    for size in (64 * 12, 12 * 8, 8 * 10):
        for r in range(2):
            layer = np.abs(W[r, start : start + size])
            expected = layer >= np.sort(layer)[-(size // 4)]
            np.testing.assert_array_equal(pruned.net.W[r, start : start + size] != 0, expected)
        start += size
    assert len(pruned.curves["loss"]) == recipe.pruning_epochs == 2 * (len(via) + 1) + 2
    assert "primal_residual" not in pruned.curves


def test_shadows_of_a_magnitude_pruned_network_are_pruned_by_magnitude(monkeypatch):
    monkeypatch.setattr(solvers, "ADMM", lambda *_: pytest.fail("ADMM ran"))
    data, recipe = load("digits"), small(solver="magnitude")
    model = prune_model(train_model(data, recipe, 0, 1), data, recipe, 0.25, 1)
    assert model.steps[-1]["solver"] == "magnitude"
    assert train_shadows(model, data, 6, 1, Progress()).logits["prune"].shape[0] == 6


@pytest.mark.parametrize("via", [(), (0.5,)])
@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_gradual_pruning_follows_the_cubic_of_zhu_and_gupta(via, decay, monkeypatch):
    """What is left, the epochs and the learning rate of each step; a pruned weight stays zero within a stage."""
    T, epochs = 3, 7
    plan = Schedule(epochs=epochs, batch=32, lr=0.04, decay=decay)
    recipe = small(via=via, solver="gradual", prune=plan, admm=ADMMSettings(iterations=T))
    shard, steps, supports = shard_of(recipe), [], []
    train = methods.Shard.train

    def watched(self, plan, mask=None, **others):
        steps.append((plan.epochs, plan.lr, plan.decay))
        supports.append(self.net.W != 0)
        train(self, plan, mask=mask, **others)
        assert ((self.net.W != 0) <= supports[-1]).all()

    monkeypatch.setattr(methods.Shard, "train", watched)
    stages = list(zip(*(recipe.stages(shard.net, 0.25) for _ in range(2)), strict=True))
    assert shard.pruned(stages) is None
    sizes, ratios = (64 * 12, 12 * 8, 8 * 10), [1.0, *via, 0.25]
    expected = [
        sum(int((after + (before - after) * (1 - t / T) ** 3) * size + 1e-9) for size in sizes)
        for before, after in itertools.pairwise(ratios)
        for t in range(1, T + 1)
    ]
    assert [of.sum(axis=1).tolist() for of in supports[:-1]] == [[count, count] for count in expected]
    starts = [0, 2, 4] * (len(via) + 1)
    rates = [0.04 * (1 + math.cos(math.pi * e / epochs)) / 2 if decay == "cosine" else 0.04 for e in starts]
    assert [step[0] for step in steps[:-1]] == [2, 2, 3] * (len(via) + 1)
    np.testing.assert_allclose([step[1] for step in steps[:-1]], rates)
    assert (supports[-1] == supports[-2]).all()
    assert len(shard.curves["loss"]) == recipe.pruning_epochs


@pytest.mark.parametrize("variant", ["random", "synflow", "snip", "grasp"])
def test_masks_are_chosen_before_training_and_shadows_repeat_them(variant):
    data, recipe = load("digits"), small(keep=(0.25,))
    name = f"{variant}-0.25"
    trained = train_methods(Experiment(data, recipe, [0, 1], 1), name)[name]
    assert trained.net.nonzero().tolist() == [64 * 12 // 4 + 12 * 8 // 4 + 8 * 10 // 4] * 2
    assert trained.curves["loss"].shape[1] == recipe.dense.epochs + recipe.prune.epochs + recipe.retrain.epochs
    assert ((trained.net.W[0] != 0) != (trained.net.W[1] != 0)).any()
    ((step,), _) = trained.steps
    assert (step["step"], step["variant"], step["keep"]) == ("masked", variant, 0.25)
    split = (data.name, data.sha256, 40, recipe.reference, 40, 0)
    model = Model(trained.net.shard(slice(1)), *split, [json.loads(json.dumps(step))])
    check_steps(model.steps, "x")
    shadows = train_shadows(model, data, 6, 1, Progress())
    assert shadows.logits["masked"].shape == (6, 80, 10)
    assert [of["step"] for of in undefended(model).steps] == ["train"]


def test_a_mask_sees_the_members_or_nothing():
    """With other labels SNIP and GraSP choose other weights; SynFlow and random masks the same."""
    data = load("digits")
    other = dataclasses.replace(data, y=(data.y + 1) % 10)
    for variant, sees in (("random", False), ("synflow", False), ("snip", True), ("grasp", True)):
        supports = [Experiment(of, small(), [0], 1).masked("masked", variant, 0.25).net.W != 0 for of in (data, other)]
        assert (supports[0] != supports[1]).any() == sees


@pytest.mark.parametrize("scheme", ["filter", "2:4"])
def test_gradual_pruning_of_groups_ends_within_the_budget(scheme):
    keep = 0.5
    recipe = small(solver="gradual", scheme=scheme, keep=(keep,))
    experiment = Experiment(load("digits"), recipe, [0, 1], 1)
    (trained,) = experiment.pruned(train_methods(experiment, "baseline")["baseline"], [keep])
    budget = recipe.budget(trained.net, keep)
    np.testing.assert_array_equal(budget.project(trained.net.W), trained.net.W)
    assert (trained.net.nonzero() < trained.net.weight_count).all()


def test_networks_pruned_in_steps_with_ppb_are_repeated_by_their_shadows():
    """The loss and the way of pruning are in the steps of the model, so that shadows train and prune alike."""
    data, recipe = load("digits"), small(keep=(0.25,))
    trained = train_methods(Experiment(data, recipe, [0], 1), "gradual-0.25,ppb-0.25,magnitude-0.25")
    plain, balanced = (trained[f"{name}-0.25"].steps[0][-1] for name in ("gradual", "ppb"))
    assert (plain["solver"], plain["prune"]["loss"], plain["retrain"]["loss"]) == ("gradual", *["cross-entropy"] * 2)
    assert (balanced["solver"], balanced["prune"]["loss"], balanced["retrain"]["loss"]) == ("gradual", *["ppb:4"] * 2)
    assert len({tuple(of.net.W[0].tolist()) for of in trained.values()}) == len(trained)
    kept = trained["magnitude-0.25"].net.nonzero().tolist()
    assert trained["gradual-0.25"].net.nonzero().tolist() == trained["ppb-0.25"].net.nonzero().tolist() == kept
    model = prune_model(train_model(data, recipe, 0, 1), data, dataclasses.replace(recipe, solver="gradual"), 0.25, 1)
    (_, train), (_, prune) = recipe_steps(model, data)
    assert (train.solver, prune.solver) == ("admm", "gradual")
    assert train_shadows(model, data, 6, 1, Progress()).logits["prune"].shape[0] == 6


def test_the_control_that_prunes_nothing_keeps_every_weight_under_every_scheme():
    for changes in ({}, {"scope": "global"}, {"scope": "erk"}, {"scheme": "filter"}, {"scheme": "2:4", "keep": (0.5,)}):
        experiment = Experiment(load("digits"), small(**changes), [0], 1)
        trained = train_methods(experiment, "prune-1")["prune-1"]
        assert (trained.net.nonzero() == trained.net.weight_count).all()
        assert trained.curves["loss"].shape == (1, experiment.recipe.pruning_epochs)


def test_a_private_model_file_has_its_budget_and_cannot_be_pruned(tmp_path):
    recipe = small(private=QUICK)
    model = train_model(load("digits"), recipe, 0, 1, epsilon=4.0)
    save_model(model, tmp_path / "private.h5")
    found = load_model(tmp_path / "private.h5")
    (step,) = found.steps
    assert 0.998 * 4 <= step["privacy"]["epsilon"] <= 4
    with pytest.raises(DataError, match="trained with DP-SGD"):
        prune_model(found, load("digits"), recipe, 0.5, 1)
    shadows = train_shadows(found, load("digits"), 6, 1, Progress())  # the adaptive attacker trains in private too
    assert list(shadows.logits) == ["private"]
    plain = train_shadows(undefended(found), load("digits"), 6, 1, Progress())
    assert list(plain.logits) == ["train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epochs": 2}, "at least 3"), ({"delta": 1.0}, "delta must"), ({"epsilons": (-1.0,)}, "epsilon must")],
)
def test_a_private_recipe_is_checked(changes, message):
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(QUICK, **changes)
