r"""RAPID (He et al. 2024, arXiv 2409.00426): a score and its calibrated value together, weighed by a network.

A score minus its mean over models without the record (`difficulty.py`) takes non-members on which these models happen
to have a large loss for members. A network gets both,

    $h(s(x),\; s(x) - \frac1{|OUT|} \sum_{k \in OUT} s_k(x)),$

and learns to predict membership on shadow models, whose members are known. Deviations from the paper: s is the
log odds $\phi$ of the label, not the loss, which is 0 in floating point for certain predictions; the network has two
hidden layers of 32 (theirs 512, 256 and 128, with dropout); it learns from all shadow models, each compared with the
others, and not from one; there is one query per record, not 8 augmentations.
"""

from __future__ import annotations

import numpy as np

from nanoprune.attack.shadow.difficulty import calibrated
from nanoprune.attack.shadow.fit import MemberNetwork, fit_member_network, small_network

HIDDEN, BATCH, STEPS, RATE = (32, 32), 256, 600, 3e-3
MOST = 20_000  # pairs of a model and a record that the network learns from


def fit_rapid(pairs: np.ndarray, member: np.ndarray, seed: int = 0) -> MemberNetwork:
    """Learn from pairs (n, 2), as of `both_scores`, and member (n,) bool; at most MOST of them, drawn at random."""
    h = small_network(pairs.shape[1], HIDDEN, [[seed, 2]])
    return fit_member_network(pairs, member, h, BATCH, STEPS, RATE, MOST, seed)


def both_scores(target: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """s(x) and the calibrated s(x), (n, 2), from s(x) of the target and its mean over OUT models, (n,) each."""
    return np.stack([target, calibrated(target, mean)], axis=1)
