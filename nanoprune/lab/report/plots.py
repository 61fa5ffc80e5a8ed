"""The plots, as matplotlib figures made without pyplot or a display. A plot with nothing to show is None.

`curves` is the open HDF5 file (or any mapping of the same shape) with one group a method.
"""

import io
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from nanoprune.errors import ArgumentError
from nanoprune.lab.report.table import attack_title, has_interval, known
from nanoprune.lab.report.verdict import family
from nanoprune.lab.storage.files import atomic_path

# Okabe and Ito's colours, told apart by colour-blind readers; the markers and dashes say the same without colour.
COLOURS = {
    "baseline": "#000000",
    "early-stop": "#009E73",
    "small-dense": "#AA5C88",
    "minmax": "#C98500",
    "prune": "#0072B2",
    "prune+minmax": "#D55E00",
    "other": "#555555",
}
MARKERS = {
    "baseline": "o",
    "early-stop": "s",
    "small-dense": "D",
    "minmax": "^",
    "prune": "v",
    "prune+minmax": "X",
    "other": "P",
}
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)))
GREY = "#666666"
STYLE = {
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "nanoprune",  # identifiers in the SVG depend on the content alone
}
METADATA = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),  # none, so that equal results make equal bytes
    "png": {"Software": None},
}


def literal(text: str) -> str:
    """`text` with its dollar signs escaped, so that matplotlib reads no mathematics into it."""
    return text.replace("$", r"\$")


def line_style(methods: list[str], method: str) -> dict[str, Any]:
    """The colour of the method's family, and a dash for its place in the family."""
    kind = family(method)
    place = [name for name in methods if family(name) == kind].index(method)
    return {"color": COLOURS[kind], "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.6}


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps from 1, and median, minimum and maximum over the seeds (seeds, n); steps that no seed has are left out."""
    values = np.where(np.isfinite(values), values, np.nan)
    held = ~np.isnan(values).all(axis=0)
    values = values[:, held]
    return np.flatnonzero(held) + 1, np.nanmedian(values, 0), np.nanmin(values, 0), np.nanmax(values, 0)


def panel_grid(names: list[str]) -> tuple[Figure, list[Axes]]:
    """A figure with one titled panel a name, two in a row, over shared axes that count whole steps."""
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(7, 0.8 + 2.4 * rows), dpi=72, layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes in panels[len(names) :]:
        panels[panels.index(axes) - columns].tick_params(labelbottom=True)  # nothing stands below it
        axes.remove()
    for name, axes in zip(names, panels, strict=False):
        axes.set_title(literal(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure, panels[: len(names)]


def freeze_layout(figure: Figure) -> Figure:
    """Lay the figure out once and keep that layout, so that it looks the same however often it is drawn."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def overlap(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    shared = Bbox.intersection(one, other)
    return shared.width * shared.height if shared else 0.0


def place_labels(axes: Axes, labels: list[tuple[float, float, str, str]], bars: list[Bbox]) -> None:
    """Write (x, y, text, colour) beside each point, where it hides the least of the bars, points and other labels.

    `bars` are boxes in data coordinates. The layout must be settled; the search is greedy, in the order given.
    """
    to_pixels, unit = axes.transData, axes.figure.dpi / 72  # unit: pixels a point
    taken = [Bbox(to_pixels.transform(bar.get_points())).padded(1.5 * unit) for bar in bars]
    taken += [Bbox([to_pixels.transform((x, y))] * 2).padded(5 * unit) for x, y, *_ in labels]
    frame = axes.get_window_extent()
    for x, y, text, colour in labels:
        style = {"textcoords": "offset points", "ha": "center", "va": "center", "color": colour, "fontsize": 9}
        style["bbox"] = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
        trial = axes.annotate(literal(text), (x, y), xytext=(0, 0), **style)
        size = trial.get_window_extent()
        trial.remove()
        choices = []
        for distance in (6, 14, 24, 38, 54):  # points from the marker to the label's edge
            for angle in np.radians([0, 180, 90, 270, 45, 315, 135, 225]):
                reach = distance * unit + np.array([size.width, size.height]) / 2
                shift = reach * (math.cos(angle), math.sin(angle))
                box = size.translated(*shift)
                outside = size.width * size.height - overlap(box, frame)
                hidden = sum(overlap(box, other) for other in taken) + 4 * outside
                choices.append((hidden + 2 * distance * unit**2, len(choices), distance, shift, box))
        _, _, distance, shift, box = min(choices)
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        axes.annotate(
            literal(text), (x, y), xytext=shift / unit, arrowprops=leader if distance > 10 else None, zorder=5, **style
        )
        taken.append(box.padded(unit))


def interval_ends(summary: Mapping[str, Any]) -> tuple[float, float]:
    """The interval in percent; where there is none, the mean twice."""
    ends = ("low", "high") if has_interval(summary) else ("mean", "mean")
    return 100 * summary[ends[0]], 100 * summary[ends[1]]


@rc_context(STYLE)
def accuracy_plot(results: Mapping[str, Any]) -> Figure | None:
    """The strongest attack's accuracy against test accuracy: a labelled point a method, intervals both ways."""
    points = [
        (name, method["test_accuracy"], method["strongest_attack_accuracy"])
        for name, method in results["methods"].items()
        if known(method["test_accuracy"]["mean"]) and known(method["strongest_attack_accuracy"]["mean"])
    ]
    if not points:
        return None
    figure = Figure(figsize=(7, 4.8), dpi=72, layout="constrained")
    axes = figure.subplots()
    labels, bars = [], []
    for name, test, attack in points:
        x, y, kind = 100 * test["mean"], 100 * attack["mean"], family(name)
        (left, right), (bottom, top) = interval_ends(test), interval_ends(attack)
        bars += [Bbox([(left, y), (right, y)]), Bbox([(x, bottom), (x, top)])]
        axes.plot([left, right], [y, y], [x, x], [bottom, top], color=COLOURS[kind], linewidth=1, alpha=0.55)
        axes.plot(x, y, MARKERS[kind], color=COLOURS[kind], markersize=9, markeredgecolor="white", zorder=4)
        labels.append((x, y, name, COLOURS[kind]))
    axes.axhline(50, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel("test accuracy, %  (right is better)")
    axes.set_ylabel("strongest attack's accuracy, %  (down is better)")
    axes.annotate("guessing", (1, 50), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
                  ha="right", color=GREY, fontsize=9)  # fmt: skip
    freeze_layout(figure)
    place_labels(axes, labels, bars)
    return figure


@rc_context(STYLE)
def residual_plot(curves: Mapping[str, Any], methods: list[str]) -> Figure | None:
    """ADMM's residuals and tolerances over its iterations, log scale, a panel for each pruned method."""
    shown = [name for name in methods if name in curves and "primal_residual" in curves[name]]
    if not shown:
        return None
    figure, panels = panel_grid(shown)
    for name, axes in zip(shown, panels, strict=True):
        for kind, colour in (("primal", "#0072B2"), ("dual", "#D55E00")):
            for what, dashes in (("residual", "-"), ("tolerance", (0, (4, 2)))):
                if f"{kind}_{what}" not in curves[name]:
                    continue
                values = np.asarray(curves[name][f"{kind}_{what}"], dtype=float)  # (seeds, iterations)
                step, middle, low, high = over_seeds(np.where(values > 0, values, np.nan))  # a log scale has no zero
                axes.plot(step, middle, color=colour, linestyle=dashes, linewidth=1.4, label=f"{kind} {what}")
                if what == "residual":
                    axes.fill_between(step, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_yscale("log")
    figure.supxlabel("ADMM iteration", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return freeze_layout(figure)


@rc_context(STYLE)
def roc_plot(results: Mapping[str, Any], curves: Mapping[str, Any]) -> Figure | None:
    """The ROC of every method's strongest attack on two log axes, and the diagonal of a guess."""
    methods = list(results["methods"])
    figure = Figure(figsize=(7, 5.6), dpi=72, layout="constrained")
    axes = figure.subplots()
    left = bottom = 0.1  # where the axes begin, at the latest
    for name in methods:
        attack = results["methods"][name]["strongest_attack"]
        if f"{name}/roc/{attack}" not in curves:
            continue
        fpr, tpr = (np.asarray(curves[f"{name}/roc/{attack}/{rate}"], dtype=float) for rate in ("fpr", "tpr"))
        drawn = (fpr > 0) & (tpr > 0)
        if not drawn.any():
            continue
        left, bottom = min(left, float(fpr[drawn].min())), min(bottom, float(tpr[drawn].min()))
        label = literal(f"{name} ({attack_title(attack)})")
        axes.plot(fpr[drawn], tpr[drawn], label=label, **line_style(methods, name))
    if not axes.lines:
        return None
    axes.plot([left, 1], [left, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="guessing")
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(min(left, bottom), 1.1))
    axes.set_xlabel("false positive rate: non-members taken for members")
    axes.set_ylabel("true positive rate: members found")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return freeze_layout(figure)


@rc_context(STYLE)
def adversary_plot(curves: Mapping[str, Any], methods: list[str]) -> Figure | None:
    """The loss of each game's adversary over the epochs, beside log 2: one that stays there has learned nothing."""
    shown = [name for name in methods if name in curves and "adversary_loss" in curves[name]]
    if not shown:
        return None
    figure, panels = panel_grid(shown)
    for name, axes in zip(shown, panels, strict=True):
        step, middle, low, high = over_seeds(np.asarray(curves[name]["adversary_loss"], dtype=float))
        axes.plot(step, middle, color="#D55E00", linewidth=1.4, label="adversary's loss")
        axes.fill_between(step, low, high, color="#D55E00", alpha=0.18, linewidth=0)
        axes.axhline(math.log(2), color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="log 2: an adversary at chance")
    figure.supxlabel("epoch", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    return freeze_layout(figure)


def all_plots(results: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Figure]:
    """Every plot that has something to show, by name, in the order to show them."""
    methods = list(results["methods"])
    figures = {
        "accuracy": accuracy_plot(results),
        "roc": roc_plot(results, curves),
        "residuals": residual_plot(curves, methods),
        "adversary": adversary_plot(curves, methods),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


@rc_context(STYLE)
def drawing(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of an "svg" or "png" file; the same figure gives the same bytes."""
    if kind not in METADATA:
        raise ArgumentError(f"a plot is saved as .svg or .png, got .{kind}")
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=160 if kind == "png" else 72, metadata=METADATA[kind])
    return stream.getvalue()


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure to `path`, as SVG or PNG by its ending."""
    content = drawing(figure, os.path.splitext(path)[1].lstrip("."))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
