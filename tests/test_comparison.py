"""Which methods `reproduce` runs for a list of names, and in which order."""

import dataclasses

import numpy as np
import pytest

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import load, make_split
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.methods import chosen, train_methods
from nanoprune.lab.experiment.recipes import RECIPES, Private, recipe_for
from nanoprune.lab.zoo import mixes_records
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

PLAN = Schedule(epochs=2, batch=16)
VARIANTS = ("mask", "synflow", "random", "admm", "magnitude")


def small(**changes):
    """A recipe that takes a moment."""
    recipe = recipe_for(load("digits"), members=40, reference=10, nonmembers=40)
    quick = {"dense": PLAN, "prune": PLAN, "retrain": PLAN, "admm": ADMMSettings(rho=0.1, iterations=2)}
    return dataclasses.replace(recipe, widths=(12, 8), **(quick | changes))


def names(recipe, text):
    return [method.name for method in chosen(recipe, text)]


def test_the_default_is_the_papers_comparison_with_its_controls():
    assert names(small(keep=(0.3, 0.1)), "default") == [
        "baseline", "early-stop", "early-stop-0.1", "small-dense", "small-dense-0.1", "minmax",
        "prune-1", "prune-1+minmax", "prune-0.3", "prune-0.3+minmax", "magnitude-0.3",
        "prune-0.1", "prune-0.1+minmax", "magnitude-0.1",
    ]  # fmt: skip
    default = ["baseline", "early-stop", "small-dense", "prune-1", "prune-0.1", "magnitude-0.1"]
    assert names(small(minmax=0.0), "default") == default
    asked = names(small(minmax=0.0, keep=(0.1, 1.0)), "default")  # --keep 1 names the control itself
    assert (asked.count("prune-1"), "magnitude-1" in asked) == (1, False)


@pytest.mark.parametrize("name", ["digits", "mnist", "location30", "purchase100", "texas100", "cifar10", "cifar100"])
def test_the_control_for_the_schedule_runs_by_default_on_every_data_set(name):
    assert {"prune-1", "prune-1+minmax"} <= set(names(RECIPES[name], "default"))


def test_every_control_is_a_method_and_what_is_pruned_has_the_schedule_as_its_control():
    methods = {method.name: method for method in chosen(small(keep=(0.3, 0.1)), "all")}
    for method in methods.values():
        assert {control for control, _ in method.controls} <= set(methods) - {method.name}
    for keep in ("0.3", "0.1"):
        assert {control for control, _ in methods[f"prune-{keep}"].controls} >= {"prune-1", f"magnitude-{keep}"}
        assert {control for control, _ in methods[f"prune-{keep}+minmax"].controls} >= {"prune-1+minmax"}
        for variant in ("mask", "synflow", "admm", "magnitude"):
            of = {control for control, _ in methods[f"dp-8+{variant}-{keep}"].controls}
            assert of == {"dp-8", f"dp-8+random-{keep}", f"early-stop-dp-8+{variant}-{keep}"}


def test_early_stopping_picks_its_epoch_on_no_scored_record():
    """Other labels of the scored non-members change nothing; others of the known ones do."""
    data, recipe = load("digits"), small(minmax=0.0, dense=Schedule(epochs=6, batch=16))
    split = make_split(data, recipe.members, recipe.reference, recipe.nonmembers, 0)
    epochs = {}
    for part in ("scored_nonmembers", "known_nonmembers", None):
        y = data.y.copy()
        if part:
            y[getattr(split, part)] = (y[getattr(split, part)] + 1) % 10
        changed = dataclasses.replace(data, y=y)
        experiment = Experiment(changed, recipe, [0], 1, splits=[split])
        baseline = experiment.dense("baseline")
        early = experiment.stopped("early-stop", experiment.dense("target", epochs=3), baseline)
        accuracies = [experiment.accuracies(experiment.dense("dense", epochs=e).net, "known_nonmembers")[0]
                      for e in range(1, 7)]  # fmt: skip
        np.testing.assert_array_equal(baseline.curves["known_accuracy"][0], accuracies)
        epochs[part] = early.curves["stopped_after"][0, 0]
        assert epochs[part] == 1 + next(e for e in range(6) if accuracies[e] >= accuracies[2])
    assert epochs["scored_nonmembers"] == epochs[None]
    assert epochs["known_nonmembers"] != epochs[None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("baseline", ["baseline"]),
        ("minmax", ["baseline", "minmax"]),
        ("early-stop", ["baseline", "early-stop", "prune-0.1"]),
        ("small-dense,minmax", ["baseline", "small-dense", "minmax", "prune-0.1"]),
        ("prune-0.1+minmax", ["baseline", "prune-0.1+minmax"]),
    ],
)
def test_needed_methods_run_too_in_the_order_of_the_table(text, expected):
    assert names(small(), text) == expected


def test_methods_with_dp_sgd_are_named_after_epsilon_and_ratio():
    recipe = small(keep=(0.3, 0.1), minmax=0.0, private=Private(epsilons=(8.0, 0.5)))
    private = [
        f"{control}dp-{epsilon}{way}"
        for epsilon in ("8", "0.5")
        for way in ("", *(f"+{of}-{keep}" for keep in (0.3, 0.1) for of in VARIANTS))
        for control in ("", "early-stop-")
    ]
    assert names(recipe, "private") == ["baseline", *private]
    assert names(recipe, "dp-8+admm-0.1") == ["baseline", "dp-8+admm-0.1"]
    assert names(recipe, "all")[-len(private) :] == private
    without = small(reference=0, minmax=0.0)
    rows = ("dp-8", *(f"dp-8+{of}-0.1" for of in VARIANTS[1:]))  # no public mask
    assert names(without, "private") == ["baseline", *(name for row in rows for name in (row, f"early-stop-{row}"))]


def test_networks_that_mix_records_have_no_methods_with_dp_sgd():
    assert mixes_records("resnet18")
    assert not mixes_records("lenet-5")
    assert not [name for name in names(small(network="resnet18"), "all") if name.startswith("dp-")]


def test_a_name_may_have_commas_itself():
    recipe = small(keep=((0.2, 0.3, 0.4), 0.2), minmax=0.0)
    assert names(recipe, "prune-0.2,0.3,0.4") == ["baseline", "prune-0.2,0.3,0.4"]
    assert names(recipe, "prune-0.2,prune-0.2,0.3,0.4") == ["baseline", "prune-0.2,0.3,0.4", "prune-0.2"]


@pytest.mark.parametrize("text", ["prune-0.2", "baseline,nothing", "", "default,", "minmax "])
def test_an_unknown_name_is_refused_with_the_known_ones(text):
    with pytest.raises(
        ArgumentError, match=r"^methods must be of default, all, simple, private, baseline, early-stop, small-dense, mi"
    ):
        chosen(small(), text)


def test_a_method_has_the_same_bits_alone_and_among_others():
    """Training does not depend on the other methods of a run."""
    recipe = small(keep=(0.3, 0.1))
    together = train_methods(Experiment(load("digits"), recipe, [0, 1], 1))
    for text in ("minmax", "prune-0.1", "small-dense-0.1", "early-stop", "prune-1", "magnitude-0.3"):
        alone = train_methods(Experiment(load("digits"), recipe, [0, 1], 1), text)
        assert set(alone) < set(together)
        for name, trained in alone.items():
            np.testing.assert_array_equal(trained.net.theta, together[name].net.theta, err_msg=name)
