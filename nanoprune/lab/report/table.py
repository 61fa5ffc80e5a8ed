"""The table of results, for the terminal, Markdown and HTML: one row a method, all from `table_rows`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from nanoprune.lab.report.text_table import Column, TextTable

COLUMNS = ("method", "weights kept", "train %", "test %", "strongest attack %", "by", "change, points")
UNKNOWN = "-"
NOT_SIGNIFICANT = "n.s."
FEW_SEEDS = 5  # fewer make wide intervals


def known(value: float | None) -> bool:
    """Whether a number is there: neither None nor NaN."""
    return value is not None and not math.isnan(value)


def has_interval(summary: Mapping[str, Any]) -> bool:
    """Whether an interval over seeds could be given: not with one seed, nor where all seeds have the same value.

    Files written before give the latter an interval of no width.
    """
    return known(summary["low"]) and known(summary["high"]) and summary["low"] < summary["high"]


def number(value: float, digits: int = 1, sign: bool = False) -> str:
    """`value` rounded; never "-0.0", and with `sign` a plus where it is positive."""
    value = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:{'+' if sign and value else ''}.{digits}f}"


def summary_text(summary: Mapping[str, Any] | None, scale: float = 100.0, digits: int = 1, sign: bool = False) -> str:
    """`mean ± half-width` of the interval over seeds, times `scale`; the mean alone where there is no interval."""
    if summary is None or not known(summary["mean"]):
        return UNKNOWN
    mean = number(scale * summary["mean"], digits, sign)
    if not has_interval(summary):
        return mean
    return f"{mean} ± {number(scale * (summary['high'] - summary['low']) / 2, digits)}"


def contains_zero(change: Mapping[str, Any]) -> bool:
    """Whether the interval of a change holds zero: then no effect can be claimed."""
    return has_interval(change) and change["low"] <= 0 <= change["high"]


def change_cell(change: Mapping[str, Any] | None) -> str:
    """A change in percentage points; one whose interval contains zero is marked as not significant."""
    return summary_text(change, sign=True) + (f" {NOT_SIGNIFICANT}" if change and contains_zero(change) else "")


def attack_title(name: str) -> str:
    """The name of an attack as a reader sees it: `modified_entropy` is "modified entropy"."""
    return name.replace("_", " ")


def table_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One tuple of cells a method, in the order of the results; the cells are those of `COLUMNS`."""
    rows = []
    for name, method in results["methods"].items():
        train = method["train_accuracy"]
        rows.append(
            (
                name,
                f"{round(method['nonzero']):,} ({method['compression']:.1f}x)",
                number(100 * train["mean"]) if train and known(train["mean"]) else UNKNOWN,
                summary_text(method["test_accuracy"]),
                summary_text(method["strongest_attack_accuracy"]),
                attack_title(method["strongest_attack"]),
                change_cell(method.get("attack_accuracy_change")),
            )
        )
    return rows


def table_title(results: Mapping[str, Any]) -> str:
    """What was measured, in one line."""
    return f"Membership inference on {results['dataset']} ({results['network']})"


def table_caption(results: Mapping[str, Any]) -> str:
    """How to read the table: the chance floor, the seeds, the intervals, the pairing."""
    seeds = len(results["seeds"])
    spread = (
        "One seed: no interval can be given."
        if seeds == 1
        else f"Means over {seeds} seeds; ± is the half-width of the 95% interval over seeds."
    )
    return (
        "Attack accuracy is balanced: guessing scores 50.0. "
        f"{groups_text(results)}{spread} Changes are against the baseline, paired by seed, in percentage points: "
        "negative is less leakage."
        f"{legend(results)}"
    )


def groups_text(results: Mapping[str, Any]) -> str:
    """That attacks count groups and not records, and how many groups are scored; "" where they count records."""
    if results.get("unit") != "group" or not results.get("groups"):
        return ""
    members, others = (_range(results["groups"][f"scored_{side}"]) for side in ("members", "nonmembers"))
    return (
        f"Attacks count groups, all records of one person, and not records: {members} groups of members and {others} "
        "of non-members are scored. "
    )


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def legend(results: Mapping[str, Any]) -> str:
    """What "n.s." means, where it occurs, and what few seeds cannot show."""
    methods = results["methods"].values()
    changes = [method["attack_accuracy_change"] for method in methods if "attack_accuracy_change" in method]
    controls = [of for method in methods for of in method.get("controls", {}).values()]
    changes += [of[f"{kind}_accuracy_change"] for of in controls for kind in ("attack", "test")]
    seeds = len(results["seeds"])
    shown = changes + [method[f"{kind}_accuracy"] for method in methods for kind in ("test", "strongest_attack")]
    text = ""
    if seeds > 1 and any(known(of["mean"]) and not has_interval(of) for of in shown):
        text += " A test or attack figure without ± is the same in every seed: no interval can be given."
    if any(map(contains_zero, changes)):
        text += f" {NOT_SIGNIFICANT}: not significant, the interval contains zero, so no effect is claimed."
    if 1 < seeds < FEW_SEEDS:
        quantile = number(float(stats.t.ppf(0.975, seeds - 1)))
        text += (
            f" Intervals of {seeds} seeds are wide ({quantile} standard errors, 2.0 with many seeds): a change in its "
            f"interval may be nothing or large, and these seeds cannot tell; run at least {FEW_SEEDS}."
        )
    return text


def results_table(results: Mapping[str, Any]) -> TextTable:
    """The results as a table for the terminal."""
    rows, columns = table_rows(results), []
    for place, column in enumerate(COLUMNS):
        wraps = column in ("weights kept", "by")  # these may take two lines, so that 80 columns are enough
        longest = max((len(word) for row in rows for word in row[place].split()), default=0) if wraps else None
        right = column not in ("method", "by")
        columns.append(Column(column.replace(" ", "\n", 1), right, no_wrap=not wraps, min_width=longest))
    cells = [[cell.replace(" ± ", "±") for cell in row] for row in rows]
    return TextTable(columns, cells, table_title(results), table_caption(results))


def markdown_table(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table and its caption, for the documentation."""
    alignment = [":---" if column in ("method", "by") else "---:" for column in COLUMNS]
    lines = []
    for row in (COLUMNS, alignment, *table_rows(results)):
        cells = (cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", table_caption(results), ""])
