r"""RAPID (He et al. 2024, arXiv 2409.00426): a score and its calibrated value together, weighed by a network.

A score minus its mean over models without the record (`difficulty.py`) mistakes non-members that these models happen
to judge badly for members. A network is given both,

    $h(s(x),\; s(x) - \frac1{|OUT|} \sum_{k \in OUT} s_k(x)),$

and learns from shadow models, whose members are known, what the pair says of membership. We differ in this: s is the
log odds $\phi$ of the label, not the loss, which is 0 in floating point for certain predictions; the network has two
hidden layers of 32 (theirs 512, 256 and 128, with dropout); it learns from all shadow models, each compared with the
others, and not from one; a record is seen once, and not in 8 augmentations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nanoprune.attack.network import balanced
from nanoprune.attack.shadow.difficulty import calibrated
from nanoprune.attack.shadow.fit import fit, small_network
from nanoprune.nn import Network, log_loss
from nanoprune.records import Records, predict

HIDDEN, BATCH, STEPS, RATE = (32, 32), 256, 600, 3e-3
MOST = 20_000  # pairs of a model and a record that the network learns from


@dataclass(frozen=True, eq=False)
class Rapid:
    """h, and what its two inputs are standardised by: mean, std (2,)."""

    h: Network
    mean: np.ndarray
    std: np.ndarray

    def scores(self, pairs: np.ndarray) -> np.ndarray:
        """Logits of membership (n,), float64, of pairs (n, 2)."""
        records = self.records(pairs, np.zeros(len(pairs)))
        return predict(self.h, records, np.arange(len(pairs))[None])[0, :, 0].astype(np.float64)

    def records(self, pairs: np.ndarray, member: np.ndarray) -> Records:
        """Standardised pairs (n, 2), with member (n,) as the labels."""
        return Records(((pairs - self.mean) / self.std).astype(np.float32), member.astype(np.float32))


def fit_rapid(pairs: np.ndarray, member: np.ndarray, seed: int = 0) -> Rapid:
    """Learn from pairs (n, 2), as of `both_scores`, and member (n,) bool; at most MOST of them, drawn at random."""
    drawn = np.random.default_rng([seed, 1]).permutation(len(pairs))[:MOST]
    pairs, member = pairs[drawn], member[drawn]
    of = Rapid(small_network(2, HIDDEN, [[seed, 2]]), pairs.mean(axis=0), np.maximum(pairs.std(axis=0), 1e-9))
    records, rows = of.records(pairs, member), balanced(np.arange(len(member)), member)[None]  # (1, M)

    def loss(z: Any, index: Any) -> tuple[Any, Any]:
        return log_loss(z, records.y[index][:, None])

    fit(of.h, records, loss, rows, seed, BATCH, STEPS, RATE)
    return of


def both_scores(target: np.ndarray, scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """s(x) and the calibrated s(x), (n, 2): target (n,), scores and inside (K, n)."""
    return np.stack([target, calibrated(target, scores, inside)], axis=1)
