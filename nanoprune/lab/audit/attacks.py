"""The attacks of an audit: each fitted on records that it is not scored on.

With a shadow model the attacks are fitted on the shadow's predictions. Without one the target's records are divided in
two halves, and each half is scored by what was fitted on the other (two-fold cross-fitting).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from nanoprune.attack import scores
from nanoprune.attack.network import attack_scores, fit_attack_network, held_out_share
from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.engine.passes import SharedPasses, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.shards import Advance, train_shards
from nanoprune.nn import Network

SCORES = {
    "correctness": scores.correctness,
    "confidence": scores.confidence,
    "entropy": scores.entropy,
    "modified_entropy": scores.modified_entropy,
    "loss": scores.log_likelihood,
}
ATTACKS = (*SCORES, "network")
STEPS = 400  # of the attack network in an epoch, at most: many records come in larger batches


@dataclasses.dataclass(frozen=True, eq=False)
class Attacked:
    """One attack on n records: scores (n,), higher for members; what it says by one threshold and by one a class.

    parts: index arrays whose scores come from the model alone, or from the membership of other records than their own.
    """

    scores: np.ndarray
    said: np.ndarray
    said_per_class: np.ndarray | None
    parts: list[np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """Fit on `known`, score the rows `scored` of the target."""

    known: Predictions
    scored: np.ndarray


def folds(target: Predictions, shadow: Predictions | None, rng: np.random.Generator) -> list[Fold]:
    """One fold with a shadow, else two: a random half of the members and of the non-members against the other half."""
    if shadow is not None:
        return [Fold(shadow, np.arange(len(target.y)))]
    half = np.zeros(len(target.y), bool)
    for kind in (target.member, ~target.member):
        rows = rng.permutation(np.flatnonzero(kind))
        half[rows[: len(rows) // 2]] = True
    return [
        Fold(Predictions(target.p[known], target.y[known], target.member[known]), np.flatnonzero(~known))
        for known in (half, ~half)
    ]


def run_attacks(
    target: Predictions,
    parts: list[Fold],
    seed: int,
    threads: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, Attacked]:
    """Every attack of ATTACKS on the target. advance(1) is called after each of the len(parts) attack networks."""
    everything = [np.arange(len(target.y))]
    attacked = {}
    for name, score in SCORES.items():
        own = score(target.p, target.y)
        said = [np.zeros(len(own), bool) for _ in range(2)]
        for fold in parts:
            known = fold.known
            fit = mean_member_thresholds if name == "loss" else Thresholds.fit
            fitted = score(known.p, known.y)
            for per_class in (False, True):
                rule = fit(fitted, known.y, known.member, target.classes, per_class)
                said[per_class][fold.scored] = rule.says(own[fold.scored], target.y[fold.scored])
        attacked[name] = Attacked(own, said[0], None if name == "correctness" else said[1], everything)
    z = _network_scores(target, parts, seed, threads, advance)
    attacked["network"] = Attacked(z, z >= 0, None, [fold.scored for fold in parts])
    return attacked


def _network_scores(
    target: Predictions, parts: list[Fold], seed: int, threads: int, advance: Callable[[int], None]
) -> np.ndarray:
    """Logits of membership (n,): an attack network for each fold."""

    def passes(h: Network) -> SharedPasses:
        return SharedPasses(h, ProcessGroup(max(1, threads // len(parts))))  # processes that divide each batch

    def attack(shard: slice, advance: Advance) -> np.ndarray:
        fold, generator = parts[shard.start], np.random.default_rng([seed, shard.start])
        known, rows = fold.known, fold.scored
        order = generator.permutation(len(known.y))  # what is held out is the end of it
        p, y, member = known.p[order], known.y[order], known.member[order]
        held_out = held_out_share(member)
        h, _ = fit_attack_network(p, y, member, held_out, generator, _batch(len(y)), passes)
        advance(1)
        return attack_scores(h, target.p[rows], target.y[rows])

    z = np.empty(len(target.y))
    with single_threaded_blas():
        for fold, values in zip(parts, train_shards(attack, len(parts), threads, 1, advance), strict=True):
            z[fold.scored] = values
    return z


def _batch(records: int) -> int:
    """64, or as many as make STEPS steps of an epoch."""
    return max(64, -(-records // STEPS))


def mean_member_thresholds(
    scores: np.ndarray, labels: np.ndarray, member: np.ndarray, classes: int, per_class: bool
) -> Thresholds:
    """The mean score of the known members, as Yeom et al. 2018 (arXiv 1709.01604, adversary 1) do with the loss.

    With `per_class`, that of the members of the class where there are any.
    """
    t = np.full(classes, scores[member].mean())
    for c in range(classes) if per_class else ():
        of_class = member & (labels == c)
        if of_class.any():
            t[c] = scores[of_class].mean()
    return Thresholds(t)
