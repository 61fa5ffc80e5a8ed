"""docs/comparison.md from what was measured: sweeps/pareto-DATASET.json and sweeps/shadows-DATASET.json beside this
program, and what comparison_notes.md says of them.

    python benchmarks/comparison_page.py
    python benchmarks/comparison_page.py RESULTS     keeps the attacks with shadow models of results folders

`python benchmarks/pareto.py DATASET --out benchmarks/sweeps` writes a sweep, and adds families to one that is there.
RESULTS are folders of `reproduce DATASET --attacks full`; what is kept of one is added to what was kept before.
"""

import json
import pathlib
import re
import sys
from statistics import fmean
from typing import Any

from nanoprune.errors import NanopruneError
from nanoprune.lab.report.equal_accuracy import attack_table, control_table, markdown, setting_table
from nanoprune.lab.report.pareto import pareto_plot
from nanoprune.lab.report.plots import save
from nanoprune.lab.report.table import number
from nanoprune.lab.storage.bounded import read_json
from nanoprune.lab.storage.files import write_json

HERE = pathlib.Path(__file__).parent
SWEEPS = HERE / "sweeps"
PAGE = HERE.parent / "docs" / "comparison.md"
NOTES = HERE / "comparison_notes.md"
SHOWN = ("early-stop", "small-dense", "minmax", "prune", "magnitude", "alps", "distil", "l2")  # families of the figures


def page() -> str:
    """The page: the words of the notes, each section that is named as a sweep's file followed by its tables."""
    text = NOTES.read_text()
    for path in sorted(SWEEPS.glob("pareto-*.json")):
        name = path.stem.removeprefix("pareto-")
        text = text.replace(f"\nTABLES {name}\n", f"\n{section(name, json.loads(path.read_text()))}\n")
    for path in sorted(SWEEPS.glob("shadows-*.json")):
        text = text.replace(f"\nTABLES {path.stem}\n", f"\n{shadow_section(json.loads(path.read_text()))}\n")
    left = re.findall(r"^TABLES (.*)$", text, re.MULTILINE)
    if left:
        raise SystemExit(f"{NOTES}: there is no sweep of {' and '.join(left)} in {SWEEPS}")
    return text


def section(name: str, sweep: dict[str, Any]) -> str:
    """The command, figure and tables of one sweep."""
    level, attacks = attack_table(sweep)
    left_out = [f"{of['name']} {setting}" for of in sweep["families"] for setting in of["left_out"]]
    parts = [
        f"`{sweep['command']}`: {sweep['dataset']}, {sweep['network']}, {sweep['recipe']['members']:,} members, "
        f"{len(sweep['seeds'])} seeds.",
        f"![Test accuracy against the strongest attack: {sweep['dataset']}](pareto_{name}.svg)",
        control_table(sweep),
        f"Every attack at a test accuracy of {100 * level:.1f}%, which most methods reach:",
        attacks,
    ]
    settings = setting_table(sweep)
    if settings:
        title = "MIA-Pruning less its schedule without pruning, and less early stopping where that leaks least within a"
        parts += [f"{title} point of its best test accuracy:", settings]
    if left_out:
        parts.append(f"Left out, because training diverges in a seed: {', '.join(left_out)}.")
    return "\n\n".join(parts)


ATTACKS = {  # of `attack_model`, and their headings
    "correctness": "correctness",
    "loss": "loss",
    "modified_entropy": "modified entropy",
    "population": "population",
    "difficulty": "difficulty calibration",
    "quantile": "quantile",
    "network": "network",
    "samia": "SAMIA",
    "rapid": "RAPID",
    "base_online": "BASE",
    "rmia_online": "RMIA",
    "bavaria_online": "BaVarIA",
    "lira_online": "LiRA",
}
OTHERS = ("lira_dense_and_pruned", "mask_alone")  # by attackers who have more than the outputs of the network


def keep(folder: pathlib.Path) -> None:
    """Keep the attacks with shadow models of a results folder."""
    results = read_json(folder / "results.json", "name a folder that `reproduce --attacks full` wrote")
    path = SWEEPS / f"shadows-{results['dataset']}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"commands": [], "methods": {}}
    kept["commands"] = list(dict.fromkeys([*kept["commands"], results["command"]]))
    for method, entry in results["methods"].items():
        kept["methods"][method] = {
            "test": entry["test_accuracy"]["values"],
            "attacks": {
                name: {"accuracy": of["accuracy"]["values"], "tpr": of["tpr_at_fpr"]["0.01"]["values"]}
                for name, of in entry["shadow_attacks"].items()
            },
        }
    write_json(kept, path)
    print(path)


def shadow_section(kept: dict[str, Any]) -> str:
    """The commands, and a row for each method: those whose best attack finds least first."""
    head = ("method", "test %", "best TPR % at 1% FPR", "best attack %", *ATTACKS.values())
    rows = []
    for method, of in kept["methods"].items():
        adaptive = {n: a for n, a in of["attacks"].items() if n not in OTHERS and "non-adaptive" not in n}
        accuracy = {name: fmean(a["accuracy"]) for name, a in adaptive.items()}
        cells = (fmean(of["test"]), max(fmean(a["tpr"]) for a in adaptive.values()), max(accuracy.values()))
        cells += tuple(accuracy[name] for name in ATTACKS)
        rows.append((cells[2], (method, *(number(100 * cell) for cell in cells))))
    lines = [head, (":---", *("---:" for _ in head[1:])), *(cells for _, cells in sorted(rows))]
    commands = "\n".join(f"    {command}" for command in kept["commands"])
    return f"{commands}\n\n{markdown(lines)}"


def main(folders: list[str]) -> None:
    for folder in folders:
        keep(pathlib.Path(folder))
    for path in sorted(SWEEPS.glob("pareto-*.json")):
        name = path.stem.removeprefix("pareto-")
        figure = pareto_plot(json.loads(path.read_text()), SHOWN)
        save(figure, PAGE.with_name(f"pareto_{name}.svg"))
    PAGE.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NanopruneError as error:
        raise SystemExit(str(error)) from None
