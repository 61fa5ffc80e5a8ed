"""What an attack found, in numbers with their intervals; and what cannot be measured, with the reason.

All of it counts units: records, or groups of them (`nanoprune/lab/statistics/units.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.attack import metrics
from nanoprune.lab.audit.attack_choice import Chosen
from nanoprune.lab.audit.prediction_attacks import Attacked
from nanoprune.lab.statistics import (
    auc_interval,
    balanced_accuracy_interval,
    benjamini_hochberg,
    clopper_pearson,
    conformal_p_values,
    epsilon_lower_bound,
    gaussian_lower_bound,
    members_in_common,
)
from nanoprune.lab.statistics.units import Units

RATES = (0.01, 0.001)  # false-positive rates at which a true-positive rate is given
ROC_POINTS = 121
FEWEST_OF_CLASS = 10  # members and non-members that a class needs for an AUC of its own
EXPOSED = 20  # units named as the most exposed
LISTED = 1000  # units listed as scoring higher than chance allows


def sides(units: Units) -> dict[str, int]:
    """How many units are members, and how many are not."""
    return {"members": int(units.member.sum()), "nonmembers": int((~units.member).sum())}


def measure(units: Units, attacked: Attacked, alpha: float, of_epsilon: float | None, delta: float) -> dict[str, Any]:
    """One attack's entry of the audit: accuracies, AUC, TPR at fixed FPR, each with an interval of confidence
    1 - alpha on its own; and the bounds on epsilon, each of confidence 1 - of_epsilon (None: no bounds)."""
    member, scores, said = units.member, attacked.scores, attacked.said
    inside, outside = scores[member], scores[~member]
    per_class = attacked.said_per_class
    entry: dict[str, Any] = {"accuracy": balanced_accuracy_interval(said[member], said[~member], alpha)}
    entry["accuracy_per_class_threshold"] = (
        None if per_class is None else balanced_accuracy_interval(per_class[member], per_class[~member], alpha)
    )
    entry["auc"] = auc_interval(inside, outside, alpha)
    entry["tpr_at_fpr"] = {f"{rate:g}": tpr_interval(inside, outside, rate, alpha) for rate in RATES}
    entry["epsilon_lower_bound"], entry["epsilon_with_delta"] = epsilon(units, attacked, of_epsilon, delta)
    return entry


def tpr_interval(members: np.ndarray, nonmembers: np.ndarray, fpr: float, alpha: float) -> dict[str, float] | None:
    """{"value", "low", "high"} of the largest TPR at an FPR of at most `fpr`, Clopper-Pearson; None with too few.

    The interval is for the threshold that these non-members gave, whose true FPR is known no better than their number
    allows.
    """
    value = metrics.tpr_at_fpr(members, nonmembers, fpr)
    if value is None:
        return None
    low, high = clopper_pearson(round(value * len(members)), len(members), alpha)
    return {"value": value, "low": low, "high": high}


def measurable_rates(units: Units) -> list[float]:
    """The false-positive rates at which there are enough non-members for a TPR."""
    return [rate for rate in RATES if metrics.needed_nonmembers(rate) <= (~units.member).sum()]


def refusals(units: Units) -> list[str]:
    """What cannot be measured on so few records, with the number that would be needed."""
    there, of = int((~units.member).sum()), "groups of " if units.grouped else ""
    return [
        f"tpr_at_fpr {rate:g}: needs at least {metrics.needed_nonmembers(rate):,} {of}non-members, there are {there:,}"
        for rate in RATES
        if rate not in measurable_rates(units)
    ]


def epsilon(
    units: Units, attacked: Attacked, alpha: float | None, delta: float
) -> tuple[float | None, dict[str, float] | None]:
    """The bound on epsilon at delta = 0, and {"delta", "any", "gaussian"} with those at `delta`: for any training, and
    for training whose trade-off curve is Gaussian. None and None where alpha is None.

    Each is the largest over the parts of the records whose scores do not rest on their own membership; alpha is divided
    by the number of parts.
    """
    if alpha is None:
        return None, None
    sides = []
    for rows in attacked.parts:
        scores, member = attacked.scores[rows], units.member[rows]
        sides.append((scores[member], scores[~member], alpha / len(attacked.parts)))
    return max(epsilon_lower_bound(*of) for of in sides), {
        "delta": delta,
        "any": max(epsilon_lower_bound(*of, delta) for of in sides),
        "gaussian": max(gaussian_lower_bound(*of, delta) for of in sides),
    }


def strongest(units: Units, chosen: Chosen, alpha: float, each: float) -> dict[str, Any]:
    """The attack that was chosen on the attacker's records, and what it does on the scored ones.

    The choice does not depend on the records that it is measured on: nothing is divided by the number of candidates.
    `each`: alpha of a TPR and its FPR together, for figures that stand on their own; `tail` holds at `alpha` for all
    rates together.
    """
    member, rates = units.member, measurable_rates(units)
    (name, per_class) = chosen.main
    return {
        "attack": name,
        "per_class": per_class,
        "candidates": chosen.candidates,
        "chosen": [{"attack": attack, "per_class": of_class} for attack, of_class in chosen.rules],
        "accuracy": balanced_accuracy_interval(chosen.said[member], chosen.said[~member], alpha),
        "auc": auc_interval(chosen.scores[member], chosen.scores[~member], each),
        "accuses": {
            "tpr": _share(chosen.said[member], each / 2),
            "fpr": _share(chosen.said[~member], each / 2),
        },
        "tail": {f"{rate:g}": accused_few(units, chosen.scores, rate, alpha / len(rates)) for rate in rates},
    }


def accused_few(units: Units, scores: np.ndarray, fpr: float, alpha: float) -> dict[str, Any]:
    """What an attacker finds who accuses a share `fpr` of the non-members: {"tpr": I, "fpr": I, "odds": low}.

    The threshold is the non-members' score of rank k + 1, k = fpr m: the share of all non-members above it has the beta
    distribution of Clopper-Pearson's upper limit for k of m. Where scores tie only c < k lie above it, and the lower
    limit is that for c of m. So "fpr" is what that threshold may truly have, and "odds" is at least by how much an
    accusation multiplies the odds that the record is a member, at confidence 1 - alpha.
    """
    inside, outside = scores[units.member], np.sort(scores[~units.member])[::-1]
    k, m = int(fpr * len(outside) + 1e-9), len(outside)
    tpr, c = _share(inside > outside[k], alpha), int((outside > outside[k]).sum())
    low, high = clopper_pearson(c, m, alpha)[0], clopper_pearson(k, m, alpha)[1]
    return {"tpr": tpr, "fpr": {"value": c / m, "low": low, "high": high}, "odds": tpr["low"] / high}


def _share(said: np.ndarray, alpha: float) -> dict[str, float]:
    """{"value", "low", "high"} of the share of True, Clopper-Pearson."""
    low, high = clopper_pearson(int(said.sum()), len(said), alpha)
    return {"value": float(said.mean()), "low": low, "high": high}


def discoveries(units: Units, chosen: Chosen, q: float) -> dict[str, Any]:
    """The members that score higher than non-members do by chance, with the false discovery rate at most q.

    p-values are taken among the non-members whose scores are comparable (`nanoprune/lab/statistics/discovery.py`).
    {"fdr", "count", "records": [{"row", "label", "p_value"}]}, the least p-values first, at most LISTED of them. A
    group is named by the row of its first record.
    """
    p, member = np.ones(len(units.y)), units.member
    for rows in chosen.comparable:
        inside, outside = rows[member[rows]], rows[~member[rows]]
        p[inside] = conformal_p_values(chosen.scores[inside], chosen.scores[outside])
    rows = np.flatnonzero(member)
    rows = rows[benjamini_hochberg(p[rows], q)]
    named = rows[np.lexsort((-chosen.scores[rows], p[rows]))][:LISTED]
    records = [{"row": int(units.first[i]), "label": int(units.y[i]), "p_value": float(p[i])} for i in named]
    return {"fdr": q, "count": len(rows), "records": records}


def auxiliary_attacks(units: Units, attacks: dict[str, Attacked], alpha: float) -> dict[str, dict[str, float]]:
    """The accuracies of attackers who have more than the model; alpha is divided by their number."""
    member = units.member
    return {
        name: balanced_accuracy_interval(of.said[member], of.said[~member], alpha / len(attacks))
        for name, of in attacks.items()
    }


def agreement_of(units: Units, attacks: dict[str, Attacked]) -> dict[str, Any]:
    """Whether the attacks find the same members: {"attacks", "members", "decisions", RATE: ...}, `members_in_common` of
    those that their decisions find, and of those that score above all but a share RATE of the non-members."""
    each = [found_members(units, of) for of in attacks.values()]
    found = {kind: [of[kind] for of in each] for kind in (each[0] if each else ())}
    counts = {"attacks": len(attacks), "members": int(units.member.sum())}
    return counts | {name: members_in_common(np.array(rows)) for name, rows in found.items()}


def found_members(units: Units, attacked: Attacked) -> dict[str, np.ndarray]:
    """Which members an attack finds, (members,) bool: "decisions", and RATE, above all but that share of the others."""
    inside, outside = attacked.scores[units.member], attacked.scores[~units.member]
    above = {f"{rate:g}": _above(inside, outside, rate) for rate in measurable_rates(units)}
    return {"decisions": attacked.said[units.member]} | above


def _above(inside: np.ndarray, outside: np.ndarray, fpr: float) -> np.ndarray:
    """Which scores lie above all but a share fpr of `outside`, (n,) bool."""
    return inside > np.sort(outside)[::-1][int(fpr * len(outside) + 1e-9)]


def worst_class(classes: dict[str, Any]) -> str | None:
    """The class of the highest AUC: among those whose interval lies above 0.5, or among all where none does."""
    return max(classes, key=lambda c: (classes[c]["auc"]["low"] > 0.5, classes[c]["auc"]["value"]), default=None)


def per_class(units: Units, scores: np.ndarray, alpha: float) -> dict[str, Any]:
    """For each class with enough records the AUC of the scores within it; alpha is divided by the number of classes."""
    counts, enough = class_counts(units)
    entries = {}
    for c in enough:
        of_class = units.y == c
        auc = auc_interval(scores[of_class & units.member], scores[of_class & ~units.member], alpha / len(enough))
        entries[str(c)] = {"members": int(counts[c, 0]), "nonmembers": int(counts[c, 1]), "auc": auc}
    return entries


def class_counts(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Members and non-members of each class (classes, 2), and the classes with enough of both."""
    sides = (units.y[units.member], units.y[~units.member])
    counts = np.stack([np.bincount(y, minlength=units.classes) for y in sides], axis=1)  # (classes, 2)
    return counts, np.flatnonzero(counts.min(axis=1) >= FEWEST_OF_CLASS)


def most_exposed(units: Units, scores: np.ndarray) -> list[dict[str, Any]]:
    """The members of the highest scores, with the share of non-members that score as high. A group is named by the row
    of its first record, and has its number of records."""
    rows = np.flatnonzero(units.member)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:EXPOSED]
    outside = np.sort(scores[~units.member])
    false = (len(outside) - np.searchsorted(outside, scores[rows])) / len(outside)
    return [
        {"row": int(units.first[i]), "label": int(units.y[i]), "score": float(scores[i])}
        | ({"records": int(units.sizes[i])} if units.grouped else {})
        | {"false_positive_rate": float(f)}
        for i, f in zip(rows, false, strict=True)
    ]


def roc_band(members: np.ndarray, nonmembers: np.ndarray, alpha: float) -> dict[str, np.ndarray]:
    """The ROC on a logarithmic grid with pointwise Clopper-Pearson bands: fpr, tpr, low, high, each (points,)."""
    false, true = metrics.roc(members, nonmembers)
    grid = np.logspace(np.log10(1 / len(nonmembers)), 0, ROC_POINTS)
    tpr = true[np.searchsorted(false, grid * (1 + 1e-9), side="right") - 1]  # the largest TPR with FPR <= grid
    bands = np.array([clopper_pearson(round(t * len(members)), len(members), alpha) for t in tpr])
    return {"fpr": grid, "tpr": tpr, "low": bands[:, 0], "high": bands[:, 1]}
