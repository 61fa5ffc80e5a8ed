"""Distillation: networks that are trained on the outputs of others (Hinton, Vinyals & Dean 2015, arXiv 1503.02531)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.backend import to_device, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.run import LabRun
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.nn import Workspace
from nanoprune.nn.loss import soft_cross_entropy


class DistilRun(LabRun):
    r"""The loss is $T^2$ times the cross-entropy of $softmax(z / T)$ against targets t in place of the labels, and its
    gradient $T (softmax(z / T) - t) / n$; the factor is Hinton et al.'s, so that T does not change the gradients' size.

    index (R, M): records; targets (R, M, classes): of these, summing to 1 over the classes. T: `temperature`.
    """

    def __init__(
        self, *arguments: Any, index: np.ndarray, targets: np.ndarray, temperature: float, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        order = np.argsort(index, axis=1)
        self.sorted = [to_device(row) for row in np.take_along_axis(index, order, axis=1)]  # R of (M,)
        self.targets = to_device(np.take_along_axis(targets, order[..., None], axis=1).astype(self.net.theta.dtype))
        self.T = temperature

    def loss(self, logits: Any, y: Any, index: Any, ws: Workspace, count: int) -> tuple[Any, Any]:
        t = xp.stack([t[xp.searchsorted(of, i)] for t, of, i in zip(self.targets, self.sorted, index, strict=True)])
        loss, gradient = soft_cross_entropy(logits / self.T, t.swapaxes(1, 2), count)  # (R,), (R, classes, N)
        return self.T**2 * loss, self.T * gradient


def distilled(
    experiment: Experiment, method: str, student: dict[str, Any], teacher: Trained, temperature: float | None = None
) -> Trained:
    """Networks of the description `student`, trained by the dense schedule on the outputs of `teacher` for the
    reference set, with neither members nor labels: members act through the teacher's outputs for other records alone.

    It is DMP (Shejwalkar & Houmansadr 2021, arXiv 1906.06589) without its choice of reference records by entropy, and
    with a smaller student. The reference set is public. temperature: None for the recipe's. Raises ArgumentError where
    there are no reference records.
    """
    if experiment.recipe.reference < 1:
        raise ArgumentError(f"reference must be at least 1 for {method}, which distils on it, got 0")
    recipe = experiment.recipe
    T = recipe.defences.distil if temperature is None else temperature
    targets = softmax(experiment.logits(teacher.net, "reference").astype(np.float64) / T, axis=2)  # (seeds, n, classes)
    net = experiment.initial(student, known="reference")
    own = {"step": "distilled", "teacher": teacher.net.description, "temperature": T}
    run = functools.partial(on_targets, part="reference", targets=targets, temperature=T)
    steps = [[scratch_step(recipe) | own] for _ in experiment.seeds]
    return experiment.fleet(method, net, steps, recipe.dense.epochs, run)


def on_targets(shard: Any, rows: list[int], part: str, targets: np.ndarray, temperature: float = 1.0) -> None:
    """A shard with its initial weights, trained by the dense schedule on the records of `part`, "members" or
    "reference", with targets (fleet, n, classes) in place of labels. rows: the replicas of the fleet that it has."""
    index = getattr(shard, part)
    of = {"index": index, "targets": targets[rows], "temperature": temperature}
    shard.train(shard.recipe.dense, members=index, run=functools.partial(DistilRun, **of))


def scratch_step(recipe: Any) -> dict[str, Any]:
    """What the steps of networks that are made from their initial weights on have in common."""
    return {"minmax": 0.0, "inner_steps": recipe.inner_steps, "dense": dataclasses.asdict(recipe.dense)}
