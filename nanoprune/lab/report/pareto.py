"""The figure of a sweep: test accuracy against the strongest attack, one front per method, with 95% intervals."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanoprune.lab.report.plots import GREY, STYLE, freeze_layout, interval_ends, literal
from nanoprune.lab.report.table import has_interval, number, summary_text
from nanoprune.lab.statistics import summary

# Each family has a colour (Okabe & Ito, safe for colour-blind readers), and a marker and a dash that do without colour.
LOOKS: dict[str, tuple[str, str, Any]] = {
    "early-stop": ("#333333", "s", (0, (1.2, 1.4))),
    "small-dense": ("#AA5C88", "D", (0, (6, 1.5, 1.2, 1.5))),
    "minmax": ("#C98500", "^", (0, (5, 1.8))),
    "prune-1": ("#888888", "o", "-"),
    "prune-1+minmax": ("#8A6D3B", "*", (0, (3, 1, 1, 1, 1, 1))),
    "prune": ("#0072B2", "v", "-"),
    "magnitude": ("#56B4E9", "P", (0, (9, 2))),
    "prune+minmax": ("#D55E00", "X", "-"),
}
LEAST_SHOWN = 0.6  # share of the best accuracy below which a network is of no use
REST = (("#009E73", "h", (0, (7, 2))), ("#6A51A3", "<", (0, (4, 1, 1, 1))), ("#666666", ">", (0, (2, 1))))
TITLES = {
    "early-stop": "early stopping (control)",
    "small-dense": "small dense network (control)",
    "minmax": "Min-Max game",
    "prune-1": "schedule alone (control)",
    "prune-1+minmax": "schedule + game (control)",
    "prune": "MIA-Pruning",
    "magnitude": "one-shot magnitude (control)",
    "prune+minmax": "MIA-Pruning + game",
    "gradual": "gradual magnitude",
    "ste": "straight-through",
    "admm-zwu": "ADMM in the order Z, W, U",
    "admm-momentum": "ADMM with momentum",
    "rewind": "weight rewinding",
    "alps": "ALPS",
    "sparsegpt": "SparseGPT",
    "wanda": "Wanda",
    "distil": "distillation",
    "selena": "SELENA",
    "past": "PAST",
    "ppb-0.1": "gradual + PPB",
    "l2": "weight decay",
    "relaxloss": "RelaxLoss",
    "dropout": "dropout",
    "dp": "DP-SGD",
}
SHOWN = (
    "early-stop",
    "minmax",
    "prune-1",
    "magnitude",
    "prune",
    "prune+minmax",
)  # on the figure, unless others are named


def pareto_plot(sweep: Mapping[str, Any], shown: Sequence[str] = SHOWN) -> Figure | None:
    """The fronts of the families in `shown`, as `benchmarks/pareto.py` writes them; None where there are none of these.

    Lines connect the settings that no other setting of the family beats in both means; the others are faint. Bars are
    95% intervals over seeds. The figure is narrow with large letters, so that it can be read on a phone.
    """
    families = [family for family in sweep["families"] if family["name"] in shown and family["front"]]
    if not families:
        return None
    with rc_context(STYLE | {"font.size": 12}):
        figure = Figure(figsize=(6, 6.4), dpi=72, layout="constrained")
        axes = figure.subplots()
        rest = itertools.cycle(REST)
        for family in families:
            _draw_family(axes, family, *(LOOKS.get(family["name"]) or next(rest)))
        axes.axhline(50, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        _limit(axes, families)
        note = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "color": GREY, "fontsize": 11}
        axes.annotate("guessing", (0, 50), xytext=(4, 4), **note)
        axes.annotate("better", (0.99, 0.08), (0.86, 0.19), xycoords="axes fraction", ha="center", color=GREY,
                      arrowprops={"arrowstyle": "->", "color": GREY, "linewidth": 1.4})  # fmt: skip
        axes.set_xlabel("test accuracy, %")
        axes.set_ylabel("strongest attack's accuracy, %")
        seeds = len(sweep["seeds"])
        axes.set_title(literal(f"{sweep['dataset']}, {sweep['network']}, {seeds} seed{'s' if seeds > 1 else ''}"))
        figure.legend(loc="outside lower center", ncols=2, fontsize=11, handlelength=2.6, columnspacing=1.4)
        return freeze_layout(figure)


def _limit(axes: Axes, families: Sequence[Mapping[str, Any]]) -> None:
    """Show the fronts: intervals may be cut off, and so are accuracies below LEAST_SHOWN of the best one."""
    points = [
        [100 * summary(family["points"][i][f"{of}_accuracy"])["mean"] for of in ("test", "attack")]
        for family in families
        for i in family["front"]
    ]
    right = max(x for x, _ in points)
    left = max(min(x for x, _ in points), LEAST_SHOWN * right)
    pad = max(0.05 * (right - left), 0.3)
    top = max(y for x, y in points if x >= left)
    axes.set_xlim(left - pad, right + pad)
    axes.set_ylim(min(49.0, *(y for x, y in points if x >= left)) - 0.03 * (top - 49), top + 0.08 * (top - 49))


def _draw_family(axes: Axes, family: Mapping[str, Any], colour: str, marker: str, dashes: Any) -> None:
    """The points of one family with their intervals, and the line along its front."""
    points = [(summary(p["test_accuracy"]), summary(p["attack_accuracy"])) for p in family["points"]]
    style = {"color": colour, "markeredgecolor": "white", "markeredgewidth": 0.8}
    for i, (test, attack) in enumerate(points):
        x, y = 100 * test["mean"], 100 * attack["mean"]
        on = i in family["front"]
        if on:
            (left, right), (bottom, top) = interval_ends(test), interval_ends(attack)
            axes.plot([left, right], [y, y], [x, x], [bottom, top], color=colour, linewidth=0.9, alpha=0.45, zorder=2)
        axes.plot(x, y, marker, markersize=8 if on else 5, alpha=1 if on else 0.35, zorder=4 if on else 3, **style)
    line = [(100 * points[i][0]["mean"], 100 * points[i][1]["mean"]) for i in family["front"]]
    label = literal(TITLES.get(family["name"], family["name"]))
    axes.plot(*zip(*line, strict=True), linestyle=dashes, linewidth=1.9, marker=marker, markersize=8, label=label,
              zorder=3, **style)  # fmt: skip


def pareto_table(sweep: Mapping[str, Any]) -> str:
    """Every setting of every family as a Markdown table: accuracies in percent with their 95% intervals."""
    lines = [
        "| method | setting | test % | strongest attack % | by | on its front |",
        "| :--- | :--- | ---: | ---: | :--- | :--- |",
    ]
    for family in sweep["families"]:
        for i, point in enumerate(family["points"]):
            test, attack = (summary_text(summary(point[f"{of}_accuracy"])) for of in ("test", "attack"))
            setting = f"{family['hyperparameter']} {point['setting']}"
            cells = (family["name"], setting, test, attack, point["attack"].replace("_", " "))
            lines.append("| " + " | ".join(cells) + f" | {'yes' if i in family['front'] else 'no'} |")
    return "\n".join(lines)


def difference_table(sweep: Mapping[str, Any], least: int = 2) -> str:
    """How much more one method leaks than another at equal accuracy, in percentage points, as a Markdown table.

    A difference whose interval contains zero is marked "n.s.", not significant. Pairs without accuracies in common, or
    with a family of fewer than `least` settings on its front, are left out.
    """
    fronts = {family["name"]: len(family["front"]) for family in sweep["families"]}
    lines = ["| method | less | at test % | points | 95% interval |", "| :--- | :--- | ---: | ---: | ---: |"]
    for pair in sweep["differences"]:
        mean = pair["mean"]
        if mean is None or min(fronts[pair["one"]], fronts[pair["other"]]) < least:
            continue
        across = f"{number(100 * pair['low'])} to {number(100 * pair['high'])}"
        interval, mark = "-", ""
        if has_interval(mean):
            interval = f"{number(100 * mean['low'], sign=True)} to {number(100 * mean['high'], sign=True)}"
            mark = " n.s." if mean["low"] <= 0 <= mean["high"] else ""
        cells = (pair["one"], pair["other"], across, number(100 * mean["value"], sign=True) + mark, interval)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
