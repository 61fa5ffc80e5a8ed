"""All attacks on a fleet of classifiers: fitted on the records that the attacker knows, measured on the scored ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from nanoprune.attack import metrics, scores
from nanoprune.attack.network import attack_scores, fit_attack_network, held_out_share
from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.engine.shards import Advance, train_shards
from nanoprune.lab.experiment.label_only import Logistic
from nanoprune.lab.storage.checkpoint import Slot

SCORES = {
    "correctness": scores.correctness,
    "confidence": scores.confidence,
    "entropy": scores.entropy,
    "modified_entropy": scores.modified_entropy,
}
ATTACKS = ("network", *SCORES)
LABEL_ONLY = "label_only"
FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of R classifiers on n records each.

    p (R, n, classes) float64: probabilities; y (R, n): labels; member (n,) bool, the same for every replica. right
    (R, n, copies) bool: whether the label of each copy of a record is predicted (`label_only`); None where that
    was not queried, and then there is no label-only attack.
    """

    p: np.ndarray
    y: np.ndarray
    member: np.ndarray
    right: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One attack on R classifiers; each array has one entry per classifier, measured on the scored records.

    own_accuracy is measured on the held-out known records instead: `strongest` chooses by it. tpr_at_fpr has None where
    there are too few non-members to measure it. scores (R, n) are those of the scored records, for the ROC.
    """

    accuracy: np.ndarray
    own_accuracy: np.ndarray
    auc: np.ndarray
    tpr_at_fpr: dict[float, np.ndarray | None]
    scores: np.ndarray

    def of(self, replicas: slice) -> Outcome:
        """The outcome for some of the classifiers."""
        rates = {fpr: None if rate is None else rate[replicas] for fpr, rate in self.tpr_at_fpr.items()}
        arrays = (self.accuracy[replicas], self.own_accuracy[replicas], self.auc[replicas])
        return Outcome(*arrays, rates, self.scores[replicas])


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
    LABEL_ONLY where the copies were queried. A share HELD_OUT of the known records, the last ones of the members and of
    the non-members, is held out: the attack network stops by it, and the attacks are ranked by it. (That favours the
    network slightly in the ranking.) For their final use, thresholds and the logistic model of the label-only attack
    are fitted on all known records.
    advance(k) is called when k more classifiers have an attack network. slot(r, hash of the outputs): where the scores
    of the network that attacks classifier r are kept, if anywhere, so that an interrupted run need not repeat them.
    Raises ArgumentError where the attacker knows fewer than four members or non-members.
    """
    held_out = held_out_share(known.member)
    own, others = _network_scores(known, scored, held_out, generators, threads, advance, slot)
    zero = [Thresholds(np.zeros(known.p.shape[2]))] * len(own)  # "member" where the logit is at least 0
    outcomes = {"network": _outcome(zero, zero, own, others, known, scored, held_out)}
    for name, score in SCORES.items():
        own, others = score(known.p, known.y), score(scored.p, scored.y)
        for per_class in (False, True) if name != "correctness" else (False,):
            trial, final = (
                [_fit(own[r], known.y[r], known, part, per_class) for r in range(len(own))]
                for part in (~held_out, np.ones_like(held_out))
            )
            key = f"{name}, per class" if per_class else name
            outcomes[key] = _outcome(final, trial, own, others, known, scored, held_out)
    if known.right is not None and scored.right is not None:
        own, others = _label_only_scores(known, scored, held_out)
        outcomes[LABEL_ONLY] = _outcome(zero, zero, own, others, known, scored, held_out)
    return outcomes


def strongest(outcomes: dict[str, Outcome]) -> str:
    """The attack with the best mean accuracy over the classifiers on the held-out known records.

    The scored records have no part in the choice, so the accuracy on them is not biased by it.
    """
    return max(outcomes, key=lambda name: outcomes[name].own_accuracy.mean())


def _fit(own: np.ndarray, y: np.ndarray, known: Outputs, part: np.ndarray, per_class: bool) -> Thresholds:
    return Thresholds.fit(own[part], y[part], known.member[part], known.p.shape[2], per_class)


def _label_only_scores(known: Outputs, scored: Outputs, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of membership from a logistic model for each classifier: of the known records (R, n), by a model that was
    fitted without the held-out ones, and of the scored records (R, m), by one that was fitted on all known ones."""
    own, others = [], []
    for features, scored_features in zip(known.right, scored.right, strict=True):
        own.append(Logistic.fit(features[~held_out], known.member[~held_out]).scores(features))
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
    """Logits of membership of the known (R, n) and the scored records (R, m), one attack network per classifier."""

    def attack(shard: slice, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
        r = shard.start  # each network stops at its own epoch, so each is trained alone
        parts = {"known": known, "scored": scored}
        digest = hashlib.sha256(b"".join(part.p[r].tobytes() for part in parts.values())).hexdigest()
        kept = slot(r, digest)
        saved = kept.saved(1) if kept else None
        if saved:
            scores = {name: saved.array(name, (1, len(part.member)), np.float64) for name, part in parts.items()}
        else:
            h, _ = fit_attack_network(known.p[r], known.y[r], known.member, held_out, generators[r])
            scores = {name: attack_scores(h, part.p[r], part.y[r])[None] for name, part in parts.items()}  # (1, n)
            if kept:
                kept.save(scores)
        advance(1)
        return scores["known"][0], scores["scored"][0]

    own, others = zip(*train_shards(attack, len(known.y), threads, 1, advance), strict=True)
    return np.stack(own), np.stack(others)


def _outcome(
    rules: list[Thresholds],
    trial: list[Thresholds],
    own: np.ndarray,
    others: np.ndarray,
    known: Outputs,
    scored: Outputs,
    held_out: np.ndarray,
) -> Outcome:
    """The metrics of one attack from its scores: by `rules` on the scored records, by `trial` on the held-out ones."""
    R, member = range(len(rules)), scored.member
    tpr_at_fpr = {}
    for fpr in FALSE_POSITIVE_RATES:
        rates = [metrics.tpr_at_fpr(others[r, member], others[r, ~member], fpr) for r in R]
        tpr_at_fpr[fpr] = None if None in rates else np.array(rates)
    kept = held_out
    return Outcome(
        accuracy=np.array([rules[r].accuracy(others[r], scored.y[r], member) for r in R]),
        own_accuracy=np.array([trial[r].accuracy(own[r, kept], known.y[r, kept], known.member[kept]) for r in R]),
        auc=np.array([metrics.auc(others[r, member], others[r, ~member]) for r in R]),
        tpr_at_fpr=tpr_at_fpr,
        scores=others,
    )
