"""From a dense network to a pruned one: ADMM, and the pruning algorithms that it is compared with.

Each takes a shard (`Shard`), the ratios of one stage after another as `Budget` takes them, and the game or None. It
trains for the epochs of `recipe.prune`, leaves the shard's network within the budget of the last stage, and returns the
ADMM of that stage where there is one. The retraining that follows is the same for all but the layer-wise ones, which
train nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanoprune.lab.experiment.admm_variants import FastADMM, OrderZWU
from nanoprune.lab.experiment.straight_through import straight_through
from nanoprune.lab.layerwise import ALGORITHMS, check_prunable, prune_layers
from nanoprune.prune import ADMM, Mask, hard_prune, parse_scheme


def admm(shard: Any, stages: Sequence[Any], game: Any, kind: type[ADMM] | None = None) -> ADMM | None:
    """MIA-Pruning: ADMM and a hard prune at each stage; weights that an earlier stage pruned may come back. kind: a
    variant of it, see `admm_variants`."""
    history, solver = [], None
    for ratios in stages:
        budget = shard.budget(ratios)
        solver = (kind or ADMM)(shard.net, budget, shard.recipe.admm)
        shard.train(shard.recipe.prune, game=game, admm=solver)
        hard_prune(shard.net, budget)
        history += solver.history
    shard.record_solver(history)
    return solver


def magnitude(shard: Any, stages: Sequence[Any], game: Any) -> None:
    """One-shot magnitude pruning, the control for ADMM: the epochs of all stages without a penalty, then the largest
    weights of the last stage's ratios are kept."""
    for _ in stages:
        shard.train(shard.recipe.prune, game=game)
    hard_prune(shard.net, shard.budget(stages[-1]))


def gradual(shard: Any, stages: Sequence[Any], game: Any) -> None:
    r"""Gradual magnitude pruning (Zhu & Gupta 2017, arXiv 1710.01878): at step t of T the smallest weights are pruned
    until the share $k_f + (k_i - k_f)(1 - t/T)^3$ of them is left, and the others are trained on.

    k_i and k_f are the ratios before and after the stage. T is the number of ADMM's iterations (1 for a scheme that
    brings its ratio), and the epochs are divided among the steps as evenly as they go; each step has the plan's
    learning rate of its first epoch, and begins with a velocity of zero.
    """
    recipe, before = shard.recipe, 1.0
    plan = recipe.prune
    T = 1 if parse_scheme(recipe.scheme).keep else min(recipe.admm.iterations, plan.epochs)
    ends = [t * plan.epochs // T for t in range(T + 1)]
    for ratios in stages:
        after = np.array(ratios)  # (R, parts)
        for t in range(1, T + 1):
            hard_prune(shard.net, shard.budget(after + (before - after) * (1 - t / T) ** 3))
            lr = float(plan.rate(1)(ends[t - 1]))
            step = dataclasses.replace(plan, epochs=ends[t] - ends[t - 1], lr=lr, decay="constant")
            shard.train(step, game=game, mask=Mask(shard.net))
        before = after


def layerwise(shard: Any, stages: Sequence[Any], game: Any, algorithm: str) -> None:
    """Layer-wise pruning without training, from the activations of the reference set, to the ratios of the last stage;
    `nanoprune.lab.layerwise`. The game has no part in it."""
    check_prunable(shard.net, shard.recipe.scheme, shard.reference.shape[1])
    of = (shard.net, shard.budget(stages[-1]), shard.records, shard.reference)
    prune_layers(ALGORITHMS[algorithm], *of)
    shard.advance(shard.net.replicas)


SOLVERS: dict[str, Callable[[Any, Sequence[Any], Any], ADMM | None]] = {
    "admm": admm,
    "magnitude": magnitude,
    "gradual": gradual,
    "ste": straight_through,
    "admm-zwu": functools.partial(admm, kind=OrderZWU),
    "admm-momentum": functools.partial(admm, kind=FastADMM),
    **{name: functools.partial(layerwise, algorithm=name) for name in ALGORITHMS},
}
WITHOUT_TRAINING = tuple(ALGORITHMS)  # solvers that train nothing, and after which nothing is retrained
