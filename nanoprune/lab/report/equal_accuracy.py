"""A sweep as Markdown tables: each method less its controls at equal accuracy, MIA-Pruning less its controls setting by
setting, and each method against each attack at one accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nanoprune.lab.report.table import NOT_SIGNIFICANT, UNKNOWN, attack_title, change_cell, has_interval, number
from nanoprune.lab.statistics import paired_difference

CONTROLS = {"early-stop": "less early stopping", "prune": "less MIA-Pruning"}
NEAR = 0.01  # of test accuracy, within which early stopping is chosen by its leakage
MAXIMUM = " (max)"  # marks attacks that score a group of records by their maximum


def control_table(sweep: Mapping[str, Any], controls: Mapping[str, str] = CONTROLS) -> str:
    """Each method: the ends of its front, how much more it leaks than each of the controls at equal test accuracy, in
    points with 95% intervals, and its processor time. The rows are in the order of the first of these differences.

    A difference is left out where one of the fronts has fewer than two settings or they have no accuracies in common.
    """
    rows = []
    for family in _with_front(sweep):
        found = [_difference(sweep, family, control) for control in controls]
        settings = f"{family['hyperparameter']} {' '.join(point['setting'] for point in family['points'])}"
        ends = (_ends(family, "test"), _ends(family, "attack"))
        cells = (family["name"], settings, *ends, *map(_interval, found), _times(family))
        rows.append((np.inf if found[0] is None else found[0]["value"], cells))
    head = ("method", "settings", "test %", "strongest attack %", *controls.values(), "time")
    align = (":---", ":---", "---:", "---:", *(":---" for _ in controls), "---:")
    return markdown([head, align, *(cells for _, cells in sorted(rows, key=lambda row: row[0]))])


def setting_table(sweep: Mapping[str, Any], method: str = "prune", schedule: str = "prune-1") -> str:
    """Each setting of a method less the control of its schedule, and less early stopping where that leaks least within
    NEAR of its best test accuracy: attack and test accuracy in points, paired by seed, with 95% intervals. Empty where
    one of them was not measured."""
    families = {family["name"]: family["points"] for family in sweep["families"] if family["points"]}
    if not {method, schedule, "early-stop"} <= families.keys():
        return ""
    least = max(np.mean(point["test_accuracy"]) for point in families["early-stop"]) - NEAR
    near = [point for point in families["early-stop"] if np.mean(point["test_accuracy"]) >= least]
    stopped = min(near, key=lambda point: np.mean(point["attack_accuracy"]))
    rows = [
        (f"{method}-{point['setting']}", *(change_cell(cell) for cell in cells))
        for point in families[method]
        for cells in [_paired(point, families[schedule][0]) + _paired(point, stopped)]
    ]
    titles = (schedule, f"early stopping after {stopped['setting']} epochs")
    head = ("method", *(f"less {title}: {of}" for title in titles for of in ("attack", "test")))
    return markdown([head, (":---", *("---:" for _ in head[1:])), *rows])


def _paired(point: Mapping[str, Any], control: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The differences of the attacks' and of the test accuracies, paired by seed."""
    names = ("attack_accuracy", "test_accuracy")
    return [paired_difference(point[name], control[name]) for name in names]


def attack_table(sweep: Mapping[str, Any]) -> tuple[float, str]:
    """The test accuracy that the fronts of most methods reach, and a table of the accuracy of every attack on each of
    these methods there, in percent, interpolated along its front of the strongest attack.

    Where groups of records are counted, only the attacks by the mean of a group's scores are shown.
    """
    families = [family for family in _with_front(sweep) if len(family["front"]) > 1]
    level = most_reached(families)
    reached = [family for family in families if _within(family, level)]
    attacks = [name for name in reached[0]["points"][0]["attacks"] if MAXIMUM not in name]
    rows = []
    for family in reached:
        strongest = _at(family, level, [np.mean(point["attack_accuracy"]) for point in family["points"]])
        of = [_at(family, level, [np.mean(p["attacks"][name]) for p in family["points"]]) for name in attacks]
        rows.append((strongest, (family["name"], *(number(100 * value) for value in (strongest, *of)))))
    head = ("method", "strongest", *(attack_title(name).replace(" (mean)", "") for name in attacks))
    align = (":---", *("---:" for _ in head[1:]))
    return level, markdown([head, align, *(cells for _, cells in sorted(rows))])


def most_reached(families: Sequence[Mapping[str, Any]]) -> float:
    """The test accuracy that most fronts reach; of several the highest, which is the end of a front."""
    ends = sorted((_tests(family)[-1] for family in families), reverse=True)
    return float(max(ends, key=lambda level: sum(_within(family, level) for family in families)))


def _with_front(sweep: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [family for family in sweep["families"] if family["front"]]


def _tests(family: Mapping[str, Any]) -> np.ndarray:
    """The mean test accuracies along the front, ascending."""
    return np.array([np.mean(family["points"][i]["test_accuracy"]) for i in family["front"]])


def _within(family: Mapping[str, Any], level: float) -> bool:
    tests = _tests(family)
    return bool(tests[0] <= level <= tests[-1])


def _at(family: Mapping[str, Any], level: float, values: Sequence[float]) -> float:
    """The values of the settings, interpolated along the front at a test accuracy."""
    return float(np.interp(level, _tests(family), [values[i] for i in family["front"]]))


def _ends(family: Mapping[str, Any], of: str) -> str:
    """The mean accuracies, in percent, at both ends of the front."""
    means = [np.mean(family["points"][i][f"{of}_accuracy"]) for i in family["front"]]
    return " to ".join(dict.fromkeys(number(100 * mean) for mean in (means[0], means[-1])))


def _difference(sweep: Mapping[str, Any], family: Mapping[str, Any], control: str) -> dict[str, float] | None:
    """The mean difference to the control, {"value", "low", "high"}; None where there is none to be told."""
    sizes = {of["name"]: len(of["front"]) for of in sweep["families"]}
    if min(sizes[family["name"]], sizes.get(control, 0)) < 2:
        return None
    for pair in sweep["differences"]:
        mean = pair["mean"]
        if mean and (pair["one"], pair["other"]) == (family["name"], control):
            return mean
        if mean and (pair["other"], pair["one"]) == (family["name"], control):
            low, high = (None if mean[end] is None else -mean[end] for end in ("high", "low"))
            return {"value": -mean["value"], "low": low, "high": high}
    return None


def _interval(mean: dict[str, Any] | None) -> str:
    """A difference in percentage points with its interval; marked where that contains zero."""
    if mean is None:
        return UNKNOWN
    value = number(100 * mean["value"], sign=True)
    if not has_interval(mean):
        return value
    low, high = (number(100 * mean[end], sign=True) for end in ("low", "high"))
    mark = f" {NOT_SIGNIFICANT}" if mean["low"] <= 0 <= mean["high"] else ""
    return f"{value}{mark} ({low} to {high})"


def _times(family: Mapping[str, Any]) -> str:
    """The processor time in multiples of the baseline's."""
    return f"{number(family['times_baseline'])}x" if "times_baseline" in family else UNKNOWN


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is the head, the second has the alignments."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
