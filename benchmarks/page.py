"""docs/benchmarks.md from the results beside this program: results.json, and where they exist scaling.json,
command_memory.json and gpu.json.

python benchmarks/page.py
"""

import json
import pathlib
from typing import Any

import command_memory
import gpu
import scaling
import scaling_plots
from measure import RESULTS

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.md"
NOTES = pathlib.Path(__file__).with_name("notes.md")
HEAD = """# Benchmarks

`python benchmarks/page.py` writes this page from what the programs of `benchmarks/` measured. The first table is
`benchmarks/results.json`: `make bench` measures all of its rows except `reproduce-location30`, and
`make bench ONLY=lenet5-step` the rows of one program. `make bench ONLY=reproduce-location30` takes many minutes and is
measured once on each side.

The two sides are interleaved (A B A B ...), each in a separate process. Times are medians, with the 10th to 90th
percentile in brackets. Ratios are nanoprune / peer: smaller is better. The limit is the time of the arithmetic at the
machine's sgemm rate, or of the memory traffic at its copy rate. Winograd's convolution needs less arithmetic than that.
Rows with `[fast]` have formulas (updates, rectifiers, BatchNorm), max-pooling and depthwise convolutions compiled by
Numba, the others are NumPy alone. The bits are the same, but for depthwise convolutions. There is one table for each
processor; on the AMD EPYC, LeNet-5 was measured before max-pooling was compiled.
GPU

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
| `one-queue-N` | the training of a comparison with N seeds, against one method after another |
| `threads-...`, `spin-...` | data-parallel processes against one process; against processes that sleep to wait |
"""
NO_GPU = """\
Nothing was measured on a GPU, because none was available; the GPU code is tested against a strict stand-in for CuPy
14, and `make gpu` measures it on a machine that has one."""
WITH_GPU = "What was measured on a GPU is [below](#on-a-gpu)."
SCALING = """## Scaling

`make scaling` measures (`python benchmarks/scaling.py`), draws (the same with `--draw`) and writes this page. Points
are medians, bars the 10th to 90th percentile, both axes are logarithmic. Solid lines are the time of the arithmetic
at the rate of large matrix products, dotted lines that of the memory traffic at the rate of copies as large as the
step's own arrays; both rates were measured in the same run, and the formulas are at the head of the program. Updates
are NumPy alone, without Numba. The limit in the table is the larger of the two; growth is the time at the end of a
range over that at its beginning, growth on paper that of the limit. Winograd's convolution needs less arithmetic than
is counted, and what one layer leaves in the cache need not be moved for the next, so that a share can be above 100%.

A fleet is divided among the cores by networks, so that a single one has one core of two; elsewhere the samples of a
batch are divided. The attack network of an audit trains until it gains no more, so that the number of its batches,
which the limit counts, depends on the data. A quick audit has no attack network: it computes and moves next to nothing,
and its limit shows the slope only.
"""
MEMORY = """## Memory of the commands

`make memory` (`python benchmarks/command_memory.py`) runs each command with two workers, where it has any, on random
inputs. The first figure is the peak resident set of its largest process, the second that of all its processes
together, with shared memory counted once. Growth is the growth of the second in bytes for each further byte of input,
from the smallest to the largest input; most of what a command needs on a small input is Python and the libraries.
"""
GPU = """## On a GPU

`make gpu` measures and writes `benchmarks/gpu.json`. The limit is the time of the arithmetic at the rate of large
matrix products in float32, as measured in the same run.
"""
COLUMNS = ("measure", "nanoprune", "peer", "", "ratio", "target", "share of the limit")
UNITS = {group.unit for group in command_memory.GROUPS.values() if group.unit}  # of inputs that have no size in bytes
AMOUNTS = ("gpu TFLOP/s", "gpu-tf32 TFLOP/s", "copy GB/s")
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
    return "\n".join(
        f"{m['processor']}, {m['processors']} processors; Python {m['python']}, NumPy {m['numpy']}"
        + (f", torch {m['torch']}." if "torch" in m else ".")
        for m in found.values()
    )


def scaling_section(series: list[dict[str, Any]]) -> str:
    plots = "\n\n".join(
        f"![Time against size, with limits: {about}]({name})" if name != "roofline.svg" else f"![The {about}]({name})"
        for name, (about, *_) in scaling_plots.PLOTS.items()
        if scaling_plots.chosen(name, series)
    )
    rates = {json.dumps(of["rates"]): of["rates"] for of in series}
    lines = [rate_line(threads, rate) for of in rates.values() for threads, rate in of.items()]
    parts = (SCALING.strip(), plots, scaling_plots.table(series), "\n".join(lines), machines(series))
    return "\n\n".join(parts) + "\n"


def rate_line(threads: str, rates: dict[str, Any]) -> str:
    copies = ", ".join(f"{rate / 1e9:.3g} GB/s for {size / 1e6:g} MB" for size, rate in rates["copy"])
    products = f"{rates['sgemm'] / 1e9:.3g} GFLOP/s"
    return f"Rates on {scaling_plots.cores_of(threads)}: products at {products}; copies at {copies}."


def memory_section(groups: list[dict[str, Any]]) -> str:
    lines = ["| command | input | its size | largest process | all together | growth |"]
    lines.append("| :--- | :--- | ---: | ---: | ---: | ---: |")
    lines += [f"| {' | '.join(memory_cells(row))} |" for of in groups for row in of["rows"]]
    return "\n\n".join((MEMORY.strip(), "\n".join(lines), machines(groups))) + "\n"


def memory_cells(row: dict[str, Any]) -> tuple[str, ...]:
    sizes, together = row["size"], row["together"]
    in_bytes = bool(row["input"]) and row["input"] not in UNITS
    grown = in_bytes and len(sizes) > 1
    return (
        f"`python cli.py {row['command']}`",
        row["input"] or "-",
        (megabytes(sizes) if in_bytes else ", ".join(map(str, sizes))) if row["input"] else "-",
        megabytes(row["largest"]),
        megabytes(together),
        f"{(together[-1] - together[0]) / (sizes[-1] - sizes[0]):.1f}" if grown else "-",
    )


def megabytes(counts: list[int]) -> str:
    """1,500,000 and 20,000,000 bytes -> 1.5, 20 MB."""
    return ", ".join(f"{count / 1e6:.{0 if count >= 1e7 else 1}f}" for count in counts) + " MB"


def gpu_section(found: dict[str, dict[str, Any]]) -> str:
    rates = found.get("rates", {})
    lines = ["| part | found | seconds |", "| :--- | :--- | ---: |"]
    for name, of in found.items():
        seconds = f"{of['seconds']:.0f}" if "seconds" in of else "-"
        lines.append(f"| {name} | {gpu_words(of, rates.get('gpu TFLOP/s')).replace('|', '/')} | {seconds} |")
    device = f"\n{rates['device']}.\n" if rates.get("device") else ""
    return "\n\n".join((GPU.strip(), "\n".join(lines))) + f"\n{device}"


def gpu_words(of: dict[str, Any], rate: float | None) -> str:
    """What a part of gpu.py found, in one line; rate: of products, in TFLOP/s."""
    if "failed" in of:
        return f"failed: {of['failed']}"
    words = [f"{value:.3g} {name}" for name, value in of.items() if isinstance(value, float) and name in AMOUNTS]
    words += [str(of[name]) for name in ("data", "found") if name in of]
    for name, value in of.items():
        if name.endswith(" ms"):
            words.append(f"{name.removesuffix(' ms')} {value:.3g} ms")
        if name.endswith(" failed"):
            words.append(f"{name}: {value}")
    if "ratio" in of:
        words.append(f"ratio {of['ratio']:.2f}")
    if rate and "GFLOP" in of:
        words.append(f"{of['GFLOP'] / rate / of['nanoprune ms']:.0%} of the limit")  # GFLOP / (TFLOP/s) is ms
    return "; ".join(words)


def read(path: pathlib.Path) -> Any:
    """The content of a JSON file; None where nothing was measured."""
    return json.loads(path.read_text()) if path.exists() else None


def page() -> str:
    """The page, with the parts that were measured."""
    rows = json.loads(RESULTS.read_text())
    rows.sort(key=lambda row: [row["measure"].startswith(name) for name in TARGETS], reverse=True)
    processors = dict.fromkeys(row["machine"]["processor"] for row in rows)
    alike = [[row for row in rows if row["machine"]["processor"] == name] for name in processors]
    scaled, memory, on_gpu = map(read, (scaling.RESULT, command_memory.RESULT, gpu.RESULT))
    head = HEAD.replace("\nGPU\n", f"\n{WITH_GPU if on_gpu else NO_GPU}\n")
    parts = [head, *(f"{machines(of)}\n\n{table(of)}\n" for of in alike), NOTES.read_text()]
    parts += [scaling_section(scaled["series"])] if scaled else []
    parts += [memory_section(memory["groups"])] if memory else []
    parts += [gpu_section(on_gpu)] if on_gpu else []
    return "\n".join(parts)


def main() -> None:
    PAGE.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()
