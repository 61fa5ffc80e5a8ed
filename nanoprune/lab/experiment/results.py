"""The results of a run, for results.json and curves.h5."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np

from nanoprune.attack.metrics import needed_nonmembers, roc
from nanoprune.backend import device_name, precision
from nanoprune.errors import DataError
from nanoprune.lab.data import splits_sha256
from nanoprune.lab.engine.run_folder import versions
from nanoprune.lab.experiment.evaluate import FALSE_POSITIVE_RATES, PER_CLASS, Outcome, strongest
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.methods import PRIVATE, Method
from nanoprune.lab.experiment.recipes import keep_name
from nanoprune.lab.privacy.accounting import NOT_COVERED
from nanoprune.lab.statistics import epsilon_lower_bound, paired_difference, summary
from nanoprune.lab.storage.bounded import read_json
from nanoprune.lab.storage.files import write_json
from nanoprune.lab.storage.hdf5 import new_file
from nanoprune.lab.zoo import build

ROC_GRID = np.logspace(-4, 0, 121)  # false positive rates at which the mean ROC is stored


def method_entry(experiment: Experiment, trained: Trained, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """One method's entry of results.json, without the differences between methods."""
    net, name = trained.net, strongest(outcomes)
    nonzero, full = net.nonzero(), build(experiment.description, replicas=0).weight_count
    train, test = (summary(experiment.accuracies(net, part)) for part in ("members", "nonmembers"))
    return {
        "weights": net.weight_count,
        "nonzero": int(nonzero[0]) if (nonzero == nonzero[0]).all() else float(nonzero.mean()),
        "compression": float(full / max(nonzero.mean(), 1)),
        "train_accuracy": train,
        "test_accuracy": test,
        "attacks": {attack: _attack(outcomes, attack) for attack in outcomes if not attack.endswith(PER_CLASS)},
        "strongest_attack": name,
        "strongest_attack_accuracy": summary(outcomes[name].accuracy),
        **({"solver": {"status": trained.status}} if trained.status else {}),
        **(
            {"privacy": trained.privacy | _bound(experiment, outcomes, trained.privacy["delta"])}
            if trained.privacy
            else {}
        ),
    }


def _bound(experiment: Experiment, outcomes: dict[str, Outcome], delta: float) -> dict[str, Any]:
    """ "lower_bound": the largest epsilon at `delta` that any attack on any seed excludes, at 95% confidence for all of
    them together; None where the members are an official training set: membership was not drawn at random.
    "lower_bound_of": "groups" where it counts these."""
    of = {} if experiment.dataset.groups is None else {"lower_bound_of": "groups"}
    if experiment.recipe.members is None:
        return {"lower_bound": None} | of
    alpha = 0.05 / (len(outcomes) * len(experiment.seeds))  # Bonferroni
    sides = (
        (s[m], s[~m]) for outcome in outcomes.values() for s, m in zip(outcome.scores, outcome.member, strict=True)
    )
    return {"lower_bound": max(epsilon_lower_bound(*side, alpha, delta) for side in sides)} | of


CHANGES = {"attack_accuracy_change": "strongest_attack_accuracy", "test_accuracy_change": "test_accuracy"}


def with_changes(methods: dict[str, dict[str, Any]], wanted: Collection[Method] = ()) -> dict[str, dict[str, Any]]:
    """The entries with their differences from the baseline and from the controls of `wanted`, paired by seed."""

    def changes(entry: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return {name: paired_difference(entry[of]["values"], other[of]["values"]) for name, of in CHANGES.items()}

    controls = {method.name: method.controls for method in wanted}
    found = {}
    for name, entry in methods.items():
        against = {
            control: {"difference": difference} | changes(entry, methods[control])
            for control, difference in controls.get(name, ())
            if control in methods
        }
        found[name] = entry | (changes(entry, methods["baseline"]) if name != "baseline" else {})
        found[name] |= {"controls": against} if against else {}
    return found


def _attack(outcomes: dict[str, Outcome], name: str) -> dict[str, Any]:
    of, per_class = outcomes[name], outcomes.get(name + PER_CLASS)
    return {
        "accuracy": summary(of.accuracy),
        "accuracy_per_class_threshold": summary(per_class.accuracy) if per_class else None,
        "auc": summary(of.auc),
        "tpr_at_fpr": {f"{fpr:g}": None if rates is None else summary(rates) for fpr, rates in of.tpr_at_fpr.items()},
    }


def roc_curves(experiment: Experiment, outcomes: dict[str, Outcome]) -> dict[str, np.ndarray]:
    """Mean over the seeds of each attack's ROC, at the rates of ROC_GRID that are at least one non-member."""
    grid = np.concatenate([[0.0], ROC_GRID[_scored_nonmembers(experiment) * ROC_GRID >= 1]])
    curves = {}
    for name, outcome in outcomes.items():
        tpr = []
        for scores, member in zip(outcome.scores, outcome.member, strict=True):
            false, true = roc(scores[member], scores[~member])
            tpr.append(true[np.searchsorted(false, grid, side="right") - 1])  # the largest TPR with FPR <= grid
        curves[f"roc/{name}/fpr"], curves[f"roc/{name}/tpr"] = grid, np.mean(tpr, axis=0)
    return curves


def _scored_nonmembers(experiment: Experiment) -> int:
    """How many non-members are scored: records or groups; of the seed with the fewest."""
    return min(len(experiment.units(r, "scored_nonmembers").y) for r in range(len(experiment.seeds)))


def header(experiment: Experiment, methods: Collection[str]) -> dict[str, Any]:
    """The part of the results that describes the run: data, recipe, splits, versions, notes."""
    recipe, split = experiment.recipe, experiment.splits[0]
    parts = ("members", "reference", "nonmembers", "known_members", "known_nonmembers")
    return {
        "dataset": experiment.dataset.title,
        "network": recipe.network,
        "device": device_name(),
        "precision": precision(),
        "seeds": experiment.seeds,
        "threads": experiment.threads,
        "versions": versions(),
        "recipe": dataclasses.asdict(recipe),
        "data_sha256": experiment.dataset.sha256,
        "splits": {part: len(getattr(split, part)) for part in parts} | {"sha256": splits_sha256(experiment.splits)},
        **_groups(experiment),
        "notes": [*_notes(experiment, methods), *_losses(experiment)],
        "dropped": experiment.dropped,
    }


def _losses(experiment: Experiment) -> list[str]:
    """The seeds that were dropped from the comparison, and why."""
    if not experiment.dropped:
        return []
    lost = "; ".join(f"seed {of['seed']} in {of['method']} ({of['reason']})" for of in experiment.dropped)
    return [f"dropped, from all methods, so that differences stay paired by seed: {lost}"]


def _groups(experiment: Experiment) -> dict[str, Any]:
    """{"unit": "group", "groups": {part: how many groups it has, one number a seed}} where the attacks count groups,
    else {}."""
    if experiment.dataset.groups is None:
        return {}
    seeds, parts = range(len(experiment.seeds)), ("members", "nonmembers", "scored_members", "scored_nonmembers")
    return {"unit": "group", "groups": {part: [len(experiment.units(r, part).y) for r in seeds] for part in parts}}


def _notes(experiment: Experiment, methods: Collection[str]) -> list[str]:
    """Notes for readers of the table: refusals, and what each control controls for."""
    recipe, scored_nonmembers = experiment.recipe, _scored_nonmembers(experiment)
    of = "" if experiment.dataset.groups is None else "groups of "
    notes = [
        f"TPR at {fpr:.1%} FPR is refused: it needs at least {needed_nonmembers(fpr):,} scored {of}non-members, "
        f"there are {scored_nonmembers:,}"
        for fpr in FALSE_POSITIVE_RATES
        if scored_nonmembers < needed_nonmembers(fpr)
    ]
    decays = [plan.weight_decay for plan in (recipe.dense, recipe.prune, recipe.retrain)]
    pruning = recipe.pruning_epochs - recipe.retrain.epochs
    notes.append(
        f"dense networks train for {recipe.dense.epochs} epochs, pruned ones for {pruning} + "
        f"{recipe.retrain.epochs} more, with weight decay {decays[0]:g}, {decays[1]:g}, {decays[2]:g}; prune-1 has the "
        "same training without pruning, so it is the control for the schedule"
    )
    if any(method.startswith("magnitude-") for method in methods):
        notes.append(
            "magnitude-... is the control for ADMM: the same epochs without its penalty, then one-shot magnitude "
            "pruning and the same retraining"
        )
    if any(method.startswith("early-stop") for method in methods):
        notes.append("the epoch of early stopping is chosen on the attacker's non-members, none of which is scored")
    if recipe.scheme != "unstructured":
        whole = f"; {' and '.join(recipe.exempt)} exempt" if recipe.exempt else ""
        notes.append(f"scheme {recipe.scheme}: the keep ratio is the share of groups of weights in each layer{whole}")
    if recipe.members is None:
        notes.append("the non-members are the official test set: any difference to the training set counts as leakage")
    if any(method.startswith(PRIVATE) for method in methods):
        notes.append(f"no epsilon covers {NOT_COVERED}")
    if any(method.startswith(f"early-stop-{PRIVATE}") for method in methods):
        notes.append("early-stop-dp-... is the baseline, stopped where its accuracy reaches that of dp-...")
    if not recipe.minmax:
        notes.append("no Min-Max game was played: its lambda is 0")
    for suffix, keep in zip(["", *(f"-{keep_name(keep)}" for keep in recipe.keep[1:])], recipe.keep, strict=True):
        if not {f"early-stop{suffix}", f"small-dense{suffix}"}.isdisjoint(methods):
            notes.append(
                f"early-stop{suffix} is the baseline, stopped where its accuracy reaches that of "
                f"prune-{keep_name(keep)}, seed by seed; small-dense{suffix} is dense with at most as many weights"
            )
    return notes


def write_results(results: dict[str, Any], curves: dict[str, dict[str, np.ndarray]], out: str | os.PathLike) -> None:
    """Write results.json and curves.h5 to the folder `out`, each whole or not at all."""
    out = pathlib.Path(out)
    with new_file(out / "curves.h5") as file:
        for method, arrays in curves.items():
            for name, values in sorted(arrays.items()):  # the same order whether or not the run was interrupted
                file.create_dataset(f"{method}/{name}", data=values)
    write_json(results, out / "results.json")


def read_results(folder: str | os.PathLike) -> dict[str, Any]:
    """The results.json of a folder. Raises DataError, naming the file, where it is missing or not a JSON object."""
    path = pathlib.Path(folder) / "results.json"
    results = read_json(path, "name a folder that `reproduce` wrote")
    if not isinstance(results, dict):
        raise DataError(f"{path}: holds a {type(results).__name__}, expected an object; run `reproduce` again")
    return results
