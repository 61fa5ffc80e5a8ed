r"""BASE (Lassila, Östman & Ngo 2025, arXiv 2505.24089): the log-likelihood of a record less that under shadow models.

The Bayes-optimal test (Sablayrolles et al. 2019, arXiv 1908.11229) compares the loss with a log-sum-exp of losses:

    online    $\log p_y - \log \frac1K \sum_k p_y^{(k)}$               over all K shadow models
    offline   $\log p_y - a \log \frac1{|OUT|} \sum_{k \in OUT} p_y^{(k)}$

The online score is the logarithm of RMIA's ratio r(x), whose comparison with population records keeps the order of the
scores: BASE and RMIA are equivalent (their abstract), but for ties. Offline, `a` makes up for the lack of IN
models. We take the softmax at temperature 1, and `a` is chosen on the shadow models (`nanoprune/lab/audit`).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def base_online(target: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """Scores (n,) from log p_y of the target (n,) and of K shadow models (K, n), whichever records these saw."""
    return target - (logsumexp(log_p, axis=0) - np.log(len(log_p)))


def base_offline(target: np.ndarray, log_p: np.ndarray, inside: np.ndarray, a: float = 1.0) -> np.ndarray:
    """Scores (n,) from the OUT models alone: target (n,), log_p and inside (K, n). a = 0: the target's log p_y."""
    mean = logsumexp(np.where(inside, -np.inf, log_p), axis=0) - np.log((~inside).sum(axis=0))  # log mean p_y, (n,)
    return target - a * mean
