"""How often comparisons tell apart models that leak equally: python benchmarks/null_comparisons.py [--draws N]

Two models are drawn alike: their outputs have a common part, and members' are surer by as much in both. Printed are, in
percent, how often the paired interval of the strongest attacks' accuracies, AUCs and TPR at 1% FPR leaves out 0. Then,
of models that leak nothing: how often a degree is told from what is found at 1% false positives, and how often a record
is named as scoring higher than chance allows. A cell is marked where it is above alpha by more than the sampling error
(a one-sided binomial test, its level 0.01 divided by the number of cells of its table).
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from null_audits import ALPHA, ATTACKS, mark, null_predictions
from scipy.special import softmax

from nanoprune.lab.audit import measure
from nanoprune.lab.audit.attack_choice import Chosen, choose, scored_rows
from nanoprune.lab.audit.compare import paired
from nanoprune.lab.audit.prediction_attacks import folds, threshold_attacks
from nanoprune.lab.audit.predictions import Predictions

SIDES = ((200, 200), (1000, 100), (100, 1000))
LEAKS = (0.0, 1.0)  # mean of the exponential amount by which members' outputs are surer
KINDS = ("accuracy", "auc", "0.01")


def strongest(target: Predictions, seed: int) -> Chosen:
    """The attack that an audit chooses, and what it says."""
    parts = folds(target, None, np.random.default_rng(seed))
    attacked = {key: of for name in ATTACKS for key, of in threshold_attacks(name, target, parts, seed).items()}
    return choose(attacked, scored_rows(parts))


def alike(rng: np.random.Generator, sides: tuple[int, int], leak: float) -> list[Predictions]:
    """Outputs of two models, of 10 classes, for the same records."""
    n, found = sum(sides), []
    y, member, common = rng.integers(0, 10, n), np.arange(n) < sides[0], rng.normal(size=(n, 10))
    for _ in range(2):
        z = common + rng.normal(size=(n, 10))
        z[np.arange(n), y] += 2 + leak * member * rng.exponential(1, n)
        found.append(Predictions(softmax(z, axis=1), y, member, logits=z))
    return found


def comparisons(draws: int, seed: int) -> None:
    """The table of paired intervals."""
    print(f"\nModels that leak equally, told apart in percent of {draws} draws, alpha {100 * ALPHA:g}%\n")
    print("| members | others | leak | accuracy | AUC | TPR at 1% FPR |\n| ---: | ---: | :--- | ---: | ---: | ---: |")
    for number, (sides, leak) in enumerate(itertools.product(SIDES, LEAKS)):
        rng, errors = np.random.default_rng([seed, number]), dict.fromkeys(KINDS, 0)
        for draw in range(draws):
            models = alike(rng, sides, leak)
            found = paired(*(strongest(model, draw) for model in models), models[0].member, ALPHA)
            for kind, entry in (found | found["tpr_at_fpr"]).items():
                if kind in KINDS:
                    errors[kind] += bool(entry["low"] > 0 or entry["high"] < 0)
        shown = " | ".join(mark(count, draws, 18) for count in errors.values())
        print(f"| {sides[0]:,} | {sides[1]:,} | {'some' if leak else 'none'} | {shown} |", flush=True)


def records(draws: int, seed: int) -> None:
    """The table of what is said of single records."""
    print(f"\nModels that leak nothing: said of a few or of one record, in percent of {draws} draws, alpha 5%\n")
    print("| members | others | odds above 1 at 1% FPR | records named |\n| ---: | ---: | ---: | ---: |")
    for number, sides in enumerate(SIDES):
        rng, errors = np.random.default_rng([seed, 1, number]), np.zeros(2, int)
        for draw in range(draws):
            target = null_predictions(rng, sides, 10, 0.0)
            chosen = strongest(target, draw)
            odds = measure.accused_few(target.units, chosen.scores, 0.01, ALPHA)["odds"]
            errors += [odds > 1, measure.discoveries(target.units, chosen, ALPHA)["count"] > 0]
        shown = " | ".join(mark(int(count), draws, 6) for count in errors)
        print(f"| {sides[0]:,} | {sides[1]:,} | {shown} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    comparisons(options.draws, options.seed)
    records(options.draws, options.seed)
    print(f"\n{time.perf_counter() - began:.0f} seconds")
