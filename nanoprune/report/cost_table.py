"""The table of what pruning left of each layer: asked against achieved, parameters, multiplications, bytes."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

COLUMNS = ("layer", "shape", "asked %", "kept %", "parameters", "MACs", "bytes")


def cost_rows(costs: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The cells of `COLUMNS`, one tuple a layer, and the sums; "a / b" is what is left of all."""
    rows = [
        (
            layer["layer"],
            " x ".join(map(str, layer["shape"])),
            "-" if layer["asked"] is None else f"{100 * layer['asked']:.2f}",
            f"{100 * layer['kept']:.2f}",
            *(_of(layer[cost]) for cost in ("parameters", "macs", "bytes")),
        )
        for layer in costs["layers"]
    ]
    return [*rows, ("all", "", "", "", *(_of(costs[cost]) for cost in ("parameters", "macs", "bytes")))]


def _of(pair: list[int]) -> str:
    return f"{pair[1]:,} / {pair[0]:,}"


def cost_table(costs: Mapping[str, Any]) -> Table:
    """The costs as a table for the terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in COLUMNS:
        table.add_column(Text(column), justify="left" if column in ("layer", "shape") else "right", overflow="fold")
    for row in cost_rows(costs):
        table.add_row(*map(Text, row))
    return table
