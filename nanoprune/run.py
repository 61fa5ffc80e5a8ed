"""The parts of a training that are not its objective: epochs, batches, passes, learning rate, recorded losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_host, xp
from nanoprune.defend.losses import loss_function
from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.minibatch import MiniBatch
from nanoprune.nn import Network, Passes, Workspace
from nanoprune.records import Records
from nanoprune.schedule import Schedule, update_epochs


class Run:
    """One training in one process. `nanoprune.lab.engine.run` has several processes, resuming and curves.

    The arguments are those of `train`, and its SGD. estimate: the estimator of the gradient of L_D, `MiniBatch` or
    `DPSGD`. name: what is trained, for error messages. Used as a context manager around the training.
    """

    def __init__(
        self,
        net: Network,
        records: Records,
        members: np.ndarray,
        plan: Schedule,
        generators: list[np.random.Generator],
        sgd: Any,
        game: Any = None,
        admm: Any = None,
        mask: Any = None,
        estimate: MiniBatch | None = None,
        name: str = "training",
    ) -> None:
        low, high, classes = int(records.y.min()), int(records.y.max()), net.output_shape[0]
        if low < 0 or high >= classes:
            raise ArgumentError(f"labels y must be 0 to {classes - 1}, one for each output, got {low} to {high}")
        self.net, self.records, self.game, self.name = net, records, game, name
        self.rate, self.losses, self.epoch = plan.rate(net.replicas), np.empty((net.replicas, plan.epochs)), 0
        self.updates = update_epochs(plan.epochs, admm.settings.iterations) if admm else set()
        self.estimate = estimate or MiniBatch()
        self.estimate.begin(net, members, plan, generators, loss_function(plan.loss), mask, game)
        self.passes = self.make_passes(net, self.estimate.generators, self.estimate.defer)
        if game:
            game.passes = self.make_passes(game.h)
        self.set_augmentation(plan.augment)
        self._steps: list[tuple[Any, int]] = []  # loss (R,) and size of each batch in this epoch

    def set_augmentation(self, name: str) -> None:
        """Raises ArgumentError on an augmentation that this kind of run does not have: here on all but "none"."""
        if name != "none":
            raise ArgumentError(f"augment must be none in the core, got {name!r}; train with lab.engine.LabRun")

    def make_passes(self, *arguments: Any) -> Passes:
        """The passes of one network: `Passes`, or a subclass of it."""
        return Passes(*arguments)

    def epochs(self) -> Iterator[int]:
        """The epochs, counted from 0."""
        for epoch in range(self.losses.shape[1]):
            self.epoch = epoch
            yield epoch

    def batches(self) -> Iterator[np.ndarray]:
        """The batches of an epoch, indices (R, B)."""
        return self.estimate.batches()

    def batch(self, index: Any, ws: Workspace) -> tuple[Any, Any]:
        """Features (R, ..., N) and labels (R, N) of the records index (R, N)."""
        return self.records.batch(index, ws)

    def loss(self, logits: Any, y: Any, index: Any, ws: Workspace, count: int) -> tuple[Any, Any]:
        """L_D (R,) and its gradient (R, classes, N)."""
        return self.estimate.loss(logits, y, index, ws, count, self.epoch)

    def gradient(self, objective: Callable[..., Any], index: np.ndarray, *columns: np.ndarray) -> None:
        """net.grad <- the gradient of the objective over the batch `index` (R, B), clipped and noised by `estimate`;
        its loss is recorded. columns: further arguments of the objective for each sample, see `Passes.run`."""

        def clipped(net: Network, ws: Workspace, *batch: Any) -> Any:
            loss = objective(net, ws, *batch)
            self.estimate.clip(net, ws)
            return loss

        loss = self.passes.run(clipped, index, *columns)
        self.estimate.add_noise(self.passes.local)
        self._steps.append((loss, self.estimate.size(index)))

    def end_epoch(self) -> np.ndarray:
        """The mean loss of the epoch over its records, (R,). Raises DivergenceError where something is not finite."""
        losses, sizes = zip(*self._steps, strict=True)
        losses, self._steps = to_host(xp.stack(losses)), []  # (steps, R)
        finite, after = np.isfinite(losses), f"(epoch {self.epoch + 1}); lower the learning rate, lambda or rho"
        if not finite.all():
            step, r = np.argwhere(~finite)[0]
            where = f"is {losses[step, r]} at iteration {self.epoch * len(losses) + step + 1}"
            raise diverged(~finite.all(axis=0), f"{self.name}: the loss of replica {r} {where} {after}")
        finite = to_host(xp.isfinite(self.net.theta).all(axis=1))  # (R,): no loss was computed after the last step
        if not finite.all():
            where = f"a parameter is not finite after epoch {self.epoch + 1}"
            raise diverged(~finite, f"{self.name}: {where}; lower the learning rate")
        if self.game:
            self.game.end_epoch()
        self.losses[:, self.epoch] = np.average(losses, axis=0, weights=sizes)
        return self.losses[:, self.epoch]

    def __enter__(self) -> Run:
        self._errors = np.errstate(over="ignore", invalid="ignore")  # `end_epoch` reports them
        self._errors.__enter__()
        self.passes.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.passes.__exit__(*error)
        self._errors.__exit__(*error)


def diverged(replicas: np.ndarray, message: str) -> DivergenceError:
    """The error for replicas (R,) bool."""
    error = DivergenceError(message)
    error.replicas = tuple(np.flatnonzero(replicas).tolist())
    return error
