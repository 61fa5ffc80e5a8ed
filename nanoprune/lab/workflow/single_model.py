"""The single-model workflow: one network is trained, pruned, made smaller, and kept in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError, DataError, DivergenceError
from nanoprune.lab.audit.canaries import canaries_of
from nanoprune.lab.data import Dataset, Split, make_split
from nanoprune.lab.data.canaries import draw_canaries
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run_folder import Run, identity
from nanoprune.lab.engine.shards import sample_threads
from nanoprune.lab.experiment.columns import description_for, fit_columns
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.fleet import TrainedShard, train_shard
from nanoprune.lab.experiment.memory import check_memory, resident
from nanoprune.lab.experiment.recipes import Keep, Recipe
from nanoprune.lab.experiment.shard import Shard, generators
from nanoprune.lab.models.model import Model, check_records, load_model
from nanoprune.lab.privacy.accounting import delta_warning
from nanoprune.lab.shrink import shrink
from nanoprune.lab.storage.checkpoint import Saved, differences, warn
from nanoprune.lab.zoo import build, widths_of
from nanoprune.lab.zoo.keep_ratios import layer_names
from nanoprune.nn import Network
from nanoprune.prune import Budget
from nanoprune.prune.admm import Iteration
from nanoprune.records import Records

ZEROS = 0.01  # share of a layer's weights that may be zero in a network that was never pruned


def train_model(
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    threads: int,
    progress: Progress | None = None,
    epsilon: float | None = None,
    run: Run | None = None,
    split: Split | None = None,
    canaries: int = 0,
) -> Model:
    """One dense network by the recipe, with the game where its lambda > 0, on the split that `seed` draws.

    epsilon: the budget of DP-SGD, if the network is to be trained with it; the model's step says what was spent. run:
    where training is resumed, if it was interrupted; the model of a finished run is read. split: another one than
    `seed` draws, of the recipe's sizes. canaries: mislabelled records that are inserted by coins (`lab.data.canaries`).
    Raises ArgumentError where the run has a model that was made in another way, or so many canaries cannot be had.
    """
    progress = progress or Progress()
    net = build(description_for(dataset, recipe)).initialise(generators([seed], "initial"))
    sizes = {"members": recipe.members, "reference": recipe.reference, "nonmembers": recipe.nonmembers}
    names = None if dataset.class_names is None else list(dataset.class_names)
    about = {"class_names": names, "table": dataset.table}
    model = Model(net, dataset.name, dataset.sha256, **sizes, seed=seed, steps=[], **about)
    own, split = dataset, split or _split(model, dataset)
    drawn, scored = draw_canaries(dataset, split, canaries, seed) if canaries else None, split
    if drawn:
        dataset, split = drawn.trained_on(dataset, split)
    fit_columns(net, dataset.x, (split.members if epsilon is None else split.reference)[None])
    if epsilon is None:
        step = recipe.train_step(recipe.minmax)
    else:
        members = len(split.members)
        if warning := delta_warning(recipe.private.delta, members):
            warn(warning)
        noise = recipe.private_noise(members, epsilon)
        step = recipe.private_step(members, noise, "dense", None)
    step |= {"canaries": drawn.record()} if drawn else {}

    def train(shard: Shard) -> None:
        shard.dense(recipe.minmax) if epsilon is None else shard.private(noise, "dense")

    progress.start(f"train {recipe.network}", recipe.private.epochs if epsilon else recipe.dense.epochs)
    return with_accuracy(
        _made("train", model, dataset, split, recipe, threads, progress, train, run, step), own, scored
    )


def prune_model(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    keep: Keep,
    threads: int,
    progress: Progress | None = None,
    solved: Callable[[Iteration], None] = lambda iteration: None,
    run: Run | None = None,
    split: Split | None = None,
) -> Model:
    """A pruned copy of `model`: ADMM, hard prune and masked retraining on the members that it was trained on.

    solved(iteration) is called after each ADMM iteration. run, split: as in `train_model`. Raises DataError where
    `dataset` is not what the model was trained on or the model was trained with DP-SGD, ArgumentError where `keep`
    would give back weights that were pruned before.
    """
    _check_prunable(model, dataset)
    stages = recipe.stages(model.net, keep)
    _check_kept(model.net, recipe.budget(model.net, keep))
    progress = progress or Progress()
    pruned = dataclasses.replace(model, net=model.net.copy(), steps=list(model.steps))

    def prune(shard: Shard) -> list[str]:
        return shard.pruned(stages, recipe.minmax)

    progress.start("prune and retrain", recipe.pruning_epochs)
    step = recipe.prune_step(keep, recipe.minmax)
    own, scored = dataset, split or _split(model, dataset)
    split = scored
    if canaries := canaries_of(model, dataset):
        dataset, split = canaries.trained_on(dataset, split)
    of = _made("prune", pruned, dataset, split, recipe, threads, progress, prune, run, step, solved)
    return with_accuracy(of, own, scored)


def _check_prunable(model: Model, dataset: Dataset) -> None:
    check_records(model, dataset)
    if any(step["step"] == "private" for step in model.steps):
        raise DataError(
            "the model was trained with DP-SGD, and pruning it on its members would spend budget that is not counted; "
            "`reproduce --methods private` prunes within one"
        )


def _check_kept(net: Network, budget: Budget) -> None:
    """Raises ArgumentError where the budget is larger than what an earlier pruning left of a layer, or of all layers.

    The W-steps train all weights: those that were pruned would come back without a word.
    """
    names = layer_names(net) if len(budget.parts) == len(layer_names(net)) else ["the network"]
    for name, part, most in zip(names, budget.parts, budget.max_nonzero(), strict=True):
        W = to_host(net.W[0][part])
        left = int((W != 0).sum())
        if left < (1 - ZEROS) * W.size and most > left:
            ratio = math.floor(1e4 * left / W.size) / 1e4
            raise ArgumentError(
                f"keep: {name} has {left:,} of {W.size:,} weights left and would have up to {most:,}, so that pruned "
                f"weights came back; keep at most {ratio:g}, or prune the dense model"
            )


def shrunk(model: Model) -> Model:
    """The model without units that do not change its outputs, which are the same up to rounding (`prune.shrink`)."""
    step = {"step": "shrink", "widths": widths_of(model.net.description)}  # the widths before
    return dataclasses.replace(model, net=shrink(model.net), steps=[*model.steps, step])


def with_accuracy(model: Model, dataset: Dataset, split: Split | None = None) -> Model:
    """The model with its accuracies on all members and on all held-out records, where there are some, in its last step.

    split: as in `train_model`. A step that has them already is left alone; canaries are not among the members here.
    """
    if "accuracy" in model.steps[-1]:
        return model
    split, records = split or _split(model, dataset), Records(dataset.x, dataset.y)
    parts = {"train": split.members, "test": split.nonmembers}
    with single_threaded_blas():
        found = {name: float(accuracy(model.net, records, of[None])[0]) for name, of in parts.items() if len(of)}
    last = model.steps[-1] | {"accuracy": found}
    return dataclasses.replace(model, steps=[*model.steps[:-1], last])


def summary_line(model: Model, dataset: Dataset) -> str:
    """One line: accuracies on all members and on all held-out records, nonzero weights, compression."""
    if "accuracy" not in model.steps[-1]:  # of a file from before they were kept
        model = with_accuracy(model, dataset)
    found, held_out = model.steps[-1]["accuracy"], len(_split(model, dataset).nonmembers)
    nonzero, weights = int(model.net.nonzero()[0]), model.net.weight_count
    return (
        f"accuracy train {100 * found['train']:.2f}% test {100 * found['test']:.2f}% (all {held_out:,} held-out "
        f"records), nonzero {nonzero:,} of {weights:,} weights, compression {weights / max(nonzero, 1):.1f}x"
    )


def _adversary(ended: TrainedShard) -> dict[str, Any]:
    """For auditors: how often the game's adversary was updated, and its loss and accuracy in the last epoch."""
    if "adversary_loss" not in ended.curves:
        return {}
    last = {name: float(ended.curves[f"adversary_{name}"][0, -1]) for name in ("loss", "accuracy")}
    return {"adversary": {"updates": int(ended.curves["adversary_updates"][0, -1])} | last}


def _split(model: Model, dataset: Dataset) -> Split:
    return make_split(dataset, model.members, model.reference, model.nonmembers, model.seed)


def _made(
    method: str,
    model: Model,
    dataset: Dataset,
    split: Split,
    recipe: Recipe,
    threads: int,
    progress: Progress,
    train: Callable[[Shard], list[str] | None],
    run: Run | None,
    step: dict[str, Any],
    solved: Callable[[Any], None] = lambda iteration: None,
) -> Model:
    """`model` with its network trained in place and `step` added to its history; or, of a finished run, its model.

    One replica; its batches are divided among several processes where that pays.
    """
    slot, steps = None, [*model.steps, step]
    check_memory(model.net, 1, recipe, threads, resident(dataset.x, threads))
    if run:
        weights = hashlib.sha256(to_host(model.net.theta).tobytes()).hexdigest()  # the initial ones
        run.begin(identity(dataset, recipe, [model.seed], threads, [split], made=steps, begins_with=weights))
        if run.finished:
            return _finished(run, model, steps)
        slot = run.checkpoints.slot(method, slice(0, 1), steps)
    parts = [getattr(split, name)[None] for name in ("members", "reference", "nonmembers")]
    about = (recipe, ProcessGroup(sample_threads(model.net, recipe.dense.batch, threads)), progress.advance, solved)

    def make(_: list[int], saved: Saved | None) -> Shard:
        return Shard(method, model.net, [model.seed], Records(dataset.x, dataset.y), *parts, *about, slot, saved)

    with single_threaded_blas():
        ended = train_shard(model.net, [0], make, lambda shard, _: train(shard), slot)
    if ended.dropped:
        raise DivergenceError(ended.dropped[0])
    model.net.theta[...], model.net.state[...] = to_device(ended.theta), to_device(ended.state)
    status = {"status": ended.status[0]} if ended.status else {}
    model.steps.append(step | status | _adversary(ended))
    return model


def _finished(run: Run, wanted: Model, steps: list[dict[str, Any]]) -> Model:
    """The model of a finished run. Raises ArgumentError where it was not made as it is wanted now."""
    found = load_model(run.product)
    names = ("dataset", "data_sha256", "members", "reference", "nonmembers", "seed")
    is_, was = ({name: getattr(model, name) for name in names} for model in (wanted, found))
    planned = json.loads(json.dumps(steps))  # lists for tuples, as the file has them
    done = [
        {name: of[name] for name in plan if name in of} for plan, of in zip(planned, found.steps, strict=False)
    ]  # but for what became of it
    different = differences(was | {"steps": done}, is_ | {"steps": planned})
    if different or len(found.steps) != len(planned):
        raise ArgumentError(
            f"{run.product} already exists, and was made in another way: {different or 'another number of steps'}; "
            "--overwrite makes it again, another --out keeps it"
        )
    return found
