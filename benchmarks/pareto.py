"""Accuracy against leakage: every method at several settings, its front, and the methods compared at equal accuracy.

    python benchmarks/pareto.py location30                        all methods, five seeds
    python benchmarks/pareto.py digits --seeds 8
    python benchmarks/pareto.py cifar10 --network lenet-5 --epochs 20 20 8 --seeds 3 --families early-stop,prune,minmax
    python benchmarks/pareto.py location30 --draw                 the table and the figure again, nothing is trained
    python benchmarks/pareto.py location30 --plan tasks           a task for each family and seed, for `nanoprune task`
    python benchmarks/pareto.py location30 --store parts          gathers their results, performs what is missing
    python benchmarks/pareto.py location30 --time                 adds the processor time of each method to the file

NANOPRUNE_DATA names the folder above the data. The program writes OUT/pareto-DATASET.json after each setting and
resumes from it when it is run again: every setting seed by seed, the fronts, and the differences of all pairs of
methods with intervals. Then it draws OUT/pareto-DATASET.svg and .png and prints the tables. A setting in which a seed
diverges is left out and listed.

The strongest attack is chosen on the attacker's own records and measured on others, early stopping stops at fixed
epochs, and all methods share the splits of each seed. A front is the best of several settings on the scored records, so
a method with more settings looks slightly better than it is.

--time trains one network of each method, at its middle setting, from initial weights on one thread, and keeps the
processor time in multiples of the baseline's.
"""

import argparse
import dataclasses
import itertools
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

from nanoprune.errors import DivergenceError, NanopruneError
from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.pareto import Family, differences, front
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.sweep import KEEPS, LAMBDAS, Sweep, chosen_sweeps, measured
from nanoprune.lab.report.pareto import SHOWN, difference_table, pareto_plot, pareto_table
from nanoprune.lab.report.plots import save
from nanoprune.lab.storage.bounded import read_json
from nanoprune.lab.storage.files import write_json
from nanoprune.lab.tasks.comparison import Gathered
from nanoprune.lab.tasks.fleet import Fleet, write_plan
from nanoprune.lab.tasks.perform import machine_of
from nanoprune.lab.tasks.sweep import BASELINE, GatheredFamilies, family_tasks


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Accuracy against leakage over sweeps of every method.")
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--families", help="names with commas between them; all by default")
    parser.add_argument("--keep", type=float, nargs="+", default=list(KEEPS), help="ratios of the methods that prune")
    parser.add_argument("--lambdas", type=float, nargs="+", default=list(LAMBDAS), help="of the Min-Max game")
    parser.add_argument("--members", type=int)
    parser.add_argument("--reference", type=int)
    parser.add_argument("--nonmembers", type=int)
    parser.add_argument("--network")
    parser.add_argument("--width", type=float)
    parser.add_argument("--epochs", type=int, nargs=3, metavar=("DENSE", "PRUNE", "RETRAIN"))
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results"))
    parser.add_argument("--show", help=f"families of the figure [default: {','.join(SHOWN)}]")
    parser.add_argument("--plan", type=pathlib.Path, help="write the training as tasks to this folder, and end")
    parser.add_argument("--store", help="a folder, or a URL, of results of tasks")
    parser.add_argument("--executor", default="local", help="of the tasks that are missing in the store")
    parser.add_argument("--draw", action="store_true", help="only draw and print what was measured before")
    parser.add_argument("--time", action="store_true", help="only measure the time of each method")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    given = arguments(words)
    path = given.out / f"pareto-{given.dataset}.json"
    if given.draw:
        content = read_json(path, "run the sweep first")
        show(summary_line(content, {of["name"]: of for of in content["families"]}), path, given.show)
        return
    folder = os.environ.get("NANOPRUNE_DATA")
    data = load(given.dataset, pathlib.Path(folder) if folder else None)
    sizes = {"reference": given.reference, "nonmembers": given.nonmembers}
    recipe = recipe_for(data, given.members, network=given.network, widths=given.width, **sizes)
    recipe = dataclasses.replace(recipe, keep=tuple(given.keep), via=())
    if given.epochs:
        plans = zip(("dense", "prune", "retrain"), given.epochs, strict=True)
        changed = {name: dataclasses.replace(getattr(recipe, name), epochs=epochs) for name, epochs in plans}
        recipe = dataclasses.replace(recipe, **changed)
    seeds = list(range(given.first_seed, given.first_seed + given.seeds))
    wanted = chosen_sweeps(recipe, given.families.split(",") if given.families else None, given.keep, given.lambdas)
    if (given.plan or given.store) and not given.time:
        wanted = [sweep for sweep in wanted if given.families or not sweep.private]
        tasks = family_tasks(data, recipe, seeds, [sweep.name for sweep in wanted], given.keep, given.lambdas)
    if given.plan:
        write_plan(tasks, given.plan)
        print(f"{given.plan}: task-0.json to task-{len(tasks) - 1}.json")
        return
    stored = None
    if given.store and not given.time:
        with Fleet(given.store, given.executor, given.threads, machine_of("cpu", folder)) as fleet:
            stored = GatheredFamilies(tasks, fleet.results(tasks, Progress()))
    about = {
        "dataset": data.title,
        "network": recipe.network,
        "seeds": seeds,
        "command": " ".join(["python", "benchmarks/pareto.py", *that_matter(words)]),
        "data_sha256": data.sha256,
        "recipe": plain(dataclasses.asdict(recipe)),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    found = earlier(path, about)
    if given.time:
        time_methods(data, recipe, [sweep for sweep in wanted if sweep.name in found], found)
        write_json(summary_line(read_json(path, "run the sweep first"), found), path)
        return
    run = (data, recipe, seeds, given.threads)
    measure(run, wanted, found, lambda: write_json(about | {"families": list(found.values())}, path), stored)
    content = summary_line(about, found)
    write_json(content, path)
    show(content, path, given.show)


def that_matter(words: list[str]) -> list[str]:
    """The words of the command line without options that no result depends on."""
    options = ("--store", "--out", "--executor", "--threads", "--show")
    return [word for before, word in itertools.pairwise(["", *words]) if not {before, word} & set(options)]


def plain(value: Any) -> Any:
    """Plain data with lists instead of tuples, as read from JSON."""
    if isinstance(value, dict):
        return {key: plain(of) for key, of in value.items()}
    return [plain(of) for of in value] if isinstance(value, (list, tuple)) else value


def earlier(path: pathlib.Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results of an interrupted sweep, family -> record. A file of another sweep is refused."""
    if not path.exists():
        return {}
    content = read_json(path, "name another --out")
    for name in ("dataset", "seeds", "data_sha256", "network", "recipe"):
        if content.get(name) != about[name]:
            raise SystemExit(f"{path}: has a sweep with another {name}; name another --out, or delete it")
    return {family["name"]: family for family in content["families"]}


def measure(run: tuple, wanted: list[Sweep], found: dict, write: Any, stored: GatheredFamilies | None = None) -> None:
    """Train and attack every setting of `wanted` that is not in `found`, and add it; write() after each. run: the
    arguments of `Experiment`; stored: what was trained by tasks."""

    def trained_before(sweep: Sweep, setting: Any) -> Gathered | None:
        return stored and stored.checkpoints(sweep, setting)

    start, baseline = time.monotonic(), None
    for sweep in wanted:
        family = found.setdefault(
            sweep.name, {"name": sweep.name, "hyperparameter": sweep.hyperparameter, "points": [], "left_out": {}}
        )
        for setting in sweep.settings:
            name = f"{setting:g}"
            if name in family["left_out"] or any(point["setting"] == name for point in family["points"]):
                continue
            if baseline is None:
                reason = stored and stored.left_out(sweep, BASELINE)
                first = Experiment(*run, checkpoints=None if reason else trained_before(sweep, BASELINE))
                baseline = None if reason else first.dense("baseline")
                if reason or first.dropped:
                    raise SystemExit(f"the baseline diverged: {reason or first.dropped[0]['reason']}")
            reason = stored and stored.left_out(sweep, setting)
            if not reason:
                before = trained_before(sweep, setting)
                experiment = Experiment(*run, checkpoints=before, splits=first.splits)
                try:
                    trained = sweep.train(experiment, baseline, setting)
                    reason = experiment.dropped[0]["reason"] if experiment.dropped else None
                except DivergenceError as error:
                    reason = str(error)
            if reason:
                family["left_out"][name] = reason
            else:
                family["points"].append({"setting": name} | measured(experiment, trained))
            write()
            print(
                f"{time.monotonic() - start:7.0f} s  {sweep.name} {name}{f': {reason}' if reason else ''}", flush=True
            )


def time_methods(data: Any, recipe: Any, wanted: list[Sweep], found: dict[str, dict[str, Any]]) -> None:
    """Add to each family how long its middle setting takes, in multiples of the baseline's processor time."""

    def seconds(train: Any) -> tuple[float, Any]:
        began = time.process_time()
        trained = train(Experiment(data, recipe, [0], 1))
        return time.process_time() - began, trained

    seconds(lambda e: e.dense("baseline"))  # a first time has what is done once
    dense, baseline = seconds(lambda e: e.dense("baseline"))
    print(f"{dense:7.2f} s  baseline")
    for sweep in wanted:
        settings = [of for of in sweep.settings if f"{of:g}" not in found[sweep.name]["left_out"]]
        setting = settings[len(settings) // 2]
        own, _ = seconds(lambda e, of=setting, sweep=sweep: sweep.train(e, baseline, of))
        found[sweep.name]["times_baseline"] = round(own / dense + (not sweep.scratch), 2)
        print(f"{own:7.2f} s  {sweep.name} {setting:g}{'' if sweep.scratch else ', after the baseline'}", flush=True)


def summary_line(about: dict[str, Any], found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of the file: the measurements, the front of each family and the differences of all pairs."""
    families = []
    for of in found.values():
        if of["points"]:
            settings = tuple(point["setting"] for point in of["points"])
            arrays = [np.array([p[f"{kind}_accuracy"] for p in of["points"]]) for kind in ("test", "attack")]
            families.append(Family(of["name"], of["hyperparameter"], settings, *arrays))
    fronts = {of.name: front(of.test.mean(axis=1), of.attack.mean(axis=1)).tolist() for of in families}
    records = [of | {"front": fronts.get(name, [])} for name, of in found.items()]
    return about | {"families": records, "differences": differences(families)}


def show(sweep: dict[str, Any], path: pathlib.Path, shown: str | None) -> None:
    """The tables on standard output, the figure beside the file."""
    print(pareto_table(sweep), end="\n\n")
    print(difference_table(sweep), end="\n\n")
    for family in sweep["families"]:
        for setting, reason in family["left_out"].items():
            print(f"left out: {family['name']} {setting} ({reason})")
    if len(sweep["seeds"]) < 5:
        print(f"{len(sweep['seeds'])} seeds: intervals are wide; an interval that contains zero shows no difference")
    figure = pareto_plot(sweep, shown.split(",") if shown else SHOWN)
    if figure:
        for kind in ("svg", "png"):
            save(figure, path.with_suffix(f".{kind}"))
        print(f"{path}, {path.with_suffix('.svg')}, {path.with_suffix('.png')}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NanopruneError as error:
        raise SystemExit(str(error)) from None
