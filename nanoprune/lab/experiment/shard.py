"""The methods that are compared, each as it trains one shard of a fleet: dense, stopped, pruned, in a game, private."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanoprune.defend import DPSGD, MinMax
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run import LabRun
from nanoprune.lab.engine.training_state import TrainingState
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.storage.checkpoint import Saved, Slot
from nanoprune.nn import SGD, Network, Workspace
from nanoprune.prune import ADMM, Budget, Mask, hard_prune
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train


def generators(seeds: Sequence[int], purpose: str) -> list[np.random.Generator]:
    """One generator a seed; each purpose has a stream of its own, so that methods do not disturb each other."""
    return [np.random.default_rng([seed, int.from_bytes(purpose.encode(), "big")]) for seed in seeds]


@dataclasses.dataclass
class Shard:
    """Some replicas in training: their networks, seeds and records, and what is recorded of each epoch.

    members, reference, nonmembers (R, n): indices into `records`. group: the processes that divide the
    samples of a batch. At its rank 0, advance(steps) is called after each epoch with the number of replicas, and
    solved(iteration) after each ADMM iteration. slot: where its checkpoints are kept, if anywhere; saved: the one to go
    on from.
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

    def __post_init__(self) -> None:
        self.generators = generators(self.seeds, "train")
        self.evaluation = Workspace(training=False)
        self.curves: dict[str, list[np.ndarray]] = {"loss": [], "test_accuracy": []}  # each entry (R,)
        self.kept: Network | None = None  # what `stopped` has kept so far
        self.progress = TrainingState(self, self.slot, self.saved)

    def dense(self, lam: float = 0.0, epochs: int | None = None) -> None:
        """Ordinary training, or the Min-Max game where lambda > 0; only the first `epochs` where that is given."""
        self._train(self.recipe.dense, epochs=epochs, game=self._game(lam))

    def stopped(self, epochs: np.ndarray, last: int) -> None:
        """`last` epochs of ordinary training, of which replica r keeps what it was after epochs[r] of them."""
        self._keeping(lambda epoch: epochs == epoch + 1, last)

    def validated(self) -> None:
        """Ordinary training, of which each replica keeps its best epoch on its reference records: the first of the
        highest accuracy. The curve "stopped_after" has the number of epochs, "validation_accuracy" the accuracies."""

        def better(epoch: int) -> np.ndarray:
            so_far = self.curves.setdefault("validation_accuracy", [])  # (R,) each
            so_far.append(self._accuracy(self.reference))
            return np.argmax(so_far, axis=0) == epoch

        self._keeping(better)
        self.curves["stopped_after"] = [np.argmax(self.curves["validation_accuracy"], axis=0) + 1]

    def _keeping(self, keep: Callable[[int], np.ndarray], epochs: int | None = None) -> None:
        """Ordinary training, of which each replica ends as it was after the last epoch for which keep(epoch) (R,) said
        so; only the first `epochs` where that is given."""
        kept = self.kept = self.net.copy()

        def look(epoch: int) -> None:
            for r in np.flatnonzero(keep(epoch)):
                kept.theta[r], kept.state[r] = self.net.theta[r], self.net.state[r]

        self._train(self.recipe.dense, epochs=epochs, on_epoch=look)
        self.net.theta[...], self.net.state[...] = kept.theta, kept.state

    def pruned(self, stages: Sequence[Any], lam: float = 0.0) -> list[str]:
        """MIA-Pruning, with the game where lambda > 0: ADMM, hard prune, masked retraining. Returns the statuses.

        stages: the ratios of one pruning after another, each as `Budget` takes them; what was pruned to the ones on the
        way may come back.
        """
        game, history = self._game(lam), []
        for ratios in stages:
            budget = Budget(self.net, ratios, self.recipe.scope, self.recipe.scheme)
            admm = ADMM(self.net, budget, self.recipe.admm)
            self._train(self.recipe.prune, game=game, admm=admm)
            hard_prune(self.net, budget)
            history += admm.history
        for name in ("primal", "dual"):
            self.curves[f"{name}_residual"] = [getattr(row, name) for row in history]
            self.curves[f"{name}_tolerance"] = [getattr(row, f"eps_{name}") for row in history]
        self.curves["rho"] = [row.rho for row in history]
        self._train(self.recipe.retrain, game=game, mask=Mask(self.net))
        return [status.value for status in admm.status]

    def private(self, noise: float, way: str, stages: Sequence[Any] = ()) -> list[str] | None:
        """DP-SGD with this noise in all epochs of `recipe.private`, from the initial weights. The ways to prune:

        dense      none
        mask       before: the support is that of a network which is trained, pruned and retrained on the reference set,
                   taken to be public; of that network's weights nothing is used
        admm       after the dense epochs, by ADMM whose W-step is DP-SGD; then the survivors are retrained
        magnitude  after as many epochs without ADMM, the largest weights are kept and retrained

        stages: as in `pruned`, of which what is private knows the last one alone.
        The projection and the dual step see what DP-SGD has released, so that they cost nothing. Returns the solver's
        statuses where it ran.
        """
        of, admm = self.recipe.private, None
        dense, prune, retrain = of.thirds
        private = DPSGD(of.clip, noise, of.clipping)
        if way == "mask" and not self.saved:  # else what is saved has the mask
            self.net.W[...] *= self._public_support(stages)
        if way in ("dense", "mask"):
            mask = Mask(self.net) if way == "mask" else None
            self._train(of.plan(of.epochs), mask=mask, private=private)
            return None
        budget = Budget(self.net, stages[-1], self.recipe.scope, self.recipe.scheme)
        self._train(of.plan(dense), private=private)
        if way == "admm":
            admm = ADMM(self.net, budget, dataclasses.replace(self.recipe.admm, rho=of.rho, iterations=prune))
        self._train(of.plan(prune), admm=admm, private=private)
        hard_prune(self.net, budget)
        self._train(of.plan(retrain), mask=Mask(self.net), private=private)
        return [status.value for status in admm.status] if admm else None

    def _public_support(self, stages: Sequence[Any]) -> Any:
        """1 where a network has weights that was trained on the reference set, as MIA-Pruning does it; (R, n)."""
        slot = self.slot and self.slot.part(f"public-{self.net.replicas}")
        of = {"slot": slot, "saved": slot and slot.saved(self.net.replicas), "advance": lambda steps: None}
        public = dataclasses.replace(self, net=self.net.copy(), members=self.reference, **of)
        public.dense()
        public.pruned(stages)
        return public.net.W != 0

    def recorded(self) -> dict[str, np.ndarray]:
        """The curves, name -> (R, n)."""
        return {name: np.stack(values, axis=1) for name, values in self.curves.items()}

    def _accuracy(self, index: np.ndarray) -> np.ndarray:
        """Of the networks as they stand, on the records index (R, n); (R,)."""
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

    def _train(
        self,
        plan: Schedule,
        epochs: int | None = None,
        game: MinMax | None = None,
        admm: ADMM | None = None,
        mask: Mask | None = None,
        private: DPSGD | None = None,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """`train` by `plan`, of which only the first `epochs` where that is given, recording the curves."""

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
            LabRun,
            estimate=private,
            name=self.method,
            group=self.group,
            on_epoch=record,
            stop_after=epochs,
            begin=begin,
        )
        train(self.net, self.records, self.members, plan, self.generators, game, admm, mask, run)
