"""Each method compared with its controls: what the pair differs in, and the difference in leakage."""

from collections.abc import Mapping
from typing import Any

from nanoprune.lab.report.table import change_cell
from nanoprune.lab.report.text_table import Column, TextTable

COLUMNS = ("method", "control", "difference, or what is matched", "attack, points", "test, points")


def control_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One tuple of cells per pair of a method and one of its controls; the cells are those of `COLUMNS`."""
    return [
        (
            name,
            control,
            of["difference"],
            change_cell(of["attack_accuracy_change"]),
            change_cell(of["test_accuracy_change"]),
        )
        for name, method in results["methods"].items()
        for control, of in method.get("controls", {}).items()
    ]


def controls_table(results: Mapping[str, Any]) -> TextTable | None:
    """The pairs as a table for the terminal; None where there are none."""
    rows = control_rows(results)
    if not rows:
        return None
    caption = 'Method less control, paired by seed: negative under "attack" is less leakage than the control\'s.'
    columns = [Column(column, right="points" in column) for column in COLUMNS]
    cells = [[cell.replace(" \u00b1 ", "\u00b1") for cell in row] for row in rows]
    return TextTable(columns, cells, "Against the controls", caption)


def markdown_controls(results: Mapping[str, Any]) -> str:
    """The pairs as a Markdown table; empty where there are none."""
    rows = control_rows(results)
    alignment = ["---:" if "points" in column else ":---" for column in COLUMNS]
    lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, alignment, *rows)] if rows else []
    return "\n".join([*lines, ""])
