r"""Which records are exposed, and which more so after pruning: by record and by class, from shadow models.

A record's exposure is how far training on it moves a model's log odds phi of its label,

    $d(x) = (mu_in(x) - mu_out(x)) / sigma$,

the distance of the two normal distributions of the likelihood-ratio attack (sigma^2 pooled over all records): the
further apart, the surer an attacker. It is a property of the recipe and the record, not of one trained network.

Shadows come in pairs, one of which trained on the record and the other did not. The difference within a pair is a
measurement of d(x) of its own, so K shadows measure it K/2 times, and d(x) is their mean. One model of a pair may be
surer of all records than the other; that moves all differences by the same amount, up for the records that it trained
on and down for the rest. So the mean of the differences over the records is subtracted first: each model trained on
half of the records, and what is left of the exposures themselves in that mean is of the order of d / sqrt(n).

The records of a pair have its two networks in common: one that fits its members closely exposes them all, so that the
records are no independent measurements of a mean exposure. The pairs are. So intervals of means over the records, which
are those at hand, come from the pairs, each left out in turn (the jackknife, Tukey 1958), sigma included: of P pairs
with the means m_(-j) without the j-th, $s^2 = (P - 1)/P \sum_j (m_{(-j)} - \bar m)^2$, and Student's t of P - 1 degrees
of freedom. With one sigma for all that is Student's interval over the pairs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

from nanoprune.attack.metrics import balanced_accuracy
from nanoprune.attack.shadow.lira import FLOOR, lira_online, margin
from nanoprune.attack.shadow.moments import in_and_out
from nanoprune.lab.audit.views import others
from nanoprune.lab.statistics import positive_share
from nanoprune.lab.statistics.units import Units, units_of

NAMED = 20  # records that are named
PARTS = 8  # of the pairs, at most: an attack on all shadows is repeated without each


@dataclasses.dataclass(frozen=True, eq=False)
class Exposure:
    """pairs (P, n): d as each of P pairs of shadows measures it, whose mean is d (n,); without (P, n): the d that all
    pairs but one give, each left out in turn, with their own sigma."""

    pairs: np.ndarray
    without: np.ndarray

    def of(self, units: Units) -> Exposure:
        """The means over each unit's records."""
        return Exposure(units.mean(self.pairs), units.mean(self.without))


def exposure(logits: np.ndarray, y: np.ndarray, inside: np.ndarray) -> Exposure:
    """d of every record, by at least 3 pairs.

    logits (K, n, classes) of K shadows, y (n,), inside (K, n) bool, in which rows 2j and 2j + 1 are complements.
    """
    phi, first = margin(logits, y), inside[::2]  # (K, n), (P, n)
    P, n = first.shape
    sides = [np.where(first == of, phi[::2], phi[1::2]) for of in (True, False)]  # IN and OUT, (P, n) each
    squares = sum(((side - side.mean(axis=0)) ** 2).sum(axis=1) for side in sides)  # (P,)
    variance = squares.sum() / (2 * n * (P - 1)) + FLOOR  # pooled over all records
    # without pair j the squares about the new mean are fewer by P / (P - 1) times its own
    variances = (squares.sum() - squares * P / (P - 1)) / (2 * n * (P - 2)) + FLOOR  # (P,)
    difference = phi[::2] - phi[1::2]  # (P, n)
    difference -= difference.mean(axis=1, keepdims=True)
    measured = np.where(first, 1, -1) * difference
    without = (measured.sum(axis=0) - measured) / (P - 1)
    return Exposure(measured / np.sqrt(variance), without / np.sqrt(variances)[:, None])


def exposure_change(
    dense: Exposure, pruned: Exposure, y: np.ndarray, classes: int, alpha: float = 0.05
) -> dict[str, Any]:
    """How exposure changed from the dense to the pruned networks of the same pairs; plain data: over all, by class and
    by record (or by group, where `dense` and `pruned` are `of` groups).

    more_exposed: the share of the records whose exposure rose; its interval allows for what few shadows show by chance,
    and for what all records of a pair have in common (`nanoprune/lab/statistics/share_interval.py`).
    Other intervals are of means over records, from the pairs; alpha is divided by the number of classes. worst_class:
    the one whose exposure rose most, or fell least.
    """
    more_exposed = positive_share(pruned.pairs - dense.pairs, alpha)
    before, after = dense.pairs.mean(axis=0), pruned.pairs.mean(axis=0)  # (n,)
    change, without = after - before, pruned.without - dense.without  # (n,), (P, n)
    present = [c for c in range(classes) if (y == c).sum() > 1]
    per_class = {str(c): _jackknife(change[y == c], without[:, y == c], alpha / len(present)) for c in present}
    order = np.argsort(-change, kind="stable")[:NAMED]
    return {
        "dense": _jackknife(before, dense.without, alpha),
        "pruned": _jackknife(after, pruned.without, alpha),
        "change": _jackknife(change, without, alpha),
        "more_exposed": more_exposed,
        "per_class": per_class,
        "worst_class": max(per_class, key=lambda c: per_class[c]["value"]) if per_class else None,
        "most_risen": [
            {"row": int(i), "label": int(y[i]), "dense": float(before[i]), "pruned": float(after[i])} for i in order
        ],
    }


def fleet_change(
    dense: np.ndarray,
    pruned: np.ndarray,
    y: np.ndarray,
    inside: np.ndarray,
    alpha: float = 0.05,
    units: Units | None = None,
) -> dict[str, Any]:
    """What pruning changes in the recipe's networks, shadow by shadow: logits (K, n, classes) of both stages, y (n,),
    inside (K, n) bool. The accuracy of online LiRA on each shadow, fitted on the others except its twin ("member" where
    the likelihood ratio is above 1; of a group, its mean logarithm above 0), and the shadow's test accuracy.

    Twins share the pool between them, and count as one. The interval of the test accuracy is Student's over the K/2
    pairs. That of the attack leaves out one of PARTS parts of the pairs at a time, as attacked and as what the others
    are compared with: an attack on any of them rests on nearly the same shadows.
    """
    units = units or units_of(y, np.zeros(len(y), bool), dense.shape[2])
    phi = [margin(logits, y) for logits in (dense, pruned)]  # (K, n) each

    def change(rows: np.ndarray) -> float:
        before, after = (_attack_accuracy(of[rows], inside[rows], units) for of in phi)
        return after - before

    every = np.arange(len(inside))
    parts = np.array_split(every.reshape(-1, 2), min(PARTS, len(every) // 2))
    without = np.array([[change(np.setdiff1d(every, part))] for part in parts])  # (parts, 1)
    attack = _jackknife(np.array([change(every)]), without, alpha)
    right = [
        [(z.argmax(axis=1) == y)[~row].mean() for z, row in zip(logits, inside, strict=True)]
        for logits in (dense, pruned)
    ]
    test = np.subtract(right[1], right[0]).reshape(-1, 2).mean(axis=1)  # (K/2,)
    return {"attack_accuracy_change": attack, "test_accuracy_change": _interval(test, alpha)}


def _attack_accuracy(phi: np.ndarray, inside: np.ndarray, units: Units) -> float:
    """The mean accuracy of online LiRA on shadows with phi (K, n), each compared with the others but its twin."""
    K, trained = len(phi), inside[:, units.first]  # (K, U)
    of = [others(k, K) for k in range(K)]
    said = [units.mean(lira_online(phi[k], *in_and_out(phi[of[k]], inside[of[k]]))) > 0 for k in range(K)]
    return float(np.mean([balanced_accuracy(s[row], s[~row]) for s, row in zip(said, trained, strict=True)]))


def _interval(values: np.ndarray, alpha: float) -> dict[str, float]:
    """{"value", "low", "high"}: the mean of values (n,) with its 1 - alpha t interval."""
    mean, error = float(values.mean()), float(stats.sem(values))
    half = error * float(stats.t.ppf(1 - alpha / 2, len(values) - 1))
    return {"value": mean, "low": mean - half, "high": mean + half}


def _jackknife(values: np.ndarray, without: np.ndarray, alpha: float) -> dict[str, float]:
    """{"value", "low", "high"}: the mean of values (n,) with its 1 - alpha interval from without (P, n), the values
    where one pair is left out."""
    mean, P = float(values.mean()), len(without)
    error = np.sqrt((P - 1) * without.mean(axis=1).var())
    half = float(error * stats.t.ppf(1 - alpha / 2, P - 1))
    return {"value": mean, "low": mean - half, "high": mean + half}
