"""The paper's networks on CIFAR from end to end, on small images in small widths: recipes, fleets, files, shadows."""

import dataclasses

import numpy as np
import pytest

from nanoprune.errors import ArgumentError
from nanoprune.lab.audit.shadows import train_shadows
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import train_methods
from nanoprune.lab.experiment.recipes import FULL, RECIPES, recipe_for
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Network
from nanoprune.prune import ADMMSettings, Budget, hard_prune
from nanoprune.schedule import Schedule

NETWORKS = ("vgg16", "mobilenetv2", "resnet18")
PLAN = Schedule(epochs=1, batch=8, lr=0.02)
QUICK = {"dense": PLAN, "prune": PLAN, "retrain": PLAN, "admm": ADMMSettings(rho=0.1, iterations=1)}


def images(network: str = "resnet18") -> Dataset:
    rng, side = np.random.default_rng(0), 32 if network == "vgg16" else 8  # VGG16 halves an image five times
    pixels = rng.integers(0, 256, (100, side, 3, side), dtype=np.uint8)
    return Dataset.of("cifar10", pixels, np.arange(100) % 10, 10, 255, train=80)


def small(data: Dataset, network: str, width: float, **changes):
    sizes = {"reference": 16, "nonmembers": 16, "network": network, "widths": width}
    return dataclasses.replace(recipe_for(data, 16, **sizes), **(QUICK | changes))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_recipes_fit_two_cores_and_a_gpu(name):
    """Few members and a narrow network on a CPU; all members and the full width on a GPU."""
    narrow, full = RECIPES[name], FULL[name]
    assert (narrow.members, narrow.reference, narrow.nonmembers, narrow.seeds) == (5000, 5000, 5000, 2)
    assert (narrow.network, narrow.widths, narrow.dense.batch, narrow.keep, narrow.scope) == (
        "resnet18", 0.25, 64, (0.1,), "global",
    )  # fmt: skip
    assert (full.members, full.widths) == (None, 1.0)
    assert {plan.augment for plan in (narrow.dense, narrow.prune, narrow.retrain)} == {"none"}
    assert {plan.augment for plan in (full.dense, full.prune, full.retrain)} == {"crop-flip"}


@pytest.mark.parametrize("members", [None, "all"])
def test_another_network_takes_the_recipes_multiplier_unless_one_is_given(members):
    data, width = images(), 0.25 if members is None else 1.0
    for network in NETWORKS:
        assert recipe_for(data, members, network=network).widths == width
        assert recipe_for(data, members, network=network, widths=0.5).widths == 0.5
    assert recipe_for(data, members, network="lenet-5").widths == (20, 50, 500)
    assert recipe_for(dataclasses.replace(data, name="mnist"), network="vgg16").widths == 1.0


@pytest.mark.parametrize("members", [None, "all"])
def test_vgg16_has_lower_learning_rates_by_default(members):
    data, phases = images(), ("dense", "prune", "retrain")
    usual, slower = (recipe_for(data, members, network=network) for network in ("resnet18", "vgg16"))
    for plan, other in ((getattr(recipe, phase) for recipe in (slower, usual)) for phase in phases):
        assert plan.lr == pytest.approx(0.4 * other.lr)
        assert dataclasses.replace(plan, lr=other.lr) == other
    assert recipe_for(data, members, network="vgg16", dense=usual.dense).dense == usual.dense


@pytest.mark.parametrize("members", [None, "all"])
def test_mobilenetv2_is_pruned_with_erk_by_default(members):
    data = images()
    recipe = recipe_for(data, members, network="mobilenetv2")
    assert recipe.scope == "erk"
    assert recipe_for(data, members, network="resnet18").scope == "global"
    assert recipe_for(data, members, network="mobilenetv2", scope="global").scope == "global"
    assert recipe_for(data, members, network="mobilenetv2", scheme="filter").scope == "layer"
    net = build(describe("mobilenetv2", data.x.shape[1:], 10, 0.25))
    budget = recipe.budget(net, 0.1)
    assert min(k / p.size for k, p in zip(budget.max_nonzero(), net.weights, strict=True)) < 0.05
    assert budget.max_nonzero()[0] > 0.2 * net.weights[0].size


def test_a_multiplier_is_refused_where_a_network_has_none():
    data = images()
    recipe = recipe_for(data, network="lenet-5", widths=0.25)
    with pytest.raises(ArgumentError, match=r"widths of lenet-5 must be 3 numbers like \[20, 50, 500\], got 0\.25"):
        describe(recipe.network, data.x.shape[1:], 10, recipe.widths)


@pytest.mark.parametrize(
    ("network", "scheme", "threads"), [("vgg16", None, 1), ("mobilenetv2", "filter", 2), ("resnet18", "channel", 3)]
)
def test_every_method_trains_every_network(network, scheme, threads):
    data = images(network)
    recipe = small(data, network, 0.03, keep=(0.3,))
    if scheme:
        recipe = dataclasses.replace(recipe, scheme=scheme, scope="layer", exempt=("first", "last"))
    trained = train_methods(Experiment(data, recipe, [0, 1], threads))
    pruned = ["prune-0.3", "prune-0.3+minmax", "magnitude-0.3"]
    dense = ["baseline", "early-stop", "small-dense", "minmax", "prune-1", "prune-1+minmax"]
    assert list(trained) == dense + pruned
    for of in trained.values():
        assert np.isfinite(of.curves["loss"]).all()
        assert (np.ptp(of.net.state, axis=0) > 0).any()  # every seed has statistics of its own
    weights = trained["baseline"].net.weight_count
    for method in ["small-dense", *pruned]:
        assert (trained[method].net.nonzero() < weights / 2).all(), method


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pruned_network_and_its_shadows(network, tmp_path):
    """Running statistics are stored, updated in retraining, and separate in shadow models."""
    data = images(network)
    recipe = small(data, network, 0.03, keep=(0.3,), minmax=0.0)
    dense = train_model(data, recipe, 0, 1)
    pruned = prune_model(dense, data, recipe, 0.3, 1)
    assert pruned.net.nonzero()[0] <= 0.3 * pruned.net.weight_count
    assert not np.array_equal(pruned.net.state, dense.net.state)
    save_model(pruned, tmp_path / "pruned.h5")
    again = load_model(tmp_path / "pruned.h5")
    np.testing.assert_array_equal(again.net.state, pruned.net.state)
    shadows = train_shadows(again, data, 6, 2, Progress())
    for stage in ("train", "prune"):
        assert shadows.logits[stage].shape == (6, 32, 10)
        assert np.isfinite(shadows.logits[stage]).all()
        assert len({logits.tobytes() for logits in shadows.logits[stage]}) == 6


def test_hard_prune_leaves_scales_and_shifts():
    net: Network = build(describe("resnet18", (8, 3, 8), 10, 0.05))
    net.theta[...] = np.random.default_rng(0).standard_normal(net.theta.shape)
    before = [p.value.copy() for p in net.biases]
    hard_prune(net, Budget(net, [0.1], "global"))
    for p, value in zip(net.biases, before, strict=True):
        np.testing.assert_array_equal(p.value, value)
