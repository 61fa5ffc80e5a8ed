"""The layers of a network as a table."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def inventory_table(found: dict[str, Any]) -> Table:
    """What `models.inventory.inventory` found: the layers that have weights or change the shape, and the totals."""
    names = {"weights": "weights", "macs": "MACs"}
    if found["kept_weights"] is not None:
        names |= {"kept_weights": "kept", "kept_macs": "MACs kept"}
    table = Table(box=SIMPLE_HEAD, show_footer=True)
    table.add_column("layer", f"{found['parameters']:,} parameters", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    for name, title in names.items():
        table.add_column(title, f"{found[name]:,}", justify="right", no_wrap=True)
    for layer in found["layers"]:
        if layer["weights"] or layer["input"] != layer["output"]:
            cells = [f"{layer[name]:,}" if layer["weights"] else "" for name in names]
            table.add_row(layer["layer"], " x ".join(map(str, layer["output"])), *cells)
    return table
