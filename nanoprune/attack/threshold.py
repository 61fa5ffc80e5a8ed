"""Decisions by threshold: one for all records, or one for each class."""

from typing import Self

import numpy as np

from nanoprune.attack.metrics import balanced_accuracy


class Thresholds:
    """Predicts "member" where score >= t[label]; t (classes,)."""

    def __init__(self, t: np.ndarray) -> None:
        self.t = t

    @classmethod
    def fit(cls, scores: np.ndarray, labels: np.ndarray, member: np.ndarray, classes: int, per_class: bool) -> Self:
        """The thresholds of best balanced accuracy on the attacker's records: scores, labels (n,), member (n,) bool.

        With `per_class`, each class of which the attacker has members and non-members gets its own threshold (Song &
        Mittal 2021, section 3.2); the others use the common one.
        """
        t = np.full(classes, best_threshold(scores[member], scores[~member]))
        for c in range(classes) if per_class else ():
            of_class = labels == c
            if (of_class & member).any() and (of_class & ~member).any():
                t[c] = best_threshold(scores[of_class & member], scores[of_class & ~member])
        return cls(t)

    def predict(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which records are predicted to be members, (n,) bool."""
        return scores >= self.t[labels]

    def accuracy(self, scores: np.ndarray, labels: np.ndarray, member: np.ndarray) -> float:
        """Balanced accuracy of the decisions on these records."""
        predicted = self.predict(scores, labels)
        return balanced_accuracy(predicted[member], predicted[~member])


def best_threshold(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """The t that maximises TPR(t) - FPR(t) of "score >= t", hence (TPR + TNR) / 2; the largest such t on a tie.

    Candidates are every distinct score, and infinity, where no record is a member.
    """
    candidates = np.concatenate([np.unique(np.concatenate([members, nonmembers])), [np.inf]])[::-1]
    true, false = (len(s) - np.searchsorted(np.sort(s), candidates) for s in (members, nonmembers))
    gain = true * len(nonmembers) - false * len(members)  # (TPR - FPR) n m in integers, so that ties are exact
    return float(candidates[np.argmax(gain)])
