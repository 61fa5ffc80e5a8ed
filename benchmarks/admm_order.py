"""The effect of ADMM's step order and rho on the churn of the support, compared with one-shot magnitude pruning.

    python benchmarks/admm_order.py digits                  seeds 0 to 4, the recipe's schedule and first keep ratio
    python benchmarks/admm_order.py location30 --keep 0.05 --rho 0.001 0.01 0.05 0.1 1

NANOPRUNE_DATA names the folder above the data. For each order and rho, means over the seeds with 95% intervals:

    churn       share of the support that is replaced in an iteration: entries that entered or left / (2 x support); in
                the first, in the middle and in the last iteration
    residual    ||W - Pi(W)|| / ||W|| before the hard prune: the part that it cuts off
    agreement   share of the final support that is also in that of one-shot magnitude pruning of the same dense network
                ("dense"), and of the network after the same epochs without a penalty ("schedule", which is magnitude-K)
    test        accuracy after the masked retraining; "less magnitude" is the paired difference from magnitude-K, in
                points, marked n.s. where its interval contains zero

Order W, Z, U is Boyd et al.'s and the package's: each round of epochs (W) is followed by the Z- and the U-step. Order
Z, W, U updates U with the Z that W was pulled to, before the next Z: for that order and an exact W-step the augmented
Lagrangian decreases where rho > 2 l, l the Lipschitz constant of the gradient. The settings are not part of a recipe,
and no test record was used to choose them.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
from typing import Any

import numpy as np

from nanoprune.errors import NanopruneError
from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import default_threads, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.experiment.admm_variants import OrderZWU
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.shard import Shard
from nanoprune.lab.report.table import change_cell, summary_text
from nanoprune.lab.statistics import paired_difference, summary
from nanoprune.prune import ADMM, ADMMSettings, Budget, Mask, hard_prune

RHOS = (0.001, 0.01, 0.1, 1.0)


ORDERS = {"W, Z, U": ADMM, "Z, W, U": OrderZWU}


class Bench:
    """The dense networks of a recipe, from which every order and rho starts."""

    def __init__(self, name: str, seeds: list[int], keep: float | None, threads: int) -> None:
        folder = os.environ.get("NANOPRUNE_DATA")
        data = load(name, pathlib.Path(folder) if folder else None)
        recipe = recipe_for(data)
        self.recipe = dataclasses.replace(recipe, keep=(keep or recipe.keep[0],), via=())
        self.experiment = Experiment(data, self.recipe, seeds, threads)
        self.dense = self.experiment.dense("baseline").net
        self.budget = self.recipe.budget(self.dense, self.recipe.keep[0])

    def shard(self) -> Shard:
        """All seeds as one shard, trained in this process."""
        parts = [self.experiment.indices(part) for part in ("members", "reference", "nonmembers")]
        about = (self.experiment.seeds, self.experiment.records, *parts, self.recipe, ProcessGroup())
        return Shard("admm", self.dense.copy(), *about)

    def pruned(self, solver: type[ADMM] | None, rho: float) -> dict[str, Any]:
        """Train, prune and retrain; None is the control, the same epochs without a penalty."""
        shard, churn = self.shard(), None
        with single_threaded_blas():
            if solver:
                admm = solver(shard.net, self.budget, dataclasses.replace(self.recipe.admm, rho=rho))
                shard.train(self.recipe.prune, admm=admm)
                changed = np.stack([row.changed / (2 * row.nonzero) for row in admm.history])  # (iterations, seeds)
                churn = [changed[i] for i in (0, len(changed) // 2, -1)]
            else:
                shard.train(self.recipe.prune)
            cut = shard.net.W - self.budget.project(shard.net.W)
            residual = np.linalg.norm(cut, axis=1) / np.linalg.norm(shard.net.W, axis=1)
            hard_prune(shard.net, self.budget)
            support = shard.net.W != 0
            shard.train(self.recipe.retrain, mask=Mask(shard.net))
        test = self.experiment.accuracies(shard.net, "nonmembers")
        return {"churn": churn, "residual": residual, "support": support, "test": test}


def agreement(support: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of each replica's support (R, n) that is in the other one's, (R,)."""
    return (support & other).sum(axis=1) / support.sum(axis=1)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="The order of ADMM's steps and rho against churn and accuracy.")
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=float)
    parser.add_argument("--rho", type=float, nargs="+", default=list(RHOS))
    parser.add_argument("--threads", type=int, default=default_threads())
    given = parser.parse_args(words)
    for rho in given.rho:
        ADMMSettings(rho=rho)
    bench = Bench(
        given.dataset, list(range(given.first_seed, given.first_seed + given.seeds)), given.keep, given.threads
    )
    one_shot = Budget.support(bench.budget, bench.dense.W)
    control = bench.pruned(None, 0.0)
    titles = ["order", "rho", "churn first %", "middle %", "last %", "residual %", "agreement dense %", "schedule %"]
    titles += ["test %", "less magnitude, points"]
    print(f"{given.dataset}, keep {bench.recipe.keep[0]:g}, scope {bench.recipe.scope}, {given.seeds} seeds\n")
    for row in (titles, ["---:"] * len(titles)):
        print("| " + " | ".join(row) + " |")
    for rho in given.rho:
        for order, solver in ORDERS.items():
            found = bench.pruned(solver, rho)
            values = [*found["churn"], found["residual"], agreement(found["support"], one_shot)]
            values += [agreement(found["support"], control["support"]), found["test"]]
            cells = [summary_text(summary(value)) for value in values]
            cells.append(change_cell(paired_difference(found["test"], control["test"])))
            print("| " + " | ".join([order, f"{rho:g}", *cells]) + " |", flush=True)
    own = (control["residual"], agreement(control["support"], one_shot))
    cells = [*(summary_text(summary(value)) for value in own), "100.0", summary_text(summary(control["test"]))]
    print("| " + " | ".join(["magnitude-K", *["-"] * 4, *cells, "-"]) + " |")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NanopruneError as error:
        raise SystemExit(str(error)) from None
