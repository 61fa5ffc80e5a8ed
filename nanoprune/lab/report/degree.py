"""The verdict in sentences for whoever decides about a model: how much it leaks, what an attacker gains, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nanoprune.lab.report.table import number

Results = Mapping[str, Any]
WORDS = {
    "void": "This audit is void: it says nothing about the model.",
    "no leak detected": "Degree: no leak detected. These attacks, on these records, do no better than chance allows.",
    "slight": "Degree: slight leak. The attacks do better than chance, but an attacker gains little.",
    "clear": "Degree: clear leak. Who was in the training data can be inferred, for some records or for many.",
    "severe": "Degree: severe leak. For at least some records an attacker can be nearly certain of membership.",
}
KINDS = {
    "advantage": "the strongest attack's advantage over guessing (TPR less FPR) is at least {low:.1f} points",
    "odds": "at {rate} false positives an accusation multiplies the odds of membership by at least {low:.1f}",
    "epsilon": "training was not differentially private for any epsilon below {low:.2f}",
    "class": "within class {of} the AUC is at least {low:.3f}",
}
DIGITS = {"advantage": 1, "odds": 1, "epsilon": 2, "class": 3}
NEXT = {
    "void": ["fix the problems that the validity checks found, and audit again"],
    "no leak detected": [
        "audit with shadow models before you rely on it (`attack`, or shadow_... arrays): they find more",
        "audit again after each training",
    ],
    "slight": [
        "decide whether membership itself is sensitive here",
        "give users labels or rounded scores rather than all probabilities",
        "look at the records and classes below",
    ],
    "clear": [
        "do not release the model or its probabilities as it is",
        "train for fewer epochs, prune (`prune`) or train with DP-SGD (`train --epsilon`), and compare: "
        "`audit before.npz after.npz`",
        "look at the records and classes below",
    ],
    "severe": [
        "treat the model as personal data: release neither it nor its outputs",
        "train again with less overfitting, pruning (`prune`) or DP-SGD (`train --epsilon`), and compare: "
        "`audit before.npz after.npz`",
        "look at the records and classes below",
    ],
}


def sentences(results: Results, verdict: Mapping[str, Any]) -> list[str]:
    """The degree with its reason, what an attacker gains, records to look at, what is not known, what can be done."""
    texts = [degree_text(verdict)]
    if verdict["degree"] != "void":
        texts += [gain_text(results, verdict), dense_text(results), records_text(results), unknown_text(results)]
    return [*filter(None, texts), f"What can be done next: {'; '.join(NEXT[verdict['degree']])}."]


def degree_text(verdict: Mapping[str, Any]) -> str:
    """The degree, and the evidence that has it."""
    degree = verdict["degree"]
    if degree in ("void", "no leak detected"):
        return WORDS[degree]
    reasons = [_reason(entry) for entry in verdict["evidence"] if entry["degree"] == degree]
    return f"{WORDS[degree]} The reason: {'; '.join(reasons)}."


def _reason(entry: Mapping[str, Any]) -> str:
    low = 100 * entry["low"] if entry["kind"] == "advantage" else entry["low"]
    rate = f"{100 * float(entry['of']):g}%" if entry["kind"] == "odds" else ""
    down = 10 ** DIGITS[entry["kind"]]  # "at least" stays true when it is rounded
    return KINDS[entry["kind"]].format(low=math.floor(low * down + 1e-9) / down, of=entry["of"], rate=rate)


def gain_text(results: Results, verdict: Mapping[str, Any]) -> str:
    """Of 100 records that an attacker accuses, how many are members."""
    found, share = verdict["precision"], f"{100 * verdict['prior']:g}%"
    accused, few = found["accused"], next(iter(found["few"].items()), None)
    if accused is None:
        return "The strongest attack accuses nobody."
    confidence = f"{100 * (1 - results['alpha']):g}%"
    text = (
        f"Of 100 records that an attacker accuses, {number(100 * accused['value'], 0)} are members where {share} of "
        f"the population are ({confidence} interval {_range(accused)})"
    )
    if few and few[1] is not None:
        text += f"; at {100 * float(few[0]):g}% false positives, {number(100 * few[1]['value'], 0)} ({_range(few[1])})"
    return f"{text}."


def _range(interval: Mapping[str, float]) -> str:
    return f"{number(100 * interval['low'], 0)} to {number(100 * interval['high'], 0)}"


def dense_text(results: Results) -> str:
    """Whether the dense network gives away what the model alone does not."""
    if not any(held["low"] > 0.5 for held in results.get("auxiliary_attacks", {}).values()):
        return ""
    return "An attacker who has the dense network too infers more: keep it as safe as the training data."


def records_text(results: Results) -> str:
    """How many records score higher than chance allows."""
    found = results["discoveries"]
    level = f"{100 * found['fdr']:g}%"
    if not found["count"]:
        return f"Records to look at: none scores higher than chance allows (false discovery rate {level})."
    rows = ", ".join(str(record["row"]) for record in found["records"][:10])
    more = " and others" if found["count"] > 10 else ""
    return (
        f"Records to look at: {found['count']:,} of the {results['members']:,} members score higher than chance allows "
        f"(false discovery rate {level}): rows {rows}{more} of the {results.get('rows_of', 'predictions')}."
    )


def unknown_text(results: Results) -> str:
    """What the audit cannot say."""
    strongest = results["strongest"]
    high = number(100 * (2 * strongest["accuracy"]["high"] - 1))
    unknown = [f"the advantage may be up to {high} points, and stronger attacks may find more"]
    if "shadows" not in results:
        unknown.append("attacks with shadow models may find more; this audit used none")
    if not strongest["tail"]:
        unknown.append("there are too few non-members to measure attacks at few false positives")
    if all(attack["epsilon_lower_bound"] is None for attack in results["attacks"].values()):
        unknown.append("there is no bound on epsilon, because membership was not drawn at random")
    return f"Not known: {'; '.join(unknown)}."
