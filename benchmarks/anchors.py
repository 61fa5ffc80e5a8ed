"""Orders that others published, on real data: python benchmarks/anchors.py [digits|location30] [--shadows 16]

Carlini et al. 2022 (arXiv 2112.03570): with few shadow models LiRA's pooled ("fixed") variance is better than one for
each record (their figure 8), and at a false-positive rate of 0.1% LiRA finds an order of magnitude more members than
one threshold on the loss for all records. Here K + 2 dense models are trained by the data set's own recipe, each on
half of the records. Each is a target in turn, compared with the K that are neither itself nor its twin; the scores of
all targets are pooled, so that there are enough non-members for 0.1%. Prints AUC and TPR at a false-positive rate of 1%
and 0.1%, and "holds" or "does not hold" beside each order. Exit status 1 where one does not hold. The digits are a test
as well, `tests/test_anchors.py`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping

import numpy as np

from nanoprune.attack.metrics import auc, tpr_at_fpr
from nanoprune.attack.shadow.lira import margin
from nanoprune.lab.audit.shadow_attacks import shadow_attacks
from nanoprune.lab.audit.shadows import make_pool, train_shadows
from nanoprune.lab.audit.views import Views, others
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.workflow.single_model import train_model

MEMBERS = {"digits": 400, "location30": 1000}
ATTACKS = ("lira_online", "lira_online_record", "lira_offline")
LOSS = "one threshold on the loss"
RATES = (0.01, 0.001)
Figures = Mapping[str, dict[str, float]]


def anchors(dataset: Dataset, members: int, shadows: int = 16, seed: int = 0, threads: int = 1) -> Figures:
    """{attack: {"auc", "0.01", "0.001"}} of ATTACKS and LOSS, pooled over shadows + 2 targets."""
    recipe = recipe_for(dataset, members=members, reference=0, nonmembers=members, minmax=0.0)
    brief = dataclasses.replace(recipe, dense=dataclasses.replace(recipe.dense, epochs=1))
    model = train_model(dataset, brief, seed, threads)  # says how shadow models are made; itself it is not attacked
    model = dataclasses.replace(model, steps=[recipe.train_step(0.0)])
    K = shadows + 2
    found = train_shadows(model, dataset, K, threads, Progress())
    pool, logits = make_pool(model, dataset), found.logits["train"]
    none = np.empty((K + 1, 0, dataset.classes)), None, dataset.y[pool.scored], np.empty(0, np.int64)
    views = Views(found.inside, {"train": np.concatenate([logits, logits[:1]])}, *none)  # the last row is not used
    scores = {name: [of(k, others(k, K)) for k in range(K)] for name, of in shadow_attacks(views, ATTACKS).items()}
    scores[LOSS] = list(margin(logits, dataset.y[pool.scored]))  # of the order of the loss
    member = found.inside.ravel()
    return {name: figures(np.concatenate(of), member) for name, of in scores.items()}


def figures(scores: np.ndarray, member: np.ndarray) -> dict[str, float]:
    """AUC, and TPR at RATES."""
    inside, outside = scores[member], scores[~member]
    return {"auc": auc(inside, outside)} | {f"{rate:g}": tpr_at_fpr(inside, outside, rate) for rate in RATES}


def orders(found: Figures) -> dict[str, bool]:
    """The published orders, and whether they hold."""
    fixed, record, loss = (found[name] for name in ("lira_online", "lira_online_record", LOSS))
    return {
        "LiRA with a pooled variance has a larger AUC than with one for each record": fixed["auc"] > record["auc"],
        "... and a larger TPR at 0.1% FPR": fixed["0.001"] > record["0.001"],
        "LiRA finds more than one threshold on the loss at 0.1% FPR": fixed["0.001"] > loss["0.001"],
        "... at least ten times as many": fixed["0.001"] >= 10 * loss["0.001"],
    }


def main() -> None:
    """Print the figures and the orders."""
    words = sys.argv[1:]
    name = words[0] if words and not words[0].startswith("-") else "digits"
    shadows = int(words[words.index("--shadows") + 1]) if "--shadows" in words else 16
    found = anchors(load(name), MEMBERS[name], shadows)
    for attack, of in found.items():
        print(f"{attack:28} AUC {of['auc']:.3f}  TPR at 1% {100 * of['0.01']:6.2f}%  at 0.1% {100 * of['0.001']:6.2f}%")
    held = orders(found)
    for order, holds in held.items():
        print(f"{'holds' if holds else 'does not hold'}: {order}")
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
