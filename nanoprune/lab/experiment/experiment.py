"""Fleets over seeds: every method trained and attacked, one replica per seed.

Each seed draws its own split and initial weights. The seeds, and for pruning the keep ratios as well, are the replicas
of one fleet. All methods use the same splits, so differences between methods are paired by seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.lab.data import Dataset, Split, make_split
from nanoprune.lab.engine.evaluation import accuracy, evaluation_batch, predict_fleet
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.queue import Queue
from nanoprune.lab.engine.shards import Advance, map_shards, sample_threads, shard_size
from nanoprune.lab.experiment.columns import description_for, fit_columns
from nanoprune.lab.experiment.evaluate import Outcome, Outputs, evaluate
from nanoprune.lab.experiment.fleet import Job, TrainedShard, joined, train_jobs, train_shard
from nanoprune.lab.experiment.masks import masked_step
from nanoprune.lab.experiment.memory import check_memory, resident
from nanoprune.lab.experiment.queries import label_queries, queried
from nanoprune.lab.experiment.recipes import Keep, Recipe
from nanoprune.lab.experiment.rewind import early_epoch, epochs_in_all, rewind, rewound_step
from nanoprune.lab.experiment.shard import Shard, generators
from nanoprune.lab.privacy.accounting import summary_line
from nanoprune.lab.statistics.units import Units, units_of
from nanoprune.lab.storage.checkpoint import Checkpoints, Saved, Slot
from nanoprune.lab.zoo import build
from nanoprune.nn import Network
from nanoprune.records import Records

KNOWN = ("known_members", "known_nonmembers")


class Progress:
    """Progress reports of a run; this class discards them."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more steps of the stage are done; called from worker threads."""


def probabilities(logits: np.ndarray) -> np.ndarray:
    """softmax over the last axis, in float64, which has fewer ties among confident predictions."""
    return softmax(logits.astype(np.float64), axis=-1)


@dataclasses.dataclass
class Trained:
    """The networks of one method, one replica per seed, and the curves recorded in training, name -> (seeds, n).

    steps: for each seed how its network was made, as in a model file. outputs: the deployed model's output for logits
    (seeds, n, classes): probabilities of that shape, float64. It must keep the predicted class: the label-only attack
    takes the labels from the logits.
    """

    net: Network
    curves: dict[str, np.ndarray]
    steps: list[list[dict[str, Any]]]
    status: list[str] | None = None  # of ADMM, one per seed; None where it did not run
    note: str | None = None  # for the notes of the results
    outputs: Callable[[np.ndarray], np.ndarray] = probabilities
    privacy: dict[str, Any] | None = None  # the budget that was spent, see `lab.privacy.accounting.statement`

    def of(self, seeds: list[int]) -> Trained:
        """The networks of some of the seeds, given by their positions."""
        curves = {name: values[seeds] for name, values in self.curves.items()}
        steps, status = [self.steps[r] for r in seeds], self.status and [self.status[r] for r in seeds]
        changes = {"curves": curves, "steps": steps, "status": status, "outputs": self._outputs_of(seeds)}
        return dataclasses.replace(self, net=self.net.copy(seeds), **changes)

    def _outputs_of(self, seeds: list[int]) -> Callable[[np.ndarray], np.ndarray]:
        """`outputs` for some of the seeds: the function may differ between seeds."""

        def outputs(logits: np.ndarray) -> np.ndarray:
            all_logits = np.zeros((self.net.replicas, *logits.shape[1:]), logits.dtype)  # (seeds, n, classes)
            all_logits[seeds] = logits
            return self.outputs(all_logits)[seeds]

        return outputs


class Experiment:
    """A data set, a recipe and seeds; the methods below train fleets. The order of the calls changes no result.

    Each seed draws its split, unless `splits` has one per seed. description: of the network, where it is another one
    than the recipe's. checkpoints: where training is saved and resumed from,
    if anywhere. dropped: a record for each seed with a replica that diverged; `without_dropped` compares the others.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        seeds: Sequence[int],
        threads: int,
        progress: Progress | None = None,
        splits: Sequence[Split] | None = None,
        checkpoints: Checkpoints | None = None,
        description: dict[str, Any] | None = None,
    ) -> None:
        if not seeds:
            raise ArgumentError("seeds must be at least 1, got 0")
        self.dataset, self.recipe, self.seeds, self.threads = dataset, recipe, list(seeds), threads
        self.progress, self.checkpoints = progress or Progress(), checkpoints
        self.queue = Queue(lambda jobs: train_jobs(jobs, threads, self.progress))
        self.dropped: list[dict[str, Any]] = []
        sizes = (recipe.members, recipe.reference, recipe.nonmembers)
        self.splits = list(splits) if splits else [make_split(dataset, *sizes, seed) for seed in self.seeds]
        self.records = Records(dataset.x, dataset.y)
        self.queries = label_queries(dataset)
        self.description = description or description_for(dataset, recipe)
        self._check(drawn=not splits)

    def _check(self, drawn: bool) -> None:
        """Raise errors now that would otherwise appear after hours of training."""
        net = build(self.description, replicas=1)
        for keep in self.recipe.keep:
            self.recipe.budget(net, keep)
        replicas = len(self.seeds) * len(self.recipe.keep)
        check_memory(net, replicas, self.recipe, self.threads, resident(self.dataset.x, self.threads))
        seeds = range(len(self.seeds)) if drawn else ()
        known = min((len(self.units(r, part).y) for r in seeds for part in KNOWN), default=4)
        if known < 4:
            of = "" if self.dataset.groups is None else " groups"
            raise ArgumentError(
                f"members and nonmembers must be enough for the attacker to know 4{of} of each, which are half of "
                f"them; it would know {known}"
            )
        if self.recipe.minmax and self.recipe.reference < 2:
            raise ArgumentError(f"reference must be at least 2 for the Min-Max game, got {self.recipe.reference}")

    def with_recipe(self, recipe: Recipe) -> Experiment:
        """The same records, splits and seeds with another recipe."""
        experiment = Experiment(
            self.dataset, recipe, self.seeds, self.threads, self.progress, self.splits, self.checkpoints
        )
        experiment.dropped = self.dropped  # the same list: a seed that diverges in one is dropped in both
        experiment.queue = self.queue
        return experiment

    def all_of(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """[call() for each call], where the training of all is in one queue: `engine.queue`."""
        return self.queue.run(calls) if self.threads > 1 else [call() for call in calls]

    def indices(self, part: str) -> np.ndarray:
        """The records of one part of the splits, such as "members"; (seeds, n)."""
        return np.stack([getattr(split, part) for split in self.splits])

    def initial(self, description: dict | None = None, known: str = "members") -> Network:
        """Networks with their initial weights, one a seed. known: the records by which a table's columns are scaled."""
        net = build(description or self.description, len(self.seeds)).initialise(generators(self.seeds, "initial"))
        return fit_columns(net, self.dataset.x, self.indices(known))

    def units(self, r: int, *parts: str) -> Units:
        """What is counted of some parts of the r-th split, such as "members" and "nonmembers": records or groups."""
        split, groups = self.splits[r], self.dataset.groups
        index = np.concatenate([getattr(split, part) for part in parts])
        member = np.concatenate([np.full(len(getattr(split, part)), "nonmembers" not in part) for part in parts])
        group = None if groups is None else groups[index]
        return units_of(self.dataset.y[index], member, self.dataset.classes, group)

    def dense(
        self, method: str, description: dict | None = None, lam: float = 0.0, epochs: int | None = None
    ) -> Trained:
        """Dense networks trained from their initial weights, with the game where lambda > 0, for the first `epochs`."""
        net = self.initial(description)
        steps = [[self.recipe.train_step(lam, epochs)] for _ in self.seeds]
        last = epochs or self.recipe.dense.epochs
        return self.fleet(method, net, steps, last, lambda shard, _: shard.dense(lam, epochs))

    def masked(self, method: str, variant: str, keep: Keep) -> Trained:
        """Networks whose mask is chosen before training; see `Shard.masked`."""
        net, recipe = self.initial(), self.recipe
        ratios, steps = recipe.stages(net, keep)[-1], [[masked_step(recipe, variant, keep)] for _ in self.seeds]
        epochs = recipe.dense.epochs + recipe.prune.epochs + recipe.retrain.epochs
        return self.fleet(method, net, steps, epochs, lambda shard, _: shard.masked(variant, ratios))

    def rewound(self, method: str, keep: Keep, early: int | None = None) -> Trained:
        """Networks that are pruned and rewound again and again; see `rewind`. early: the epoch that is rewound to."""
        net, recipe = self.initial(), self.recipe
        early = early_epoch(recipe) if early is None else early
        ratios, steps = recipe.stages(net, keep)[-1], [[rewound_step(recipe, keep, early)] for _ in self.seeds]
        epochs = epochs_in_all(recipe, early)
        return self.fleet(method, net, steps, epochs, lambda shard, _: rewind(shard, ratios, early))

    def stopped(self, method: str, target: Trained, baseline: Trained) -> Trained:
        """The baseline stopped after the first epoch whose accuracy reaches that of `target`, seed by seed.

        Both accuracies are measured on the non-members that the attacker knows, so no scored record has a part in the
        choice. Where the baseline never reaches it, its last epoch. The same seeds give the same training again, so it
        is run again and stopped, and no weights need to be stored.
        """
        goal = self.accuracies(target.net, "known_nonmembers")  # (seeds,)
        reached = baseline.curves["known_accuracy"] >= goal[:, None]  # (seeds, epochs)
        lost = self._lost()
        epochs = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1])
        epochs[lost] = 1
        trained = self.stopped_after(method, epochs)
        missed = int((~reached.any(axis=1) & ~lost).sum())
        if missed:
            trained.note = f"{method}: not reached in {missed} of {(~lost).sum()} seeds, which kept the last epoch"
        return trained

    def stopped_after(self, method: str, epochs: np.ndarray) -> Trained:
        """The baseline stopped after epochs[r] epochs in seed r, (seeds,). Its curves are NaN from there on."""
        net = self.initial()
        last = int(epochs.max())
        steps = [[self.recipe.train_step(0.0, int(e))] for e in epochs]
        trained = self.fleet(method, net, steps, last, lambda shard, rows: shard.stopped(epochs[rows], last))
        ended = np.arange(last) >= epochs[:, None]  # (seeds, last)
        trained.curves |= {
            n: np.where(ended, np.nan, of) for n, of in trained.curves.items() if of.shape == ended.shape
        }
        trained.curves["stopped_after"] = epochs[:, None]
        return trained

    def validated(self, method: str) -> Trained:
        """Dense networks, each as it was after its best epoch on the reference set; see `Shard.validated`."""
        if self.recipe.reference < 1:
            raise ArgumentError(f"reference must be at least 1 for {method}, which validates on it, got 0")
        net = self.initial()
        steps = [[self.recipe.train_step(0.0)] for _ in self.seeds]
        trained = self.fleet(method, net, steps, self.recipe.dense.epochs, lambda shard, _: shard.validated())
        trained.steps = [[self.recipe.train_step(0.0, int(e))] for e in trained.curves["stopped_after"][:, 0]]
        return trained

    def logits(self, net: Network, part: str) -> np.ndarray:
        """Logits (seeds, n, classes) of the records of one part of the splits."""
        with single_threaded_blas():
            return predict_fleet(net, self.records, self.indices(part), self.threads)

    def pruned(self, dense: Trained, keeps: Sequence[Any], lam: float = 0.0, method: str = "") -> list[Trained]:
        """The dense networks pruned to each keep ratio (a number, or one per layer) as one fleet; one result per ratio.

        recipe.solver says how; see `solvers`. method: its name in checkpoints and messages.
        """
        S = len(self.seeds)
        net = dense.net.copy(list(range(S)) * len(keeps))  # (ratios x seeds) replicas
        steps = [[*before, self.recipe.prune_step(ratios, lam)] for ratios in keeps for before in dense.steps]
        stages = [self.recipe.stages(net, ratios) for ratios in keeps for _ in range(S)]  # of each replica
        method = method or ("prune" if self.recipe.solver == "admm" else self.recipe.solver)
        fleet = self.fleet(
            method + ("+minmax" if lam else ""),
            net,
            steps,
            self.recipe.pruning_epochs,
            lambda shard, rows: shard.pruned(list(zip(*(stages[r] for r in rows), strict=True)), lam),
        )
        parts = [slice(j * S, (j + 1) * S) for j in range(len(keeps))]
        return [
            Trained(
                fleet.net.shard(part),
                {name: values[part] for name, values in fleet.curves.items()},
                fleet.steps[part],
                fleet.status and fleet.status[part],
            )
            for part in parts
        ]

    def private(self, method: str, epsilon: float, variant: str = "dense", keep: Keep | None = None) -> Trained:
        """Networks trained with DP-SGD within `epsilon` from their initial weights; variants as in `Shard.private`."""
        members = self.indices("members").shape[1]
        return self.private_by(method, self.recipe.private_noise(members, epsilon), variant, keep)

    def private_by(self, method: str, noise: float, variant: str = "dense", keep: Keep | None = None) -> Trained:
        """The same with a given noise multiplier."""
        net = self.initial(known="reference")  # nothing may be computed from the members beside DP-SGD
        stages = () if keep is None else self.recipe.stages(net, keep)
        step = self.recipe.private_step(self.indices("members").shape[1], noise, variant, keep)
        trained = self.fleet(
            method,
            net,
            [[step] for _ in self.seeds],
            self.recipe.private.epochs,
            lambda shard, rows: shard.private(noise, variant, [[ratios] * shard.net.replicas for ratios in stages]),
        )
        by = "; columns scaled by the reference set, which is public" if self.dataset.table else ""
        trained.privacy, trained.note = step["privacy"], f"{method}: {summary_line(step['privacy'])}{by}"
        return trained

    def _lost(self) -> np.ndarray:
        """Which seeds were dropped, (seeds,) bool."""
        return np.isin(self.seeds, [record["seed"] for record in self.dropped])

    def without_dropped(self, trained: dict[str, Trained]) -> tuple[Experiment, dict[str, Trained]]:
        """The comparison of the seeds that diverged in no method, so that differences stay paired by seed."""
        left = np.flatnonzero(~self._lost()).tolist()
        seeds, splits = ([of[i] for i in left] for of in (self.seeds, self.splits))
        experiment = Experiment(self.dataset, self.recipe, seeds, self.threads, self.progress, splits, self.checkpoints)
        experiment.dropped = self.dropped
        return experiment, {method: of.of(left) for method, of in trained.items()}

    def accuracies(self, net: Network, part: str) -> np.ndarray:
        """Share of the records of `part` that the network of each seed classifies correctly, (seeds,)."""
        index = self.indices(part)
        with single_threaded_blas():
            size = shard_size(net, evaluation_batch(net), self.threads)
            shards = map_shards(
                lambda rows: accuracy(net.shard(rows), self.records, index[rows]), net.replicas, self.threads, size
            )
        return np.concatenate(shards)

    def attack(self, trained: dict[str, Trained]) -> dict[str, dict[str, Outcome]]:
        """Every attack on the outputs of every method: fitted on the known records, measured on the scored ones.

        Every method is attacked in the same way: the same generators, seed by seed, and the same label-only queries.
        """
        S = len(self.seeds)
        self.progress.start("attack", S * len(trained))
        sources = [generator for _ in trained for generator in generators(self.seeds, "attack")]
        with single_threaded_blas():
            known, scored = (self._outputs(list(trained.values()), share) for share in ("known", "scored"))
            outcomes = evaluate(known, scored, sources, self.threads, self.progress.advance, self._attack_slot)
        rows = {method: slice(i * S, (i + 1) * S) for i, method in enumerate(trained)}
        return {method: {name: o.of(of) for name, o in outcomes.items()} for method, of in rows.items()}

    def _attack_slot(self, r: int, outputs: str) -> Slot | None:
        return self.checkpoints and self.checkpoints.slot("attack", slice(r, r + 1), outputs)

    def _outputs(self, trained: list[Trained], share: str) -> Outputs:
        """The outputs of all methods on one share of the splits; as many known members as known non-members."""
        parts = [self.indices(f"{share}_{part}") for part in ("members", "nonmembers")]
        if share == "known":
            parts = [part[:, : min(p.shape[1] for p in parts)] for part in parts]
        index = np.concatenate(parts, axis=1)  # (seeds, n)
        member = np.repeat([True, False], [part.shape[1] for part in parts])
        p, right = [], []
        for of in trained:
            logits = predict_fleet(of.net, self.records, index, self.threads)  # (seeds, n, classes)
            p.append(of.outputs(logits))
            right.append(queried(of.net, self.records, index, self.queries, self.threads))
        y = np.tile(self.dataset.y[index], (len(trained), 1))  # (methods x seeds, n)
        groups = self.dataset.groups
        group = None if groups is None else np.tile(groups[index], (len(trained), 1))  # (methods x seeds, n)
        return Outputs(np.concatenate(p), y, member, np.concatenate(right), group)

    def fleet(
        self, method: str, net: Network, steps: list, epochs: int, run: Callable[[Shard, list[int]], list[str] | None]
    ) -> Trained:
        """Run `run` on every shard of the fleet, replicas (k x seeds), and join the results.

        A seed that was dropped before is not trained.
        """
        S, spread = len(self.seeds), sample_threads(net, self.recipe.dense.batch, self.threads)
        parts = [self.indices(part) for part in ("members", "reference", "nonmembers")]
        lost = self._lost()

        def train(rows: slice, advance: Advance) -> TrainedShard | None:
            def make(replicas: list[int], saved: Saved | None) -> Shard:
                of = np.array(replicas) % S  # replica -> the position of its seed
                seeds, records = [self.seeds[i] for i in of], (self.records, *(part[of] for part in parts))
                about = (self.recipe, ProcessGroup(spread), advance)
                known = len(self.splits[0].known_nonmembers)  # the first of the non-members
                return Shard(method, net.copy(replicas), seeds, *records, *about, slot=slot, saved=saved, known=known)

            replicas = [r for r in range(net.replicas)[rows] if not lost[r % S]]
            slot = self.checkpoints and self.checkpoints.slot(method, rows, steps[rows])
            return train_shard(net, replicas, make, run, slot) if replicas else None

        with single_threaded_blas():
            size = shard_size(net, max(self.recipe.dense.batch, evaluation_batch(net)), self.threads)
            shards = self.queue.ask(Job(method, net.replicas, size, epochs, spread > 1, train))
        return self._together(method, net, steps, shards)

    def _together(self, method: str, net: Network, steps: list, shards: list[TrainedShard]) -> Trained:
        """The fleet of the shards; a seed with a replica that diverged is dropped."""
        for r, reason in (item for shard in shards for item in shard.dropped.items()):
            seed = self.seeds[r % len(self.seeds)]
            if not self._lost()[r % len(self.seeds)]:
                self.dropped.append({"seed": seed, "method": method, "reason": reason})
        if len(self.dropped) == len(self.seeds):
            raise DivergenceError(self.dropped[-1]["reason"])  # no seed is left
        curves, status = joined(net, [shard for shard in shards if shard.left])
        return Trained(net, curves, steps, status)
