"""The practitioner's path: one network trained, pruned, and kept in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.batch import Records, accuracy
from nanoprune.data import Dataset, Split, make_split
from nanoprune.errors import DataError
from nanoprune.experiment import Progress
from nanoprune.methods import Shard, generators
from nanoprune.model import Model
from nanoprune.nn import Network
from nanoprune.parallel import single_threaded_blas
from nanoprune.prune import layer_ratios, shrink
from nanoprune.prune.admm import Iteration
from nanoprune.recipes import Keep, Recipe
from nanoprune.shards import sample_threads
from nanoprune.zoo import build, describe, widths_of


def train_model(
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    threads: int,
    progress: Progress | None = None,
    epsilon: float | None = None,
) -> Model:
    """One dense network by the recipe, with the game where its lambda > 0, on the split that `seed` draws.

    epsilon: the budget, where it is to be trained with DP-SGD; what was spent is then in the model's step.
    """
    progress = progress or Progress()
    size = (dataset.x.shape[1:], dataset.classes, recipe.widths)
    description = describe(recipe.network, *size, dropout=recipe.dropout)
    net = build(description).initialise(generators([seed], "initial"))
    model = Model(net, dataset.name, dataset.sha256, recipe.members, recipe.reference, recipe.nonmembers, seed, [])
    shard = _shard("train", model, dataset, recipe, threads, progress)
    progress.start(f"train {recipe.network}", recipe.private.epochs if epsilon else recipe.dense.epochs)
    with single_threaded_blas():
        if epsilon is None:
            shard.dense(recipe.minmax)
            model.steps.append(recipe.train_step(recipe.minmax) | _adversary(shard))
        else:
            members = shard.members.shape[1]
            noise = recipe.private_noise(members, epsilon)
            shard.private(noise, "dense")
            model.steps.append(recipe.private_step(members, noise, "dense", None))
    return model


def prune_model(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    keep: Keep,
    threads: int,
    progress: Progress | None = None,
    solved: Callable[[Iteration], None] = lambda iteration: None,
) -> Model:
    """A pruned copy of `model`: ADMM, hard prune and masked retraining on the members that it was trained on.

    solved(iteration) is called after each ADMM iteration. Raises DataError if `dataset` is not what it was.
    """
    if dataset.sha256 != model.data_sha256:
        raise DataError(f"{dataset.name}: not the records that the model was trained on; point --data-dir to those")
    if model.net.input_shape != dataset.x.shape[1:] or model.net.output_shape != (dataset.classes,):
        raise DataError(
            f"the model maps {model.net.input_shape} to {model.net.output_shape}: not made for {dataset.name}"
        )
    if any(step["step"] == "private" for step in model.steps):
        raise DataError(
            "the model was trained with DP-SGD, and pruning it on its members would spend a budget that nobody counts; "
            "`reproduce --methods private` prunes within one"
        )
    progress = progress or Progress()
    ratios = layer_ratios(model.net, keep, recipe.scope, recipe.exempt)
    pruned = dataclasses.replace(model, net=model.net.copy(), steps=list(model.steps))
    shard = _shard("prune", pruned, dataset, recipe, threads, progress, solved)
    progress.start("prune and retrain", recipe.pruning_epochs)
    with single_threaded_blas():
        (status,) = shard.pruned(ratios, recipe.minmax)
    pruned.steps.append(recipe.prune_step(keep, recipe.minmax) | {"status": status} | _adversary(shard))
    return pruned


def shrunk(model: Model) -> Model:
    """The model without the units that it does not need: the same outputs up to rounding (`prune.shrink`)."""
    step = {"step": "shrink", "widths": widths_of(model.net.description)}  # the widths that it was trained with
    return dataclasses.replace(model, net=shrink(model.net), steps=[*model.steps, step])


def summary_line(model: Model, dataset: Dataset) -> str:
    """Accuracies on all members and all held-out records, nonzero weights and compression in one line."""
    split = _split(model, dataset)
    records = Records(dataset.x, dataset.y)
    with single_threaded_blas():
        train, test = (float(accuracy(model.net, records, part[None])[0]) for part in (split.members, split.nonmembers))
    nonzero, weights = int(model.net.nonzero()[0]), model.net.weight_count
    return (
        f"accuracy train {100 * train:.2f}% test {100 * test:.2f}% (all {len(split.nonmembers):,} held-out records), "
        f"nonzero {nonzero:,} of {weights:,} weights, compression {weights / max(nonzero, 1):.1f}x"
    )


def _adversary(shard: Shard) -> dict[str, Any]:
    """What became of the game's adversary, for auditors: its updates, and loss and accuracy in the last epoch."""
    losses = shard.curves.get("adversary_loss")
    if not losses:
        return {}
    last = {name: float(shard.curves[f"adversary_{name}"][-1][0]) for name in ("loss", "accuracy")}
    return {"adversary": {"updates": int(shard.curves["adversary_updates"][-1][0])} | last}


def _split(model: Model, dataset: Dataset) -> Split:
    return make_split(dataset, model.members, model.reference, model.nonmembers, model.seed)


def _shard(
    method: str,
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    threads: int,
    progress: Progress,
    solved: Callable[[Any], None] = lambda iteration: None,
) -> Shard:
    """One replica, with the threads on the samples of its batches where that pays."""
    split = _split(model, dataset)
    threads = sample_threads(model.net, recipe.dense.batch, threads)
    parts: list[np.ndarray] = [getattr(split, name)[None] for name in ("members", "reference", "nonmembers")]
    net: Network = model.net
    return Shard(
        method, net, [model.seed], Records(dataset.x, dataset.y), *parts, recipe, threads, progress.advance, solved
    )
