"""The verdict in words, written from the numbers: what leaks, what each defence changes, and at what price."""

from collections.abc import Collection, Mapping
from typing import Any

from nanoprune.lab.report.table import attack_title, has_interval, known, number
from nanoprune.lab.statistics import paired_difference

SAME_ACCURACY = 0.01  # test accuracies this close, as fractions, count as the same
CONTROLS = {"early-stop": "stopping the dense network early", "small-dense": "a small dense network"}
DEFENCES = {
    "validation-stop": "early stopping on the reference set",
    "l2": "weight decay",
    "dropout": "dropout",
    "label-smoothing": "label smoothing",
    "relaxloss": "RelaxLoss",
    "memguard": "MemGuard's noise on the predictions",
    "temperature": "temperature scaling of the predictions",
    "prune-1": "the schedule of pruning, with nothing pruned",
    "prune-1+minmax": "the schedule of pruning with the Min-Max game, with nothing pruned",
}

Summary = Mapping[str, Any]


def family(method: str) -> str:
    """What kind of method a name stands for: baseline, early-stop, small-dense, minmax, prune, prune+minmax, other."""
    if method.removesuffix("+minmax") == "prune-1":
        return "other"  # the control that prunes nothing
    if method.startswith("prune"):
        return "prune+minmax" if method.endswith("+minmax") else "prune"
    kinds = ("baseline", "early-stop", "small-dense", "minmax")
    return next((kind for kind in kinds if method.startswith(kind)), "other")


def in_words(method: str) -> str:
    """A method's name as the start of a sentence: prune-0.1 is "Pruning to 10% of the weights"."""
    kind = family(method)
    if not kind.startswith("prune"):
        words = {"baseline": "No defence", "minmax": "The Min-Max game"} | CONTROLS | DEFENCES
        text = words.get(kind, words.get(method, method))
        return text[0].upper() + text[1:] if text else text
    keep = method.removesuffix("+minmax").removeprefix("prune").removeprefix("-")
    try:
        text = f"Pruning to {100 * float(keep):g}% of the weights"
    except ValueError:
        text = "Pruning"
    return f"{text} with the Min-Max game" if kind == "prune+minmax" else text


def direction(change: Summary) -> str:
    """`fewer`, `more`, `none` (the interval contains zero) or `unknown` (there is no interval)."""
    if not has_interval(change):
        return "unknown"
    return "fewer" if change["high"] < 0 else "more" if change["low"] > 0 else "none"


def change_text(change: Summary, nothing: str = "no detectable effect", than: str = "") -> str:
    """A change in words, in percentage points and with its interval; `nothing` where the interval contains zero."""
    mean = number(100 * change["mean"], sign=True)
    match direction(change):
        case "unknown":
            return f"a change of {mean} points, {_no_interval(change)}"
        case "none":
            low, high = (number(100 * change[end], sign=True) for end in ("low", "high"))
            return f"{nothing} (change {mean} points, 95% interval {low} to {high})"
        case word:
            low, high = sorted(abs(100 * change[end]) for end in ("low", "high"))
            size = number(abs(100 * change["mean"]))
            return f"{size} points {word}{than} (95% interval {number(low)} to {number(high)})"


def _no_interval(summary: Summary) -> str:
    """Why there is no interval, and what follows."""
    seeds = len(summary["values"])
    if seeds < 2:
        return "on which one seed gives no interval and allows no conclusion"
    return f"the same in all {seeds} seeds, which gives no interval and allows no conclusion"


def nearest_control(methods: Mapping[str, Any], method: str, kinds: Collection[str]) -> tuple[str, float] | None:
    """The control of these kinds that is nearest to `method` in test accuracy, and how far off it is."""

    def gap(name: str) -> float:
        return abs(methods[name]["test_accuracy"]["mean"] - methods[method]["test_accuracy"]["mean"])

    controls = [name for name in methods if family(name) in kinds and known(methods[name]["test_accuracy"]["mean"])]
    if not controls or not known(methods[method]["test_accuracy"]["mean"]):
        return None
    nearest = min(controls, key=gap)
    return nearest, gap(nearest)


def control_texts(methods: Mapping[str, Any], method: str) -> list[str]:
    """Compare `method` with each kind of control at equal test accuracy, or say that there is none to compare with."""

    def figures(name: str) -> tuple[str, str]:
        keys = ("test_accuracy", "strongest_attack_accuracy")
        return tuple(f"{number(100 * methods[name][key]['mean'])}%" for key in keys)

    texts = []
    test, attack = figures(method)
    for kind, words in CONTROLS.items():
        found = nearest_control(methods, method, [kind])
        if found is None or found[1] > SAME_ACCURACY:
            continue
        control_test, control_attack = figures(found[0])
        ours, theirs = (methods[name]["strongest_attack_accuracy"]["values"] for name in (method, found[0]))
        difference = paired_difference(ours, theirs)
        texts.append(
            f"At about the same test accuracy ({control_test} against {test}), {words} gives {control_attack}, "
            f"{method} {attack}: {change_text(difference, 'no detectable difference')}."
        )
    nearest = nearest_control(methods, method, CONTROLS)
    if nearest and not texts:
        control_test, control_attack = figures(nearest[0])
        texts.append(
            f"No control comes within {number(100 * SAME_ACCURACY)} point of its test accuracy; "
            f"the nearest, {nearest[0]}, gives {control_attack} at test accuracy {control_test}."
        )
    return texts


def baseline_text(results: Mapping[str, Any]) -> str:
    """How much the unprotected network leaks, against the chance floor."""
    method = results["methods"]["baseline"]
    accuracy = method["strongest_attack_accuracy"]
    text = (
        f"On {results['dataset']}, the strongest attack ({attack_title(method['strongest_attack'])}) distinguishes "
        f"members of the unprotected {results['network']} from non-members with {number(100 * accuracy['mean'])}% "
        "accuracy"
    )
    if not has_interval(accuracy):
        return f"{text}, {_no_interval(accuracy)}; guessing scores 50.0%."
    low, high = (number(100 * accuracy[end]) for end in ("low", "high"))
    leak = "" if accuracy["low"] > 0.5 else ": no leak is detected"
    return f"{text} (95% interval {low} to {high}); guessing scores 50.0%{leak}."


def pruning_text(methods: Mapping[str, Any]) -> str | None:
    """How many of the pruned networks leak detectably less, no less, or more; None where no interval can say."""
    changes = [m["attack_accuracy_change"] for name, m in methods.items() if family(name).startswith("prune")]
    found = [direction(change) for change in changes]
    if set(found) <= {"unknown"}:
        return None
    same = f"; {found.count('unknown')} changed alike in every seed, which gives no interval"
    settings = "pruned setting" if len(found) == 1 else "pruned settings"
    return (
        f"Of {len(found)} {settings}, {found.count('fewer')} leaked detectably less, "
        f"{found.count('none')} showed no detectable effect and {found.count('more')} leaked detectably more"
        f"{same if 'unknown' in found else ''}."
    )


def verdict(results: Mapping[str, Any]) -> list[str]:
    """The findings, one paragraph each: the baseline, the count over pruned settings, then every defence."""
    methods = results["methods"]
    paragraphs: list[str | None] = [baseline_text(results) if "baseline" in methods else None, pruning_text(methods)]
    for name, method in methods.items():
        if family(name) in ("baseline", *CONTROLS):
            continue
        attack = number(100 * method["strongest_attack_accuracy"]["mean"])
        sentences = [
            f"{in_words(name)} ({name}): the strongest attack reaches {attack}%, "
            f"{change_text(method['attack_accuracy_change'], than=' than without defence')}.",
            f"Test accuracy: {change_text(method['test_accuracy_change'], 'no detectable change')}.",
            *control_texts(methods, name),
        ]
        paragraphs.append(" ".join(sentences))
    return list(filter(None, paragraphs))
