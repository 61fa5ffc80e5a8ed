"""The shadow-model attacks on every method of a comparison, summarised over its seeds."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

from nanoprune.lab.audit.target import attack_model
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.models.model import Model
from nanoprune.lab.statistics import summary


def attack_methods(
    experiment: Experiment, trained: dict[str, Trained], shadows: int, cache: str | os.PathLike | None = None
) -> dict[str, dict[str, Any]]:
    """For each method {attack: {"accuracy": S, "auc": S, "tpr_at_fpr": {rate: S or None}}}, S as `summary` makes it.

    Each network is attacked by `attack_model` with shadows of its own method and seed; pruned ones also by an attacker
    who has the baseline. Undefended shadows of a seed are trained once. cache: a folder that keeps the shadows.
    """
    found = {}
    with contextlib.nullcontext(cache) if cache else tempfile.TemporaryDirectory() as cache:
        for method, of in trained.items():
            audits = []
            for r in range(len(experiment.seeds)):
                dense = model_of(experiment, trained["baseline"], r) if len(of.steps[r]) > 1 else None
                target = model_of(experiment, of, r)
                arguments = (experiment.dataset, shadows, 0.05, experiment.threads, experiment.progress, dense, cache)
                audits.append(attack_model(target, *arguments)[0]["attacks"])
            found[method] = {name: _over_seeds([audit[name] for audit in audits]) for name in audits[0]}
    return found


def model_of(experiment: Experiment, trained: Trained, r: int) -> Model:
    """The network of the r-th seed as a model file would hold it."""
    recipe, dataset = experiment.recipe, experiment.dataset
    sizes = (recipe.members, recipe.reference, recipe.nonmembers)
    net = trained.net.shard(slice(r, r + 1))
    seed, steps = experiment.seeds[r], trained.steps[r]
    return Model(net, dataset.name, dataset.sha256, *sizes, seed, steps, table=dataset.table)


def _over_seeds(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "accuracy": summary([entry["accuracy"]["value"] for entry in entries]),
        "auc": summary([entry["auc"]["value"] for entry in entries]),
        "tpr_at_fpr": {
            rate: None if None in of else summary([interval["value"] for interval in of])
            for rate in entries[0]["tpr_at_fpr"]
            for of in [[entry["tpr_at_fpr"][rate] for entry in entries]]
        },
    }
