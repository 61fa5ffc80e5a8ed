"""The table of layers after pruning: requested and achieved keep ratio, parameters, multiplications, bytes."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

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


def cost_table(costs: Mapping[str, Any]) -> Table:
    """The costs as a table for the terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    rows = cost_rows(costs)
    for place, column in enumerate(COLUMNS):
        longest = max(len(word) for row in rows for word in row[place].split())  # a number is never cut
        table.add_column(Text(column), justify="left" if column == "layer" else "right", min_width=longest)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
