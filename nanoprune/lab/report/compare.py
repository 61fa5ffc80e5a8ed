"""The report of a comparison of audits: the differences between models in words, as a table and as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from nanoprune.lab.report.audit_page import cell, drawable, finish_roc
from nanoprune.lab.report.audit_verdict import ends, found_by, strongest_title
from nanoprune.lab.report.page import REFUSED, environment, inline_svg, write_page
from nanoprune.lab.report.plots import DASHES, STYLE, literal
from nanoprune.lab.report.table import UNKNOWN, number
from nanoprune.lab.report.text_table import Column, TextTable

Compared = Mapping[str, Any]  # what Comparison.to_dict returns
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#AA5C88", "#C98500", "#555555")
RATE = "0.01"  # the false positive rate that has a column
COLUMNS = ("degree", "test %", "attack %", "change, points", "AUC", "change", "TPR % at 1% FPR", "change, points")
ROC_CAPTION = (
    "Members found against non-members taken for members, by the strongest attack on each model, on logarithmic axes. "
    "The left edge matters for an attacker who must not be wrong."
)


def compare_verdict(compared: Compared) -> list[str]:
    """What each model does to leakage beside the first, one paragraph each."""
    return [_difference_text(compared, name) for name in compared["differences"]]


def _difference_text(compared: Compared, name: str) -> str:
    first, found = compared["first"], compared["differences"][name]
    base, other = (compared["audits"][of] for of in (first, name))
    void = [of for of in (first, name) if found_by(compared["audits"][of], "void")]
    if void:
        return f"{name} against {first}: the audit of {' and that of '.join(void)} is void, so they cannot be compared."
    change = found["accuracy"]
    if change["high"] < 0:
        start = f"{name} leaks less than {first}"
    elif change["low"] > 0:
        start = f"{name} leaks more than {first}"
    else:
        start = f"{name} shows no detectable difference from {first}"
    before, after = (number(100 * of["strongest"]["accuracy"]["value"]) for of in (base, other))
    count = len(compared["differences"])
    together = f", for all {count} models together" if count > 1 else ""
    confidence = f"{100 * (1 - compared['alpha']):g}%"
    text = (
        f"{start}: the strongest attack's accuracy is {after}%, there {before}%, a change of {_points(change)} points "
        f"({confidence} interval {ends(change)}{together}); the AUC changes by "
        f"{number(found['auc']['value'], 3, True)} ({ends(found['auc'], 1, 3)})"
    )
    if tail := found["tpr_at_fpr"].get(RATE):
        text += f", the members found at 1% false positives by {_points(tail)} points ({ends(tail)})"
    test = number(100 * found["test_accuracy"], 1, True)
    degrees = (of["verdict"]["degree"] for of in (base, other))
    return f"{text}. The test accuracy changes by {test} points. The degree was {next(degrees)}, it is {next(degrees)}."


def leakage_line(compared: Compared) -> str:
    """The change of leakage by pruning, in one line; the first model is the one before."""
    before, after = compared["audits"].values()
    (found,) = compared["differences"].values()
    change = found["accuracy"]
    was, is_ = (number(100 * of["strongest"]["accuracy"]["value"]) for of in (before, after))
    unclear = ", not distinguishable from no change" if change["low"] <= 0 <= change["high"] else ""
    return (
        f"leakage by threshold attacks ({after['members']:,} members, {after['nonmembers']:,} others): accuracy {was}% "
        f"before, {is_}% after, {_points(change)} points ({100 * (1 - compared['alpha']):g}% paired interval "
        f"{ends(change)}{unclear}); guessing 50.0%"
    )


def _points(interval: Mapping[str, float]) -> str:
    return number(100 * interval["value"], 1, True)


def compare_rows(compared: Compared) -> list[dict[str, Any]]:
    """One row per model: its name and the cells of COLUMNS, (value, interval or "")."""
    rows = []
    for name, results in compared["audits"].items():
        found, best = compared["differences"].get(name), results["strongest"]
        tail = best["tail"].get(RATE)
        changes = [("-", "")] * 3
        if found:
            rate = found["tpr_at_fpr"].get(RATE)
            changes = [
                (_points(found["accuracy"]), ends(found["accuracy"])),
                (number(found["auc"]["value"], 3, True), ends(found["auc"], 1, 3)),
                (_points(rate), ends(rate)) if rate else (UNKNOWN, ""),
            ]
        cells = [
            (results["verdict"]["degree"], ""),
            (number(100 * results["test_accuracy"]), ""),
            cell(best["accuracy"]),
            changes[0],
            cell(best["auc"], 1, 3),
            changes[1],
            (number(100 * tail["tpr"]["value"]), ends(tail["tpr"])) if tail else (REFUSED, ""),
            changes[2],
        ]
        rows.append({"name": name, "attack": strongest_title(results), "cells": cells, "best": False})
    return rows


def compare_caption(compared: Compared) -> str:
    """How to read the table."""
    count = len(compared["differences"])
    return (
        f"attack %: the strongest attack's balanced accuracy; guessing scores 50.0. Changes are less "
        f"{compared['first']}, paired record by record; their intervals hold at {100 * (1 - compared['alpha']):g}% "
        f"confidence"
        f"{f' for all {count} models together' if count > 1 else ''}. One that holds 0 shows no difference. "
        f'"{REFUSED}": too few non-members.'
    )


def compare_table(compared: Compared) -> TextTable:
    """The models as a table for the terminal, 80 columns wide."""
    shown = [0, 1, 2, 3, 5, 7]
    heads = {5: "AUC\nchange", 7: "TPR at 1%\nchange", 3: "change,\npoints", 0: "degree", 1: "test\n%", 2: "attack\n%"}
    columns = [Column("model", fold=True, min_width=8), *(Column(heads[place], right=True) for place in shown)]
    rows = []
    for row in compare_rows(compared):
        cells = ("\n".join(filter(None, (value, interval.replace(" to ", ".."))))
                 for value, interval in (row["cells"][place] for place in shown))  # fmt: skip
        rows.append((row["name"], *cells))
    return TextTable(columns, rows, f"Comparison with {compared['first']}", compare_caption(compared))


@rc_context(STYLE)
def compare_roc(curves: Mapping[str, Any]) -> Figure | None:
    """The ROC of the strongest attack on each model, on two log axes."""
    shown = {name: points for name in curves if (points := drawable(curves[name])) is not None}
    if not shown:
        return None
    figure = Figure(figsize=(5.4, 5), dpi=72, layout="constrained")
    axes = figure.subplots()
    for place, (name, curve) in enumerate(shown.items()):
        style = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
        axes.plot(curve["fpr"], curve["tpr"], linewidth=1.8, label=literal(name), **style)
        low = np.maximum(curve["low"], 1e-9)  # a log scale has no zero
        axes.fill_between(curve["fpr"], low, curve["high"], color=style["color"], alpha=0.1, linewidth=0)
    left = min(0.1, *(float(curve["fpr"][0]) for curve in shown.values()))
    bottom = min(left, *(float(curve["tpr"][0]) for curve in shown.values()))
    return finish_roc(figure, axes, left, bottom)


def roc_alt(compared: Compared) -> str:
    """A text alternative to the ROC."""
    found = (
        f"{name}: {number(100 * tail['tpr']['value'])}% of the members at 1% false positives"
        for name, results in compared["audits"].items()
        if (tail := results["strongest"]["tail"].get(RATE))
    )
    return f"ROC curves of the strongest attack on each model. {'; '.join(found)}."


def render_comparison(compared: Compared, figure: Figure | None) -> str:
    """The page; every text that comes from the results is escaped."""
    others = list(compared["differences"])
    template = environment().get_template("compare.html.j2")
    return template.render(
        compared=compared,
        title=f"{others[0] if len(others) == 1 else f'{len(others)} models'} compared with {compared['first']}",
        verdict=compare_verdict(compared),
        rows=compare_rows(compared),
        columns=COLUMNS,
        caption=compare_caption(compared),
        plots={} if figure is None else {"roc": inline_svg(figure, "roc", roc_alt(compared))},
        captions={"roc": ROC_CAPTION},
        sources=list(compared.get("sources", {}).items()),
    )


def write_comparison_page(compared: Compared, curves: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write the comparison's page to `path`: one file that needs no other and no network."""
    write_page(render_comparison(compared, compare_roc(curves)), path)
