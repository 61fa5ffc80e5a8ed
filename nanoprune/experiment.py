"""Fleets over seeds: every method trained and attacked, one replica a seed.

Every seed draws its own split and initial weights; the seeds, and for pruning the keep ratios too, are the replicas of
one fleet. Methods share the splits, seed by seed, so that differences between methods are paired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.attack import Outcome, Outputs, evaluate
from nanoprune.backend import xp
from nanoprune.batch import EVALUATION_BATCH, Records, accuracy, predict_fleet
from nanoprune.data import Dataset, Split, make_split
from nanoprune.defend.accounting import summed_up
from nanoprune.errors import ArgumentError
from nanoprune.methods import Shard, generators
from nanoprune.nn import Network
from nanoprune.parallel import single_threaded_blas
from nanoprune.prune import layer_ratios
from nanoprune.recipes import Keep, Recipe
from nanoprune.shards import Advance, map_shards, sample_threads, shard_size, train_shards
from nanoprune.zoo import build, describe


class Progress:
    """What a run tells of its progress; this one keeps quiet. `start` announces a stage of `total` steps."""

    def start(self, stage: str, total: int) -> None:
        """A new stage begins."""

    def advance(self, steps: int = 1) -> None:
        """Some steps of the stage are done; called from worker threads."""


def probabilities(logits: np.ndarray) -> np.ndarray:
    """softmax over the last axis, in float64: fewer ties among the confident."""
    return softmax(logits.astype(np.float64), axis=-1)


@dataclasses.dataclass
class Trained:
    """The networks of one method, a replica a seed, and what was recorded: curves, name -> (seeds, n).

    steps: for each seed how its network was made, as a model file says it. answer: what the attacker gets to see of the
    logits (seeds, n, classes): probabilities alike in float64.
    """

    net: Network
    curves: dict[str, np.ndarray]
    steps: list[list[dict[str, Any]]]
    status: list[str] | None = None  # of the solver, one a seed; None where nothing was pruned
    note: str | None = None  # what a reader of the results must know
    answer: Callable[[np.ndarray], np.ndarray] = probabilities
    privacy: dict[str, Any] | None = None  # the budget that was spent, see `defend.accounting.statement`


class Experiment:
    """A data set, a recipe and seeds; the methods below train fleets. The order of the calls changes no result.

    Each seed draws its split, unless the `splits` are given, one a seed.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        seeds: Sequence[int],
        threads: int,
        progress: Progress | None = None,
        splits: Sequence[Split] | None = None,
    ) -> None:
        if not seeds:
            raise ArgumentError("seeds must be at least 1, got 0")
        self.dataset, self.recipe, self.seeds, self.threads = dataset, recipe, list(seeds), threads
        self.progress = progress or Progress()
        sizes = (recipe.members, recipe.reference, recipe.nonmembers)
        self.splits = list(splits) if splits else [make_split(dataset, *sizes, seed) for seed in self.seeds]
        self.records = Records(dataset.x, dataset.y)
        size = (dataset.x.shape[1:], dataset.classes, recipe.widths)
        self.description = describe(recipe.network, *size, dropout=recipe.dropout)
        self._check(drawn=not splits)

    def _check(self, drawn: bool) -> None:
        """Refuse before the first epoch what would fail after the last one."""
        net = build(self.description, replicas=1)
        for keep in self.recipe.keep:
            self.recipe.budget(net, keep)
        known = min(len(self.splits[0].known_members), len(self.splits[0].known_nonmembers))
        if drawn and known < 4:
            raise ArgumentError(f"members and nonmembers must leave the attacker at least 4 of each, he knows {known}")
        if self.recipe.minmax and self.recipe.reference < 2:
            raise ArgumentError(f"reference must be at least 2 for the Min-Max game, got {self.recipe.reference}")

    def by(self, recipe: Recipe) -> Experiment:
        """The same records, splits and seeds by another recipe."""
        return Experiment(self.dataset, recipe, self.seeds, self.threads, self.progress, self.splits)

    def indices(self, part: str) -> np.ndarray:
        """The records of one part of the splits, such as "members"; (seeds, n)."""
        return np.stack([getattr(split, part) for split in self.splits])

    def dense(
        self, method: str, description: dict | None = None, lam: float = 0.0, epochs: int | None = None
    ) -> Trained:
        """Dense networks trained from their initial weights, with the game where lambda > 0, for the first `epochs`."""
        net = build(description or self.description, len(self.seeds)).initialise(generators(self.seeds, "initial"))
        steps = [[self.recipe.train_step(lam, epochs)] for _ in self.seeds]
        last = epochs or self.recipe.dense.epochs
        return self._fleet(method, net, steps, last, lambda shard, _: shard.dense(lam, epochs))

    def stopped(self, method: str, target: np.ndarray, baseline: Trained) -> Trained:
        """The baseline stopped after the first epoch whose test accuracy reaches the target of its seed, (seeds,).

        Where it never does, its last epoch. The same seeds give the same training again, so it is run again and
        stopped, and no epoch's weights need to be stored.
        """
        reached = baseline.curves["test_accuracy"] >= target[:, None]  # (seeds, epochs)
        epochs = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1])
        net = build(self.description, len(self.seeds)).initialise(generators(self.seeds, "initial"))
        last = int(epochs.max())
        steps = [[self.recipe.train_step(0.0, int(e))] for e in epochs]
        trained = self._fleet(method, net, steps, last, lambda shard, rows: shard.stopped(epochs[rows], last))
        trained.curves["stopped_after"] = epochs[:, None]
        missed = int((~reached.any(axis=1)).sum())
        if missed:
            trained.note = f"{method}: not reached in {missed} of {len(target)} seeds, which kept the last epoch"
        return trained

    def validated(self, method: str) -> Trained:
        """Dense networks, each as it was after its best epoch on the reference set, see `Shard.validated`."""
        if self.recipe.reference < 1:
            raise ArgumentError(f"reference must be at least 1 for {method}, which validates on it, got 0")
        net = build(self.description, len(self.seeds)).initialise(generators(self.seeds, "initial"))
        trained = self._fleet(method, net, [], self.recipe.dense.epochs, lambda shard, _: shard.validated())
        trained.steps = [[self.recipe.train_step(0.0, int(e))] for e in trained.curves["stopped_after"][:, 0]]
        return trained

    def outputs(self, net: Network, part: str) -> np.ndarray:
        """Logits (seeds, n, classes) of the records of one part of the splits."""
        with single_threaded_blas():
            return predict_fleet(net, self.records, self.indices(part), self.threads)

    def pruned(self, dense: Trained, keeps: Sequence[Any], lam: float = 0.0) -> list[Trained]:
        """The dense networks pruned to each keep ratio (a number, or one a layer), as one fleet; a result a ratio."""
        S = len(self.seeds)
        net = dense.net.copy(list(range(S)) * len(keeps))  # (ratios x seeds) replicas
        steps = [[*before, self.recipe.prune_step(ratios, lam)] for ratios in keeps for before in dense.steps]
        rows = [layer_ratios(net, ratios, self.recipe.scope, self.recipe.exempt) for ratios in keeps]
        keep = [row for row in rows for _ in range(S)]  # (ratios x seeds, parts)
        fleet = self._fleet(
            "prune" + ("+minmax" if lam else ""),
            net,
            steps,
            self.recipe.pruning_epochs,
            lambda shard, rows: shard.pruned(keep[rows], lam),
        )
        parts = [slice(j * S, (j + 1) * S) for j in range(len(keeps))]
        return [
            Trained(
                fleet.net.shard(part),
                {name: values[part] for name, values in fleet.curves.items()},
                fleet.steps[part],
                fleet.status[part],
            )
            for part in parts
        ]

    def private(self, method: str, epsilon: float, way: str = "dense", keep: Keep | None = None) -> Trained:
        """Networks trained with DP-SGD within `epsilon`, from their initial weights; `Shard.private` has the ways."""
        members = self.indices("members").shape[1]
        return self.private_by(method, self.recipe.private_noise(members, epsilon), way, keep)

    def private_by(self, method: str, noise: float, way: str = "dense", keep: Keep | None = None) -> Trained:
        """The same with this noise, whatever epsilon that is."""
        net = build(self.description, len(self.seeds)).initialise(generators(self.seeds, "initial"))
        ratios = None if keep is None else layer_ratios(net, keep, self.recipe.scope, self.recipe.exempt)
        step = self.recipe.private_step(self.indices("members").shape[1], noise, way, keep)
        trained = self._fleet(
            method,
            net,
            [[step] for _ in self.seeds],
            self.recipe.private.epochs,
            lambda shard, rows: shard.private(noise, way, ratios and [ratios] * shard.net.replicas),
        )
        trained.privacy, trained.note = step["privacy"], f"{method}: {summed_up(step['privacy'])}"
        return trained

    def accuracies(self, net: Network, part: str) -> np.ndarray:
        """Share of the records of `part` that the network of each seed classifies correctly, (seeds,)."""
        index = self.indices(part)
        with single_threaded_blas():
            size = shard_size(net, EVALUATION_BATCH, self.threads)
            shards = map_shards(
                lambda rows: accuracy(net.shard(rows), self.records, index[rows]), net.replicas, self.threads, size
            )
        return np.concatenate(shards)

    def attack(self, trained: dict[str, Trained]) -> dict[str, dict[str, Outcome]]:
        """Every attack on the answers of every method: fitted on the known records, measured on the scored ones.

        The same generators, seed by seed, for every method: all meet the same attacker.
        """
        S = len(self.seeds)
        self.progress.start("attack", S * len(trained))
        sources = [generator for _ in trained for generator in generators(self.seeds, "attack")]
        with single_threaded_blas():
            known, scored = (self._outputs(list(trained.values()), share) for share in ("known", "scored"))
            outcomes = evaluate(known, scored, sources, self.threads, self.progress.advance)
        rows = {method: slice(i * S, (i + 1) * S) for i, method in enumerate(trained)}
        return {method: {name: o.of(of) for name, o in outcomes.items()} for method, of in rows.items()}

    def _outputs(self, trained: list[Trained], share: str) -> Outputs:
        """What the methods answer for one share of the splits; of the known records as many members as non-members."""
        parts = [self.indices(f"{share}_{part}") for part in ("members", "nonmembers")]
        if share == "known":
            parts = [part[:, : min(p.shape[1] for p in parts)] for part in parts]
        index = np.concatenate(parts, axis=1)  # (seeds, n)
        answers = [of.answer(predict_fleet(of.net, self.records, index, self.threads)) for of in trained]
        p = np.concatenate(answers)  # (methods x seeds, n, classes)
        y = np.tile(self.dataset.y[index], (len(trained), 1))  # (methods x seeds, n)
        return Outputs(p, y, np.repeat([True, False], [part.shape[1] for part in parts]))

    def _fleet(
        self, method: str, net: Network, steps: list, epochs: int, run: Callable[[Shard, slice], list[str] | None]
    ) -> Trained:
        """Run `run` on every shard of the fleet, replicas (k x seeds), and put together what was recorded."""
        members, reference, nonmembers = map(self.indices, ("members", "reference", "nonmembers"))
        spread = sample_threads(net, self.recipe.dense.batch, self.threads)

        def train_shard(rows: slice, advance: Advance) -> tuple[Any, Any, dict[str, np.ndarray], list[str] | None]:
            of = np.arange(net.replicas)[rows] % len(self.seeds)  # replica -> its seed's place
            shard = Shard(
                method,
                net.shard(rows),
                [self.seeds[i] for i in of],
                self.records,
                members[of],
                reference[of],
                nonmembers[of],
                self.recipe,
                spread,
                advance,
            )
            status = run(shard, rows)
            return shard.net.theta, shard.net.state, shard.recorded(), status

        self.progress.start(f"train {method}", epochs * net.replicas)
        with single_threaded_blas():
            size = shard_size(net, max(self.recipe.dense.batch, EVALUATION_BATCH), self.threads)
            shards = train_shards(train_shard, net.replicas, self.threads, size, self.progress.advance)
        theta, state, curves, status = zip(*shards, strict=True)
        net.theta[...], net.state[...] = xp.concatenate(theta), xp.concatenate(state)
        together = {name: np.concatenate([shard[name] for shard in curves]) for name in curves[0]}
        return Trained(net, together, steps, None if status[0] is None else [s for part in status for s in part])
