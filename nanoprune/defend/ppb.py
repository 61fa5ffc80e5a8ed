"""Pair-based posterior balancing, PPB (Yuan & Zhang 2022, arXiv 2202.03335, section 6).

A defence in the training of a pruned network: it makes the sorted outputs similar for all members, of all classes.
"""

from typing import Any

from nanoprune.backend import xp
from nanoprune.defend.log_softmax import log_softmax
from nanoprune.nn.loss import cross_entropy


def ppb(logits: Any, y: Any, count: int, strength: float) -> tuple[Any, Any]:
    r"""$L = CE(z, y) + \tfrac{\lambda}{m} \sum_{i \le m} KL(q_i \| p_i)$ over the m = n / 2 pairs of a batch.

    p and q are the outputs of the two records of a pair, each sorted by size: $p = softmax(sort(z_i))$ and
    $q = softmax(sort(z_{i + m}))$. With $r = \log q - \log p$ the gradients are

        $dKL/dz_p = p - q, \quad dKL/dz_q = q (r - \sum_c q_c r_c)$

    in sorted order; sorting only permutes them. logits (R, classes, N), y (R, N); count: n, the records of the whole
    batch, of which `logits` may be one worker's shard: then its own records are paired. An odd record has no partner.
    Returns L (R,), the cross-entropy included, and dL/dlogits (R, classes, N).
    """
    loss, dlogits = cross_entropy(logits, y, count)  # (R,), (R, classes, N)
    half, m = logits.shape[-1] // 2, max(count // 2, 1)
    z = logits[..., : 2 * half]
    order = xp.argsort(-z, axis=1, kind="stable")  # (R, classes, 2 half)
    z = xp.take_along_axis(z, order, axis=1)
    log_p, log_q = (log_softmax(of) for of in (z[..., :half], z[..., half:]))  # (R, classes, half)
    p, q, r = xp.exp(log_p), xp.exp(log_q), log_q - log_p
    divergence = (q * r).sum(axis=1, keepdims=True)  # (R, 1, half)
    d = xp.concatenate([p - q, q * (r - divergence)], axis=-1)  # (R, classes, 2 half)
    dlogits[..., : 2 * half] += strength / m * xp.take_along_axis(d, xp.argsort(order, axis=1, kind="stable"), axis=1)
    return loss + strength / m * divergence.sum(axis=(1, 2)), dlogits
