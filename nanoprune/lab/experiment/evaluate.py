"""All attacks on a fleet of classifiers: fitted on the records that the attacker knows, measured on the scored ones."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from nanoprune.attack import metrics, scores
from nanoprune.attack.network import attack_scores, fit_attack_network, held_out_share
from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.engine.shards import Advance, train_shards
from nanoprune.lab.experiment.label_only import Logistic
from nanoprune.lab.experiment.validation import cross_validated
from nanoprune.lab.statistics.units import Units, attack_name, units_of
from nanoprune.lab.storage.checkpoint import Slot

SCORES = {
    "correctness": scores.correctness,
    "confidence": scores.confidence,
    "entropy": scores.entropy,
    "modified_entropy": scores.modified_entropy,
}
ATTACKS = ("network", *SCORES)
LABEL_ONLY = "label_only"
PER_CLASS = ", per class"  # ends the names of attacks with a threshold for each class
FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of R classifiers on n records each.

    p (R, n, classes) float64: probabilities; y (R, n): labels; member (n,) bool, the same for every replica. right
    (R, n, copies) bool: whether the label of each copy of a record is predicted (`label_only`); None where that
    was not queried, and then there is no label-only attack. group (R, n) integers, equal for the records of one person;
    None where each record counts on its own.
    """

    p: np.ndarray
    y: np.ndarray
    member: np.ndarray
    right: np.ndarray | None = None
    group: np.ndarray | None = None

    @functools.cached_property
    def units(self) -> list[Units]:
        """What is counted of each classifier's records: these, or their groups."""
        R, classes = len(self.y), self.p.shape[2]
        groups = [None] * R if self.group is None else self.group
        return [units_of(self.y[r], self.member, classes, groups[r]) for r in range(R)]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One attack on R classifiers; each array has one entry per classifier, measured on the scored units: records, or
    groups of them.

    own_accuracy is measured on the held-out known units instead: `strongest` chooses by it. tpr_at_fpr has None where
    there are too few non-members to measure it. scores: of each classifier's scored units (U,), for the ROC; of records
    (R, n). member: of each classifier, whether they are members, (U,) bool.
    """

    accuracy: np.ndarray
    own_accuracy: np.ndarray
    auc: np.ndarray
    tpr_at_fpr: dict[float, np.ndarray | None]
    scores: Sequence[np.ndarray]
    member: list[np.ndarray]

    def of(self, replicas: slice) -> Outcome:
        """The outcome for some of the classifiers."""
        rates = {fpr: None if rate is None else rate[replicas] for fpr, rate in self.tpr_at_fpr.items()}
        arrays = (self.accuracy[replicas], self.own_accuracy[replicas], self.auc[replicas])
        return Outcome(*arrays, rates, self.scores[replicas], self.member[replicas])


def evaluate(
    known: Outputs,
    scored: Outputs,
    generators: list[np.random.Generator],
    threads: int = 1,
    advance: Callable[[int], None] = lambda classifiers: None,
    slot: Callable[[int, str], Slot | None] = lambda classifier, outputs: None,
) -> dict[str, Outcome]:
    """Attack R classifiers; `known` and `scored` are outputs on disjoint records.

    The names are those of ATTACKS, "NAME, per class" for the three scores that gain from a threshold per class, and
    LABEL_ONLY where the copies were queried; where groups are counted, each is there for both aggregations of the
    scores of a group: "NAME (mean)", "NAME (max), per class". A share HELD_OUT of the known units, the last ones of the
    members and of the non-members, is held out: the attack network stops by it, and the attacks are ranked by it. (That
    favours the network slightly in the ranking.) For their final use, thresholds and the logistic model of the
    label-only attack are fitted on all that is known. The network and the logistic model are fitted on records; their
    scores of groups are decided by thresholds that the held-out groups give, and ranked by cross-validation on these.
    advance(k) is called when k more classifiers have an attack network. slot(r, hash of the outputs): where the scores
    of the network that attacks classifier r are kept, if anywhere, so that an interrupted run need not repeat them.
    Raises ArgumentError where the attacker knows fewer than four members or non-members.
    """
    held_out = [held_out_share(units.member) for units in known.units]  # (U,) bool each
    rows = np.stack([units.rows(of) for units, of in zip(known.units, held_out, strict=True)])  # (R, n)
    own, others = _network_scores(known, scored, rows, generators, threads, advance, slot)
    outcomes = _decided("network", own, others, known, scored, held_out)
    for name, score in SCORES.items():
        own, others = score(known.p, known.y), score(scored.p, scored.y)
        for aggregation in known.units[0].aggregations:
            outcomes |= _thresholded(name, aggregation, own, others, known, scored, held_out)
    if known.right is not None and scored.right is not None:
        own, others = _label_only_scores(known, scored, rows)
        outcomes |= _decided(LABEL_ONLY, own, others, known, scored, held_out)
    return outcomes


def strongest(outcomes: dict[str, Outcome]) -> str:
    """The attack with the best mean accuracy over the classifiers on the held-out known records.

    The scored records have no part in the choice, so the accuracy on them is not biased by it.
    """
    return max(outcomes, key=lambda name: outcomes[name].own_accuracy.mean())


def _thresholded(
    name: str,
    aggregation: str,
    own: np.ndarray,
    others: np.ndarray,
    known: Outputs,
    scored: Outputs,
    held_out: list[np.ndarray],
) -> dict[str, Outcome]:
    """The outcomes of one score with one aggregation, by one threshold and by one per class: own (R, n) are the scores
    of the known records, others (R, m) of the scored ones."""
    own, found = _combined(own, known, aggregation), {}
    for per_class in (False, True) if name != "correctness" else (False,):
        trial, final = (
            [
                Thresholds.fit(s[part], units.y[part], units.member[part], units.classes, per_class)
                for s, units, part in zip(own, known.units, parts, strict=True)
            ]
            for parts in ([~of for of in held_out], [np.ones_like(of) for of in held_out])
        )
        said = [rule.predict(s, units.y) for rule, s, units in zip(trial, own, known.units, strict=True)]
        key = attack_name(name, aggregation) + (PER_CLASS if per_class else "")
        found[key] = _outcome(final, said, _combined(others, scored, aggregation), known, scored, held_out)
    return found


def _decided(
    name: str, own: np.ndarray, others: np.ndarray, known: Outputs, scored: Outputs, held_out: list[np.ndarray]
) -> dict[str, Outcome]:
    """The outcomes, with every aggregation, of a model that gives logits of membership; arguments as of `_thresholded`.

    A record is said to be a member where its logit is at least 0.
    """
    found = {}
    for aggregation in known.units[0].aggregations:
        rules, said = [], []
        for s, units, part in zip(_combined(own, known, aggregation), known.units, held_out, strict=True):
            rule, trial = Thresholds(np.zeros(units.classes)), s >= 0
            if aggregation:
                of = units.part(part)
                rule = Thresholds.fit(s[part], of.y, of.member, of.classes, per_class=False)
                trial[part], _ = cross_validated(s[part], of, False, np.random.default_rng(0))
            rules.append(rule)
            said.append(trial)
        others_of = _combined(others, scored, aggregation)
        found[attack_name(name, aggregation)] = _outcome(rules, said, others_of, known, scored, held_out)
    return found


def _combined(scores: np.ndarray, outputs: Outputs, aggregation: str) -> Sequence[np.ndarray]:
    """The scores of each classifier's units, from those of its records (R, n)."""
    if not aggregation:
        return scores
    return [units.combine(s, aggregation) for units, s in zip(outputs.units, scores, strict=True)]


def _label_only_scores(known: Outputs, scored: Outputs, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of membership from a logistic model for each classifier: of the known records (R, n), by a model that was
    fitted without the held-out ones (R, n) bool, and of the scored records (R, m), by one that was fitted on all known
    ones."""
    own, others = [], []
    for features, scored_features, out in zip(known.right, scored.right, held_out, strict=True):
        own.append(Logistic.fit(features[~out], known.member[~out]).scores(features))
        others.append(Logistic.fit(features, known.member).scores(scored_features))
    return np.stack(own), np.stack(others)


def _network_scores(
    known: Outputs,
    scored: Outputs,
    held_out: np.ndarray,
    generators: list[np.random.Generator],
    threads: int,
    advance: Callable[[int], None],
    slot: Callable[[int, str], Slot | None],
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of membership of the known (R, n) and the scored records (R, m), one attack network per classifier;
    held_out (R, n) bool."""

    def attack(shard: slice, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
        r = shard.start  # each network stops at its own epoch, so each is trained alone
        parts = {"known": known, "scored": scored}
        digest = hashlib.sha256(b"".join(part.p[r].tobytes() for part in parts.values())).hexdigest()
        kept = slot(r, digest)
        saved = kept.saved(1) if kept else None
        if saved:
            scores = {name: saved.array(name, (1, len(part.member)), np.float64) for name, part in parts.items()}
        else:
            h, _ = fit_attack_network(known.p[r], known.y[r], known.member, held_out[r], generators[r])
            scores = {name: attack_scores(h, part.p[r], part.y[r])[None] for name, part in parts.items()}  # (1, n)
            if kept:
                kept.save(scores)
        advance(1)
        return scores["known"][0], scores["scored"][0]

    own, others = zip(*train_shards(attack, len(known.y), threads, 1, advance), strict=True)
    return np.stack(own), np.stack(others)


def _outcome(
    rules: list[Thresholds],
    said: list[np.ndarray],
    others: Sequence[np.ndarray],
    known: Outputs,
    scored: Outputs,
    held_out: list[np.ndarray],
) -> Outcome:
    """The metrics of one attack from its scores `others` of the scored units, by `rules`; said: the decisions about the
    known units that rank it, of which the held-out ones count."""
    R, member = range(len(rules)), [units.member for units in scored.units]
    sides = [(others[r][member[r]], others[r][~member[r]]) for r in R]
    tpr_at_fpr = {}
    for fpr in FALSE_POSITIVE_RATES:
        rates = [metrics.tpr_at_fpr(*sides[r], fpr) for r in R]
        tpr_at_fpr[fpr] = None if None in rates else np.array(rates)
    own = [(said[r][held_out[r]], known.units[r].member[held_out[r]]) for r in R]
    return Outcome(
        accuracy=np.array([rules[r].accuracy(others[r], scored.units[r].y, member[r]) for r in R]),
        own_accuracy=np.array([metrics.balanced_accuracy(of[inside], of[~inside]) for of, inside in own]),
        auc=np.array([metrics.auc(*sides[r]) for r in R]),
        tpr_at_fpr=tpr_at_fpr,
        scores=others,
        member=member,
    )
