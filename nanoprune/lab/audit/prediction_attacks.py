"""The attacks of an audit: each fitted on records that it is not scored on.

With a shadow model the attacks are fitted on the shadow's predictions. Without one the target's records are divided in
two halves, and each half is scored by what was fitted on the other (two-fold cross-fitting).

The strongest attack is chosen on the attacker's records as well, never on the scored ones, so that the choice does not
bias what is measured: threshold attacks are ranked by four-fold cross-validation, the attack network by the quarter of
the records that ends its training. Fewer records measure the network, so it is ranked by its accuracy less one standard
error.

Where records come in groups, everything is counted in groups (`nanoprune/lab/statistics/units.py`): halves are of
groups, and the scores of a group are aggregated by their mean and by their largest, so that each attack is two. The
attack network is trained on records; what its scores say of a group is decided by a threshold that is fitted on the
groups that end its training.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.attack.metrics import balanced_accuracy
from nanoprune.attack.network import MIN_PATIENCE, PATIENCE, attack_scores, fit_attack_network, held_out_share
from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.audit import log_space
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.shards import Advance, train_shards
from nanoprune.lab.experiment.validation import FOLDS, cross_validated
from nanoprune.lab.statistics.units import Units, attack_name
from nanoprune.nn import Network, Passes
from nanoprune.nn.passes import Objective
from nanoprune.records import shuffled

SCORES = {
    "correctness": log_space.correctness,
    "confidence": log_space.confidence,
    "entropy": log_space.entropy,
    "modified_entropy": log_space.modified_entropy,
    "loss": log_space.confidence,  # an increasing function of log p_y, as of p_y: the two attacks are one
}
ATTACKS = (*SCORES, "network")
STEPS = 400  # of the attack network in an epoch, at most: many records come in larger batches
CHECK = -(-PATIENCE // MIN_PATIENCE)  # steps between two held-out losses, at most
MOST_HELD_OUT = 2048  # members, and non-members, of which the held-out loss is taken, at most
ENOUGH = 1e-3  # held-out loss, in nats, at which training ends: less than that is left to gain, no decision changes
GAIN = 1e-3  # share of its loss that a stage must gain within its patience
NO_RANK = -np.inf  # of rules that do not exist, and of attacks that are no candidates


@dataclasses.dataclass(frozen=True, eq=False)
class Attacked:
    """One attack on n units: scores (n,), higher for members; its decisions by one threshold and by one per class.

    parts: index arrays whose scores come from the model alone, or from the membership of other units than their own.
    own: for each fold the accuracy on the attacker's records by one threshold and by one per class, (folds, 2);
    None for an attack that is no candidate for the strongest.
    refitted: the decisions, by one threshold and by one per class, where each quarter of the attacker's records is left
    out, (2, FOLDS, n); None where that is not known. They tell how much decisions owe to the fit.
    """

    scores: np.ndarray
    said: np.ndarray
    said_per_class: np.ndarray | None
    parts: list[np.ndarray]
    own: np.ndarray | None = None
    refitted: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """Fit on `known`, score the units `scored` of the target. rows: those of the target that are `known`, (n,) bool;
    None where it is another model's."""

    known: Predictions
    scored: np.ndarray
    rows: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkScores:
    """Logits of membership of the records (n,); for each fold those of the attacker's units that ended the training,
    records (k,), with what they are of, and whether it ended because no more loss was left to gain."""

    z: np.ndarray
    held_out: list[tuple[np.ndarray, Units]]
    exhausted: list[bool]


def folds(target: Predictions, shadow: Predictions | None, rng: np.random.Generator) -> list[Fold]:
    """One fold with a shadow, else two: a random half of the members and of the non-members against the other half."""
    units = target.units
    if shadow is not None:
        return [Fold(shadow, np.arange(len(units.y)))]
    half = np.zeros(len(units.y), bool)
    for kind in (units.member, ~units.member):
        rows = rng.permutation(np.flatnonzero(kind))
        half[rows[: len(rows) // 2]] = True
    rows = [units.rows(known) for known in (half, ~half)]
    scored = (np.flatnonzero(other) for other in (~half, half))
    return [Fold(target.rows(known), of, known) for known, of in zip(rows, scored, strict=True)]


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
    """Every attack of ATTACKS on the target, with each aggregation of its units; `quick`: all but the network.

    The results do not depend on `threads`. start(stage, total) and advance(steps) tell progress: of the network in
    batches, whose number nobody knows beforehand. note(text) is called with what a reader should know.
    """
    attacked: dict[str, Attacked] = {}
    start("threshold attacks", len(SCORES))
    for name, score in SCORES.items():
        first = next(known for known, of in SCORES.items() if of is score)
        if name == first:
            attacked |= threshold_attacks(name, target, parts, seed)
        else:  # the same score under another name
            attacked |= {attack_name(name, of): attacked[attack_name(first, of)] for of in target.units.aggregations}
        advance(1)
    if quick:
        return attacked
    start("attack network, batches", None)
    found = _network_scores(target, parts, seed, threads, advance)
    attacked |= {
        attack_name("network", aggregation): _network_attack(target.units, found, aggregation, parts)
        for aggregation in target.units.aggregations
    }
    if any(found.exhausted):
        note(
            f"attack network: training ended in {sum(found.exhausted)} of {len(parts)} where its held-out loss fell "
            f"below {ENOUGH:g}, since no more was left to gain"
        )
    return attacked


def threshold_attacks(name: str, target: Predictions, parts: list[Fold], seed: int) -> dict[str, Attacked]:
    """One score, with each aggregation, and the thresholds that are best on the known units of each fold."""
    scores = SCORES[name](target.log_odds, target.y)
    fitted = [
        SCORES[name](fold.known.log_odds, fold.known.y) if fold.rows is None else scores[fold.rows] for fold in parts
    ]
    rules = (False,) if name == "correctness" else (False, True)
    return {
        attack_name(name, aggregation): _threshold_attack(
            target.units,
            target.units.combine(scores, aggregation),
            [fold.known.units.combine(known, aggregation) for fold, known in zip(parts, fitted, strict=True)],
            parts,
            rules,
            seed,
        )
        for aggregation in target.units.aggregations
    }


def _threshold_attack(
    units: Units, scores: np.ndarray, fitted: list[np.ndarray], parts: list[Fold], rules: tuple[bool, ...], seed: int
) -> Attacked:
    """Scores (n,) of the units, decided by the thresholds that are best for the scores `fitted` of each fold."""
    said = [np.zeros(len(scores), bool) for _ in range(2)]
    refitted = np.zeros((2, FOLDS, len(scores)), bool)
    own = np.full((len(parts), 2), NO_RANK)
    for i, (fold, known_scores) in enumerate(zip(parts, fitted, strict=True)):
        known, rows = fold.known.units, fold.scored
        for per_class in rules:
            rule = Thresholds.fit(known_scores, known.y, known.member, units.classes, per_class)
            said[per_class][rows] = rule.predict(scores[rows], units.y[rows])
            trial, fits = cross_validated(known_scores, known, per_class, np.random.default_rng([seed, i]))
            own[i, int(per_class)] = balanced_accuracy(trial[known.member], trial[~known.member])
            for q, fit in enumerate(fits):
                refitted[int(per_class), q, rows] = fit.predict(scores[rows], units.y[rows])
    by_class = said[1] if True in rules else None
    return Attacked(scores, said[0], by_class, [np.arange(len(scores))], own, refitted)


def _network_scores(
    target: Predictions, parts: list[Fold], seed: int, threads: int, advance: Callable[[int], None]
) -> NetworkScores:
    """An attack network for each fold, trained by one process each: the samples of a batch are not shared among
    processes, whose sums would depend on their number."""
    rows = [target.units.rows(np.isin(np.arange(len(target.units.y)), fold.scored)) for fold in parts]  # (n,) bool

    def attack(shard: slice, advance: Advance) -> tuple[np.ndarray, tuple[np.ndarray, Units], bool]:
        fold, generator = parts[shard.start], np.random.default_rng([seed, shard.start])
        of = fold.known.units
        place = np.argsort(generator.permutation(len(of.y)))
        known = fold.known.rows(np.argsort(place[of.of], kind="stable"))  # what is held out is the end of it
        ended_by = held_out_share(known.units.member, MOST_HELD_OUT)
        held_out = known.units.rows(ended_by)
        batch, passes = _batch(len(known.y)), functools.partial(CountedPasses, advance)
        h, losses = fit_attack_network(
            known.p, known.y, known.member, held_out, generator, batch, passes, PartsOfEpochs(), ENOUGH, GAIN
        )
        own = attack_scores(h, known.p[held_out], known.y[held_out]), known.units.part(ended_by)
        scored = rows[shard.start]
        return attack_scores(h, target.p[scored], target.y[scored]), own, bool(min(losses) <= ENOUGH)

    z = np.empty(len(target.y))
    with single_threaded_blas():
        found = train_shards(attack, len(parts), threads, 1, advance)
    for of_fold, (scores, _, _) in zip(rows, found, strict=True):
        z[of_fold] = scores
    return NetworkScores(z, [own for _, own, _ in found], [exhausted for _, _, exhausted in found])


def _network_attack(units: Units, found: NetworkScores, aggregation: str, parts: list[Fold]) -> Attacked:
    """The attack network's scores with one aggregation. A record is said to be a member where its logit is at least 0;
    of groups, thresholds that are fitted on what ended the training decide."""
    scores = units.combine(found.z, aggregation)
    said, own = np.zeros(len(scores), bool), np.full((len(parts), 2), NO_RANK)
    for i, (fold, (z, of)) in enumerate(zip(parts, found.held_out, strict=True)):
        known = of.combine(z, aggregation)
        rule, trial = Thresholds(np.zeros(units.classes)), known >= 0
        if aggregation:
            rule = Thresholds.fit(known, of.y, of.member, of.classes, per_class=False)
            trial, _ = cross_validated(known, of, False, np.random.default_rng(i))
        said[fold.scored] = rule.predict(scores[fold.scored], units.y[fold.scored])
        own[i, 0] = _cautious_accuracy(trial, of.member)
    return Attacked(scores, said, None, [fold.scored for fold in parts], own)


class PartsOfEpochs:
    """In place of an epoch a part of one, of at most so many batches: from many records the attack network has learnt
    what there is to learn long before it has seen them all three times."""

    def __init__(self, most: int = CHECK) -> None:
        self.most = most
        self.left: list[list[np.ndarray]] = []

    def __call__(self, training: np.ndarray, batch: int, generators: list[np.random.Generator]) -> list[np.ndarray]:
        if not self.left:
            batches = list(shuffled(training, batch, generators))
            parts = -(-len(batches) // self.most)
            ends = np.linspace(0, len(batches), parts + 1).astype(int)
            self.left = [batches[start:end] for start, end in itertools.pairwise(ends)]
        return self.left.pop(0)


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
