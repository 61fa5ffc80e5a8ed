"""PAST, privacy-aware sparsity tuning (Hu, Zhang & Wei 2024, arXiv 2410.06814): an L1 penalty where privacy leaks."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.run import LabRun
from nanoprune.lab.experiment.distil import scratch_step
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.saliency import weight_gradient
from nanoprune.nn import Network
from nanoprune.nn.formula import Formula
from nanoprune.records import Records


def sensitivities(net: Network, records: Records, members: np.ndarray, reference: np.ndarray) -> Any:
    r"""w (R, n) float64: $|\partial G / \partial \theta_j|$ of the loss gap $G = L_{D'} - L_D$ between the reference
    records and the members, indices (R, M) and (R, M'), divided by its mean in the layer; 0 where that is 0."""
    w = xp.abs(weight_gradient(net, records, reference) - weight_gradient(net, records, members))
    start = 0
    for weights in net.weights:
        layer = w[:, start : start + weights.size]
        mean = layer.mean(axis=1, keepdims=True)
        layer /= xp.where(mean > 0, mean, 1.0)
        start += weights.size
    return w


@Formula
def penalty_gradient(dW, W, w, *, lam):
    dW += lam * w * xp.sign(W)


class PastRun(LabRun):
    r"""Adds $\lambda \sum_j w_j |\theta_j|$ to the loss, whose gradient is $\lambda w_j\, \mathrm{sign}(\theta_j)$.

    That the penalty of each weight adapts to the gradient of the loss gap is the paper's. Ours are: the gap is computed
    on all members and all reference records, in evaluation mode, at the start of each epoch; w has mean 1 in each layer
    and is constant within an epoch; biases have no penalty; and it is there from the first epoch on, where the paper
    tunes a trained network. strength: $\lambda$.
    """

    def __init__(self, *of_run: Any, reference: np.ndarray, strength: float, **named: Any) -> None:
        super().__init__(*of_run, **named)
        self.reference, self.strength = reference, strength
        self.w = self.group.zeros(self.net.W.shape, self.net.W.dtype)  # (R, n), in memory of all processes

    def epochs(self) -> Iterator[int]:
        for epoch in super().epochs():
            self.group.broadcast(self._weigh)
            yield epoch

    def gradient(self, objective: Any, index: np.ndarray, *columns: np.ndarray) -> None:
        super().gradient(objective, index, *columns)
        local = self.passes.local
        local.apply(penalty_gradient, local.dW, local.W, self.w, lam=self.strength)

    def _weigh(self) -> int:
        self.w[...] = sensitivities(self.net, self.records, self.estimate.members, self.reference)
        return 0


def past(experiment: Experiment, method: str, strength: float) -> Trained:
    """Dense networks trained with the penalty. The reference set has no part in the loss that is fitted, but in where
    weights are held small. Raises ArgumentError where there are no reference records."""
    recipe = experiment.recipe
    if recipe.reference < 1:
        raise ArgumentError(f"reference must be at least 1 for {method}, which takes the loss gap from it, got 0")

    def run(shard: Any, rows: list[int]) -> None:
        of = {"reference": shard.reference, "strength": strength}
        shard.train(recipe.dense, run=functools.partial(PastRun, **of))

    steps = [[{"step": "past", "strength": strength} | scratch_step(recipe)] for _ in experiment.seeds]
    return experiment.fleet(method, experiment.initial(), steps, recipe.dense.epochs, run)
