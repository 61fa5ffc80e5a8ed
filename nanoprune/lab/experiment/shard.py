"""The training of each method on one shard of a fleet: dense, stopped early, pruned, with the game, with DP-SGD."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanoprune.defend import DPSGD, MinMax
from nanoprune.errors import DataError
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run import LabRun
from nanoprune.lab.engine.training_state import TrainingState
from nanoprune.lab.experiment.masks import MASKS
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.experiment.solvers import SOLVERS, WITHOUT_TRAINING
from nanoprune.lab.privacy.accounting import phase
from nanoprune.lab.storage.checkpoint import Saved, Slot
from nanoprune.nn import SGD, Network, Workspace
from nanoprune.prune import ADMM, Budget, Mask, hard_prune
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train


def generators(seeds: Sequence[int], purpose: str) -> list[np.random.Generator]:
    """One generator per seed; each purpose has its own stream, so that no method changes the draws of another."""
    return [np.random.default_rng([seed, int.from_bytes(purpose.encode(), "big")]) for seed in seeds]


@dataclasses.dataclass
class Shard:
    """Some replicas in training: their networks, seeds and records, and the curves of each epoch.

    members, reference, nonmembers (R, n): indices into `records`. group: the processes that share the samples of a
    batch. Rank 0 of it calls advance(steps) after each epoch with the number of replicas, and solved(iteration) after
    each ADMM iteration. slot: where checkpoints are kept, if anywhere; saved: the checkpoint to resume from. known: how
    many of the non-members, counted from the first, the attacker knows; early stopping picks its epoch on them.
    """

    method: str
    net: Network
    seeds: list[int]
    records: Records
    members: np.ndarray
    reference: np.ndarray
    nonmembers: np.ndarray
    recipe: Recipe
    group: ProcessGroup = dataclasses.field(default_factory=ProcessGroup)
    advance: Callable[[int], None] = lambda steps: None
    solved: Callable[[Any], None] = lambda iteration: None
    slot: Slot | None = None
    saved: Saved | None = None
    known: int = 0

    def __post_init__(self) -> None:
        self.generators = generators(self.seeds, "train")
        self.evaluation = Workspace(training=False)
        self.curves: dict[str, list[np.ndarray]] = {"loss": [], "test_accuracy": []}  # each entry (R,)
        self.kept: Network | None = None  # the networks that `_keeping` has selected so far
        self.progress = TrainingState(self, self.slot, self.saved)

    def dense(self, lam: float = 0.0, epochs: int | None = None) -> None:
        """Ordinary training, or the Min-Max game where lambda > 0; only the first `epochs` where that is given.

        The curve "known_accuracy" has the accuracy on the non-members that the attacker knows, after each epoch.
        """

        def evaluate(epoch: int) -> None:
            self.curves.setdefault("known_accuracy", []).append(self._accuracy(self.nonmembers[:, : self.known]))

        self.train(self.recipe.dense, epochs=epochs, game=self._game(lam), on_epoch=evaluate if self.known else None)

    def stopped(self, epochs: np.ndarray, last: int) -> None:
        """`last` epochs of ordinary training; replica r ends as it was after epochs[r] of them."""
        self._keeping(lambda epoch: epochs == epoch + 1, last)

    def validated(self) -> None:
        """Ordinary training; each replica ends as it was after its best epoch on the reference records, the first one
        with the highest accuracy. Curves: "stopped_after", the number of epochs; "validation_accuracy"."""

        def better(epoch: int) -> np.ndarray:
            so_far = self.curves.setdefault("validation_accuracy", [])  # (R,) each
            so_far.append(self._accuracy(self.reference))
            return np.argmax(so_far, axis=0) == epoch

        self._keeping(better)
        self.curves["stopped_after"] = [np.argmax(self.curves["validation_accuracy"], axis=0) + 1]

    def _keeping(self, keep: Callable[[int], np.ndarray], epochs: int | None = None) -> None:
        """Ordinary training; each replica ends as it was after the last epoch for which keep(epoch) (R,) was true. Only
        the first `epochs` where that is given."""
        kept = self.kept = self.net.copy()

        def select(epoch: int) -> None:
            for r in np.flatnonzero(keep(epoch)):
                kept.theta[r], kept.state[r] = self.net.theta[r], self.net.state[r]

        self.train(self.recipe.dense, epochs=epochs, on_epoch=select)
        self.net.theta[...], self.net.state[...] = kept.theta, kept.state

    def pruned(self, stages: Sequence[Any], lam: float = 0.0) -> list[str] | None:
        """MIA-Pruning, with the game where lambda > 0: ADMM, hard prune, masked retraining. Returns the statuses.

        stages: the ratios of one pruning after another, each as `Budget` takes them. recipe.solver: see `solvers`; the
        controls of ADMM have no status.
        """
        game = self._game(lam)
        admm = SOLVERS[self.recipe.solver](self, stages, game)
        if self.recipe.solver not in WITHOUT_TRAINING:
            self.train(self.recipe.retrain, game=game, mask=Mask(self.net))
        return [status.value for status in admm.status] if admm else None

    def record_solver(self, history: list[Any]) -> None:
        """The curves of ADMM's residuals, their tolerances and rho, over all iterations."""
        for name in ("primal", "dual"):
            self.curves[f"{name}_residual"] = [getattr(row, name) for row in history]
            self.curves[f"{name}_tolerance"] = [getattr(row, f"eps_{name}") for row in history]
        self.curves["rho"] = [row.rho for row in history]

    def private(self, noise: float, variant: str, stages: Sequence[Any] = ()) -> list[str] | None:
        """DP-SGD with this noise in all epochs of `recipe.private`, from the initial weights. The variants of pruning:

        dense      none
        mask       before training: the support of a network that is trained, pruned and retrained on the reference set,
                   which is assumed to be public; nothing else of that network is used
        synflow    before training: the support that SynFlow finds for the initial weights; it is data-free
        random     before training: a random support; it is data-free
        admm       after the dense epochs, by ADMM whose W-step is DP-SGD; then the survivors are retrained
        magnitude  after as many epochs without ADMM, the largest weights are kept and retrained

        stages: as in `pruned`; all variants but "mask" use the last one alone.
        The projection and the dual step of ADMM use only outputs of DP-SGD, so they are post-processing and cost no
        budget. Returns the solver's statuses where ADMM ran. Raises DataError where the number of steps differs from
        the plan from which epsilon is computed.
        """
        of, admm = self.recipe.private, None
        dense, prune, retrain = of.thirds
        private = DPSGD(of.clip, noise, of.clipping)
        fixed = variant in ("mask", "synflow", "random")
        if fixed and not self.saved:  # a checkpoint has the mask
            public = variant == "mask"
            self.net.W[...] *= self._public_support(stages) if public else MASKS[variant](self, stages[-1])
        if fixed or variant == "dense":
            self.train(of.plan(of.epochs), mask=Mask(self.net) if fixed else None, private=private)
        else:
            budget = self.budget(stages[-1])
            self.train(of.plan(dense), private=private)
            if variant == "admm":
                admm = ADMM(self.net, budget, dataclasses.replace(self.recipe.admm, rho=of.rho, iterations=prune))
            self.train(of.plan(prune), admm=admm, private=private)
            hard_prune(self.net, budget)
            self.train(of.plan(retrain), mask=Mask(self.net), private=private)
        self._check_steps(private.steps)
        return [status.value for status in admm.status] if admm else None

    def _check_steps(self, taken: int) -> None:
        """DataError unless DP-SGD took as many steps as the plan has: epsilon is computed from the plan."""
        of = self.recipe.private
        planned = phase(self.members.shape[1], of.batch, 0.0, of.epochs).steps
        if taken != planned:
            raise DataError(
                f"{self.method}: DP-SGD took {taken:,} steps, epsilon was computed for {planned:,}; the network is not "
                "kept, train it again from the start"
            )

    def budget(self, ratios: Any) -> Budget:
        """The constraint set of some ratios, by the recipe's scope and scheme."""
        return Budget(self.net, ratios, self.recipe.scope, self.recipe.scheme)

    def sources(self, purpose: str) -> list[np.random.Generator]:
        """Generators of the seeds for another purpose than training."""
        return generators(self.seeds, purpose)

    def masked(self, variant: str, ratios: Any) -> None:
        """A mask is chosen for the initial weights, and then trained for as long as a dense network is trained, pruned
        and retrained, by the same schedules; see `masks`."""
        if not self.saved:  # a checkpoint has the mask
            self.net.W[...] *= MASKS[variant](self, ratios)
        for plan in (self.recipe.dense, self.recipe.prune, self.recipe.retrain):
            self.train(plan, mask=Mask(self.net))

    def _public_support(self, stages: Sequence[Any]) -> Any:
        """The support (R, n) of networks that are trained and pruned on the reference set as MIA-Pruning does it."""
        slot = self.slot and self.slot.part(f"public-{self.net.replicas}")
        of = {"slot": slot, "saved": slot and slot.saved(self.net.replicas), "advance": lambda steps: None}
        public = dataclasses.replace(self, net=self.net.copy(), members=self.reference, **of)
        public.dense()
        public.pruned(stages)
        return public.net.W != 0

    def recorded(self) -> dict[str, np.ndarray]:
        """The curves, name -> (R, epochs or iterations)."""
        return {name: np.stack(values, axis=1) for name, values in self.curves.items() if values}

    def _accuracy(self, index: np.ndarray) -> np.ndarray:
        """Accuracy of the current networks on the records index (R, n); (R,)."""
        return accuracy(self.net, self.records, index, self.evaluation, self.group)

    def _game(self, lam: float) -> MinMax | None:
        if not lam:
            return None
        return MinMax(
            self.records,
            self.net.output_shape[0],
            self.members,
            self.reference,
            generators(self.seeds, "game"),
            lam,
            self.recipe.inner_steps,
            self.recipe.dense.batch,
        )

    def train(
        self,
        plan: Schedule,
        epochs: int | None = None,
        game: MinMax | None = None,
        admm: ADMM | None = None,
        mask: Mask | None = None,
        private: DPSGD | None = None,
        on_epoch: Callable[[int], None] | None = None,
        members: np.ndarray | None = None,
        run: Callable[..., LabRun] = LabRun,
    ) -> None:
        """Train by `plan`, only the first `epochs` where that is given, and record the curves. members (R, M): other
        records than the shard's. run: what handles batches and steps, a `LabRun`."""

        count = plan.epochs if epochs is None else epochs
        if self.progress.skips(count, admm):
            return

        def begin(optimizer: SGD, losses: np.ndarray) -> int:
            first = self.progress.begin(optimizer, losses, game=game, admm=admm, mask=mask, private=private)
            self._last_iteration = admm.history[-1] if admm and admm.history else None
            return first

        def record(epoch: int, losses: np.ndarray) -> None:
            self.curves["loss"].append(losses[:, -1])
            self.curves["test_accuracy"].append(self._accuracy(self.nonmembers))
            if game:
                self.curves["adversary_updates"] = [np.full(self.net.replicas, game.adam.t)]
                for name, value in zip(("adversary_loss", "adversary_accuracy"), game.history[-1], strict=True):
                    self.curves.setdefault(name, []).append(value)
            if admm and admm.history and admm.history[-1] is not self._last_iteration:
                self._last_iteration = admm.history[-1]
                if self.group.rank == 0:
                    self.solved(self._last_iteration)
            if on_epoch:
                on_epoch(epoch)
            if self.group.rank == 0:
                self.progress.end_epoch(epoch)
                self.advance(self.net.replicas)

        run = functools.partial(
            run,
            estimate=private,
            name=self.method,
            group=self.group,
            on_epoch=record,
            stop_after=epochs,
            begin=begin,
        )
        members = self.members if members is None else members
        train(self.net, self.records, members, plan, self.generators, game, admm, mask, run)
