"""The evidence of an audit in words, written from its numbers. Attacks may have any names. The degree that follows from
it, and what to do, are in `degree.py`."""

import math
from collections.abc import Mapping
from typing import Any

from nanoprune.lab.report.page import false_positive_rates
from nanoprune.lab.report.table import attack_title, known, number

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
    """The strongest attack in words, with its thresholds; of each half of the records where they were chosen apart."""
    best = results["strongest"]
    chosen = dict.fromkeys(map(rule_title, best.get("chosen", [best])))
    return "; on the other half ".join(chosen)


def rule_title(rule: Mapping[str, Any]) -> str:
    """An attack in words, with its thresholds."""
    return attack_title(rule["attack"]) + (", one threshold per class" if rule["per_class"] else "")


def audit_title(results: Results) -> str:
    """What was audited, in one line."""
    source = results.get("source", {}).get("name")
    return "Membership audit" + (f" of {source}" if source else "") + (" (void)" if found_by(results, "void") else "")


def found_by(results: Results, outcome: str) -> list[str]:
    """What the validity checks of one outcome found: `name: found`."""
    return [f"{check['name']}: {check['found']}" for check in results["validity"] if check["outcome"] == outcome]


def unit(results: Results) -> str:
    """What is counted: "record", or "group" where several records belong to one person."""
    return "group" if results.get("unit") == "group" else "record"


def groups_text(results: Results) -> str:
    """That groups are counted and not records, and how many there are; "" where it is records."""
    if unit(results) == "record":
        return ""
    groups = results["groups"]
    return (
        f"Attacks, intervals and bounds count groups (all records of one person), not records: {groups['members']:,} "
        f"groups of members and {groups['nonmembers']:,} of non-members. A group's score is the mean or the largest of "
        "its records' scores."
    )


def audit_verdict(results: Results) -> list[str]:
    """The findings, one paragraph each: whether the model leaks, and the evidence; then each in full.

    A void audit gives its figures and draws no conclusion.
    """
    void, warnings = found_by(results, "void"), found_by(results, "warning")
    if void:
        first = [
            f"This audit is void: {'; '.join(void)}.",
            "Its figures show nothing about the model, neither that it leaks nor that it does not.",
        ]
    else:
        first = [fault_text(results), leak_text(results), "See the warnings below." if warnings else ""]
    paragraphs = [
        " ".join(filter(None, first)),
        groups_text(results),
        pruning_text(results),
        strongest_text(results),
        " ".join(filter(None, [found_text(results), "" if void else epsilon_text(results)])),
        "" if void else class_text(results),
        *auxiliary_texts(results),
        accuracy_text(results),
        exposure_text(results),
        *(f"Warning: {warning}{'' if warning.endswith('?') else '.'}" for warning in warnings),
        *(f"Refused: {refusal}." for refusal in results["refused"]),
    ]
    return list(filter(None, paragraphs))


def evidence_texts(results: Results) -> list[tuple[bool, str]]:
    """The evidence in plain words, each with whether its interval excludes chance: all records together, the classes,
    what is found at few false positives and the bounds on epsilon where there are any, and last the attackers who have
    more than the model."""
    accuracy = results["strongest"]["accuracy"]
    value, leaks = number(100 * accuracy["value"]), accuracy["low"] > 0.5
    found = [
        (
            leaks,
            f"over all {unit(results)}s an attacker classifies {value}% correctly, guessing 50.0%"
            if leaks
            else f"all {unit(results)}s together (an attacker classifies {value}% correctly, guessing 50.0%)",
        )
    ]
    worst = results["worst_class"]
    if worst is not None:
        classes = results["per_class"].values()
        hit = sum(entry["auc"]["low"] > 0.5 for entry in classes)
        auc = f"AUC {number(results['per_class'][worst]['auc']['value'], 3)}, guessing 0.500"
        text = f"members are distinguished within {hit} of {len(classes)} classes, best in class {worst} ({auc})"
        found.append((hit > 0, text if hit else f"any single class (the highest is class {worst}: {auc})"))
    if tails := results["strongest"]["tail"]:
        rate, tail = max(tails.items(), key=lambda item: item[1]["odds"])
        share, value = f"{100 * float(rate):g}% false positives", number(100 * tail["tpr"]["value"])
        found.append((tail["odds"] > 1, f"at {share} {value}% of the members are found"))
    if bounded(results):
        epsilon = max(bound(attack["epsilon_lower_bound"]) for attack in on_the_model(results).values())
        text = f"training was not differentially private for any epsilon below {epsilon:.2f}"
        found.append((epsilon > 0, text if epsilon else "a bound on epsilon above 0"))
    for held in results.get("auxiliary_attacks", {}).values():
        value, leaks = number(100 * held["value"]), held["low"] > 0.5
        who = "an attacker who also has the dense network"
        found.append((leaks, f"{who} classifies {value}% correctly" if leaks else f"{who} ({value}%)"))
    return found


def bounded(results: Results) -> bool:
    """Whether there are bounds on epsilon: membership was drawn at random."""
    return any(known(attack["epsilon_lower_bound"]) for attack in results["attacks"].values())


def leak_text(results: Results) -> str:
    """Whether any evidence excludes chance, and which; "no leak is detected" is not "no leak"."""
    found = evidence_texts(results)
    seen, unseen = ("; ".join(text for leaks, text in found if leaks is of) for of in (True, False))
    if any(leaks for leaks, _ in found[: len(found) - len(results.get("auxiliary_attacks", ()))]):
        text = f"This model gives away who was in its training data: {seen}."
    elif seen:
        text = f"This model alone shows no leak, but together with the dense network it does: {seen}."
    else:
        text = "No leak is detected."
    text += f" Not distinguishable from chance: {unseen}." if unseen else ""
    text += f" These statements hold jointly with {confidence(results)} confidence."
    if seen:
        return text
    high = number(100 * results["strongest"]["accuracy"]["high"])
    return (
        f"{text} This does not prove that there is no leak: over all {unit(results)}s the accuracy may be up to "
        f"{high}%, and a stronger attack may find more."
    )


def pruning_text(results: Results) -> str:
    """What pruning changes, measured on the shadow models: leakage and accuracy."""
    found = results.get("exposure")
    if not found:
        return ""

    def points(change: Mapping[str, float]) -> str:
        none = "; not distinguishable from no change" if change["low"] <= 0 <= change["high"] else ""
        return f"{number(100 * change['value'], 1, True)} points ({confidence(results)} interval {ends(change)}{none})"

    return (
        f"Over the {results['shadows']['count']} shadow models, pruning changes the share of {unit(results)}s that an "
        f"attacker classifies correctly by {points(found['attack_accuracy_change'])}, and the test accuracy by "
        f"{points(found['test_accuracy_change'])}."
    )


def fault_text(results: Results) -> str:
    """Attacks that do significantly worse than guessing point to a fault in the data."""
    worse = [f"all {unit(results)}s together"] if results["strongest"]["accuracy"]["high"] < 0.5 else []
    worse += [f"class {name}" for name, entry in results["per_class"].items() if entry["auc"]["high"] < 0.5]
    if not worse:
        return ""
    return (
        f"Worse than guessing: {', '.join(worse)}. That points to a fault in the data (is the member column the wrong "
        "way round?)."
    )


def strongest_text(results: Results) -> str:
    """How well the strongest attack distinguishes members from non-members, compared with guessing."""
    best = results["strongest"]
    accuracy, candidates = best["accuracy"], best["candidates"]
    chosen = f"; the best of {candidates} rules on the attacker's own records" if candidates > 1 else ""
    return (
        f"The strongest attack ({strongest_title(results)}{chosen}) distinguishes members from non-members with "
        f"{number(100 * accuracy['value'])}% balanced accuracy ({confidence(results)} interval {ends(accuracy)}, "
        f"adjusted for {results['bonferroni_divisor']} kinds of evidence); guessing scores 50.0%. Of 100 "
        f"{unit(results)}s, half of them members, it classifies about {number(100 * accuracy['value'], 0)} correctly; "
        "guessing 50."
    )


def found_text(results: Results) -> str:
    """How many members an attacker finds at few false positives: the attack that finds the most."""
    attacks = on_the_model(results)
    rate = next(iter(false_positive_rates(attacks.values())), None)
    if rate is None:
        return ""
    share = f"{100 * float(rate):g}%"
    found = {name: attack["tpr_at_fpr"][rate] for name, attack in attacks.items() if attack["tpr_at_fpr"].get(rate)}
    if not found:
        return f"There are too few non-members to measure how many members are found at {share} false positives."
    best = results["strongest"]["attack"]
    name = max(found, key=lambda attack: (found[attack]["value"], attack == best))
    chosen = f", not adjusted for choosing the best of {len(found)} attacks" if len(found) > 1 else ""
    return (
        f"At {share} false positives, an attacker finds "
        f"{number(100 * found[name]['value'])}% of the members ({attack_title(name)}; {confidence(results)} interval "
        f"{ends(found[name])}{chosen}); guessing finds {share}."
    )


def epsilon_text(results: Results) -> str:
    """The largest lower bounds on epsilon and what they mean."""
    if not bounded(results):
        return ""
    attacks = on_the_model(results)
    bounds = {name: bound(attack["epsilon_lower_bound"]) for name, attack in attacks.items()}
    name, count = max(bounds, key=bounds.__getitem__), len(results["attacks"])
    text = [delta_text(attacks), runs_text(results)]
    if not bounds[name]:
        text = ["No attack gives a lower bound on epsilon above 0. That does not prove differential privacy.", *text]
        return " ".join(filter(None, text))
    together = f" for all {count} bounds together" if count > 1 else ""
    first = (
        f"The largest lower bound on epsilon is {bounds[name]:.2f} ({attack_title(name)}): if the membership of "
        f"{unit(results)}s was drawn at random, and their number is public, training was not (epsilon, 0)-"
        f"differentially private{' for groups' * (unit(results) == 'group')} for any "
        f"epsilon below {bounds[name]:.2f}. The confidence of this is {confidence(results)}{together}."
    )
    return " ".join(filter(None, [first, *text]))


def delta_text(attacks: Mapping[str, Any]) -> str:
    """The bounds at a delta above 0, which are what a claim of (epsilon, delta) is compared with."""
    found = [attack["epsilon_with_delta"] for attack in attacks.values() if attack.get("epsilon_with_delta")]
    if not found:
        return ""
    delta, free, gaussian = found[0]["delta"], *(max(bound(of[kind]) for of in found) for kind in ("any", "gaussian"))
    return (
        f"At delta {delta:g} the bound is {free:.2f}; for training whose trade-off curve is that of the Gaussian "
        f"mechanism, as DP-SGD's nearly is, it is {gaussian:.2f}."
    )


def runs_text(results: Results) -> str:
    """The bound from the shadow models, where it is above 0."""
    runs = results.get("epsilon_of_runs")
    if not runs or not bound(runs["value"]):
        return ""
    of = "the group of " if unit(results) == "group" else ""
    return (
        f"From {2 * runs['models']} shadow models and {of}record {runs['row']}, the recipe's epsilon at delta "
        f"{runs['delta']:g} is at least {bound(runs['value']):.2f}, with {runs['neighbours']} "
        f"({confidence(results)} confidence on its own)."
    )


def accuracy_text(results: Results) -> str:
    """The accuracy of the model, and of its shadows, on members and on non-members."""
    train, test = results["train_accuracy"], results["test_accuracy"]
    members, others = (f"{results[side]:,}" for side in ("members", "nonmembers"))
    text = (
        f"The model classifies {number(100 * train)}% of these {members} members and {number(100 * test)}% of these "
        f"{others} non-members correctly: a gap of {number(100 * (train - test))} points."
    )
    held_out, shadows = results.get("held_out"), results.get("shadows")
    if held_out and held_out > results["nonmembers"]:
        text += (
            f" The attack uses as many non-members as members; the test accuracy that `train` and `prune` print is "
            f"over all {held_out:,} held-out records."
        )
    if shadows:
        text += (
            f" The {shadows['count']} shadow models, trained alike, classify "
            f"{number(100 * shadows['train_accuracy'])}% and {number(100 * shadows['test_accuracy'])}% correctly."
        )
    return text


def class_text(results: Results) -> str:
    """The class in which members are distinguished best."""
    worst = results["worst_class"]
    if worst is None:
        return ""
    auc = results["per_class"][worst]["auc"]
    chance = "" if auc["low"] > 0.5 else " This is not distinguishable from guessing."
    return (
        f"The most exposed class is {worst}: within it the strongest attack's AUC is {number(auc['value'], 3)} "
        f"({confidence(results)} interval {ends(auc, 1, 3)}, for all {len(results['per_class'])} classes and "
        f"{results['bonferroni_divisor']} kinds of evidence together); guessing scores 0.500.{chance}"
    )


def on_the_model(results: Results) -> dict[str, Any]:
    """The attacks that need the model alone."""
    auxiliary = results.get("auxiliary_attacks", ())
    return {name: attack for name, attack in results["attacks"].items() if name not in auxiliary}


def auxiliary_texts(results: Results) -> list[str]:
    """The accuracy of attackers who have more than the model: its dense network, or other versions of it."""
    return [
        f"An attacker who also has {_more(name)} ({attack_title(name)}) reaches {number(100 * held['value'])}% "
        f"balanced accuracy ({confidence(results)} interval {ends(held)}, adjusted for "
        f"{results['bonferroni_divisor']} kinds of evidence; {of_epsilon(results['attacks'][name])}): {_advice(name)}."
        for name, held in results.get("auxiliary_attacks", {}).items()
    ]


def _more(name: str) -> str:
    return "the other versions" if "versions" in name else "the dense network"


def _advice(name: str) -> str:
    return (
        "one version may reveal what another does not" if "versions" in name else "keep it as safe as the training data"
    )


def of_epsilon(attack: Mapping[str, Any]) -> str:
    """The bound of one attack in a few words."""
    epsilon = attack["epsilon_lower_bound"]
    return f"epsilon at least {bound(epsilon):.2f}" if known(epsilon) else "no bound on epsilon"


def exposure_text(results: Results) -> str:
    """How pruning changed the exposure of each record, measured on the shadow models."""
    found = results.get("exposure")
    if not found:
        return ""
    mean = {name: number(found[name]["value"], 2) for name in ("dense", "pruned")}
    change, worst, more = found["change"], found["per_class"].get(found["worst_class"]), found["more_exposed"]
    changed = f"{number(change['value'], 2, True)}, {confidence(results)} interval {ends(change, 1, 2)}"
    text = (
        f"Over shadow models, training on a {unit(results)} moves its log odds by {mean['dense']} standard deviations "
        f"in dense networks and by {mean['pruned']} in pruned ones (change {changed}). "
        f"{number(100 * more['value'])}% of the {unit(results)}s look more exposed after pruning "
        f"({confidence(results)} interval of the share that truly is: {ends(more)}); if nothing had changed, half of "
        f"them would look so by chance."
    )
    if worst is None:
        return text
    chance = ", which is not distinguishable from no change" if worst["low"] <= 0 <= worst["high"] else ""
    return (
        f"{text} Class {found['worst_class']} has the largest change: {number(worst['value'], 2, True)} "
        f"({ends(worst, 1, 2)}){chance}."
    )
