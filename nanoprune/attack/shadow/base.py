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


def log_sum(log_p: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """log of the sum of p_y (n,) over the models that are chosen: log_p, chosen (K, n); -inf of none. Those of two
    groups of models are added by `numpy.logaddexp`."""
    return logsumexp(np.where(chosen, log_p, -np.inf), axis=0)


def base_score(target: np.ndarray, log_mean: np.ndarray, a: float = 1.0) -> np.ndarray:
    """Scores (n,) from log p_y of the target (n,) and the log of the mean p_y (n,): over all shadow models online,
    over a record's OUT models offline. a = 0: the target's log p_y."""
    return target - a * log_mean
