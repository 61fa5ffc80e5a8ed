"""The verdict of an audit: the degree of the leak by fixed rules, the evidence, and the precision of an accusation.

Each kind of evidence has a lower limit, and all limits hold together at confidence 1 - alpha. It has the highest degree
whose bound in LIMITS its lower limit reaches, and exceeds the first; the verdict has the highest degree of all kinds.
So a degree is too high with a probability of at most alpha, and may be too low: what few records do not show is not
counted.

LIMITS are a convention, made so that the kinds agree: odds multiplied by 2 and by 10 are an epsilon of log 2 and
log 10; scores that are normal for members and for others, with one variance, have an advantage of 10 and of 40 points
at an AUC of 0.57 and 0.77.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nanoprune.errors import ArgumentError

DEGREES = ("no leak detected", "slight", "clear", "severe")
VOID = "void"
LIMITS = {
    "advantage": (0.0, 0.1, 0.4),  # TPR - FPR of the strongest attack
    "odds": (1.0, 2.0, 10.0),  # by how much the accusation of a few multiplies the odds of membership
    "epsilon": (0.0, math.log(2), math.log(10)),
    "class": (0.5, 0.57, 0.77),  # AUC within one class
}
PRIOR = 0.1  # share of members among those that the attacker may accuse, if nothing else is said
HUNDREDTHS = 100  # a bound on epsilon is told in hundredths, rounded down


def conclude(results: Mapping[str, Any], prior: float = PRIOR) -> dict[str, Any]:
    """{"degree", "sentences", "evidence", "prior", "precision"} from the other results of an audit; plain data.

    degree: one of DEGREES, or VOID where a validity check is void. evidence: [{"kind", "of", "low", "degree"}], "low"
    on the scale of LIMITS. Raises ArgumentError unless 0 < prior < 1.
    """
    from nanoprune.lab.report.degree import sentences  # here: it loads what draws plots

    check_prior(prior)
    found = list(evidence(results))
    void = any(check["outcome"] == VOID for check in results["validity"])
    degree = VOID if void else max((entry["degree"] for entry in found), key=DEGREES.index)
    verdict = {"degree": degree, "evidence": found, "prior": prior, "precision": precisions(results, prior)}
    return verdict | {"sentences": sentences(results, verdict)}


def check_prior(prior: float) -> None:
    """ArgumentError unless 0 < prior < 1."""
    if not 0 < prior < 1:
        raise ArgumentError(f"prior must lie between 0 and 1, got {prior:g}")


def evidence(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each kind of evidence that the model alone gives, with its lower limit and the degree that follows from it."""
    strongest, classes = results["strongest"], results["per_class"]
    yield _entry("advantage", None, 2 * strongest["accuracy"]["low"] - 1)
    for rate, found in strongest["tail"].items():
        yield _entry("odds", rate, found["odds"])
    on_the_model = (of for name, of in results["attacks"].items() if name not in results.get("auxiliary_attacks", ()))
    if bounds := [of["epsilon_lower_bound"] for of in on_the_model if of["epsilon_lower_bound"] is not None]:
        yield _entry("epsilon", None, math.floor(HUNDREDTHS * max(bounds)) / HUNDREDTHS)
    if classes:
        most = max(classes, key=lambda name: classes[name]["auc"]["low"])
        yield _entry("class", most, classes[most]["auc"]["low"])


def _entry(kind: str, of: str | None, low: float) -> dict[str, Any]:
    first, *others = LIMITS[kind]
    degree = 0 if low <= first else 1 + sum(low >= limit for limit in others)
    return {"kind": kind, "of": of, "low": low, "degree": DEGREES[degree]}


def precisions(results: Mapping[str, Any], prior: float) -> dict[str, Any]:
    """What share of the records that an attacker accuses are members, where a share `prior` of all are.

    {"accused": I, "few": {rate: I}}: of the strongest attack's decisions, and of an attacker who accuses few. The
    limits are those of the TPR and the FPR at once.
    """
    strongest = results["strongest"]
    return {
        "accused": precision(strongest["accuses"], prior),
        "few": {rate: precision(found, prior) for rate, found in strongest["tail"].items()},
    }


def precision(rates: Mapping[str, Mapping[str, float]], prior: float) -> dict[str, float] | None:
    """{"value", "low", "high"} of $pi TPR / (pi TPR + (1 - pi) FPR)$; None where nobody is accused."""

    def of(tpr: float, fpr: float) -> float:
        return prior * tpr / (prior * tpr + (1 - prior) * fpr)

    tpr, fpr = rates["tpr"], rates["fpr"]
    if not tpr["value"] + fpr["value"]:
        return None
    return {
        "value": of(tpr["value"], fpr["value"]),
        "low": of(tpr["low"], fpr["high"]),
        "high": of(tpr["high"], fpr["low"]),
    }


def reaches(degree: str, least: str) -> bool:
    """Whether a degree is `least` or worse; a void audit is."""
    return degree == VOID or DEGREES.index(degree) >= DEGREES.index(least)
