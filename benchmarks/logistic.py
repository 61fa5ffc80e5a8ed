"""A logistic regression on the splits of `reproduce`: what a table gives without a network.

    python benchmarks/logistic.py thyroid --seeds 5

Multinomial, fitted on the members by L-BFGS, its columns scaled by the members, its ridge chosen among RIDGES by the
accuracy on the reference set. Prints a line for each seed, and means with 95% intervals over seeds.
"""

import argparse

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from nanoprune.lab.data import Dataset, load, make_split
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.statistics import summary

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2)  # half the squared weights beside the mean loss
STEPS = 200


def encoded(dataset: Dataset, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The records (n, F + 1), scaled by the members as the network's first layer does it; the last column is 1."""
    mean, std = dataset.x.fitted(members)
    scaled = (dataset.x[rows] - mean) * np.divide(1, std, out=np.zeros_like(std), where=std > 0)
    return np.append(np.nan_to_num(scaled), np.ones((len(rows), 1)), axis=1)


def fitted(X: np.ndarray, y: np.ndarray, classes: int, ridge: float) -> np.ndarray:
    """The weights (classes, F + 1); no ridge on the last column."""
    Y, shrink = np.eye(classes)[y], np.append(np.full(X.shape[1] - 1, ridge), 0.0)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W = flat.reshape(classes, -1)
        Z = X @ W.T
        loss = -(Y * log_softmax(Z, axis=1)).sum() / len(y) + (shrink * W * W).sum() / 2
        return loss, ((softmax(Z, axis=1) - Y).T @ X / len(y) + shrink * W).ravel()

    start = np.zeros(classes * X.shape[1])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return found.x.reshape(classes, -1)


def accuracies(dataset: Dataset, seed: int) -> tuple[float, float, float]:
    """The ridge, and the accuracies on members and non-members."""
    recipe = recipe_for(dataset)
    split = make_split(dataset, recipe.members, recipe.reference, recipe.nonmembers, seed)
    parts = {name: getattr(split, name) for name in ("members", "reference", "nonmembers")}
    X = {name: encoded(dataset, rows, split.members) for name, rows in parts.items()}
    weights = {ridge: fitted(X["members"], dataset.y[split.members], dataset.classes, ridge) for ridge in RIDGES}

    def accuracy(ridge: float, part: str) -> float:
        return float(((X[part] @ weights[ridge].T).argmax(axis=1) == dataset.y[parts[part]]).mean())

    best = max(RIDGES, key=lambda ridge: accuracy(ridge, "reference"))
    return best, accuracy(best, "members"), accuracy(best, "nonmembers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    dataset = load(arguments.dataset)
    found = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        ridge, train, test = accuracies(dataset, seed)
        found.append((train, test))
        print(f"seed {seed}: ridge {ridge:g}, train {100 * train:.1f}%, test {100 * test:.1f}%", flush=True)
    for name, values in zip(("train", "test"), zip(*found, strict=True), strict=True):
        of = summary(list(values))
        half = "" if of["low"] is None else f" ± {100 * (of['high'] - of['low']) / 2:.1f}"
        print(f"{name} {100 * of['mean']:.1f}{half}%")
    print(f"the largest class alone: {100 * np.bincount(dataset.y).max() / len(dataset.y):.1f}%")


if __name__ == "__main__":
    main()
