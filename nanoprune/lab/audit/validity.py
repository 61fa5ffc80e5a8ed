"""Checks of what can invalidate an audit; the report lists them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from nanoprune.lab.audit.prediction_attacks import Attacked
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.audit.shadows import Pool, outputs
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.models.model import Model
from nanoprune.lab.statistics import label_shift
from nanoprune.lab.statistics.units import Units
from nanoprune.lab.zoo.keep_ratios import layer_ratios
from nanoprune.nn import Network
from nanoprune.prune import Budget
from nanoprune.records import EVALUATION_BATCH

CHANCE = 0.5
RARE = 1e-3  # the p-value below which chance is ruled out
FEW_COPIES = 0.01  # share of a side's records that may be copies of others without making its intervals false
NAMED = 10  # records or classes named in a message


@dataclass(frozen=True)
class Check:
    """One check: its name, "passed", "warning" or "void" (the audit then shows nothing), and what was found."""

    name: str
    outcome: str
    found: str


def validity_checks(target: Predictions, shadow: Predictions | None, attacked: dict[str, Attacked]) -> list[Check]:
    """Every check that can be made of predictions and of the attacks on them."""
    return [
        duplicates(target),
        labels(target),
        *group_sizes(target),
        unseen_classes(target),
        fitting(shadow),
        logits(target, shadow),
        accuracy_gap(target),
        guessing(target),
        one_answer(attacked),
    ]


def model_checks(
    model: Model, dataset: Dataset, pool: Pool, target: Predictions, attacked: dict[str, Attacked]
) -> list[Check]:
    """Every check that can be made of a model, its data, its training steps and the attacks on it."""
    return [
        same_records(dataset, pool),
        labels(target),
        *group_sizes(target),
        unseen_classes(target),
        accuracy_gap(target),
        guessing(target),
        one_answer(attacked),
        sparsity(model),
        adversary(model),
        test_mode(model.net, dataset, pool.scored),
    ]


def comparison_checks(experiment: Experiment, trained: dict[str, Trained]) -> list[Check]:
    """Every check that can be made of a comparison over seeds: its splits, its networks, its adversaries."""
    data, splits = experiment.dataset, experiment.splits
    twice = 0
    shifts = []
    for r, split in enumerate(splits):
        inside, outside = (_record_keys(data, part) for part in (split.members, split.nonmembers))
        twice += int(np.isin(inside, outside).sum())
        shifts.append(_shift(experiment.units(r, "members", "nonmembers")))
    p = min(1.0, min(shifts) * len(shifts))
    found = f"p = {p:.4f} for equal label distributions of members and non-members (the least of all seeds, adjusted)"
    checks = [
        Check(
            "duplicates",
            "warning" if twice else "passed",
            f"{twice} members of all seeds together have a twin of equal features and label among the non-members",
        ),
        Check("labels", "warning" if p < RARE else "passed", found),
    ]
    for method, of in trained.items():
        mode = test_mode(of.net, data, splits[0].members)
        checks += [*_method_checks(method, of), Check(mode.name, mode.outcome, f"{method}: {mode.found}")]
    return checks


def privacy_checks(methods: dict[str, dict[str, Any]]) -> list[Check]:
    """For each method with DP-SGD, from its entry of results.json: does an attack exclude the epsilon that is claimed?

    Both are of the same delta. The bound is None where membership was not drawn at random. One that counts groups
    says how well all records of a group together are hidden: the claim, which is for one record, does not say that.
    """
    checks = []
    for method, entry in methods.items():
        if privacy := entry.get("privacy"):
            bound, claimed = privacy["lower_bound"], privacy["epsilon"]
            claim = "no" if claimed is None else f"{claimed:.3f}"
            if bound is None:
                found = f"{method}: no bound, membership was not drawn at random; {claim} is claimed"
                checks.append(Check("epsilon", "passed", found))
                continue
            if privacy.get("lower_bound_of") == "groups":
                found = (
                    f"{method}: for groups the attacks exclude an epsilon below {bound:.3f}; {claim} is claimed, for "
                )
                checks.append(Check("epsilon", "passed", f"{found}single records: the two are not compared"))
                continue
            found = f"{method}: the attacks exclude an epsilon below {bound:.3f}; {claim} is claimed"
            checks.append(Check("epsilon", "void" if claimed is not None and bound > claimed else "passed", found))
    return checks


def _method_checks(method: str, trained: Trained) -> list[Check]:
    """For a pruned method the weights that are left, for one with the game the state of its adversary."""
    checks, step, curves = [], trained.steps[0][-1], trained.curves
    if step.get("keep") is not None:
        asked, left = _most(trained.net, step), int(trained.net.nonzero().max())
        found = f"{method}: at most {left:,} weights are not zero, {asked:,} were asked for"
        checks.append(Check("sparsity", "passed" if left <= asked else "void", found))
    if step["minmax"] > 0:
        loss, right = (float(curves[f"adversary_{name}"][:, -1].mean()) for name in ("loss", "accuracy"))
        found = (
            f"{method}: {int(curves['adversary_updates'].min()):,} updates a network; in the last epoch its loss was "
            f"{loss:.3f} (chance 0.693), its accuracy {right:.3f}"
        )
        checks.append(Check("adversary", "warning" if right <= CHANCE else "passed", found))
    return checks


def duplicates(target: Predictions) -> Check:
    """The same record twice: found by the SHA-256 of its prediction and label.

    A row with a probability of exactly 1 tells nothing, unless the logits are known: many records can have it. Where a
    model's outputs are coarse (rounded, or of a few trees) different records look alike, on both sides as on one; that
    is a warning. Copies of records on one side are not independent, so that every interval is too narrow; but where
    groups are counted, those within a group do no harm.
    """
    given = target.p if target.logits is None else target.logits
    telling = np.flatnonzero((target.p.max(axis=1) < 1) | (target.logits is not None))
    keys = _keys(given[telling], target.y[telling])
    keys, telling = _once(keys, telling, target.group)
    member = target.member[telling]
    sides = (keys[member], keys[~member])
    across, within = int(np.isin(*sides).sum()), sum(len(side) - len(np.unique(side)) for side in sides)
    if across:
        copies = 2 * within < across
        equal = (
            "equal predictions and labels" if copies else "or outputs so coarse that different records look the same"
        )
        return _twice(keys, member, telling, "void" if copies else "warning", equal)
    many = any(len(side) - len(np.unique(side)) > FEW_COPIES * len(side) for side in sides)
    return _copies(keys, member, telling, "void" if many else "warning", "equal predictions and labels")


def same_records(dataset: Dataset, pool: Pool) -> Check:
    """The same record twice: found by the SHA-256 of its features and label.

    Real data has some. One that is a member and a non-member is a member, whatever it is called, and attacks can only
    look weaker by it; copies on one side are not independent.
    """
    keys, rows = _once(_record_keys(dataset, pool.scored), np.arange(len(pool.scored)), pool.group)
    scored, member = pool.scored[rows], pool.member[rows]
    check = _twice(keys, member, scored, "warning", "equal features and labels")
    sides = (keys[member], keys[~member])
    many = any(len(side) - len(np.unique(side)) > FEW_COPIES * len(side) for side in sides)
    if check.outcome != "passed" or not many:
        return check
    return _copies(keys, member, scored, "warning", "equal features and labels")


def sparsity(model: Model) -> Check:
    """The number of weights that are not zero against the budget."""
    steps = [step for step in model.steps if step.get("keep") is not None]
    if not steps:
        return Check("sparsity", "passed", "not pruned")
    asked = _most(model.net, steps[-1])
    left = int(model.net.nonzero()[0])
    found = f"{left:,} of {model.net.weight_count:,} weights are not zero, at most {asked:,} were asked for"
    return Check("sparsity", "passed" if left <= asked else "void", found)


def _most(net: Network, step: dict[str, Any]) -> int:
    """The largest number of weights that a pruning step allows a network."""
    ratios = layer_ratios(net, step["keep"], step["scope"], step.get("exempt", ()))
    return sum(Budget(net, ratios, step["scope"], step.get("scheme", "unstructured")).max_nonzero())


def adversary(model: Model) -> Check:
    """The adversary of the Min-Max game: if it never beat chance, the game may have defended nothing."""
    played = [step for step in model.steps if step["minmax"] > 0]
    if not played:
        return Check("adversary", "passed", "no Min-Max game was played")
    games = [step["adversary"] for step in played if "adversary" in step]
    if len(games) < len(played):
        return Check("adversary", "warning", "the model file does not record the game's adversary")
    updates, (loss, right) = sum(game["updates"] for game in games), (games[-1]["loss"], games[-1]["accuracy"])
    found = f"{updates:,} updates; in the last epoch its loss was {loss:.3f} (chance 0.693), its accuracy {right:.3f}"
    if right <= CHANCE:
        return Check(
            "adversary", "warning", f"{found}: it does not beat chance, and the game may have defended nothing"
        )
    return Check("adversary", "passed", found)


def test_mode(net: Network, dataset: Dataset, index: np.ndarray) -> Check:
    """Inference must not be random, nor depend on the other records of a batch, as it does in training mode."""
    some = index[:64]
    forward, backward = (outputs(net, dataset, rows, 1) for rows in (some, some[::-1]))  # (R, 64, classes)
    off = float(np.abs(forward - backward[:, ::-1]).max())
    found = f"the same records in another order give the same predictions (largest difference {off:.1g})"
    return Check("test mode", "passed" if off <= 1e-3 * max(1, float(np.abs(forward).max())) else "void", found)


def labels(target: Predictions) -> Check:
    """Members and non-members should have the same distribution of labels; of a group the most frequent one counts."""
    p = _shift(target.units)
    found = f"p = {p:.4f} for equal label distributions of members and non-members"
    if p >= RARE:
        return Check("labels", "passed", found)
    return Check("labels", "warning", f"{found}: they differ, which makes any attack look stronger than it is")


def group_sizes(target: Predictions) -> list[Check]:
    """Where there are groups: the largest of many scores is larger than that of few, so that groups of members and of
    non-members should be of the same sizes."""
    units = target.units
    if not units.grouped:
        return []
    sizes, kind = np.unique(units.sizes, return_inverse=True)
    p = label_shift(kind[units.member], kind[~units.member], len(sizes))
    means = [units.sizes[side].mean() for side in (units.member, ~units.member)]
    found = f"p = {p:.4f} for equal sizes of the groups (members {means[0]:.2f} records, non-members {means[1]:.2f})"
    if p >= RARE:
        return [Check("group sizes", "passed", found)]
    return [Check("group sizes", "warning", f"{found}: they differ, which makes attacks look stronger than they are")]


def _shift(units: Units) -> float:
    """The p-value of equal label distributions of members and non-members."""
    return label_shift(units.y[units.member], units.y[~units.member], units.classes)


def unseen_classes(target: Predictions) -> Check:
    """A class without records was not audited."""
    unseen = np.setdiff1d(np.arange(target.classes), target.y)
    if not len(unseen):
        return Check("classes", "passed", f"all {target.classes} classes have records")
    return Check("classes", "warning", f"{len(unseen)} of {target.classes} classes have no record: {_some(unseen)}")


def fitting(shadow: Predictions | None) -> Check:
    """Where the attacks' thresholds come from."""
    if shadow is not None:
        n, m = int(shadow.member.sum()), int((~shadow.member).sum())
        return Check("fitting", "passed", f"attacks fitted on a shadow model's {n:,} members and {m:,} non-members")
    return Check(
        "fitting",
        "passed",
        "no shadow predictions: two-fold cross-fitting, each half of the records scored by attacks that are fitted on "
        "the other (the attacker is assumed to know the membership of half of the records)",
    )


def logits(target: Predictions, shadow: Predictions | None) -> Check:
    """Probabilities that are called logits go through softmax a second time, which makes them nearly equal."""
    doubtful = [f"{of}_logits" for of, P in (("target", target), ("shadow", shadow)) if P is not None and P.doubtful]
    if not doubtful:
        return Check("logits", "passed", "no logits that look like probabilities")
    names = " and ".join(doubtful)
    found = f"no value of {names} is negative and every row sums to 1: call probabilities ..._probs"
    return Check("logits", "warning", found)


def accuracy_gap(target: Predictions) -> Check:
    """If a model does significantly worse on its members than on the others, the sides were probably swapped.

    Fisher's exact test: the probability that as few or fewer of all correct predictions fall to the members by chance.
    A group counts as correct where at least half of it is.
    """
    right, units = target.p.argmax(axis=1) == target.y, target.units
    train, test = right[target.member].mean(), right[~target.member].mean()
    found = f"train accuracy {100 * train:.1f}%, test accuracy {100 * test:.1f}%"
    right = _by_unit(units, right)
    if stats.hypergeom.cdf(right[units.member].sum(), len(right), right.sum(), units.member.sum()) < RARE:
        return Check("accuracy", "warning", f"{found}: members do worse; is the member column the wrong way round?")
    return Check("accuracy", "passed", found)


def guessing(target: Predictions) -> Check:
    """If a model is no better on its members than always predicting their most frequent class, it has learned nothing,
    or its predictions and the labels are not of the same records. A binomial test; groups as in `accuracy_gap`."""
    units, usual = target.units, np.bincount(target.y[target.member]).argmax()
    correct = (target.p.argmax(axis=1) == target.y, target.y == usual)
    right, most = (int(_by_unit(units, of)[units.member].sum()) for of in correct)
    n, of_members = int(units.member.sum()), "groups of members" if units.grouped else "members"
    found = f"{100 * right / n:.1f}% of the {of_members} right, {100 * most / n:.1f}% by always predicting one class"
    if stats.binom.sf(right - 1, n, most / n) < RARE or right == n:
        return Check("guessing", "passed", found)
    return Check("guessing", "warning", f"{found}: it has learned nothing, or the labels are in another order")


def one_answer(attacked: dict[str, Attacked]) -> Check:
    """An attack network with the same decision for every record has learned nothing, and shows nothing of the model."""
    networks = {name: of for name, of in attacked.items() if name.startswith("network")}
    idle = [name for name, of in networks.items() if all(len(np.unique(of.said[rows])) < 2 for rows in of.parts)]
    if not idle:
        found = "it takes some records for members and others not" if networks else "it was left out"
        return Check("attack network", "passed", found)
    found = f"{' and '.join(idle)}: the same decision for every record; nothing follows from its accuracy"
    return Check("attack network", "warning", found)


def shadow_accuracy(target: Predictions, train: np.ndarray, test: np.ndarray) -> Check:
    """Shadows that are trained as the target was are as accurate: train and test (K,), one entry per shadow.

    The target's accuracy is compared with the 1 - RARE prediction interval of one more shadow (Student's), and one
    record more.
    """
    right, K = target.p.argmax(axis=1) == target.y, len(train)
    found, off = [], False
    for name, of, side in (("train", train, target.member), ("test", test, ~target.member)):
        own, half = right[side].mean(), stats.t.ppf(1 - RARE / 2, K - 1) * of.std(ddof=1) * np.sqrt(1 + 1 / K)
        off |= bool(abs(own - of.mean()) > half + 1.001 / side.sum())  # 1: up to rounding
        found.append(f"{name} accuracy {100 * of.mean():.1f}%, the target's {100 * own:.1f}%")
    text = f"{K} shadow models: {'; '.join(found)}"
    if off:
        return Check("shadows", "warning", f"{text}: they are unlike the target, which makes attacks look weaker")
    return Check("shadows", "passed", text)


def _by_unit(units: Units, right: np.ndarray) -> np.ndarray:
    """Which units are correct where right (n,) bool says which records are; (U,) bool."""
    return units.mean(right) >= 0.5


def _once(keys: np.ndarray, rows: np.ndarray, group: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The keys (n,) of the records `rows`, and these, each key once in a group; all where there are no groups."""
    if group is None:
        return keys, rows
    _, of = np.unique(keys, return_inverse=True)
    _, first = np.unique(np.stack([of.reshape(-1), group[rows]]), axis=1, return_index=True)
    first = np.sort(first)
    return keys[first], rows[first]


def _keys(rows: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SHA-256 of each row (n, ...) with its label (n,), as (n,) bytes."""
    digests = (hashlib.sha256(row.tobytes() + int(c).to_bytes(8, "little")) for row, c in zip(rows, y, strict=True))
    return np.array([digest.hexdigest() for digest in digests], dtype="S64")


def _record_keys(dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """The keys of the records `index` (n,), gathered some at a time: they may lie in a file too large for memory."""
    parts = (index[i : i + EVALUATION_BATCH] for i in range(0, len(index), EVALUATION_BATCH))
    return np.concatenate([_keys(dataset.x[part], dataset.y[part]) for part in parts])


def _twice(keys: np.ndarray, member: np.ndarray, names: np.ndarray, outcome: str, equal: str) -> Check:
    """Which of the records are both members and non-members, by their keys (n,)."""
    common = np.intersect1d(keys[member], keys[~member])
    if not len(common):
        return Check("duplicates", "passed", "no record is both a member and a non-member")
    found = names[np.isin(keys, common)]
    return Check(
        "duplicates",
        outcome,
        f"{len(found)} records are there as members and as non-members ({equal}): rows {_some(found)}; leave them out",
    )


def _copies(keys: np.ndarray, member: np.ndarray, names: np.ndarray, outcome: str, equal: str) -> Check:
    """Which of the records are copies of one before them on their side, by their keys (n,)."""
    sided = np.char.add(keys, np.where(member, b"m", b"n"))
    _, first = np.unique(sided, return_index=True)
    later = np.setdiff1d(np.arange(len(keys)), first)
    if not len(later):
        return Check("duplicates", "passed", "no record is there twice")
    found = (
        f"{len(later)} records are copies of others on their side ({equal}): rows {_some(names[later])}; copies are "
        "not independent records and make every interval too narrow, leave them out"
    )
    return Check("duplicates", outcome, found)


def _some(numbers: np.ndarray) -> str:
    more = len(numbers) - NAMED
    return ", ".join(map(str, numbers[:NAMED])) + (f" and {more} more" if more > 0 else "")
