"""Logarithms of probabilities, from logits."""

from typing import Any

from nanoprune.backend import xp


def log_softmax(logits: Any) -> Any:
    r"""$\log p_c = z_c - \max z - \log \sum_k \exp(z_k - \max z)$ over axis 1 of (R, classes, N), always finite."""
    z = logits - logits.max(axis=1, keepdims=True)  # (R, classes, N)
    return z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
