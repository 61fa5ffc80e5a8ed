"""Training on several processes, with resuming, early stopping, recording and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.lab.data.augment import augmentation
from nanoprune.lab.engine.passes import SharedPasses, share_moments
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.minibatch import MiniBatch
from nanoprune.nn import SGD, Network, Passes, Workspace
from nanoprune.records import Records
from nanoprune.run import Run
from nanoprune.schedule import Schedule

MIXED = 64  # blocks of records that are shuffled together, where records are read in blocks


class LabRun(Run):
    """`Run` on a group of processes, all of which execute `train`, each for its own samples and parameters.

    on_epoch(epoch, losses so far) is called after each epoch, in all processes. stop_after: end after so many epochs.
    begin(sgd, losses) is called before the first epoch and returns its number: to resume an interrupted run, it
    restores both arguments (`TrainingState`). Raises WorkerError, with the reason, where another process fails.
    """

    def __init__(
        self,
        net: Network,
        records: Records,
        members: np.ndarray,
        plan: Schedule,
        generators: list,
        sgd: SGD,
        *solvers: Any,
        estimate: MiniBatch | None = None,
        name: str = "training",
        group: ProcessGroup | None = None,
        on_epoch: Callable[[int, np.ndarray], None] | None = None,
        stop_after: int | None = None,
        begin: Callable[[SGD, np.ndarray], int] | None = None,
    ) -> None:
        self.group, self.on_epoch = group or ProcessGroup(), on_epoch
        estimate = estimate or mini_batch(records)
        super().__init__(net, records, members, plan, generators, sgd, *solvers, estimate=estimate, name=name)
        share_moments(sgd, net, self.group)
        if self.game:
            share_moments(self.game.adam, self.game.h, self.group)
        self.losses = self.losses[:, :stop_after]
        self.first = begin(sgd, self.losses) if begin else 0

    def set_augmentation(self, name: str) -> None:
        self.augment = augmentation(name)

    def make_passes(self, net: Network, *arguments: Any) -> Passes:
        return SharedPasses(net, self.group, *arguments)

    def epochs(self) -> Iterator[int]:
        for epoch in range(self.first, self.losses.shape[1]):
            self.epoch = epoch
            yield epoch
            if self.on_epoch:
                self.on_epoch(self.epoch, self.losses[:, : self.epoch + 1])

    def batch(self, index: Any, ws: Workspace) -> tuple[Any, Any]:
        X, y = super().batch(index, ws)
        return self.augment(X, self._drawn, ws), y

    def gradient(self, objective: Callable[..., Any], index: np.ndarray, *columns: np.ndarray) -> None:
        drawn = self.augment.draw(self.estimate.generators, index.shape[1])  # (R, B, ...), before the batch is divided

        def with_augmentation(net: Network, ws: Workspace, index: Any, drawn: Any, count: int) -> Any:
            self._drawn = drawn
            return objective(net, ws, index, count)

        super().gradient(with_augmentation, index, drawn)

    def end_epoch(self) -> np.ndarray:
        self.group.barrier()  # from here on, until the next batch, theta is complete
        return super().end_epoch()


def mini_batch(records: Records) -> MiniBatch:
    """`MiniBatch`, or `BlockMiniBatch` where x reads neighbouring records together, in blocks of `x.block`."""
    block = getattr(records.x, "block", None)
    return BlockMiniBatch(block) if block else MiniBatch()


class BlockMiniBatch(MiniBatch):
    """Mini-batches of records that are read from a file in blocks of `block` neighbours."""

    def __init__(self, block: int) -> None:
        self.block = block

    def batches(self) -> Iterator[np.ndarray]:
        return shuffled_by_blocks(self.members, self.batch, self.generators, self.block)


def shuffled_by_blocks(
    members: np.ndarray, batch: int, generators: list[np.random.Generator], block: int
) -> Iterator[np.ndarray]:
    """One epoch: batches (R, B) of members (R, M), where records lie in blocks of `block` neighbours.

    MIXED random blocks at a time are shuffled together, so that each block is read once. The records of a batch are in
    the order of the file, so that each process of a group reads consecutive blocks.
    """
    rows = [generator.permutation(row) for generator, row in zip(generators, members, strict=True)]
    rows = [_by_blocks(row, generator, block, batch) for generator, row in zip(generators, rows, strict=True)]
    order = np.stack(rows)  # (R, M)
    for start in range(0, order.shape[1], batch):
        yield order[:, start : start + batch]


def _by_blocks(row: np.ndarray, generator: np.random.Generator, block: int, batch: int) -> np.ndarray:
    """The records `row` (M,), in random order, as groups of MIXED random blocks: batches within a group are random, and
    within a batch each group is in the order of the file."""
    blocks = row // block  # (M,)
    group = generator.permutation(blocks.max() + 1)[blocks] // MIXED  # (M,)
    order = np.argsort(group, kind="stable")
    row, group = row[order], group[order]
    return row[np.lexsort((row, group, np.arange(len(row)) // batch))]
