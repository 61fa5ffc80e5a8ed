"""The attacks that compare a target with shadow models, record by record.

Each is a function of one model's outputs and of other models' outputs for the same records. Its threshold is fitted on
the shadows: each is attacked in turn, by comparison with the others except its own twin (the shadow that trained on the
other half, and so would give its membership away), and the best threshold for their known members is applied to the
target. The accuracies on the shadows also rank the attacks (`nanoprune/lab/audit/attack_choice.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.special import softmax

from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow.difficulty import calibrated
from nanoprune.attack.shadow.lira import lira_offline, lira_online, margin
from nanoprune.attack.shadow.rmia import A_GRID, prior_offline, prior_online, rmia
from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.audit.prediction_attacks import Attacked
from nanoprune.lab.statistics.units import units_of

BOTH = "lira_dense_and_pruned"  # of an attacker who has both networks
Attack = Callable[[int, np.ndarray], np.ndarray]  # (model, the models to compare it with) -> scores (n,)


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Outputs of K shadows and, as row K, of the target: inside (K, n) bool; by stage, the last one the target's own,
    logits (K + 1, n, classes); population (K + 1, m, classes) of that stage; paths (K + 1, n) or None; y (n,) and
    population_y (m,); group (n,), of records of which all or none are inside, or None."""

    inside: np.ndarray
    logits: dict[str, np.ndarray]
    population: np.ndarray
    paths: np.ndarray | None
    y: np.ndarray
    population_y: np.ndarray
    group: np.ndarray | None = None


def shadow_attacks(views: Views) -> dict[str, Attack]:
    """The attacks by name: LiRA, RMIA, difficulty calibration; and of pruned networks those that pruning invites."""
    stages = list(views.logits)
    own = views.logits[stages[-1]]
    phi, inside = margin(own, views.y), views.inside  # (K + 1, n), (K, n)
    p = softmax(own.astype(np.float64), axis=2)
    p_y = np.take_along_axis(p, np.broadcast_to(views.y, p.shape[:2])[..., None], axis=2)[..., 0]  # (K + 1, n)
    losses = -np.logaddexp(0, -phi)  # log p_y from the log odds: it does not round to 0
    attacks: dict[str, Attack] = {
        "lira_online": lambda k, of: lira_online(phi[k], phi[of], inside[of], "fixed"),
        "lira_online_record": lambda k, of: lira_online(phi[k], phi[of], inside[of], "record"),
        "lira_offline": lambda k, of: lira_offline(phi[k], phi[of], inside[of], "fixed"),
        "lira_offline_record": lambda k, of: lira_offline(phi[k], phi[of], inside[of], "record"),
        "difficulty": lambda k, of: calibrated(losses[k], losses[of], inside[of]),
    }
    if len(views.population_y):
        attacks |= _rmia_attacks(views, p_y)
    if len(stages) > 1:  # the attacker has the dense network too
        both = np.stack([margin(logits, views.y) for logits in views.logits.values()], axis=-1)  # (K + 1, n, 2)
        attacks[BOTH] = lambda k, of: lira_online(both[k], both[of], inside[of], "fixed")
    if views.paths is not None:
        paths = views.paths
        attacks["mask_alone"] = lambda k, of: lira_online(paths[k], paths[of], inside[of], "fixed")
    return attacks


def _rmia_attacks(views: Views, p_y: np.ndarray) -> dict[str, Attack]:
    """RMIA online and offline. No shadow was trained on a population record, so its p(z) is the offline one in both.

    a is the value of the best AUC over the shadows, for each attack.
    """
    inside = views.inside
    z = softmax(views.population.astype(np.float64), axis=2)[:, np.arange(len(views.population_y)), views.population_y]
    nobody = np.zeros((len(inside), z.shape[1]), bool)

    def attack(k: int, of: np.ndarray, a: float, online: bool) -> np.ndarray:
        prior = prior_online(p_y[of], inside[of]) if online else prior_offline(p_y[of], inside[of], a)
        return rmia(p_y[k], prior, z[k], prior_offline(z[of], nobody[of], a))

    def best(online: bool) -> Attack:
        def quality(a: float) -> float:
            scores = [attack(k, others(k, len(inside)), a, online) for k in range(len(inside))]
            return float(np.mean([auc(s[row], s[~row]) for s, row in zip(scores, inside, strict=True)]))

        a = max(A_GRID, key=quality)
        return lambda k, of: attack(k, of, a, online)

    return {"rmia_online": best(True), "rmia_offline": best(False)}


def others(k: int, shadows: int) -> np.ndarray:
    """The shadows to compare shadow k with: all but k and its twin, the one with the other half; (K - 2,)."""
    return np.array([j for j in range(shadows) if j // 2 != k // 2])


def attack_target(attack: Attack, views: Views, aggregation: str = "") -> Attacked:
    """Scores of the target's units, aggregated so, and decisions by the thresholds that are best over all
    shadows."""
    K, classes = len(views.inside), next(iter(views.logits.values())).shape[2]
    units = units_of(views.y, np.zeros(len(views.y), bool), classes, views.group)
    inside = views.inside[:, units.first].ravel()  # (K U,)
    own = np.concatenate([units.combine(attack(k, others(k, K)), aggregation) for k in range(K)])  # (K U,)
    labels, scores = np.tile(units.y, K), units.combine(attack(K, np.arange(K)), aggregation)
    rules = [Thresholds.fit(own, labels, inside, classes, per_class) for per_class in (False, True)]
    said = [rule.predict(scores, units.y) for rule in rules]
    accuracies = [rule.accuracy(own, labels, inside) for rule in rules]
    return Attacked(scores, *said, [np.arange(len(scores))], np.array([accuracies]))
