"""How well scores separate members from non-members. Ties are counted exactly; nothing is interpolated."""

import numpy as np
from scipy.stats import rankdata

from nanoprune.errors import ArgumentError


def balanced_accuracy(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """(TPR + TNR) / 2 of decisions: members (n,) and nonmembers (m,) are True where the attack decides "member"."""
    _check(members, nonmembers)
    return float((np.mean(members) + np.mean(~nonmembers)) / 2)


def auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """P(member's score > non-member's) + 1/2 P(equal), over all pairs (Mann & Whitney 1947): scores (n,) and (m,)."""
    _check(members, nonmembers)
    n, m = len(members), len(nonmembers)
    ranks = rankdata(np.concatenate([members, nonmembers]))  # equal scores share their mean rank
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def roc(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR of "score >= t" for every distinct threshold t, from (0, 0) to (1, 1).

    Records of equal score have one decision: k distinct scores give k + 1 points.
    """
    _check(members, nonmembers)
    thresholds = np.unique(np.concatenate([members, nonmembers]))[::-1]
    fpr, tpr = (
        np.concatenate([[0.0], (len(scores) - np.searchsorted(np.sort(scores), thresholds)) / len(scores)])
        for scores in (nonmembers, members)
    )
    return fpr, tpr


def tpr_at_fpr(members: np.ndarray, nonmembers: np.ndarray, fpr: float) -> float | None:
    """The largest TPR of a threshold whose FPR is at most `fpr`; None with fewer than 1 / fpr non-members."""
    if not 0.0 < fpr <= 1.0:
        raise ArgumentError(f"fpr must lie in (0, 1], got {fpr}")
    if len(nonmembers) < needed_nonmembers(fpr):
        return None
    false, true = roc(members, nonmembers)
    return float(true[false <= fpr].max())


def needed_nonmembers(fpr: float) -> int:
    """The fewest non-members of which a share `fpr` is at least one record: ceil(1 / fpr)."""
    return int(np.ceil(round(1 / fpr, 9)))


def _check(members: np.ndarray, nonmembers: np.ndarray) -> None:
    if len(members) == 0 or len(nonmembers) == 0:
        raise ArgumentError(f"scores must be of members and non-members, got {len(members)} and {len(nonmembers)}")
