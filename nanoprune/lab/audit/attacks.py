"""The attacks of an audit: each fitted on records that it is not scored on.

With a shadow model the attacks are fitted on the shadow's predictions. Without one the target's records are divided in
two halves, and each half is scored by what was fitted on the other (two-fold cross-fitting).

The strongest attack is chosen on the attacker's records as well, never on the scored ones, so that the choice does not
bias what is measured: threshold attacks are ranked by four-fold cross-validation, the attack network by the quarter of
the records that ends its training. Fewer records measure the network, so it is ranked by its accuracy less one standard
error.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.attack.metrics import balanced_accuracy
from nanoprune.attack.network import attack_scores, fit_attack_network, held_out_share
from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.audit import log_space
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.shards import Advance, train_shards
from nanoprune.nn import Network, Passes
from nanoprune.nn.passes import Objective

SCORES = {
    "correctness": log_space.correctness,
    "confidence": log_space.confidence,
    "entropy": log_space.entropy,
    "modified_entropy": log_space.modified_entropy,
    "loss": log_space.confidence,  # an increasing function of log p_y, as of p_y: the two attacks are one
}
ATTACKS = (*SCORES, "network")
STEPS = 400  # of the attack network in an epoch, at most: many records come in larger batches
ENOUGH = 1e-3  # held-out loss, in nats, at which training ends: less than that is left to gain, no decision changes
GAIN = 1e-3  # share of its loss that a stage must gain within its patience
QUARTERS = 4  # folds of the cross-validation that ranks threshold attacks
NO_RANK = -np.inf  # of rules that do not exist, and of attacks that are no candidates


@dataclasses.dataclass(frozen=True, eq=False)
class Attacked:
    """One attack on n records: scores (n,), higher for members; its decisions by one threshold and by one per class.

    parts: index arrays whose scores come from the model alone, or from the membership of other records than their own.
    own: for each fold the accuracy on the attacker's records by one threshold and by one per class, (folds, 2);
    None for an attack that is no candidate for the strongest.
    refitted: the decisions, by one threshold and by one per class, where each quarter of the attacker's records is left
    out, (2, QUARTERS, n); None where that is not known. They tell how much decisions owe to the fit.
    """

    scores: np.ndarray
    said: np.ndarray
    said_per_class: np.ndarray | None
    parts: list[np.ndarray]
    own: np.ndarray | None = None
    refitted: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """Fit on `known`, score the rows `scored` of the target."""

    known: Predictions
    scored: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkScores:
    """Logits of membership (n,); for each fold the rank of the network, and whether its training ended because no more
    loss was left to gain."""

    z: np.ndarray
    own: np.ndarray
    exhausted: list[bool]


def folds(target: Predictions, shadow: Predictions | None, rng: np.random.Generator) -> list[Fold]:
    """One fold with a shadow, else two: a random half of the members and of the non-members against the other half."""
    if shadow is not None:
        return [Fold(shadow, np.arange(len(target.y)))]
    half = np.zeros(len(target.y), bool)
    for kind in (target.member, ~target.member):
        rows = rng.permutation(np.flatnonzero(kind))
        half[rows[: len(rows) // 2]] = True
    return [Fold(target.rows(known), np.flatnonzero(~known)) for known in (half, ~half)]


def run_attacks(
    target: Predictions,
    parts: list[Fold],
    seed: int,
    threads: int,
    start: Callable[[str, int | None], None] = lambda stage, total: None,
    advance: Callable[[int], None] = lambda steps: None,
    note: Callable[[str], None] = lambda text: None,
    quick: bool = False,
) -> dict[str, Attacked]:
    """Every attack of ATTACKS on the target; `quick`: but the network. The results do not depend on `threads`.

    start(stage, total) and advance(steps) tell progress: of the network in batches, whose number nobody knows
    beforehand. note(text) is called with what a reader should know.
    """
    attacked: dict[str, Attacked] = {}
    start("threshold attacks", len(SCORES))
    for name in SCORES:
        attacked[name] = _threshold_attack(name, target, parts, seed)
        advance(1)
    if quick:
        return attacked
    start("attack network, batches", None)
    found = _network_scores(target, parts, seed, threads, advance)
    own = np.stack([found.own, np.full(len(parts), NO_RANK)], axis=1)
    attacked["network"] = Attacked(found.z, found.z >= 0, None, [fold.scored for fold in parts], own)
    if any(found.exhausted):
        note(
            f"attack network: training ended in {sum(found.exhausted)} of {len(parts)} where its held-out loss fell "
            f"below {ENOUGH:g}, since no more was left to gain"
        )
    return attacked


def _threshold_attack(name: str, target: Predictions, parts: list[Fold], seed: int) -> Attacked:
    """One score, with the thresholds that are best on the known records of each fold."""
    scores = SCORES[name](target.log_odds, target.y)
    said = [np.zeros(len(scores), bool) for _ in range(2)]
    refitted = np.zeros((2, QUARTERS, len(scores)), bool)
    rules = (False,) if name == "correctness" else (False, True)
    own = np.full((len(parts), 2), NO_RANK)
    for i, fold in enumerate(parts):
        known, rows = fold.known, fold.scored
        fitted = SCORES[name](known.log_odds, known.y)
        for per_class in rules:
            rule = Thresholds.fit(fitted, known.y, known.member, target.classes, per_class)
            said[per_class][rows] = rule.says(scores[rows], target.y[rows])
            own[i, int(per_class)], fits = cross_validated(fitted, known, per_class, np.random.default_rng([seed, i]))
            for q, fit in enumerate(fits):
                refitted[int(per_class), q, rows] = fit.says(scores[rows], target.y[rows])
    by_class = said[1] if True in rules else None
    return Attacked(scores, said[0], by_class, [np.arange(len(scores))], own, refitted)


def cross_validated(
    scores: np.ndarray, known: Predictions, per_class: bool, rng: np.random.Generator
) -> tuple[float, list[Thresholds]]:
    """The balanced accuracy of thresholds on the attacker's records by cross-validation, and the thresholds: each
    quarter of the members and of the non-members is decided by what is fitted on the other three."""
    quarter = np.empty(len(scores), int)
    for kind in (known.member, ~known.member):
        quarter[rng.permutation(np.flatnonzero(kind))] = np.arange(kind.sum()) % QUARTERS
    said, fits = np.zeros(len(scores), bool), []
    for q in range(QUARTERS):
        rest, rows = quarter != q, quarter == q
        fits.append(Thresholds.fit(scores[rest], known.y[rest], known.member[rest], known.classes, per_class))
        said[rows] = fits[q].says(scores[rows], known.y[rows])
    return balanced_accuracy(said[known.member], said[~known.member]), fits


def _network_scores(
    target: Predictions, parts: list[Fold], seed: int, threads: int, advance: Callable[[int], None]
) -> NetworkScores:
    """An attack network for each fold, trained by one process each: the samples of a batch are not shared among
    processes, whose sums would depend on their number."""

    def attack(shard: slice, advance: Advance) -> tuple[np.ndarray, float, bool]:
        fold, generator = parts[shard.start], np.random.default_rng([seed, shard.start])
        known = fold.known.rows(generator.permutation(len(fold.known.y)))  # what is held out is the end of it
        held_out = held_out_share(known.member)
        batch, passes = _batch(len(known.y)), functools.partial(CountedPasses, advance)
        h, losses = fit_attack_network(
            known.p, known.y, known.member, held_out, generator, batch, passes, enough=ENOUGH, gain=GAIN
        )
        own = attack_scores(h, known.p[held_out], known.y[held_out])
        scores = attack_scores(h, target.p[fold.scored], target.y[fold.scored])
        return scores, _cautious_accuracy(own >= 0, known.member[held_out]), bool(min(losses) <= ENOUGH)

    z = np.empty(len(target.y))
    with single_threaded_blas():
        found = train_shards(attack, len(parts), threads, 1, advance)
    for fold, (scores, _, _) in zip(parts, found, strict=True):
        z[fold.scored] = scores
    return NetworkScores(z, np.array([own for _, own, _ in found]), [exhausted for _, _, exhausted in found])


class CountedPasses(Passes):
    """`Passes` that tell of each batch."""

    def __init__(self, advance: Advance, net: Network) -> None:
        super().__init__(net)
        self.advance = advance

    def run(self, objective: Objective, *columns: np.ndarray) -> Any:
        """As in `Passes`."""
        value = super().run(objective, *columns)
        self.advance(1)
        return value


def _cautious_accuracy(said: np.ndarray, member: np.ndarray) -> float:
    """The balanced accuracy less one standard error; the rates are taken with one more record of each decision."""
    rates = [(side.sum() + 1) / (len(side) + 2) for side in (said[member], ~said[~member])]
    sizes = [member.sum(), (~member).sum()]
    error = np.sqrt(sum(rate * (1 - rate) / size for rate, size in zip(rates, sizes, strict=True))) / 2
    return balanced_accuracy(said[member], said[~member]) - float(error)


def _batch(records: int) -> int:
    """64, or as many as make STEPS steps of an epoch."""
    return max(64, -(-records // STEPS))
