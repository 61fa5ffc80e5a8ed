"""Reports: tables, plots, the verdict and the HTML page. Made from results alone, without networks."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from nanoprune.lab.report import neutral  # noqa: F401, before anything imports matplotlib

# isort: split

from nanoprune.errors import DataError
from nanoprune.lab.report.audit_page import audit_table, write_audit_page
from nanoprune.lab.report.audit_verdict import audit_verdict
from nanoprune.lab.report.compare import compare_table, compare_verdict, leakage_line, write_comparison_page
from nanoprune.lab.report.comparison_html import render_html, write_html
from nanoprune.lab.report.controls import controls_table, markdown_controls
from nanoprune.lab.report.cost_table import cost_table
from nanoprune.lab.report.curves import open_curves
from nanoprune.lab.report.inventory import inventory_lines, inventory_table
from nanoprune.lab.report.page import write_page
from nanoprune.lab.report.plots import all_plots, save
from nanoprune.lab.report.schema import faults
from nanoprune.lab.report.table import markdown_table, results_table
from nanoprune.lab.report.verdict import verdict

__all__ = [
    "audit_table",
    "audit_verdict",
    "compare_table",
    "compare_verdict",
    "controls_table",
    "cost_table",
    "inventory_lines",
    "inventory_table",
    "leakage_line",
    "markdown_controls",
    "markdown_table",
    "results_table",
    "verdict",
    "write_audit_page",
    "write_comparison_page",
    "write_html",
    "write_report",
]


def check_results(results: Mapping[str, Any], where: str | os.PathLike) -> None:
    """Raises DataError, naming `where` they are from and the place in them, unless they are as `reproduce` writes."""
    fault = next(faults(results), None)
    if fault:
        raise DataError(f"{where}: damaged results: {fault}; run `reproduce` again")


def write_report(results: Mapping[str, Any], out_dir: str | os.PathLike) -> None:
    """Write the plots (SVG; the plot of accuracies also as PNG) and report.html beside curves.h5 in `out_dir`.

    Raises DataError where the results or curves are not what `reproduce` writes.
    """
    out = pathlib.Path(out_dir)
    check_results(results, out)
    try:
        with open_curves(out / "curves.h5") as curves:
            figures = all_plots(results, curves)
        page = render_html(results, figures)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise DataError(f"{out}: damaged results ({type(error).__name__}: {error}); run `reproduce` again") from error
    for name, figure in figures.items():
        save(figure, out / f"{name}.svg")
    if "accuracy" in figures:
        save(figures["accuracy"], out / "accuracy.png")
    write_page(page, out / "report.html")
