r"""Quantile regression (Bertran et al. 2023, arXiv 2307.03694): a threshold for each record, from known non-members.

How high a model scores a record that it did not see depends on the record. Of the scores s of known non-members x the
conditional quantile $q_\tau(x)$ of level tau is learned by the pinball loss (Koenker & Bassett 1978),

    $\rho_\tau(s, q) = (s - q)(\tau - [s < q]), \quad \partial \rho_\tau / \partial q = [s < q] - \tau,$

whose mean is least at the quantile, and a record scores $s(x) - q_\tau(x)$: above 0 it is a member, at a
false-positive rate of 1 - tau for each kind of record, not only on average. It needs no shadow models. Deviations from
the paper: one level, and a small network of the label and the features (theirs: many levels, deep networks of x);
s is the log odds of the label (theirs: its logit less the largest other one); networks for several models are replicas
of one fleet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.attack.shadow.fit import fit, small_network
from nanoprune.backend import to_device, xp
from nanoprune.nn import Network
from nanoprune.records import Records

LEVEL = 0.9
HIDDEN, BATCH, STEPS, RATE = (32,), 64, 400, 3e-3


def pinball(q: Any, s: Any, level: float) -> tuple[Any, Any]:
    """Mean pinball loss (R,) of quantiles q for scores s, both (R, 1, N), and its gradient dL/dq (R, 1, N)."""
    below = (s < q).astype(q.dtype)
    return ((s - q) * (level - below)).sum(axis=(1, 2)) / q.shape[-1], (below - level) / q.shape[-1]


def fit_quantiles(
    records: Records, inputs: int, scores: np.ndarray, level: float = LEVEL, steps: int | None = None, seed: int = 0
) -> Network:
    """The quantiles of R models' scores (R, m) of the first m records, as functions of their F = `inputs` features.

    steps: of Adam, STEPS by default. Returns R replicas of a network with outputs (R, 1, N). Scores and features are
    best of mean 0 and variance 1.
    """
    s = to_device(scores.astype(np.float32))  # (R, m)
    net, models = small_network(inputs, HIDDEN, [[seed, 3]] * len(scores)), xp.arange(len(scores))[:, None]  # (R, 1)

    def loss(q: Any, index: Any) -> tuple[Any, Any]:
        return pinball(q, s[models, index][:, None], level)

    rows = np.tile(np.arange(scores.shape[1]), (len(scores), 1))  # (R, m)
    fit(net, records, loss, rows, seed, BATCH, steps or STEPS, RATE)
    return net
