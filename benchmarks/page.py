"""docs/benchmarks.md from benchmarks/results.json.

python benchmarks/page.py
"""

import json
import pathlib
from typing import Any

from measure import RESULTS

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.md"
NOTES = pathlib.Path(__file__).with_name("notes.md")
HEAD = """# Benchmarks

`python benchmarks/page.py` writes this page from `benchmarks/results.json`. `make bench` measures all rows except
`reproduce-location30`, `make bench ONLY=lenet5-step` the rows of one program. `make bench ONLY=reproduce-location30`
takes many minutes and is measured once on each side.

The two sides are interleaved (A B A B ...), each in a separate process. Times are medians, with the 10th to 90th
percentile in brackets. Ratios are nanoprune / peer: smaller is better. The limit is the time of the arithmetic at the
machine's sgemm rate, or of the memory traffic at its copy rate. Winograd's convolution needs less arithmetic than that.
Rows with `[fast]` have formulas (updates, rectifiers, BatchNorm) and depthwise convolutions compiled by Numba; the others
are NumPy alone. The bits are the same, but for depthwise convolutions.
Nothing was measured on a GPU, because none was available; the GPU code is tested against a strict stand-in for CuPy 14,
and `make gpu` measures it on a machine that has one.

| rows | measured |
|---|---|
| `lenet5-step-N`, `resnet18-step-N`, `mobilenetv2-step-N` | a training step with batch N |
| `dp-lenet5-step-N` | a step of DP-SGD |
| `attack-step-N` | a step of the attack network, one thread on each side |
| `attention-step-DATA` | multi-head self-attention, forward and backward, at the sizes of the transformer for DATA |
| `lenet5-apart-N` | two processes, half of the batch each, no communication: a lower bound for data parallelism |
| `fleet-mlp-16`, `fleet-growth-R` | a step of 16 networks; nanoprune's step per network in a fleet of R networks |
| `conv3x3-HxC` | forward and backward pass of a 3 x 3 convolution, 32 images H x H, C channels |
| `projection-138m` | the projection of 138 million weights to the largest 5% |
| `memory-...` | peak memory of training |
| `dp-over-plain-N` | a step of DP-SGD against one of plain SGD |
| `threads-...`, `spin-...` | data-parallel processes against one process; against processes that sleep to wait |

"""
COLUMNS = ("measure", "nanoprune", "peer", "", "ratio", "target", "share of the limit")
TARGETS = {
    "lenet5-step": 0.60,
    "fleet-mlp": 0.65,
    "attack-step": 0.65,
    "attention-step": 2.0,
    "conv3x3": 1.0,
    "reproduce-location30": 0.65,
    "projection": 1.0,
    "memory-lenet5": 0.5,
    "resnet18-step": 0.80,
    "mobilenetv2-step": 0.80,
    "memory-resnet18": 1.2,
    "dp-lenet5-step": 0.35,
}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [COLUMNS, (":---", "---:", ":---", "---:", "---:", "---:", "---:")]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines + [cells(row) for row in rows])


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    target = next((f"{value:.2f}" for name, value in TARGETS.items() if row["measure"].startswith(name)), "-")
    return (
        row["measure"],
        amount(row, "ours"),
        row["peer"] or "-",
        amount(row, "peer") if row["peer"] else "-",
        f"{row['ratio']:.2f}" if row.get("ratio") else "-",
        target,
        f"{row['share_of_limit']:.0%}" if row.get("share_of_limit") else "-",
    )


def amount(row: dict[str, Any], side: str) -> str:
    """Bytes or seconds of one side, in the unit with the fewest zeros."""
    if f"{side}_bytes" in row:
        return f"{row[f'{side}_bytes'] / 1e6:.0f} MB"
    seconds = row[f"{side}_seconds"]
    scale, unit = (1e3, "ms") if seconds < 1 else (1, "s")
    spread = row.get(f"{side}_spread")
    once = not spread or spread[0] == spread[1]
    brackets = "" if once else f" ({spread[0] * scale:.3g} to {spread[1] * scale:.3g})"
    return f"{seconds * scale:.3g} {unit}{brackets}"


def machines(rows: list[dict[str, Any]]) -> str:
    """The machines and versions of the rows, one line for each."""
    found = {json.dumps(row["machine"], sort_keys=True): row["machine"] for row in rows}
    lines = [
        f"{m['processor']}, {m['processors']} processors; Python {m['python']}, NumPy {m['numpy']}, torch {m['torch']}."
        for m in found.values()
    ]
    return "\n".join(lines)


def main() -> None:
    rows = json.loads(RESULTS.read_text())
    rows.sort(key=lambda row: [row["measure"].startswith(name) for name in TARGETS], reverse=True)
    PAGE.write_text(f"{HEAD}{table(rows)}\n\n{machines(rows)}\n\n{NOTES.read_text()}")
    print(PAGE)


if __name__ == "__main__":
    main()
