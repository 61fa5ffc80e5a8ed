"""Each simple defence at several strengths, on seeds that no table reports: for choosing `DefenceSettings`.

    python benchmarks/simple_defences.py location30|digits|mnist      NANOPRUNE_DATA names the folder above the data

Seeds 200 and 201; all attacks of `reproduce`. A line for each setting: accuracy on members and on non-members, and the
strongest attack, in percent, means over the two seeds.
"""

import dataclasses
import os
import pathlib
import sys

from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.experiment import defences
from nanoprune.lab.experiment.evaluate import strongest
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.recipes import recipe_for

SEEDS = [200, 201]
STRENGTHS = {  # a field of DefenceSettings, and the defence that it sets
    "l2": (defences.l2, [1e-3, 5e-3, 1e-2, 2e-2]),
    "dropout": (defences.dropout, [0.3, 0.5, 0.7]),
    "smoothing": (defences.label_smoothing, [0.1, 0.3]),
    "relaxloss": (defences.relaxloss, [0.2, 0.5, 1.0, 1.5]),
    "memguard": (defences.memguard, [0.5, 1.0, 2.0]),
    "temperature": (defences.temperature, [2.0, 4.0, 10.0]),
}


def show(name: str, experiment: Experiment, trained: Trained) -> None:
    """Print the line of one setting."""
    outcomes = experiment.attack({name: trained})[name]
    best = strongest(outcomes)
    train, test = (experiment.accuracies(trained.net, part).mean() for part in ("members", "nonmembers"))
    attack = outcomes[best].accuracy.mean()
    print(
        f"{name:18} train {100 * train:5.1f}  test {100 * test:4.1f}  attack {100 * attack:4.1f} by {best}", flush=True
    )


def main(dataset: str) -> None:
    folder = os.environ.get("NANOPRUNE_DATA")
    data = load(dataset, pathlib.Path(folder) if folder else None)
    recipe = recipe_for(data)
    experiment = Experiment(data, recipe, SEEDS, default_threads())
    baseline = experiment.dense("baseline")
    show("baseline", experiment, baseline)
    show("validation-stop", experiment, defences.validation_stop(experiment, baseline))
    for field, (defence, strengths) in STRENGTHS.items():
        for strength in strengths:
            changed_settings = dataclasses.replace(recipe.defences, **{field: strength})
            changed = experiment.with_recipe(dataclasses.replace(recipe, defences=changed_settings))
            show(f"{field} {strength:g}", changed, defence(changed, baseline))


if __name__ == "__main__":
    main(sys.argv[1])
