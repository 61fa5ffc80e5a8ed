"""The plots and the table of scaling.json: time against size beside the limits, and the roofline.

`python benchmarks/scaling.py --draw` draws them; docs/benchmarks.md has them.
"""

import math
import pathlib
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from nanoprune.lab.report.plots import STYLE, freeze_layout, literal, save

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C98500")  # one per number of cores, told apart by colour-blind readers
MARKERS = ("o", "s", "^", "D")
PLOTS = {  # file: series, and what the figure is called on the page
    "scaling_training.svg": ("training", "replicas-", "batch-", "width-"),
    "scaling_audit.svg": ("audits", "audit-", "quick-audit-"),
    "roofline.svg": ("roofline", "replicas-", "batch-", "width-"),
}
LIMITS = {"arithmetic": "-", "traffic": (0, (1.2, 1.4))}


def chosen(name: str, series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The series that a plot shows."""
    return [of for of in series if of["name"].startswith(PLOTS[name][1:])]


def draw(series: list[dict[str, Any]], folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the plots that have something to show, as SVG; returns their paths."""
    drawn = []
    for name in PLOTS:
        if shown := chosen(name, series):
            figure = roofline(shown) if name == "roofline.svg" else panels(shown)
            save(figure, folder / name)
            drawn.append(folder / name)
    return drawn


def panels(series: list[dict[str, Any]]) -> Figure:
    """Time against size on two log axes, a panel a series: medians with the 10th to 90th percentile, and the limits."""
    with rc_context(STYLE | {"font.size": 9}):
        rows = math.ceil(len(series) / 2)
        figure = Figure(figsize=(7, 0.9 + 2.5 * rows), dpi=72, layout="constrained")
        grid = list(figure.subplots(rows, 2, squeeze=False).flat)
        for axes in grid[len(series) :]:
            axes.remove()
        for of, axes in zip(series, grid, strict=False):
            panel(axes, of)
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            handles |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        handles = dict(sorted(handles.items()))
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=9, handlelength=2.6)
        return freeze_layout(figure)


def panel(axes: Axes, series: dict[str, Any]) -> None:
    """One series: what was measured and its limits, for each number of cores."""
    scale, unit = (1, "s") if min(point["seconds"] for point in series["points"]) > 0.2 else (1e3, "ms")
    for place, threads in enumerate(series["rates"]):
        points = [point for point in series["points"] if point["threads"] == int(threads)]
        if not points:
            continue
        x, y = [point["x"] for point in points], [scale * point["seconds"] for point in points]
        spread = [[scale * abs(point["spread"][end] - point["seconds"]) for point in points] for end in (0, 1)]
        colour, cores = COLOURS[place % len(COLOURS)], cores_of(threads)
        axes.errorbar(x, y, yerr=spread, color=colour, marker=MARKERS[place % len(MARKERS)], markersize=4.5,
                      linewidth=0.8, label=f"measured, {cores}", zorder=4)  # fmt: skip
        for limit, dashes in LIMITS.items():
            if all(point[limit] > 0 for point in points):
                label = f"{'arithmetic' if limit == 'arithmetic' else 'memory traffic'}, {cores}"
                line = [scale * point[limit] for point in points]
                axes.plot(x, line, color=colour, linestyle=dashes, linewidth=1.2, alpha=0.8, label=label)
    axes.set(xscale="log", yscale="log", xlabel=series["x"], ylabel=unit)
    axes.set_title(literal(series["title"]), fontsize=9)
    axes.xaxis.set_major_locator(FixedLocator(sorted({point["x"] for point in series["points"]})))
    axes.xaxis.set_minor_locator(NullLocator())
    few_decades(axes.yaxis)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}"))


def few_decades(axis: Axis) -> None:
    """Labels at 1, 2 and 5 times the powers of ten where those alone would be fewer than three."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,), numticks=12))
    axis.set_minor_locator(NullLocator())


def roofline(series: list[dict[str, Any]]) -> Figure:
    """Rate of arithmetic against operations per byte, on two log axes: every training step, below what products and
    copies allow. The lower of two slopes is that of arrays that exceed the caches."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7, 4.6), dpi=72, layout="constrained")
        axes = figure.subplots()
        intensity = [point["flop"] / point["bytes"] for of in series for point in of["points"]]
        left, right = min(intensity) / 2, max(intensity) * 2
        for place, threads in enumerate(series[0]["rates"]):
            colour, rates = COLOURS[place % len(COLOURS)], series[0]["rates"][threads]
            copies = [rate for _, rate in rates["copy"]]
            roofs = ((rates["copy"][-1][1], "memory", LIMITS["traffic"]), (max(copies), "cache", "-"))
            for copy, level, dashes in roofs:
                x = sorted([left, rates["sgemm"] / copy, right])
                y = [min(copy * at, rates["sgemm"]) / 1e9 for at in x]
                label = f"products, copies in {level}, {cores_of(threads)}"
                axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.3, label=label)
            of_it = [point for of in series for point in of["points"] if point["threads"] == int(threads)]
            x, y = zip(*[(point["flop"] / point["bytes"], point["flop"] / point["seconds"] / 1e9) for point in of_it],
                       strict=True)  # fmt: skip
            axes.plot(x, y, MARKERS[place % len(MARKERS)], color=colour, markersize=4.5, markeredgecolor="white",
                      markeredgewidth=0.5, label=f"measured, {cores_of(threads)}", zorder=4)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(left, right))
        axes.set_xlabel("arithmetic intensity, operations per byte of memory traffic")
        axes.set_ylabel("GFLOP/s")
        for axis in (axes.xaxis, axes.yaxis):
            few_decades(axis)
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        return freeze_layout(figure)


def cores_of(threads: str | int) -> str:
    return "1 core" if int(threads) == 1 else f"{threads} cores"


def table(series: list[dict[str, Any]]) -> str:
    """A row for each series and number of cores, in Markdown: the ends of its range, and how time grew between them."""
    head = "| series | cores | range | time | growth | growth on paper | share of the limit | speedup |"
    lines = [head, "| :--- | ---: | :--- | ---: | ---: | ---: | ---: | ---: |"]
    for of in series:
        one = {point["x"]: point["seconds"] for point in of["points"] if point["threads"] == 1}
        for threads in of["rates"]:
            points = [point for point in of["points"] if point["threads"] == int(threads)]
            if not points:
                continue
            ends = points[0], points[-1]
            limits = [max(point["arithmetic"], point["traffic"]) for point in ends]
            speedups = [one[point["x"]] / point["seconds"] for point in ends] if one and threads != "1" else []
            cells = (
                f"{of['title']} (`{of['name']}`)",
                threads,
                of["x"] + " " + " to ".join(format(point["x"], ",g") for point in ends),
                " to ".join(duration(point["seconds"]) for point in ends),
                f"{ends[1]['seconds'] / ends[0]['seconds']:.3g}",
                f"{limits[1] / limits[0]:.3g}",
                " to ".join(percent(limit / point["seconds"]) for limit, point in zip(limits, ends, strict=True)),
                " to ".join(f"{speedup:.2f}" for speedup in speedups) or "-",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Three digits, in the unit with the fewest zeros."""
    scale, unit = (1e3, "ms") if seconds < 1 else (1, "s")
    return f"{scale * seconds:.3g} {unit}"


def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "below 1%"
