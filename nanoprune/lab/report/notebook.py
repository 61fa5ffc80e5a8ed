"""Audits and comparisons as a notebook shows them: a part of a page, without its style."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from nanoprune.lab.report.audit_page import attack_rows, audit_caption, audit_columns, audit_roc, roc_alt
from nanoprune.lab.report.audit_verdict import Results, audit_title
from nanoprune.lab.report.compare import COLUMNS, compare_caption, compare_roc, compare_rows, compare_verdict
from nanoprune.lab.report.compare import roc_alt as compared_alt
from nanoprune.lab.report.page import environment, inline_svg


def audit_fragment(results: Results, curves: Mapping[str, Mapping[str, Any]]) -> str:
    """The verdict of an audit, the table of its attacks and their ROC."""
    return _fragment(
        audit_roc(results, curves),
        roc_alt(results),
        title=audit_title(results),
        sentences=results["verdict"]["sentences"],
        what="attack",
        columns=audit_columns(results),
        rows=attack_rows(results),
        caption=audit_caption(results),
    )


def comparison_fragment(compared: Results, curves: Mapping[str, Mapping[str, Any]]) -> str:
    """The differences of models in words, their table and the ROC of each one's strongest attack."""
    return _fragment(
        compare_roc(curves),
        compared_alt(compared),
        title=f"Comparison with {compared['first']}",
        sentences=compare_verdict(compared),
        what="model",
        columns=COLUMNS,
        rows=compare_rows(compared),
        caption=compare_caption(compared),
    )


def _fragment(figure: Figure | None, alt: str, **about: Any) -> str:
    name = f"roc-{hashlib.sha256(alt.encode()).hexdigest()[:8]}"  # a notebook is one page with many plots
    plot = "" if figure is None else inline_svg(figure, name, alt)
    return environment().get_template("notebook.html.j2").render(plot=plot, **about)
