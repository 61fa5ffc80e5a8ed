"""False-positive rates of audits on models that leak nothing: python benchmarks/null_audits.py [--audits N]

Every record's outputs are drawn alike, members and non-members, so every leak that is reported is a false one. Printed
are, in percent, how often that happens over a grid of sides and classes, for an attack that is chosen on other records
than are scored (as audits do) and for the attack that is strongest on the scored records themselves, with the intervals
of this package and with DeLong's normal ones; then the same for groups of records that have something in common,
counted as records and as groups, for the bounds on epsilon and for `more_exposed`. A cell is
marked where it is above alpha by more than the sampling error (a one-sided binomial test, its level 0.01 divided by the
number of cells of its table). The attack network is left out: it would take hours, and it is just another score.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.special import expit, logit, softmax

from nanoprune.attack.metrics import balanced_accuracy
from nanoprune.lab.audit import measure
from nanoprune.lab.audit.attack_choice import Chosen, choose, scored_rows
from nanoprune.lab.audit.prediction_attacks import SCORES, Attacked, folds, threshold_attacks
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.statistics import (
    auc_interval,
    balanced_accuracy_interval,
    epsilon_lower_bound,
    epsilon_of_runs,
    gaussian_lower_bound,
    positive_share,
)
from nanoprune.lab.statistics.delong import placements
from nanoprune.lab.statistics.tradeoff import gaussian_epsilon

SIDES = ((200, 200), (200, 10), (3000, 300), (6000, 300), (100, 1000))
CLASSES = (2, 10, 30, 100)
ALPHA = 0.05
LEVEL = 0.01  # of the test that marks cells
TABLES = ("grid", "groups", "tail", "decisions", "bounds", "more_exposed")
ATTACKS = ("confidence", "modified_entropy")
GROUPS = ((60, 2), (60, 8), (200, 2), (200, 8), (200, 30))  # how many, and the most records that one has
SHARES = {"none": 0.0, "half": 0.5, "most": 0.97}  # of the records of which the model is certain: their scores tie


def null_predictions(rng: np.random.Generator, sides: tuple[int, int], classes: int, certain: float) -> Predictions:
    """Outputs that do not depend on membership; `certain`: the share of them that are exactly one-hot and right."""
    n = sum(sides)
    y, z = rng.integers(0, classes, n), rng.normal(size=(n, classes))
    z[np.arange(n), y] += 2
    p = softmax(z, axis=1)
    sure = rng.random(n) < certain
    p[sure] = np.eye(classes)[y[sure]]
    return Predictions(p, y, np.arange(n) < sides[0])


def null_groups(rng: np.random.Generator, groups: int, most: int, classes: int) -> Predictions:
    """Outputs that do not depend on membership, of groups of 1 to `most` records: a group's records have most labels in
    common, and a shift of their log odds. Half of the groups are members."""
    group = np.repeat(np.arange(groups), rng.integers(1, most + 1, groups))
    n = len(group)
    y = np.where(rng.random(n) < 0.9, rng.integers(0, classes, groups)[group], rng.integers(0, classes, n))
    z = rng.normal(size=(n, classes))
    z[np.arange(n), y] += 1 + 1.5 * rng.normal(size=groups)[group]
    member = (rng.permutation(groups) < groups // 2)[group]
    return Predictions(softmax(z, axis=1), y, member, group=group)


def delong(members: np.ndarray, nonmembers: np.ndarray, alpha: float) -> dict[str, float]:
    """The previous interval of this package: DeLong's variance, the normal quantile, on the logit scale."""
    V10, V01 = placements(members, nonmembers)
    A, variance = V10.mean(), V10.var(ddof=1) / len(V10) + V01.var(ddof=1) / len(V01)
    if variance <= 1e-15 or not 0 < A < 1:
        return {"value": A, "low": 0.0, "high": 1.0}
    half = stats.norm.isf(alpha / 2) * np.sqrt(variance) / (A * (1 - A))
    return {"value": A, "low": float(expit(logit(A) - half)), "high": float(expit(logit(A) + half))}


def leaks(target: Predictions, scores: np.ndarray, said: np.ndarray, alpha: float, interval: Callable) -> bool:
    """Whether the accuracy, or the AUC of a class, lies above chance at `alpha` for both together."""
    units = target.units
    member = units.member
    enough = measure.class_counts(units)[1]
    looks = 1 + bool(len(enough))
    if interval(said[member].astype(float), said[~member].astype(float), alpha / looks)["low"] > 0.5:
        return True
    for c in enough:
        inside, outside = (scores[(units.y == c) & of] for of in (member, ~member))
        if interval(inside, outside, alpha / looks / len(enough))["low"] > 0.5:
            return True
    return False


def chosen_attack(rng: np.random.Generator, target: Predictions) -> tuple[dict[str, Attacked], Chosen]:
    """The attacks on the target, and the one that cross-fitting chooses."""
    parts, attacked = folds(target, None, rng), {}
    for name in ATTACKS:
        attacked |= threshold_attacks(name, target, parts, 0)
    return attacked, choose(attacked, scored_rows(parts))


def audit(rng: np.random.Generator, target: Predictions) -> list[bool]:
    """False leaks of one audit: chosen on other records or on the same, by our interval or by DeLong's."""
    (attacked, chosen), member = chosen_attack(rng, target), target.member
    rules = [(of.scores, said) for of in attacked.values() for said in (of.said, of.said_per_class)]
    best = max(rules, key=lambda rule: balanced_accuracy(rule[1][member], rule[1][~member]))
    return [
        leaks(target, *of, ALPHA, interval)
        for of in ((chosen.scores, chosen.said), best)
        for interval in (auc_interval, delong)
    ]


def mark(errors: int, draws: int, cells: int, alpha: float = ALPHA) -> str:
    """The share in percent, with a star where it is above alpha by more than the sampling error."""
    star = "*" if stats.binom.sf(errors - 1, draws, alpha) < LEVEL / cells and errors else " "
    return f"{100 * errors / draws:5.1f}{star}"


def grid(audits: int, seed: int) -> None:
    """The table of verdicts."""
    cells = len(SIDES) * len(CLASSES) * len(SHARES)
    print(f"\nVerdicts: false leaks in percent of {audits} audits, alpha {100 * ALPHA:g}%; * above alpha\n")
    print("| members | others | classes | tied | chosen before | on the same | before, DeLong | same, DeLong |")
    print("| ---: | ---: | ---: | :--- | ---: | ---: | ---: | ---: |")
    for number, (sides, classes, tied) in enumerate(itertools.product(SIDES, CLASSES, SHARES)):
        rng = np.random.default_rng([seed, number])
        drawn = (null_predictions(rng, sides, classes, SHARES[tied]) for _ in range(audits))
        errors = np.sum([audit(rng, target) for target in drawn], axis=0)
        shown = " | ".join(mark(int(e), audits, cells) for e in errors)
        print(f"| {sides[0]:,} | {sides[1]:,} | {classes} | {tied} | {shown} |", flush=True)


def grouped(audits: int, seed: int) -> None:
    """The table of verdicts where records come in groups: records counted as if they were independent, and groups."""
    print(f"\nRecords of groups: false leaks in percent of {audits} audits, alpha {100 * ALPHA:g}%; * above alpha\n")
    print("| groups | records of each | classes | by record | by group |\n| ---: | :--- | ---: | ---: | ---: |")
    cells = list(itertools.product(GROUPS, (2, 10)))
    for number, ((groups, most), classes) in enumerate(cells):
        rng, errors = np.random.default_rng([seed, 5, number]), np.zeros(2, int)
        for _ in range(audits):
            target = null_groups(rng, groups, most, classes)
            for unit, of in enumerate((dataclasses.replace(target, group=None), target)):
                chosen = chosen_attack(rng, of)[1]
                errors[unit] += leaks(of, chosen.scores, chosen.said, ALPHA, auc_interval)
        shown = " | ".join(mark(int(e), audits, 2 * len(cells)) for e in errors)
        print(f"| {groups} | 1 to {most} | {classes} | {shown} |", flush=True)


def tail(draws: int, seed: int) -> None:
    """The tail of one interval at the alpha of 30 classes and three kinds of evidence, which the verdict depends on."""
    alpha = ALPHA / 3 / 30
    print(f"\nOne interval above chance, in percent of {draws:,} draws; meant is {100 * alpha / 2:.3f}%\n")
    print("| members | others | scores | ours | DeLong |\n| ---: | ---: | :--- | ---: | ---: |")
    cells = [(100, m, f"{tied} tied", tied) for m in (10, 30) for tied in SHARES]
    for number, (n, m, kind, tied) in enumerate([*cells, (1000, 100, "three values, one rare", None)]):
        rng, errors = np.random.default_rng([seed, 1, number]), np.zeros(2, int)
        for _ in range(draws):
            x, y = (tied_scores(rng, N, tied) for N in (n, m))
            if placements(x, y)[0].mean() > 0.5:
                errors += [interval(x, y, alpha)["low"] > 0.5 for interval in (auc_interval, delong)]
        shown = " | ".join(mark_rare(int(e), draws, alpha / 2) for e in errors)
        print(f"| {n:,} | {m} | {kind} | {shown} |", flush=True)


def tied_scores(rng: np.random.Generator, n: int, tied: str | None) -> np.ndarray:
    """Normal scores of which a share tie at the top; None: three values, of 2%, 90% and 8% of the records."""
    if tied is None:
        return rng.choice([0.0, 1.0, 2.0], n, p=[0.02, 0.9, 0.08])
    return np.minimum(rng.normal(size=n), stats.norm.isf(SHARES[tied]) if SHARES[tied] else np.inf)


def mark_rare(errors: int, draws: int, alpha: float) -> str:
    star = "*" if errors and stats.binom.sf(errors - 1, draws, alpha) < LEVEL / 7 else " "
    return f"{100 * errors / draws:.3f}{star}"


def decisions() -> None:
    """The exact largest probability, over all rates, that decisions at chance count as better than chance."""
    print("\nDecisions at chance: largest error probability over all rates, in units of the nominal one (exact)\n")
    print("| members | others | alpha | ours | DeLong |\n| ---: | ---: | ---: | ---: | ---: |")
    for (n, m), alpha in itertools.product(((100, 10), (40, 40), (10, 60)), (0.05, 0.05 / 90)):
        found = []
        for interval in (balanced_accuracy_interval, lambda x, y, a: delong(x * 1.0, y * 1.0, a)):
            above = np.array(
                [
                    [interval(np.arange(n) < i, np.arange(m) < j, alpha)["low"] > 0.5 for j in range(m + 1)]
                    for i in range(n + 1)
                ]
            )
            rates = np.linspace(0.005, 0.995, 199)
            size = max(
                stats.binom.pmf(np.arange(n + 1), n, p) @ above @ stats.binom.pmf(np.arange(m + 1), m, p) for p in rates
            )
            found.append(size / (alpha / 2))
        print(f"| {n} | {m} | {alpha:.2g} | {found[0]:.2f} | {found[1]:.1f} |", flush=True)


def bounds(draws: int, seed: int) -> None:
    """Bounds on epsilon above the true one, for mechanisms that leak as much as their epsilon, or curve, allows."""
    delta = 1e-3
    print(f"\nBounds on epsilon above the truth, in percent of {draws} draws, alpha {100 * ALPHA:g}%\n")
    print("| members | others | true | delta 0 | delta 0.001 | Gaussian |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, ((n, m), epsilon) in enumerate(itertools.product(((200, 200), (200, 40), (100, 1000)), (0.0, 1.0))):
        rng, errors = np.random.default_rng([seed, 2, number]), np.zeros(3, int)
        for _ in range(draws):
            inside = rng.binomial(n + m, n / (n + m))  # each record independently
            sides = inside, n + m - inside
            pure = randomised_response(rng, sides, epsilon, 0.0)
            approximate = randomised_response(rng, sides, epsilon, delta)
            normal = rng.normal(epsilon, 1, sides[0]), rng.normal(0, 1, sides[1])
            errors += [
                epsilon_lower_bound(*pure, ALPHA) > epsilon,
                epsilon_lower_bound(*approximate, ALPHA, delta) > epsilon,
                gaussian_lower_bound(*normal, ALPHA, delta) > gaussian_epsilon(epsilon, delta),
            ]
        print(f"| {n} | {m} | {epsilon:g} | " + " | ".join(mark(int(e), draws, 18) for e in errors) + " |", flush=True)
    print("\n| models of either kind | true | above the truth |\n| ---: | ---: | ---: |")
    for number, (models, epsilon) in enumerate(itertools.product((8, 32, 128), (0.0, 2.0))):
        rng, p = np.random.default_rng([seed, 3, number]), expit(epsilon)
        counts = rng.binomial(models, [p, 1 - p], (draws, 2))
        errors = sum(epsilon_of_runs(hit, models, false, models, ALPHA) > epsilon for hit, false in counts.tolist())
        print(f"| {models} | {epsilon:g} | {mark(errors, draws, 6)} |", flush=True)


def randomised_response(
    rng: np.random.Generator, sides: tuple[int, int], epsilon: float, delta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of members and non-members: the likelihood ratio is e^epsilon, and with probability delta the membership
    is revealed."""
    truth = expit(epsilon)
    members, others = rng.random(sides[0]) < truth, rng.random(sides[1]) >= truth
    scores = members * 1.0, others * 1.0
    given = [rng.random(side) < delta for side in sides]
    scores[0][given[0]], scores[1][given[1]] = 2.0, -1.0
    return tuple(of + 0.5 * rng.random(len(of)) for of in scores)


def more_exposed(draws: int, seed: int) -> None:
    """The rate of intervals that miss the share of records with an effect, with errors that a pair's records share."""
    print(f"\nmore_exposed: intervals that miss the share, in percent of {draws} draws, alpha {100 * ALPHA:g}%\n")
    print("| pairs | records | true share | pairs have in common | missed |\n| ---: | ---: | ---: | :--- | ---: |")
    kinds = ("nothing", "one pair off by 3", "each off by N(0, 1)")
    for number, (P, share, kind) in enumerate(itertools.product((4, 8), (0.0, 0.3), kinds)):
        rng, n, errors = np.random.default_rng([seed, 4, number]), 500, 0
        truth = np.where(np.arange(n) < share * n, 2.0, -2.0 if share else 0.0)
        for _ in range(draws):
            shift = {"nothing": np.zeros(P), "one pair off by 3": 3.0 * (np.arange(P) == 0)}
            shift |= {"each off by N(0, 1)": rng.normal(size=P)}
            found = positive_share(truth + shift[kind][:, None] + rng.normal(size=(P, n)), ALPHA)
            errors += not found["low"] <= share <= found["high"]
        print(f"| {P} | {n} | {share} | {kind} | {mark(errors, draws, 12)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=100, help="of each cell of the grid")
    parser.add_argument("--draws", type=int, default=500, help="of each row of the other tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="only these; default: all")
    options = parser.parse_args()
    began = time.perf_counter()
    print(f"seed {options.seed}; attacks: {', '.join(ATTACKS)} of {', '.join(SCORES)}")
    tables = {
        "grid": lambda: grid(options.audits, options.seed),
        "groups": lambda: grouped(options.audits, options.seed),
        "tail": lambda: tail(20 * options.draws, options.seed),
        "decisions": decisions,
        "bounds": lambda: bounds(options.draws, options.seed),
        "more_exposed": lambda: more_exposed(options.draws, options.seed),
    }
    for name in options.tables or tables:
        tables[name]()
    print(f"\n{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
