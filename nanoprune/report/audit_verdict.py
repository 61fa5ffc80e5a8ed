"""The verdict of an audit in words, written from its numbers. Attacks may have any names."""

import math
from collections.abc import Mapping
from typing import Any

from nanoprune.report.page import false_positive_rates
from nanoprune.report.table import attack_title, known, number

Results = Mapping[str, Any]


def ends(interval: Mapping[str, float], scale: float = 100.0, digits: int = 1) -> str:
    """`low to high`, times `scale`."""
    return f"{number(scale * interval['low'], digits)} to {number(scale * interval['high'], digits)}"


def confidence(results: Results) -> str:
    """The confidence of the intervals: `95%`."""
    return f"{100 * (1 - results['alpha']):g}%"


def bound(epsilon: float | None) -> float:
    """A lower bound in hundredths, rounded down, so that it stays one; 0.0 where there is none."""
    return math.floor(100 * epsilon) / 100 if known(epsilon) else 0.0


def strongest_title(results: Results) -> str:
    """The strongest attack in words, with its thresholds."""
    best = results["strongest"]
    return attack_title(best["attack"]) + (", one threshold a class" if best["per_class"] else "")


def audit_title(results: Results) -> str:
    """What was audited, in one line."""
    source = results.get("source", {}).get("name")
    return "Membership audit" + (f" of {source}" if source else "") + (" (void)" if found_by(results, "void") else "")


def found_by(results: Results, outcome: str) -> list[str]:
    """What the validity checks of one outcome found: `name: found`."""
    return [f"{check['name']}: {check['found']}" for check in results["validity"] if check["outcome"] == outcome]


def audit_verdict(results: Results) -> list[str]:
    """The findings, one paragraph each: how much leaks; who is found at few false positives, and epsilon; the rest.

    A void audit gives its figures and concludes nothing.
    """
    void, warnings = found_by(results, "void"), found_by(results, "warning")
    if void:
        first = [
            f"This audit is void: {'; '.join(void)}.",
            "Its figures say nothing of the model, neither that it leaks nor that it does not.",
            strongest_text(results),
        ]
        second = [found_text(results)]
    else:
        first = [strongest_text(results), leak_text(results), "See the warnings below." if warnings else ""]
        second = [found_text(results), epsilon_text(results)]
    paragraphs = [
        " ".join(filter(None, first)),
        " ".join(filter(None, second)),
        accuracy_text(results),
        "" if void else class_text(results),
        *aside_texts(results),
        exposure_text(results),
        *(f"Warning: {warning}." for warning in warnings),
        *(f"Refused: {refusal}." for refusal in results["refused"]),
    ]
    return list(filter(None, paragraphs))


def strongest_text(results: Results) -> str:
    """How well the strongest attack tells members from non-members, beside what guessing does."""
    best = results["strongest"]
    accuracy, candidates = best["accuracy"], best["candidates"]
    chosen = f", adjusted for picking the best of {candidates} rules" if candidates > 1 else ""
    return (
        f"The strongest attack ({strongest_title(results)}) tells members from non-members with "
        f"{number(100 * accuracy['value'])}% balanced accuracy ({confidence(results)} interval "
        f"{ends(accuracy)}{chosen}); guessing scores 50.0%. Of 100 records, half of them members, it sorts about "
        f"{number(100 * accuracy['value'], 0)} rightly; guessing sorts 50."
    )


def leak_text(results: Results) -> str:
    """Whether that beats guessing; "no leak is detected" is not "no leak"."""
    accuracy = results["strongest"]["accuracy"]
    if accuracy["low"] > 0.5:
        return "This beats guessing: the model gives away who was in its training data."
    if accuracy["high"] < 0.5:
        return (
            "No leak is detected: this is worse than guessing, which points to a fault in the data "
            "(is the member column the wrong way round?)."
        )
    if any(bound(attack["epsilon_lower_bound"]) for attack in on_the_model(results).values()):
        return (
            "No leak is detected over all records: the interval holds 50.0. But the bound on epsilon below points to a "
            "leak among the records that an attack is surest of."
        )
    return (
        "No leak is detected: the interval holds 50.0. That is not proof that there is none: these records allow up to "
        f"{number(100 * accuracy['high'])}%, and a stronger attack may find more."
    )


def found_text(results: Results) -> str:
    """How many members an attacker finds who accuses few non-members wrongly: the attack that finds the most."""
    attacks = on_the_model(results)
    rate = next(iter(false_positive_rates(attacks.values())), None)
    if rate is None:
        return ""
    share = f"{100 * float(rate):g}%"
    found = {name: attack["tpr_at_fpr"][rate] for name, attack in attacks.items() if attack["tpr_at_fpr"].get(rate)}
    if not found:
        return f"How many members are found at {share} false positives cannot be said of so few non-members."
    best = results["strongest"]["attack"]
    name = max(found, key=lambda attack: (found[attack]["value"], attack == best))
    chosen = f", not adjusted for picking the best of {len(found)} attacks" if len(found) > 1 else ""
    return (
        f"An attacker who wrongly accuses no more than {share} of these non-members finds "
        f"{number(100 * found[name]['value'])}% of the members ({attack_title(name)}; {confidence(results)} interval "
        f"{ends(found[name])}{chosen}); guessing finds {share}."
    )


def epsilon_text(results: Results) -> str:
    """The largest lower bound on epsilon and what it means."""
    bounds = {name: bound(attack["epsilon_lower_bound"]) for name, attack in on_the_model(results).items()}
    name = max(bounds, key=bounds.__getitem__)
    if not bounds[name]:
        return "No attack gives a lower bound on epsilon above 0. That does not prove differential privacy."
    text = (
        f"The largest lower bound on epsilon is {bounds[name]:.2f} ({attack_title(name)}): if chance decided which "
        f"records were trained on, training was not (epsilon, 0)-differentially private for any epsilon below "
        f"{bounds[name]:.2f}. "
    )
    if len(bounds) == 1:
        return f"{text}The confidence of this is {confidence(results)}."
    if len(bounds) * results["alpha"] >= 1:
        return (
            f"{text}The confidence of this is {confidence(results)} for each attack on its own, less for the largest."
        )
    return (
        f"{text}The confidence of this is {confidence(results)} for each attack on its own; the largest of "
        f"{len(bounds)} bounds errs more often, with a probability of up to {len(bounds)} times "
        f"{100 * results['alpha']:g}%."
    )


def accuracy_text(results: Results) -> str:
    """What the model gets right in and out of its training data."""
    train, test = results["train_accuracy"], results["test_accuracy"]
    return (
        f"The model classifies {number(100 * train)}% of the members and {number(100 * test)}% of the non-members "
        f"rightly: a gap of {number(100 * (train - test))} points."
    )


def class_text(results: Results) -> str:
    """The class in which members are told apart best."""
    worst = results["worst_class"]
    if worst is None:
        return ""
    auc = results["per_class"][worst]["auc"]
    chance = "" if auc["low"] > 0.5 else " This cannot be told from guessing."
    return (
        f"The most exposed class is {worst}: within it the strongest attack's AUC is {number(auc['value'], 3)} "
        f"({confidence(results)} interval {ends(auc, 1, 3)} over all {len(results['per_class'])} classes together); "
        f"guessing scores 0.500.{chance}"
    )


def on_the_model(results: Results) -> dict[str, Any]:
    """The attacks that need the model alone."""
    aside = results.get("aside", ())
    return {name: attack for name, attack in results["attacks"].items() if name not in aside}


def aside_texts(results: Results) -> list[str]:
    """What attackers reach who hold more than the model: the dense network that it was pruned from."""
    return [
        f"An attacker who also holds the dense network ({attack_title(name)}) reaches "
        f"{number(100 * entry['accuracy']['value'])}% balanced accuracy ({confidence(results)} interval "
        f"{ends(entry['accuracy'])}): keep it as safe as the training data."
        for name, entry in results["attacks"].items()
        if name in results.get("aside", ())
    ]


def exposure_text(results: Results) -> str:
    """How pruning changed what each record has to fear, where shadow models could tell."""
    found = results.get("exposure")
    if not found:
        return ""
    mean = {name: number(found[name]["value"], 2) for name in ("dense", "pruned")}
    change, worst = found["change"], found["per_class"].get(found["worst_class"])
    changed = f"{number(change['value'], 2, True)}, {confidence(results)} interval {ends(change, 1, 2)}"
    text = (
        f"Over shadow models, training on a record moves what is said of it by {mean['dense']} standard deviations "
        f"where they are dense and by {mean['pruned']} where they are pruned (change {changed}); "
        f"{number(100 * found['more_exposed'])}% of the records are more exposed after pruning."
    )
    if worst is None:
        return text
    return (
        f"{text} Class {found['worst_class']} comes off worst: {number(worst['value'], 2, True)} ({ends(worst, 1, 2)})."
    )
