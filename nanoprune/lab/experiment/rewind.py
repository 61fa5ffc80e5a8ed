"""Iterative magnitude pruning with weight rewinding (Frankle, Dziugaite, Roy & Carbin 2020, arXiv 1912.05671)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.prune import Mask, parse_scheme
from nanoprune.schedule import Schedule, learning_rate

EARLY = 0.05  # share of the epochs after which the weights are kept that survivors are rewound to


@dataclasses.dataclass(frozen=True)
class Rest(Schedule):
    """What is left of a schedule after its first `begun` epochs: `epochs` counts the others, `lr` is of the whole."""

    begun: int = 0

    def rate(self, replicas: int) -> Callable[[float], Any]:
        super().rate(replicas)
        rate = np.array(self.lr) if isinstance(self.lr, tuple) else self.lr
        whole = learning_rate(self.decay, rate, self.begun + self.epochs)
        return lambda epoch: whole(self.begun + epoch)


def rounds(recipe: Any) -> int:
    """N, the number of times that weights are pruned: ADMM's iterations, or 1 for a scheme that brings its ratio."""
    return 1 if parse_scheme(recipe.scheme).keep else recipe.admm.iterations


def early_epoch(recipe: Any) -> int:
    """k, the epoch whose weights the survivors are rewound to: 5% of the dense schedule, but between 1 and T - 1."""
    return max(1, min(round(EARLY * recipe.dense.epochs), recipe.dense.epochs - 1))


def epochs_in_all(recipe: Any, early: int) -> int:
    """k + (N + 1)(T - k)."""
    return early + (rounds(recipe) + 1) * (recipe.dense.epochs - early)


def rewound_step(recipe: Any, keep: Any, early: int) -> dict[str, Any]:
    """How such a network is made, as plain data: a model file records it, shadow models repeat it."""
    return recipe.prune_step(keep, 0.0) | {
        "step": "rewound",
        "early": early,
        "dense": dataclasses.asdict(recipe.dense),
    }


def rewind(shard: Any, ratios: Any, early: int) -> None:
    r"""Prunes a shard (`Shard`) with its initial weights to `ratios`, as `Budget` takes them (their algorithm 2):

        W_k <- k epochs of the dense schedule, m <- 1
        N times:  train $m \odot W_k$ for the other T - k epochs, m <- the largest of its weights
        train $m \odot W_k$ for the other T - k epochs

    After round n the share $keep^{n/N}$ of the weights is left: each round prunes the same share of the survivors (the
    paper prunes 20%; 10 rounds to a tenth prune 21%). early: k. Biases and running statistics are rewound too, and each
    round begins with a velocity of zero. With the game, DP-SGD and intermediate ratios it is not combined. The network
    that is left was trained for as many epochs as the baseline, but N + 1 times as many were computed.
    """
    plan, N = shard.recipe.dense, rounds(shard.recipe)
    shard.train(plan, epochs=early)
    at_k = shard.kept = shard.net.copy()  # `kept` is in every checkpoint from here on
    for n in range(1, N + 1):
        shard.train(rest(plan, early), mask=Mask(shard.net))
        support = shard.budget(np.power(np.array(ratios), n / N) if n < N else ratios).support(shard.net.W)
        shard.net.theta[...], shard.net.state[...] = at_k.theta, at_k.state
        shard.net.W[...] *= support
    shard.train(rest(plan, early), mask=Mask(shard.net))


def rest(plan: Schedule, begun: int) -> Rest:
    """The schedule from epoch `begun` on."""
    of = {field.name: getattr(plan, field.name) for field in dataclasses.fields(Schedule)}
    return Rest(**of | {"epochs": plan.epochs - begun}, begun=begun)
