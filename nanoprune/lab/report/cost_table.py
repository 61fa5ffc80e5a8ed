"""The table of layers after pruning: requested and achieved keep ratio, parameters, multiplications, bytes."""

from collections.abc import Mapping
from typing import Any

from nanoprune.lab.report.text_table import Column, TextTable

COLUMNS = ("layer", "asked %", "kept %", "parameters", "MACs", "bytes")


def cost_rows(costs: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The cells of `COLUMNS`, one tuple a layer and one for all: what is left, and how many times less that is."""
    return [
        (
            of["layer"],
            *("-" if of[share] is None else f"{100 * of[share]:.2f}" for share in ("asked", "kept")),
            *(
                f"{left:,} ({full / left:.1f}x)" if left else "0 (none left)"
                for full, left in (of[cost] for cost in ("parameters", "macs", "bytes"))
            ),
        )
        for of in (*costs["layers"], {**costs, "layer": "all"})
    ]


def cost_table(costs: Mapping[str, Any]) -> TextTable:
    """The costs as a table for the terminal."""
    rows, columns = cost_rows(costs), []
    for place, column in enumerate(COLUMNS):
        longest = max(len(word) for row in rows for word in row[place].split())  # a number is never cut
        columns.append(Column(column, right=column != "layer", min_width=longest))
    return TextTable(columns, rows)
