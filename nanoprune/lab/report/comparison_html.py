"""The report as one HTML file: plots inline, no script, nothing fetched, readable on paper and on a phone."""

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from nanoprune.lab.report import controls, plots, table
from nanoprune.lab.report.curves import open_curves
from nanoprune.lab.report.page import (
    REFUSED,
    environment,
    false_positive_rates,
    flatten,
    inline_svg,
    tpr_column,
    write_page,
)
from nanoprune.lab.report.table import UNKNOWN, known, number, summary_text
from nanoprune.lab.report.verdict import verdict

CAPTIONS = {
    "accuracy": "The price of privacy. Right is more accurate, down leaks less; the bars are 95% intervals over seeds.",
    "roc": "Members found against non-members wrongly accused, by the strongest attack on each method. "
    "The left edge is what matters to a careful attacker.",
    "residuals": "ADMM's residuals (median and range over seeds) and their tolerances. The problem is not convex: "
    "they diagnose the run and prove nothing about its optimum.",
    "adversary": "The loss of the Min-Max game's adversary (median and range over seeds). One that stays at log 2 has "
    "learned nothing and defends nothing.",
}


def alt_text(name: str, results: Mapping[str, Any]) -> str:
    """What a reader who cannot see the plot should know of it."""
    if name != "accuracy":
        return CAPTIONS[name]
    points = (
        f"{method} {summary_text(m['strongest_attack_accuracy'])}% at {summary_text(m['test_accuracy'])}%"
        for method, m in results["methods"].items()
    )
    return "Strongest attack's accuracy at test accuracy: " + "; ".join(points) + ". Guessing scores 50.0%."


def attack_rows(method: Mapping[str, Any], rates: list[str]) -> list[dict[str, Any]]:
    """The rows of one method in the table of attacks; a rate that could not be measured says so."""
    rows = []
    for name, attack in method["attacks"].items():
        found = (attack["tpr_at_fpr"].get(rate) for rate in rates)
        cells = [
            summary_text(attack["accuracy"]),
            summary_text(attack.get("accuracy_per_class_threshold")),
            summary_text(attack["auc"], scale=1, digits=3),
            *(summary_text(rate) if rate and known(rate["mean"]) else REFUSED for rate in found),
        ]
        rows.append({"name": table.attack_title(name), "cells": cells, "best": name == method["strongest_attack"]})
    return rows


def shadow_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The attacks with shadow models, one row each, where there are any; the most accurate on each method is marked."""
    rows = []
    for method, entry in results["methods"].items():
        attacks = entry.get("shadow_attacks", {})
        best = max(attacks, key=lambda name: attacks[name]["accuracy"]["mean"], default=None)
        for name, attack in attacks.items():
            rate = attack["tpr_at_fpr"].get("0.01")
            cells = [
                summary_text(attack["accuracy"]),
                summary_text(attack["auc"], scale=1, digits=3),
                summary_text(rate) if rate else REFUSED,
            ]
            rows.append({"method": method, "name": table.attack_title(name), "cells": cells, "best": name == best})
    return rows


def solver_lines(results: Mapping[str, Any]) -> list[str]:
    """How ADMM ended for each pruned method, over the seeds."""
    return [
        f"{name}: " + ", ".join(f"{status} in {n} of {len(ended)} seeds" for status, n in Counter(ended).items())
        for name, method in results["methods"].items()
        if (ended := method.get("solver", {}).get("status"))
    ]


def render_html(results: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The page; every text that comes from the results is escaped."""
    rates = false_positive_rates(a for method in results["methods"].values() for a in method["attacks"].values())
    template = environment().get_template("report.html.j2")
    return template.render(
        results=results,
        title=table.table_title(results),
        caption=table.table_caption(results),
        columns=table.COLUMNS,
        rows=table.table_rows(results),
        control_columns=controls.COLUMNS,
        controls=controls.control_rows(results),
        verdict=verdict(results),
        plots={name: inline_svg(figure, name, alt_text(name, results)) for name, figure in figures.items()},
        captions=CAPTIONS,
        attack_columns=["accuracy %", "per-class threshold %", "AUC", *map(tpr_column, rates)],
        attacks={name: attack_rows(method, rates) for name, method in results["methods"].items()},
        shadow_attacks=shadow_rows(results),
        validity=results.get("validity", []),
        unknown=UNKNOWN,
        refused=REFUSED,
        solver=solver_lines(results),
        splits=list(flatten(results["splits"])),
        seconds=number(results["seconds"], 0),
        versions=list(flatten(results["versions"])),
        recipe=list(flatten(results["recipe"])),
    )


def write_html(results: Mapping[str, Any], curves_path: str | os.PathLike, out_path: str | os.PathLike) -> None:
    """Write the report to `out_path`: one file that needs no other and no network."""
    with open_curves(curves_path) as curves:
        page = render_html(results, plots.all_plots(results, curves))
    write_page(page, out_path)
