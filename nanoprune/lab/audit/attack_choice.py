"""The strongest attack, chosen on the attacker's records and measured on the others.

Where the records are cross-fitted each half is attacked by what was chosen on the other, so that the two halves may be
attacked differently. Their scores are then comparable only within a half: each is replaced by its rank in its half.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import rankdata

from nanoprune.lab.audit.prediction_attacks import Attacked, Fold
from nanoprune.lab.experiment.validation import FOLDS

Rule = tuple[str, bool]  # the name of an attack, and whether it has one threshold per class


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen:
    """rules: the one that was chosen for each fold; scores, said (n,): of each unit by the rule of its fold.

    comparable: index arrays of the units whose scores come from one rule that was fitted alike. refitted (Q, n): what
    is said where a quarter of the attacker's units is left out; `said` itself where that is not known.
    """

    rules: list[Rule]
    candidates: int
    scores: np.ndarray
    said: np.ndarray
    comparable: list[np.ndarray]
    refitted: np.ndarray

    @property
    def main(self) -> Rule:
        """The rule of most records; of the first fold where they are as many."""
        return max(self.rules, key=self.rules.count)


def choose(attacked: dict[str, Attacked], scored: list[np.ndarray]) -> Chosen:
    """The attack that is best on the attacker's records of each fold; scored: the units that each fold scores.

    Of equal attacks the first of `attacked` is taken, and one threshold before one per class.
    """
    candidates = [(name, of) for name, of in attacked.items() if of.own is not None]
    rules = [(name, per_class) for name, of in candidates for per_class in (False, True) if _exists(of, per_class)]
    chosen = [max(rules, key=lambda rule: attacked[rule[0]].own[i, int(rule[1])]) for i in range(len(scored))]
    n = sum(map(len, scored))
    scores, said, refitted = np.empty(n), np.empty(n, bool), np.empty((FOLDS, n), bool)
    fitted_apart = len({name for name, _ in chosen}) > 1 or len(attacked[chosen[0][0]].parts) > 1
    ranked = len(scored) > 1 and fitted_apart
    for (name, per_class), rows in zip(chosen, scored, strict=True):
        of = attacked[name]
        scores[rows] = rankdata(of.scores[rows]) / (len(rows) + 1) if ranked else of.scores[rows]
        said[rows] = (of.said_per_class if per_class else of.said)[rows]
        refitted[:, rows] = said[rows] if of.refitted is None else of.refitted[int(per_class)][:, rows]
    return Chosen(chosen, len(rules), scores, said, list(scored) if ranked else [np.arange(n)], refitted)


def scored_rows(parts: list[Fold]) -> list[np.ndarray]:
    """The units that each fold scores."""
    return [fold.scored for fold in parts]


def _exists(of: Attacked, per_class: bool) -> bool:
    return not per_class or of.said_per_class is not None
