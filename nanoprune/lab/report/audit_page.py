"""The report of an audit: the table for the terminal, the page. Attacks may have any names."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nanoprune.lab.report.audit_verdict import (
    Results,
    audit_title,
    audit_verdict,
    bound,
    confidence,
    ends,
    found_by,
    groups_text,
    unit,
)
from nanoprune.lab.report.page import (
    REFUSED,
    environment,
    false_positive_rates,
    flatten,
    inline_svg,
    tpr_column,
    write_page,
)
from nanoprune.lab.report.plots import DASHES, GREY, STYLE, freeze_layout, literal
from nanoprune.lab.report.table import UNKNOWN, attack_title, known, number
from nanoprune.lab.report.text_table import Column, TextTable

COLOURS = ("#D55E00", "#009E73", "#AA5C88", "#C98500", "#555555")  # of the attacks that are not the strongest
STRONGEST = "#0072B2"
DRAWN = 5  # ROC curves beside the strongest: those of the highest AUC
NAMED = 200  # records to look at on the page
ROC_CAPTION = (
    "Members found against non-members taken for members, on logarithmic axes; the strongest attack is the thick line. "
    "The left edge matters for an attacker who must not be wrong."
)


def attack_rows(results: Results) -> list[dict[str, Any]]:
    """One row per attack: its name, whether it is the strongest, and cells (value, interval or "")."""
    rows = []
    for name, attack in results["attacks"].items():
        cells = [
            cell(attack["accuracy"]),
            cell(attack["accuracy_per_class_threshold"]),
            cell(attack["auc"], 1, 3),
            *(cell(attack["tpr_at_fpr"].get(rate), without=REFUSED) for rate in table_rates(results)),
        ]
        epsilon = attack["epsilon_lower_bound"]
        cells.append((f"{bound(epsilon):.2f}" if known(epsilon) else UNKNOWN, ""))
        rows.append({"name": attack_title(name), "cells": cells, "best": name == results["strongest"]["attack"]})
    return rows


def cell(interval: Mapping[str, float] | None, scale: float = 100.0, digits: int = 1, without: str = UNKNOWN) -> tuple:
    """("64.2", "62.2 to 66.1"), or (`without`, "") where nothing was measured."""
    if interval is None:
        return without, ""
    return number(scale * interval["value"], digits), ends(interval, scale, digits)


def table_rates(results: Results) -> list[str]:
    """The false positive rates that have a column."""
    return false_positive_rates(results["attacks"].values())


def audit_columns(results: Results) -> list[str]:
    """The headings of the cells of `attack_rows`."""
    tpr = map(tpr_column, table_rates(results))
    return ["accuracy %", "per-class threshold %", "AUC", *tpr, "epsilon >="]


def audit_caption(results: Results) -> str:
    """How to read the table."""
    return (
        f"The strongest attack in bold. Accuracies are balanced: guessing scores 50.0, and 0.500 in AUC. Intervals are "
        f"of {confidence(results)} confidence for each figure individually. TPR at FPR: the share of members found "
        f'at that rate of false positives; "{REFUSED}": too few non-members. "{UNKNOWN}": not defined. '
        f"epsilon >=: a lower bound; 0 excludes nothing."
        + (f" {groups_text(results)}" if unit(results) == "group" else "")
        + (" (non-adaptive): an attacker with undefended shadow models." if _non_adaptive(results) else "")
    )


def _non_adaptive(results: Results) -> bool:
    return any(name.endswith("(non-adaptive)") for name in results["attacks"])


def audit_table(results: Results) -> TextTable:
    """The attacks as a table for the terminal."""
    rows = attack_rows(results)
    longest = max((len(word) for row in rows for word in row["name"].split()), default=0)
    columns, cells = [Column("attack", min_width=longest)], []  # may take two lines, so that 80 columns are enough
    for column in audit_columns(results):
        for word in ("threshold", "at", "FPR", ">="):
            column = column.replace(f" {word}", f"\n{word}")
        column = column.replace("threshold %", "threshold\n%")
        columns.append(Column(column, right=True, no_wrap=True))
    for row in rows:
        (accuracy, interval), *others = row["cells"]
        cells.append([row["name"], f"{accuracy} ({interval.replace(' to ', '..')})", *(value for value, _ in others)])
    best = [place for place, row in enumerate(rows) if row["best"]]
    return TextTable(columns, cells, audit_title(results), audit_caption(results), best)


@rc_context(STYLE)
def audit_roc(results: Results, curves: Mapping[str, Any]) -> Figure | None:
    """ROC curves on two log axes: the strongest attack with its band, those next to it, the diagonal of a guess."""
    best = results["strongest"]["attack"]
    areas = {name: results["attacks"][name]["auc"]["value"] for name in curves if name != best}
    chosen = {best, *sorted(areas, key=areas.__getitem__, reverse=True)[:DRAWN]}
    shown = {name: drawn for name in curves if name in chosen and (drawn := drawable(curves[name])) is not None}
    if not shown:
        return None
    figure = Figure(figsize=(5.4, 5), dpi=72, layout="constrained")
    axes = figure.subplots()
    left = min(0.1, *(curve["fpr"][0] for curve in shown.values()))
    bottom = min(left, *(curve["tpr"][0] for curve in shown.values()))
    if best in shown:
        curve = shown.pop(best)
        axes.plot(
            curve["fpr"], curve["tpr"], color=STRONGEST, linewidth=2.4, zorder=3, label=literal(attack_title(best))
        )
        low, high = np.maximum(curve["low"], bottom / 10), curve["high"]  # a log scale has no zero
        label = f"its {confidence(results)} band, pointwise"
        axes.fill_between(curve["fpr"], low, high, color=STRONGEST, alpha=0.18, linewidth=0, label=label)
    for place, (name, curve) in enumerate(shown.items()):
        style = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[(place + 1) % len(DASHES)]}
        axes.plot(curve["fpr"], curve["tpr"], linewidth=1.1, label=literal(attack_title(name)), **style)
    return finish_roc(figure, axes, left, bottom)


def finish_roc(figure: Figure, axes: Axes, left: float, bottom: float) -> Figure:
    """Add the diagonal of a guess, two log axes that begin at `left` and `bottom`, and the legend."""
    axes.plot([left, 1], [left, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="guessing")
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(bottom, 1.1))
    axes.set_xlabel("false positive rate: non-members taken for members")
    axes.set_ylabel("true positive rate: members found")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return freeze_layout(figure)


def drawable(curve: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The points of a curve that a log scale can show; None where there is none."""
    points = {key: np.asarray(curve[key], dtype=float) for key in ("fpr", "tpr", "low", "high")}
    on_log = (points["fpr"] > 0) & (points["tpr"] > 0)
    return {key: values[on_log] for key, values in points.items()} if on_log.any() else None


def roc_alt(results: Results) -> str:
    """A text alternative to the ROC."""
    found = results["attacks"][results["strongest"]["attack"]]["tpr_at_fpr"]
    points = (
        f"{number(100 * found[rate]['value'])}% of the members at {100 * float(rate):g}% false positives"
        if found.get(rate)
        else f"{REFUSED} at {100 * float(rate):g}% false positives, for too few non-members"
        for rate in table_rates(results)
    )
    return (
        f"ROC curves. The strongest attack ({attack_title(results['strongest']['attack'])}) finds: "
        f"{'; '.join(points)}. Guessing finds the same share of members and of non-members."
    )


def class_rows(results: Results) -> list[dict[str, Any]]:
    """One row per class with enough records."""
    return [
        {
            "name": name,
            "cells": [(f"{entry['members']:,}", ""), (f"{entry['nonmembers']:,}", ""), cell(entry["auc"], 1, 3)],
            "best": name == results["worst_class"],
        }
        for name, entry in results["per_class"].items()
    ]


def exposed_rows(results: Results) -> list[tuple[str, ...]]:
    """The most exposed members: row, label, and the share of non-members that score as high, in percent."""
    return [
        (of_group(record), str(record["label"]), f"{100 * record['false_positive_rate']:.2g}")
        for record in results["most_exposed"]
    ]


def of_group(record: Mapping[str, Any]) -> str:
    """The row of a record; of a group that of its first, with how many there are: `17 (3 records)`."""
    count = record.get("records")
    return str(record["row"]) if count is None else f"{record['row']} ({count} record{'s' * (count > 1)})"


def change_rows(results: Results) -> list[dict[str, Any]]:
    """How exposure changed by pruning, one row per class."""
    found = results.get("exposure")
    if not found:
        return []
    return [
        {"name": name, "cells": [cell(entry, 1, 2)], "best": name == found["worst_class"]}
        for name, entry in found["per_class"].items()
    ]


def risen_rows(results: Results) -> list[tuple[str, ...]]:
    """The records whose exposure rose most: row, label, before, after."""
    return [
        (str(record["row"]), str(record["label"]), number(record["dense"], 2), number(record["pruned"], 2))
        for record in results.get("exposure", {}).get("most_risen", ())
    ]


def repeat_lines(results: Results) -> list[tuple[str, str]]:
    """What is needed to repeat the audit, as ("name", "value")."""
    keys = ("source", "data", "fitted_on", "seed", "threads", "alpha", "seconds", "versions")
    return [(name.replace("_", " "), value) for name, value in flatten({k: results[k] for k in keys if k in results})]


def render_audit(results: Results, figure: Figure | None) -> str:
    """The page; every text that comes from the results is escaped."""
    template = environment().get_template("audit.html.j2")
    return template.render(
        results=results,
        title=audit_title(results),
        void=bool(found_by(results, "void")),
        verdict=results["verdict"]["sentences"],
        evidence=audit_verdict(results),
        plots={} if figure is None else {"roc": inline_svg(figure, "roc", roc_alt(results))},
        captions={"roc": ROC_CAPTION},
        caption=audit_caption(results),
        columns=audit_columns(results),
        attacks=attack_rows(results),
        classes=class_rows(results),
        strongest=attack_title(results["strongest"]["attack"]),
        exposed=exposed_rows(results),
        unit=unit(results),
        named=[str(record["row"]) for record in results["discoveries"]["records"][:NAMED]],
        rows_of=results.get("rows_of", "predictions"),
        risen=risen_rows(results),
        changes=change_rows(results),
        confidence=confidence(results),
        shadows="shadows" in results,
        notes=[*results["refused"], *results.get("notes", ())],
        repeat=repeat_lines(results),
    )


def write_audit_page(results: Results, curves: Mapping[str, Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Write the audit's page to `path`: one file that needs no other and no network.

    `curves` has for each attack the arrays "fpr", "tpr", "low" and "high" of its ROC and the band around it.
    """
    write_page(render_audit(results, audit_roc(results, curves)), path)
