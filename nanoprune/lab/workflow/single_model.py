"""The practitioner's path: one network trained, pruned, and kept in a file."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

from nanoprune.backend import to_device, to_host
from nanoprune.errors import DataError, DivergenceError
from nanoprune.lab.data import Dataset, Split, make_split
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.folder import Run, identity
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.shards import sample_threads
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.fleet import Ended, train_shard
from nanoprune.lab.experiment.memory import check_memory, resident
from nanoprune.lab.experiment.recipes import Keep, Recipe
from nanoprune.lab.experiment.shard import Shard, generators
from nanoprune.lab.models.model import Model
from nanoprune.lab.shrink import shrink
from nanoprune.lab.storage.checkpoint import Saved
from nanoprune.lab.zoo import build, describe, widths_of
from nanoprune.prune.admm import Iteration
from nanoprune.records import Records


def train_model(
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    threads: int,
    progress: Progress | None = None,
    epsilon: float | None = None,
    run: Run | None = None,
) -> Model:
    """One dense network by the recipe, with the game where its lambda > 0, on the split that `seed` draws.

    epsilon: the budget, where it is to be trained with DP-SGD; what was spent is then in the model's step. With a `run`
    it goes on where that was interrupted.
    """
    progress = progress or Progress()
    size = (dataset.x.shape[1:], dataset.classes, recipe.widths)
    description = describe(recipe.network, *size, dropout=recipe.dropout)
    net = build(description).initialise(generators([seed], "initial"))
    model = Model(net, dataset.name, dataset.sha256, recipe.members, recipe.reference, recipe.nonmembers, seed, [])
    progress.start(f"train {recipe.network}", recipe.private.epochs if epsilon else recipe.dense.epochs)
    if epsilon is None:
        step = recipe.train_step(recipe.minmax)
    else:
        members = len(_split(model, dataset).members)
        noise = recipe.private_noise(members, epsilon)
        step = recipe.private_step(members, noise, "dense", None)

    def train(shard: Shard) -> None:
        shard.dense(recipe.minmax) if epsilon is None else shard.private(noise, "dense")

    ended = _train("train", model, dataset, recipe, threads, progress, train, run, step)
    model.steps.append(step | _adversary(ended))
    return model


def prune_model(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    keep: Keep,
    threads: int,
    progress: Progress | None = None,
    solved: Callable[[Iteration], None] = lambda iteration: None,
    run: Run | None = None,
) -> Model:
    """A pruned copy of `model`: ADMM, hard prune and masked retraining on the members that it was trained on.

    solved(iteration) is called after each ADMM iteration. With a `run` it goes on where that was interrupted. Raises
    DataError if `dataset` is not what it was.
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
    stages = recipe.stages(model.net, keep)
    pruned = dataclasses.replace(model, net=model.net.copy(), steps=list(model.steps))
    progress.start("prune and retrain", recipe.pruning_epochs)
    step = recipe.prune_step(keep, recipe.minmax)

    def prune(shard: Shard) -> list[str]:
        return shard.pruned(stages, recipe.minmax)

    made = [*model.steps, step]
    ended = _train("prune", pruned, dataset, recipe, threads, progress, prune, run, made, solved)
    pruned.steps.append(step | ({"status": ended.status[0]} if ended.status else {}) | _adversary(ended))
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


def _adversary(ended: Ended) -> dict[str, Any]:
    """What became of the game's adversary, for auditors: its updates, and loss and accuracy in the last epoch."""
    if "adversary_loss" not in ended.curves:
        return {}
    last = {name: float(ended.curves[f"adversary_{name}"][0, -1]) for name in ("loss", "accuracy")}
    return {"adversary": {"updates": int(ended.curves["adversary_updates"][0, -1])} | last}


def _split(model: Model, dataset: Dataset) -> Split:
    return make_split(dataset, model.members, model.reference, model.nonmembers, model.seed)


def _train(
    method: str,
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    threads: int,
    progress: Progress,
    train: Callable[[Shard], list[str] | None],
    run: Run | None,
    made: Any,
    solved: Callable[[Any], None] = lambda iteration: None,
) -> Ended:
    """Train the model's network in place: one replica, whose batches several processes share out where that pays.

    made: plain data, how it is made.
    """
    split, slot = _split(model, dataset), None
    check_memory(model.net, 1, recipe, threads, resident(dataset.x, threads))
    if run:
        weights = hashlib.sha256(to_host(model.net.theta).tobytes()).hexdigest()  # what it begins with
        run.begin(identity(dataset, recipe, [model.seed], threads, [split], made=made, begins_with=weights))
        slot = run.checkpoints.slot(method, slice(0, 1), made)
    parts = [getattr(split, name)[None] for name in ("members", "reference", "nonmembers")]
    about = (recipe, ProcessGroup(sample_threads(model.net, recipe.dense.batch, threads)), progress.advance, solved)

    def make(_: list[int], saved: Saved | None) -> Shard:
        return Shard(method, model.net, [model.seed], Records(dataset.x, dataset.y), *parts, *about, slot, saved)

    with single_threaded_blas():
        ended = train_shard(model.net, [0], make, lambda shard, _: train(shard), slot)
    if ended.dropped:
        raise DivergenceError(ended.dropped[0])
    model.net.theta[...], model.net.state[...] = to_device(ended.theta), to_device(ended.state)
    return ended
