r"""SAMIA (Yuan & Zhang 2022, USENIX Security, arXiv 2202.03335), made for pruned networks: outputs and sensitivity.

Pruning changes the confidences of members differently from those of non-members, and so their sensitivity to the input.
A network gets, for each class c of a record (x, y),

    $h(\log p_c(x), \; \log s_c(x), \; [c = y]), \quad s_c(x) = \sum_j |p_c(x + \epsilon u_j) - p_c(x)| / (m \epsilon)$

with m = 10 normal $u_j$ and $\epsilon = 10^{-3}$ (their code), and learns from shadow models, whose members are known,
pruned as the target was. The classes are not sorted. Deviations from the paper: a dense network, not self-attention
over the classes (that is `nanoprune/lab/audit/samia_attention.py`); Adam, not SGD; logarithms, since confidences near 0
and 1 differ by orders of magnitude; noise in units of each feature's standard deviation, so that the columns of a table
are treated alike.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from nanoprune.attack.shadow.fit import MemberNetwork, fit_member_network, small_network

COPIES, EPSILON = 10, 1e-3  # m, epsilon
HIDDEN, BATCH, STEPS, RATE = (64, 32), 256, 600, 1e-3
MOST = 20_000  # pairs of a model and a record that the network learns from
TINY = 1e-12  # stands in for sensitivities of 0 under the logarithm


def samia_features(logits: np.ndarray, sensitivity: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p, log s and the one-hot label, (..., n, 3 classes): logits and s (..., n, classes), labels y (n,)."""
    log_p = log_softmax(logits.astype(np.float64), axis=-1)
    label = np.broadcast_to(np.arange(logits.shape[-1]) == y[:, None], logits.shape)
    return np.concatenate([log_p, np.log(sensitivity.astype(np.float64) + TINY), label], axis=-1)


def fit_samia(features: np.ndarray, member: np.ndarray, seed: int = 0) -> MemberNetwork:
    """Learn from features (n, 3 classes) and member (n,) bool; at most MOST of them, drawn at random."""
    h = small_network(features.shape[1], HIDDEN, [[seed, 2]])
    return fit_member_network(features, member, h, BATCH, STEPS, RATE, MOST, seed)
