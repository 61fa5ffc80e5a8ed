"""The layers of a network as a table, and what a model file says of its history in a few lines."""

from __future__ import annotations

from typing import Any

from nanoprune.lab.report.text_table import Column, TextTable

FEWER = ((1e9, "G"), (1e6, "M"))
COLUMNS = {"weights": "weights", "kept_weights": "kept", "macs": "MACs", "kept_macs": "kept"}


def inventory_table(found: dict[str, Any]) -> TextTable:
    """What `models.inventory.inventory` found: a row for each layer that has weights or changes the shape, with the
    layers after it that do neither."""
    names = {name: title for name, title in COLUMNS.items() if found[name] is not None}
    columns = [Column("name", foot="sum"), Column("layer"), Column("output", right=True, no_wrap=True)]
    for name, title in names.items():
        columns.append(Column(title, right=True, no_wrap=True, foot=cell(name, found[name])))
    shown = []
    for row in rows(found["layers"]):
        layer, words = row[0], " ".join(part["kind"] for part in row)
        cells = [cell(name, layer[name]) if layer["weights"] else "" for name in names]
        shown.append((layer["name"] or "", words.strip(), "x".join(map(str, row[-1]["output"])), *cells))
    return TextTable(columns, shown)


def rows(layers: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each layer that has weights or another shape, and the layers after it that have neither."""
    found: list[list[dict[str, Any]]] = []
    for layer in layers:
        if layer["weights"] or layer["input"] != layer["output"] or not found:
            found.append([])
        found[-1].append(layer)
    return found


def cell(name: str, value: int) -> str:
    """Counts of weights in full; of multiply-accumulates four digits."""
    if name.endswith("macs"):
        for size, letter in FEWER:
            if value >= size:
                return f"{value / size:.4g}{letter}"
    return f"{value:,}"


def inventory_lines(found: dict[str, Any]) -> list[str]:
    """The network in a line; of a model file also its data and each step that made it."""
    shape = " x ".join(map(str, found["input_shape"]))
    of = "images (height x channels x width)" if len(found["input_shape"]) == 3 else "features"
    counts = f"{found['parameters']:,} parameters, {found['macs']:,} multiply-accumulates"
    lines = [f"{found['network']}: {shape} {of} to {found['classes']:,} classes; {counts}"]
    model = found.get("model")
    if model is None:
        return lines
    members = "the official training set" if model["members"] is None else f"{model['members']:,}"
    known = model["dataset"] != "unknown"
    split = f"members {members}, reference {model['reference']:,}, non-members {model['nonmembers']:,}"
    lines.append(f"data: {model['dataset']}" + (f"; {split}; seed {model['seed']}" if known else ""))
    return lines + [step_line(step) for step in model["steps"]]


def step_line(step: dict[str, Any]) -> str:
    """A step in one line: its settings by name, and the accuracies after it where they were kept."""
    shown = [_setting(name, step[name]) for name in SHOWN if step.get(name) not in (None, [], 0.0, "none")]
    line = f"{step['step']}: {', '.join(shown)}" if shown else step["step"]
    if isinstance(step.get("accuracy"), dict):
        found = step["accuracy"]
        of = (f"{name} {100 * found[name]:.2f}%" for name in ("train", "test") if name in found)
        line += f"; accuracy {' '.join(of)}"
    return line


SHOWN = ("file", "keep", "scope", "scheme", "exempt", "via", "solver", "variant", "noise", "epochs", "batch", "lr")
SHOWN += ("momentum", "decay", "weight_decay", "augment", "loss", "minmax", "prune", "retrain", "private", "status")


def _setting(name: str, value: Any) -> str:
    if isinstance(value, dict):
        of = ", ".join(_setting(key, value[key]) for key in ("epochs", "batch", "lr", "epsilons") if key in value)
        return f"{name} ({of})"
    if isinstance(value, (list, tuple)):
        return f"{name} {' '.join(f'{of:g}' if isinstance(of, float) else str(of) for of in value)}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
