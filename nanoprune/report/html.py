"""The report as one HTML file: plots inline, no script, nothing fetched, readable on paper and on a phone."""

import html
import importlib.resources
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from nanoprune.errors import DataError
from nanoprune.files import atomic_path
from nanoprune.report import plots, table
from nanoprune.report.table import UNKNOWN, known, number, summary_text
from nanoprune.report.verdict import verdict

CAPTIONS = {
    "accuracy": "The price of privacy. Right is more accurate, down leaks less; the bars are 95% intervals over seeds.",
    "roc": "Members found against non-members wrongly accused, by the strongest attack on each method. "
    "The left edge is what matters to a careful attacker.",
    "residuals": "ADMM's residuals (median and range over seeds) and their tolerances. The problem is not convex: "
    "they diagnose the run and prove nothing about its optimum.",
    "adversary": "The loss of the Min-Max game's adversary (median and range over seeds). One that stays at log 2 has "
    "learned nothing and defends nothing.",
}
REFUSED = "refused"


def open_curves(path: str | os.PathLike) -> h5py.File:
    """The curves file, open for reading; DataError where it is missing or no HDF5 file."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: cannot be read as HDF5; run `reproduce` to write it") from error


def alt_text(name: str, results: Mapping[str, Any]) -> str:
    """What a reader who cannot see the plot should know of it."""
    if name != "accuracy":
        return CAPTIONS[name]
    points = (
        f"{method} {summary_text(m['strongest_attack_accuracy'])}% at {summary_text(m['test_accuracy'])}%"
        for method, m in results["methods"].items()
    )
    return "Strongest attack's accuracy at test accuracy: " + "; ".join(points) + ". Guessing scores 50.0%."


def inline_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as an <svg> element for HTML, with a text alternative and identifiers of its own."""
    svg = plots.drawing(figure, "svg").decode()
    svg = svg[svg.index("<svg") :]  # the XML declaration and the document type belong to a file of its own
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1))


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as ("outer.inner", "value") lines."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def false_positive_rates(results: Mapping[str, Any]) -> list[str]:
    """The false positive rates at which a true positive rate was asked for, the largest first."""
    attacks = (attack for method in results["methods"].values() for attack in method["attacks"].values())
    return sorted({rate for attack in attacks for rate in attack["tpr_at_fpr"]}, key=float, reverse=True)


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


def solver_lines(results: Mapping[str, Any]) -> list[str]:
    """How ADMM ended for each pruned method, over the seeds."""
    return [
        f"{name}: " + ", ".join(f"{status} in {n} of {len(ended)} seeds" for status, n in Counter(ended).items())
        for name, method in results["methods"].items()
        if (ended := method.get("solver", {}).get("status"))
    ]


def render_html(results: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The page; every text that comes from the results is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = importlib.resources.files("nanoprune.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    rates = false_positive_rates(results)
    tpr_columns = (f"TPR % at {100 * float(rate):g}% FPR" for rate in rates)
    return environment.from_string(template).render(
        results=results,
        title=table.table_title(results),
        caption=table.table_caption(results),
        columns=table.COLUMNS,
        rows=table.table_rows(results),
        verdict=verdict(results),
        plots={name: inline_svg(figure, name, alt_text(name, results)) for name, figure in figures.items()},
        captions=CAPTIONS,
        attack_columns=["accuracy %", "per-class threshold %", "AUC", *tpr_columns],
        attacks={name: attack_rows(method, rates) for name, method in results["methods"].items()},
        unknown=UNKNOWN,
        refused=REFUSED,
        solver=solver_lines(results),
        splits=list(flatten(results["splits"])),
        seconds=number(results["seconds"], 0),
        versions=list(flatten(results["versions"])),
        recipe=list(flatten(results["recipe"])),
    )


def write_page(page: str, path: str | os.PathLike) -> None:
    """Write the page to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def write_html(results: Mapping[str, Any], curves_path: str | os.PathLike, out_path: str | os.PathLike) -> None:
    """Write the report to `out_path`: one file that needs no other and no network."""
    with open_curves(curves_path) as curves:
        page = render_html(results, plots.all_plots(results, curves))
    write_page(page, out_path)
