"""Training by the straight-through estimator: the gradient of the pruned network moves all weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nanoprune.lab.engine.run import LabRun
from nanoprune.prune import Budget, hard_prune


class StraightThroughRun(LabRun):
    r"""Steps of $W \leftarrow W - \eta\, \nabla L(\Pi(W))$: the derivative of the projection is taken for the identity.

    Bengio, Leonard & Courville 2013 (arXiv 1308.3432) propose the estimator; Lin, Stich, Barba, Dmitriev & Jaggi 2020
    (arXiv 2006.07253, DPF) prune so, and Zhou et al. 2021 (arXiv 2102.04010), whose SR-STE adds a weight decay of the
    pruned weights, which is left out. Here $\Pi$ is computed anew at every step. budget: the constraint set. The
    network holds $\Pi(W)$ during a batch, so that the game sees it too, and W otherwise: the curves are those of W.
    """

    def __init__(self, *arguments: Any, budget: Budget, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.budget = budget
        self.dense = self.group.zeros(self.net.W.shape, self.net.W.dtype)  # W (R, n), in memory of all processes

    def batches(self) -> Iterator[np.ndarray]:
        for index in super().batches():
            self.group.broadcast(self._project)
            yield index

    def gradient(self, objective: Any, index: np.ndarray, *columns: np.ndarray) -> None:
        super().gradient(objective, index, *columns)
        self.group.broadcast(self._restore)

    def _project(self) -> int:
        self.dense[...] = self.net.W
        hard_prune(self.net, self.budget)
        return 0

    def _restore(self) -> int:
        self.net.W[...] = self.dense
        return 0


def straight_through(shard: Any, stages: Sequence[Any], game: Any) -> None:
    """The epochs of each stage by the straight-through estimator for its ratios, then W is projected; a solver of
    `solvers`."""
    for ratios in stages:
        budget = shard.budget(ratios)
        shard.train(shard.recipe.prune, game=game, run=functools.partial(StraightThroughRun, budget=budget))
    hard_prune(shard.net, budget)
